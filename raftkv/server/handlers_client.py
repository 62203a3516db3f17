"""CLIENT: look at, name and close the connections of this node."""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.errors import CommandError
from raftkv.resp.values import Verbatim
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_strings import integer_argument
from raftkv.types import NoList

_NAME_ERROR = "ERR Client names cannot contain spaces, newlines or special characters."
_INFO_ERROR = "ERR {} cannot contain spaces, newlines or special characters."
_UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK"
_UNBLOCK_WORDS = (
    "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP."
)
_TYPES = (b"normal", b"master", b"replica", b"slave", b"pubsub")

HELP = """CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
GETNAME
    Return the name of the current connection.
ID
    Return the ID of the current connection.
INFO
    Return information about the current client connection.
KILL <ip:port>
    Kill connection made from <ip:port>.
KILL <option> <value> [<option> <value> [...]]
    Kill connections. Options are: ADDR, LADDR, ID, TYPE, USER, SKIPME.
LIST [TYPE <type> | ID <id> [<id> ...]]
    Return information about client connections.
NO-EVICT (ON|OFF)
    Accepted for compatibility: connections are never evicted.
NO-TOUCH (ON|OFF)
    Accepted for compatibility: reads leave no trace at a key.
SETINFO (LIB-NAME|LIB-VER) <value>
    Name the library that uses the current connection.
SETNAME <name>
    Assign the name <name> to the current connection.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    Unblock the specified blocked client.
HELP
    Print this help."""


def _is_plain(text: bytes) -> bool:
    return all(0x21 <= byte <= 0x7E for byte in text)


def check_client_name(name: bytes) -> None:
    """Raise Redis' error unless the name is printable ASCII without spaces."""
    if not _is_plain(name):
        raise CommandError(_NAME_ERROR)


def describe(connection: ClientConnection) -> bytes:
    """Return the line of CLIENT LIST for one connection."""
    seconds = connection.service.seconds
    word = connection.last_word.lower()
    queue = connection.queue
    flags = (
        (b"P" if connection.is_subscribed else b"")
        + (b"r" if connection.readonly else b"")
        + (b"x" if queue is not None else b"")
        + (b"b" if connection.blocked is not None else b"")
    )
    fields = {
        b"id": b"%d" % connection.number,
        b"addr": connection.client_address.encode(),
        b"laddr": connection.local_address.encode(),
        b"name": connection.name,
        b"age": b"%d" % (seconds - connection.opened_second),
        b"idle": b"%d" % (seconds - connection.active_second),
        b"flags": flags or b"N",
        b"db": b"0",
        b"sub": b"%d" % len(connection.channels),
        b"psub": b"%d" % len(connection.patterns),
        b"ssub": b"%d" % len(connection.shard_channels),
        b"multi": b"%d" % (-1 if queue is None else len(queue)),
        b"multi-mem": b"%d" % connection.queued_bytes,
        b"cmd": word if word in connection.service.table.by_word else b"NULL",
        b"user": b"default",
        b"resp": b"%d" % connection.protocol,
        b"lib-name": connection.library_name,
        b"lib-ver": connection.library_version,
    }
    return b" ".join(b"%b=%b" % field for field in fields.items()) + b"\n"


def _parse_number(word: bytes, error: str) -> int:
    if not word.isdigit() or int(word) == 0:
        raise CommandError(error)
    return int(word)


def _check_type(word: bytes) -> bytes:
    if word.lower() not in _TYPES:
        raise CommandError(f"ERR Unknown client type '{word.decode('utf-8', 'surrogateescape')}'")
    return word.lower()


def _of_type(connections: Iterable[ClientConnection], word: bytes) -> list[ClientConnection]:
    """Return those of a type of CLIENT LIST: subscribers, or the others; none is of a third."""
    kind = _check_type(word)
    if kind not in (b"normal", b"pubsub"):
        return []
    subscribed = kind == b"pubsub"
    return [other for other in connections if other.is_subscribed == subscribed]


def handle_id(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT ID"""
    return connection.number


def handle_getname(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT GETNAME"""
    return connection.name or None


def handle_setname(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT SETNAME name"""
    check_client_name(arguments[2])
    connection.name = arguments[2]
    return "OK"


def handle_setinfo(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT SETINFO LIB-NAME name | LIB-VER version"""
    attribute = arguments[2].lower()
    shown = attribute.decode("utf-8", "surrogateescape")
    if attribute not in (b"lib-name", b"lib-ver"):
        raise CommandError(f"ERR Unrecognized option '{shown}'")
    if not _is_plain(arguments[3]):
        raise CommandError(_INFO_ERROR.format(shown))
    if attribute == b"lib-name":
        connection.library_name = arguments[3]
    else:
        connection.library_version = arguments[3]
    return "OK"


def handle_info(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT INFO"""
    return Verbatim(describe(connection))


def handle_list(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT LIST [TYPE type | ID id [id ...]]"""
    connections: Iterable[ClientConnection] = connection.service.connections.values()
    if len(arguments) > 2:
        option = arguments[2].lower()
        if option == b"type" and len(arguments) == 4:
            connections = _of_type(connections, arguments[3])
        elif option == b"id" and len(arguments) > 3:
            numbers = [_parse_number(word, "ERR Invalid client ID") for word in arguments[3:]]
            known = connection.service.connections
            connections = [known[number] for number in numbers if number in known]
        else:
            raise CommandError("ERR syntax error")
    return Verbatim(b"".join(map(describe, connections)))


def handle_idle_switch(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT NO-EVICT | NO-TOUCH ON | OFF; what either would keep from happening never does."""
    if arguments[2].lower() not in (b"on", b"off"):
        raise CommandError("ERR syntax error")
    return "OK"


def handle_unblock(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT UNBLOCK client-id [TIMEOUT | ERROR]"""
    if len(arguments) > 4:
        raise CommandError(_UNBLOCK_WORDS)
    reason = arguments[3].lower() if len(arguments) == 4 else b"timeout"
    if reason not in (b"timeout", b"error"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    service = connection.service
    other = service.connections.get(integer_argument(arguments[2]))
    if other is None or other.blocked is None:
        return 0
    result = NoList() if reason == b"timeout" else CommandError(_UNBLOCKED)
    service.blocked.end(other.blocked, result)
    service.flush_soon()
    return 1


def handle_kill(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT KILL address | option value [option value ...]"""
    connections = list(connection.service.connections.values())
    if len(arguments) == 3:
        address = arguments[2].decode("utf-8", "surrogateescape")
        for other in connections:
            if other.client_address == address:
                _kill(other, connection)
                return "OK"
        raise CommandError("ERR No such client")
    if len(arguments) % 2:
        raise CommandError("ERR syntax error")
    skips_caller = True
    for position in range(2, len(arguments), 2):
        option, value = arguments[position].lower(), arguments[position + 1]
        text = value.decode("utf-8", "surrogateescape")
        if option == b"id":
            number = _parse_number(value, "ERR client-id should be greater than 0")
            connections = [other for other in connections if other.number == number]
        elif option == b"addr":
            connections = [other for other in connections if other.client_address == text]
        elif option == b"laddr":
            connections = [other for other in connections if other.local_address == text]
        elif option == b"type":
            connections = _of_type(connections, value)
        elif option == b"user":
            if value != b"default":
                raise CommandError(f"ERR No such user '{text}'")
        elif option == b"skipme" and value.lower() in (b"yes", b"no"):
            skips_caller = value.lower() == b"yes"
        else:
            raise CommandError("ERR syntax error")
    killed = [other for other in connections if other is not connection or not skips_caller]
    for other in killed:
        _kill(other, connection)
    return len(killed)


def _kill(other: ClientConnection, caller: ClientConnection) -> None:
    if other is caller:
        caller.quit()  # It still gets its reply.
    else:
        other.abort()


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLIENT HELP"""
    return HELP.split("\n")


HANDLERS = {
    "client|id": handle_id,
    "client|getname": handle_getname,
    "client|setname": handle_setname,
    "client|setinfo": handle_setinfo,
    "client|info": handle_info,
    "client|list": handle_list,
    "client|kill": handle_kill,
    "client|unblock": handle_unblock,
    "client|no-evict": handle_idle_switch,
    "client|no-touch": handle_idle_switch,
    "client|help": handle_help,
}

"""Commands about the connection itself: HELLO, AUTH, PING, ECHO, SELECT, RESET, QUIT.

A handler takes the stream and the words of the request, changes the
connection's own state at most, and returns the reply. There are no users and
passwords in this version: the one user is Redis' `default`, without password.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_client import check_client_name
from raftkv.types import Index

# What clients take for the version of the server. It is that of the Redis whose
# commands, replies and error texts are reproduced.
REDIS_VERSION = "7.0.15"

_WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."
_NO_PASSWORD = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)


def parse_integer(word: bytes) -> int:
    """Return a whole number, or raise Redis' error for what is none."""
    try:
        if not word or word[:1] not in b"-0123456789" or b"_" in word:
            raise ValueError
        return int(word)
    except ValueError:
        raise CommandError("ERR value is not an integer or out of range") from None


def handle_ping(connection: ClientConnection, arguments: list[bytes]) -> object:
    """PING [message]"""
    if len(arguments) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    if connection.is_restricted:
        return [b"pong", *(arguments[1:] or [b""])]
    return arguments[1] if len(arguments) == 2 else "PONG"


def handle_echo(connection: ClientConnection, arguments: list[bytes]) -> object:
    """ECHO message"""
    return arguments[1]


def handle_quit(connection: ClientConnection, arguments: list[bytes]) -> object:
    """QUIT"""
    connection.quit()
    return "OK"


def handle_reset(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RESET"""
    config = connection.service.config
    connection.unsubscribe_all()
    connection.discard()
    connection.protocol = 2
    connection.name = b""
    connection.readonly = False
    connection.proxied = config.writes.on_follower == "proxy"
    connection.set_read_level(config.reads.level, config.reads.staleness_ms_max)
    connection.floor_index = Index(0)
    return "RESET"


def check_database(index: bytes) -> None:
    """Raise Redis' error unless the index is that of the one database."""
    if parse_integer(index) != 0:
        raise CommandError("ERR SELECT is not allowed in cluster mode")


def handle_select(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SELECT index"""
    check_database(arguments[1])
    return "OK"


def _authenticate(user: bytes, password: bytes) -> None:
    if user != b"default":
        raise CommandError(_WRONG_PASSWORD)


def handle_auth(connection: ClientConnection, arguments: list[bytes]) -> object:
    """AUTH [username] password"""
    if len(arguments) > 3:
        raise CommandError("ERR syntax error")
    if len(arguments) == 2:
        raise CommandError(_NO_PASSWORD)
    _authenticate(arguments[1], arguments[2])
    return "OK"


def handle_hello(connection: ClientConnection, arguments: list[bytes]) -> object:
    """HELLO [protover [AUTH username password] [SETNAME clientname]]"""
    protocol = connection.protocol
    name = None
    if len(arguments) > 1:
        try:
            protocol = parse_integer(arguments[1])
        except CommandError:
            raise CommandError("ERR Protocol version is not an integer or out of range") from None
        if protocol not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
    position = 2
    while position < len(arguments):
        option = arguments[position].upper()
        rest = len(arguments) - position - 1
        if option == b"AUTH" and rest >= 2:
            _authenticate(arguments[position + 1], arguments[position + 2])
            position += 3
        elif option == b"SETNAME" and rest >= 1:
            name = arguments[position + 1]
            check_client_name(name)
            position += 2
        else:
            shown = arguments[position].decode("utf-8", "surrogateescape")
            raise CommandError(f"ERR Syntax error in HELLO option '{shown}'")
    if name is not None:
        connection.name = name
    connection.protocol = protocol
    connection.choose_words()
    leads = connection.service.replica.is_leader
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": protocol,
        b"id": connection.number,
        b"mode": b"cluster",
        b"role": b"master" if leads else b"replica",
        b"modules": [],
    }


HANDLERS = {
    "ping": handle_ping,
    "echo": handle_echo,
    "quit": handle_quit,
    "reset": handle_reset,
    "select": handle_select,
    "auth": handle_auth,
    "hello": handle_hello,
}

"""COMMAND: the command table, in the forms that clients ask for.

Cluster-aware clients learn from it where the keys of a command are; redis-cli
shows hints from COMMAND DOCS. The shapes are those of Redis 7.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.kv.patterns import compile_pattern
from raftkv.resp.values import NULL_ARRAY
from raftkv.server.command_table import CommandSpec
from raftkv.server.connection import ClientConnection

HELP = """COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
(no subcommand)
    Return details about all commands.
COUNT
    Return the total number of commands in this server.
LIST [FILTERBY (MODULE <name>|ACLCAT <category>|PATTERN <pattern>)]
    Return a list of all commands in this server.
INFO [<command-name> ...]
    Return details about multiple commands, or about all.
DOCS [<command-name> ...]
    Return documentation details about multiple commands, or about all.
GETKEYS <full-command>
    Return the keys from a full command.
HELP
    Print this help."""

_GROUP_CATEGORIES = {
    "string": "@string",
    "hash": "@hash",
    "list": "@list",
    "set": "@set",
    "sorted-set": "@sortedset",
    "bitmap": "@bitmap",
    "scripting": "@scripting",
}
_KEYSPACE_GROUPS = ("generic", "server")
_DANGEROUS = frozenset(("keys", "flushall", "flushdb", "info"))


def categories(spec: CommandSpec) -> list[str]:
    """Return the categories of Redis' access control, for clients that look at them."""
    names = []
    is_data = spec.key_flags or {"write", "readonly"} & set(spec.flags)
    if spec.group in _GROUP_CATEGORIES:
        names.append(_GROUP_CATEGORIES[spec.group])
    elif is_data and spec.group in _KEYSPACE_GROUPS:
        names.append("@keyspace")
    elif spec.group == "connection" or spec.name.startswith("command"):
        names.append("@connection")
    for flag, category in (("write", "@write"), ("readonly", "@read"), ("admin", "@admin")):
        if flag in spec.flags:
            names.append(category)
    names.append("@fast" if "fast" in spec.flags else "@slow")
    if "admin" in spec.flags or spec.name in _DANGEROUS:
        names.append("@dangerous")
    return names


def _key_specs(spec: CommandSpec) -> list[object]:
    specs: list[object] = []
    if spec.first_key:
        last = spec.last_key if spec.last_key < 0 else spec.last_key - spec.first_key
        found: dict[bytes, object] = {b"lastkey": last, b"keystep": spec.key_step, b"limit": 0}
        specs.append(_key_spec(spec.key_flags, spec.first_key, b"range", found))
    if spec.key_count_at:
        # The keys behind the one that is stored to are only read.
        flags = ("RO", "access") if specs else spec.key_flags
        counted: dict[bytes, object] = {b"keynumidx": 0, b"firstkey": 1, b"keystep": 1}
        specs.append(_key_spec(flags, spec.key_count_at, b"keynum", counted))
    return specs


def _key_spec(
    flags: tuple[str, ...], first: int, kind: bytes, found: dict[bytes, object]
) -> dict[bytes, object]:
    return {
        b"flags": frozenset(flags),
        b"begin_search": {b"type": b"index", b"spec": {b"index": first}},
        b"find_keys": {b"type": kind, b"spec": found},
    }


def describe(spec: CommandSpec) -> list[object]:
    """Return the ten fields of COMMAND INFO."""
    return [
        spec.name.encode(),
        spec.arity,
        frozenset(spec.flags),
        spec.first_key,
        spec.last_key,
        spec.key_step,
        frozenset(categories(spec)),
        [],
        _key_specs(spec),
        [describe(subcommand) for subcommand in spec.subcommands.values()],
    ]


def document(spec: CommandSpec) -> dict[bytes, object]:
    """Return the map of COMMAND DOCS for one command."""
    documentation: dict[bytes, object] = {
        b"summary": spec.summary.encode(),
        b"since": spec.since.encode(),
        b"group": spec.group.encode(),
        b"complexity": spec.complexity.encode(),
    }
    if spec.subcommands:
        documentation[b"subcommands"] = {
            subcommand.name.encode(): document(subcommand)
            for subcommand in spec.subcommands.values()
        }
    return documentation


def _find(connection: ClientConnection, name: bytes) -> CommandSpec | None:
    words = name.split(b"|")
    if len(words) > 2:
        return None
    spec = connection.service.table.find(words)
    return spec if spec is None or len(words) == 1 or "|" in spec.name else None


def handle_command(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND"""
    return [describe(spec) for spec in connection.service.table.top]


def handle_count(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND COUNT"""
    return len(connection.service.table.top)


def handle_info(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND INFO [name ...]"""
    if len(arguments) == 2:
        return handle_command(connection, arguments)
    specs = [_find(connection, name) for name in arguments[2:]]
    return [NULL_ARRAY if spec is None else describe(spec) for spec in specs]


def handle_docs(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND DOCS [name ...]"""
    specs = (
        [_find(connection, name) for name in arguments[2:]]
        if len(arguments) > 2
        else connection.service.table.top
    )
    return {spec.name.encode(): document(spec) for spec in specs if spec is not None}


def handle_getkeys(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND GETKEYS command [argument ...]"""
    words = arguments[2:]
    spec = connection.service.table.find(words)
    if spec is None or (spec.subcommands and len(words) > 1):
        raise CommandError("ERR Invalid command specified")
    if not spec.first_key and not spec.key_count_at:
        raise CommandError("ERR The command has no key arguments")
    if not spec.low <= len(words) <= spec.high:
        raise CommandError("ERR Invalid number of arguments specified for command")
    return spec.keys(words)


def handle_list(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]"""
    specs = connection.service.table.top
    if len(arguments) == 2:
        return [spec.name.encode() for spec in specs]
    if len(arguments) != 5 or arguments[2].lower() != b"filterby":
        raise CommandError("ERR syntax error")
    kind, value = arguments[3].lower(), arguments[4]
    if kind == b"pattern":
        matches = compile_pattern(value)
        return [spec.name.encode() for spec in specs if matches(spec.name.encode())]
    if kind == b"aclcat":
        category = "@" + value.decode("utf-8", "surrogateescape").lower()
        return [spec.name.encode() for spec in specs if category in categories(spec)]
    if kind == b"module":
        return []
    raise CommandError("ERR syntax error")


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """COMMAND HELP"""
    return HELP.split("\n")


HANDLERS = {
    "command": handle_command,
    "command|count": handle_count,
    "command|info": handle_info,
    "command|docs": handle_docs,
    "command|getkeys": handle_getkeys,
    "command|list": handle_list,
    "command|help": handle_help,
}

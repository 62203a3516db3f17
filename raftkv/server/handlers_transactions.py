"""MULTI, EXEC, DISCARD, WATCH and UNWATCH, as far as they are commands like others.

What is between MULTI and EXEC, and what EXEC does, is in `server.transactions`.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.kv.commands import Opcode
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_strings import Parser, parse_keys


def handle_multi(connection: ClientConnection, arguments: list[bytes]) -> object:
    """MULTI"""
    connection.begin()
    return "OK"


def handle_exec(connection: ClientConnection, arguments: list[bytes]) -> object:
    """EXEC outside of MULTI; inside, the stream itself carries it out."""
    raise CommandError("ERR EXEC without MULTI")


def handle_discard(connection: ClientConnection, arguments: list[bytes]) -> object:
    """DISCARD"""
    if connection.queue is None:
        raise CommandError("ERR DISCARD without MULTI")
    connection.discard()
    return "OK"


def handle_unwatch(connection: ClientConnection, arguments: list[bytes]) -> object:
    """UNWATCH"""
    connection.discard()
    return "OK"


PARSERS: dict[bytes, Parser] = {b"WATCH": parse_keys(Opcode.REVISIONS)}

HANDLERS = {
    "multi": handle_multi,
    "exec": handle_exec,
    "discard": handle_discard,
    "unwatch": handle_unwatch,
}

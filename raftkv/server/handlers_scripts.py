"""EVAL, EVALSHA and SCRIPT, for the scripts that the locks of redis-py consist of.

No script runs here: nothing that is sent may be code (docs/adr: scripts of redis-py's
lock). Three texts are known by their SHA-1, which has been the same since redis-py 3,
and stand for commands of the store, atomic as the scripts are. Any other script is
refused: by EVALSHA as one that was not loaded, by EVAL and SCRIPT LOAD with an error.

Pure parsers; the layouts are in `kv.strings` and `kv.expiry`. Called by the command
table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Extension, Opcode, ValueCondition
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_strings import Parser, check_key, integer_argument

NO_SCRIPT: Final = "NOSCRIPT No matching script. Please use EVAL."
REFUSED: Final = "ERR no scripts run here; known are only those of redis-py's Lock"

HELP: Final = """SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
EXISTS <sha1> [<sha1> ...]
    Tell which of the scripts are known.
FLUSH [ASYNC|SYNC]
    Do nothing: those that are known stay so.
LOAD <script>
    Return the digest of a script that is known.
HELP
    Print this help."""

_DIGEST_LENGTH: Final = 40
_Words = list[bytes]


def _release(key: bytes, arguments: _Words) -> Command:
    (token,) = arguments
    return (int(Opcode.DELEX), key, int(ValueCondition.EQUAL), token)


def _extend(key: bytes, arguments: _Words) -> Command:
    token, ttl, replaces = arguments
    # Any text but this one replaces, as in the script.
    extension = Extension.ADD if replaces == b"0" else Extension.REPLACE_PRESENT
    return (int(Opcode.EXPIRE_IF), key, token, integer_argument(ttl), int(extension))


def _reacquire(key: bytes, arguments: _Words) -> Command:
    token, ttl = arguments
    return (int(Opcode.EXPIRE_IF), key, token, integer_argument(ttl), int(Extension.REPLACE))


# SHA-1 of the text -> what it does, and how many arguments it takes besides its one key.
_SCRIPTS: Final[dict[bytes, tuple[Callable[[bytes, _Words], Command], int]]] = {
    b"c3f8721cbb97f72bc19e972846bd7aaf91901658": (_release, 1),
    b"a4e8783852e6b949f9ef3a97212805108459a890": (_extend, 3),
    b"1cac51482acf5858da00f6d685d68f886cd6b6b2": (_reacquire, 2),
}


def parse_evalsha(arguments: _Words, limits: Limits) -> Command:
    """EVALSHA sha1 numkeys [key ...] [argument ...]"""
    if len(arguments[1]) != _DIGEST_LENGTH:
        raise CommandError(NO_SCRIPT)
    return _parse(arguments[1].lower(), arguments, limits, NO_SCRIPT)


def parse_eval(arguments: _Words, limits: Limits) -> Command:
    """EVAL script numkeys [key ...] [argument ...]"""
    return _parse(_digest_of(arguments[1]), arguments, limits, REFUSED)


def _parse(digest: bytes, arguments: _Words, limits: Limits, refusal: str) -> Command:
    key_count = integer_argument(arguments[2])
    if key_count > len(arguments) - 3:
        raise CommandError("ERR Number of keys can't be greater than number of args")
    if key_count < 0:
        raise CommandError("ERR Number of keys can't be negative")
    script = _SCRIPTS.get(digest)
    if script is None:
        raise CommandError(refusal)
    make, count = script
    if key_count != 1 or len(arguments) != 4 + count:
        raise CommandError(f"ERR this script takes one key and {count} arguments")
    check_key(arguments[3], limits)
    return make(arguments[3], arguments[4:])


def _digest_of(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()


def handle_load(connection: ClientConnection, arguments: _Words) -> object:
    """SCRIPT LOAD script"""
    digest = _digest_of(arguments[2])
    if digest not in _SCRIPTS:
        raise CommandError(REFUSED)
    return digest


def handle_exists(connection: ClientConnection, arguments: _Words) -> object:
    """SCRIPT EXISTS sha1 [sha1 ...]"""
    return [int(digest.lower() in _SCRIPTS) for digest in arguments[2:]]


def handle_flush(connection: ClientConnection, arguments: _Words) -> object:
    """SCRIPT FLUSH [ASYNC | SYNC]"""
    if len(arguments) > 3 or (arguments[2:] and arguments[2].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    return "OK"


def handle_help(connection: ClientConnection, arguments: _Words) -> object:
    """SCRIPT HELP"""
    return HELP.split("\n")


PARSERS: dict[bytes, Parser] = {b"EVAL": parse_eval, b"EVALSHA": parse_evalsha}

HANDLERS = {
    "script|load": handle_load,
    "script|exists": handle_exists,
    "script|flush": handle_flush,
    "script|help": handle_help,
}

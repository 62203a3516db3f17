"""KV SESSION, KV ONCE and KV OUTCOME: writes that are executed once.

A write is wrapped whole, `KV ONCE <session> <number> <lowest> SET a b`, so that any
client can send it, and goes the way of any write: proposed, held, redirected or
forwarded. What it wraps is one write about keys, a whole transaction included.

Parsers are pure; the layouts are in `kv.once`. Called by `handlers_kv`.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import ONCE_OPCODES, Command, Opcode
from raftkv.kv.numbers import parse_integer
from raftkv.kv.sessions import TTL_MS_DEFAULT, TTL_MS_MAX, TTL_MS_MIN
from raftkv.kv.strings import NOT_AN_INTEGER
from raftkv.server.command_table import CommandTable, Kind
from raftkv.server.handlers_strings import SYNTAX_ERROR

_COMMAND_AT: Final = 5
_ONCE: Final = int(Opcode.ONCE)
_WRITE: Final = int(Kind.WRITE)
NOT_ONCE: Final = "ERR Command cannot be executed once"
_BY_ID: Final = {
    b"KEEPALIVE": Opcode.SESSION_KEEPALIVE,
    b"CLOSE": Opcode.SESSION_CLOSE,
    b"INFO": Opcode.SESSION_INFO,
}


def parse_once(table: CommandTable, words: list[bytes], limits: Limits) -> Command:
    """KV ONCE session number lowest command [argument ...]"""
    session = _integer(words[2])
    number = _number(words[3])
    lowest = _number(words[4])
    if lowest > number:
        raise CommandError("ERR the lowest unfinished number is above that of the command")
    inner = words[_COMMAND_AT:]
    spec = table.by_word.get(inner[0])
    if spec is None or not spec.low <= len(inner) <= spec.high:
        spec = table.resolve(inner)
    if spec.kind != _WRITE:
        raise CommandError(NOT_ONCE)
    command = spec.parse(inner, limits)
    if command[0] not in ONCE_OPCODES:
        raise CommandError(NOT_ONCE)
    return (_ONCE, session, number, lowest, *command)


def parse_outcome(words: list[bytes]) -> Command:
    """KV OUTCOME session number"""
    return (int(Opcode.OUTCOME), _integer(words[2]), _number(words[3]))


def parse_session(words: list[bytes]) -> Command:
    """KV SESSION OPEN [TTL ms] | KEEPALIVE id | CLOSE id | INFO id | LIST"""
    action = words[2].upper()
    if action == b"OPEN":
        return (int(Opcode.SESSION_OPEN), _ttl_ms(words[3:]))
    if action == b"LIST":
        if len(words) > 3:
            raise CommandError(SYNTAX_ERROR)
        return (int(Opcode.SESSION_LIST),)
    opcode = _BY_ID.get(action)
    if opcode is None or len(words) != 4:
        raise CommandError(SYNTAX_ERROR)
    return (int(opcode), _integer(words[3]))


def _ttl_ms(options: list[bytes]) -> int:
    if not options:
        return TTL_MS_DEFAULT
    if len(options) != 2 or options[0].upper() != b"TTL":
        raise CommandError(SYNTAX_ERROR)
    ttl_ms = _integer(options[1])
    if not TTL_MS_MIN <= ttl_ms <= TTL_MS_MAX:
        raise CommandError(f"ERR TTL is from {TTL_MS_MIN} to {TTL_MS_MAX} ms")
    return ttl_ms


def _integer(word: bytes) -> int:
    number = parse_integer(word)
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    return number


def _number(word: bytes) -> int:
    number = _integer(word)
    if number < 1:
        raise CommandError("ERR numbers of writes begin with 1")
    return number

"""Requests that may wait for an element, to commands of the store that do not.

A parser returns the command that pops what there is now, which is all that the log
ever sees, inside `MULTI` too. What a client waits for when there is nothing is read
from the same words by `blocking_pop`; who waits, and when the command is tried again,
is in `blocking`.

Pure. Called by the command table and the pipelines.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Final, NamedTuple

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.numbers import INT64_MAX, add_floats, is_infinite, parse_float
from raftkv.server.handlers_lists import parse_lmove, parse_lmpop, parse_rpoplpush
from raftkv.server.handlers_sorted_sets import parse_zmpop
from raftkv.server.handlers_strings import Parser, check_key

NOT_A_TIMEOUT: Final = "ERR timeout is not a float or out of range"
NEGATIVE_TIMEOUT: Final = "ERR timeout is negative"

_LEFT, _RIGHT = 0, 1
_LOWEST, _HIGHEST = 0, 1
# Opcode -> type that is waited for, fields in front of the keys, and whether the timeout is
# the first word behind the name instead of the last.
_FORMS: Final = {
    int(Opcode.LIST_POP_FIRST): ("list", 2, False),
    int(Opcode.ZPOP_FIRST): ("zset", 2, False),
    int(Opcode.LMPOP): ("list", 3, True),
    int(Opcode.ZMPOP): ("zset", 3, True),
}


class BlockingPop(NamedTuple):
    """What a client waits for.

    Attributes:
        command: Pops from the first of the keys that has anything.
        keys: In the order of preference.
        type_name: Of what has to be at one of them, as TYPE says it.
        timeout_ms: After which nothing is the answer; 0 for never.
        timeout_at: Position of the timeout among the words of the request.
    """

    command: Command
    keys: tuple[bytes, ...]
    type_name: str
    timeout_ms: int
    timeout_at: int

    def command_for(self, key: bytes) -> Command:
        """Return the command that pops from one of the keys only."""
        if len(self.keys) == 1:
            return self.command
        return (*self.command[: -len(self.keys)], key)


def parse_timeout(text: bytes) -> int:
    """Read a timeout in seconds, maybe with a fraction.

    Returns:
        Milliseconds, rounded up; 0 for no end.

    Raises:
        CommandError: It is no number, or negative. What does not fit 64 bits counts
            as negative, as in Redis.
    """
    if is_infinite(text):
        raise CommandError(NEGATIVE_TIMEOUT)
    seconds = parse_float(text)
    if seconds is None:
        raise CommandError(NOT_A_TIMEOUT)
    # Rounded as the product is in Redis; the text itself is no exact number of milliseconds.
    product = add_floats(seconds * 1000, Fraction(0))
    if product is None or not 0 <= ceil(product) <= INT64_MAX:
        raise CommandError(NEGATIVE_TIMEOUT)
    return ceil(product)


def blocking_pop(arguments: list[bytes], command: Command) -> BlockingPop:
    """Return what a request waits for.

    Args:
        arguments: The words of the request.
        command: What its parser made of them.
    """
    last = len(arguments) - 1
    if command[0] not in _FORMS:
        # The first of the two keys of a move.
        return BlockingPop(command, (command[1],), "list", parse_timeout(arguments[last]), last)
    type_name, fields, is_first = _FORMS[command[0]]
    timeout_at = 1 if is_first else last
    timeout_ms = parse_timeout(arguments[timeout_at])
    return BlockingPop(command, command[fields:], type_name, timeout_ms, timeout_at)


def _parse_pop_first(opcode: Opcode, end: int) -> Parser:
    """Return a parser for `BLPOP key [key ...] timeout` and its sisters."""

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        parse_timeout(arguments[-1])
        keys = arguments[1:-1]
        for key in keys:
            check_key(key, limits)
        return (int(opcode), end, *keys)

    return parse


def _with_timeout_behind(parser: Parser) -> Parser:
    """Return the parser of a command that takes a timeout as its last word too."""

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        command = parser(arguments[:-1], limits)
        parse_timeout(arguments[-1])
        return command

    return parse


def _with_timeout_in_front(parser: Parser) -> Parser:
    """Return the parser of a command that takes a timeout as its first word too."""

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        command = parser([arguments[0], *arguments[2:]], limits)
        parse_timeout(arguments[1])
        return command

    return parse


PARSERS: Final[dict[bytes, Parser]] = {
    b"BLPOP": _parse_pop_first(Opcode.LIST_POP_FIRST, _LEFT),
    b"BRPOP": _parse_pop_first(Opcode.LIST_POP_FIRST, _RIGHT),
    b"BLMPOP": _with_timeout_in_front(parse_lmpop),
    b"BLMOVE": _with_timeout_behind(parse_lmove),
    b"BRPOPLPUSH": _with_timeout_behind(parse_rpoplpush),
    b"BZPOPMIN": _parse_pop_first(Opcode.ZPOP_FIRST, _LOWEST),
    b"BZPOPMAX": _parse_pop_first(Opcode.ZPOP_FIRST, _HIGHEST),
    b"BZMPOP": _with_timeout_in_front(parse_zmpop),
}

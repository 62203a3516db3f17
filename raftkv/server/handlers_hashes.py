"""Requests on hashes to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.hashes`. The parsers of sets and sorted sets share the
checks on elements, cursors and counts.

Pure but for the count that gives each random choice of a read another seed.
Called by the command table.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, HashFlag, Opcode
from raftkv.kv.numbers import INT64_MAX, is_infinite, parse_float
from raftkv.server.handlers_generic import SCAN_COUNT_DEFAULT, parse_cursor
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    integer_argument,
    parse_key,
)

NOT_A_FLOAT: Final = "ERR value is not a valid float"
NOT_FINITE: Final = "ERR value is NaN or Infinity"
RANGE_ERROR: Final = "ERR value is out of range"
LOWEST_ERROR: Final = f"ERR value is out of range, value must between -{INT64_MAX} and {INT64_MAX}"
TOO_MANY_CHOICES: Final = "ERR value is out of range, at most 1000000 choices at once"

# Limit: elements that one command may choose at random with repetitions.
CHOICES_MAX: Final = 1_000_000

_seeds: Final = count(1)


def next_seed() -> int:
    """Return a seed that no read of this process had before."""
    return next(_seeds)


def parse_key_and_elements(opcode: Opcode) -> Parser:
    """Return a parser for a command whose arguments are a key and elements."""
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        for element in arguments[2:]:
            check_value(element, limits)
        return (number, *arguments[1:])

    return parse


def random_count(text: bytes, *, doubled: bool) -> int:
    """Read how many elements to choose; fewer than none means that they may repeat.

    Args:
        text: The argument.
        doubled: Each choice is answered with two elements.

    Raises:
        CommandError: Not an integer, or too many.
    """
    # Source: the checks of hrandfieldCommand() and its sisters in Redis 7.
    number = integer_argument(text)
    if number < -INT64_MAX:
        raise CommandError(LOWEST_ERROR)
    if doubled and not -(INT64_MAX // 2) <= number <= INT64_MAX // 2:
        raise CommandError(RANGE_ERROR)
    if number < -CHOICES_MAX:
        raise CommandError(TOO_MANY_CHOICES)
    return number


def parse_element_scan(opcode: Opcode) -> Parser:
    """Return a parser for HSCAN and its sisters: key cursor [MATCH pattern] [COUNT count]."""
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        key = arguments[1]
        check_key(key, limits)
        cursor = parse_cursor(arguments[2])
        try:
            pattern, limit = _scan_options(arguments[3:])
        except CommandError as error:
            # Redis looks at the options only if there is such a key.
            return (number, key, cursor, None, 0, error.message.encode())
        return (number, key, cursor, pattern, limit, None)

    return parse


def _scan_options(options: list[bytes]) -> tuple[bytes | None, int]:
    """Read MATCH and COUNT."""
    pattern: bytes | None = None
    limit = SCAN_COUNT_DEFAULT
    for option, value in zip(options[::2], options[1::2], strict=False):
        if option.upper() == b"COUNT":
            limit = integer_argument(value)
            if limit < 1:
                raise CommandError(SYNTAX_ERROR)
        elif option.upper() == b"MATCH":
            pattern = value
        else:
            raise CommandError(SYNTAX_ERROR)
    if len(options) % 2:
        raise CommandError(SYNTAX_ERROR)
    return pattern, limit


def _parse_hset(name: str, flags: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        if len(arguments) % 2:
            raise CommandError(f"ERR wrong number of arguments for '{name}' command")
        check_key(arguments[1], limits)
        for element in arguments[2:]:
            check_value(element, limits)
        return (int(Opcode.HSET), arguments[1], flags, *arguments[2:])

    return parse


def parse_hincrby(arguments: list[bytes], limits: Limits) -> Command:
    """HINCRBY key field increment"""
    _, key, field, increment = arguments
    check_key(key, limits)
    check_value(field, limits)
    return (int(Opcode.HINCRBY), key, field, integer_argument(increment))


def parse_hincrbyfloat(arguments: list[bytes], limits: Limits) -> Command:
    """HINCRBYFLOAT key field increment"""
    _, key, field, increment = arguments
    check_key(key, limits)
    check_value(field, limits)
    if is_infinite(increment):
        raise CommandError(NOT_FINITE)
    if parse_float(increment) is None:
        raise CommandError(NOT_A_FLOAT)
    return (int(Opcode.HINCRBYFLOAT), key, field, increment)


def parse_random(opcode: Opcode, option: bytes | None) -> Callable[[list[bytes], Limits], Command]:
    """Return a parser for HRANDFIELD and its sisters: key [count [option]]."""
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        key = arguments[1]
        check_key(key, limits)
        if len(arguments) == 2:
            return (number, key, None, 0, next_seed())
        doubled = len(arguments) > 3
        if doubled and option is None:
            raise CommandError(SYNTAX_ERROR)
        count_text = arguments[2]
        chosen = random_count(count_text, doubled=False)
        if len(arguments) > 4 or (doubled and arguments[3].upper() != option):
            raise CommandError(SYNTAX_ERROR)
        if doubled:
            random_count(count_text, doubled=True)
        return (number, key, chosen, int(doubled), next_seed())

    return parse


PARSERS: Final[dict[bytes, Parser]] = {
    b"HSET": _parse_hset("hset", 0),
    b"HMSET": _parse_hset("hmset", int(HashFlag.OK)),
    b"HSETNX": _parse_hset("hsetnx", int(HashFlag.NX)),
    b"HDEL": parse_key_and_elements(Opcode.HDEL),
    b"HINCRBY": parse_hincrby,
    b"HINCRBYFLOAT": parse_hincrbyfloat,
    b"HGET": parse_key_and_elements(Opcode.HGET),
    b"HMGET": parse_key_and_elements(Opcode.HMGET),
    b"HGETALL": parse_key(Opcode.HGETALL),
    b"HKEYS": parse_key(Opcode.HKEYS),
    b"HVALS": parse_key(Opcode.HVALS),
    b"HEXISTS": parse_key_and_elements(Opcode.HEXISTS),
    b"HLEN": parse_key(Opcode.HLEN),
    b"HSTRLEN": parse_key_and_elements(Opcode.HSTRLEN),
    b"HSCAN": parse_element_scan(Opcode.HSCAN),
    b"HRANDFIELD": parse_random(Opcode.HRANDFIELD, b"WITHVALUES"),
}

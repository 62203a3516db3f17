"""Requests on lists to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.lists`.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, ListFlag, Opcode
from raftkv.kv.numbers import INT64_MAX
from raftkv.server.handlers_hashes import LOWEST_ERROR
from raftkv.server.handlers_sets import NOT_POSITIVE, counted_keys, not_negative
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    integer_argument,
    parse_key,
)

ZERO_RANK: Final = (
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second "
    "... or use negative to start from the end of the list"
)
NEGATIVE_COUNT: Final = "ERR COUNT can't be negative"
NEGATIVE_LENGTH: Final = "ERR MAXLEN can't be negative"
COUNT_TOO_SMALL: Final = "ERR count should be greater than 0"

_ENDS: Final = {b"LEFT": 0, b"RIGHT": 1}
_XX: Final = int(ListFlag.XX)


def _parse_push(end: int, flags: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        for element in arguments[2:]:
            check_value(element, limits)
        return (int(Opcode.LIST_PUSH), arguments[1], end, flags, *arguments[2:])

    return parse


def _parse_pop(name: str, end: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        if len(arguments) > 3:
            raise CommandError(f"ERR wrong number of arguments for '{name}' command")
        count = not_negative(arguments[2], NOT_POSITIVE) if len(arguments) == 3 else None
        return (int(Opcode.LIST_POP), arguments[1], end, count)

    return parse


def _end(word: bytes) -> int:
    """Read LEFT or RIGHT."""
    end = _ENDS.get(word.upper())
    if end is None:
        raise CommandError(SYNTAX_ERROR)
    return end


def parse_lmpop(arguments: list[bytes], limits: Limits) -> Command:
    """LMPOP numkeys key ... LEFT | RIGHT [COUNT count]"""
    keys, position, count = many_keys_and_count(arguments, limits)
    return (int(Opcode.LMPOP), _end(arguments[position]), count, *keys)


def many_keys_and_count(arguments: list[bytes], limits: Limits) -> tuple[list[bytes], int, int]:
    """Read `numkeys key ... end [COUNT count]`.

    Returns:
        The keys, the position of the end, which is not looked at, and the count.

    Raises:
        CommandError: It is anything else.
    """
    try:
        keys, position = counted_keys(arguments, 1, limits)
    except CommandError as error:
        too_many = "greater than number of args" in error.message
        raise CommandError(SYNTAX_ERROR if too_many else error.message) from None
    if position >= len(arguments):
        raise CommandError(SYNTAX_ERROR)
    rest = arguments[position + 1 :]
    if not rest:
        return keys, position, 1
    if arguments[position].upper() not in (b"LEFT", b"RIGHT", b"MIN", b"MAX"):
        raise CommandError(SYNTAX_ERROR)
    if len(rest) == 1 or rest[0].upper() != b"COUNT":
        raise CommandError(SYNTAX_ERROR)
    count = not_negative(rest[1], COUNT_TOO_SMALL)
    if not count:
        raise CommandError(COUNT_TOO_SMALL)
    if len(rest) > 2:
        raise CommandError(SYNTAX_ERROR)
    return keys, position, count


def parse_lmove(arguments: list[bytes], limits: Limits) -> Command:
    """LMOVE source destination LEFT | RIGHT LEFT | RIGHT"""
    _, source, target, source_end, target_end = arguments
    check_key(source, limits)
    check_key(target, limits)
    return (int(Opcode.LMOVE), source, target, _end(source_end), _end(target_end))


def parse_rpoplpush(arguments: list[bytes], limits: Limits) -> Command:
    """RPOPLPUSH source destination"""
    _, source, target = arguments
    check_key(source, limits)
    check_key(target, limits)
    return (int(Opcode.LMOVE), source, target, _ENDS[b"RIGHT"], _ENDS[b"LEFT"])


def _position(text: bytes) -> tuple[int | None, bytes | None]:
    """Read a position; Redis looks at it only if there is such a key."""
    try:
        return integer_argument(text), None
    except CommandError as error:
        return None, error.message.encode()


def parse_lset(arguments: list[bytes], limits: Limits) -> Command:
    """LSET key index element"""
    _, key, index, element = arguments
    check_key(key, limits)
    check_value(element, limits)
    position, error_text = _position(index)
    return (int(Opcode.LSET), key, position, element, error_text)


def parse_lindex(arguments: list[bytes], limits: Limits) -> Command:
    """LINDEX key index"""
    _, key, index = arguments
    check_key(key, limits)
    return (int(Opcode.LINDEX), key, *_position(index))


def parse_linsert(arguments: list[bytes], limits: Limits) -> Command:
    """LINSERT key BEFORE | AFTER pivot element"""
    _, key, where, pivot, element = arguments
    check_key(key, limits)
    check_value(pivot, limits)
    check_value(element, limits)
    if where.upper() not in (b"BEFORE", b"AFTER"):
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.LINSERT), key, int(where.upper() == b"AFTER"), pivot, element)


def parse_lrem(arguments: list[bytes], limits: Limits) -> Command:
    """LREM key count element"""
    _, key, count, element = arguments
    check_key(key, limits)
    check_value(element, limits)
    number = integer_argument(count)
    if number < -INT64_MAX:
        raise CommandError(LOWEST_ERROR)
    return (int(Opcode.LREM), key, number, element)


def _parse_range(opcode: Opcode) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        _, key, first, last = arguments
        check_key(key, limits)
        return (int(opcode), key, integer_argument(first), integer_argument(last))

    return parse


def parse_lpos(arguments: list[bytes], limits: Limits) -> Command:
    """LPOS key element [RANK rank] [COUNT count] [MAXLEN length]"""
    key, element = arguments[1], arguments[2]
    check_key(key, limits)
    check_value(element, limits)
    rank, count, length = 1, None, 0
    options = arguments[3:]
    for option, value in zip(options[::2], options[1::2], strict=False):
        option = option.upper()
        if option == b"RANK":
            rank = integer_argument(value)
            if not rank:
                raise CommandError(ZERO_RANK)
        elif option == b"COUNT":
            count = not_negative(value, NEGATIVE_COUNT)
        elif option == b"MAXLEN":
            length = not_negative(value, NEGATIVE_LENGTH)
        else:
            raise CommandError(SYNTAX_ERROR)
    if len(options) % 2:
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.LPOS), key, element, rank, count, length)


PARSERS: Final[dict[bytes, Parser]] = {
    b"LPUSH": _parse_push(_ENDS[b"LEFT"], 0),
    b"RPUSH": _parse_push(_ENDS[b"RIGHT"], 0),
    b"LPUSHX": _parse_push(_ENDS[b"LEFT"], _XX),
    b"RPUSHX": _parse_push(_ENDS[b"RIGHT"], _XX),
    b"LPOP": _parse_pop("lpop", _ENDS[b"LEFT"]),
    b"RPOP": _parse_pop("rpop", _ENDS[b"RIGHT"]),
    b"LMPOP": parse_lmpop,
    b"LMOVE": parse_lmove,
    b"RPOPLPUSH": parse_rpoplpush,
    b"LSET": parse_lset,
    b"LINSERT": parse_linsert,
    b"LREM": parse_lrem,
    b"LTRIM": _parse_range(Opcode.LTRIM),
    b"LLEN": parse_key(Opcode.LLEN),
    b"LRANGE": _parse_range(Opcode.LRANGE),
    b"LINDEX": parse_lindex,
    b"LPOS": parse_lpos,
}

"""Requests on sets to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.sets`. `handlers_sorted_sets` shares the check of a
number of keys.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.numbers import INT64_MAX, parse_integer
from raftkv.server.handlers_hashes import (
    parse_element_scan,
    parse_key_and_elements,
    parse_random,
)
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    parse_key,
    parse_keys,
)

NOT_POSITIVE: Final = "ERR value is out of range, must be positive"
NO_KEYS: Final = "ERR numkeys should be greater than 0"
TOO_MANY_KEYS: Final = "ERR Number of keys can't be greater than number of args"
NEGATIVE_LIMIT: Final = "ERR LIMIT can't be negative"


def not_negative(text: bytes, message: str) -> int:
    """Read a number that must not be negative.

    Raises:
        CommandError: With `message`, also where it is no number.
    """
    number = parse_integer(text)
    if number is None or not 0 <= number <= INT64_MAX:
        raise CommandError(message)
    return number


def counted_keys(arguments: list[bytes], position: int, limits: Limits) -> tuple[list[bytes], int]:
    """Read a number of keys and so many keys.

    Returns:
        The keys, and the position behind the last.

    Raises:
        CommandError: The number is not that of at least one key, or a key is too long.
    """
    count = parse_integer(arguments[position])
    if count is None or count <= 0:
        raise CommandError(NO_KEYS)
    end = position + 1 + count
    if end > len(arguments):
        raise CommandError(TOO_MANY_KEYS)
    keys = arguments[position + 1 : end]
    for key in keys:
        check_key(key, limits)
    return keys, end


def parse_spop(arguments: list[bytes], limits: Limits) -> Command:
    """SPOP key [count]"""
    check_key(arguments[1], limits)
    if len(arguments) > 3:
        raise CommandError(SYNTAX_ERROR)
    count = not_negative(arguments[2], NOT_POSITIVE) if len(arguments) == 3 else None
    return (int(Opcode.SPOP), arguments[1], count)


def parse_smove(arguments: list[bytes], limits: Limits) -> Command:
    """SMOVE source destination member"""
    _, source, target, member = arguments
    check_key(source, limits)
    check_key(target, limits)
    check_value(member, limits)
    return (int(Opcode.SMOVE), source, target, member)


def parse_sintercard(arguments: list[bytes], limits: Limits) -> Command:
    """SINTERCARD numkeys key ... [LIMIT limit]"""
    keys, position = counted_keys(arguments, 1, limits)
    limit = 0
    while position < len(arguments):
        if arguments[position].upper() != b"LIMIT" or position + 1 >= len(arguments):
            raise CommandError(SYNTAX_ERROR)
        limit = not_negative(arguments[position + 1], NEGATIVE_LIMIT)
        position += 2
    return (int(Opcode.SINTERCARD), limit, *keys)


PARSERS: Final[dict[bytes, Parser]] = {
    b"SADD": parse_key_and_elements(Opcode.SADD),
    b"SREM": parse_key_and_elements(Opcode.SREM),
    b"SPOP": parse_spop,
    b"SMOVE": parse_smove,
    b"SISMEMBER": parse_key_and_elements(Opcode.SISMEMBER),
    b"SMISMEMBER": parse_key_and_elements(Opcode.SMISMEMBER),
    b"SMEMBERS": parse_key(Opcode.SMEMBERS),
    b"SCARD": parse_key(Opcode.SCARD),
    b"SRANDMEMBER": parse_random(Opcode.SRANDMEMBER, None),
    b"SSCAN": parse_element_scan(Opcode.SSCAN),
    b"SINTER": parse_keys(Opcode.SINTER),
    b"SUNION": parse_keys(Opcode.SUNION),
    b"SDIFF": parse_keys(Opcode.SDIFF),
    b"SINTERCARD": parse_sintercard,
    b"SINTERSTORE": parse_keys(Opcode.SINTERSTORE),
    b"SUNIONSTORE": parse_keys(Opcode.SUNIONSTORE),
    b"SDIFFSTORE": parse_keys(Opcode.SDIFFSTORE),
}

"""Requests on keys of any type, deadlines and the whole store to commands.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.generic`, `kv.expiry` and `kv.scan`.

Pure but for the count that gives each RANDOMKEY another seed. Called by the
command table.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, CopyFlag, ExpireFlag, Opcode
from raftkv.kv.numbers import INT64_MAX, INT64_MIN
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    expire_time_error,
    integer_argument,
    parse_key,
    parse_keys,
)

INVALID_CURSOR: Final = "ERR invalid cursor"
SAME_OBJECTS: Final = "ERR source and destination objects are the same"
DATABASE_ERROR: Final = "ERR DB index is out of range"
INT_RANGE_ERROR: Final = "ERR value is out of range, value must between -2147483648 and 2147483647"
EXPIRE_NX_CONFLICT: Final = "ERR NX and XX, GT or LT options at the same time are not compatible"
EXPIRE_GT_CONFLICT: Final = "ERR GT and LT options at the same time are not compatible"

SCAN_COUNT_DEFAULT: Final = 10

# What strtoul() reads as a whole.
_CURSOR: Final = re.compile(rb"[+-]?[0-9]{1,20}|")
_UINT64_LIMIT: Final = 2**64

_random_key_seeds: Final = count(1)

_OBJECT_OPCODES: Final = {
    b"ENCODING": Opcode.OBJECT_ENCODING,
    b"FREQ": Opcode.OBJECT_FREQ,
    b"IDLETIME": Opcode.OBJECT_IDLETIME,
    b"REFCOUNT": Opcode.OBJECT_REFCOUNT,
}


def _parse_two_keys(opcode: Opcode) -> Parser:
    number = int(opcode)

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        _, source, target = arguments
        check_key(source, limits)
        check_key(target, limits)
        return (number, source, target)

    return parse


def _parse_nothing(opcode: Opcode) -> Parser:
    def parse(_arguments: list[bytes], _limits: Limits) -> Command:
        return (int(opcode),)

    return parse


def parse_copy(arguments: list[bytes], limits: Limits) -> Command:
    """COPY source destination [DB 0] [REPLACE]"""
    source, target = arguments[1], arguments[2]
    check_key(source, limits)
    check_key(target, limits)
    flags = 0
    position = 3
    while position < len(arguments):
        option = arguments[position].upper()
        if option == b"REPLACE":
            flags |= CopyFlag.REPLACE
        elif option == b"DB" and position + 1 < len(arguments):
            _check_database(arguments[position + 1])
            position += 1
        else:
            raise CommandError(SYNTAX_ERROR)
        position += 1
    if source == target:
        raise CommandError(SAME_OBJECTS)
    return (int(Opcode.COPY), source, target, int(flags))


def _check_database(text: bytes) -> None:
    """Refuse any database but the only one."""
    number = integer_argument(text)
    if not -(2**31) <= number < 2**31:
        raise CommandError(INT_RANGE_ERROR)
    if number != 0:
        raise CommandError(DATABASE_ERROR)


def _parse_expire(name: bytes, *, unit_ms: int, absolute: bool) -> Parser:
    """Return a parser for one of the four commands that set a deadline.

    Source: expireGenericCommand() of Redis 7.
    """

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        flags = _expire_flags(arguments[3:])
        time = integer_argument(arguments[2])
        time_ms = time * unit_ms
        if not INT64_MIN <= time_ms <= INT64_MAX:
            raise expire_time_error(name)
        ttl_ms, deadline_ms = (None, time_ms) if absolute else (time_ms, None)
        return (int(Opcode.EXPIRE), arguments[1], ttl_ms, deadline_ms, flags, name)

    return parse


def _expire_flags(options: list[bytes]) -> int:
    """Read NX, XX, GT and LT."""
    if not options:
        return 0
    flags = ExpireFlag(0)
    for option in options:
        try:
            flags |= ExpireFlag[option.upper().decode()]
        except (KeyError, UnicodeDecodeError):
            text = option.split(b"\0", 1)[0].decode(errors="surrogateescape")
            raise CommandError(f"ERR Unsupported option {text}") from None
    others = ExpireFlag.XX | ExpireFlag.GT | ExpireFlag.LT
    if flags & ExpireFlag.NX and flags & others:
        raise CommandError(EXPIRE_NX_CONFLICT)
    if flags & ExpireFlag.GT and flags & ExpireFlag.LT:
        raise CommandError(EXPIRE_GT_CONFLICT)
    return int(flags)


def parse_pattern(arguments: list[bytes], _limits: Limits) -> Command:
    """KEYS pattern"""
    return (int(Opcode.KEYS), arguments[1])


def parse_scan(arguments: list[bytes], _limits: Limits) -> Command:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]"""
    cursor = parse_cursor(arguments[1])
    pattern: bytes | None = None
    wanted_type: bytes | None = None
    limit = SCAN_COUNT_DEFAULT
    options = arguments[2:]
    for option, value in zip(options[::2], options[1::2], strict=False):
        option = option.upper()
        if option == b"COUNT":
            limit = integer_argument(value)
            if limit < 1:
                raise CommandError(SYNTAX_ERROR)
        elif option == b"MATCH":
            pattern = value
        elif option == b"TYPE":
            wanted_type = value.lower()
        else:
            raise CommandError(SYNTAX_ERROR)
    if len(options) % 2:
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.SCAN), cursor, pattern, limit, wanted_type)


def parse_cursor(text: bytes) -> int:
    """Read a cursor as strtoul() does, up to a NUL; a negative one wraps around."""
    text = text.split(b"\0", 1)[0]
    if _CURSOR.fullmatch(text) is None:
        raise CommandError(INVALID_CURSOR)
    cursor = int(text or b"0")
    if abs(cursor) >= _UINT64_LIMIT:
        raise CommandError(INVALID_CURSOR)
    return cursor % _UINT64_LIMIT


def parse_random_key(_arguments: list[bytes], _limits: Limits) -> Command:
    """RANDOMKEY"""
    return (int(Opcode.RANDOMKEY), next(_random_key_seeds))


def parse_flush(arguments: list[bytes], _limits: Limits) -> Command:
    """FLUSHALL [ASYNC | SYNC]; both free memory in slices, behind the answer."""
    if len(arguments) > 2 or (
        len(arguments) == 2 and arguments[1].upper() not in (b"ASYNC", b"SYNC")
    ):
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.FLUSH),)


def parse_object(arguments: list[bytes], limits: Limits) -> Command:
    """OBJECT ENCODING | FREQ | IDLETIME | REFCOUNT key, OBJECT HELP"""
    subcommand = arguments[1].upper()
    if subcommand == b"HELP":
        _check_size(arguments, 2, 2, "object|help")
        return (int(Opcode.OBJECT_HELP),)
    opcode = _OBJECT_OPCODES.get(subcommand)
    if opcode is None:
        raise _unknown_subcommand(arguments)
    _check_size(arguments, 3, 3, "object|" + subcommand.decode().lower())
    check_key(arguments[2], limits)
    return (int(opcode), arguments[2])


def parse_memory(arguments: list[bytes], limits: Limits) -> Command:
    """MEMORY USAGE key [SAMPLES count], MEMORY HELP"""
    subcommand = arguments[1].upper()
    if subcommand == b"HELP":
        _check_size(arguments, 2, 2, "memory|help")
        return (int(Opcode.MEMORY_HELP),)
    if subcommand != b"USAGE":
        raise _unknown_subcommand(arguments)
    _check_size(arguments, 3, len(arguments), "memory|usage")
    check_key(arguments[2], limits)
    options = arguments[3:]
    if len(options) % 2 or any(option.upper() != b"SAMPLES" for option in options[::2]):
        raise CommandError(SYNTAX_ERROR)
    # Strings have no samples to take: the number is only checked.
    if any(integer_argument(value) < 0 for value in options[1::2]):
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.MEMORY_USAGE), arguments[2])


def _check_size(arguments: list[bytes], least: int, most: int, name: str) -> None:
    """Refuse a wrong number of arguments of a subcommand."""
    if not least <= len(arguments) <= most:
        raise CommandError(f"ERR wrong number of arguments for '{name}' command")


def _unknown_subcommand(arguments: list[bytes]) -> CommandError:
    """Return the error for a subcommand that does not exist."""
    name = arguments[0].upper().decode()
    shown = arguments[1][:128].decode(errors="replace")
    return CommandError(f"ERR unknown subcommand '{shown}'. Try {name} HELP.")


PARSERS: Final[dict[bytes, Parser]] = {
    b"DEL": parse_keys(Opcode.DEL),
    b"UNLINK": parse_keys(Opcode.DEL),
    b"EXISTS": parse_keys(Opcode.EXISTS),
    b"TOUCH": parse_keys(Opcode.EXISTS),
    b"TYPE": parse_key(Opcode.TYPE),
    b"RENAME": _parse_two_keys(Opcode.RENAME),
    b"RENAMENX": _parse_two_keys(Opcode.RENAMENX),
    b"COPY": parse_copy,
    b"OBJECT": parse_object,
    b"MEMORY": parse_memory,
    b"EXPIRE": _parse_expire(b"expire", unit_ms=1000, absolute=False),
    b"PEXPIRE": _parse_expire(b"pexpire", unit_ms=1, absolute=False),
    b"EXPIREAT": _parse_expire(b"expireat", unit_ms=1000, absolute=True),
    b"PEXPIREAT": _parse_expire(b"pexpireat", unit_ms=1, absolute=True),
    b"PERSIST": parse_key(Opcode.PERSIST),
    b"TTL": parse_key(Opcode.TTL),
    b"PTTL": parse_key(Opcode.PTTL),
    b"EXPIRETIME": parse_key(Opcode.EXPIRETIME),
    b"PEXPIRETIME": parse_key(Opcode.PEXPIRETIME),
    b"KEYS": parse_pattern,
    b"SCAN": parse_scan,
    b"RANDOMKEY": parse_random_key,
    b"DBSIZE": _parse_nothing(Opcode.DBSIZE),
    b"FLUSHDB": parse_flush,
    b"FLUSHALL": parse_flush,
}

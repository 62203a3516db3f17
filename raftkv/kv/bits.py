"""Commands on the bits of strings, with the semantics of Redis 7.

Bit 0 is the highest of the first byte. Same rules as `strings`: the docstring of a
handler is the layout of its command behind the opcode, and part of the log
format; validate wholly, then change under one new revision. Called by `store` only.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.commands import BitfieldKind, BitOperation, Command, Opcode, Overflow
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.strings import Handler, string_of

# Integers that one operation of BITFIELD has in its command.
_FIELD_WORDS: Final = 6


def setbit(keyspace: Keyspace, command: Command) -> object:
    """(key, position, 0 or 1)"""
    _, key, position, bit = command
    entry = keyspace.find_for_write(key)
    value = bytearray((string_of(entry) or b"").ljust((position >> 3) + 1, b"\0"))
    mask = 0x80 >> (position & 7)
    before = int(bool(value[position >> 3] & mask))
    if bit != before:
        value[position >> 3] ^= mask
    _put(keyspace, key, bytes(value), 0 if entry is None else entry[1])
    return before


def getbit(keyspace: Keyspace, command: Command) -> object:
    """(key, position)"""
    _, key, position = command
    value = string_of(keyspace.find(key)) or b""
    return _get(value, position, 1)


def _get(value: bytes | bytearray, position: int, bits: int) -> int:
    """Read an unsigned integer; what is behind the string is 0."""
    end = position + bits
    piece = bytes(value[position >> 3 : (end + 7) >> 3]).ljust(
        ((end + 7) >> 3) - (position >> 3), b"\0"
    )
    return int.from_bytes(piece, "big") >> (-end & 7) & ((1 << bits) - 1)


def _bit_range(first: int, last: int, size: int) -> tuple[int, int]:
    """Turn an inclusive range into bounds, as BITCOUNT and BITPOS do."""
    if first < 0:
        first = max(first + size, 0)
    if last < 0:
        last = max(last + size, 0)
    return first, min(last + 1, size)


def _masked(value: bytes, first: int, end: int, outside: int) -> tuple[bytes, int]:
    """Cut out the bytes that have the bits `first` to `end - 1`; other bits become `outside`.

    Returns:
        The bytes, and the position of their first bit.
    """
    piece = bytearray(value[first >> 3 : (end + 7) >> 3])
    before, behind = 0xFF00 >> (first & 7) & 0xFF, (1 << (-end & 7)) - 1
    for place, mask in ((0, before), (-1, behind)):
        piece[place] = piece[place] | mask if outside else piece[place] & ~mask
    return bytes(piece), first & ~7


def bitcount(keyspace: Keyspace, command: Command) -> object:
    """(key, first or nil, last or nil, 1 counted in bits else 0, error text or nil)

    The error is that of bad arguments, which count only if there is such a key.
    """
    _, key, first, last, in_bits, error_text = command
    value = string_of(keyspace.find(key))
    if value is None:
        return 0
    if error_text is not None:
        raise CommandError(error_text.decode())
    if first is not None:
        if first < 0 and last < 0 and first > last:
            return 0
        first, end = _bit_range(first, last, len(value) << 3 if in_bits else len(value))
        if first >= end:
            return 0
        value = _masked(value, first, end, 0)[0] if in_bits else value[first:end]
    return int.from_bytes(value, "big").bit_count()


def bitpos(keyspace: Keyspace, command: Command) -> object:
    """(key, bit, first or nil, last or nil, 1 counted in bits else 0, error text or nil)

    The error is that of bad arguments, which count only if there is such a key.
    """
    _, key, bit, first, last, in_bits, error_text = command
    value = string_of(keyspace.find(key))
    if value is None:
        return -1 if bit else 0
    if error_text is not None:
        raise CommandError(error_text.decode())
    size = len(value) << 3 if in_bits else len(value)
    first, end = _bit_range(first or 0, size - 1 if last is None else last, size)
    if first >= end:
        return -1
    if not in_bits:
        first, end = first << 3, end << 3
    piece, start = _masked(value, first, end, 1 - bit)
    rest = piece.lstrip(b"\0" if bit else b"\xff")
    if not rest:
        # Behind a string without a given end there are zeros.
        return -1 if bit or last is not None else end
    byte = rest[0] if bit else rest[0] ^ 0xFF
    return start + ((len(piece) - len(rest)) << 3) + 8 - byte.bit_length()


def bitop(keyspace: Keyspace, command: Command) -> object:
    """(BitOperation, target, key, ...)"""
    _, operation, target, *keys = command
    values = [string_of(keyspace.find(key)) or b"" for key in keys]
    size = max(map(len, values))
    numbers = [int.from_bytes(value.ljust(size, b"\0"), "big") for value in values]
    result = numbers[0]
    for number in numbers[1:]:
        if operation == BitOperation.AND:
            result &= number
        elif operation == BitOperation.OR:
            result |= number
        else:
            result ^= number
    if operation == BitOperation.NOT:
        result ^= (1 << (size << 3)) - 1
    if size:
        keyspace.find_for_write(target)
        keyspace.release(target)
        _put(keyspace, target, result.to_bytes(size, "big"), 0)
    elif keyspace.find_for_write(target) is not None:
        keyspace.remove(target)
        keyspace.revision += 1
    return size


# ---------------------------------------------------------------- BITFIELD


def _fields(words: tuple[int, ...]) -> list[tuple[int, ...]]:
    count = len(words)
    return [words[place : place + _FIELD_WORDS] for place in range(0, count, _FIELD_WORDS)]


def _read(value: bytes | bytearray, signed: int, bits: int, position: int) -> int:
    number = _get(value, position, bits)
    return number - (1 << bits) if signed and number >> (bits - 1) else number


def bitfield(keyspace: Keyspace, command: Command) -> object:
    """(key, then for each: BitfieldKind, 1 signed else 0, bits, position, number, Overflow)"""
    key = command[1]
    fields = _fields(command[2:])
    ends = [position + bits for kind, _, bits, position, _, _ in fields if kind]
    entry = keyspace.find_for_write(key)
    before = string_of(entry) or b""
    value = bytearray(before)
    if ends:
        value = bytearray(before.ljust((max(ends) + 7) >> 3, b"\0"))
    results = [_carry_out(value, field) for field in fields]
    if ends:
        _put(keyspace, key, bytes(value), 0 if entry is None else entry[1])
    return results


def bitfield_ro(keyspace: Keyspace, command: Command) -> object:
    """(key, then for each: 0, 1 signed else 0, bits, position, 0, 0)"""
    value = string_of(keyspace.find(command[1])) or b""
    return [
        _read(value, signed, bits, position)
        for _, signed, bits, position, _, _ in _fields(command[2:])
    ]


def _carry_out(value: bytearray, field: tuple[int, ...]) -> int | None:
    """Do one operation on a string that is long enough, and return its result."""
    kind, signed, bits, position, number, overflow = field
    before = _read(value, signed, bits, position)
    if kind == BitfieldKind.GET:
        return before
    if kind == BitfieldKind.SET:
        # A negative number for an unsigned field is a huge one.
        wanted = number if signed else number & (1 << 64) - 1
    else:
        wanted = before + number
    lowest = -(1 << (bits - 1)) if signed else 0
    highest = lowest + (1 << bits) - 1
    if not lowest <= wanted <= highest:
        if overflow == Overflow.FAIL:
            return None
        if overflow == Overflow.SAT:
            wanted = highest if wanted > highest else lowest
    _write(value, position, bits, wanted)
    return before if kind == BitfieldKind.SET else _read(value, signed, bits, position)


def _write(value: bytearray, position: int, bits: int, number: int) -> None:
    """Write the lowest bits of a number."""
    first, end = position >> 3, (position + bits + 7) >> 3
    shift = -(position + bits) & 7
    mask = ((1 << bits) - 1) << shift
    present = int.from_bytes(value[first:end], "big")
    present = present & ~mask | number << shift & mask
    value[first:end] = present.to_bytes(end - first, "big")


def _put(keyspace: Keyspace, key: bytes, value: bytes, deadline_ms: int) -> None:
    """Make the command's only change."""
    revision = keyspace.revision + 1
    keyspace.put(key, value, deadline_ms, revision)
    keyspace.revision = revision


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.SETBIT: setbit,
    Opcode.GETBIT: getbit,
    Opcode.BITCOUNT: bitcount,
    Opcode.BITPOS: bitpos,
    Opcode.BITOP: bitop,
    Opcode.BITFIELD: bitfield,
    Opcode.BITFIELD_RO: bitfield_ro,
}

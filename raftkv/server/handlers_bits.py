"""Requests on the bits of strings to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.bits`.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import BitfieldKind, BitOperation, Command, Opcode, Overflow
from raftkv.kv.numbers import parse_integer
from raftkv.server.handlers_strings import SYNTAX_ERROR, Parser, check_key, integer_argument

BAD_POSITION: Final = "ERR bit offset is not an integer or out of range"
BAD_BIT: Final = "ERR bit is not an integer or out of range"
NEITHER_BIT: Final = "ERR The bit argument must be 1 or 0."
NOT_OF_ONE: Final = "ERR BITOP NOT must be called with a single source key."
BAD_TYPE: Final = (
    "ERR Invalid bitfield type. Use something like i16 u8. "
    "Note that u64 is not supported but i64 is."
)
BAD_OVERFLOW: Final = "ERR Invalid OVERFLOW type specified"
READS_ONLY: Final = "ERR BITFIELD_RO only supports the GET subcommand"

_OPERATIONS: Final = {one.name.encode(): one for one in BitOperation}
_KINDS: Final = {one.name.encode(): one for one in BitfieldKind}
_OVERFLOWS: Final = {one.name.encode(): one for one in Overflow}


def _position(text: bytes, limits: Limits, *, bits: int = 0) -> int:
    """Read the position of a bit; with `bits`, `#3` is the third field of that width."""
    counted = bits and text.startswith(b"#")
    number = parse_integer(text[1:] if counted else text)
    if number is None:
        raise CommandError(BAD_POSITION)
    if counted:
        number *= bits
    if number < 0 or (number + max(bits, 1) - 1) >> 3 >= limits.value_bytes_max:
        raise CommandError(BAD_POSITION)
    return number


def parse_setbit(arguments: list[bytes], limits: Limits) -> Command:
    """SETBIT key offset value"""
    _, key, offset, value = arguments
    check_key(key, limits)
    position = _position(offset, limits)
    bit = parse_integer(value)
    if bit not in (0, 1):
        raise CommandError(BAD_BIT)
    return (int(Opcode.SETBIT), key, position, bit)


def parse_getbit(arguments: list[bytes], limits: Limits) -> Command:
    """GETBIT key offset"""
    _, key, offset = arguments
    check_key(key, limits)
    return (int(Opcode.GETBIT), key, _position(offset, limits))


def _in_bits(word: bytes) -> int:
    """Read BIT or BYTE."""
    if word.upper() not in (b"BIT", b"BYTE"):
        raise CommandError(SYNTAX_ERROR)
    return int(word.upper() == b"BIT")


def parse_bitcount(arguments: list[bytes], limits: Limits) -> Command:
    """BITCOUNT key [start end [BYTE | BIT]]"""
    key, *rest = arguments[1:]
    check_key(key, limits)
    opcode = int(Opcode.BITCOUNT)
    if not rest:
        return (opcode, key, None, None, 0, None)
    try:
        if len(rest) not in (2, 3):
            raise CommandError(SYNTAX_ERROR)
        first, last = integer_argument(rest[0]), integer_argument(rest[1])
        is_empty = first < 0 and last < 0 and first > last
        in_bits = _in_bits(rest[2]) if len(rest) == 3 and not is_empty else 0
    except CommandError as error:
        # Redis looks at the arguments only if there is such a key.
        return (opcode, key, None, None, 0, error.message.encode())
    return (opcode, key, first, last, in_bits, None)


def parse_bitpos(arguments: list[bytes], limits: Limits) -> Command:
    """BITPOS key bit [start [end [BYTE | BIT]]]"""
    key, wanted, *rest = arguments[1:]
    check_key(key, limits)
    bit = integer_argument(wanted)
    if bit not in (0, 1):
        raise CommandError(NEITHER_BIT)
    opcode = int(Opcode.BITPOS)
    try:
        if len(rest) > 3:
            raise CommandError(SYNTAX_ERROR)
        first = integer_argument(rest[0]) if rest else None
        in_bits = _in_bits(rest[2]) if len(rest) == 3 else 0
        last = integer_argument(rest[1]) if len(rest) > 1 else None
    except CommandError as error:
        return (opcode, key, bit, None, None, 0, error.message.encode())
    return (opcode, key, bit, first, last, in_bits, None)


def parse_bitop(arguments: list[bytes], limits: Limits) -> Command:
    """BITOP AND | OR | XOR | NOT destination key ..."""
    operation = _OPERATIONS.get(arguments[1].upper())
    if operation is None:
        raise CommandError(SYNTAX_ERROR)
    if operation is BitOperation.NOT and len(arguments) != 4:
        raise CommandError(NOT_OF_ONE)
    for key in arguments[2:]:
        check_key(key, limits)
    return (int(Opcode.BITOP), int(operation), *arguments[2:])


def _field_type(text: bytes) -> tuple[int, int]:
    """Read `i16` or `u8`; return whether it is signed, and its bits."""
    bits = parse_integer(text[1:])
    signed = text[:1] == b"i"
    if bits is None or text[:1] not in (b"i", b"u") or not 1 <= bits <= 63 + signed:
        raise CommandError(BAD_TYPE)
    return int(signed), bits


def _fields(words: list[bytes], limits: Limits) -> list[int]:
    """Read the operations of BITFIELD, six integers each."""
    fields: list[int] = []
    overflow = Overflow.WRAP
    position = 0
    while position < len(words):
        name, rest = words[position].upper(), words[position + 1 :]
        kind = _KINDS.get(name)
        if name == b"OVERFLOW" and rest:
            chosen = _OVERFLOWS.get(rest[0].upper())
            if chosen is None:
                raise CommandError(BAD_OVERFLOW)
            overflow = chosen
            position += 2
            continue
        if kind is None or len(rest) < (2 if kind is BitfieldKind.GET else 3):
            raise CommandError(SYNTAX_ERROR)
        signed, bits = _field_type(rest[0])
        place = _position(rest[1], limits, bits=bits)
        number = 0 if kind is BitfieldKind.GET else integer_argument(rest[2])
        fields += (int(kind), signed, bits, place, number, int(overflow))
        position += 3 if kind is BitfieldKind.GET else 4
    return fields


def parse_bitfield(arguments: list[bytes], limits: Limits) -> Command:
    """BITFIELD key [GET type offset | [OVERFLOW how] SET | INCRBY type offset number] ..."""
    check_key(arguments[1], limits)
    return (int(Opcode.BITFIELD), arguments[1], *_fields(arguments[2:], limits))


def parse_bitfield_ro(arguments: list[bytes], limits: Limits) -> Command:
    """BITFIELD_RO key [GET type offset] ..."""
    check_key(arguments[1], limits)
    fields = _fields(arguments[2:], limits)
    if any(fields[::6]):
        raise CommandError(READS_ONLY)
    fields[5::6] = [0] * (len(fields) // 6)
    return (int(Opcode.BITFIELD_RO), arguments[1], *fields)


PARSERS: Final[dict[bytes, Parser]] = {
    b"SETBIT": parse_setbit,
    b"GETBIT": parse_getbit,
    b"BITCOUNT": parse_bitcount,
    b"BITPOS": parse_bitpos,
    b"BITOP": parse_bitop,
    b"BITFIELD": parse_bitfield,
    b"BITFIELD_RO": parse_bitfield_ro,
}

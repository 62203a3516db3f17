"""What a correct store would answer about the bits of strings. See `models` for the kinds.

A string is written as a text of zeros and ones, so that nothing has to be masked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.linearizability.cells import (
    Cell,
    Effect,
    ImpossibleError,
    Kind,
    Result,
    Rule,
    Window,
    put,
)
from tests.linearizability.history import Value

_MANY = 8


def _bits(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if not isinstance(cell.value, str):
        raise ImpossibleError
    return "".join(f"{ord(byte):08b}" for byte in cell.value)


def _text(bits: str) -> str:
    return "".join(chr(int(bits[at : at + 8], 2)) for at in range(0, len(bits), 8))


def _with_bits(cell: Cell | None, position: int, piece: str) -> Cell:
    """Write some bits, behind as many zeros as are needed."""
    end = position + len(piece)
    bits = _bits(cell)
    bits = bits.ljust(-(-max(end, len(bits)) // 8) * 8, "0")
    return (cell or Cell(""))._replace(value=_text(bits[:position] + piece + bits[end:]))


def _set_bit(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    position, bit = arguments
    return _with_bits(cell, position, str(bit)), _bit(_bits(cell), position)


def _bit(bits: str, position: int) -> int:
    return int(bits[position]) if position < len(bits) else 0


def _part(bits: str, first: int, last: int, unit: str) -> tuple[int, str]:
    """Return where a range begins and what is in it; a range is in bytes or in bits."""
    width = 1 if unit == "bit" else 8
    size = len(bits) // width
    first = max(0, first + size) if first < 0 else first
    last = max(0, last + size) if last < 0 else last
    return first * width, bits[first * width : (last + 1) * width]


def _count(bits: str, first: int, last: int, unit: str) -> int:
    return _part(bits, first, last, unit)[1].count("1")


def _position(bits: str, bit: int, first: int, last: int | None, unit: str) -> int:
    if not bits:
        return -bit
    start, piece = _part(bits, first, -1 if last is None else last, unit)
    found = piece.find(str(bit))
    if found >= 0:
        return start + found
    # Without an end that was asked for, zeros follow.
    return start + len(piece) if piece and not bit and last is None else -1


def _number(bits: str, signed: int, width: int, position: int) -> int:
    piece = bits[position : position + width].ljust(width, "0")
    number = int(piece, 2)
    return number - 2**width if signed and piece[0] == "1" else number


def _fitted(number: int, signed: int, width: int, overflow: str) -> int | None:
    """Return a number as far as it fits into a field; None where it must not be written."""
    least = -(2 ** (width - 1)) if signed else 0
    most = least + 2**width - 1
    if least <= number <= most:
        return number
    if overflow == "fail":
        return None
    if overflow == "sat":
        return most if number > most else least
    return (number - least) % 2**width + least


def _fields(cell: Cell | None, fields: Sequence[Any], _: Window) -> Effect:
    """Carry out each (verb, signed, width, position, number, overflow) of BITFIELD."""
    ends = [position + width for verb, _, width, position, _, _ in fields if verb != "get"]
    if ends:
        # The string grows for all of them, before the first.
        cell = _with_bits(cell, max(ends), "")
    results: list[Value] = []
    for verb, signed, width, position, number, overflow in fields:
        before = _number(_bits(cell), signed, width, position)
        if verb == "get":
            results.append(before)
            continue
        after = _fitted(before + number if verb == "incrby" else number, signed, width, overflow)
        if after is not None:
            cell = _with_bits(cell, position, f"{after % 2**width:0{width}b}")
        results.append(None if after is None else before if verb == "set" else after)
    return cell, tuple(results)


def _read(look: Callable[..., Result]) -> Rule:
    """Return the rule of a read: `look` gets the bits and the arguments."""

    def rule(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
        return cell, look(_bits(cell), *arguments)

    return rule


_OPERATIONS: dict[str, Callable[[Sequence[str]], bool]] = {
    "and": lambda column: "0" not in column,
    "or": lambda column: "1" in column,
    "xor": lambda column: column.count("1") % 2 == 1,
    "not": lambda column: column[0] == "0",
}


def _operate(cells: dict[str, Cell], target: str, arguments: Sequence[Any]) -> Value:
    keys, name = arguments
    sources = [_bits(cells.get(key)) for key in keys]
    size = max(map(len, sources))
    columns = zip(*(source.ljust(size, "0") for source in sources), strict=True)
    bits = "".join(str(int(_OPERATIONS[name](column))) for column in columns)
    put(cells, target, Cell(_text(bits)) if bits else None)
    return size // 8


BIT_KINDS: dict[str, Kind] = {
    "setbit": Kind(_set_bit, 2, 2),
    "getbit": Kind(_read(_bit), 1, 1, None),
    "bitcount": Kind(_read(_count), 3, 3, None),
    "bitpos": Kind(_read(_position), 4, 4, None),
    "bitfield": Kind(_fields, 1, _MANY),
    "bitfieldro": Kind(_fields, 1, _MANY, None),
    "bitop": Kind(None, 2, 2, (), _operate),
}

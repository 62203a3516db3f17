"""Encoded values and the elements of encoded arrays, as they are.

For replies that another node has encoded and that are only to be completed here. Pure.
Caller: server.transactions.
"""

from __future__ import annotations

from raftkv.errors import ProtocolError

_LINES = b"+-:_#,("
_BULKS = b"$=!"
_ARRAYS = b"*~>"


def split_values(data: bytes) -> list[bytes]:
    """Return the encoded values that follow each other in whole replies of RESP2 or RESP3.

    Raises:
        ProtocolError: They are none.
    """
    values = []
    position = 0
    while position < len(data):
        start, position = position, _end_of(data, position)
        values.append(data[start:position])
    if position != len(data):
        raise ProtocolError("a value that is cut off")
    return values


def split_array(data: bytes) -> list[bytes]:
    """Return the encoded elements of one array, which may not be null.

    Raises:
        ProtocolError: It is none.
    """
    end = data.find(b"\r\n")
    if data[:1] != b"*" or end < 0:
        raise ProtocolError("not an array")
    elements = split_values(data[end + 2 :])
    if len(elements) != _number(data[1:end]):
        raise ProtocolError("an array of another length")
    return elements


def join_array(elements: list[bytes]) -> bytes:
    """Return the array of encoded elements."""
    return b"*%d\r\n%b" % (len(elements), b"".join(elements))


def _end_of(data: bytes, position: int) -> int:
    """Return the position behind the value that begins at `position`."""
    left = 1
    while left:
        kind = data[position : position + 1]
        end = data.find(b"\r\n", position)
        if not kind or end < 0:
            raise ProtocolError("an array that is cut off")
        size = b"" if kind in _LINES else data[position + 1 : end]
        position = end + 2
        left -= 1
        if kind in _BULKS:
            length = _number(size)
            position += length + 2 if length >= 0 else 0
        elif kind in _ARRAYS:
            left += max(0, _number(size))
        elif kind == b"%":
            left += 2 * _number(size)
        elif kind not in _LINES:
            raise ProtocolError("a value of an unknown kind")
    return position


def _number(text: bytes) -> int:
    if not text.removeprefix(b"-").isdigit():
        raise ProtocolError("a size that is no number")
    return int(text)

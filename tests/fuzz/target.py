"""What every fuzz target is made of, and how bytes become awkward input.

A target is a function of bytes that feeds one reader of foreign or stored bytes
and asserts what that reader promises: only its documented errors, nothing kept
beyond its limits, and that what it accepted comes back. The same function runs
under hypothesis (test_targets) and under coverage guidance (guided).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from raftkv.framing import HEADER_SIZE, MAGIC

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Target:
    """One reader under test.

    Attributes:
        run: Raises if, and only if, a promise is broken.
        seeds: Makes valid inputs to start from.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


class Script:
    """Reads choices off the input; behind its end every choice is 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self._take(size), "little")

    def some(self) -> bytes:
        """Bytes behind their length of two bytes."""
        return self._take(self.number(2))

    def rest(self) -> bytes:
        return self._take(len(self._data))

    def _take(self, size: int) -> bytes:
        first, self._position = self._position, self._position + size
        return self._data[first : self._position]


def some(data: bytes) -> bytes:
    """Write what `Script.some` reads."""
    return len(data).to_bytes(2, "little") + data


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """Cut into pieces of `size` bytes; 0 for one piece."""
    if size == 0:
        if data:
            yield data
        return
    for position in range(0, len(data), size):
        yield data[position : position + size]


def frame_ends(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of everything that claims to be a frame and fits."""
    position = data.find(MAGIC)
    while position >= 0 and position + HEADER_SIZE <= len(data):
        (length,) = _LENGTH.unpack_from(data, position + 8)
        end = position + HEADER_SIZE + length
        if end <= len(data):
            yield position, end
            position = data.find(MAGIC, end)
        else:
            position = data.find(MAGIC, position + 1)


def sign(data: bytearray, first: int, end: int) -> None:
    """Give one frame a checksum that fits, so that what is inside gets read."""
    crc = zlib.crc32(data[first + HEADER_SIZE : end], zlib.crc32(data[first : first + 12]))
    _LENGTH.pack_into(data, first + 12, crc)


def signed(data: bytes) -> bytes:
    """Give every frame a checksum that fits."""
    buffer = bytearray(data)
    for first, end in frame_ends(buffer):
        sign(buffer, first, end)
    return bytes(buffer)

"""One checksummed frame for WAL, snapshots and peer links.

Layout, little endian: magic (4 bytes), kind (1), three zero bytes, body length
(4), CRC-32 over the first twelve bytes and the body (4), body. The magic lets a
reader find the next frame behind a damaged one, which is how the WAL tells rot
from a torn end.

Pure: no I/O. Users: storage.wal, storage.snapshots, transport.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from raftkv.deflate import crc32

MAGIC = b"\xf5RkV"
_PREFIX = struct.Struct("<4sB3xI")
_CRC = struct.Struct("<I")
HEADER_SIZE = _PREFIX.size + _CRC.size


class FrameHeader(NamedTuple):
    """First sixteen bytes of a frame, not yet verified against a body."""

    kind: int
    length: int
    crc: int


def encode_frame_header(kind: int, body_parts: tuple[bytes | bytearray | memoryview, ...]) -> bytes:
    """Return the sixteen bytes that go before `body_parts` (for scatter writes)."""
    prefix = _PREFIX.pack(MAGIC, kind, sum(len(part) for part in body_parts))
    crc = crc32(prefix)
    for part in body_parts:
        crc = crc32(part, crc)
    return prefix + _CRC.pack(crc)


def encode_frame(kind: int, body: bytes | bytearray | memoryview) -> bytes:
    """Return one whole frame."""
    return b"".join((encode_frame_header(kind, (body,)), body))


def decode_frame_header(
    buffer: bytes | bytearray | memoryview, position: int = 0
) -> FrameHeader | None:
    """Read the header at `position`.

    Returns:
        None when the bytes there are fewer than a header or do not start with
        the magic and zero padding.
    """
    if len(buffer) - position < HEADER_SIZE:
        return None
    magic, kind, length = _PREFIX.unpack_from(buffer, position)
    if magic != MAGIC or bytes(buffer[position + 5 : position + 8]) != b"\0\0\0":
        return None
    (crc,) = _CRC.unpack_from(buffer, position + _PREFIX.size)
    return FrameHeader(kind, length, crc)


def verify_frame(header: FrameHeader, body: bytes | bytearray | memoryview) -> bool:
    """Whether `body` is the one that `header` was made for."""
    prefix = _PREFIX.pack(MAGIC, header.kind, header.length)
    return len(body) == header.length and crc32(body, crc32(prefix)) == header.crc

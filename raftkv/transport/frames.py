"""Frames out of a byte stream that arrives in pieces of any size.

Owns the incomplete frame at the end of what one link has received, and nothing
else: no socket, no meaning of kinds. Invariants: every byte is copied a bounded
number of times however small the pieces are; memory is what has arrived of one
frame, never what its header declares; once the stream is broken nothing more
comes out of it.

Who calls: `transport.link`. The layout of a frame is `raftkv.framing`.
"""

from __future__ import annotations

from typing import Final

from raftkv.framing import (
    HEADER_SIZE,
    MAGIC,
    FrameHeader,
    decode_frame_header,
    verify_frame,
)

Frame = tuple[int, bytes]

# A read of the socket brings up to 256 KiB; what is far below is worth a copy.
_SMALL_PIECE_BYTES: Final = 16 * 1024


class FrameDecoder:
    """Cuts one direction of one link into frames.

    Attributes:
        body_bytes_max: Longest body that is accepted from now on, in bytes; a
            header that declares more breaks the stream before its body is kept.
        broken: Why the stream cannot be read any further; empty while it can.
    """

    __slots__ = ("_body_bytes", "_head", "_header", "_parts", "_tail", "body_bytes_max", "broken")

    def __init__(self, body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self.broken = ""
        self._head = b""
        self._header: FrameHeader | None = None
        # Body of the frame that is under way: large pieces as they came, to be
        # joined once; small ones gathered, so that they cannot cost an object each.
        self._parts: list[bytes | bytearray | memoryview] = []
        self._tail = bytearray()
        self._body_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of an incomplete frame that are kept until the rest arrives."""
        header_size = 0 if self._header is None else HEADER_SIZE
        return len(self._head) + header_size + self._body_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """Take the next piece of the stream.

        Returns:
            Every frame that is now complete and passed its checksum, in order,
            as (kind, body). Frames before a damaged one are still returned;
            look at `broken` afterwards.
        """
        frames: list[Frame] = []
        if self.broken:
            return frames
        position = 0
        if self._header is not None:
            position = self._continue_body(self._header, data, frames)
        elif self._head:
            data = self._head + data
            self._head = b""
        size = len(data)
        while size - position >= HEADER_SIZE:
            header = self._take_header(data, position)
            if header is None:
                return frames
            start = position + HEADER_SIZE
            position = start + header.length
            if position > size:
                self._header = header
                self._keep_body(memoryview(data)[start:])
                return frames
            if not self._complete(header, data[start:position], frames):
                return frames
        if position < size:
            self._keep_head(data[position:])
        return frames

    def feed_one(self, data: bytes) -> tuple[Frame | None, bytes]:
        """Take the next piece of the stream, but at most one frame out of it.

        For a handshake, after which the limit changes in the middle of a piece.
        Must not be called behind a `feed` that left an incomplete frame.

        Returns:
            The frame, if it is complete, and the bytes behind it, to be fed
            again. Without a frame the bytes are kept here.
        """
        if self.broken:
            return None, b""
        data = self._head + data
        if len(data) < HEADER_SIZE:
            self._keep_head(data)
            return None, b""
        header = self._take_header(data, 0)
        if header is None:
            return None, b""
        end = HEADER_SIZE + header.length
        if len(data) < end:
            self._head = data
            return None, b""
        self._head = b""
        frames: list[Frame] = []
        self._complete(header, data[HEADER_SIZE:end], frames)
        return (frames[0], data[end:]) if frames else (None, b"")

    def _continue_body(self, header: FrameHeader, data: bytes, frames: list[Frame]) -> int:
        """Add `data` to the body that is under way; return how much of it was used."""
        missing = header.length - self._body_bytes
        if len(data) < missing:
            self._keep_body(data)
            return len(data)
        body = b"".join((*self._parts, self._tail, memoryview(data)[:missing]))
        self._forget_body()
        return missing if self._complete(header, body, frames) else len(data)

    def _keep_body(self, piece: bytes | memoryview) -> None:
        self._body_bytes += len(piece)
        if len(piece) < _SMALL_PIECE_BYTES:
            self._tail += piece
            return
        if self._tail:
            self._parts.append(self._tail)
            self._tail = bytearray()
        self._parts.append(piece)

    def _forget_body(self) -> None:
        self._header = None
        self._parts = []
        self._tail = bytearray()
        self._body_bytes = 0

    def _take_header(self, data: bytes, position: int) -> FrameHeader | None:
        """Return an acceptable header, or break the stream."""
        header = decode_frame_header(data, position)
        if header is None:
            self._break("not a frame")
        elif header.length > self.body_bytes_max:
            self._break("oversized frame")
            return None
        return header

    def _keep_head(self, head: bytes) -> None:
        """Keep less than a header; what cannot become one breaks the stream now."""
        if MAGIC.startswith(head[: len(MAGIC)]):
            self._head = head
        else:
            self._break("not a frame")

    def _complete(self, header: FrameHeader, body: bytes, frames: list[Frame]) -> bool:
        if verify_frame(header, body):
            frames.append((header.kind, body))
            return True
        self._break("frame checksum does not match")
        return False

    def _break(self, reason: str) -> None:
        self.broken = reason
        self._head = b""
        self._forget_body()

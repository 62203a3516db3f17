"""Bytes of a snapshot file, and walking them with every checksum verified.

Pure but for the file handed in. Owns the layout that `docs/reference/formats.md`
describes byte by byte: a header frame with what the snapshot stands for, chunk
frames with compressed pieces of the image, a footer frame with the digest of
everything before it. Golden files in `tests/golden/` hold every version to it.

Invariant: a piece comes out as it went in, with the same boundaries.

Who calls: `storage.snapshots`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from raftkv import deflate
from raftkv.framing import (
    HEADER_SIZE,
    FrameHeader,
    decode_frame_header,
    encode_frame,
    encode_frame_header,
    verify_frame,
)
from raftkv.seams import DiskFile
from raftkv.types import Configuration, Index, Member, NodeId, SnapshotMeta, Term

VERSION = 1
KIND_HEADER = 48
KIND_CHUNK = 49
KIND_FOOTER = 50

HASH_SIZE = 16
DIGEST_SIZE = 32
# Level 1 halves typical images, at 5 times the speed of zlib's default level.
_COMPRESSION_LEVEL = 1
# Limit: a chunk unpacks to at most this; a writer closes one long before.
CHUNK_BYTES_MAX = 1 << 30
HEADER_BODY_BYTES_MAX = 1 << 20

# version, flags, index, term, log time, lease time, revision, keys, state hash,
# number of members
_HEADER = struct.Struct("<HH4xQQQQQQ16sH6x")
_STRING = struct.Struct("<H")
_CHUNK = struct.Struct("<II")  # ordinal, unpacked size
_PIECE = struct.Struct("<I")
# chunks, pieces, unpacked bytes, image hash, digest
_FOOTER = struct.Struct("<I4xQQ16s32s")
FOOTER_SIZE = HEADER_SIZE + _FOOTER.size
_FLAG_VOTER = 1


class SnapshotFormatError(Exception):
    """The bytes are not an intact snapshot.

    Attributes:
        position: Where in the file.
        detail: What is wrong there.
    """

    def __init__(self, position: int, detail: str) -> None:
        super().__init__(f"byte {position}: {detail}")
        self.position = position
        self.detail = detail


class UnknownVersionError(Exception):
    """A snapshot of a later version.

    Attributes:
        version: The one found.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"format version {version}")
        self.version = version


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """Last frame of a snapshot.

    Attributes:
        chunks: Number of chunk frames.
        pieces: Number of pieces in them.
        image_bytes: Sum of the sizes of the pieces.
        image_hash: Digest over the image, 16 bytes.
        digest: BLAKE2b over every byte of the file before the footer, 32 bytes.
    """

    chunks: int
    pieces: int
    image_bytes: int
    image_hash: bytes
    digest: bytes


# ------------------------------------------------------------------- frames


def encode_header(meta: SnapshotMeta) -> bytes:
    """Return the first frame of a file; the image hash is left to the footer."""
    if len(meta.state_hash) != HASH_SIZE:
        raise ValueError(f"state hash of {len(meta.state_hash)} bytes, not {HASH_SIZE}")
    configuration = meta.configuration
    fixed = _HEADER.pack(
        VERSION,
        0,
        meta.index,
        meta.term,
        meta.log_time_ms,
        meta.lease_time_ms,
        meta.revision,
        meta.keys,
        meta.state_hash,
        len(configuration.members),
    )
    parts = [fixed, _encode_string(configuration.cluster_id)]
    for member in configuration.members:
        parts.append(bytes((_FLAG_VOTER * member.voter,)))
        for text in (member.id, member.client, member.peer, member.disk_id):
            parts.append(_encode_string(text))
    return encode_frame(KIND_HEADER, b"".join(parts))


def decode_header(body: bytes) -> SnapshotMeta:
    """Read the body of the first frame; the image hash is empty.

    Raises:
        SnapshotFormatError: The body does not add up.
        UnknownVersionError: It is of a later version.
    """
    version = int.from_bytes(body[:2], "little")
    if version > VERSION:
        raise UnknownVersionError(version)
    try:
        fields = _HEADER.unpack_from(body)
        count = fields[9]
        cluster_id, position = _decode_string(body, _HEADER.size)
        members = []
        for _ in range(count):
            flags = body[position]
            position += 1
            texts = []
            for _ in range(4):
                text, position = _decode_string(body, position)
                texts.append(text)
            members.append(
                Member(
                    id=NodeId(texts[0]),
                    client=texts[1],
                    peer=texts[2],
                    disk_id=texts[3],
                    voter=bool(flags & _FLAG_VOTER),
                )
            )
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise SnapshotFormatError(HEADER_SIZE, "the header does not add up") from error
    if position != len(body):
        raise SnapshotFormatError(HEADER_SIZE + position, "the header is longer than it says")
    return SnapshotMeta(
        index=Index(fields[2]),
        term=Term(fields[3]),
        configuration=Configuration(cluster_id, tuple(members)),
        state_hash=fields[8],
        image_hash=b"",
        log_time_ms=fields[4],
        lease_time_ms=fields[5],
        revision=fields[6],
        keys=fields[7],
    )


def encode_chunk(ordinal: int, pieces: list[bytes]) -> bytes:
    """Return one frame with some pieces, compressed."""
    parts = []
    for piece in pieces:
        parts.append(_PIECE.pack(len(piece)))
        parts.append(piece)
    unpacked = b"".join(parts)
    if len(unpacked) > CHUNK_BYTES_MAX:
        raise ValueError(f"a chunk of {len(unpacked)} bytes, above {CHUNK_BYTES_MAX}")
    packed = deflate.compress(unpacked, _COMPRESSION_LEVEL)
    head = _CHUNK.pack(ordinal, len(unpacked))
    return b"".join((encode_frame_header(KIND_CHUNK, (head, packed)), head, packed))


def decode_chunk(body: bytes, ordinal: int, position: int) -> list[bytes]:
    """Unpack the body of a chunk frame that is at `position` of the file.

    Raises:
        SnapshotFormatError: It is not the chunk expected, or does not unpack.
    """
    if len(body) < _CHUNK.size:
        raise SnapshotFormatError(position, "the chunk is too short")
    found, size = _CHUNK.unpack_from(body)
    if found != ordinal:
        raise SnapshotFormatError(position, f"chunk {found} stands where {ordinal} belongs")
    if size > CHUNK_BYTES_MAX:
        raise SnapshotFormatError(position, f"the chunk claims {size} bytes")
    unpacker = deflate.decompressobj()
    try:
        # Never unpack more than the chunk claims, whatever the bytes say.
        unpacked = unpacker.decompress(memoryview(body)[_CHUNK.size :], size + 1)
    except deflate.error as error:  # type: ignore[misc]  # isal's stubs call it an instance
        raise SnapshotFormatError(position, f"the chunk does not unpack: {error}") from error
    if len(unpacked) != size or not unpacker.eof or unpacker.unused_data:
        raise SnapshotFormatError(position, "the chunk unpacks to another size")
    pieces = []
    start = 0
    while start < size:
        if start + _PIECE.size > size:
            raise SnapshotFormatError(position, "the pieces of the chunk do not add up")
        (length,) = _PIECE.unpack_from(unpacked, start)
        start += _PIECE.size + length
        if start > size:
            raise SnapshotFormatError(position, "the pieces of the chunk do not add up")
        pieces.append(unpacked[start - length : start])
    return pieces


def encode_footer(footer: Footer) -> bytes:
    """Return the last frame of a file."""
    if len(footer.image_hash) != HASH_SIZE:
        raise ValueError(f"image hash of {len(footer.image_hash)} bytes, not {HASH_SIZE}")
    body = _FOOTER.pack(
        footer.chunks, footer.pieces, footer.image_bytes, footer.image_hash, footer.digest
    )
    return encode_frame(KIND_FOOTER, body)


def decode_footer(body: bytes, position: int) -> Footer:
    """Read the body of the last frame, which is at `position` of the file.

    Raises:
        SnapshotFormatError: The body does not add up.
    """
    if len(body) != _FOOTER.size:
        raise SnapshotFormatError(position, "the footer does not add up")
    chunks, pieces, image_bytes, image_hash, digest = _FOOTER.unpack(body)
    return Footer(
        chunks=chunks,
        pieces=pieces,
        image_bytes=image_bytes,
        image_hash=image_hash,
        digest=digest,
    )


def content_id(footer_frame: bytes) -> str:
    """Name of a whole file's content: 32 hex digits.

    The footer holds the digest of everything before it, so its own digest
    speaks for the file without another pass over it.
    """
    return hashlib.blake2b(footer_frame, digest_size=16).hexdigest()


# ------------------------------------------------------------------ walking


def read_frame(file: DiskFile, position: int, size: int) -> tuple[FrameHeader, bytes, bytes]:
    """Read and verify the frame at `position` of a file of `size` bytes.

    Returns:
        Its header decoded, its header's bytes, and its body.

    Raises:
        SnapshotFormatError: There is no intact frame.
    """
    head = file.read(position, HEADER_SIZE)
    header = decode_frame_header(head)
    if header is None:
        raise SnapshotFormatError(position, "no frame starts here")
    if position + HEADER_SIZE + header.length > size:
        raise SnapshotFormatError(position, "the frame reaches beyond the end of the file")
    body = file.read(position + HEADER_SIZE, header.length)
    if not verify_frame(header, body):
        raise SnapshotFormatError(position, "the frame is damaged")
    return header, head, body


def read_header(file: DiskFile, size: int) -> SnapshotMeta:
    """Read the first frame of a file; the image hash is empty.

    Raises:
        SnapshotFormatError: It is damaged.
        UnknownVersionError: It is of a later version.
    """
    header, _, body = read_frame(file, 0, size)
    if header.kind != KIND_HEADER:
        raise SnapshotFormatError(0, "the first frame is not a snapshot header")
    return decode_header(body)


def read_footer(file: DiskFile, size: int) -> tuple[Footer, bytes]:
    """Read the last frame of a file; returns it with its bytes.

    Raises:
        SnapshotFormatError: It is damaged or missing.
    """
    position = size - FOOTER_SIZE
    if position < HEADER_SIZE:
        raise SnapshotFormatError(0, "the file is too short to be a snapshot")
    header, head, body = read_frame(file, position, size)
    if header.kind != KIND_FOOTER:
        raise SnapshotFormatError(position, "the file does not end with a footer")
    return decode_footer(body, position), head + body


def walk(file: DiskFile, size: int) -> Iterator[list[bytes]]:
    """Yield the pieces of each chunk, in order, verifying everything.

    The last checks come after the last chunk: a caller that has not seen the
    generator end has not seen an intact snapshot.

    Raises:
        SnapshotFormatError: Something is damaged or missing.
        UnknownVersionError: It is of a later version.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
    position = 0
    chunks = pieces = image_bytes = 0
    while True:
        header, head, body = read_frame(file, position, size)
        if position == 0:
            if header.kind != KIND_HEADER:
                raise SnapshotFormatError(0, "the first frame is not a snapshot header")
            decode_header(body)
        elif header.kind == KIND_CHUNK:
            found = decode_chunk(body, chunks, position)
            chunks += 1
            pieces += len(found)
            image_bytes += sum(len(piece) for piece in found)
            yield found
        elif header.kind == KIND_FOOTER:
            break
        else:
            raise SnapshotFormatError(position, f"a frame of kind {header.kind}")
        digest.update(head)
        digest.update(body)
        position += HEADER_SIZE + header.length
    footer = decode_footer(body, position)
    if position + FOOTER_SIZE != size:
        raise SnapshotFormatError(position + FOOTER_SIZE, "bytes follow the footer")
    if footer.digest != digest.digest():
        raise SnapshotFormatError(position, "the digest of the whole file differs")
    if (footer.chunks, footer.pieces, footer.image_bytes) != (chunks, pieces, image_bytes):
        raise SnapshotFormatError(position, "the footer counts other chunks than there are")


def intact_bytes(file: DiskFile, size: int) -> int:
    """Position behind the last intact frame of a file that may be incomplete."""
    position = 0
    while position < size:
        try:
            header, _, _ = read_frame(file, position, size)
        except SnapshotFormatError:
            break
        position += HEADER_SIZE + header.length
    return position


def _encode_string(text: str) -> bytes:
    data = text.encode()
    return _STRING.pack(len(data)) + data


def _decode_string(body: bytes, position: int) -> tuple[str, int]:
    (length,) = _STRING.unpack_from(body, position)
    first = position + _STRING.size
    end = first + length
    if end > len(body):
        raise IndexError(end)
    return body[first:end].decode(), end

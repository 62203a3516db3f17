"""Bytes of the WAL: segment headers, batches, sync marks and the records inside.

Pure: no I/O. Owns the layout that `docs/reference/formats.md` describes byte by
byte; golden files in `tests/golden/` hold every version to it.

A segment is a file of fixed size, filled with zeros before use: a header frame,
then batch frames and sync marks without gaps, then zeros. Every frame behind
the header repeats the segment's tag (a digest of the header) and its own
position, so that neither bytes left over from elsewhere nor a frame that a
client hid inside a value can pass for one of this segment's.

Who calls: `storage.wal`, `storage.wal_recovery`, `storage.wal_reader`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.framing import HEADER_SIZE, decode_frame_header, encode_frame, verify_frame
from raftkv.types import HardState, Index, NodeId, Term

VERSION = 1
KIND_SEGMENT = 32
KIND_BATCH = 33
KIND_MARK = 34

DIRECTORY = "wal"
NEXT_NAME = "wal/next"
URGENT_NAME = "wal/urgent"
_SUFFIX = ".segment"
_NUMBER_DIGITS = 20

RECORD_ENTRY = 1
RECORD_HARD_STATE = 2
RECORD_TRUNCATE = 3
RECORD_SNAPSHOT = 4

# kind, flag (hard state: a vote follows), two zeros, payload length, index, term
RECORD_HEAD = struct.Struct("<BB2xIQQ")
# tag, own position, sequence, synced segment, synced end, commit hint, records, zero
BATCH_HEAD = struct.Struct("<8sQQQQQII")
_TAG_AND_POSITION = struct.Struct("<8sQ")
# version, flags, number, size, sequence, base index, base term, commit hint,
# hard state term, synced segment, synced end, previous end, previous digest,
# lengths of cluster id, disk id and vote, and whether there is a vote
_SEGMENT = struct.Struct("<HH4xQQQQQQQQQQ16sBBBB4x")

MARK_SIZE = HEADER_SIZE + BATCH_HEAD.size
RECORD_OVERHEAD = RECORD_HEAD.size
# Limit: three strings of at most 255 bytes.
SEGMENT_HEADER_SIZE_MAX = HEADER_SIZE + _SEGMENT.size + 3 * 255
DIGEST_SIZE = 16
NO_DIGEST = bytes(DIGEST_SIZE)


class SyncedEnd(NamedTuple):
    """Everything before this byte of this segment, and all segments before, is durable."""

    segment: int
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """First frame of a segment: what recovery needs without any older segment.

    Attributes:
        number: From 1, without gaps.
        size: Length of the file in bytes, taken before the segment is used.
        sequence: Highest write sequence number before this segment.
        base_index: Last index of the log before this segment.
        base_term: Term of the entry at `base_index`.
        commit_hint: A lower bound of the commit index at that moment.
        hard_state: Term and vote at that moment.
        synced: What was known to be durable at that moment.
        previous_end: Position behind the last frame of the previous segment; 0 for the first.
        previous_digest: Digest over the frame headers of the previous segment.
        cluster_id: Empty while the cluster is being founded.
        disk_id: Names the data directory.
    """

    number: int
    size: int
    sequence: int
    base_index: int
    base_term: int
    commit_hint: int
    hard_state: HardState
    synced: SyncedEnd
    previous_end: int
    previous_digest: bytes
    cluster_id: str
    disk_id: str


class Frame(NamedTuple):
    """One verified batch or mark; positions are those in the bytes it was decoded from."""

    kind: int
    position: int
    end: int
    sequence: int
    synced: SyncedEnd
    commit_hint: int
    record_count: int


class UnknownVersionError(Exception):
    """A segment header of a later version.

    Attributes:
        version: The one found.
    """

    def __init__(self, version: int) -> None:
        super().__init__(f"format version {version}")
        self.version = version


def segment_name(number: int) -> str:
    """Name of a segment's file in the data directory."""
    return f"{DIRECTORY}/{number:0{_NUMBER_DIGITS}d}{_SUFFIX}"


def parse_segment_name(name: str) -> int | None:
    """Number of a segment from its name inside the directory, or None for another file."""
    digits, dot, _ = name.partition(_SUFFIX)
    if not dot or name != digits + _SUFFIX or len(digits) != _NUMBER_DIGITS:
        return None
    return int(digits) if digits.isascii() and digits.isdigit() else None


# ------------------------------------------------------------ segment headers


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the first frame of a segment."""
    cluster_id = header.cluster_id.encode()
    disk_id = header.disk_id.encode()
    vote = (header.hard_state.vote or "").encode()
    fixed = _SEGMENT.pack(
        VERSION,
        0,
        header.number,
        header.size,
        header.sequence,
        header.base_index,
        header.base_term,
        header.commit_hint,
        header.hard_state.term,
        header.synced.segment,
        header.synced.position,
        header.previous_end,
        header.previous_digest,
        len(cluster_id),
        len(disk_id),
        len(vote),
        header.hard_state.vote is not None,
    )
    return encode_frame(KIND_SEGMENT, b"".join((fixed, cluster_id, disk_id, vote)))


def decode_segment_header(data: bytes) -> tuple[SegmentHeader, int] | None:
    """Read the frame at the beginning of a segment.

    Args:
        data: At least `SEGMENT_HEADER_SIZE_MAX` bytes of the file, if it has as many.

    Returns:
        The header and the position of the first batch, or None when the frame
        is damaged.

    Raises:
        UnknownVersionError: It is intact and of a later version.
    """
    frame = decode_frame_header(data)
    if frame is None or frame.kind != KIND_SEGMENT:
        return None
    end = HEADER_SIZE + frame.length
    body = data[HEADER_SIZE:end]
    if not verify_frame(frame, body):
        return None
    version = int.from_bytes(body[:2], "little")
    if version > VERSION:
        raise UnknownVersionError(version)
    try:
        return _decode_header_body(body), end
    except (struct.error, ValueError):
        return None


def _decode_header_body(body: bytes) -> SegmentHeader:
    """Read what a verified header frame holds; struct.error or ValueError if it does not add up."""
    fields = _SEGMENT.unpack_from(body)
    number, size, sequence, base_index, base_term, commit_hint, term = fields[2:9]
    synced_segment, synced_position, previous_end, previous_digest = fields[9:13]
    cluster_size, disk_size, vote_size, has_vote = fields[13:17]
    first = _SEGMENT.size
    cluster_end, disk_end = first + cluster_size, first + cluster_size + disk_size
    if len(body) != disk_end + vote_size:
        raise ValueError("the lengths do not add up")
    vote = NodeId(body[disk_end:].decode()) if has_vote else None
    return SegmentHeader(
        number=number,
        size=size,
        sequence=sequence,
        base_index=base_index,
        base_term=base_term,
        commit_hint=commit_hint,
        hard_state=HardState(Term(term), vote),
        synced=SyncedEnd(synced_segment, synced_position),
        previous_end=previous_end,
        previous_digest=previous_digest,
        cluster_id=body[first:cluster_end].decode(),
        disk_id=body[cluster_end:disk_end].decode(),
    )


def segment_tag(header_frame: bytes) -> bytes:
    """Eight bytes that every further frame of the segment repeats."""
    return hashlib.blake2b(header_frame, digest_size=8).digest()


# ----------------------------------------------------------- batches and marks


def encode_mark(
    tag: bytes, position: int, sequence: int, synced: SyncedEnd, commit_hint: int
) -> bytes:
    """Return a sync mark: a batch without records under its own kind."""
    body = BATCH_HEAD.pack(
        tag, position, sequence, synced.segment, synced.position, commit_hint, 0, 0
    )
    return encode_frame(KIND_MARK, body)


def decode_frame(
    data: bytes, position: int, end: int, tag: bytes | None, *, origin: int = 0
) -> Frame | None:
    """Read and verify the frame at `position` of `data`.

    Args:
        data: Bytes of the segment.
        position: Where in `data` the frame starts.
        end: The frame does not reach beyond this position of `data`.
        tag: The segment's, or None where its header is unreadable: then the
            position and the checksum have to do.
        origin: Position of the first byte of `data` in the segment.

    Returns:
        None when there is no intact frame of this segment.
    """
    header = decode_frame_header(data, position)
    if header is None or header.kind not in (KIND_BATCH, KIND_MARK):
        return None
    body = position + HEADER_SIZE
    frame_end = body + header.length
    if header.length < BATCH_HEAD.size or frame_end > end:
        return None
    # Cheap checks first: a value full of magics must not cost a checksum each.
    found_tag, found_position = _TAG_AND_POSITION.unpack_from(data, body)
    if found_position != origin + position or (tag is not None and found_tag != tag):
        return None
    if not verify_frame(header, memoryview(data)[body:frame_end]):
        return None
    fields = BATCH_HEAD.unpack_from(data, body)
    _, _, sequence, synced_segment, synced_position, commit_hint, count, _ = fields
    synced = SyncedEnd(synced_segment, synced_position)
    return Frame(header.kind, position, frame_end, sequence, synced, commit_hint, count)


def decode_records(data: bytes, frame: Frame) -> list[WalRecord] | None:
    """Read the records of a verified batch; None when they do not add up."""
    records: list[WalRecord] = []
    position = frame.position + HEADER_SIZE + BATCH_HEAD.size
    for _ in range(frame.record_count):
        payload = position + RECORD_HEAD.size
        if payload > frame.end:
            return None
        kind, flag, length, index, term = RECORD_HEAD.unpack_from(data, position)
        position = payload + length
        if position > frame.end:
            return None
        if kind == RECORD_ENTRY:
            records.append(EntryRecord(Index(index), Term(term), data[payload:position]))
        elif kind == RECORD_HARD_STATE:
            try:
                vote = NodeId(data[payload:position].decode()) if flag else None
            except UnicodeDecodeError:
                return None
            records.append(HardStateRecord(Term(term), vote))
        elif kind == RECORD_TRUNCATE:
            records.append(TruncateRecord(Index(index)))
        elif kind == RECORD_SNAPSHOT:
            records.append(SnapshotRecord(Index(index), Term(term)))
        else:
            return None
    return records if position == frame.end else None


def encode_records(records: Sequence[WalRecord]) -> tuple[list[bytes], int]:
    """Return the byte strings of all records, in order, and their total size.

    Payloads are the given objects, not copies. The first element of the list is
    a place for the batch head.
    """
    parts = [b""]
    size = 0
    pack = RECORD_HEAD.pack
    for record in records:
        if type(record) is EntryRecord:
            index, term, payload = record
            head = pack(RECORD_ENTRY, 0, len(payload), index, term)
        elif type(record) is HardStateRecord:
            payload = b"" if record.vote is None else record.vote.encode()
            flag = record.vote is not None
            head = pack(RECORD_HARD_STATE, flag, len(payload), 0, record.term)
        elif type(record) is TruncateRecord:
            payload = b""
            head = pack(RECORD_TRUNCATE, 0, 0, record.first, 0)
        elif type(record) is SnapshotRecord:
            payload = b""
            head = pack(RECORD_SNAPSHOT, 0, 0, record.index, record.term)
        else:
            raise TypeError(f"not a WAL record: {record!r}")
        parts.append(head)
        parts.append(payload)
        size += RECORD_HEAD.size + len(payload)
    return parts, size


def is_zero(data: bytes, first: int, end: int) -> bool:
    """Whether every byte in the half-open range is zero."""
    step = 65536
    zeros = bytes(step)
    for position in range(first, end, step):
        piece = data[position : min(position + step, end)]
        if piece != (zeros if len(piece) == step else bytes(len(piece))):
            return False
    return True

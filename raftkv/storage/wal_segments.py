"""Segments as files: taking space, starting the first one, syncing and closing.

Owns the blocking halves of what `Wal` does with files: `prepare` takes the
space for a segment, `SyncJob` makes appended frames durable and then writes the
mark that ends a segment which has a successor. Also the records that recovery
and `Wal` share.

Invariant: a file gets the name of a segment only when its whole length is
durable, so a shorter one is damaged, and appending to it takes no space.

Who calls: `storage.wal` and `storage.wal_recovery`; `prepare` and `SyncJob.run`
also on a worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from raftkv.engine.evicted import EvictedEntries
from raftkv.engine.ready import LogEntry
from raftkv.errors import DiskFailedError, DiskFullError
from raftkv.framing import HEADER_SIZE
from raftkv.seams import Disk, DiskFile
from raftkv.storage.spread_syncs import take_space
from raftkv.storage.wal_format import (
    DIGEST_SIZE,
    DIRECTORY,
    NO_DIGEST,
    URGENT_NAME,
    SegmentHeader,
    SyncedEnd,
    encode_segment_header,
    segment_name,
    segment_tag,
)
from raftkv.storage.wal_reader import EntryIndex
from raftkv.storage.wal_state import LogState
from raftkv.types import HardState, Term, WriteSequence


@dataclass(slots=True)
class Segment:
    """One segment as the owning thread keeps it.

    Attributes:
        number: From 1.
        size: Length of its file in bytes.
        tag: Repeated by each of its frames.
        base_index: Last index of the log before it.
        end: Position behind its last frame (without the mark that ends it).
        marked: A durable mark behind `end` says that the next segment exists.
    """

    number: int
    size: int
    tag: bytes
    base_index: int
    end: int
    marked: bool = False


@dataclass(slots=True)
class Recovered:
    """Everything that `Wal` continues from."""

    segments: list[Segment]
    digest: hashlib.blake2b
    state: LogState
    index: EntryIndex
    evicted: EvictedEntries
    entries: list[LogEntry]
    sequence: int
    synced: SyncedEnd
    restart: tuple[int, int] | None


class Prepared(NamedTuple):
    """A file full of zeros that is ready to become a segment."""

    name: str
    file: DiskFile
    size: int


class ClosingMark(NamedTuple):
    """A mark to be written behind the last frame of a segment that has a successor."""

    segment: Segment
    file: DiskFile
    frame: bytes


class SyncJob:
    """Makes everything appended before its creation durable.

    Attributes:
        sequence: Highest write sequence number it covers.
        end: Everything before it is durable when `run` has returned.
    """

    def __init__(
        self,
        disk: Disk,
        *,
        sequence: WriteSequence,
        end: SyncedEnd,
        files: dict[int, DiskFile],
        directory: bool,
        marks: list[ClosingMark],
    ) -> None:
        self._disk = disk
        self.sequence = sequence
        self.end = end
        self.files = files
        self.directory = directory
        self.marks = marks

    def run(self) -> None:
        """Sync; blocks, and may run on a worker.

        Raises:
            DiskFailedError: Never to be retried; the node must stop.
        """
        for file in self.files.values():
            file.sync()
        if self.directory:
            self._disk.sync_directory(DIRECTORY)
        # Only when the next segment is durable may the one before speak of it.
        for segment, file, frame in self.marks:
            write_taken(file, frame, segment.end)
            file.sync()


def write_taken(file: DiskFile, data: bytes, position: int) -> None:
    """Write where space was taken earlier.

    Raises:
        DiskFailedError: Also for missing space: some file systems take new space
            for each write, and a part of the frame may be in the file.
    """
    try:
        file.write(data, position)
    except DiskFullError as error:
        raise DiskFailedError(f"no space in a file whose space was taken: {error}") from error


def prepare(disk: Disk, name: str, size: int, *, spread: bool) -> Prepared:
    """Create a durable file of zeros; gives the space back where there is too little.

    Args:
        disk: Where.
        name: Of the file; one of that name is replaced.
        size: In bytes.
        spread: Sync it while it grows, because others write and sync meanwhile.
    """
    if disk.exists(name):
        disk.remove(name)
    file = disk.open(name, create=True)
    try:
        if spread:
            take_space(file, size)
        else:
            file.allocate(size)
            file.sync()
    except DiskFullError:
        file.close()
        disk.remove(name)
        raise
    return Prepared(name, file, size)


def grow(prepared: Prepared, size: int) -> Prepared:
    """Make a prepared file longer, durably; blocks.

    Raises:
        DiskFullError: There is too little space; the file keeps its length.
    """
    try:
        prepared.file.allocate(size)
        prepared.file.sync()
    except DiskFullError:
        prepared.file.truncate(prepared.size)
        raise
    return prepared._replace(size=size)


def make_segment(header: SegmentHeader, frame: bytes) -> Segment:
    """Return the segment that begins with `frame`, the encoded `header`."""
    return Segment(
        number=header.number,
        size=header.size,
        tag=segment_tag(frame),
        base_index=header.base_index,
        end=len(frame),
    )


def start_digest(header_frame: bytes) -> hashlib.blake2b:
    """Digest of a segment: over the first sixteen bytes of each of its frames.

    These hold each frame's checksum, so the digest speaks for the bodies too,
    at the price of hashing sixteen bytes a batch.
    """
    return hashlib.blake2b(header_frame[:HEADER_SIZE], digest_size=DIGEST_SIZE)


def create_first(disk: Disk, *, segment_bytes: int, cluster_id: str, disk_id: str) -> Recovered:
    """Create segment 1, durable on return."""
    prepared = prepare(disk, URGENT_NAME, segment_bytes, spread=False)
    hard_state = HardState(Term(0), None)
    header = SegmentHeader(
        number=1,
        size=segment_bytes,
        sequence=0,
        base_index=0,
        base_term=0,
        commit_hint=0,
        hard_state=hard_state,
        synced=SyncedEnd(1, 0),
        previous_end=0,
        previous_digest=NO_DIGEST,
        cluster_id=cluster_id,
        disk_id=disk_id,
    )
    frame = encode_segment_header(header)
    prepared.file.write(frame, 0)
    prepared.file.sync()
    prepared.file.close()
    disk.rename(URGENT_NAME, segment_name(1))
    disk.sync_directory(DIRECTORY)
    return Recovered(
        segments=[make_segment(header, frame)],
        digest=start_digest(frame),
        state=LogState(base_index=0, base_term=0, hard_state=hard_state, commit_hint=0),
        index=EntryIndex(),
        evicted=EvictedEntries(0, 0),
        entries=[],
        sequence=0,
        synced=SyncedEnd(1, len(frame)),
        restart=None,
    )

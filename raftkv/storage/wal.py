"""The WAL: files that make term, vote and log durable.

Owns the segments in `wal/`: appending one batch a step, starting segments,
saying which write sequence numbers are durable, removing what a snapshot
covers. Does not decide when to sync or to compact; does not know what an entry
means.

Invariants: one write a step; a write sequence number covers everything before
it; a segment is only used when its whole length is on the disk, so appending to
it takes no space; removal goes from the oldest segment on; after a failed write
or sync the object refuses to go on.

Who calls: the one thread that owns the replica. `prepare_segment`,
`SyncJob.run`, `ReadJob.run` and `remove_segments` may run on a worker
meanwhile; they share no changing state with the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from raftkv.engine.ready import LogEntry, RecoveredLog, SnapshotRecord, WalRecord
from raftkv.errors import DiskFailedError
from raftkv.framing import HEADER_SIZE, encode_frame_header
from raftkv.seams import Disk, DiskFile, Observer
from raftkv.storage.damage import damaged
from raftkv.storage.wal_format import (
    BATCH_HEAD,
    DIRECTORY,
    KIND_BATCH,
    MARK_SIZE,
    NEXT_NAME,
    RECORD_OVERHEAD,
    SEGMENT_HEADER_SIZE_MAX,
    URGENT_NAME,
    SegmentHeader,
    SyncedEnd,
    encode_mark,
    encode_records,
    encode_segment_header,
    segment_name,
)
from raftkv.storage.wal_reader import ReadJob
from raftkv.storage.wal_recovery import Recovery
from raftkv.storage.wal_segments import (
    ClosingMark,
    Prepared,
    Recovered,
    Segment,
    SyncJob,
    create_first,
    grow,
    make_segment,
    prepare,
    start_digest,
    write_taken,
)
from raftkv.types import Index, Term, WriteSequence

# Bytes of each segment that entries leave free for hard state, configuration
# and marks, so that a node whose disk is full can still vote and step down.
RESERVE_BYTES = 64 * 1024
# Limit: a segment holds at least a header, a few small batches and marks.
SEGMENT_BYTES_MIN = 4096
# Bytes of a frame besides its records, and of a record besides its payload.
FRAME_OVERHEAD_BYTES = MARK_SIZE
RECORD_OVERHEAD_BYTES = RECORD_OVERHEAD


class Wal:
    """The write-ahead log of one node; made by `recover`."""

    def __init__(
        self,
        disk: Disk,
        *,
        segment_bytes: int,
        cluster_id: str,
        disk_id: str,
        recovered: Recovered,
    ) -> None:
        last = recovered.segments[-1]
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._cluster_id = cluster_id
        self._disk_id = disk_id
        self._segments = recovered.segments
        self._digest = recovered.digest
        self._state = recovered.state
        self._index = recovered.index
        self._restart = recovered.restart
        self._restart_sequence = 0
        self._sequence = recovered.sequence
        self._synced_sequence = recovered.sequence
        self._synced = recovered.synced
        self._file = disk.open(segment_name(last.number))
        self._position = last.end
        self._marked_end = last.end
        self._prepared: Prepared | None = None
        self._unsynced: dict[int, DiskFile] = {}
        self._unmarked: list[tuple[Segment, DiskFile]] = []
        self._directory_changed = False
        self._job: SyncJob | None = None
        self._failed = False
        self._set_limits()

    @classmethod
    def recover(
        cls,
        disk: Disk,
        *,
        segment_bytes: int,
        observer: Observer,
        cluster_id: str = "",
        disk_id: str = "",
        must_exist: bool = False,
        memory_bytes_max: int = sys.maxsize,
    ) -> tuple[Wal, RecoveredLog]:
        """Read the WAL, drop a torn tail, and be ready to append.

        Everything recovered is durable on return. Creates the first segment in
        a new directory.

        Args:
            disk: The data directory, locked by this process.
            segment_bytes: Size of new segments in bytes; at least
                `SEGMENT_BYTES_MIN`.
            observer: Hears `wal_tail_dropped` (file, position, bytes, segments,
                detail) when an unsynced tail was dropped.
            cluster_id: Segments of another cluster are refused; empty while it
                is not known.
            disk_id: Segments of another data directory are refused.
            must_exist: The identity says that there was a WAL.
            memory_bytes_max: Of the entries that are committed for certain only
                the newest are returned, up to this; the others can be read.

        Raises:
            DamagedDataError: Something that had been durable is damaged,
                missing or foreign. Nothing was changed.
            DiskFullError: There is no space for the first segment.
            DiskFailedError: The disk failed.
            ValueError: `segment_bytes` is too small.
        """
        if segment_bytes < SEGMENT_BYTES_MIN:
            raise ValueError(f"segment_bytes is {segment_bytes}, below {SEGMENT_BYTES_MIN}")
        recovery = Recovery(
            disk,
            cluster_id=cluster_id,
            disk_id=disk_id,
            observer=observer,
            memory_bytes_max=memory_bytes_max,
        )
        recovered = recovery.run()
        if recovered is None:
            if must_exist:
                raise damaged(disk, DIRECTORY, 0, "all segments of the WAL are missing")
            recovered = create_first(
                disk, segment_bytes=segment_bytes, cluster_id=cluster_id, disk_id=disk_id
            )
        wal = cls(
            disk,
            segment_bytes=segment_bytes,
            cluster_id=cluster_id,
            disk_id=disk_id,
            recovered=recovered,
        )
        log = RecoveredLog(
            hard_state=recovered.state.hard_state,
            base_index=Index(recovered.evicted.base_index),
            base_term=Term(recovered.evicted.base_term),
            entries=recovered.entries,
            commit_hint=Index(recovered.state.commit_hint),
            sequence=WriteSequence(recovered.sequence),
            evicted=recovered.evicted,
        )
        return wal, log

    # ---------------------------------------------------------- appending

    @property
    def last_sequence(self) -> WriteSequence:
        """Highest write sequence number written."""
        return WriteSequence(self._sequence)

    @property
    def synced_sequence(self) -> WriteSequence:
        """Highest write sequence number that is durable."""
        return WriteSequence(self._synced_sequence)

    @property
    def last_index(self) -> Index:
        """Last index of the log."""
        return Index(self._state.last_index)

    def set_cluster_id(self, cluster_id: str) -> None:
        """Name the cluster in segments started from now on."""
        self._cluster_id = cluster_id

    def append(
        self,
        sequence: WriteSequence,
        records: Sequence[WalRecord],
        commit_hint: Index,
        *,
        reserve: bool = False,
    ) -> None:
        """Write the records of one step as one frame, without making them durable.

        Until a sync job with at least this sequence has run, a crash keeps the
        whole frame or nothing of it, and nothing of any frame behind it.

        Args:
            sequence: Above every earlier one; gaps are fine.
            records: In order; entries continue the log without gaps.
            commit_hint: A lower bound of the commit index.
            reserve: May use the bytes kept for hard state, configuration and
                marks.

        Raises:
            DiskFullError: A segment had to be started and there is no space for
                it; nothing was written and nothing changed. Cannot happen for a
                frame of at most `room_bytes`.
            DiskFailedError: The node must stop.
            ValueError: The records do not continue the log. The node must stop.
        """
        parts, size = encode_records(records)
        self._begin(sequence, MARK_SIZE + size, reserve=reserve)
        self._failed = True
        self._state.apply(records)
        segment = self._segments[-1]
        position = self._position
        self._index.add(records, segment.number, position)
        for record in records:
            if type(record) is SnapshotRecord:
                self._restart = (segment.number, record.index)
                self._restart_sequence = sequence
        if commit_hint > self._state.commit_hint:
            self._state.commit_hint = commit_hint
        synced_segment, synced_position = self._synced
        parts[0] = BATCH_HEAD.pack(
            segment.tag,
            position,
            sequence,
            synced_segment,
            synced_position,
            commit_hint,
            len(records),
            0,
        )
        header = encode_frame_header(KIND_BATCH, tuple(parts))
        self._write(sequence, header, b"".join((header, *parts)))

    def mark(self, sequence: WriteSequence) -> bool:
        """Write a sync mark: everything before it is durable, and a later reader can tell.

        Call it when everything is synced and nothing else is to be written, and
        sync afterwards. Damage before a mark is always recognised as damage.

        Args:
            sequence: Above every earlier one; used only if a mark is written.

        Returns:
            Whether a mark was written. False when the newest frame is one,
            when something is not synced, and when the space left is kept for
            records.
        """
        if self._synced_sequence != self._sequence or self._position == self._marked_end:
            return False
        if self._position + MARK_SIZE > self._reserve_limit:
            return False
        self._begin(sequence, MARK_SIZE, reserve=True)
        frame = encode_mark(
            self._segments[-1].tag,
            self._position,
            sequence,
            self._synced,
            self._state.commit_hint,
        )
        self._write(sequence, frame[:HEADER_SIZE], frame)
        self._marked_end = self._position
        return True

    def _begin(self, sequence: int, size: int, *, reserve: bool) -> None:
        """Check the order of writes and make room for a frame of `size` bytes."""
        if self._failed:
            raise DiskFailedError("the WAL has failed and cannot be written")
        if sequence <= self._sequence:
            raise ValueError(f"write {sequence} follows write {self._sequence}")
        limit = self._reserve_limit if reserve else self._entry_limit
        if self._position + size > limit:
            self._start_segment(size, reserve=reserve)

    def _write(self, sequence: int, header: bytes, frame: bytes) -> None:
        """Write one frame at the end of the current segment."""
        self._failed = True
        write_taken(self._file, frame, self._position)
        self._failed = False
        self._digest.update(header)
        segment = self._segments[-1]
        self._position += len(frame)
        segment.end = self._position
        self._sequence = sequence
        self._unsynced[segment.number] = self._file

    # ----------------------------------------------------------- segments

    def frame_bytes(self, records: Sequence[WalRecord]) -> int:
        """Size of the frame that `append` would write for these records, in bytes."""
        return MARK_SIZE + encode_records(records)[1]

    def room_bytes(self) -> int:
        """Size of the biggest frame that can be appended without taking space.

        Counts what is left of the current segment or the whole of the prepared
        one, whichever is more, each without its reserve. A small number does
        not mean that the disk is full: a segment may be waiting to be prepared.
        """
        room = self._entry_limit - self._position
        prepared = self._prepared
        if prepared is not None:
            whole = prepared.size - SEGMENT_HEADER_SIZE_MAX - self._kept_bytes(reserve=False)
            room = max(room, whole)
        return max(0, room)

    def needs_segment(self) -> bool:
        """Whether `prepare_segment` has something to do."""
        return self._prepared is None

    def can_take_segment(self, frame_bytes: int) -> bool:
        """Whether a segment could be started without a prepared one, as far as one can see.

        Counts twice what it takes: the worker may be taking the same at this moment.
        """
        needed = SEGMENT_HEADER_SIZE_MAX + frame_bytes + self._kept_bytes(reserve=False)
        return self._disk.free_bytes() >= 2 * max(self._segment_bytes, needed)

    def prepare_segment(self, frame_bytes: int = 0) -> None:
        """Take the space for the next segment. Blocks; run it on a worker.

        Fine to call again; not to be called twice at the same time, nor with
        `frame_bytes` while `append` may run.

        Args:
            frame_bytes: Make the segment large enough for a frame of this size,
                also when one is prepared already. 0 where the log is written and
                synced meanwhile, which is then held up as little as possible.

        Raises:
            DiskFullError: There is no space; what was taken for nothing is given back.
            DiskFailedError: The node must stop.
        """
        needed = SEGMENT_HEADER_SIZE_MAX + frame_bytes + self._kept_bytes(reserve=False)
        prepared = self._prepared
        if prepared is None:
            size = max(self._segment_bytes, needed)
            self._prepared = prepare(self._disk, NEXT_NAME, size, spread=not frame_bytes)
        elif prepared.size < needed:
            self._prepared = grow(prepared, needed)

    def _kept_bytes(self, *, reserve: bool) -> int:
        """Bytes at the end of a segment that a frame may not use."""
        if reserve:
            return MARK_SIZE
        return MARK_SIZE + min(RESERVE_BYTES, self._segment_bytes // 8)

    def _set_limits(self) -> None:
        size = self._segments[-1].size
        self._entry_limit = size - self._kept_bytes(reserve=False)
        self._reserve_limit = size - self._kept_bytes(reserve=True)

    def _start_segment(self, frame_size: int, *, reserve: bool) -> None:
        """Go on in a new segment that has room for a frame of `frame_size` bytes."""
        needed = SEGMENT_HEADER_SIZE_MAX + frame_size + self._kept_bytes(reserve=reserve)
        prepared = self._take_prepared(needed)
        sealed = self._segments[-1]
        number = sealed.number + 1
        header = SegmentHeader(
            number=number,
            size=prepared.size,
            sequence=self._sequence,
            base_index=self._state.last_index,
            base_term=self._state.last_term or 0,
            commit_hint=self._state.commit_hint,
            hard_state=self._state.hard_state,
            synced=self._synced,
            previous_end=sealed.end,
            previous_digest=self._digest.digest(),
            cluster_id=self._cluster_id,
            disk_id=self._disk_id,
        )
        frame = encode_segment_header(header)
        self._failed = True
        write_taken(prepared.file, frame, 0)
        self._disk.rename(prepared.name, segment_name(number))
        self._failed = False
        self._unmarked.append((sealed, self._file))
        self._directory_changed = True
        self._file = prepared.file
        self._segments.append(make_segment(header, frame))
        self._digest = start_digest(frame)
        self._position = len(frame)
        self._marked_end = -1
        self._set_limits()

    def _take_prepared(self, needed: int) -> Prepared:
        """Return a file of at least `needed` bytes; changes nothing if there is no space."""
        prepared = self._prepared
        if prepared is None:
            return prepare(self._disk, URGENT_NAME, max(self._segment_bytes, needed), spread=False)
        if prepared.size < needed:
            # A single frame may be larger than a whole segment.
            prepared = grow(prepared, needed)
        self._prepared = None
        return prepared

    # ------------------------------------------------------------- syncing

    def sync_job(self) -> SyncJob | None:
        """Return a job that makes everything written so far durable.

        Returns:
            None when everything is durable, or while another job is in flight.
        """
        if self._job is not None or self._sequence == self._synced_sequence:
            return None
        ends = {segment.number: segment.end for segment in self._segments}
        marks = []
        for segment, file in self._unmarked:
            synced = SyncedEnd(segment.number + 1, ends[segment.number + 1])
            frame = encode_mark(
                segment.tag, segment.end, self._sequence, synced, self._state.commit_hint
            )
            marks.append(ClosingMark(segment, file, frame))
        self._job = SyncJob(
            self._disk,
            sequence=WriteSequence(self._sequence),
            end=SyncedEnd(self._segments[-1].number, self._position),
            files=self._unsynced,
            directory=self._directory_changed,
            marks=marks,
        )
        self._unsynced = {}
        self._unmarked = []
        self._directory_changed = False
        return self._job

    @property
    def has_unsynced_segment(self) -> bool:
        """Whether a finished segment waits for a sync job, and its files and compaction with it.

        Whoever does not sync by itself has to run a job when this is true:
        until then nothing before that segment's successor can be removed.
        """
        return bool(self._unmarked)

    def finished(self, job: SyncJob) -> None:
        """Note that a job has run without an error.

        Raises:
            ValueError: It is not the job in flight.
        """
        if job is not self._job:
            raise ValueError("this sync job is not the one in flight")
        self._job = None
        self._synced_sequence = job.sequence
        self._synced = job.end
        for segment, file, _ in job.marks:
            segment.marked = True
            file.close()

    # ---------------------------------------------------------- compaction

    def retained_from(self) -> Index:
        """First index that is still in the files."""
        oldest = self._segments[0]
        if self._restart is not None and self._restart[0] >= oldest.number:
            return Index(self._restart[1] + 1)
        return Index(oldest.base_index + 1)

    def log_bytes(self) -> int:
        """Size of everything that recovery would read, in bytes, without unused space."""
        return sum(segment.end for segment in self._segments)

    def compact(self, index: Index) -> list[str]:
        """Forget the segments whose entries are all at or below `index`.

        Args:
            index: Covered by a durable snapshot, and committed.

        Returns:
            Names for `remove_segments`, oldest first.
        """
        names = []
        while len(self._segments) > 1:
            oldest, following = self._segments[0], self._segments[1]
            if not oldest.marked or following.number > self._synced.segment:
                break
            if following.base_index > index and not self._is_behind_restart(oldest, index):
                break
            del self._segments[0]
            names.append(segment_name(oldest.number))
        if names:
            self._index.forget_before(self._segments[0].number)
        return names

    def _is_behind_restart(self, segment: Segment, index: int) -> bool:
        """Whether the log starts again, durably, in a later segment."""
        if self._restart is None or self._restart_sequence > self._synced_sequence:
            return False
        number, restart_index = self._restart
        return segment.number < number and restart_index <= index

    def remove_segments(self, names: Sequence[str]) -> None:
        """Delete what `compact` returned. Blocks; may run on a worker.

        Each removal is durable before the next, so that a crash leaves no hole.

        Raises:
            DiskFailedError: The node must stop.
        """
        for name in names:
            self._disk.remove(name)
            self._disk.sync_directory(DIRECTORY)

    # ------------------------------------------------------------- reading

    def read_job(self, first: Index, last: Index, bytes_max: int) -> ReadJob:
        """Return a job that reads entries back from the files, on any thread.

        Args:
            first: At or above `retained_from`.
            last: Inclusive; cut to the end of the log.
            bytes_max: Stop before the commands exceed this, but not before one.

        Raises:
            ValueError: `first` has been compacted away.
        """
        if first < self.retained_from():
            raise ValueError(f"entry {first} is below the first kept, {self.retained_from()}")
        ends = {segment.number: segment.end for segment in self._segments}
        tags = {segment.number: segment.tag for segment in self._segments}
        last = Index(min(last, self._state.last_index))
        stretches = self._index.plan(first, last, ends, tags, bytes_max)
        return ReadJob(self._disk, stretches, bytes_max)

    def read(self, first: Index, last: Index, bytes_max: int) -> list[LogEntry]:
        """Read entries back at once; see `read_job`."""
        return self.read_job(first, last, bytes_max).run()

    def close(self) -> None:
        """Release all files; does not sync."""
        self._failed = True
        self._file.close()
        for _, file in self._unmarked:
            file.close()
        if self._prepared is not None:
            self._prepared.file.close()

"""Reading the WAL at start: what is there, what is torn, what is damaged.

Owns the decision that matters most after a crash. Bytes that cannot be read are
torn when no sync had covered them, and are dropped; they are damaged when one
had, and then the node must not run: it may have voted, or acknowledged entries,
by them. The proof is in the frames: each carries the end of the last sync that
was complete when it was written. So at the first byte that cannot be trusted,
everything behind it is searched for frames, and the highest synced end found
anywhere decides (ADR 0011).

Invariants: nothing is written to the files unless the damage is proven to be a
torn tail; on return, everything recovered is durable, and zeros follow it.

Who calls: `storage.wal`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from raftkv.engine.evicted import (
    ENTRY_OVERHEAD_BYTES,
    EvictedEntries,
    excess,
    memory_bytes,
)
from raftkv.engine.ready import EntryRecord, LogEntry, SnapshotRecord, TruncateRecord, WalRecord
from raftkv.errors import DamagedDataError
from raftkv.framing import HEADER_SIZE, MAGIC
from raftkv.seams import Disk, DiskFile, Observer
from raftkv.storage.damage import damaged, too_new
from raftkv.storage.wal_format import (
    DIGEST_SIZE,
    DIRECTORY,
    KIND_MARK,
    MARK_SIZE,
    NEXT_NAME,
    SEGMENT_HEADER_SIZE_MAX,
    URGENT_NAME,
    VERSION,
    Frame,
    SegmentHeader,
    SyncedEnd,
    UnknownVersionError,
    decode_frame,
    decode_records,
    decode_segment_header,
    encode_mark,
    is_zero,
    parse_segment_name,
    segment_name,
    segment_tag,
)
from raftkv.storage.wal_reader import EntryIndex
from raftkv.storage.wal_segments import Recovered, Segment, write_taken
from raftkv.storage.wal_state import LogState

_ZEROS = bytes(256 * 1024)


class _Header(NamedTuple):
    """A segment's first frame, verified."""

    header: SegmentHeader
    first: int
    tag: bytes


class _Point(NamedTuple):
    """The first byte that cannot be trusted."""

    segment: int
    position: int
    detail: str


@dataclass(slots=True)
class _Replay:
    """What the frames read so far add up to."""

    state: LogState
    evicted: EvictedEntries
    sequence: int
    memory_bytes_max: int
    # A truncation went below the base, so the term there is in no file. That
    # happens below a snapshot only, else the older segment would not have been
    # removed. The next entry becomes the base; without one, the log is shorter
    # than the snapshot, and whoever recovers restarts it there.
    baseless: bool = False
    restart: tuple[int, int] | None = None
    entries: list[LogEntry] = field(default_factory=list)
    memory_bytes: int = 0
    index: EntryIndex = field(default_factory=EntryIndex)

    def add(self, records: list[WalRecord], segment: int, position: int) -> None:
        """Replay one batch; raises ValueError where it does not continue the log."""
        self.state.apply(records)
        self.index.add(records, segment, position)
        entries = self.entries
        for record in records:
            if type(record) is EntryRecord:
                if self.baseless:
                    self._restart_at(record.index, record.term)
                else:
                    entries.append((record.command, record.index, record.term))
                    self.memory_bytes += len(record.command) + ENTRY_OVERHEAD_BYTES
            elif type(record) is TruncateRecord:
                self._truncate(record.first)
            elif type(record) is SnapshotRecord:
                self._restart_at(record.index, record.term)
                self.restart = (segment, record.index)

    def _restart_at(self, index: int, term: int) -> None:
        self.baseless = False
        self.evicted = EvictedEntries(index, term)
        self.entries.clear()
        self.memory_bytes = 0

    def _truncate(self, first: int) -> None:
        evicted = self.evicted
        if first > evicted.last_index:
            position = first - evicted.last_index - 1
            self.memory_bytes -= memory_bytes(self.entries[position:])
            del self.entries[position:]
        elif evicted.last_index > evicted.base_index:
            raise ValueError(f"a truncation at {first}, where {evicted.last_index} is committed")
        else:
            self._restart_at(first - 1, 0)
            self.baseless = True

    def evict(self) -> None:
        """Let go of the oldest entries that are committed, if there are too many."""
        surplus = self.memory_bytes - self.memory_bytes_max
        if surplus <= 0:
            return
        committed = min(self.state.commit_hint, self.state.last_index)
        count = excess(
            self.entries,
            0,
            committed - self.evicted.last_index,
            # A little more than needed, so that it is not done at every frame.
            bytes_excess=surplus + self.memory_bytes_max // 8,
        )
        dropped = self.entries[:count]
        self.evicted.add(dropped)
        del self.entries[:count]
        self.memory_bytes -= memory_bytes(dropped)


class Recovery:
    """One reading of all segments; used once."""

    def __init__(
        self,
        disk: Disk,
        *,
        cluster_id: str,
        disk_id: str,
        observer: Observer,
        memory_bytes_max: int,
    ) -> None:
        self._disk = disk
        self._memory_bytes_max = memory_bytes_max
        self._cluster_id = cluster_id
        self._disk_id = disk_id
        self._observer = observer
        self._headers: dict[int, _Header | None] = {}
        self._files: dict[int, DiskFile] = {}
        self._segments: list[Segment] = []
        self._digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
        self._claimed = SyncedEnd(0, 0)
        self._proof = SyncedEnd(0, 0)
        self._last_mark = -1

    def run(self) -> Recovered | None:
        """Read everything, drop a torn tail, make the rest durable.

        Returns:
            None when there is no segment.

        Raises:
            DamagedDataError: Something durable is damaged, missing or foreign.
        """
        try:
            return self._run()
        finally:
            for file in self._files.values():
                file.close()

    def _run(self) -> Recovered | None:
        self._disk.make_directory(DIRECTORY)
        for leftover in (NEXT_NAME, URGENT_NAME):
            if self._disk.exists(leftover):
                self._disk.remove(leftover)
        numbers = [parse_segment_name(name) for name in self._disk.names(DIRECTORY)]
        for number in sorted(number for number in numbers if number is not None):
            self._headers[number] = self._read_header(number)
        if not self._headers:
            return None
        oldest = min(self._headers)
        first = self._headers[oldest]
        if first is None:
            # Older segments are only removed when this one is durable.
            raise self._damaged(_Point(oldest, 0, "the segment header is damaged"))
        replay = self._start_replay(first.header)
        point = self._read_segments(replay)
        self._decide(point, replay)
        self._settle(replay)
        # A truncation in the oldest segment may have gone below where that began.
        lowest = self._segments[0]
        lowest.base_index = min(lowest.base_index, replay.evicted.base_index)
        return Recovered(
            segments=self._segments,
            digest=self._digest,
            state=replay.state,
            index=replay.index,
            evicted=replay.evicted,
            entries=replay.entries,
            sequence=replay.sequence,
            synced=SyncedEnd(self._segments[-1].number, self._segments[-1].end),
            restart=replay.restart,
        )

    # ------------------------------------------------------------- reading

    def _read_header(self, number: int) -> _Header | None:
        name = segment_name(number)
        file = self._disk.open(name)
        self._files[number] = file
        data = file.read(0, SEGMENT_HEADER_SIZE_MAX)
        size = file.size()
        try:
            decoded = decode_segment_header(data)
        except UnknownVersionError as error:
            raise too_new(self._disk, name, version=error.version, supported=VERSION) from error
        # A segment gets its number only when its whole length is durable.
        if size < (decoded[0].size if decoded else SEGMENT_HEADER_SIZE_MAX):
            raise self._damaged(_Point(number, size, "the file is shorter than it was made"))
        if decoded is None:
            return None
        header, first = decoded
        if header.number != number:
            # Two unsynced renames of which only the later reached the disk; whether
            # this number had been durable is for the proof to say.
            return None
        for what, found, expected in (
            ("cluster", header.cluster_id, self._cluster_id),
            ("data directory", header.disk_id, self._disk_id),
        ):
            if found and expected and found != expected:
                detail = f"the segment belongs to {what} {found}, not to {expected}"
                raise self._damaged(_Point(number, 0, detail))
        return _Header(header, first, segment_tag(data[:first]))

    def _start_replay(self, header: SegmentHeader) -> _Replay:
        state = LogState(
            base_index=header.base_index,
            base_term=header.base_term,
            hard_state=header.hard_state,
            commit_hint=header.commit_hint,
        )
        return _Replay(
            state,
            EvictedEntries(header.base_index, header.base_term),
            header.sequence,
            self._memory_bytes_max,
        )

    def _read_segments(self, replay: _Replay) -> _Point | None:
        """Read segment after segment up to the first byte that cannot be trusted."""
        newest = max(self._headers)
        for number in range(min(self._headers), newest + 1):
            if number not in self._headers:
                return _Point(number, 0, "the segment is missing")
            found = self._headers[number]
            if found is None:
                return _Point(number, 0, "the segment header is damaged")
            if self._segments:
                self._check_chain(found.header, replay)
            following = self._headers.get(number + 1)
            point = self._read_segment(found, following.header if following else None, replay)
            if point is not None:
                return point
        return None

    def _check_chain(self, header: SegmentHeader, replay: _Replay) -> None:
        """Compare a header with what all older segments add up to."""
        state = replay.state
        found = (header.base_index, header.hard_state)
        expected = (state.last_index, state.hard_state)
        same_term = state.last_term is None or header.base_term == state.last_term
        if header.previous_digest != self._digest.digest():
            detail = "the previous segment is not the one this segment was started after"
        elif found != expected or not same_term or header.sequence < replay.sequence:
            detail = "the segment does not continue the previous one"
        else:
            replay.sequence = header.sequence
            state.commit_hint = max(state.commit_hint, header.commit_hint)
            return
        raise self._damaged(_Point(header.number, 0, detail))

    def _read_segment(
        self, found: _Header, following: SegmentHeader | None, replay: _Replay
    ) -> _Point | None:
        """Read one segment; `following` is the header of the next, if that is readable."""
        header, position, tag = found
        number = header.number
        self._note(header.synced)
        data = self._files[number].read(0, header.size)
        limit = len(data) if following is None else following.previous_end
        segment = Segment(number, header.size, tag, header.base_index, position)
        self._segments.append(segment)
        self._digest = hashlib.blake2b(data[:HEADER_SIZE], digest_size=DIGEST_SIZE)
        self._last_mark = -1
        while position < limit:
            frame = decode_frame(data, position, limit, tag)
            if frame is None:
                break
            self._replay_frame(data, frame, number, replay)
            self._digest.update(data[position : position + HEADER_SIZE])
            position = segment.end = frame.end
        if following is not None:
            if position > limit:
                detail = f"the segment says that the previous one ends at byte {limit}"
                raise self._damaged(_Point(following.number, 0, detail))
            if position < limit:
                return _Point(number, position, "the frame is damaged")
            self._read_closing_mark(segment, data)
            return None
        if not is_zero(data, position, len(data)):
            return _Point(number, position, "the frame is damaged")
        return None

    def _replay_frame(self, data: bytes, frame: Frame, number: int, replay: _Replay) -> None:
        records = decode_records(data, frame)
        try:
            if records is None:
                raise ValueError("a record that this version does not know")
            if frame.sequence <= replay.sequence:
                raise ValueError(f"write {frame.sequence} follows write {replay.sequence}")
            replay.add(records, number, frame.position)
        except ValueError as error:
            # The checksum holds, so no crash and no rot made this.
            detail = f"an intact frame does not continue the log: {error}"
            raise self._damaged(_Point(number, frame.position, detail)) from error
        replay.sequence = frame.sequence
        replay.state.commit_hint = max(replay.state.commit_hint, frame.commit_hint)
        replay.evict()
        self._note(frame.synced)
        self._last_mark = frame.position if frame.kind == KIND_MARK else -1

    def _read_closing_mark(self, segment: Segment, data: bytes) -> None:
        """Look behind the last frame of a segment that has a successor."""
        mark = decode_frame(data, segment.end, len(data), segment.tag)
        if mark is not None and mark.kind == KIND_MARK:
            self._proof = max(self._proof, mark.synced)
            segment.marked = True
        rest = segment.end + MARK_SIZE
        if not is_zero(data, rest, len(data)):
            # Nothing is ever written there, and it was zero when it was synced.
            raise self._damaged(_Point(segment.number, rest, "the rest is not zero"))

    def _note(self, synced: SyncedEnd) -> None:
        """Take note of what a frame of the log claims.

        A closing mark claims the segment behind it before its own sync has ended; any
        other frame, only what a whole sync with all of its marks has covered.
        """
        self._claimed = max(self._claimed, synced)
        self._proof = max(self._proof, synced)

    # ------------------------------------------------------------- deciding

    def _decide(self, point: _Point | None, replay: _Replay) -> None:
        """Tell a torn tail from damage, and drop it."""
        if point is not None:
            self._search(point, replay)
        for segment in self._segments[:-1]:
            # The closing mark is durable before any frame claims a synced end
            # in the next segment.
            if not segment.marked and self._proof.segment > segment.number:
                detail = "the sync mark that ends the segment is damaged"
                raise self._damaged(_Point(segment.number, segment.end, detail))
        last = self._segments[-1]
        if point is None:
            # All is readable; but a mark may speak of more than there is.
            point = _Point(last.number, last.end, "frames are missing")
            if self._proof.segment > last.number:
                point = _Point(last.number + 1, 0, "the segment is missing")
            if self._proof > (point.segment, point.position):
                raise self._damaged(point)
            return
        if self._proof > (point.segment, point.position):
            raise self._damaged(point)
        self._drop(point)

    def _search(self, point: _Point, replay: _Replay) -> None:
        """Collect what frames behind the damage say of completed syncs."""
        for number, found in self._headers.items():
            if number < point.segment:
                continue
            position = point.position + 1 if number == point.segment else 0
            if found is not None and number > point.segment:
                self._note(found.header.synced)
            file = self._files[number]
            data = file.read(0, found.header.size if found else file.size())
            while (position := data.find(MAGIC, position)) >= 0:
                frame = decode_frame(data, position, len(data), found.tag if found else None)
                position += 1
                if frame is not None:
                    self._note(frame.synced)
                    # A number given once is never given again, even if its write is dropped.
                    replay.sequence = max(replay.sequence, frame.sequence)
                    position = frame.end

    def _drop(self, point: _Point) -> None:
        """Remove everything from `point` on; no sync had covered it."""
        last = self._segments[-1]
        dropped = sorted(number for number in self._headers if number > last.number)
        for number in reversed(dropped):
            self._files.pop(number).close()
            self._disk.remove(segment_name(number))
        size = self._zero(last)
        last.marked = False
        self._observer.event(
            "wal_tail_dropped",
            file=self._disk.path(segment_name(last.number)),
            position=last.end,
            bytes=size,
            segments=len(dropped),
            detail=point.detail,
        )

    def _zero(self, segment: Segment) -> int:
        """Overwrite what follows the last frame; return how many bytes were not zero.

        Old bytes must not stay: a later frame that ends where one of them
        starts would bring it back to life.
        """
        file = self._files[segment.number]
        rest = file.read(segment.end, segment.size - segment.end).rstrip(b"\0")
        for position in range(0, len(rest), len(_ZEROS)):
            piece = _ZEROS[: len(rest) - position]
            write_taken(file, piece, segment.end + position)
        return len(rest)

    # ------------------------------------------------------------- settling

    def _settle(self, replay: _Replay) -> None:
        """Make what was recovered durable, and say so in the files.

        A process that was killed leaves complete frames that no sync covered;
        they count from here on, so they must survive the next crash.
        """
        last = self._segments[-1]
        for segment in self._segments:
            if segment.number >= self._proof.segment:
                self._write_again(segment)
                self._files[segment.number].sync()
        self._disk.sync_directory(DIRECTORY)
        # Oldest first, each only speaking of the next segment: a mark must not
        # claim a segment before the marks of all segments below it are durable.
        for segment, following in pairwise(self._segments):
            if not segment.marked:
                self._zero(segment)
                synced = SyncedEnd(following.number, following.end)
                self._write_mark(segment, replay, synced)
                segment.marked = True
            elif self._claimed.segment <= segment.number:
                # Read back from a process that was killed within its sync, perhaps.
                self._write_piece_again(segment, segment.end, MARK_SIZE)
                self._files[segment.number].sync()
        proven_to = self._proof.position if self._proof.segment == last.number else 0
        covered = self._last_mark >= 0 and proven_to >= self._last_mark
        if not covered and last.end + 2 * MARK_SIZE <= last.size:
            replay.sequence += 1
            frame = self._write_mark(last, replay, SyncedEnd(last.number, last.end))
            self._digest.update(frame[:HEADER_SIZE])
            last.end += MARK_SIZE

    def _write_again(self, segment: Segment) -> None:
        """Write once more what no completed sync is known to have covered.

        Why: a process that ended because a sync failed leaves pages which can be read,
        are not on the disk, and count as clean; no later sync would save them.
        """
        position = self._proof.position if segment.number == self._proof.segment else 0
        while position < segment.end:
            size = min(len(_ZEROS), segment.end - position)
            self._write_piece_again(segment, position, size)
            position += size

    def _write_piece_again(self, segment: Segment, position: int, size: int) -> None:
        file = self._files[segment.number]
        write_taken(file, file.read(position, size), position)

    def _write_mark(self, segment: Segment, replay: _Replay, synced: SyncedEnd) -> bytes:
        """Write and sync a mark behind the last frame of a segment."""
        hint = replay.state.commit_hint
        frame = encode_mark(segment.tag, segment.end, replay.sequence, synced, hint)
        file = self._files[segment.number]
        write_taken(file, frame, segment.end)
        file.sync()
        return frame

    def _damaged(self, point: _Point) -> DamagedDataError:
        return damaged(self._disk, segment_name(point.segment), point.position, point.detail)

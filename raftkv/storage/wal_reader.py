"""Where in the WAL's files an entry is, and reading entries back.

Owns a sparse index from log index to file position, one sample per stretch of
bytes, kept by the thread that appends. Reading is split in two, so that the
blocking half shares nothing with that thread: `EntryIndex.plan` takes an
immutable copy of the stretches needed, `ReadJob.run` reads them on a worker.

Invariant: the live entries from one sample's first index up to the next sample's are
in the bytes from the one's position up to the other's; entries found there with
another index were truncated later.

Who calls: `storage.wal`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from raftkv.engine.ready import EntryRecord, LogEntry, SnapshotRecord, TruncateRecord, WalRecord
from raftkv.seams import Disk
from raftkv.storage.damage import damaged
from raftkv.storage.wal_format import decode_frame, decode_records, segment_name

# Bytes between samples: a read starts at most this much too early, and 32 MiB
# of log cost a few hundred samples.
SAMPLE_BYTES = 128 * 1024


class Sample(NamedTuple):
    """From `position` of `segment` on, entries start at `first`."""

    first: int
    segment: int
    position: int


class Stretch(NamedTuple):
    """Bytes of one segment that hold the live entries in [first, end)."""

    segment: int
    tag: bytes
    position: int
    position_end: int
    first: int
    end: int


class EntryIndex:
    """Sparse map from log index to the frame that holds the entry."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []

    def add(self, records: Sequence[WalRecord], segment: int, position: int) -> None:
        """Note a frame that is being written at `position` of `segment`."""
        lowest = 0
        rewinds = False
        for record in records:
            if type(record) is EntryRecord:
                lowest = min(lowest, record.index) if lowest else record.index
            elif type(record) is TruncateRecord:
                lowest = min(lowest, record.first) if lowest else record.first
                rewinds = True
            elif type(record) is SnapshotRecord:
                self._samples.clear()
                lowest = record.index + 1
                rewinds = True
        samples = self._samples
        if not lowest:
            return
        if rewinds:
            while samples and samples[-1].first >= lowest:
                samples.pop()
        elif samples:
            last = samples[-1]
            if last.segment == segment and position - last.position < SAMPLE_BYTES:
                return
        samples.append(Sample(lowest, segment, position))

    def forget_before(self, segment: int) -> None:
        """Drop what points into segments that are being removed."""
        self._samples = [sample for sample in self._samples if sample.segment >= segment]

    def plan(
        self,
        first: int,
        last: int,
        ends: dict[int, int],
        tags: dict[int, bytes],
        bytes_max: int,
    ) -> list[Stretch]:
        """Return the stretches that hold the entries from `first` to `last`, or the first ones.

        Args:
            first: First index wanted; at or above the first one kept.
            last: Last index wanted.
            ends: Position behind the last frame of each segment.
            tags: Tag of each segment.
            bytes_max: Stretches behind the first that holds one are enough up to this.
        """
        samples = self._samples
        place = max(0, bisect_right(samples, first, key=lambda sample: sample.first) - 1)
        stretches: list[Stretch] = []
        size = 0
        while place < len(samples) and samples[place].first <= last and size <= bytes_max:
            sample = samples[place]
            following = samples[place + 1] if place + 1 < len(samples) else None
            same = following is not None and following.segment == sample.segment
            stretches.append(
                Stretch(
                    segment=sample.segment,
                    tag=tags[sample.segment],
                    position=sample.position,
                    position_end=following.position
                    if following is not None and same
                    else ends[sample.segment],
                    first=max(first, sample.first),
                    end=min(last + 1, following.first if following else last + 1),
                )
            )
            # The first one may begin long before the first entry wanted.
            if len(stretches) > 1:
                size += stretches[-1].position_end - stretches[-1].position
            place += 1
        return stretches


class ReadJob:
    """Reads entries from the files; made on the owning thread, run on any.

    Attributes:
        missing: Name of the file that was gone when it was to be read, or empty.
    """

    def __init__(self, disk: Disk, stretches: list[Stretch], bytes_max: int) -> None:
        self._disk = disk
        self._stretches = stretches
        self._bytes_max = bytes_max
        self.missing = ""

    def run(self) -> list[LogEntry]:
        """Read the entries, in order.

        Returns:
            At least one entry and at most `bytes_max` bytes of commands beyond
            that; fewer, or none, when compaction removed the files meanwhile.

        Raises:
            DamagedDataError: A frame that was durable cannot be read.
        """
        entries: list[LogEntry] = []
        size = 0
        for stretch in self._stretches:
            found = self._read_stretch(stretch)
            if found is None:
                break
            for entry in found:
                size += len(entry[0])
                if entries and size > self._bytes_max:
                    return entries
                entries.append(entry)
        return entries

    def _read_stretch(self, stretch: Stretch) -> list[LogEntry] | None:
        """Read one stretch; None when its file is gone."""
        name = segment_name(stretch.segment)
        try:
            file = self._disk.open(name)
        except FileNotFoundError:
            self.missing = name
            return None
        try:
            data = file.read(stretch.position, stretch.position_end - stretch.position)
        finally:
            file.close()
        live: dict[int, LogEntry] = {}
        position = 0
        while position < stretch.position_end - stretch.position:
            frame = decode_frame(data, position, len(data), stretch.tag, origin=stretch.position)
            records = None if frame is None else decode_records(data, frame)
            if frame is None or records is None:
                raise damaged(self._disk, name, stretch.position + position, "the frame is damaged")
            for record in records:
                # A later record of the same index replaces an earlier one.
                if type(record) is EntryRecord and stretch.first <= record.index < stretch.end:
                    live[record.index] = (record.command, record.index, record.term)
            position = frame.end
        return [live[index] for index in sorted(live)]

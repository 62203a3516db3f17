"""The sparse index from log index to file position."""

from __future__ import annotations

import pytest

from raftkv.engine.ready import SnapshotRecord, TruncateRecord
from raftkv.errors import DamagedDataError
from raftkv.storage.wal_format import segment_name
from raftkv.storage.wal_reader import SAMPLE_BYTES, EntryIndex
from raftkv.types import Index, Term
from tests.unit.storage.crashing_disk import CrashingDisk
from tests.unit.storage.wal_steps import append, append_entries, entry, hard_state, recover, sync

ENDS = {1: 10 * SAMPLE_BYTES, 2: 9_000}
TAGS = {1: b"tag-one.", 2: b"tag-two."}


def plan(index: EntryIndex, first: int, last: int) -> list[tuple[int, int, int, int, int]]:
    found = index.plan(first, last, ENDS, TAGS, 1 << 40)
    assert [stretch.tag for stretch in found] == [TAGS[stretch.segment] for stretch in found]
    return [(s.segment, s.position, s.position_end, s.first, s.end) for s in found]


def test_samples_are_as_far_apart_as_said() -> None:
    index = EntryIndex()
    step = SAMPLE_BYTES // 4
    for number in range(1, 21):
        index.add([hard_state(1), entry(number)], 1, number * step)
    # Stretches begin at entries 1, 5, 9, 13 and 17.
    assert plan(index, 6, 10) == [
        (1, 5 * step, 9 * step, 6, 9),
        (1, 9 * step, 13 * step, 9, 11),
    ]
    assert plan(index, 20, 20) == [(1, 17 * step, ENDS[1], 20, 21)]


def test_a_segment_begins_a_stretch_and_ends_one() -> None:
    index = EntryIndex()
    index.add([entry(1)], 1, 100)
    index.add([entry(2)], 1, 200)
    index.add([entry(3)], 2, 100)
    assert plan(index, 1, 3) == [(1, 100, ENDS[1], 1, 3), (2, 100, ENDS[2], 3, 4)]
    index.forget_before(2)
    assert plan(index, 3, 3) == [(2, 100, ENDS[2], 3, 4)]


def test_what_was_truncated_is_looked_for_behind_the_truncation() -> None:
    index = EntryIndex()
    for number in range(1, 5):
        index.add([entry(number)], 1, number * 100)
    index.add([TruncateRecord(Index(3))], 1, 900)
    index.add([entry(3)], 2, 100)
    assert plan(index, 1, 3) == [
        (1, 100, 900, 1, 3),
        (1, 900, ENDS[1], 3, 3),
        (2, 100, ENDS[2], 3, 4),
    ]
    index.add([TruncateRecord(Index(1)), entry(1)], 2, 500)
    assert plan(index, 1, 1) == [(2, 500, ENDS[2], 1, 2)]


def test_a_restart_of_the_log_forgets_everything_before() -> None:
    index = EntryIndex()
    index.add([entry(1)], 1, 100)
    index.add([SnapshotRecord(Index(40), Term(2)), entry(41)], 1, 300)
    assert plan(index, 41, 41) == [(1, 300, ENDS[1], 41, 42)]


def test_frames_without_entries_leave_no_trace() -> None:
    index = EntryIndex()
    index.add([hard_state(1)], 1, 100)
    index.add([], 1, 200)
    assert plan(index, 1, 9) == []


def test_damage_found_while_reading_names_the_frame() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 3)
    position = wal._segments[-1].end
    append(wal, entry(4))
    sync(wal)
    disk.flip(segment_name(1), position + 60, 1)
    with pytest.raises(DamagedDataError) as caught:
        wal.read(Index(1), Index(4), 1 << 20)
    assert caught.value.file == disk.path(segment_name(1))
    assert caught.value.position == position

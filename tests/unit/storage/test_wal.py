"""Appending, rotating, syncing, compacting and reading back, without crashes."""

from __future__ import annotations

import pytest

from raftkv.engine.ready import SnapshotRecord, TruncateRecord
from raftkv.errors import DiskFailedError, DiskFullError
from raftkv.storage.wal import RESERVE_BYTES, SEGMENT_BYTES_MIN, Wal
from raftkv.storage.wal_format import MARK_SIZE, SEGMENT_HEADER_SIZE_MAX, segment_name
from raftkv.types import HardState, Index, Term, WriteSequence
from tests.unit.storage.crashing_disk import CrashingDisk, EventList
from tests.unit.storage.wal_steps import (
    SEGMENT_BYTES,
    append,
    append_entries,
    entry,
    hard_state,
    indexes,
    mark,
    recover,
    segments,
    sync,
)

# ------------------------------------------------------------------ appending


def test_a_new_directory_holds_an_empty_log() -> None:
    disk = CrashingDisk()
    wal, log = recover(disk)
    assert log.entries == []
    assert (log.base_index, log.base_term) == (0, 0)
    assert log.hard_state == HardState(Term(0), None)
    assert (log.sequence, log.commit_hint) == (0, 0)
    assert wal.retained_from() == 1
    assert segments(disk) == [segment_name(1)]
    # Already durable: the directory exists before anything is acknowledged.
    assert segments(disk.crash()) == [segment_name(1)]


def test_every_kind_of_record_comes_back() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    wal.append(WriteSequence(5), [hard_state(1, "n1"), entry(1), entry(2, 0)], Index(0))
    wal.append(WriteSequence(6), [TruncateRecord(Index(2)), entry(2, 7), entry(3)], Index(1))
    wal.append(WriteSequence(9), [], Index(2))
    _, log = recover(disk.kill())
    assert log.entries == [
        (entry(1).command, 1, 1),
        (entry(2, 7).command, 2, 1),
        (entry(3).command, 3, 1),
    ]
    assert log.hard_state == HardState(Term(1), hard_state(1, "n1").vote)
    assert log.commit_hint == 2
    assert log.sequence >= 9


def test_a_vote_for_nobody_differs_from_a_vote_for_an_empty_name() -> None:
    for vote in (None, "", "n1", "ü" * 100):
        disk = CrashingDisk()
        wal, _ = recover(disk)
        append(wal, hard_state(2, vote))
        assert recover(disk.kill())[1].hard_state == (2, vote)


def test_a_snapshot_record_restarts_the_log() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 5)
    append(wal, SnapshotRecord(Index(40), Term(3)), entry(41, term=3))
    assert wal.retained_from() == 41
    assert wal.last_index == 41
    _, log = recover(disk.kill())
    assert (log.base_index, log.base_term) == (40, 3)
    assert indexes(log) == [41]


def test_one_step_is_one_write_in_one_frame() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    disk.steps = 0
    append(wal, hard_state(1, "n1"), entry(1), entry(2), entry(3))
    assert disk.steps == 1


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([entry(3)], "entry 3 follows entry 1"),
        ([entry(2), entry(2)], "entry 2 follows entry 2"),
        ([TruncateRecord(Index(3))], "truncation at 3"),
        ([TruncateRecord(Index(0))], "truncation at 0"),
        ([hard_state(4, "n1")], "term 4 follows term 5"),
        ([hard_state(5, "n2")], "a second vote in term 5"),
    ],
)
def test_records_that_break_the_log_are_refused_unwritten(records: list, complaint: str) -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append(wal, hard_state(5, "n1"), entry(1))
    with pytest.raises(ValueError, match=complaint):
        append(wal, *records)
    with pytest.raises(DiskFailedError):
        append(wal, entry(2))
    assert indexes(recover(disk.kill())[1]) == [1]


def test_a_write_sequence_number_is_never_used_twice() -> None:
    wal, _ = recover(CrashingDisk())
    wal.append(WriteSequence(3), [entry(1)], Index(0))
    for sequence in (3, 2, 0):
        with pytest.raises(ValueError, match="follows write 3"):
            wal.append(WriteSequence(sequence), [entry(2)], Index(0))


def test_a_segment_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        Wal.recover(CrashingDisk(), segment_bytes=SEGMENT_BYTES_MIN - 1, observer=EventList())


# ------------------------------------------------------------------- rotating


def test_segments_follow_each_other_with_and_without_preparation() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    for prepared in (True, False, True, False):
        number = wal._segments[-1].number
        if prepared:
            assert wal.needs_segment()
            wal.prepare_segment()
            assert not wal.needs_segment()
            wal.prepare_segment()
        while wal._segments[-1].number == number:
            append_entries(wal, 1)
        assert wal.needs_segment()
        assert wal._segments[-1].number == number + 1
        sync(wal)
    assert segments(disk) == [segment_name(number) for number in range(1, 6)]
    _, log = recover(disk.crash())
    assert indexes(log) == list(range(1, wal.last_index + 1))


def test_a_frame_larger_than_a_segment_gets_a_larger_one() -> None:
    for prepared in (False, True):
        disk = CrashingDisk()
        wal, _ = recover(disk)
        append_entries(wal, 1)
        if prepared:
            wal.prepare_segment()
        append(wal, entry(2, 3 * SEGMENT_BYTES))
        append_entries(wal, 30)
        sync(wal)
        _, log = recover(disk.crash())
        assert indexes(log) == list(range(1, 33))
        assert len(log.entries[1][0]) == 3 * SEGMENT_BYTES


def test_a_changed_segment_size_concerns_new_segments_only() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 3)
    wal, _ = recover(disk.kill(), segment_bytes=5 * SEGMENT_BYTES)
    append_entries(wal, 60)
    assert [segment.size for segment in wal._segments] == [SEGMENT_BYTES, 5 * SEGMENT_BYTES]


def test_a_cluster_that_gets_its_id_later_names_it_in_new_segments() -> None:
    disk = CrashingDisk()
    wal, _ = Wal.recover(disk, segment_bytes=SEGMENT_BYTES, observer=EventList())
    append_entries(wal, 5)
    wal.set_cluster_id("e" * 32)
    append_entries(wal, 60)
    again = disk.kill()
    Wal.recover(again, segment_bytes=SEGMENT_BYTES, observer=EventList(), cluster_id="e" * 32)
    assert b"e" * 32 in disk.seen[segment_name(2)].seen[:400]
    assert b"e" * 32 not in disk.seen[segment_name(1)].seen


# -------------------------------------------------------------------- syncing


def test_a_job_covers_what_was_written_before_it() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    assert wal.sync_job() is None
    append_entries(wal, 2)
    job = wal.sync_job()
    assert job is not None
    assert job.sequence == 2
    append_entries(wal, 2)
    assert wal.sync_job() is None  # One at a time.
    assert wal.synced_sequence == 0
    job.run()
    assert wal.synced_sequence == 0
    wal.finished(job)
    assert wal.synced_sequence == 2
    assert wal.last_sequence == 4
    following = wal.sync_job()
    assert following is not None
    assert following.sequence == 4
    with pytest.raises(ValueError, match="not the one in flight"):
        wal.finished(job)
    following.run()
    wal.finished(following)
    assert wal.sync_job() is None
    assert indexes(recover(disk.crash())[1]) == [1, 2, 3, 4]


def test_a_failed_sync_is_handed_on_and_nothing_counts_as_durable() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 1)
    job = wal.sync_job()
    assert job is not None
    disk.fails_sync = True
    with pytest.raises(DiskFailedError):
        job.run()
    assert wal.synced_sequence == 0
    assert wal.sync_job() is None


def test_a_mark_is_written_once_when_all_is_synced() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    assert not wal.mark(WriteSequence(1))  # Nothing to speak of.
    append_entries(wal, 1)
    assert not wal.mark(WriteSequence(2))  # Not synced.
    sync(wal)
    end = wal._segments[-1].end
    mark(wal)
    assert wal._segments[-1].end == end + MARK_SIZE
    assert not wal.mark(WriteSequence(9))
    append_entries(wal, 1)
    sync(wal)
    mark(wal)
    observer = EventList()
    again, log = recover(disk.crash(), observer=observer)
    assert indexes(log) == [1, 2]
    # The files end with a mark already; recovery adds none.
    assert again._segments[-1].end == wal._segments[-1].end
    assert not again.mark(WriteSequence(again.last_sequence + 1))


def test_recovery_marks_what_it_found_unmarked() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 1)
    again, log = recover(disk.kill())
    assert again._segments[-1].end == wal._segments[-1].end + MARK_SIZE
    assert log.sequence == 2
    assert again.last_sequence == 2


# ------------------------------------------------------------------ disk full


def test_room_is_what_can_be_written_without_taking_space() -> None:
    disk = CrashingDisk(capacity_bytes=2 * SEGMENT_BYTES)
    wal, _ = recover(disk)
    wal.prepare_segment()
    assert disk.free_bytes() == 0
    written = 0
    while True:
        overhead = wal.frame_bytes([entry(1, 0)])
        size = min(300, wal.room_bytes() - overhead)
        if size < 0:
            break
        append(wal, entry(wal.last_index + 1, size))
        written += 1
    assert written > 15
    assert len(wal._segments) == 2
    # Entries are refused, and nothing has changed.
    before = wal.last_index, wal.last_sequence
    with pytest.raises(DiskFullError):
        append(wal, entry(wal.last_index + 1, 200))
    assert (wal.last_index, wal.last_sequence) == before
    with pytest.raises(DiskFullError):
        wal.prepare_segment()
    assert disk.names("wal") == [segment_name(number)[4:] for number in (1, 2)]
    # The reserve still takes votes, configurations and marks.
    for term in range(1, 4):
        append(wal, hard_state(term, "n1"), reserve=True)
    sync(wal)
    assert wal.mark(WriteSequence(wal.last_sequence + 1))
    sync(wal)
    # Space returns.
    disk.capacity_bytes = 1 << 30
    append(wal, entry(wal.last_index + 1, 200))
    sync(wal)
    _, log = recover(disk.crash())
    assert len(log.entries) == written + 1
    assert log.hard_state == (3, "n1")


def test_the_reserve_of_real_segments_is_64_kib() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk, segment_bytes=1 << 20)
    room = wal.room_bytes()
    assert (1 << 20) - RESERVE_BYTES - 1024 < room < (1 << 20) - RESERVE_BYTES


def test_room_counts_the_bigger_of_current_and_prepared() -> None:
    wal, _ = recover(CrashingDisk())
    append(wal, entry(1, 2000))
    room = wal.room_bytes()
    assert 0 < room < 2000
    wal.prepare_segment()
    assert wal.room_bytes() > 2 * room
    biggest = entry(2, wal.room_bytes() - wal.frame_bytes([entry(2, 0)]))
    append(wal, biggest)
    assert wal.needs_segment()  # It went into the prepared one, and fitted.
    assert wal.room_bytes() < SEGMENT_HEADER_SIZE_MAX  # The longest header was allowed for.


@pytest.mark.parametrize("prepared_before", [False, True])
def test_space_is_taken_for_a_frame_larger_than_a_segment(prepared_before: bool) -> None:
    disk = CrashingDisk(capacity_bytes=4 * SEGMENT_BYTES)
    wal, _ = recover(disk)
    if prepared_before:
        wal.prepare_segment()
    size = 5 * SEGMENT_BYTES // 2
    frame_bytes = wal.frame_bytes([entry(1, size)])
    room = wal.room_bytes()
    with pytest.raises(DiskFullError):
        wal.prepare_segment(2 * frame_bytes)
    assert wal.room_bytes() == room
    used = (2 if prepared_before else 1) * SEGMENT_BYTES
    assert disk.used_bytes() == used
    wal.prepare_segment(frame_bytes)
    assert wal.room_bytes() >= frame_bytes
    disk.capacity_bytes = disk.used_bytes()
    append(wal, entry(1, size))
    sync(wal)
    assert indexes(recover(disk.crash())[1]) == [1]


def test_the_first_segment_needs_space() -> None:
    disk = CrashingDisk(capacity_bytes=SEGMENT_BYTES - 1)
    with pytest.raises(DiskFullError):
        recover(disk)
    assert disk.names("wal") == []
    disk.capacity_bytes = SEGMENT_BYTES
    recover(disk)


# ----------------------------------------------------------------- compacting


def test_compaction_removes_whole_covered_segments_oldest_first() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append(wal, hard_state(4, "n3"))
    while len(wal._segments) < 5:
        append_entries(wal, 1)
        sync(wal)
    whole = indexes(recover(disk.kill())[1])
    bases = [segment.base_index for segment in wal._segments]
    assert wal.compact(Index(bases[1] - 1)) == []
    assert wal.compact(Index(bases[1])) == [segment_name(1)]
    names = wal.compact(Index(bases[3]))
    assert names == [segment_name(2), segment_name(3)]
    assert wal.compact(Index(10_000)) == [segment_name(4)]  # Never the current one.
    wal.remove_segments([segment_name(1), *names])
    assert wal.retained_from() == bases[4] + 1
    _, log = recover(disk.crash())
    assert log.base_index == bases[3]
    assert indexes(log) == whole[bases[3] :]
    assert log.hard_state == (4, "n3")


def test_what_is_not_synced_keeps_the_segments_before_it() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(wal._segments) < 3:
        append_entries(wal, 1)
    assert wal.compact(Index(1000)) == []
    assert wal.has_unsynced_segment
    sync(wal)
    assert not wal.has_unsynced_segment
    assert len(wal.compact(Index(1000))) == 2


def test_a_restart_of_the_log_frees_everything_before_it_once_it_is_durable() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(wal._segments) < 3:
        append_entries(wal, 1)
        sync(wal)
    # The snapshot is below the base of the current segment.
    append(wal, SnapshotRecord(Index(5), Term(2)))
    assert wal.compact(Index(5)) == []
    sync(wal)
    assert wal.compact(Index(4)) == []
    names = wal.compact(Index(5))
    assert names == [segment_name(1), segment_name(2)]
    wal.remove_segments(names)
    assert wal.retained_from() == 6
    append_entries(wal, 3)
    sync(wal)
    _, log = recover(disk.crash())
    assert (log.base_index, log.base_term, indexes(log)) == (5, 2, [6, 7, 8])


def test_log_bytes_shrink_with_compaction() -> None:
    wal, _ = recover(CrashingDisk())
    while len(wal._segments) < 4:
        append_entries(wal, 1)
        sync(wal)
    before = wal.log_bytes()
    assert 2 * SEGMENT_BYTES < before < 4 * SEGMENT_BYTES
    wal.compact(Index(wal._segments[2].base_index))
    assert wal.log_bytes() < before / 2


# -------------------------------------------------------------------- reading


def test_entries_are_read_back_within_the_limit() -> None:
    wal, _ = recover(CrashingDisk())
    append_entries(wal, 100)
    assert wal.read(Index(1), Index(100), 1 << 20) == [
        (entry(index).command, index, 1) for index in range(1, 101)
    ]
    assert [index for _, index, _ in wal.read(Index(37), Index(90), 250)] == [37, 38]
    assert [index for _, index, _ in wal.read(Index(37), Index(90), 0)] == [37]
    assert [index for _, index, _ in wal.read(Index(99), Index(500), 1 << 20)] == [99, 100]
    assert wal.read(Index(101), Index(101), 100) == []


def test_reading_what_was_compacted_is_an_error_and_removed_files_end_a_read() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(wal._segments) < 4:
        append_entries(wal, 1)
        sync(wal)
    job = wal.read_job(Index(1), wal.last_index, 1 << 20)
    wal.remove_segments(wal.compact(Index(wal._segments[2].base_index)))
    assert job.run() == []
    with pytest.raises(ValueError, match="below the first kept"):
        wal.read(Index(1), Index(2), 100)
    first = wal.retained_from()
    assert wal.read(first, first, 100)[0][1] == first


def test_a_read_finds_the_entry_that_replaced_a_truncated_one() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 50)
    for first in (40, 45, 20, 21):
        append(wal, TruncateRecord(Index(first)))
        for index in range(first, first + 8):
            append(wal, entry(index, term=first))
    expected = [(entry(i).command, i, 1) for i in range(1, 20)]
    expected += [(entry(20, term=20).command, 20, 20)]
    expected += [(entry(i, term=21).command, i, 21) for i in range(21, 29)]
    assert wal.read(Index(1), Index(28), 1 << 20) == expected
    assert recover(disk.kill())[1].entries == expected


def test_a_closed_wal_is_not_written() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(wal._segments) < 3:
        append_entries(wal, 1)
    wal.prepare_segment()
    wal.close()
    with pytest.raises(DiskFailedError):
        append_entries(wal, 1)
    assert recover(disk.kill())[0].last_index == wal.last_index

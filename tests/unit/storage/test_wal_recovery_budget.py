"""A long log is recovered within a budget of memory; the rest of it stays readable."""

from __future__ import annotations

import pytest

from raftkv.engine.evicted import memory_bytes
from raftkv.engine.ready import RecoveredLog, TruncateRecord
from raftkv.errors import DamagedDataError
from raftkv.storage.wal import Wal
from raftkv.storage.wal_format import segment_name
from raftkv.types import Index, WriteSequence
from tests.unit.storage.crashing_disk import CrashingDisk, EventList
from tests.unit.storage.wal_steps import (
    CLUSTER_ID,
    DISK_ID,
    SEGMENT_BYTES,
    append,
    append_entries,
    entry,
    indexes,
    mark,
    recover,
    segments,
    sync,
)


def committed_log(count: int, hint: int) -> CrashingDisk:
    """A disk with entries in several segments, of which the first are known to be committed."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    for index in range(1, count + 1):
        term = 1 + index // 20
        wal.append(
            WriteSequence(wal.last_sequence + 1), [entry(index, term=term)], Index(min(index, hint))
        )
    sync(wal)
    return disk


def recover_within(disk: CrashingDisk, memory_bytes_max: int) -> tuple[Wal, RecoveredLog]:
    return Wal.recover(
        disk,
        segment_bytes=SEGMENT_BYTES,
        observer=EventList(),
        cluster_id=CLUSTER_ID,
        disk_id=DISK_ID,
        memory_bytes_max=memory_bytes_max,
    )


@pytest.mark.parametrize("budget", [0, 1500, 5000])
def test_of_a_long_log_only_the_newest_part_comes_into_memory(budget: int) -> None:
    wal, log = recover_within(committed_log(100, hint=100), budget)
    assert log.evicted is not None
    assert memory_bytes(log.entries) <= budget
    assert log.entries == wal.read(Index(log.evicted.last_index + 1), Index(100), 1 << 30)
    assert [log.term_at(index) for index in (0, 1, 19, 20, 99, 100)] == [0, 1, 1, 2, 5, 6]
    assert log.term_at(101) is None
    assert (log.base_index, log.base_term, log.commit_hint) == (0, 0, 100)


def test_what_may_not_be_committed_comes_into_memory_whatever_it_costs() -> None:
    _, log = recover_within(committed_log(100, hint=60), 0)
    assert indexes(log) == list(range(61, 101))


def test_without_a_budget_everything_comes_into_memory() -> None:
    _, log = recover(committed_log(100, hint=100))
    assert indexes(log) == list(range(1, 101))


def test_a_truncation_of_what_was_committed_is_no_log_of_ours() -> None:
    disk = committed_log(100, hint=100)
    wal, _ = recover(disk)
    append(wal, TruncateRecord(Index(50)))
    sync(wal)
    with pytest.raises(DamagedDataError, match="committed"):
        recover_within(disk, 0)


def test_entries_before_the_oldest_segment_that_were_written_again_can_be_read() -> None:
    """The oldest segment began behind them, before they were truncated."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(segments(disk)) < 2:
        append_entries(wal, 1)
    base = wal.last_index - 1
    append(wal, TruncateRecord(Index(base - 4)))
    append_entries(wal, 10)
    sync(wal)
    mark(wal)
    names = wal.compact(Index(base + 2))
    assert names == [segment_name(1)]
    wal.remove_segments(names)
    again, log = recover_within(disk, 1 << 30)
    assert log.base_index < base
    assert again.retained_from() == log.base_index + 1
    first = Index(log.base_index + 1)
    assert again.read(first, Index(again.last_index), 1 << 30) == log.entries

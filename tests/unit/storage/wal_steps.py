"""Short words for driving a WAL in tests."""

from __future__ import annotations

from raftkv.engine.ready import EntryRecord, HardStateRecord, RecoveredLog, WalRecord
from raftkv.seams import Disk
from raftkv.storage.wal import Wal
from raftkv.storage.wal_format import parse_segment_name, segment_name
from raftkv.types import Index, NodeId, Term, WriteSequence
from tests.unit.storage.crashing_disk import CrashingDisk, EventList

DISK_ID = "d" * 32
CLUSTER_ID = "c" * 32
SEGMENT_BYTES = 4096


def recover(
    disk: Disk, *, observer: EventList | None = None, segment_bytes: int = SEGMENT_BYTES
) -> tuple[Wal, RecoveredLog]:
    return Wal.recover(
        disk,
        segment_bytes=segment_bytes,
        observer=observer or EventList(),
        cluster_id=CLUSTER_ID,
        disk_id=DISK_ID,
    )


def entry(index: int, size: int = 100, term: int = 1) -> EntryRecord:
    """An entry whose bytes tell its index and term."""
    command = (b"%d/%d " % (index, term) * size)[:size]
    return EntryRecord(Index(index), Term(term), command)


def hard_state(term: int, vote: str | None = None) -> HardStateRecord:
    return HardStateRecord(Term(term), None if vote is None else NodeId(vote))


def append(wal: Wal, *records: WalRecord, reserve: bool = False) -> int:
    """Append under the next sequence number; returns the position behind the frame."""
    sequence = WriteSequence(wal.last_sequence + 1)
    wal.append(sequence, records, Index(0), reserve=reserve)
    return wal._segments[-1].end


def append_entries(wal: Wal, count: int, size: int = 100) -> None:
    """Append one batch for each entry."""
    for _ in range(count):
        append(wal, entry(wal.last_index + 1, size))


def sync(wal: Wal) -> None:
    job = wal.sync_job()
    assert job is not None
    job.run()
    wal.finished(job)


def mark(wal: Wal) -> int:
    """Write a mark and sync it; returns its position."""
    position = wal._segments[-1].end
    assert wal.mark(WriteSequence(wal.last_sequence + 1))
    sync(wal)
    return position


def indexes(log: RecoveredLog) -> list[int]:
    return [index for _, index, _ in log.entries]


def segments(disk: CrashingDisk) -> list[str]:
    """Names of all segments on a disk, oldest first."""
    numbers = [parse_segment_name(name) for name in disk.names("wal")]
    return [segment_name(number) for number in numbers if number is not None]


def three_segments() -> tuple[CrashingDisk, int]:
    """A disk with three segments, synced and marked; and the position of the last mark."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append(wal, hard_state(1, "n1"))
    while wal._segments[-1].number < 3 or wal._segments[-1].end < 1500:
        append_entries(wal, 1)
        sync(wal)
    position = mark(wal)
    wal.close()
    return disk, position

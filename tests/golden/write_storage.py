"""Write the golden files of the formats on disk, version 1.

    python -m tests.golden.write_storage DIRECTORY

The identity is kept as `identity.bin`, so that tools take it for what it is.
A file of a released version is never written again: later code must read it as
it is. Change the layout, and the version number, and add files beside it.
`tests/unit/storage/test_golden.py` says what each file holds.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.seams import Disk
from raftkv.storage.disk import RealDisk
from raftkv.storage.identity import Identity, save_identity
from raftkv.storage.snapshots import SnapshotStore
from raftkv.storage.wal import Wal
from raftkv.types import (
    Configuration,
    Index,
    Member,
    NodeId,
    SnapshotMeta,
    Term,
    WriteSequence,
)

CLUSTER_ID = "0123456789abcdef0123456789abcdef"
DISK_ID = "fedcba9876543210fedcba9876543210"
SEGMENT_BYTES = 4096

IDENTITY = Identity(
    cluster_id=CLUSTER_ID, node_id="n1", disk_id=DISK_ID, admitted=True, wal_created=True
)

META = SnapshotMeta(
    index=Index(9),
    term=Term(2),
    configuration=Configuration(
        CLUSTER_ID,
        (
            Member(
                id=NodeId("n1"),
                client="127.0.0.1:7001",
                peer="127.0.0.1:7101",
                disk_id=DISK_ID,
            ),
            Member(id=NodeId("n2"), client="127.0.0.1:7002", peer="127.0.0.1:7102", voter=False),
        ),
    ),
    state_hash=bytes(range(16)),
    image_hash=bytes(range(16, 32)),
    log_time_ms=1_700_000_000_123,
    lease_time_ms=456_789,
    revision=42,
    keys=3,
)
PIECES = [b"first piece", b"", b"second piece " * 40]


class SilentObserver:
    """Nothing is dropped while golden files are written."""

    def event(self, name: str, /, **fields: object) -> None:
        """Refuse to be told of anything."""
        raise AssertionError(name)


def steps() -> list[list[WalRecord]]:
    """The records of each write: every kind of record, over two segments."""
    entries = [EntryRecord(Index(n), Term(2), b"\0entry %d " % n * 50) for n in range(10, 18)]
    return [
        [HardStateRecord(Term(1), NodeId("n2"))],
        [SnapshotRecord(Index(4), Term(1))],
        [EntryRecord(Index(n), Term(1), b"\1%d" % n) for n in range(5, 10)],
        [HardStateRecord(Term(2), None), TruncateRecord(Index(8))],
        [EntryRecord(Index(n), Term(2), b"\4%d" % n) for n in range(8, 10)],
        *([entry] for entry in entries),
    ]


def write_wal(disk: Disk) -> None:
    """Write two segments, each step synced, and a mark at the end."""
    wal, _ = Wal.recover(
        disk,
        segment_bytes=SEGMENT_BYTES,
        observer=SilentObserver(),
        cluster_id=CLUSTER_ID,
        disk_id=DISK_ID,
    )
    for number, records in enumerate(steps(), start=1):
        wal.append(WriteSequence(number * 10), records, Index(min(number, 7)))
        _sync(wal)
    wal.mark(WriteSequence(1000))
    _sync(wal)
    wal.close()


def _sync(wal: Wal) -> None:
    job = wal.sync_job()
    assert job is not None
    job.run()
    wal.finished(job)


def write_all(disk: Disk) -> None:
    """Write one file of each format."""
    save_identity(disk, IDENTITY)
    write_wal(disk)
    writer = SnapshotStore(disk, chunk_bytes=300).writer(dataclasses.replace(META, image_hash=b""))
    for piece in PIECES:
        writer.write(piece)
    list(writer.finish(META))


if __name__ == "__main__":
    write_all(RealDisk(sys.argv[1]))
    directory = Path(sys.argv[1])
    (directory / "identity").rename(directory / "identity.bin")

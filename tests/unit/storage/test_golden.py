"""Files that an earlier version wrote are read as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from raftkv.storage.disk import RealDisk
from raftkv.storage.identity import load_identity
from raftkv.storage.snapshots import SnapshotStore
from raftkv.storage.wal import Wal
from tests.golden import write_storage as golden
from tests.unit.storage.crashing_disk import EventList

VERSION_1 = Path(golden.__file__).parent / "storage-v1"


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    shutil.copytree(VERSION_1, tmp_path / "data")
    return RealDisk(str(tmp_path / "data"))


def test_identity(disk: RealDisk) -> None:
    assert load_identity(disk, node_id="n1") == golden.IDENTITY


def test_wal(disk: RealDisk) -> None:
    observer = EventList()
    wal, log = Wal.recover(
        disk,
        segment_bytes=golden.SEGMENT_BYTES,
        observer=observer,
        cluster_id=golden.CLUSTER_ID,
        disk_id=golden.DISK_ID,
    )
    wal.close()
    assert observer.events == []
    assert (log.base_index, log.base_term) == (4, 1)
    assert log.hard_state == (2, None)
    assert log.commit_hint == 7
    assert log.sequence == 1000
    assert log.entries == [
        *((b"\x01%d" % index, index, 1) for index in range(5, 8)),
        *((b"\x04%d" % index, index, 2) for index in range(8, 10)),
        *((b"\x00entry %d " % index * 50, index, 2) for index in range(10, 18)),
    ]
    assert len(disk.names("wal")) == 2


def test_snapshot(disk: RealDisk) -> None:
    store = SnapshotStore(disk)
    assert store.newest() == golden.META
    assert list(store.reader(golden.META)) == golden.PIECES
    raw = store.open_raw(golden.META)
    assert raw.content_id == "9a2f61c8fd1a5a44d4d3e76330986afa"


def test_this_version_writes_the_same_bytes(tmp_path: Path) -> None:
    """Not for the snapshot, whose compressed bytes depend on the zlib in use."""
    golden.write_all(RealDisk(str(tmp_path / "data")))
    for pattern, count in (("identity", 1), ("wal/*", 2)):
        files = sorted(VERSION_1.glob(pattern))
        assert len(files) == count
        for file in files:
            written = tmp_path / "data" / file.relative_to(VERSION_1)
            assert written.read_bytes() == file.read_bytes()

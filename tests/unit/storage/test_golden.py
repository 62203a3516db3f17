"""Files that an earlier version wrote are read as they are."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from pathlib import Path

import pytest

from raftkv.storage.disk import RealDisk
from raftkv.storage.identity import load_identity
from raftkv.storage.snapshots import SnapshotStore
from raftkv.storage.wal import Wal
from tests.golden import write_storage as golden
from tests.unit.storage.crashing_disk import EventList

CONTENT_ID = "9a2f61c8fd1a5a44d4d3e76330986afa"
VERSION_1 = Path(golden.__file__).parent / "storage-v1"


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    shutil.copytree(VERSION_1, tmp_path / "data")
    (tmp_path / "data" / "identity.bin").rename(tmp_path / "data" / "identity")
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
    assert raw.content_id == CONTENT_ID


def test_this_version_writes_the_same_bytes(tmp_path: Path) -> None:
    """Not for the snapshot, whose compressed bytes depend on the zlib in use."""
    golden.write_all(RealDisk(str(tmp_path / "data")))
    (tmp_path / "data" / "identity").rename(tmp_path / "data" / "identity.bin")
    for pattern, count in (("identity.bin", 1), ("wal/*", 2)):
        files = sorted(VERSION_1.glob(pattern))
        assert len(files) == count
        for file in files:
            written = tmp_path / "data" / file.relative_to(VERSION_1)
            assert written.read_bytes() == file.read_bytes()


def test_the_offsets_of_the_formats_page() -> None:
    """Read version 1 as docs/reference/formats.md has it, without our code."""
    text = (VERSION_1 / "wal" / "00000000000000000002.segment").read_bytes()
    first = (VERSION_1 / "wal" / "00000000000000000001.segment").read_bytes()

    def number(data: bytes, offset: int, size: int) -> int:
        return int.from_bytes(data[offset : offset + size], "little")

    def frames(data: bytes) -> list[tuple[int, int, bytes]]:
        found = []
        position = 0
        while data[position : position + 4] == bytes.fromhex("f5526b56"):
            length = number(data, position + 8, 4)
            body = data[position + 16 : position + 16 + length]
            assert data[position + 5 : position + 8] == bytes(3)
            assert number(data, position + 12, 4) == zlib.crc32(
                data[position : position + 12] + body
            )
            found.append((data[position + 4], position, body))
            position += 16 + length
        assert data[position:] == bytes(len(data) - position)
        return found

    old, new = frames(first), frames(text)
    assert [kind for kind, _, _ in old] == [32, *[33] * (len(old) - 2), 34]
    assert [kind for kind, _, _ in new] == [32, *[33] * (len(new) - 2), 34]
    body = new[0][2]
    fields = [number(body, offset, 8) for offset in range(8, 88, 8)]
    sequence = number(old[-2][2], 16, 8)
    assert fields == [2, 4096, sequence, body[32], 2, 7, 2, 1, old[-1][1], old[-1][1]]
    digest = hashlib.blake2b(digest_size=16)
    for _, position, _ in old[:-1]:
        digest.update(first[position : position + 16])
    assert body[88:104] == digest.digest()
    assert body[104:108] == bytes((32, 32, 0, 0))
    assert body[112:] == (golden.CLUSTER_ID + golden.DISK_ID).encode()
    header_end = new[1][1]
    tag = hashlib.blake2b(text[:header_end], digest_size=8).digest()
    index = number(body, 32, 8)
    for kind, position, batch in new[1:-1]:
        index += 1
        assert kind == 33
        assert batch[:8] == tag
        assert number(batch, 8, 8) == position
        assert number(batch, 48, 4) == 1
        record = batch[56:]
        assert (record[0], record[1], number(record, 8, 8), number(record, 16, 8)) == (
            1,
            0,
            index,
            2,
        )
        assert record[24:] == b"\x00entry %d " % index * 50
        assert number(record, 4, 4) == len(record) - 24
    # Both marks: the one that ends the first segment speaks of the second.
    assert (number(old[-1][2], 24, 8), number(new[-1][2], 24, 8)) == (2, 2)
    assert number(new[-1][2], 32, 8) == new[-1][1]


def test_the_snapshot_offsets_of_the_formats_page() -> None:
    (path,) = VERSION_1.glob("snapshots/*")
    data = path.read_bytes()
    footer = data[-88:]
    assert (footer[4], footer[24 + 16 : 40 + 16]) == (50, golden.META.image_hash)
    assert footer[56:88] == hashlib.blake2b(data[:-88], digest_size=32).digest()
    assert hashlib.blake2b(footer, digest_size=16).hexdigest() == CONTENT_ID
    assert data[16 + 56 : 16 + 72] == golden.META.state_hash
    assert int.from_bytes(data[16 + 8 : 16 + 16], "little") == golden.META.index
    header_end = 16 + int.from_bytes(data[8:12], "little")
    size = int.from_bytes(data[header_end + 8 : header_end + 12], "little")
    chunk = data[header_end + 16 : header_end + 16 + size]
    unpacked = zlib.decompress(chunk[8:])
    assert (int.from_bytes(chunk[:4], "little"), int.from_bytes(chunk[4:8], "little")) == (
        0,
        len(unpacked),
    )
    assert unpacked == b"\x0b\0\0\0first piece\0\0\0\0"

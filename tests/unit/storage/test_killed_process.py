"""A real process on a real disk, killed while it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.storage.disk import RealDisk
from raftkv.storage.snapshots import SnapshotStore, snapshot_name
from raftkv.types import Index
from tests.unit.storage.crashing_disk import EventList
from tests.unit.storage.test_snapshots import WHOLE_META, meta_at, pieces_of
from tests.unit.storage.wal_steps import append_entries, entry, recover, sync

WRITER = """
import sys
from raftkv.storage.disk import RealDisk
from tests.unit.storage.wal_steps import append_entries, recover, sync

disk = RealDisk(sys.argv[1])
disk.lock()
wal, log = recover(disk, segment_bytes=65536)
while True:
    append_entries(wal, 3, 1000)
    if wal.needs_segment():
        wal.prepare_segment()
    sync(wal)
    wal.remove_segments(wal.compact(max(0, wal.last_index - 500)))
    print(wal.last_index, flush=True)
"""


@pytest.mark.slow
def test_what_a_killed_writer_had_synced_is_there(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    acknowledged = 0
    for round_number in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as process:
            assert process.stdout is not None
            for _ in range(20 + 17 * round_number):
                acknowledged = int(process.stdout.readline())
            process.kill()
            rest = process.stdout.read().split("\n")
        # The last line may have been cut by the kill.
        acknowledged = max([acknowledged, *map(int, rest[:-1])])
        disk = RealDisk(str(tmp_path))
        disk.lock()
        wal, log = recover(disk, segment_bytes=65536)
        assert wal.last_index >= acknowledged
        assert wal.retained_from() <= acknowledged - 400 or wal.retained_from() == 1
        for command_bytes, index, _ in log.entries:
            assert command_bytes == entry(index, 1000).command
        wal.close()
        disk.unlock()


def test_a_snapshot_travels_between_real_disks(tmp_path: Path) -> None:
    first, second = RealDisk(str(tmp_path / "a")), RealDisk(str(tmp_path / "b"))
    store = SnapshotStore(first, chunk_bytes=4096)
    writer = store.writer(meta_at(6))
    for piece in pieces_of(6):
        writer.write(piece)
    *_, meta = writer.finish(WHOLE_META)
    raw = store.open_raw(meta)
    target = SnapshotStore(second)
    receiver = target.receiver(raw.content_id, raw.size)
    receiver.write(0, raw.read(0, 5000))
    receiver.close()
    receiver = SnapshotStore(second).receiver(raw.content_id, raw.size)
    assert 0 < receiver.offset <= 5000
    while receiver.offset < raw.size:
        receiver.write(receiver.offset, raw.read(receiver.offset, 3000))
    assert receiver.finish() == meta
    assert list(target.reader(snapshot_name(meta))) == pieces_of(6)
    assert second.names("snapshots") == [snapshot_name(meta).partition("/")[2]]
    raw.close()


def test_a_prepared_segment_is_used_on_a_real_disk(tmp_path: Path) -> None:
    disk = RealDisk(str(tmp_path))
    wal, _ = recover(disk)
    wal.prepare_segment()
    assert disk.exists("wal/next")
    while disk.exists("wal/next"):
        append_entries(wal, 1)
    sync(wal)
    wal.close()
    observer = EventList()
    again, log = recover(disk, observer=observer)
    assert len(log.entries) == again.last_index
    assert observer.events == []
    assert again.read(Index(1), again.last_index, 1 << 20) == log.entries
    again.close()

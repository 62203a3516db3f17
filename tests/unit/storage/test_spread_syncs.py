"""What grows is synced on its way: little is ever left to one sync."""

from __future__ import annotations

import pytest

from raftkv.errors import DiskFullError
from raftkv.storage import spread_syncs
from raftkv.storage.spread_syncs import UNSYNCED_BYTES_MAX, SpreadSyncs, take_space
from tests.unit.storage.crashing_disk import CrashingDisk, CrashingFile


def opened(disk: CrashingDisk) -> CrashingFile:
    return disk.open("file", create=True)


def most_unsynced(file: CrashingFile, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes that each sync of this file from now on finds."""
    found: list[int] = []
    sync = CrashingFile.sync

    def noted(one: CrashingFile) -> None:
        found.append(sum(len(data) for _, data in one.content.unsynced))
        sync(one)

    monkeypatch.setattr(CrashingFile, "sync", noted)
    return found


def test_space_is_taken_in_steps_and_all_of_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(CrashingDisk())
    found = most_unsynced(file, monkeypatch)
    wanted = 3 * UNSYNCED_BYTES_MAX + 5
    take_space(file, wanted)
    assert found == [UNSYNCED_BYTES_MAX] * 3 + [5]
    assert bytes(file.content.durable) == bytes(wanted)


def test_space_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_syncs, "UNSYNCED_BYTES_MAX", 1000)
    file = opened(CrashingDisk(capacity_bytes=2500))
    with pytest.raises(DiskFullError):
        take_space(file, 4000)


def test_writes_are_synced_when_enough_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread_syncs, "UNSYNCED_BYTES_MAX", 1000)
    file = opened(CrashingDisk())
    found = most_unsynced(file, monkeypatch)
    syncs = SpreadSyncs(file)
    for position in range(0, 3000, 300):
        file.write(b"x" * 300, position)
        syncs.note_written(300)
    assert found == [1200, 1200]

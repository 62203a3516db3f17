"""The real disk: positions, errors of the operating system, the lock."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftkv.errors import DirectoryInUseError, DiskFailedError, DiskFullError
from raftkv.storage import disk as disk_module
from raftkv.storage.disk import RealDisk
from raftkv.storage.wal import Wal
from tests.unit.storage.crashing_disk import EventList
from tests.unit.storage.wal_steps import append_entries, indexes, recover, sync


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    return RealDisk(str(tmp_path / "data"))


def test_the_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    RealDisk(str(tmp_path / "a" / "b"))
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DiskFailedError):
        RealDisk(str(tmp_path / "file" / "data"))


def test_files_are_written_and_read_at_positions(disk: RealDisk) -> None:
    file = disk.open("x", create=True)
    file.write(b"hello", 3)
    file.write(memoryview(b"HE"), 3)
    file.sync()
    assert file.read(0, 100) == b"\0\0\0HEllo"
    assert file.read(4, 2) == b"El"
    assert file.read(100, 2) == b""
    assert file.size() == 8
    file.allocate(3 * 1024 * 1024 + 5)
    assert file.size() == 3 * 1024 * 1024 + 5
    assert file.read(0, 9) == b"\0\0\0HEllo\0"
    file.allocate(5)
    file.truncate(4)
    assert file.size() == 4
    file.close()
    file.close()
    assert os.stat(disk.path("x")).st_mode & 0o777 == 0o600


def test_opening_says_what_is_there(disk: RealDisk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open("x")
    disk.open("x", create=True).close()
    with pytest.raises(FileExistsError):
        disk.open("x", create=True)
    with pytest.raises(DiskFailedError):
        disk.open("x/y")
    assert disk.exists("x")
    assert not disk.exists("y")


def test_names_directories_and_removal(disk: RealDisk) -> None:
    assert disk.names("wal") == []
    disk.make_directory("wal")
    disk.make_directory("wal")
    for name in ("wal/b", "wal/a", "top"):
        disk.open(name, create=True).close()
    assert disk.names("wal") == ["a", "b"]
    assert disk.names("") == ["top"]
    disk.rename("wal/a", "wal/b")
    disk.sync_directory("wal")
    assert disk.names("wal") == ["b"]
    disk.remove("wal/b")
    disk.remove("wal/b")
    assert disk.names("wal") == []
    with pytest.raises(DiskFailedError):
        disk.rename("nothing", "x")
    with pytest.raises(DiskFailedError):
        disk.sync_directory("nothing")
    with pytest.raises(DiskFailedError):
        disk.remove("wal")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "wal/../../x"])
def test_names_stay_inside_the_directory(disk: RealDisk, name: str) -> None:
    with pytest.raises(ValueError, match="leaves the data directory"):
        disk.open(name)


def test_free_bytes_is_what_the_file_system_has(disk: RealDisk) -> None:
    assert 0 < disk.free_bytes() < 1 << 60


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_space_is_told_from_a_failed_write(disk: RealDisk) -> None:
    os.symlink("/dev/full", disk.path("full"))
    file = disk.open("full")
    with pytest.raises(DiskFullError, match="full"):
        file.write(b"x", 0)
    read_only = disk_module.RealFile(os.open("/dev/null", os.O_RDONLY), "null")
    with pytest.raises(DiskFailedError, match="null"):
        read_only.write(b"x", 0)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_sync_that_fails_is_always_a_failure(
    disk: RealDisk, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    file = disk.open("x", create=True)
    monkeypatch.setattr(disk_module, "_sync_data", fail)
    with pytest.raises(DiskFailedError, match=os.strerror(number)):
        file.sync()


def test_short_writes_are_continued(disk: RealDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    real_write, real_read = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: real_write(fd, data[:3], position))
    monkeypatch.setattr(
        os, "pread", lambda fd, size, position: real_read(fd, min(size, 2), position)
    )
    file = disk.open("x", create=True)
    file.write(b"0123456789", 5)
    assert file.read(5, 100) == b"0123456789"


def test_the_lock_keeps_a_second_process_out_and_names_the_first(disk: RealDisk) -> None:
    disk.lock()
    directory = disk.path("")
    script = (
        "import sys\n"
        "from raftkv.errors import DirectoryInUseError\n"
        "from raftkv.storage.disk import RealDisk\n"
        "try:\n"
        f"    RealDisk({directory!r}).lock()\n"
        "except DirectoryInUseError as error:\n"
        "    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", script]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.stderr.strip() == f"{directory} is in use by process {os.getpid()}"
    with pytest.raises(DirectoryInUseError):
        RealDisk(directory).lock()
    disk.unlock()
    disk.unlock()
    assert subprocess.run(command, check=False).returncode == 0


def test_a_wal_on_a_real_disk(disk: RealDisk) -> None:
    wal, _ = recover(disk)
    wal.prepare_segment()
    append_entries(wal, 100)
    sync(wal)
    wal.remove_segments(wal.compact(wal._segments[2].base_index))
    wal.close()
    again, log = recover(disk)
    assert indexes(log) == list(range(log.base_index + 1, 101))
    assert log.base_index > 0
    assert again.read(again.retained_from(), again.last_index, 1 << 20) == log.entries
    again.close()


def test_a_segment_takes_its_whole_length_at_once(disk: RealDisk) -> None:
    wal, _ = Wal.recover(disk, segment_bytes=16 << 20, observer=EventList())
    name = "wal/" + disk.names("wal")[0]
    assert os.stat(disk.path(name)).st_size == (16 << 20)
    wal.close()

"""What would be left of a data directory if the power went now.

`FaultyDisk` is a real disk that keeps beside it, in a second directory, only what has
been synced: the platter. A write is remembered until the sync that saves it; a file is
found by its name only after its directory was synced. `cut_power` then puts the platter
in the place of the data directory of a killed node: every byte that was not synced is
lost, or, torn, any sectors of it.

Stricter than a real file system in two ways that POSIX allows: syncing a file does not
save its name, and nothing is ever saved by itself. Files are known by inode number, so
a name that is replaced, or a file that is written by one descriptor and synced by
another, is treated as the kernel does it. After a plain kill and a restart the unsynced
bytes can be read, but are still not on the platter.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from pathlib import Path

from raftkv.errors import DiskFailedError
from raftkv.storage.disk import RealDisk, RealFile
from tests.chaos.faults import FaultPage

SECTOR_BYTES = 512
# Never on the platter: the lock is no data, and the ballast belongs to the script.
BALLAST = "ballast"
_FOREIGN = ("lock", BALLAST)


class _Platter:
    """The durable bytes by inode number, and the durable names.

    Invariant: `tree` holds hard links to the files of `inodes`.
    """

    def __init__(self, directory: Path, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._inodes = directory / "inodes"
        self._tree = directory / "tree"
        self._lock = threading.Lock()
        # By inode: what was written since its last sync; None: anything may have been.
        self._dirty: dict[int, list[tuple[int, bytes | None]] | None] = {}
        if not self._tree.exists():
            # A node that was killed here has begun, and has written nothing.
            shutil.rmtree(directory, ignore_errors=True)
            self._inodes.mkdir(parents=True)
            self._adopt()

    def _adopt(self) -> None:
        """Take everything that is there for durable: the node starts with it."""
        making = self._tree.with_name("making")
        for path in self._data_dir.rglob("*"):
            target = making / path.relative_to(self._data_dir)
            if path.name in _FOREIGN:
                continue
            if path.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self._inode(path.stat().st_ino))
                os.link(self._inode(path.stat().st_ino), target)
        making.mkdir(exist_ok=True)
        making.rename(self._tree)

    def _inode(self, number: int) -> Path:
        return self._inodes / str(number)

    def created(self, number: int) -> None:
        """Begin a file: its number may have been another's before."""
        with self._lock:
            self._inode(number).unlink(missing_ok=True)
            self._inode(number).touch()
            self._dirty[number] = []

    def opened(self, number: int) -> None:
        with self._lock:
            self._dirty.setdefault(number, None)

    def changed(self, number: int, position: int, data: bytes | None) -> None:
        """Note a write, or a cut at a position where `data` is None."""
        with self._lock:
            changes = self._dirty[number]
            if changes is not None:
                changes.append((position, data))

    def take(self, number: int) -> list[tuple[int, bytes | None]] | None:
        """Return what a sync that begins now will save."""
        with self._lock:
            changes = self._dirty[number]
            self._dirty[number] = []
            return changes

    def save(self, number: int, path: str, changes: list[tuple[int, bytes | None]] | None) -> None:
        """Make durable what `take` gave."""
        target = self._inode(number)
        if changes is None:
            temporary = target.with_suffix(".whole")
            shutil.copyfile(path, temporary)
            # Into the same file: names are linked to it.
            with temporary.open("rb") as source, target.open("wb") as saved:
                shutil.copyfileobj(source, saved)
            temporary.unlink()
            return
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for position, data in changes:
                if data is None:
                    os.ftruncate(descriptor, position)
                else:
                    os.pwrite(descriptor, data, position)
        finally:
            os.close(descriptor)

    def save_names(self, name: str) -> None:
        """Make the names of one directory durable."""
        durable = self._tree / name
        durable.mkdir(parents=True, exist_ok=True)
        with self._lock:
            with os.scandir(self._data_dir / name) as entries:
                numbers = {
                    entry.name: entry.inode()
                    for entry in entries
                    if entry.is_file() and entry.name not in _FOREIGN
                }
            for path in durable.iterdir():
                if path.is_file() and path.name not in numbers:
                    path.unlink()
            for file, number in numbers.items():
                self._link(self._inode(number), durable / file)

    @staticmethod
    def _link(inode: Path, name: Path) -> None:
        inode.touch()
        if name.exists():
            if os.path.samefile(inode, name):
                return
            name.unlink()
        os.link(inode, name)


class FaultyFile:
    """One open file; implements `seams.DiskFile`."""

    def __init__(self, file: RealFile, path: str, platter: _Platter, page: FaultPage) -> None:
        self._file = file
        self._path = path
        self._platter = platter
        self._page = page
        self._number = os.stat(path).st_ino
        self.read = file.read
        self.size = file.size
        self.close = file.close

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        if self._page.write_fails:
            self._page.writes_failed += 1
            raise DiskFailedError(f"cannot write {self._path}: a planted failure")
        self._file.write(data, position)
        self._platter.changed(self._number, position, bytes(data))

    def allocate(self, size: int) -> None:
        before = self._file.size()
        self._file.allocate(size)
        if size > before:
            self._platter.changed(self._number, before, bytes(size - before))

    def truncate(self, size: int) -> None:
        self._file.truncate(size)
        self._platter.changed(self._number, size, None)

    def sync(self) -> None:
        page = self._page
        page.syncs += 1
        changes = self._platter.take(self._number)
        if page.sync_delay_us:
            time.sleep(page.sync_delay_us / 1e6)
        if page.sync_fails:
            page.syncs_failed += 1
            raise DiskFailedError(f"cannot sync {self._path}: a planted failure")
        self._file.sync()
        self._platter.save(self._number, self._path_now(), changes)

    def _path_now(self) -> str:
        """Return a path to the bytes, whatever the file is called by now."""
        return f"/proc/self/fd/{self._file._descriptor}"


class FaultyDisk(RealDisk):
    """A data directory that keeps a platter and does what its page says."""

    def __init__(self, directory: str, platter: Path, page: FaultPage) -> None:
        super().__init__(directory)
        self._page = page
        self._platter = _Platter(platter, Path(directory).resolve())

    def open(self, name: str, *, create: bool = False) -> FaultyFile:  # type: ignore[override]
        file = super().open(name, create=create)
        path = self.path(name)
        number = os.stat(path).st_ino
        if create:
            self._platter.created(number)
        else:
            self._platter.opened(number)
        return FaultyFile(file, path, self._platter, self._page)

    def make_directory(self, name: str) -> None:
        super().make_directory(name)
        self._platter.save_names(name)

    def sync_directory(self, directory: str) -> None:
        if self._page.sync_fails:
            self._page.syncs_failed += 1
            raise DiskFailedError(f"cannot sync {self.path(directory)}: a planted failure")
        super().sync_directory(directory)
        self._platter.save_names(directory)


def clear_directory(directory: Path) -> None:
    """Delete what is in a data directory; it may be a mount point, which stays."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != BALLAST:
            path.unlink()


def cut_power(data_dir: Path, platter: Path, *, torn: random.Random | None) -> int:
    """Give a killed node what the platter holds; returns how many unsynced bytes were lost.

    Args:
        data_dir: Of a node that does not run.
        platter: Of the same.
        torn: Decides which sectors of what was not synced are kept; None: none.
    """
    tree = platter / "tree"
    if not tree.exists():
        return 0
    lost_bytes = 0
    files: dict[Path, bytes] = {}
    for path in tree.rglob("*"):
        name = path.relative_to(tree)
        if path.is_file():
            durable = path.read_bytes()
            volatile = durable
            now = data_dir / name
            # A file that was put in its place since has nothing to do with its sectors.
            if now.is_file() and path.samefile(platter / "inodes" / str(now.stat().st_ino)):
                volatile = now.read_bytes()
            files[name], lost = _after_power_cut(durable, volatile, torn)
            lost_bytes += lost
    directories = [path.relative_to(tree) for path in tree.rglob("*") if path.is_dir()]
    clear_directory(data_dir)
    for directory in sorted(directories):
        (data_dir / directory).mkdir(mode=0o700, exist_ok=True)
    for name, data in files.items():
        (data_dir / name).write_bytes(data)
        (data_dir / name).chmod(0o600)
    forget_platter(platter)
    return lost_bytes


def forget_platter(platter: Path) -> None:
    """Let the next start take for durable what it finds, as after a change by hand."""
    shutil.rmtree(platter, ignore_errors=True)


def _after_power_cut(
    durable: bytes, volatile: bytes, torn: random.Random | None
) -> tuple[bytes, int]:
    """Return what is left of a file, and how many bytes of it are not what was written."""
    if durable == volatile:
        return durable, 0
    left = durable
    if torn is not None:
        size = torn.randint(*sorted((len(durable), len(volatile))))
        sectors = []
        for position in range(0, size, SECTOR_BYTES):
            end = min(size, position + SECTOR_BYTES)
            source = volatile if torn.random() < 0.5 else durable
            sectors.append(source[position:end].ljust(end - position, b"\0"))
        left = b"".join(sectors)
    same = sum(
        left[position : position + SECTOR_BYTES] == volatile[position : position + SECTOR_BYTES]
        for position in range(0, len(volatile), SECTOR_BYTES)
    )
    return left, max(0, len(volatile) - same * SECTOR_BYTES)

"""A disk in memory that loses what was not synced, runs full, and fails on demand.

Keeps two views: what a running process sees, and what is durable. Directory
changes and file contents become durable separately, as on a real file system.
`crash` returns the disk as the next process finds it; a chooser decides how much
of the unsynced part survived, down to single bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from raftkv.errors import DiskFailedError, DiskFullError

# (name of the file, ordinal of an unsynced write from 0, its size) -> the
# half-open range of its bytes that reached the disk.
Chooser = Callable[[str, int, int], tuple[int, int]]
# Ordinal of an unsynced change of a directory -> whether it reached the disk.
NameChooser = Callable[[int], bool]
# A change of names: (new name or "", old name or "", content created or None).
Change = tuple[str, str, "Content | None"]


class Content:
    """Bytes of one file and the writes that no sync has covered."""

    def __init__(self, data: bytes = b"") -> None:
        self.durable = bytearray(data)
        self.seen = bytearray(data)
        self.unsynced: list[tuple[int, bytes]] = []

    def write(self, position: int, data: bytes) -> None:
        patch(self.seen, position, data)
        self.unsynced.append((position, data))

    def sync(self) -> None:
        self.durable = bytearray(self.seen)
        self.unsynced.clear()


def patch(target: bytearray, position: int, data: bytes) -> None:
    """Write into a byte array as into a file."""
    if len(target) < position:
        target.extend(bytes(position - len(target)))
    target[position : position + len(data)] = data


def apply_change(names: dict[str, Content], change: Change) -> None:
    """Apply one change of names; what it needs may have been lost."""
    target, source, created = change
    content = created if created is not None else names.pop(source, None)
    if target and content is not None:
        names[target] = content


class CrashingFile:
    """An open file; implements `seams.DiskFile`."""

    def __init__(self, disk: CrashingDisk, content: Content) -> None:
        self._disk = disk
        self.content = content
        self._closed = False

    def _check(self) -> None:
        assert not self._closed, "use of a closed file"
        self._disk.step()

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        self._check()
        grown = max(0, position + len(data) - len(self.content.seen))
        space = self._disk.capacity_bytes - self._disk.used_bytes()
        if grown > space:
            self.content.write(position, bytes(data)[: len(data) - grown + space])
            raise DiskFullError("no space in the test disk")
        self.content.write(position, bytes(data))

    def read(self, position: int, size: int) -> bytes:
        assert not self._closed, "use of a closed file"
        return bytes(self.content.seen[position : position + size])

    def size(self) -> int:
        return len(self.content.seen)

    def allocate(self, size: int) -> None:
        length = len(self.content.seen)
        if size > length:
            self.write(bytes(size - length), length)

    def truncate(self, size: int) -> None:
        self._check()
        del self.content.seen[size:]

    def sync(self) -> None:
        self._check()
        if self._disk.fails_sync:
            raise DiskFailedError("the test disk fails its syncs")
        self.content.sync()

    def close(self) -> None:
        self._closed = True


class PowerCutError(BaseException):
    """The process ends here; not an `Exception`, so that nothing handles it."""


class CrashingDisk:
    """A data directory in memory; implements `seams.Disk`."""

    def __init__(self, *, capacity_bytes: int = 1 << 40) -> None:
        self.capacity_bytes = capacity_bytes
        self.fails_sync = False
        self.steps = 0
        self.steps_max = -1
        self.seen: dict[str, Content] = {}
        self.durable: dict[str, Content] = {}
        self.changes: list[Change] = []

    def step(self) -> None:
        """Count one change of the disk; the power is cut before number `steps_max`."""
        if self.steps == self.steps_max:
            raise PowerCutError
        self.steps += 1

    def used_bytes(self) -> int:
        return sum(len(content.seen) for content in self.seen.values())

    def path(self, name: str) -> str:
        return f"/data/{name}" if name else "/data"

    def open(self, name: str, *, create: bool = False) -> CrashingFile:
        if create:
            if name in self.seen:
                raise FileExistsError(name)
            self.step()
            self.change((name, "", Content()))
        elif name not in self.seen:
            raise FileNotFoundError(name)
        return CrashingFile(self, self.seen[name])

    def exists(self, name: str) -> bool:
        return name in self.seen

    def names(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        rest = [name[len(prefix) :] for name in self.seen if name.startswith(prefix)]
        return sorted(name for name in rest if "/" not in name)

    def make_directory(self, name: str) -> None:
        pass

    def rename(self, source: str, target: str) -> None:
        self.step()
        self.change((target, source, None))

    def remove(self, name: str) -> None:
        self.step()
        self.change(("", name, None))

    def change(self, change: Change) -> None:
        """Change the names that a process sees, and remember it until they are synced."""
        self.changes.append(change)
        apply_change(self.seen, change)

    def sync_directory(self, directory: str) -> None:
        self.step()
        prefix = f"{directory}/" if directory else ""

        def is_inside(change: Change) -> bool:
            name = change[0] or change[1]
            return name.startswith(prefix) and "/" not in name[len(prefix) :]

        for change in self.changes:
            if is_inside(change):
                apply_change(self.durable, change)
        self.changes = [change for change in self.changes if not is_inside(change)]

    def free_bytes(self) -> int:
        return self.capacity_bytes - self.used_bytes()

    # ------------------------------------------------------------ crashing

    def kill(self) -> CrashingDisk:
        """Return what the next process finds when only this process died.

        That is everything, but a later power cut still loses what was not synced.
        """
        disk = copy.deepcopy(self)
        disk.steps, disk.steps_max = 0, -1
        return disk

    def crash(
        self, choose: Chooser | None = None, *, choose_names: NameChooser | None = None
    ) -> CrashingDisk:
        """Return what the next process finds after a power cut.

        Args:
            choose: How much of each unsynced write reached the disk; nothing
                without it.
            choose_names: Which unsynced changes of directories did; all without it.
        """

        def bytes_of(name: str, content: Content) -> bytes:
            data = bytearray(content.durable)
            for ordinal, (position, piece) in enumerate(content.unsynced):
                first, end = choose(name, ordinal, len(piece)) if choose else (0, 0)
                if first < end:
                    patch(data, position + first, piece[first:end])
            return bytes(data)

        names = dict(self.durable)
        for ordinal, change in enumerate(self.changes):
            if choose_names is None or choose_names(ordinal):
                apply_change(names, change)
        disk = CrashingDisk(capacity_bytes=self.capacity_bytes)
        for name, content in names.items():
            disk.seen[name] = disk.durable[name] = Content(bytes_of(name, content))
        return disk

    def flip(self, name: str, position: int, bit: int) -> None:
        """Change one bit of a file, durably."""
        for data in (self.seen[name].seen, self.seen[name].durable):
            data[position] ^= 1 << bit


class EventList:
    """An observer that keeps what it hears; implements `seams.Observer`."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.events.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]

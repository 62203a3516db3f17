"""Simulated disks: what a crash of the process keeps, and what a power cut keeps.

A write is visible at once and durable after a `sync` that began later than it.
A power cut keeps, of everything that is not durable, a random selection: whole
writes, torn writes, or none; of directory operations a prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftkv.errors import DiskFailedError, DiskFullError
from tests.sim.world import World


@dataclass
class _Write:
    number: int
    position: int
    data: bytes
    truncate: bool = False


@dataclass
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)


def _apply(data: bytearray, write: _Write) -> None:
    if write.truncate:
        if len(data) > write.position:
            del data[write.position :]
        return
    end = write.position + len(write.data)
    if len(data) < write.position:
        data.extend(bytes(write.position - len(data)))
    data[write.position : end] = write.data


class SimFile:
    def __init__(self, disk: SimDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        self._disk.effect()
        self._disk.take(max(0, position + len(data) - len(self._inode.data)))
        self._change(_Write(self._disk.next_number(), position, bytes(data)))
        self._disk.note(data)

    def _change(self, write: _Write) -> None:
        _apply(self._inode.data, write)
        self._inode.pending.append(write)

    def read(self, position: int, size: int) -> bytes:
        return bytes(self._inode.data[position : position + size])

    def size(self) -> int:
        return len(self._inode.data)

    def allocate(self, size: int) -> None:
        grow = size - len(self._inode.data)
        if grow > 0:
            self._disk.take(grow)
            self._change(_Write(self._disk.next_number(), len(self._inode.data), bytes(grow)))

    def truncate(self, size: int) -> None:
        self._change(_Write(self._disk.next_number(), size, b"", truncate=True))

    def sync(self) -> None:
        self._disk.effect()
        if self._disk.sync_fails:
            raise DiskFailedError("simulated: fsync failed")
        limit = self._disk.sync_limit
        keep = []
        for write in self._inode.pending:
            if limit is None or write.number <= limit:
                _apply(self._inode.durable, write)
            else:
                keep.append(write)
        self._inode.pending = keep

    def close(self) -> None:
        pass


class SimDisk:
    """The data directory of one node; survives the node's process."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._files: dict[str, _Inode] = {}
        self._durable_files: dict[str, _Inode] = {}
        self._pending: list[tuple[int, str, str, str]] = []
        self._number = 0
        self.space = 1 << 40
        self.sync_fails = False
        # Writes up to this number become durable by the sync under way.
        self.sync_limit: int | None = None
        self.effect: Callable[[], None] = lambda: None

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, data: bytes | bytearray | memoryview) -> None:
        self._world.note(bytes(data))

    @property
    def number(self) -> int:
        return self._number

    def take(self, size: int) -> None:
        used = sum(len(inode.data) for inode in self._files.values())
        if size > 0 and used + size > self.space:
            raise DiskFullError("simulated: no space")

    # --------------------------------------------------------------- seams.Disk

    def path(self, name: str) -> str:
        return f"{self._name}/{name}"

    def open(self, name: str, *, create: bool = False) -> SimFile:
        if create:
            if name in self._files:
                raise FileExistsError(name)
            self._files[name] = _Inode()
            self._pending.append((self.next_number(), "create", name, ""))
        elif name not in self._files:
            raise FileNotFoundError(name)
        return SimFile(self, self._files[name])

    def exists(self, name: str) -> bool:
        return name in self._files

    def names(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        found = {name.removeprefix(prefix) for name in self._files if name.startswith(prefix)}
        return sorted(name for name in found if "/" not in name)

    def make_directory(self, name: str) -> None:
        pass

    def rename(self, source: str, target: str) -> None:
        self.effect()
        self._files[target] = self._files.pop(source)
        self._pending.append((self.next_number(), "rename", source, target))

    def remove(self, name: str) -> None:
        self.effect()
        del self._files[name]
        self._pending.append((self.next_number(), "remove", name, ""))

    def sync_directory(self, directory: str) -> None:
        self.effect()
        keep = []
        for operation in self._pending:
            if self.sync_limit is None or operation[0] <= self.sync_limit:
                self._harden(operation)
            else:
                keep.append(operation)
        self._pending = keep

    def free_bytes(self) -> int:
        return self.space - sum(len(inode.data) for inode in self._files.values())

    def _harden(self, operation: tuple[int, str, str, str]) -> None:
        _, verb, name, target = operation
        if verb == "create":
            self._durable_files[name] = self._find(name, operation)
        elif verb == "rename":
            inode = self._durable_files.pop(name, None)
            if inode is not None:
                self._durable_files[target] = inode
        else:
            self._durable_files.pop(name, None)

    def _find(self, name: str, operation: tuple[int, str, str, str]) -> _Inode:
        """Return the inode that a create made, following later renames."""
        current = name
        for later in self._pending:
            if later[0] <= operation[0]:
                continue
            if later[1] == "rename" and later[2] == current:
                current = later[3]
            elif later[1] == "remove" and later[2] == current:
                return _Inode()
        return self._files.get(current, _Inode())

    # -------------------------------------------------------------------- faults

    def crash_process(self) -> None:
        """Forget nothing: what was written is in the page cache."""
        self.sync_limit = None
        self.effect = lambda: None

    def cut_power(self) -> None:
        """Lose what is not durable, except for a random selection."""
        self.crash_process()
        random = self._world.random
        for operation in self._pending[: random.randrange(len(self._pending) + 1)]:
            self._harden(operation)
        self._pending = []
        self._files = self._durable_files
        self._durable_files = dict(self._files)
        for inode in self._files.values():
            data = bytearray(inode.durable)
            for write in inode.pending:
                if random.random() < 0.5:
                    continue
                if not write.truncate and write.data and random.random() < 0.3:
                    write = _Write(
                        write.number,
                        write.position,
                        write.data[: random.randrange(len(write.data))],
                    )
                _apply(data, write)
            inode.data, inode.durable, inode.pending = data, bytearray(data), []

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing on it."""
        return not self._files

    def wipe(self) -> None:
        """Everything is gone."""
        self._files, self._durable_files, self._pending = {}, {}, []

    def flip_bit(self, name: str, position: int, bit: int) -> None:
        """Let one bit rot."""
        inode = self._files[name]
        inode.data[position] ^= 1 << bit
        if position < len(inode.durable):
            inode.durable[position] ^= 1 << bit

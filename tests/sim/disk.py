"""Simulated disks: what a crash of the process keeps, and what a power cut keeps.

A write is visible at once and durable after a `sync` that began later than it.
A power cut keeps, of everything that is not durable, a random selection: whole
writes, torn writes (a beginning, or any of its sectors), or none; of directory
operations a prefix.

A sync or a write may be made to fail. What a failed sync was to save is then
partly durable; of the rest the page cache forgets that it is dirty: it can
still be read, or has fallen back to what is on the disk, and no later sync
saves it unless it is written again. That is what Linux does. When the sync of
a directory fails, a prefix of what was done to it is durable; the rest stays to
be saved, or the file system refuses to go on and is mounted again when the
process has ended, which loses what a power cut would lose.

The disk knows what is durable, and so holds those to account who only believe
it (`wal_durable_to`, `is_all_durable`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from raftkv.errors import DiskFailedError, DiskFullError
from tests.sim.world import World

SECTOR_BYTES = 512
PLENTY_BYTES = 1 << 40
_SEGMENT_SUFFIX = ".segment"
# A write of which a power cut kept some and not all; and those of them of which it kept
# sectors anywhere. They are the fewer, because few writes are longer than a sector.
TORN_WRITE = "torn_write"
TORN_BY_SECTORS = "torn_by_sectors"


# Its number, verb, name, and new name.
_NameChange = tuple[int, str, str, str]


@dataclass(slots=True)
class _Write:
    number: int
    position: int
    data: bytes
    truncate: bool = False


@dataclass(slots=True)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)
    # When it got its name: what is older prepared it, and is none of the log.
    named: int = 0


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
        disk = self._disk
        disk.effect("persist")
        disk.take(max(0, position + len(data) - len(self._inode.data)))
        if disk.write_fails:
            self._change(_Write(disk.next_number(), position, bytes(data[: len(data) // 2])))
            disk.fail("write failed")
        self._change(_Write(disk.next_number(), position, bytes(data)))
        disk.note(data)

    def _change(self, write: _Write) -> None:
        _apply(self._inode.data, write)
        self._inode.pending.append(write)

    def read(self, position: int, size: int) -> bytes:
        return bytes(self._inode.data[position : position + size])

    def size(self) -> int:
        return len(self._inode.data)

    def allocate(self, size: int) -> None:
        disk = self._disk
        disk.effect("persist")
        grow = size - len(self._inode.data)
        if grow > 0:
            disk.take(grow)
            self._change(_Write(disk.next_number(), len(self._inode.data), bytes(grow)))

    def truncate(self, size: int) -> None:
        self._disk.effect("persist")
        self._change(_Write(self._disk.next_number(), size, b"", truncate=True))

    def sync(self) -> None:
        disk, inode = self._disk, self._inode
        disk.effect("sync")
        keep = []
        covered = []
        for write in inode.pending:
            (covered if disk.is_covered(write.number) else keep).append(write)
        inode.pending = keep
        if disk.sync_fails:
            disk.lose_some(inode, covered)
            disk.fail("fsync failed")
        for write in covered:
            _apply(inode.durable, write)
        disk.note_synced()

    def close(self) -> None:
        pass


class SimDisk:
    """The data directory of one node; survives the node's process.

    Attributes:
        space: Bytes that it can hold.
        sync_fails: The next sync fails.
        write_fails: The next write fails, half done.
        directory_sync_fails: The next sync of a directory fails.
        directory_failures: How many of these have failed.
        failed: A write or sync has failed; whoever saw it must stop.
        rotten: A bit was flipped in what had been durable: it must be noticed.
        effect: Called before each effect; may end the process.
        happened: Counts of `TORN_WRITE` and `TORN_BY_SECTORS`.
        wal_durable_to: Every write to a segment of the WAL up to this number is
            durable, together with the name of the segment.
    """

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name
        self._files: dict[str, _Inode] = {}
        self._durable_files: dict[str, _Inode] = {}
        self._pending: list[_NameChange] = []
        self._number = 0
        self.space = PLENTY_BYTES
        self.sync_fails = False
        self.write_fails = False
        self.directory_sync_fails = False
        self.directory_failures = 0
        self._mounts_again = False
        self.failed = False
        self.rotten = False
        self.wal_durable_to = 0
        # A sync under way covers what was written before it was asked for, and
        # what its own job writes.
        self._sync_limit: tuple[int, int] | None = None
        self.effect: Callable[[str], None] = lambda _kind: None
        self.happened: Counter[str] = Counter()

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, data: bytes | bytearray | memoryview) -> None:
        self._world.note(bytes(data))

    @property
    def number(self) -> int:
        return self._number

    def take(self, size: int) -> None:
        if size > 0 and self.space < PLENTY_BYTES and self.used_bytes + size > self.space:
            raise DiskFullError("simulated: no space")

    @property
    def used_bytes(self) -> int:
        return sum(len(inode.data) for inode in self._files.values())

    def begin_job(self, limit: int) -> None:
        """A job of the sync worker runs that was asked for when `limit` was written."""
        self._sync_limit = limit, self._number

    def end_job(self) -> None:
        self._sync_limit = None

    def is_covered(self, number: int) -> bool:
        """Whether a sync that runs now makes this write durable."""
        if self._sync_limit is None:
            return True
        asked, begun = self._sync_limit
        return number <= asked or number > begun

    def note_synced(self) -> None:
        """Find out how much of the WAL is durable."""
        first = self._number + 1
        for name, inode in self._files.items():
            if name.endswith(_SEGMENT_SUFFIX) and inode.pending:
                first = min(first, max(inode.pending[0].number, inode.named))
        for number, verb, name, target in self._pending:
            if verb != "remove" and (target or name).endswith(_SEGMENT_SUFFIX):
                first = min(first, number)
        self.wal_durable_to = max(self.wal_durable_to, first - 1)

    def is_all_durable(self, directory: str) -> bool:
        """Whether a power cut now would leave all files of a directory as they are."""
        return all(
            self._durable_files.get(name) is inode and inode.data == inode.durable
            for name, inode in self._files.items()
            if name.startswith(f"{directory}/")
        )

    # --------------------------------------------------------------- seams.Disk

    def path(self, name: str) -> str:
        return f"{self._name}/{name}"

    def open(self, name: str, *, create: bool = False) -> SimFile:
        if create:
            if name in self._files:
                raise FileExistsError(name)
            self.effect("persist")
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
        self.effect("persist")
        self._files[target] = self._files.pop(source)
        self._pending.append((self.next_number(), "rename", source, target))
        self._files[target].named = self.number

    def remove(self, name: str) -> None:
        self.effect("persist")
        del self._files[name]
        self._pending.append((self.next_number(), "remove", name, ""))

    def sync_directory(self, directory: str) -> None:
        self.effect("sync")
        covered = [one for one in self._pending if self.is_covered(one[0])]
        if self.directory_sync_fails:
            self._lose_names(covered)
            self.directory_failures += 1
            self.fail("fsync of a directory failed")
        self._save_names(covered)
        self.note_synced()

    def _save_names(self, operations: Sequence[_NameChange]) -> None:
        for operation in operations:
            self._harden(operation)
        self._pending = [one for one in self._pending if one not in operations]

    def _lose_names(self, operations: Sequence[_NameChange]) -> None:
        random = self._world.random
        self._save_names(operations[: random.randrange(len(operations) + 1)])
        self._mounts_again = random.random() < 0.5

    def free_bytes(self) -> int:
        return self.space - self.used_bytes

    def _harden(self, operation: _NameChange) -> None:
        _, verb, name, target = operation
        if verb == "create":
            self._durable_files[name] = self._find(name, operation)
        elif verb == "rename":
            inode = self._durable_files.pop(name, None)
            if inode is not None:
                self._durable_files[target] = inode
        else:
            self._durable_files.pop(name, None)

    def _find(self, name: str, operation: _NameChange) -> _Inode:
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

    def fail(self, what: str) -> None:
        """Fail the effect under way, once."""
        self.sync_fails = self.write_fails = self.directory_sync_fails = False
        self.failed = True
        raise DiskFailedError(f"simulated: {what}")

    def lose_some(self, inode: _Inode, writes: list[_Write]) -> None:
        """A sync of these writes failed; nothing will be tried again for them."""
        random = self._world.random
        forgets = random.random() < 0.5
        for write in writes:
            if random.random() < 0.5:
                _apply(inode.durable, write)
        if forgets:
            inode.data = bytearray(inode.durable)
            for write in inode.pending:
                _apply(inode.data, write)

    def crash_process(self) -> None:
        """Forget nothing: what was written is in the page cache."""
        self._end_process()
        if self._mounts_again:
            self.cut_power()

    def _end_process(self) -> None:
        self._sync_limit = None
        self.sync_fails = self.write_fails = self.directory_sync_fails = self.failed = False
        self.effect = lambda _kind: None

    def cut_power(self) -> None:
        """Lose what is not durable, except for a random selection."""
        self._end_process()
        self._mounts_again = False
        random = self._world.random
        for operation in self._pending[: random.randrange(len(self._pending) + 1)]:
            self._harden(operation)
        self._pending = []
        self._files = self._durable_files
        self._durable_files = dict(self._files)
        for inode in self._files.values():
            for write in inode.pending:
                if random.random() < 0.5:
                    continue
                if not write.truncate and write.data and random.random() < 0.3:
                    self._tear(inode.durable, write)
                else:
                    _apply(inode.durable, write)
            inode.data, inode.pending = bytearray(inode.durable), []

    def _tear(self, data: bytearray, write: _Write) -> None:
        """Do a part of a write: its beginning, or some of its sectors."""
        random = self._world.random
        size = len(write.data)
        if size <= SECTOR_BYTES or random.random() < 0.5:
            kept = random.randrange(size)
            _apply(data, _Write(write.number, write.position, write.data[:kept]))
            if kept:
                self.happened[TORN_WRITE] += 1
            return
        first = write.position // SECTOR_BYTES * SECTOR_BYTES
        sectors = range(first, write.position + size, SECTOR_BYTES)
        if len(sectors) > 64:
            sectors = range(first, write.position + size, SECTOR_BYTES * (len(sectors) // 64))
        kept = 0
        for begin in sectors:
            if random.random() < 0.5:
                start = max(begin, write.position)
                piece = write.data[start - write.position : begin + sectors.step - write.position]
                _apply(data, _Write(write.number, start, piece))
                kept += 1
        if 0 < kept < len(sectors):
            self.happened[TORN_WRITE] += 1
            self.happened[TORN_BY_SECTORS] += 1

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing on it."""
        return not self._files

    def wipe(self) -> None:
        """Everything is gone."""
        self._files, self._durable_files, self._pending = {}, {}, []
        self.rotten = self._mounts_again = False

    def flip_bit(self, name: str, position: int, bit: int) -> None:
        """Let one bit rot."""
        inode = self._files[name]
        inode.data[position] ^= 1 << bit
        if position < len(inode.durable):
            inode.durable[position] ^= 1 << bit

"""What a script may do to disk and clock of a running node: one page of shared memory.

The script writes wishes, the node reads them at every operation, and counts what came
true. Each is an aligned 64-bit number, so no reader sees half of a write. The file is
mapped, so a wish takes effect at once and costs nothing while it is zero.
"""

from __future__ import annotations

import mmap
from pathlib import Path

_SIZE = 4096
_WISHES = ("sync_delay_us", "sync_fails", "write_fails", "wall_offset_ms", "boot_offset_ms")
_COUNTS = ("syncs", "syncs_failed", "writes_failed", "clock_reads")
_PLACES = {name: place for place, name in enumerate((*_WISHES, *_COUNTS))}


class FaultPage:
    """One node's page; made if it is not there.

    Attributes:
        sync_delay_us: Every sync takes so much longer.
        sync_fails: Not 0: every sync fails, and what it was to save is not on the disk.
        write_fails: Not 0: every write fails.
        wall_offset_ms: Added to the wall clock; any sign.
        boot_offset_ms: Added to the boot clock; must not shrink while the node runs.
        syncs, syncs_failed, writes_failed, clock_reads: What happened, since the page
            was made.
    """

    sync_delay_us: int
    sync_fails: int
    write_fails: int
    wall_offset_ms: int
    boot_offset_ms: int
    syncs: int
    syncs_failed: int
    writes_failed: int
    clock_reads: int

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            page = mmap.mmap(file.fileno(), _SIZE)
        object.__setattr__(self, "_cells", memoryview(page).cast("q"))

    def __getattr__(self, name: str) -> int:
        try:
            return int(self._cells[_PLACES[name]])
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: int) -> None:
        self._cells[_PLACES[name]] = value

    def clear(self) -> None:
        """Take every wish back, except the clock that must not go back."""
        for name in _WISHES:
            if name != "boot_offset_ms":
                setattr(self, name, 0)

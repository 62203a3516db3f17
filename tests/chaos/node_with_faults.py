"""`raftkv` with a disk and a clock that fail on demand; the rest is the product.

    CHAOS_PAGE=FILE CHAOS_PLATTER=DIR python -m tests.chaos.node_with_faults start ...

Why a seam in a test's entry point, and not LD_PRELOAD or a patched kernel: the failures
enter at the one door to the disk, so a power cut can know exactly which bytes were
synced, and the product has no switch that weakens it. The door itself is tested by
what does not pass through it: a full file system and kill -9.
"""

from __future__ import annotations

import os
from pathlib import Path

import raftkv.node
from raftkv.cli.main import main
from raftkv.replica.shell import SystemClock
from tests.chaos.faults import FaultPage
from tests.chaos.platter import FaultyDisk

PAGE_VARIABLE = "CHAOS_PAGE"
PLATTER_VARIABLE = "CHAOS_PLATTER"


class FaultyClock(SystemClock):
    """The clock of this machine, and what the page adds to it."""

    def __init__(self, page: FaultPage) -> None:
        self._page = page

    def now_ms(self) -> int:
        return super().now_ms() + self._page.boot_offset_ms

    def wall_ms(self) -> int:
        self._page.clock_reads += 1
        return super().wall_ms() + self._page.wall_offset_ms


def plant(page: FaultPage, platter: Path) -> None:
    """Let the node that this process will run use the faulty disk and clock."""

    def disk(directory: str) -> FaultyDisk:
        return FaultyDisk(directory, platter, page)

    def clock() -> FaultyClock:
        return FaultyClock(page)

    raftkv.node.RealDisk = disk  # type: ignore[assignment,misc]
    raftkv.node.SystemClock = clock  # type: ignore[assignment,misc]


if __name__ == "__main__":
    plant(FaultPage(Path(os.environ[PAGE_VARIABLE])), Path(os.environ[PLATTER_VARIABLE]))
    main()

"""PySyncObj as it is installed, without raftkv: a program that plays one scenario.

    python -m tests.unit.engine.bare_library deaf_leader

It prints what it saw as JSON. It runs in a process of its own, because raftkv takes the
name `pickle` away from the library wherever both are loaded. Used by `test_bare_library`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from pysyncobj.journal import FileJournal

from tests.unit.engine import bare_costs, bare_messages, bare_transport
from tests.unit.engine.bare_world import World


def deaf_leader() -> dict[str, Any]:
    """E: a leader that nobody hears goes on for half a minute, beside its successor."""
    world = World("ABC")
    world.run(5)
    (first,) = world.leaders()
    world.cut_off(first)
    world.run(10)
    return {"first": first, "leaders": world.leaders()}


def rejoining_node() -> dict[str, Any]:
    """E: one that was cut off raises its term alone, and deposes a healthy leader."""
    world = World("ABC")
    world.run(5)
    (leader,) = world.leaders()
    before = world.term()
    other = next(name for name in "ABC" if name != leader)
    world.cut_off(other)
    world.run(20)
    world.apart = set()
    world.meet()
    world.run(0.2)
    leads_on = world.leaders() == [leader]
    world.run(5)
    return {"term_before": before, "term": world.term(), "leads_on": leads_on}


def silent_callback() -> dict[str, Any]:
    """G: where there is no leader, nobody is ever told what became of a command."""
    world = World("ABC")
    told: list[Any] = []
    world.nodes["A"].add(1, callback=lambda result, error: told.append((result, error)))
    world.run(60, of="A")
    return {"told": told}


def unsynced_journal() -> dict[str, Any]:
    """C: nothing of the journal is synced, and a bit that has rotted is not noticed."""
    synced: list[int] = []
    os.fsync = os.fdatasync = synced.append  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        journal = FileJournal(str(path))
        for index in range(40):
            journal.add(b"command", index, 1)
        journal._destroy()
        data = bytearray(path.read_bytes())
        data[data.index(b"command")] ^= 1
        path.write_bytes(data)
        again = FileJournal(str(path))
        return {"synced": len(synced), "entries": len(again), "rotten": again[0][0] != b"command"}


def damaged_dump() -> dict[str, Any]:
    """D: behind a damaged dump the node goes on with nothing, and leads."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "dump"
        path.write_bytes(b"this was a dump with a thousand keys")
        world = World("A", fullDumpFile=str(path))
        world.run(5)
        return {"leaders": world.leaders(), "total": world.nodes["A"].total}


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        deaf_leader, rejoining_node, silent_callback, unsynced_journal, damaged_dump,
        *bare_messages.SCENARIOS, *bare_transport.SCENARIOS, *bare_costs.SCENARIOS,
    )
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))

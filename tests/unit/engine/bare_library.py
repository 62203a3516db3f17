"""PySyncObj as it is installed, without raftkv: a program that plays one scenario.

    python -m tests.unit.engine.bare_library deaf_leader

It prints what it saw as JSON. It runs in a process of its own, because raftkv takes the
name `pickle` away from the library wherever both are loaded. Links are queues in memory,
and time is a number. Used by `test_bare_library`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.journal import FileJournal
from pysyncobj.node import Node
from pysyncobj.transport import Transport

_TICK_S = 0.05


class _Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class _Links(Transport):
    """One node's end of all links of a `_World`."""

    def __init__(self, world: _World, name: str) -> None:
        super().__init__(None, None, None)
        self._world = world
        self._name = name
        self.peers: dict[str, Any] = {}

    def addNode(self, node: Any) -> None:
        self.peers[node.id] = node

    def dropNode(self, node: Any) -> None:
        self.peers.pop(node.id, None)

    def send(self, node: Any, message: Any) -> bool:
        if self._world.is_cut(self._name, node.id):
            return False
        self._world.messages.append((self._name, node.id, message))
        return True


class _Counter(SyncObj):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.total = 0
        super().__init__(*arguments, **named)

    @replicated
    def add(self, amount: int) -> int:
        self.total += amount
        return self.total


class _World:
    """Nodes of the bare library, links and time."""

    def __init__(self, names: str, **settings: Any) -> None:
        self.clock = _Clock()
        pysyncobj.syncobj.monotonicTime = self.clock
        self.messages: list[tuple[str, str, Any]] = []
        self.apart: set[str] = set()
        self.nodes: dict[str, _Counter] = {}
        self._links = {name: _Links(self, name) for name in names}
        for name in names:
            others = [Node(other) for other in names if other != name]
            conf = SyncObjConf(autoTick=False, **settings)
            self.nodes[name] = _Counter(Node(name), others, conf=conf, transport=self._links[name])
            for other in others:
                self._links[name].addNode(other)
        self.meet()

    def is_cut(self, one: str, other: str) -> bool:
        return one in self.apart or other in self.apart

    def meet(self) -> None:
        """Bring all links up that are not cut."""
        for name, links in self._links.items():
            for other, peer in links.peers.items():
                if not self.is_cut(name, other):
                    links._onNodeConnected(peer)

    def cut_off(self, name: str) -> None:
        self.apart = {name}
        self.messages = [one for one in self.messages if name not in one[:2]]
        for one, links in self._links.items():
            for other, peer in links.peers.items():
                if self.is_cut(one, other):
                    links._onNodeDisconnected(peer)

    def run(self, seconds: float, *, of: str | None = None) -> None:
        """Let time pass, for all nodes or for some."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s += _TICK_S
            for name in of or self.nodes:
                self.nodes[name].doTick()
            messages, self.messages = self.messages, []
            for source, target, message in messages:
                if target in (of or self.nodes) and not self.is_cut(source, target):
                    links = self._links[target]
                    links._onMessageReceived(links.peers[source], message)

    def leaders(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node._isLeader()]

    def term(self) -> int:
        return max(node.raftCurrentTerm for node in self.nodes.values())


def deaf_leader() -> dict[str, Any]:
    """E: a leader that nobody hears goes on for half a minute, beside its successor."""
    world = _World("ABC")
    world.run(5)
    (first,) = world.leaders()
    world.cut_off(first)
    world.run(10)
    return {"first": first, "leaders": world.leaders()}


def rejoining_node() -> dict[str, Any]:
    """E: one that was cut off raises its term alone, and deposes a healthy leader."""
    world = _World("ABC")
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
    world = _World("ABC")
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
        world = _World("A", fullDumpFile=str(path))
        world.run(5)
        return {"leaders": world.leaders(), "total": world.nodes["A"].total}


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (deaf_leader, rejoining_node, silent_callback, unsynced_journal, damaged_dump)
}

if __name__ == "__main__":
    print(json.dumps(SCENARIOS[sys.argv[1]]()))

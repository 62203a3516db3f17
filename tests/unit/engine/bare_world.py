"""Nodes of PySyncObj as it is installed, their links and their time, without raftkv.

Links are queues in memory, and time is a number. Messages travel as pickles, as they do
between processes, so no two nodes share an object. Used by `bare_library`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

_TICK_S = 0.05
# Longer than the period of append entries, so that a tick after it sends.
_TURN_S = 0.11
# Elections begin only where a scenario begins them.
PATIENT = {
    "raftMinTimeout": 1e6, "raftMaxTimeout": 2e6, "connectionTimeout": 2e6,
    "leaderFallbackTimeout": 1e6,
}  # fmt: skip


class Clock:
    """A time that moves where a scenario moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class _Links(Transport):
    """One node's end of all links of a `World`."""

    def __init__(self, world: World, name: str) -> None:
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
        self._world.clock.now_s += self._world.sending_s
        self._world.messages.append((self._name, node.id, pickle.dumps(message)))
        return True


class Counter(SyncObj):
    """The state machine: a sum."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # Here, because attributes from before are left out of the library's dumps.
        self.total = 0

    @replicated
    def add(self, amount: int, padding: str = "") -> int:
        self.total += amount
        return self.total


class World:
    """Nodes of the bare library, links and time.

    Attributes:
        messages: What is under way: source, target, and the pickled message.
        apart: Nodes that nobody can reach.
        nodes: By name.
        sending_s: How long it takes to send a message.
    """

    def __init__(
        self, names: str, *, knowing: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        """Start nodes.

        Args:
            names: One letter a node.
            knowing: The members that a node is started with, where these are not all.
            settings: Of `SyncObjConf`. `{}` in a string stands for the name of the node.
        """
        self.clock = Clock()
        pysyncobj.syncobj.monotonicTime = self.clock
        self.messages: list[tuple[str, str, bytes]] = []
        self.apart: set[str] = set()
        self.sending_s = 0.0
        self.nodes: dict[str, Counter] = {}
        self._links: dict[str, _Links] = {}
        self._settings = settings
        for name in names:
            self.start(name, (knowing or {}).get(name, names))
        self.meet()

    def start(self, name: str, members: str) -> None:
        """Start a node, perhaps again: on the files that an earlier one of its name left."""
        others = [Node(other) for other in members if other != name]
        settings = {
            key: value.format(name) if isinstance(value, str) else value
            for key, value in self._settings.items()
        }
        conf = SyncObjConf(autoTick=False, useFork=False, **settings)
        links = self._links[name] = _Links(self, name)
        self.nodes[name] = Counter(Node(name), others, conf=conf, transport=links)
        for other in others:
            links.addNode(other)

    def is_cut(self, one: str, other: str) -> bool:
        return one in self.apart or other in self.apart

    def meet(self) -> None:
        """Bring all links up that are not cut."""
        for name, links in self._links.items():
            for other, peer in links.peers.items():
                if other in self.nodes and not self.is_cut(name, other):
                    links._onNodeConnected(peer)

    def cut_off(self, names: str) -> None:
        """Cut these off, and nobody else."""
        self.apart = set(names)
        self.messages = [one for one in self.messages if not self.is_cut(*one[:2])]
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
                    self.deliver(source, target, message)

    # ------------------------------------------------------- by single messages

    def turn(self, names: str) -> None:
        """Let these nodes tick once, at a time at which a leader sends."""
        self.clock.now_s += _TURN_S
        for name in names:
            self.nodes[name].doTick()

    def take(self, source: str, target: str) -> list[bytes]:
        """Take what is under way between two nodes off their link."""
        taken = [one for one in self.messages if one[:2] == (source, target)]
        self.messages = [one for one in self.messages if one[:2] != (source, target)]
        return [message for _, _, message in taken]

    def deliver(self, source: str, target: str, message: bytes) -> None:
        links = self._links[target]
        if source in links.peers:
            links._onMessageReceived(links.peers[source], pickle.loads(message))

    def settle(self, names: str) -> None:
        """Deliver among these nodes until nothing is under way; lose the rest."""
        while self.messages:
            source, target, message = self.messages.pop(0)
            if source in names and target in names:
                self.deliver(source, target, message)

    def beat(self, names: str, *, times: int = 3) -> None:
        """Let these nodes tick and hear each other, and nobody else."""
        for _ in range(times):
            self.turn(names)
            self.settle(names)

    def campaign(self, name: str) -> None:
        """Let a node stand for election."""
        self.nodes[name]._SyncObj__raftElectionDeadline = 0
        self.nodes[name].doTick()

    def elect(self, name: str, names: str) -> None:
        """Make a node the leader of these."""
        self.campaign(name)
        self.settle(names)
        assert self.nodes[name]._isLeader()

    def add(self, name: str, count: int = 1, *, padding: str = "") -> list[int]:
        """Add one, some times.

        Returns:
            The reasons that callbacks were called with, as they come; 0 is success.
        """
        told: list[int] = []
        for _ in range(count):
            self.nodes[name].add(1, padding, callback=lambda _, reason: told.append(reason))
        return told

    # ------------------------------------------------------------------ looking

    def log(self, name: str) -> list[tuple[int, int]]:
        """Return index and term of every entry."""
        return [(entry[1], entry[2]) for entry in self.nodes[name]._SyncObj__raftLog[:]]

    def last_index(self, name: str) -> int:
        return self.log(name)[-1][0]

    def leaders(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node._isLeader()]

    def term(self) -> int:
        return max(node.raftCurrentTerm for node in self.nodes.values())


def led_world(**settings: Any) -> World:
    """Start three nodes, of which A leads and none is ever impatient."""
    world = World("ABC", **PATIENT, **settings)
    world.elect("A", "ABC")
    world.beat("ABC")
    return world


def world_that_needs_a_dump(**settings: Any) -> World:
    """Start a `led_world` in which C missed three commands that A has in its dump alone."""
    world = led_world(**settings)
    world.cut_off("C")
    world.add("A", 3)
    world.beat("AB")
    world.nodes["A"].forceLogCompaction()
    world.beat("AB", times=2)
    world.cut_off("")
    world.meet()
    return world

"""Simulated links: FIFO, delayed, lost only with the connection, as TCP is.

A pair of nodes has at most one link. A partition stalls one or both directions
of it; what is queued arrives when it heals, or is lost if the link breaks
first. When a link comes up both sides exchange hellos taken at that moment.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from raftkv.engine.ready import PeerHello
from raftkv.types import NodeId
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.cluster import SimNode


class _Link:
    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.queues: dict[tuple[str, str], deque[tuple[int, bytes]]] = {}
        self.arrival_ms: dict[tuple[str, str], float] = {}


class SimNetwork:
    def __init__(self, world: World, *, delay_ms: tuple[float, float] = (0.1, 3.0)) -> None:
        self.world = world
        self.nodes: dict[str, SimNode] = {}
        self.delay_ms = delay_ms
        self.stalled: set[tuple[str, str]] = set()
        self._links: dict[frozenset[str], _Link] = {}
        self._generation = 0
        self.sent = 0
        self.lost = 0

    def _pair(self, one: str, other: str) -> frozenset[str]:
        return frozenset((one, other))

    def connect_soon(self, one: str, other: str) -> None:
        """Dial, and dial again until it works."""
        self.world.after(self.world.random.uniform(1, 60), lambda: self._connect(one, other))

    def _connect(self, one: str, other: str) -> None:
        pair = self._pair(one, other)
        first, second = self.nodes[one], self.nodes[other]
        if pair in self._links or not first.alive or not second.alive:
            return
        if (one, other) in self.stalled or (other, one) in self.stalled:
            self.connect_soon(one, other)
            return
        if not first.accepts(second) or not second.accepts(first):
            self.connect_soon(one, other)
            return
        if not self._know_each_other(first, second):
            # After a refusal a dialer waits for long.
            self.world.after(
                self.world.random.uniform(200, 1000), lambda: self._connect(one, other)
            )
            return
        self._generation += 1
        link = _Link(self._generation)
        self._links[pair] = link
        for here, there in ((one, other), (other, one)):
            link.queues[here, there] = deque()
            link.arrival_ms[here, there] = 0.0
        first_hello, second_hello = first.replica.hello(), second.replica.hello()
        self._announce(link, one, other, second_hello)
        self._announce(link, other, one, first_hello)

    def _know_each_other(self, first: SimNode, second: SimNode) -> bool:
        known = first.knows(second), second.knows(first)
        if not known[0]:
            second.refused(first)
        if not known[1]:
            first.refused(second)
        return all(known)

    def linked(self, name: str) -> list[str]:
        """Nodes that a node has a link with."""
        return sorted(other for pair in self._links if name in pair for other in pair - {name})

    def _announce(self, link: _Link, here: str, there: str, hello: PeerHello) -> None:
        def up() -> None:
            if self._links.get(self._pair(here, there)) is link and self.nodes[here].alive:
                self.nodes[here].replica.peer_up(NodeId(there), hello)

        # Nothing may arrive on the link before it is announced.
        at = self.world.now_ms + self.world.random.uniform(0.05, 2)
        link.arrival_ms[there, here] = at
        self.world.after(at - self.world.now_ms, up)

    def disconnect(self, one: str, other: str) -> None:
        """Break a link with everything on it; it comes back if both sides live."""
        pair = self._pair(one, other)
        link = self._links.pop(pair, None)
        if link is not None:
            self.lost += sum(len(queue) for queue in link.queues.values())
            for here, there in ((one, other), (other, one)):
                if self.nodes[here].alive:
                    self.nodes[here].replica.peer_down(NodeId(there))
        self.connect_soon(one, other)

    def node_gone(self, name: str) -> None:
        """Every link of a node breaks."""
        for other in sorted(self.nodes):
            if other != name:
                self.disconnect(name, other)

    def send(self, source: str, target: str, kind: int, body: bytes) -> None:
        link = self._links.get(self._pair(source, target))
        if link is None:
            return
        self.sent += 1
        self.world.note(body)
        link.queues[source, target].append((kind, body))
        low, high = self.delay_ms
        at = max(
            link.arrival_ms[source, target] + 0.001,
            self.world.now_ms + self.world.random.uniform(low, high),
        )
        link.arrival_ms[source, target] = at
        self.world.after(at - self.world.now_ms, lambda: self._deliver(link, source, target))

    def _deliver(self, link: _Link, source: str, target: str) -> None:
        if self._links.get(self._pair(source, target)) is not link:
            return
        if (source, target) in self.stalled:
            return
        queue = link.queues[source, target]
        node = self.nodes[target]
        if queue and node.alive:
            kind, body = queue.popleft()
            node.receive(NodeId(source), kind, body)

    def heal(
        self, *, keep: frozenset[tuple[str, str]] | set[tuple[str, str]] = frozenset()
    ) -> None:
        """Let everything flow again, apart from the directions in `keep`."""
        self.stalled &= keep
        for pair, link in list(self._links.items()):
            one, other = sorted(pair)
            for source, target in ((one, other), (other, one)):
                for _ in range(len(link.queues[source, target])):
                    self.world.after(
                        self.world.random.uniform(0.1, 2),
                        lambda link=link, source=source, target=target: self._deliver(
                            link, source, target
                        ),
                    )


class NodeNetwork:
    """One node's view: implements seams.Network."""

    def __init__(self, network: SimNetwork, node: SimNode) -> None:
        self._network = network
        self._node = node

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self._node.effect()
        self._network.send(self._node.name, node, kind, body)

    def flush(self) -> None:
        pass

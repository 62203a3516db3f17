"""Simulated links: FIFO, delayed, lost only with the connection, as TCP is, and a bit worse.

A pair of nodes has at most one link. A partition stalls one or both directions
of it; what is queued arrives when it heals, or is lost if the link breaks
first. When a link comes up both sides exchange hellos taken at that moment.

Worse than TCP: when a link breaks between two living processes, what was on it
may arrive late, behind what a newer link brings, and what had arrived may
arrive again (`late_share`, `copied_share`). Of a process that died, what it had
sent may still arrive, but never on a newer link than its own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from raftkv.engine.ready import PeerHello
from raftkv.types import NodeId
from tests.sim.world import World

if TYPE_CHECKING:
    from tests.sim.cluster import SimNode


# Frames of each direction that may arrive again after a reconnect.
RECENT = 6

# What may become of frames of a link that broke.
FRAME_LATE = "frame_late"
FRAME_COPIED = "frame_copied"
FRAME_OF_DEAD = "frame_of_dead"
KINDS = (FRAME_LATE, FRAME_COPIED, FRAME_OF_DEAD)

Direction = tuple[str, str]
Frame = tuple[int, bytes]


class _Link:
    def __init__(self, generation: int, one: str, other: str) -> None:
        directions = ((one, other), (other, one))
        self.generation = generation
        self.queues: dict[Direction, deque[Frame]] = {way: deque() for way in directions}
        self.recent: dict[Direction, deque[Frame]] = {
            way: deque(maxlen=RECENT) for way in directions
        }
        self.arrival_ms: dict[Direction, float] = dict.fromkeys(directions, 0.0)


class SimNetwork:
    """All links.

    Attributes:
        delay_ms: Range of the way of one frame.
        late_share: Of the frames on a link that breaks, those that arrive late.
        copied_share: Of the frames that a broken link had delivered, those that
            arrive again.
        late_ms: Range of how late both are.
        slowness: Factor on the delay of single directions.
        stalled: How many faults hold a direction.
        happened: Counts of what became of frames, by `KINDS`.
    """

    def __init__(self, world: World, *, delay_ms: tuple[float, float] = (0.1, 3.0)) -> None:
        self.world = world
        self.nodes: dict[str, SimNode] = {}
        self.delay_ms = delay_ms
        self.late_share = 0.0
        self.copied_share = 0.0
        self.late_ms = (1.0, 3000.0)
        self.slowness: dict[Direction, float] = {}
        self.stalled: Counter[Direction] = Counter()
        self.happened: Counter[str] = Counter()
        self._links: dict[frozenset[str], _Link] = {}
        self._generation = 0
        self.delivered_ms: dict[Direction, float] = {}
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
        link = _Link(self._generation, one, other)
        self._links[pair] = link
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
        """Break a link; it comes back if both sides live."""
        pair = self._pair(one, other)
        link = self._links.pop(pair, None)
        if link is not None:
            self._settle(link, one, other)
            for here, there in ((one, other), (other, one)):
                if self.nodes[here].alive:
                    self.nodes[here].replica.peer_down(NodeId(there))
        self.connect_soon(one, other)

    def _settle(self, link: _Link, one: str, other: str) -> None:
        """Decide what becomes of the frames of a link that broke."""
        both_live = self.nodes[one].alive and self.nodes[other].alive
        for way, queue in link.queues.items():
            if not queue and not link.recent[way]:
                continue
            if both_live:
                self._scatter(way, queue, self.late_share, FRAME_LATE)
                self._scatter(way, link.recent[way], self.copied_share, FRAME_COPIED)
            elif self.nodes[way[1]].alive and way not in self.stalled:
                self._last_words(way, queue)
            self.lost += len(queue)

    def _last_words(self, way: Direction, queue: deque[Frame]) -> None:
        """Deliver some of what a process had sent before it died."""
        source, target = way
        node = self.nodes[target]
        for _ in range(self.world.random.randrange(len(queue) + 1)):
            if node.alive:
                self.happened[FRAME_OF_DEAD] += 1
                self.delivered_ms[way] = self.world.now_ms
                node.receive(NodeId(source), *queue.popleft())

    def _scatter(self, way: Direction, frames: Iterable[Frame], share: float, name: str) -> None:
        """Let some frames of a broken link arrive later, in any order."""
        if share:
            lives = self._lives(way)
            for frame in frames:
                if self.world.chance(share):
                    self._arrive_late(way, frame, lives, name)

    def _lives(self, way: Direction) -> tuple[int, int]:
        return self.nodes[way[0]].life, self.nodes[way[1]].life

    def _arrive_late(self, way: Direction, frame: Frame, lives: tuple[int, int], name: str) -> None:
        # Why only between the same two processes: a socket does not outlive its
        # process, and nobody takes a frame for another process' than its sender's.
        def arrive() -> None:
            source, target = way
            node = self.nodes[target]
            if not node.alive or not self.nodes[source].alive or self._lives(way) != lives:
                return
            if way in self.stalled:
                self._arrive_late(way, frame, lives, name)
                return
            self.happened[name] += 1
            self.delivered_ms[way] = self.world.now_ms
            node.receive(NodeId(source), *frame)

        low, high = self.late_ms
        # Most of them soon, some much later.
        delay_ms = low + (high - low) * self.world.random.random() ** 3
        self.world.after(delay_ms, arrive)

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
            self.world.now_ms
            + self.world.random.uniform(low, high) * self.slowness.get((source, target), 1.0),
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
            frame = queue.popleft()
            self.delivered_ms[source, target] = self.world.now_ms
            if self.copied_share:
                link.recent[source, target].append(frame)
            node.receive(NodeId(source), *frame)

    def stall(self, directions: Iterable[Direction]) -> None:
        """Hold everything that goes these ways until `release`."""
        for way in directions:
            self.stalled[way] += 1

    def release(self, directions: Iterable[Direction]) -> None:
        """End one `stall` of these ways; what was held arrives, in its order."""
        for way in sorted(directions):
            self.stalled[way] -= 1
            if self.stalled[way] <= 0:
                del self.stalled[way]
                self._flush(way)

    def _flush(self, way: Direction) -> None:
        link = self._links.get(self._pair(*way))
        if link is not None:
            for _ in range(len(link.queues[way])):
                delay_ms = self.world.random.uniform(0.1, 2)
                self.world.after(delay_ms, lambda: self._deliver(link, *way))

    def let_through(self, directions: Iterable[Direction]) -> None:
        """Deliver what is held at this moment, and go on holding."""
        for way in directions:
            link = self._links.get(self._pair(*way))
            node = self.nodes[way[1]]
            self.delivered_ms[way] = self.world.now_ms
            while link is not None and link.queues[way] and node.alive:
                node.receive(NodeId(way[0]), *link.queues[way].popleft())

    def heal(self) -> None:
        """Let everything flow again, as fast as ever."""
        held = sorted(self.stalled)
        self.stalled.clear()
        self.slowness.clear()
        for way in held:
            self._flush(way)


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

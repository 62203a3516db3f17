"""Faults, chosen by the seed: crashes, power cuts, partitions, slow disks, clocks.

A fault is a method, named in `_faults`: it acts at once and undoes itself later,
or it is a scheme (`tests.sim.schemes`), a sequence of steps aimed at one weak
moment. Which faults come, how often, and in which world is drawn by the seed
(`tests.sim.mix`), so that runs differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from raftkv.kv.commands import Command, Opcode
from raftkv.types import NodeId
from tests.sim import mix as mixes
from tests.sim import schemes
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation
from tests.sim.network import Direction
from tests.sim.read_levels import read_at_every_level

if TYPE_CHECKING:
    from tests.sim.mix import Mix

UNDELIVERABLE = "the client is gone"


class Hold:
    """Directions that are stalled until `release`."""

    def __init__(self, nemesis: Nemesis, ways: Iterable[Direction]) -> None:
        self._network = nemesis.cluster.network
        self.ways = set(ways)
        self._network.stall(self.ways)
        self._held = True

    def release(self, *, breaks: bool = False) -> None:
        """Let everything flow again, or lose it with the links."""
        if not self._held:
            return
        self._held = False
        if breaks:
            for one, other in sorted({tuple(sorted(way)) for way in self.ways}):
                self._network.disconnect(one, other)
        self._network.release(self.ways)


class Nemesis:
    """Lets a fault happen now and then, and undoes it after a while."""

    def __init__(self, cluster: Cluster, mix: Mix | None = None) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.mix = mix or mixes.draw(cluster.world.seed)
        self.running = True
        self.reads = 0
        # The newest entry of a write of ours that was acknowledged.
        self._acknowledged_index = 0
        self.fired: Counter[str] = Counter()
        network = cluster.network
        network.delay_ms = self.mix.delay_ms
        network.late_share = self.mix.late_share
        network.copied_share = self.mix.copied_share
        network.happened = self.fired
        self._faults: list[Callable[[], None]] = [
            self._kill,
            self._kill_all,
            self._power_cut_all,
            self._crash_between_effects,
            self._isolate,
            self._one_way,
            self._partial,
            self._break_link,
            self._flap,
            self._slow_link,
            self._slow_disk,
            self._pause,
            self._step_clock,
            self._fill_disk,
            self._wipe,
            self._transfer,
            self._power_cut_with_slow_disks,
            self._failing_command,
            self._undeliverable_answer,
            *(self._of(scheme) for scheme in schemes.SCHEMES),
        ]
        names = [fault.__name__ for fault in self._faults]
        self._weights = list(self.mix.weights(names).values())
        self._next()

    def _next(self) -> None:
        self.world.after(self.world.random.uniform(*self.mix.pause_ms), self._act)

    def _act(self) -> None:
        if self.running:
            self.world.random.choices(self._faults, self._weights)[0]()
            self._next()

    # ----------------------------------------------------------------- schemes

    def _of(self, scheme: Callable[[Nemesis], Iterator[float]]) -> Callable[[], None]:
        def fault() -> None:
            steps = scheme(self)
            if self._step(steps):
                self.fired[scheme.__name__] += 1

        fault.__name__ = scheme.__name__
        return fault

    def _step(self, steps: Iterator[float]) -> bool:
        """Go on with a scheme; say whether it goes on later."""

        def go_on() -> None:
            if self.running:
                self._step(steps)
            else:
                steps.close()  # type: ignore[attr-defined]  # generators all

        delay_ms = next(steps, None)
        if delay_ms is not None:
            self.world.after(delay_ms, go_on)
        return delay_ms is not None

    def hold(self, ways: Iterable[Direction]) -> Hold:
        """Stall some directions."""
        return Hold(self, ways)

    def any(self) -> SimNode:
        """Return any node that takes part."""
        return self.cluster.nodes[self.world.random.choice(sorted(self.cluster.nodes))]

    def restart_later(self, node: SimNode, within_ms: tuple[float, float] = (50, 1500)) -> None:
        """Start a node again that is down."""
        self.world.after(
            self.world.random.uniform(*within_ms), lambda: None if node.alive else node.start()
        )

    def burst(self, node: SimNode, count: int, every_ms: float = 0.7) -> None:
        """Let a client write so many entries through one node."""
        size = self.world.random.choice([8, 40, 150])

        def write(number: int) -> None:
            if node.alive and self.running:
                key = b"burst%d" % (number % 8)
                self.propose(node, (Opcode.SET, key, bytes(size)))

        for number in range(count):
            self.world.after(number * every_ms, partial(write, number))

    def propose(self, node: SimNode, command: Command, *, raising: bool = False) -> None:
        """Ask for one command; the answer cannot be delivered where it raises."""

        def answered(results: object, _failure: object) -> None:
            if results is not None:
                applied = int(node.replica.store.applied_index)
                self._acknowledged_index = max(self._acknowledged_index, applied)
                self.cluster.floors.note(applied)
                if raising:
                    raise ConnectionResetError(UNDELIVERABLE)

        node.guarded(lambda: node.replica.propose([command], SimSlot(answered, asked=node)))

    def probe(self, node: SimNode, count: int = 1, every_ms: float = 10.0) -> None:
        """Let a client read from one node, again and again."""
        for number in range(count):
            self.world.after(number * every_ms, lambda: self._read(node))

    def _read(self, node: SimNode) -> None:
        """Read, and see that nothing is missing that was acknowledged before."""
        if not node.alive or not self.running:
            return
        floor = self._acknowledged_index
        self.reads += 1

        def answered(results: object, _failure: object) -> None:
            applied = node.replica.store.applied_index
            if results is not None and applied < floor:
                raise Violation(
                    f"{node.name} reads at entry {applied}; entry {floor} had been acknowledged",
                    invariant="a_read_is_as_new_as_what_was_acknowledged",
                )

        command = (Opcode.GET, b"burst0")
        node.guarded(lambda: node.replica.read([command], SimSlot(answered, asked=node)))

    def probe_levels(self, node: SimNode) -> None:
        """Read at every level, and see that each keeps its promise."""
        if node.alive and self.running:
            read_at_every_level(self.cluster, node)

    def ask_transfer(self, leader: SimNode, target: str | None) -> None:
        """Ask a leader to hand leadership over."""

        def answered(results: object, _failure: object) -> None:
            if results is not None:
                self.fired["transfer_done"] += 1

        self.cluster.foresight.handed_over_ms = self.world.now_ms
        node_id = None if target is None else NodeId(target)
        slot = SimSlot(answered, asked=leader)
        leader.guarded(lambda: leader.replica.transfer_leadership(node_id, slot))

    def ask_snapshot(self, node: SimNode) -> None:
        """Ask for a snapshot, as an operator may at any time."""
        slot = SimSlot(lambda _results, _failure: None, asked=node)
        node.guarded(lambda: node.replica.take_snapshot(slot))

    # --------------------------------------------------------------- processes

    def _kill(self) -> None:
        self.fired["kill"] += 1
        node = self.any()
        node.crash(power_cut=False)
        self.restart_later(node)

    def _kill_all(self) -> None:
        self.fired["kill_all"] += 1
        for node in list(self.cluster.nodes.values()):
            node.crash(power_cut=False)
            self.restart_later(node)

    def _power_cut_all(self) -> None:
        self.fired["power_cut_all"] += 1
        for node in list(self.cluster.nodes.values()):
            node.crash(power_cut=True)
            self.restart_later(node)

    def _crash_between_effects(self) -> None:
        self.fired["crash_between_effects"] += 1
        node = self.any()
        node.crash_probability = 0.02
        node.power_cut_on_crash = self.world.chance(0.5)

        def over() -> None:
            node.crash_probability = 0.0
            if not node.alive:
                node.start()

        self.world.after(self.world.random.uniform(300, 1500), over)

    def _pause(self) -> None:
        self.fired["pause"] += 1
        node = self.any()
        node.paused_until_ms = self.world.now_ms + self.world.random.uniform(100, 2000)

    def _step_clock(self) -> None:
        self.fired["step_clock"] += 1
        self.any().clock.wall_error_ms = self.world.random.randrange(-3_600_000, 3_600_000)

    # ------------------------------------------------------------------- disks

    def _power_cut_with_slow_disks(self) -> None:
        """All lose power while much is written and nothing synced: who answered too early?"""
        self.fired["power_cut_with_slow_disks"] += 1
        for node in self.cluster.nodes.values():
            node.slow_disk = 100.0

        def cut() -> None:
            for node in list(self.cluster.nodes.values()):
                node.slow_disk = 1.0
                node.crash(power_cut=True)
                self.restart_later(node)

        self.world.after(self.world.random.uniform(20, 200), cut)

    def _slow_disk(self) -> None:
        self.fired["slow_disk"] += 1
        node = self.any()
        node.slow_disk = self.world.random.choice([10.0, 100.0])

        def over() -> None:
            node.slow_disk = 1.0

        self.world.after(self.world.random.uniform(200, 2000), over)

    def _fill_disk(self) -> None:
        self.fired["fill_disk"] += 1
        node = self.any()
        node.disk.space = 0

        def over() -> None:
            node.disk.space = 1 << 40
            if not node.alive:
                node.start()

        self.world.after(self.world.random.uniform(200, 2500), over)

    def _wipe(self) -> None:
        """Wipe one disk, if every other one counts: a minority, and no more."""
        if not all(
            node.alive and node.replica.status().admitted for node in self.cluster.nodes.values()
        ):
            return
        self.fired["wipe"] += 1
        node = self.any()
        node.crash(power_cut=False)
        node.wipe()
        self.restart_later(node)

    # ------------------------------------------------------------------- links

    def _pair(self) -> list[str]:
        return self.world.random.sample(sorted(self.cluster.nodes), 2)

    def _isolate(self) -> None:
        self.fired["isolate"] += 1
        self._hold_for_a_while(schemes.around(self.cluster, {self.any().name}))

    def _one_way(self) -> None:
        self.fired["one_way"] += 1
        source, target = self._pair()
        self._hold_for_a_while({(source, target)})

    def _partial(self) -> None:
        """Some pairs do not hear each other: a bridge, a ring, a chain."""
        self.fired["partial"] += 1
        names = sorted(self.cluster.nodes)
        ways: set[Direction] = set()
        for number, one in enumerate(names):
            for other in names[number + 1 :]:
                if self.world.chance(0.4):
                    ways |= {(one, other), (other, one)}
        self._hold_for_a_while(ways)

    def _hold_for_a_while(self, ways: Iterable[Direction]) -> None:
        hold = self.hold(ways)
        breaks = self.world.chance(0.5)
        self.world.after(self.world.random.uniform(100, 2500), lambda: hold.release(breaks=breaks))

    def _break_link(self) -> None:
        self.fired["break_link"] += 1
        self.cluster.network.disconnect(*self._pair())

    def _flap(self) -> None:
        """A link that breaks again and again."""
        self.fired["flap"] += 1
        pair = self._pair()
        at_ms = 0.0
        for _ in range(self.world.random.randrange(3, 9)):
            self.world.after(at_ms, lambda: self.cluster.network.disconnect(*pair))
            at_ms += self.world.random.uniform(20, 150)

    def _slow_link(self) -> None:
        self.fired["slow_link"] += 1
        slowness = self.cluster.network.slowness
        source, target = self._pair()
        slowness[source, target] = self.world.random.uniform(5, 60)

        def over() -> None:
            slowness.pop((source, target), None)

        self.world.after(self.world.random.uniform(300, 3000), over)

    # ---------------------------------------------------------------- requests

    def _transfer(self) -> None:
        leader = self.cluster.leader()
        if leader is not None:
            self.fired["transfer"] += 1
            self.ask_transfer(leader, None)

    def _failing_command(self) -> None:
        """A command that nobody thought of raises on every node that applies it."""
        leader = self.cluster.leader()
        if leader is not None:
            self.fired["failing_command"] += 1
            self.propose(leader, (Opcode.APPEND, b"failing", None, 1))

    def _undeliverable_answer(self) -> None:
        """Who asked is gone when the answer comes, and to answer raises."""
        leader = self.cluster.leader()
        if leader is not None:
            self.fired["undeliverable_answer"] += 1
            command = (Opcode.APPEND, b"undeliverable", b".", 1 << 20)
            self.propose(leader, command, raising=True)

    def stop(self) -> None:
        """No more faults; everything works again."""
        self.running = False
        self.cluster.network.heal()
        for node in self.cluster.nodes.values():
            node.slow_disk = 1.0
            node.crash_probability = 0.0
            node.paused_until_ms = 0.0
            node.disk.space = 1 << 40
            if not node.alive:
                node.start()

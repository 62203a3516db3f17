"""Faults, chosen by the seed: crashes, power cuts, partitions, slow disks, clocks."""

from __future__ import annotations

from collections import Counter

from raftkv.types import NodeId
from tests.sim.cluster import Cluster, SimNode, SimSlot


class Nemesis:
    """Lets a fault happen now and then, and undoes it after a while."""

    def __init__(self, cluster: Cluster, *, pause_ms: tuple[float, float] = (200, 1500)) -> None:
        self._cluster = cluster
        self._pause_ms = pause_ms
        self.running = True
        self.fired: Counter[str] = Counter()
        self._faults = [
            self._kill,
            self._kill_all,
            self._power_cut_all,
            self._crash_between_effects,
            self._isolate,
            self._one_way,
            self._break_link,
            self._slow_disk,
            self._pause,
            self._step_clock,
            self._fill_disk,
            self._wipe,
            self._transfer,
            self._power_cut_with_slow_disks,
            self._forgetful_leader,
            self._minority_leader,
        ]
        self._next()

    def _next(self) -> None:
        world = self._cluster.world
        world.after(world.random.uniform(*self._pause_ms), self._act)

    def _act(self) -> None:
        if self.running:
            self._cluster.world.random.choice(self._faults)()
            self._next()

    def _any(self) -> SimNode:
        return self._cluster.nodes[self._cluster.world.random.choice(sorted(self._cluster.nodes))]

    def _restart_later(self, node: SimNode, within_ms: tuple[float, float] = (50, 1500)) -> None:
        world = self._cluster.world

        def restart() -> None:
            if not node.alive:
                node.start()

        world.after(world.random.uniform(*within_ms), restart)

    def _kill(self) -> None:
        self.fired["kill"] += 1
        node = self._any()
        node.crash(power_cut=False)
        self._restart_later(node)

    def _kill_all(self) -> None:
        self.fired["kill_all"] += 1
        for node in self._cluster.nodes.values():
            node.crash(power_cut=False)
            self._restart_later(node)

    def _power_cut_all(self) -> None:
        self.fired["power_cut_all"] += 1
        for node in self._cluster.nodes.values():
            node.crash(power_cut=True)
            self._restart_later(node)

    def _crash_between_effects(self) -> None:
        self.fired["crash_between_effects"] += 1
        node = self._any()
        node.crash_probability = 0.02
        node.power_cut_on_crash = self._cluster.world.chance(0.5)

        def over() -> None:
            node.crash_probability = 0.0
            if not node.alive:
                node.start()

        self._cluster.world.after(self._cluster.world.random.uniform(300, 1500), over)

    def _power_cut_with_slow_disks(self) -> None:
        """All lose power while much is written and nothing synced: who answered too early?"""
        self.fired["power_cut_with_slow_disks"] += 1
        for node in self._cluster.nodes.values():
            node.slow_disk = 100.0

        def cut() -> None:
            for node in self._cluster.nodes.values():
                node.slow_disk = 1.0
                node.crash(power_cut=True)
                self._restart_later(node)

        self._cluster.world.after(self._cluster.world.random.uniform(20, 200), cut)

    def _forgetful_leader(self) -> None:
        """The leader forgets what it has not synced, and who has it is away.

        One other node follows a leader with a slow disk, the rest hears nothing. Then the
        leader loses power, and comes back to the rest while the follower is down.
        """
        cluster, world = self._cluster, self._cluster.world
        leader = cluster.leader()
        if leader is None:
            return
        self.fired["forgetful_leader"] += 1
        others = sorted(name for name in cluster.nodes if name != leader.name)
        keepers = world.random.sample(others, len(cluster.nodes) // 2)
        rest = [name for name in others if name not in keepers]
        cluster.network.stalled |= {(leader.name, name) for name in rest}
        leader.slow_disk = 1000.0

        def forget() -> None:
            leader.slow_disk = 1.0
            leader.crash(power_cut=True)
            for name in keepers:
                if name in cluster.nodes:
                    cluster.nodes[name].crash(power_cut=False)
                    self._restart_later(cluster.nodes[name], (1200, 2000))
            cluster.network.heal()
            self._restart_later(leader, (5, 50))

        world.after(world.random.uniform(50, 250), forget)

    def _minority_leader(self) -> None:
        """A leader and one follower write on alone; its answers arrive terms later."""
        cluster, world = self._cluster, self._cluster.world
        leader = cluster.leader()
        if leader is None:
            return
        self.fired["minority_leader"] += 1
        others = sorted(name for name in cluster.nodes if name != leader.name)
        friend = world.random.choice(others)
        rest = [name for name in others if name != friend]
        here = {leader.name, friend}
        apart = {(one, two) for one in here for two in rest}
        late = {(friend, leader.name)}
        cluster.network.stalled |= apart | {(two, one) for one, two in apart} | late

        def rejoin() -> None:
            for name in rest:
                cluster.network.disconnect(leader.name, name)
            cluster.network.heal(keep={(friend, name) for name in cluster.nodes})

        def return_to_office() -> None:
            now = cluster.leader()
            if now is not None and leader.alive and now is not leader:
                slot = SimSlot(lambda _results, _failure: None)
                now.guarded(lambda: now.replica.transfer_leadership(NodeId(leader.name), slot))

        world.after(700, rejoin)
        world.after(world.random.uniform(900, 1300), return_to_office)
        world.after(world.random.uniform(1100, 1800), cluster.network.heal)

    def _isolate(self) -> None:
        self.fired["isolate"] += 1
        node = self._any().name
        pairs = [(node, other) for other in self._cluster.nodes if other != node]
        self._stall({*pairs, *((other, here) for here, other in pairs)})

    def _one_way(self) -> None:
        self.fired["one_way"] += 1
        names = sorted(self._cluster.nodes)
        source, target = self._cluster.world.random.sample(names, 2)
        self._stall({(source, target)})

    def _stall(self, directions: set[tuple[str, str]]) -> None:
        world, network = self._cluster.world, self._cluster.network
        network.stalled |= directions
        breaks = world.chance(0.5)

        def over() -> None:
            network.heal()
            if breaks:
                for source, target in sorted(directions):
                    network.disconnect(source, target)

        world.after(world.random.uniform(100, 2500), over)

    def _break_link(self) -> None:
        self.fired["break_link"] += 1
        names = self._cluster.world.random.sample(sorted(self._cluster.nodes), 2)
        self._cluster.network.disconnect(*names)

    def _slow_disk(self) -> None:
        self.fired["slow_disk"] += 1
        node = self._any()
        node.slow_disk = self._cluster.world.random.choice([10.0, 100.0])

        def over() -> None:
            node.slow_disk = 1.0

        self._cluster.world.after(self._cluster.world.random.uniform(200, 2000), over)

    def _pause(self) -> None:
        self.fired["pause"] += 1
        node = self._any()
        world = self._cluster.world
        node.paused_until_ms = world.now_ms + world.random.uniform(100, 2000)

    def _step_clock(self) -> None:
        self.fired["step_clock"] += 1
        world = self._cluster.world
        self._any().clock.wall_error_ms = world.random.randrange(-3_600_000, 3_600_000)

    def _fill_disk(self) -> None:
        self.fired["fill_disk"] += 1
        node = self._any()
        node.disk.space = 0

        def over() -> None:
            node.disk.space = 1 << 40
            if not node.alive:
                node.start()

        self._cluster.world.after(self._cluster.world.random.uniform(200, 2500), over)

    def _wipe(self) -> None:
        """Wipe one disk, if every other one counts: a minority, and no more."""
        if not all(
            node.alive and node.replica.status().admitted for node in self._cluster.nodes.values()
        ):
            return
        self.fired["wipe"] += 1
        node = self._any()
        node.crash(power_cut=False)
        node.disk.wipe()
        self._restart_later(node)

    def _transfer(self) -> None:
        leader = self._cluster.leader()
        if leader is None:
            return
        self.fired["transfer"] += 1

        def answered(results: object, _failure: object) -> None:
            if results is not None:
                self.fired["transfer_done"] += 1

        slot = SimSlot(answered)
        leader.guarded(lambda: leader.replica.transfer_leadership(None, slot))

    def stop(self) -> None:
        """No more faults; everything works again."""
        self.running = False
        network = self._cluster.network
        network.heal()
        for node in self._cluster.nodes.values():
            node.slow_disk = 1.0
            node.crash_probability = 0.0
            node.paused_until_ms = 0.0
            node.disk.space = 1 << 40
            if not node.alive:
                node.start()

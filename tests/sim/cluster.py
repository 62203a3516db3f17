"""A whole cluster in one process: the production replica on simulated seams.

`SimNode` runs `raftkv.replica.Replica` (with the production engine, WAL,
snapshots and store) and can crash between any two of its effects. `Cluster`
checks Raft's invariants after every event.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from raftkv.config import Config, Limits, ListenConfig, NodeConfig, TimingConfig
from raftkv.engine.core import RaftCore
from raftkv.errors import DiskFullError
from raftkv.kv.commands import Command
from raftkv.replica.ports import Stopped
from raftkv.replica.recovery import recover
from raftkv.replica.replica import Replica
from raftkv.seams import Failure
from raftkv.transport.handshake import RefusalReason
from raftkv.types import Index, Member, NodeId
from tests.sim.disk import SimDisk
from tests.sim.network import NodeNetwork, SimNetwork
from tests.sim.world import SimClock, World


class Violation(AssertionError):
    """The simulated cluster broke a promise."""


class _Crash(BaseException):
    """The process ends here, between two effects."""


class SimWorker:
    """Runs a job at the end of a random delay; a sync covers what was written before."""

    def __init__(self, node: SimNode, delay_ms: tuple[float, float]) -> None:
        self._node = node
        self._delay_ms = delay_ms
        self._queue: list[tuple[Callable[[], Any], Callable[[Any], None], int]] = []
        self._running = False

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self._queue.append((job, done, self._node.disk.number))
        self._start()

    def _start(self) -> None:
        if self._running or not self._queue:
            return
        self._running = True
        life = self._node.life
        delay = self._node.world.random.uniform(*self._delay_ms) * self._node.slow_disk
        self._node.world.after(delay, lambda: self._run(life))

    def _run(self, life: int) -> None:
        node = self._node
        if life != node.life or not node.alive:
            return
        job, done, limit = self._queue.pop(0)
        self._running = False

        def act() -> None:
            outcome: Any
            node.disk.sync_limit = limit if self is node.syncer else None
            try:
                outcome = job()
            except _Crash:
                raise
            except BaseException as error:
                outcome = error
            finally:
                node.disk.sync_limit = None
            done(outcome)

        node.guarded(act)
        if node.alive and life == node.life:
            self._start()


class SimObserver:
    def __init__(self, node: SimNode) -> None:
        self._node = node

    def event(self, name: str, /, **fields: object) -> None:
        counts = self._node.cluster.events
        counts[name] = counts.get(name, 0) + 1
        if self._node.cluster.verbose:
            print(f"{self._node.world.now_ms:10.2f} {self._node.name} {name} {fields}")


class SimNode:
    """One node: its disk outlives its process."""

    core_class: type[RaftCore] = RaftCore

    def __init__(self, cluster: Cluster, config: Config) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.config = config
        self.name = config.node.id
        self.disk = SimDisk(self.world, self.name)
        self.clock = SimClock(self.world)
        self.alive = False
        self.life = 0
        self.slow_disk = 1.0
        self.crash_probability = 0.0
        self.power_cut_on_crash = False
        self.paused_until_ms = 0.0
        self.retired = False
        self.outside_since_ms = float("inf")
        self.replica: Replica
        self.syncer: SimWorker
        self._turn_scheduled = False
        self._timer_at = 0.0

    # ------------------------------------------------------------------ process

    def start(self) -> None:
        """Recover from the disk and begin; try again later where the disk is full."""
        try:
            self._start()
        except DiskFullError:
            self.alive = False
            self.disk.crash_process()
            self.cluster.network.node_gone(self.name)
            self.world.after(500, lambda: None if self.alive else self.start())

    def _start(self) -> None:
        self.life += 1
        self._turn_scheduled = False
        self._timer_at = 0.0
        self.retired = False
        if self.disk.is_blank:
            # The operator lists the members of today for a node that starts afresh.
            self.config = replace(self.config, members=self.cluster.members_with(self.name))
        self.syncer = SimWorker(self, (0.2, 4.0))
        observer = SimObserver(self)
        source = random_module.Random(self.world.random.getrandbits(64))
        recovered = recover(
            self.config,
            self.disk,
            clock=self.clock,
            observer=observer,
            random=source,
            core_class=self.core_class,
        )
        self.replica = Replica(
            config=self.config,
            recovered=recovered,
            clock=self.clock,
            network=NodeNetwork(self.cluster.network, self),
            syncer=self.syncer,
            background=SimWorker(self, (0.2, 8.0)),
            observer=observer,
            random=source,
            wake=self.wake,
            on_stop=self._stopped,
            on_configuration=lambda _: self.world.after(0.1, self._drop_strangers),
        )
        self.alive = True
        self.disk.effect = self.effect
        for other in sorted(self.cluster.network.nodes):
            if other != self.name:
                self.cluster.network.connect_soon(self.name, other)
        self.wake()

    def crash(self, *, power_cut: bool) -> None:
        """End the process at once."""
        if not self.alive:
            return
        self.alive = False
        self.cluster.crashes += 1
        if power_cut:
            self.disk.cut_power()
        else:
            self.disk.crash_process()
        self.cluster.network.node_gone(self.name)

    def _stopped(self, stopped: Stopped) -> None:
        self.retired = stopped.orderly or "was removed" in stopped.reason
        self.cluster.note_stop(self, stopped)

    def effect(self) -> None:
        """Called before every effect: the process may end here."""
        if self.crash_probability and self.world.chance(self.crash_probability):
            raise _Crash

    def guarded(self, action: Callable[[], None]) -> None:
        """Run something of this process, which may crash in the middle."""
        try:
            action()
        except _Crash:
            self.crash(power_cut=self.power_cut_on_crash)
            return
        if self.alive and (self.replica.stopped is not None or self.retired):
            self.crash(power_cut=False)
            if self.retired:
                self.cluster.retire(self)

    def accepts(self, other: SimNode) -> bool:
        mine, its = self.replica.cluster_id, other.replica.cluster_id
        return not mine or not its or mine == its

    def knows(self, other: SimNode) -> bool:
        """Whether that node is one to have a link with."""
        return any(member.id == other.name for member in self.replica.contacts) or (
            self.replica.is_news(other.replica.hello())
        )

    def refused(self, by: SimNode) -> None:
        """Another node proved who it is and says that this one is no member."""
        self.guarded(lambda: self.replica.peer_refused(NodeId(by.name), RefusalReason.UNKNOWN_NODE))

    def _drop_strangers(self) -> None:
        if self.alive:
            for other in self.cluster.network.linked(self.name):
                if self.alive and not self.knows(self.cluster.network.nodes[other]):
                    self.cluster.network.disconnect(self.name, other)

    # -------------------------------------------------------------------- turns

    def wake(self) -> None:
        if self._turn_scheduled:
            return
        self._turn_scheduled = True
        life = self.life
        delay = self.world.random.uniform(0.01, 0.3)
        delay += max(0.0, self.paused_until_ms - self.world.now_ms)
        self.world.after(delay, lambda: self._turn(life))

    def receive(self, source: NodeId, kind: int, body: bytes) -> None:
        self.guarded(lambda: self.replica.receive(source, kind, body))

    def _turn(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        self._turn_scheduled = False
        if self.world.now_ms < self.paused_until_ms:
            self.wake()
            return
        self.guarded(self.replica.turn)
        self.cluster.after_turn(self)
        if self.alive and not self._turn_scheduled:
            self._arm()

    def _arm(self) -> None:
        delay = max(1, self.replica.next_deadline_ms() - self.clock.now_ms())
        at = self.world.now_ms + delay
        if self.world.now_ms < self._timer_at <= at:
            return
        self._timer_at = at
        life = self.life

        def expired() -> None:
            if life == self.life and self.alive and self._timer_at <= self.world.now_ms + 0.001:
                self._timer_at = 0.0
                self.wake()

        self.world.after(delay, expired)


class SimSlot:
    """Takes the answers of one run; checks that there is exactly one."""

    def __init__(self, answered: Callable[[list[Any] | None, Failure | None], None]) -> None:
        self._answered = answered
        self._done = False

    def _once(self) -> None:
        if self._done:
            raise Violation("a slot was answered twice")
        self._done = True

    def resolve(self, results: Any) -> None:
        self._once()
        self._answered(list(results), None)

    def fail(self, failure: Failure) -> None:
        self._once()
        self._answered(None, failure)


class Cluster:
    """Nodes, network, and the invariants that hold at every moment."""

    def __init__(
        self,
        seed: int,
        *,
        size: int = 3,
        spares: int = 0,
        limits: Limits | None = None,
        core_class: type[RaftCore] = RaftCore,
        verbose: bool = False,
        check_hashes: bool = True,
    ) -> None:
        self.world = World(seed)
        self.network = SimNetwork(self.world)
        self.verbose = verbose
        self._check_hashes = check_hashes
        self.events: dict[str, int] = {}
        self.crashes = 0
        self.stops: list[tuple[str, Stopped]] = []
        names = [f"n{number}" for number in range(1, size + 1)]
        members = tuple(
            Member(id=NodeId(name), client=f"{name}:1", peer=f"{name}:2") for name in names
        )
        limits = limits or Limits(
            wal_segment_bytes=256 * 1024,
            snapshot_log_bytes=24 * 1024,
            snapshot_keep_log_bytes=4 * 1024,
            snapshot_chunk_bytes=8 * 1024,
            append_bytes_max=1024,
        )
        self.nodes: dict[str, SimNode] = {}
        self._members = members
        self._members_index = 0
        for name in [*names, *(f"n{size + number}" for number in range(1, spares + 1))]:
            config = Config(
                node=NodeConfig(id=NodeId(name), data_dir=name),
                listen=ListenConfig(client="", peer="", admin=""),
                members=members,
                timing=TimingConfig(),
                limits=limits,
            )
            self.nodes[name] = SimNode(self, config)
            self.nodes[name].core_class = core_class
        self.network.nodes = dict(self.nodes)
        for name in list(self.nodes)[size:]:
            del self.nodes[name]
        self._leaders: dict[int, str] = {}
        self._hashes: dict[int, tuple[bytes, str]] = {}
        self.elections = 0

    def start(self) -> None:
        for node in self.nodes.values():
            node.start()

    # ---------------------------------------------------------------- membership

    def members_with(self, name: str) -> tuple[Member, ...]:
        """The members of today and one more, as a config file would list them."""
        members = {member.id: replace(member, disk_id="", voter=True) for member in self._members}
        node_id = NodeId(name)
        members.setdefault(node_id, Member(id=node_id, client=f"{name}:1", peer=f"{name}:2"))
        return tuple(members[node_id] for node_id in sorted(members))

    def spares(self) -> list[str]:
        """Nodes that take no part and may be added."""
        return sorted(set(self.network.nodes) - set(self.nodes))

    def join(self, name: str) -> None:
        """Start a spare node on an empty directory."""
        node = self.network.nodes[name]
        # A fault may have restarted it after it was retired.
        node.crash(power_cut=False)
        self.nodes[name] = node
        node.disk.wipe()
        node.outside_since_ms = self.world.now_ms
        node.start()

    def join_missing(self) -> None:
        """Start members that were added after all, though nobody answered."""
        for member in self._members:
            if member.id not in self.nodes:
                self.join(member.id)

    def retire(self, node: SimNode) -> None:
        """A node that was removed has ended: it is a spare one now."""
        self.nodes.pop(node.name, None)
        node.disk.wipe()

    def insiders(self) -> list[SimNode]:
        """Nodes that are members by the newest committed configuration."""
        return [self.nodes[one.id] for one in self._members if one.id in self.nodes]

    def outsiders(self) -> list[str]:
        """Nodes that run and are not members."""
        return sorted(set(self.nodes) - {member.id for member in self._members})

    def _note_members(self, replica: Replica) -> None:
        core = replica._core
        if core.commit_index <= self._members_index:
            return
        self._members_index = core.commit_index
        members = core.committed_configuration.members
        if members is not self._members:
            for node in self.nodes.values():
                inside = any(member.id == node.name for member in members)
                if inside:
                    node.outside_since_ms = float("inf")
                elif node.outside_since_ms == float("inf"):
                    node.outside_since_ms = self.world.now_ms
            self._members = members

    def run(self, duration_ms: float) -> None:
        self.world.run_until(self.world.now_ms + duration_ms, lambda: None)

    def run_until(self, condition: Callable[[], bool], limit_ms: float = 60_000) -> None:
        """Let time pass until something holds; fail if it does not in time."""
        end = self.world.now_ms + limit_ms
        while not condition():
            if self.world.now_ms >= end:
                raise Violation(f"not reached within {limit_ms} ms: {self.describe()}")
            self.run(20)

    def leader(self) -> SimNode | None:
        """The leader of the newest term among living nodes."""
        leaders = [node for node in self.nodes.values() if node.alive and node.replica.is_leader]
        return max(leaders, key=lambda node: node.replica.status().term, default=None)

    def converged(self) -> bool:
        """Whether all nodes live, agree on a leader, and have applied the same."""
        insiders = self.insiders()
        statuses = [node.replica.status() for node in insiders if node.alive]
        return (
            len(statuses) == len(self._members)
            and len({status.leader_id for status in statuses}) == 1
            and statuses[0].leader_id is not None
            and len({status.applied_index for status in statuses}) == 1
            and len({status.state_hash for status in statuses}) == 1
            and all(status.applied_index == status.last_index for status in statuses)
        )

    def describe(self) -> str:
        lines = []
        for node in self.nodes.values():
            if node.alive:
                status = node.replica.status()
                lines.append(
                    f"{node.name} {status.role} term {status.term} commit {status.commit_index} "
                    f"applied {status.applied_index} log {status.first_index}..{status.last_index} "
                    f"admitted {status.admitted} full {status.disk_full}"
                )
            else:
                lines.append(f"{node.name} down")
        return "; ".join(lines)

    # ---------------------------------------------------------------- invariants

    def after_turn(self, node: SimNode) -> None:
        """Check what must hold after every turn of every node."""
        if not node.alive:
            return
        replica = node.replica
        self._note_members(replica)
        if replica.is_leader:
            term = replica._core.term
            leader = self._leaders.setdefault(term, node.name)
            if leader != node.name:
                raise Violation(f"{leader} and {node.name} both lead term {term}")
            self.elections = len(self._leaders)
        if replica._core.commit_index < replica.store.applied_index:
            raise Violation(f"{node.name} applied more than is committed")
        index, state_hash = replica.store.applied_index, replica.store.state_hash
        if not self._check_hashes:
            return
        known = self._hashes.setdefault(index, (state_hash, node.name))
        if known[0] != state_hash:
            raise Violation(f"{known[1]} and {node.name} differ after index {index}")

    def note_stop(self, node: SimNode, stopped: Stopped) -> None:
        """A replica stopped itself; only the reasons that a test plants are fine."""
        if node.retired:
            self.events["retired"] = self.events.get("retired", 0) + 1
            if any(member.id == node.name for member in self._members):
                raise Violation(f"{node.name} is a member and ends: {stopped.reason}")
        else:
            self.stops.append((node.name, stopped))
        if self.verbose:
            print(f"{self.world.now_ms:10.2f} {node.name} STOPPED {stopped}")

    # ------------------------------------------------------------------- clients

    def propose(self, node: SimNode, command: Command, slot: SimSlot) -> None:
        node.replica.propose([command], slot)

    def applied(self, node: SimNode) -> Index:
        return Index(node.replica.store.applied_index)

"""A whole cluster in one process: the production replica on simulated seams.

`Cluster` owns nodes, network and time, knows who is a member, and asks
`Invariants` after every turn. `SimNode` is in `tests.sim.node`.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from raftkv import deflate
from raftkv.config import Config, Limits, ListenConfig, NodeConfig, TimingConfig
from raftkv.engine.core import RaftCore
from raftkv.kv.commands import Command
from raftkv.replica.ports import Stopped
from raftkv.replica.replica import Replica
from raftkv.types import Index, Member, NodeId
from tests.sim.foresight import Foresight
from tests.sim.invariants import Invariants, Violation
from tests.sim.lease_time import LeaseTimeWatch
from tests.sim.log_time import LogTimeWatch
from tests.sim.network import SimNetwork
from tests.sim.node import SimNode, SimSlot
from tests.sim.read_floors import Floors
from tests.sim.world import WALL_START_MS, World

__all__ = ["Cluster", "SimNode", "SimSlot", "Violation"]


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
        heartbeat_ms: int = 50,
    ) -> None:
        # ISA-L's bytes depend on the processor, and a seed is to be the same run on all.
        deflate.compress = zlib.compress
        self.world = World(seed)
        self.network = SimNetwork(self.world)
        self.verbose = verbose
        self.invariants = Invariants(check_hashes=check_hashes)
        checks = self.invariants.checks
        self.log_time = LogTimeWatch(lambda store: store.log_time_ms - WALL_START_MS, checks)
        self.lease_clock = LogTimeWatch(lambda store: store.lease_time_ms, checks)
        self.lease_time = LeaseTimeWatch()
        self.floors = Floors(self.world)
        self.turn_listeners: list[Callable[[SimNode], None]] = []
        self.crash_listeners: list[Callable[[SimNode], None]] = []
        self.events: dict[str, int] = {}
        self.noted: Counter[str] = Counter()
        self.crashes = 0
        # Clients ask nothing before.
        self.quiet_until_ms = 0.0
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
            # Of its own source, so that no other choice depends on it. 0: whatever is
            # durable and applied leaves the memory at once.
            log_memory_bytes_max=random.Random(f"memory of seed {seed}").choice(
                [0, 0, 1024, 4096, 16 * 1024]
            ),
        )
        self.nodes: dict[str, SimNode] = {}
        self._members = members
        self._members_index = 0
        for name in [*names, *(f"n{size + number}" for number in range(1, spares + 1))]:
            config = Config(
                node=NodeConfig(id=NodeId(name), data_dir=name),
                listen=ListenConfig(client="", peer="", admin=""),
                members=members,
                timing=TimingConfig(heartbeat_ms=heartbeat_ms),
                limits=limits,
            )
            self.nodes[name] = SimNode(self, config)
            self.nodes[name].core_class = core_class
        self.network.nodes = dict(self.nodes)
        for name in list(self.nodes)[size:]:
            del self.nodes[name]
        self.foresight = Foresight(self)

    @property
    def elections(self) -> int:
        """Terms that had a leader."""
        return len(self.invariants.leaders)

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
        node.wipe()
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
        node.wipe()

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
        self.world.run_until(self.world.now_ms + duration_ms)

    def run_until(
        self,
        condition: Callable[[], bool],
        limit_ms: float = 60_000,
        *,
        invariant: str = "scenario",
    ) -> None:
        """Let time pass until something holds; fail if it does not in time."""
        end = self.world.now_ms + limit_ms
        while not condition():
            if self.world.now_ms >= end:
                raise Violation(
                    f"not reached within {limit_ms} ms: {self.describe()}", invariant=invariant
                )
            self.run(20)

    def leader(self) -> SimNode | None:
        """The leader of the newest term among living nodes."""
        leaders = [node for node in self.nodes.values() if node.alive and node.replica.is_leader]
        return max(leaders, key=lambda node: node.replica._core.term, default=None)

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

    def owes_nothing(self) -> bool:
        """Whether every process that lives has answered all that it was asked."""
        return not any(node.debts for node in self.nodes.values() if node.alive)

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
        self.invariants.turned(node)
        self.foresight.turned(node)
        self.log_time.note(self.world.now_ms, replica.store, leads=replica.is_leader)
        self.lease_clock.note(self.world.now_ms, replica.store, leads=replica.is_leader)
        applied_index = replica.store.applied_index
        self.lease_time.note(replica.store, self.invariants.committed_term(applied_index))
        if self.lease_time.problem:
            raise Violation(self.lease_time.problem, invariant="leases_end_in_time")
        for listener in self.turn_listeners:
            listener(node)

    def note(self, name: str) -> None:
        """Count something that the simulated world did."""
        self.noted[name] += 1

    def note_crash(self, node: SimNode) -> None:
        """A process has ended; its connections are gone."""
        for listener in self.crash_listeners:
            listener(node)

    def note_stop(self, node: SimNode, stopped: Stopped) -> None:
        """A replica stopped itself; only the reasons that a test plants are fine."""
        if node.retired:
            # The very turn that ends it may have committed that it is no member.
            self._note_members(node.replica)
            self.events["retired"] = self.events.get("retired", 0) + 1
            if any(member.id == node.name for member in self._members):
                raise Violation(
                    f"{node.name} is a member and ends: {stopped.reason}",
                    invariant="members_do_not_retire",
                )
        else:
            self.stops.append((node.name, stopped))
        if self.verbose:
            print(f"{self.world.now_ms:10.2f} {node.name} STOPPED {stopped}")

    # ------------------------------------------------------------------- clients

    def propose(self, node: SimNode, command: Command, slot: SimSlot) -> None:
        node.replica.propose([command], slot)

    def applied(self, node: SimNode) -> Index:
        return Index(node.replica.store.applied_index)

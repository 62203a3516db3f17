"""A replica without consensus: the server's port on one store in memory.

Runs wait until `turn()`, as in a real node; in `automatic` mode a turn is
scheduled on the event loop by the first run. Tests choose who leads, make runs
fail, and look at what was asked. Also a clock, a network and an observer that
remember.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field

from raftkv.config import Config, ListenConfig, NodeConfig
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import ErrorReply
from raftkv.kv.history import History
from raftkv.kv.store import KvStore
from raftkv.seams import Failure, Slot
from raftkv.server.ports import Command, ReplicaListener
from raftkv.types import (
    Configuration,
    Index,
    Member,
    MembershipChange,
    NodeId,
    PeerStatus,
    Role,
    Status,
    Term,
)


def members(ports: Sequence[int]) -> tuple[Member, ...]:
    """Members n1, n2, ... with these client ports on loopback."""
    return tuple(
        Member(
            id=NodeId(f"n{position + 1}"),
            client=f"127.0.0.1:{port}",
            peer=f"127.0.0.1:{port + 100}",
        )
        for position, port in enumerate(ports)
    )


def config_for(member: Member, others: tuple[Member, ...], **sections: object) -> Config:
    """A config with defaults; `sections` replace whole sections."""
    return Config(
        node=NodeConfig(id=member.id, data_dir="data"),
        listen=ListenConfig(client=member.client, peer=member.peer, admin="127.0.0.1:1"),
        members=others,
        **sections,  # type: ignore[arg-type]
    )


class FakeClock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.ms


@dataclass
class FakeObserver:
    """Remembers events."""

    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def event(self, name: str, /, **fields: object) -> None:
        self.events.append((name, fields))


class FakeNetwork:
    """Hands frames to the other nodes' listeners, at once or when told."""

    def __init__(self, node: NodeId, nodes: dict[NodeId, Callable[..., None]]) -> None:
        self._node = node
        self._nodes = nodes
        self.is_holding = False
        self.frames: list[tuple[NodeId, int, bytes]] = []

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self.frames.append((node, kind, body))

    def flush(self) -> None:
        if not self.is_holding:
            self.deliver()

    def queued_bytes(self, node: NodeId) -> int:
        return sum(len(body) for target, _, body in self.frames if target == node)

    def deliver(self) -> None:
        frames, self.frames = self.frames, []
        for node, kind, body in frames:
            if node in self._nodes:
                self._nodes[node](self._node, kind, body)


class SharedStore:
    """One store for all fake nodes of a cluster: replication without any."""

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.store = KvStore()
        self.clock = clock or FakeClock()
        self.awaited: list[Container[bytes]] = []
        self.store.await_keys(self)

    def __contains__(self, key: object) -> bool:
        """Whether the front-end of any node waits for a key."""
        return any(key in keys for keys in self.awaited)

    def apply(self, commands: list[Command]) -> list[object]:
        index = self.store.applied_index + 1
        payload = encode_batch(self.clock.wall_ms(), self.clock.now_ms(), index, commands)
        return self.store.apply(index, payload)


class FakeReplica:
    """Implements `server.ports.Replica`."""

    def __init__(
        self,
        shared: SharedStore,
        configuration: Configuration,
        node_id: str = "n1",
        *,
        automatic: bool = False,
    ) -> None:
        self.listener: ReplicaListener | None = None
        self.node_id = NodeId(node_id)
        self.configuration = configuration
        self.shared = shared
        self.is_leader = False
        self.has_leader = False
        self.leader: Member | None = None
        self.accepting = True
        self.automatic = automatic
        self.term = 1
        self.proposed: list[tuple[list[Command], Slot]] = []
        self.reading: list[tuple[list[Command], Slot]] = []
        self.sliced: list[tuple[Command, Slot, bool]] = []
        self.snapshots: list[Slot] = []
        self.transfers: list[tuple[NodeId | None, Slot]] = []
        self.changes: list[tuple[MembershipChange, Slot]] = []
        self.asked: list[tuple[str, list[Command]]] = []
        self._scheduled = False
        self.leased = False
        self.can_read_by_index = False
        self.indexed: list[tuple[list[Command], Slot]] = []
        self.awaited: list[tuple[Term, Index, Slot]] = []
        self.stale_ms: int | None = 0

    # ---------------------------------------------------------- what a server calls

    @property
    def dataset_is_full(self) -> bool:
        return self.shared.store.dataset_is_full

    def propose(self, commands: Sequence[Command], slot: Slot) -> None:
        self.asked.append(("propose", list(commands)))
        self.proposed.append((list(commands), slot))
        self._schedule()

    def read(self, commands: Sequence[Command], slot: Slot) -> None:
        self.asked.append(("read", list(commands)))
        self.reading.append((list(commands), slot))
        self._schedule()

    @property
    def history(self) -> History:
        return self.shared.store.history

    def read_stale(self, command: Command) -> object:
        return self.shared.store.execute(command)

    def read_leased(self, commands: Sequence[Command], slot: Slot) -> None:
        if not self.leased:
            self.read(commands, slot)
            return
        self.asked.append(("leased", list(commands)))
        slot.resolve([self.shared.store.execute(command) for command in commands])

    def read_by_index(self, commands: Sequence[Command], slot: Slot) -> None:
        self.asked.append(("indexed", list(commands)))
        self.indexed.append((list(commands), slot))

    def read_local(self, command: Command, bound_ms: int | None, floor_index: Index) -> object:
        refusal = self.local_refusal(bound_ms, floor_index)
        return self.shared.store.execute(command) if refusal is None else refusal

    def local_refusal(self, bound_ms: int | None, floor_index: Index) -> ErrorReply | None:
        if self.shared.store.applied_index < floor_index:
            return ErrorReply("NOTAPPLIED behind the token")
        if bound_ms is not None and (self.stale_ms is None or self.stale_ms > bound_ms):
            return ErrorReply(f"NOTAPPLIED stale {self.stale_ms}")
        return None

    def staleness_ms(self) -> int | None:
        return self.stale_ms

    def await_keys(self, keys: Container[bytes]) -> None:
        self.shared.awaited.append(keys)

    def take_ready(self) -> Iterable[bytes]:
        return self.shared.store.take_ready() if self.is_leader else ()

    def take_token(self, slot: Slot, *, ask: bool) -> None:
        self.asked.append(("token, asked" if ask else "token", []))
        slot.resolve([b"1/%d" % self.shared.store.applied_index])

    def await_token(self, term: Term, index: Index, slot: Slot) -> None:
        if self.shared.store.applied_index >= index:
            slot.resolve(["OK"])
        else:
            self.awaited.append((term, index, slot))

    def read_sliced(self, command: Command, slot: Slot, *, linearizable: bool) -> None:
        self.asked.append(("sliced", [command]))
        self.sliced.append((command, slot, linearizable))
        self._schedule()

    def take_snapshot(self, slot: Slot) -> None:
        self.snapshots.append(slot)
        self._schedule()

    def transfer_leadership(self, target: NodeId | None, slot: Slot) -> None:
        self.transfers.append((target, slot))

    def change_membership(self, change: MembershipChange, slot: Slot) -> None:
        self.changes.append((change, slot))

    def status(self) -> Status:
        store = self.shared.store
        index = Index(store.applied_index)
        return Status(
            node_id=self.node_id,
            role=Role.LEADER if self.is_leader else Role.FOLLOWER,
            term=Term(self.term),
            leader_id=self.leader.id if self.leader and self.has_leader else None,
            commit_index=index,
            applied_index=index,
            first_index=Index(1),
            last_index=index,
            snapshot_index=Index(0),
            configuration=self.configuration,
            state_hash=store.state_hash.hex(),
            state_hash_index=index,
            keys=store.key_count,
            keys_expiring=store.expiring_count,
            history_oldest_revision=store.history.compacted,
            history_events=store.history.change_count,
            history_bytes=store.history.byte_count,
            leases=store.lease_count,
            log_time_ms=store.log_time_ms,
            revision=store.revision,
            dataset_bytes=store.dataset_bytes,
            dataset_bytes_max=store.dataset_bytes_max,
            disk_full=False,
            admitted=True,
            peers=tuple(
                PeerStatus(id=member.id, connected=True, match_index=index, voter=True)
                for member in self.configuration.members
                if self.is_leader and member.id != self.node_id
            ),
        )

    # ---------------------------------------------------------- what tests call

    def lead(self, leader: str | None) -> None:
        """Make a node of the configuration the leader, or nobody."""
        self.term += 1
        self.has_leader = leader is not None
        if leader is not None:
            self.leader = self.configuration.member(leader)
        self.is_leader = leader == self.node_id
        if self.listener is not None:
            self.listener.leader_changed()

    def accept(self, accepting: bool) -> None:
        self.accepting = accepting
        if self.listener is not None:
            self.listener.accepting_changed()

    def _schedule(self) -> None:
        if self.automatic and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.turn)

    def turn(self) -> None:
        """Answer everything that was asked, then report the end of the turn."""
        self._scheduled = False
        self.answer_proposed()
        self.answer_reading()
        sliced, self.sliced = self.sliced, []
        for command, slot, _ in sliced:
            slot.resolve([self.shared.store.execute(command)])
        snapshots, self.snapshots = self.snapshots, []
        for slot in snapshots:
            slot.resolve([self.shared.store.applied_index])
        self.end_turn()

    def answer_proposed(self) -> None:
        proposed, self.proposed = self.proposed, []
        if not proposed:
            return
        results = self.shared.apply([command for run, _ in proposed for command in run])
        position = 0
        for run, slot in proposed:
            slot.resolve(results[position : position + len(run)])
            position += len(run)

    def answer_reading(self) -> None:
        reading, self.reading = self.reading, []
        for run, slot in reading:
            slot.resolve([self.shared.store.execute(command) for command in run])

    def fail_all(self, failure: Failure) -> None:
        """Fail everything that was asked and end the turn."""
        proposed, self.proposed = self.proposed, []
        reading, self.reading = self.reading, []
        sliced, self.sliced = self.sliced, []
        slots = [slot for _, slot in proposed + reading] + [slot for _, slot, _ in sliced]
        for slot in slots:
            slot.fail(failure)
        self.end_turn()

    def end_turn(self) -> None:
        if self.listener is not None:
            self.listener.turn_ended()

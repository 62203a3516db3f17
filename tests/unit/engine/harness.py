"""A few Raft cores in memory: every link, write and sync moves only when told to.

`Node` is one core with what its disk would hold; `Cluster` has the links. Time
stands still unless a test moves it. A message leaves its node when the write
that it depends on is synced, as the outbox of the replica does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from raftkv.engine import messages
from raftkv.engine.core import EngineSettings, RaftCore, join_log
from raftkv.engine.ready import (
    CommittedEntry,
    EntriesRead,
    EntryRecord,
    HardStateRecord,
    Inbound,
    LogEntry,
    Outcome,
    OutgoingMessage,
    PeerDown,
    PeerMessage,
    PeerUp,
    Proposal,
    Ready,
    RecoveredLog,
    SnapshotRecord,
    Synced,
    TruncateRecord,
    WalRecord,
    Wanted,
)
from raftkv.types import (
    Configuration,
    HardState,
    Index,
    Member,
    NodeId,
    SnapshotMeta,
    Term,
    WriteSequence,
)

CLUSTER_ID = "c" * 32
SETTINGS = EngineSettings()


class Dice:
    """A random source that always throws the same number."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def members(names: str) -> Configuration:
    """A configuration as the config file gives it: no cluster id, no disks."""
    return Configuration(
        "", tuple(Member(id=NodeId(name), client=f"{name}:1", peer=f"{name}:2") for name in names)
    )


def named(names: str, *, disks: dict[str, str] | None = None) -> Configuration:
    """A configuration as the log holds it: every disk is named."""
    disks = disks or {}
    return Configuration(
        CLUSTER_ID,
        tuple(
            Member(
                id=NodeId(name),
                client=f"{name}:1",
                peer=f"{name}:2",
                disk_id=disks.get(name, f"disk-{name}"),
            )
            for name in names
        ),
    )


def snapshot_meta(index: int, term: int, configuration: Configuration) -> SnapshotMeta:
    return SnapshotMeta(
        index=Index(index),
        term=Term(term),
        configuration=configuration,
        state_hash=b"s" * 16,
        image_hash=b"i" * 16,
        log_time_ms=0,
        lease_time_ms=0,
        revision=0,
        keys=0,
    )


def recovered(
    entries: Sequence[tuple[bytes, int]] = (),
    *,
    term: int = 0,
    vote: str | None = None,
    base: tuple[int, int] = (0, 0),
    hint: int = 0,
) -> RecoveredLog:
    """A recovered log of (command, term) pairs behind a base."""
    return RecoveredLog(
        hard_state=HardState(Term(term), None if vote is None else NodeId(vote)),
        base_index=Index(base[0]),
        base_term=Term(base[1]),
        entries=[
            (command, base[0] + 1 + position, entry_term)
            for position, (command, entry_term) in enumerate(entries)
        ],
        commit_hint=Index(hint),
        sequence=WriteSequence(0),
    )


def core(
    name: str = "A",
    names: str = "ABC",
    *,
    log: RecoveredLog | None = None,
    snapshot: SnapshotMeta | None = None,
    configuration: Configuration | None = None,
    admitted: bool = True,
    disk_id: str = "",
    settings: EngineSettings = SETTINGS,
    core_class: type[RaftCore] = RaftCore,
    now_ms: int = 0,
    dice: Dice | None = None,
) -> RaftCore:
    """One core, already admitted unless a test says otherwise."""
    return core_class(
        node_id=NodeId(name),
        disk_id=disk_id or f"disk-{name}",
        configuration=configuration or members(names),
        recovered=log or recovered(),
        snapshot=snapshot,
        admitted=admitted,
        settings=settings,
        random=dice or Dice(),
        new_cluster_id=CLUSTER_ID,
        now_ms=now_ms,
    )


class Node:
    """One core, what it wrote, and what its messages wait for."""

    def __init__(
        self,
        name: str,
        configuration: Configuration,
        *,
        now_ms: int,
        core_class: type[RaftCore],
        settings: EngineSettings,
    ) -> None:
        self.name = NodeId(name)
        self.configuration = configuration
        self.core_class = core_class
        self.settings = settings
        self.auto_sync = True
        self.auto_read = True
        self.life = 0
        self.wipe()
        self.start(now_ms)

    def wipe(self) -> None:
        """A new, empty directory."""
        self.life += 1
        self.disk_id = f"disk-{self.name}" + ("" if self.life == 1 else str(self.life))
        self.writes: list[tuple[int, list[WalRecord], int]] = []
        self.snapshot: SnapshotMeta | None = None
        self.admitted = False
        self.synced = 0

    def start(self, now_ms: int, *, power_cut: bool = False) -> None:
        """Start from the disk; a power cut drops what was not synced."""
        if power_cut:
            self.writes = [write for write in self.writes if write[0] <= self.synced]
        self.dice = Dice()
        log, _ = join_log(self._replay(), self.snapshot)
        self.synced = log.sequence
        self.core = core(
            self.name,
            log=log,
            snapshot=self.snapshot,
            configuration=self.configuration,
            admitted=self.admitted,
            disk_id=self.disk_id,
            settings=self.settings,
            core_class=self.core_class,
            now_ms=now_ms,
            dice=self.dice,
        )
        self.inbox: list[Inbound] = []
        self.held: list[OutgoingMessage] = []
        self.committed: list[CommittedEntry] = []
        self.outcomes: list[Outcome] = []
        self.readies: list[Ready] = []
        self.wanted: list[Wanted] = []

    def _replay(self) -> RecoveredLog:
        entries: list[LogEntry] = []
        base, hard_state = (0, 0), HardState(Term(0), None)
        sequence, hint = (self.writes[-1][0], self.writes[-1][2]) if self.writes else (0, 0)
        for _, records, _ in self.writes:
            for record in records:
                if type(record) is EntryRecord:
                    entries.append((record.command, record.index, record.term))
                elif type(record) is HardStateRecord:
                    hard_state = HardState(*record)
                elif type(record) is TruncateRecord:
                    entries = [entry for entry in entries if entry[1] < record.first]
                elif type(record) is SnapshotRecord:
                    base, entries = (record.index, record.term), []
        return RecoveredLog(
            hard_state=hard_state,
            base_index=Index(base[0]),
            base_term=Term(base[1]),
            entries=entries,
            commit_hint=Index(hint),
            sequence=WriteSequence(sequence),
        )

    @property
    def engine(self) -> Any:
        return self.core._engine

    @property
    def log(self) -> list[str]:
        """Entries as `index@term`, without the base."""
        return [f"{index}@{term}" for _, index, term in self.core.log[1:]]

    def applied(self) -> list[bytes]:
        """Payloads of the commands handed out since the start."""
        return [bytes(entry.payload) for entry in self.committed if entry.kind == 0]


class Cluster:
    """Nodes and the links between them."""

    def __init__(
        self,
        names: str = "ABC",
        *,
        core_class: type[RaftCore] = RaftCore,
        settings: EngineSettings = SETTINGS,
    ) -> None:
        self.now_ms = 10_000
        self.names = names
        configuration = members(names)
        self.nodes = {
            name: Node(
                name, configuration, now_ms=self.now_ms, core_class=core_class, settings=settings
            )
            for name in names
        }
        self.queues: dict[tuple[str, str], deque[bytes]] = {}
        self.up: set[frozenset[str]] = set()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    # ------------------------------------------------------------------- links

    def connect(self, one: str, other: str) -> None:
        """Bring one link up; both sides say hello as they are now."""
        self.up.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            self.queues[here, there] = deque()
            self.nodes[here].inbox.append(PeerUp(NodeId(there), self.nodes[there].core.hello()))

    def connect_all(self) -> None:
        for position, one in enumerate(self.names):
            for other in self.names[position + 1 :]:
                if frozenset((one, other)) not in self.up:
                    self.connect(one, other)

    def disconnect(self, one: str, other: str) -> None:
        """Break one link; what is on it is lost."""
        if frozenset((one, other)) not in self.up:
            return
        self.up.discard(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            self.queues.pop((here, there), None)
            self.nodes[here].held = [
                message for message in self.nodes[here].held if message.node != there
            ]
            self.nodes[here].inbox.append(PeerDown(NodeId(there)))

    def isolate(self, name: str) -> None:
        for other in self.names:
            if other != name:
                self.disconnect(name, other)

    def restart(self, name: str, *, wipe: bool = False, power_cut: bool = False) -> None:
        """End one process and start it again; its links are down then."""
        self.isolate(name)
        if wipe:
            self.nodes[name].wipe()
        self.nodes[name].start(self.now_ms, power_cut=power_cut)

    # ------------------------------------------------------------------- steps

    def step(
        self,
        name: str,
        inbox: Sequence[Inbound] = (),
        proposals: Sequence[Proposal] = (),
        *,
        reads: bool = False,
        asks: bool = False,
    ) -> Ready:
        """Take one step of one node."""
        node = self.nodes[name]
        waiting, node.inbox = node.inbox, []
        ready = node.core.step(
            self.now_ms,
            [*waiting, *inbox],
            proposals,
            reads=reads,
            asks=asks,
            wall_ms=self.now_ms,
        )
        if ready.records:
            node.writes.append((ready.sequence, ready.records, ready.commit_hint))
        if ready.admission_changed:
            node.admitted = node.core.admitted
        node.committed += ready.committed
        node.outcomes += ready.outcomes
        node.readies.append(ready)
        node.held += ready.messages
        node.wanted += ready.wanted
        if node.auto_read:
            self.read(name)
        if node.auto_sync:
            self.sync(name)
        else:
            self._release(node)
        return ready

    def sync(self, name: str) -> None:
        """Make everything written durable; the core hears of it in its next step."""
        node = self.nodes[name]
        if node.core.log.last_sequence > node.synced:
            node.synced = node.core.log.last_sequence
            node.inbox.append(Synced(WriteSequence(node.synced)))
        self._release(node)

    def read(self, name: str) -> None:
        """Read what was asked for; the core gets it in its next step."""
        node = self.nodes[name]
        wanted, node.wanted = node.wanted, []
        for first, last, bytes_max in wanted:
            entries: list[LogEntry] = []
            size = 0
            for entry in node._replay().entries:
                size += len(entry[0]) if first <= entry[1] else 0
                if first <= entry[1] <= last and (not entries or size <= bytes_max):
                    entries.append(entry)
            node.inbox.append(EntriesRead(first, entries))

    def _release(self, node: Node) -> None:
        waiting = []
        for message in node.held:
            if message.depends > node.synced:
                waiting.append(message)
            elif (node.name, message.node) in self.queues:
                self.queues[node.name, message.node].append(message.body)
        node.held = waiting

    def propose(self, name: str, payload: bytes, token: object = None) -> Ready:
        return self.step(name, (), [Proposal(payload, token)])

    def pending(self, source: str, target: str) -> list[messages.Message]:
        """What is on its way, decoded."""
        return [messages.decode(body) for body in self.queues.get((source, target), ())]

    def deliver(self, source: str, target: str, count: int | None = None) -> list[Ready]:
        """Deliver messages of one direction, each in a step of its own."""
        queue = self.queues.get((source, target), deque())
        readies = []
        for _ in range(len(queue) if count is None else count):
            readies.append(self.step(target, [PeerMessage(NodeId(source), queue.popleft())]))
        return readies

    def inject(self, source: str, target: str, message: messages.Message) -> Ready:
        """Let `target` receive a message as if `source` had sent it."""
        return self.step(target, [PeerMessage(NodeId(source), messages.encode(message))])

    def settle(self, hold: set[tuple[str, str]] | None = None, only: str = "") -> None:
        """Deliver and step until nothing moves, apart from what is held back."""
        hold = hold or set()
        for _ in range(10_000):
            moved = False
            for name in sorted(only or self.names):
                if self.nodes[name].inbox or self.nodes[name].core.has_backlog():
                    self.step(name)
                    moved = True
            for pair in sorted(self.queues):
                if pair in hold or (only and not set(pair) <= set(only)):
                    continue
                if self.queues[pair]:
                    self.deliver(*pair)
                    moved = True
            if not moved:
                return
        raise AssertionError("the cluster does not come to rest")

    def advance(self, duration_ms: int) -> None:
        self.now_ms += duration_ms

    def beat(self, hold: set[tuple[str, str]] | None = None, only: str = "", n: int = 1) -> None:
        """Let a heartbeat period pass on every node, then settle."""
        for _ in range(n):
            self.advance(SETTINGS.heartbeat_ms)
            for name in sorted(only or self.names):
                self.step(name)
            self.settle(hold, only)

    def expire(self, name: str) -> Ready:
        """Let the election timeout of one node pass, and of no other."""
        self.advance(SETTINGS.election_timeout_min_ms + 1)
        self.nodes[name].engine._SyncObj__raftElectionDeadline = 0.0
        return self.step(name)

    def elect(self, name: str, hold: set[tuple[str, str]] | None = None, only: str = "") -> None:
        """Make one node the leader."""
        self.expire(name)
        self.settle(hold, only)
        assert self.nodes[name].core.is_leader, f"{name} was not elected"

    @classmethod
    def led_by_first(cls, names: str = "ABC", **arguments: Any) -> Cluster:
        """A founded cluster whose first node leads and whose first entries are committed."""
        cluster = cls(names, **arguments)
        cluster.connect_all()
        cluster.settle()
        cluster.elect(names[0])
        cluster.beat(n=2)
        return cluster

    def leaders(self) -> list[str]:
        return [name for name in self.names if self.nodes[name].core.is_leader]

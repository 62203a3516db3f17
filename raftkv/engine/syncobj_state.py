"""PySyncObj's object with names we can read, our log, and no world behind it.

Owns the construction: the library starts on an in-memory journal and an inert
transport, then gets our `RaftLog` and the recovered positions put in place.
Role, term, vote, leader, commit and applied index, next and match index stay
in the library's own attributes; the properties here are only their names.

What PySyncObj has no place for is in `PeerState`, one for each other member.

Users: the `syncobj_*` mends, which extend `EngineState` one duty at a time.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from raftkv.engine import messages
from raftkv.engine.configuration import ConfigurationHistory
from raftkv.engine.log import RaftLog
from raftkv.engine.ready import (
    CommittedEntry,
    LogEntry,
    Outcome,
    OutgoingMessage,
    PeerHello,
    Regress,
)
from raftkv.engine.syncobj_library import (
    CANDIDATE,
    FOLLOWER,
    LEADER,
    Node,
    SyncObj,
    SyncObjConf,
    Transport,
)
from raftkv.types import Index, Member, NodeId, Term, WriteSequence


class SafetyViolationError(AssertionError):
    """A promise of Raft was about to be broken; the node must stop at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Numbers that the engine needs; see config.TimingConfig and config.Limits.

    Attributes:
        inflight_bytes_max: Bytes of entries sent to a peer and not yet
            acknowledged, beyond which it gets heartbeats only.
        apply_bytes_max: Bytes of entries handed out by one step, of which a larger one is
            alone: applying so much takes about four milliseconds.
        log_memory_bytes_max: What the log may cost in memory, apart from
            entries that are not yet durable or not yet applied.
    """

    heartbeat_ms: int = 50
    election_timeout_min_ms: int = 300
    election_timeout_max_ms: int = 600
    append_bytes_max: int = 256 << 10
    inflight_bytes_max: int = 8 << 20
    apply_bytes_max: int = 128 << 10
    log_memory_bytes_max: int = 4 << 20


class Counting(NamedTuple):
    """Whose word counts, as of the last rare event: see `EngineState.members_changed`.

    Attributes:
        peers: Those whose acknowledgements and answers count, connected or not.
        own: This node counts itself.
        quorum: Of the configuration in force.
        settled: All members are voters, and no disk waits to be let in.
    """

    peers: list[PeerState]
    own: bool
    quorum: int
    settled: bool


class PeerNode(Node):  # type: ignore[misc]  # the library has no annotations
    """A PySyncObj node whose place in a set does not change between processes."""

    # Why not the inherited hash: it is the hash of a string, which Python salts
    # per process. PySyncObj walks sets of nodes when it sends, so the salt would
    # choose who hears first and a seed would no longer replay its run.
    # Proof: tests/sim/test_replay.py.
    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self._hash = zlib.crc32(node_id.encode())

    def __hash__(self) -> int:
        return self._hash


@dataclass(slots=True)
class PeerState:
    """What this node knows of one other node, beyond PySyncObj's own tables.

    Attributes:
        node: Key of this peer in the library's tables.
        reached: A leader sends to it: it is a member, or is being told that it
            no longer is. Any other is only linked, and may lead us.
        hello: What it said when its link last came up; kept after a loss.
        admitted: Its disk is known to be admitted: it said so, or gave or
            asked for a vote, or a committed configuration names it.
        confirmed_round: Newest round of this term that it has answered.
        rewind_round: Rejections of this round or an older one are late.
        inflight: (last index, bytes) of each append not yet acknowledged.
        full: Its disk takes no entries.
        wants_snapshot: Its next entry is no longer in the log.
        reading: First index of what is being read from the disk for it, or 0.
    """

    node: PeerNode
    reached: bool = True
    connected: bool = False
    hello: PeerHello | None = None
    admitted: bool = False
    confirmed_round: int = 0
    rewind_round: int = 0
    inflight: deque[tuple[int, int]] = field(default_factory=deque)
    inflight_bytes: int = 0
    full: bool = False
    wants_snapshot: bool = False
    reading: int = 0

    def forget_inflight(self) -> None:
        """Nothing sent before counts as on its way any more."""
        self.inflight.clear()
        self.inflight_bytes = 0


class _InertTransport(Transport):  # type: ignore[misc]
    """Takes what unchanged library methods send and hands it to the engine."""

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.engine: EngineState | None = None

    def send(self, node: PeerNode, message: dict[str, Any]) -> bool:
        if self.engine is None or message["type"] != "response_vote":
            raise SafetyViolationError(f"library message {message['type']} has no place here")
        self.engine.send_vote_reply(NodeId(node.id), message["term"], granted=True, pre=False)
        return True


class _InertPoller:
    """No sockets belong to the library."""

    def poll(self, _timeout: float) -> None:
        """Do nothing: the replica waits for the world."""

    def subscribe(self, *_: object) -> NoReturn:
        raise SafetyViolationError("the library opened a socket")

    unsubscribe = subscribe


class EngineState(SyncObj):  # type: ignore[misc]
    """One PySyncObj object on our log, with readable names for what it holds."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        disk_id: str,
        log: RaftLog,
        configurations: ConfigurationHistory,
        settings: EngineSettings,
        applied_index: Index,
        commit_index: Index,
        admitted: bool,
        now_ms: int,
    ) -> None:
        # Set before the library's own __init__: whatever a SyncObj gains later
        # would belong to its snapshots.
        self.node_id = node_id
        self.disk_id = disk_id
        self.log = log
        self.configurations = configurations
        self.settings = settings
        self.admitted = admitted
        self.admission_changed = False
        self.now_ms = now_ms
        self.started_ms = now_ms
        self.last_step_ms = now_ms
        self.leader_contact_ms = now_ms - settings.election_timeout_max_ms
        # When a candidate that this node is ahead of last counted on a vote it does not have.
        self.counted_ms = self.leader_contact_ms
        self.sync_progress_ms = now_ms
        self.peers: dict[NodeId, PeerState] = {}
        self.known_counting: Counting | None = None
        self.members_version = 0
        # Nodes that were removed, as they were named, and until when they are told.
        self.farewells: dict[NodeId, tuple[Member, int]] = {}
        self.disk_full = False
        self.round = 0
        self.round_requested = False
        self.broadcast_requested = False
        self.heartbeat_due_ms = now_ms
        self.voters_heard: set[NodeId] = set()
        self.wall_ms = 0
        self.voter_walls_ms: list[int] = []
        self.prevotes: set[NodeId] | None = None
        self.outgoing: list[OutgoingMessage] = []
        self.committed: list[CommittedEntry] = []
        self.outcomes: list[Outcome] = []
        self.apply_backlog = False
        self.applies_slowly = False
        self.wanted: list[Index] = []
        self.loaded: list[list[LogEntry]] = []
        self.regresses: list[Regress] = []

        transport = _InertTransport()
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,
            dynamicMembershipChange=False,
            commandsWaitLeader=False,
            raftMinTimeout=settings.election_timeout_min_ms / 1000,
            raftMaxTimeout=settings.election_timeout_max_ms / 1000,
            appendEntriesPeriod=settings.heartbeat_ms / 1000,
            connectionTimeout=settings.election_timeout_max_ms / 1000 + 1,
        )
        super().__init__(PeerNode(node_id), [], conf, transport=transport, nodeClass=PeerNode)
        transport.engine = self
        self._poller = _InertPoller()
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__raftLog = log
        self._SyncObj__raftCurrentTerm = log.hard_state.term
        self._SyncObj__votedForNodeId = log.hard_state.vote
        self._SyncObj__raftCommitIndex = commit_index
        self._SyncObj__raftLastApplied = applied_index
        log.setRaftCommitIndex(commit_index)

    # --------------------------------------------- names of library attributes

    @property
    def role(self) -> int:
        """FOLLOWER, CANDIDATE or LEADER."""
        return self._SyncObj__raftState  # type: ignore[no-any-return]

    @property
    def is_leader(self) -> bool:
        """Whether this node leads its term."""
        return self._SyncObj__raftState == LEADER  # type: ignore[no-any-return]

    @property
    def term(self) -> Term:
        """Current term."""
        return self._SyncObj__raftCurrentTerm

    @property
    def commit_index(self) -> Index:
        """Highest index known to be committed."""
        return self._SyncObj__raftCommitIndex

    @property
    def applied_index(self) -> Index:
        """Highest index handed out for applying."""
        return self._SyncObj__raftLastApplied

    @property
    def noop_index(self) -> Index:
        """Where this leader's own no-op is; meaningless on others."""
        return self._SyncObj__noopIDx or Index(0)

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads, as far as this node knows."""
        leader: PeerNode | None = self._SyncObj__raftLeader
        return None if leader is None else NodeId(leader.id)

    @property
    def next_indexes(self) -> dict[PeerNode, int]:
        """For each peer, the next entry to send."""
        return self._SyncObj__raftNextIndex  # type: ignore[no-any-return]

    @property
    def match_indexes(self) -> dict[PeerNode, int]:
        """For each peer, the highest entry it holds durably."""
        return self._SyncObj__raftMatchIndex  # type: ignore[no-any-return]

    @property
    def member(self) -> Member | None:
        """This node in the configuration in force."""
        return self.configurations.in_force.member(self.node_id)

    # ------------------------------------------------------------ small verbs

    def send(
        self, node_id: NodeId, message: messages.Message, depends: WriteSequence | None = None
    ) -> None:
        """Queue a message; it waits at least for the newest hard state to be durable."""
        hard_state = self.log.hard_state_sequence
        needed = hard_state if depends is None or depends < hard_state else depends
        self.outgoing.append(OutgoingMessage(node_id, messages.encode(message), needed))

    def send_vote_reply(self, node_id: NodeId, term: int, *, granted: bool, pre: bool) -> None:
        """Answer a request for a vote."""
        self.send(
            node_id, messages.VoteReply(term=term, granted=granted, pre=pre, wall_ms=self.wall_ms)
        )

    def set_commit(self, index: Index) -> None:
        """Advance the commit index."""
        if self.configurations.last_index > self._SyncObj__raftCommitIndex:
            self.members_changed()
        self._SyncObj__raftCommitIndex = index
        self.log.setRaftCommitIndex(index)

    def members_changed(self) -> None:
        """Look anew at who counts: something rare happened that it may depend on.

        That is a change of configuration, commit of one, or of admission, a link that
        came or went, and a vote; not what makes up the steps of every day.
        """
        self.known_counting = None
        self.members_version += 1

    def postpone_election(self) -> None:
        """Wait a fresh, random election timeout before campaigning."""
        self._SyncObj__raftElectionDeadline = (
            self.now_ms / 1000 + self._SyncObj__generateRaftTimeout()
        )

    def step_down(self) -> None:
        """Follow nobody in particular; the term stays."""
        self._SyncObj__setState(FOLLOWER)
        self._SyncObj__raftLeader = None
        self.prevotes = None
        self.postpone_election()

    def adopt_term(self, term: int) -> None:
        """Enter a newer term without a vote in it (Raft, section 5.1)."""
        if self.role in (LEADER, CANDIDATE):
            self.step_down()
        self.prevotes = None
        self._SyncObj__raftLeader = None
        self._SyncObj__setCurrentTerm(term, None)

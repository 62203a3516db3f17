"""One deterministic step of consensus: inbox and proposals in, a Ready out.

`RaftCore` is all that the rest of raftkv sees of the engine. It owns term,
vote, log, commit index and configuration (through PySyncObj's object and our
`RaftLog`), and neither reads a clock nor rolls dice of its own: both arrive as
arguments. The same input gives the same output in any process.

Order inside a step: messages, proposals, timers, commit, hand out committed
entries, send. Nothing is sent or written here; see `engine.ready`.

Owner: replica.replica. Tests: tests/unit/engine, tests/sim.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.engine.configuration import ConfigurationHistory, decode_configuration
from raftkv.engine.inbox import take
from raftkv.engine.log import APPEND_ENTRIES_MAX, RaftLog
from raftkv.engine.read_index import ReadIndex
from raftkv.engine.ready import (
    KIND_CONFIGURATION,
    ChangeRequest,
    Inbound,
    PeerHello,
    Proposal,
    Ready,
    RecoveredLog,
    Wanted,
)
from raftkv.engine.syncobj_library import CANDIDATE, LEADER, WORLD, RandomSource
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import EngineSettings, SafetyViolationError
from raftkv.types import (
    Configuration,
    HardState,
    Index,
    Member,
    NodeId,
    PeerStatus,
    Role,
    SnapshotMeta,
    Term,
    WriteSequence,
)

__all__ = ["EngineSettings", "RaftCore", "SafetyViolationError"]


class RaftCore:
    """Consensus of one node as a pure step function.

    Attributes:
        is_leader: Whether this node leads its term, as of the last step.
    """

    engine_class: type[SnapshotMends] = SnapshotMends

    def __init__(
        self,
        *,
        node_id: NodeId,
        disk_id: str,
        configuration: Configuration,
        recovered: RecoveredLog,
        snapshot: SnapshotMeta | None,
        admitted: bool,
        settings: EngineSettings,
        random: RandomSource,
        new_cluster_id: str,
        now_ms: int,
    ) -> None:
        """Start from what the disk held.

        Args:
            node_id: This node.
            disk_id: Names its data directory.
            configuration: That of the config file; used until the log or a
                snapshot holds one.
            recovered: The log; everything in it must be durable, and it must
                start at or before the snapshot's end (see `join_log`).
            snapshot: Whose image the store started from, or None; the evicted
                entries of the log are applied to it.
            admitted: Whether this disk was counted before the restart.
            settings: Timers and sizes.
            random: Jitter of election timeouts.
            new_cluster_id: Name to give the cluster, should this node found it.
            now_ms: Monotonic time of the start.
        """
        self.is_leader = False
        self._random = random
        self._new_cluster_id = new_cluster_id
        self._reads = ReadIndex()
        log = RaftLog(
            base_index=recovered.base_index,
            base_term=recovered.base_term,
            entries=recovered.entries,
            hard_state=_hard_state(recovered),
            sequence=recovered.sequence,
            evicted=recovered.evicted,
        )
        applied = snapshot.index if snapshot is not None else Index(0)
        if recovered.evicted is not None:
            applied = Index(max(applied, recovered.evicted.last_index))
        # Why the clamp: a hint ahead of the log would apply whatever is
        # appended next at those indexes, committed or not.
        commit = Index(max(applied, min(recovered.commit_hint, log.last_index)))
        history = ConfigurationHistory(configuration)
        if snapshot is not None:
            history.reset(snapshot.index, snapshot.configuration)
        self._world(now_ms)
        self._engine = self.engine_class(
            node_id=node_id,
            disk_id=disk_id,
            log=log,
            configurations=history,
            settings=settings,
            applied_index=applied,
            commit_index=commit,
            admitted=admitted,
            now_ms=now_ms,
        )
        # Finding K: configurations count from the moment they are in the log.
        for command, index, _ in (*recovered.configurations, *recovered.entries):
            if command[0] == KIND_CONFIGURATION and index > history.last_index:
                history.append(Index(index), decode_configuration(memoryview(command)[1:]))
        self._engine.refresh_members()
        self._leader_seen: tuple[int, NodeId | None] = (log.hard_state.term, None)
        self._configuration_seen = history.in_force
        self._first_members = configuration.members
        self._contacts_key = self._contacts_source()
        self._members_version = self._engine.members_version

    # ------------------------------------------------------------------- views

    @property
    def node_id(self) -> NodeId:
        """Name of this node."""
        return self._engine.node_id

    @property
    def leader_id(self) -> NodeId | None:
        """Who leads this term, as far as this node knows."""
        return self._engine.leader_id

    @property
    def term(self) -> Term:
        """Current term."""
        return self._engine.term

    @property
    def commit_index(self) -> Index:
        """Highest index known to be committed."""
        return self._engine.commit_index

    @property
    def log(self) -> RaftLog:
        """The log, to be read only."""
        return self._engine.log

    @property
    def configuration(self) -> Configuration:
        """The configuration in force."""
        return self._engine.configurations.in_force

    def configuration_at(self, index: Index) -> Configuration:
        """Return the newest configuration at or below `index`."""
        return self._engine.configurations.at(index)

    @property
    def committed_configuration(self) -> Configuration:
        """The newest configuration that is committed."""
        return self._engine.configurations.at(self._engine.commit_index)

    @property
    def contacts(self) -> tuple[Member, ...]:
        """Every node to have a link with, this one included, ordered by id.

        These are the members in force and those committed before them, whom a
        leader is still telling that they were removed, and, while this node does
        not count, those of its config file: history may name others first.
        """
        in_force, committed, admitted, farewells = self._contacts_source()
        members = {} if admitted else {member.id: member for member in self._first_members}
        for group in (farewells, committed.members, in_force.members):
            members.update((member.id, member) for member in group)
        return tuple(members[node_id] for node_id in sorted(members))

    def _contacts_source(
        self,
    ) -> tuple[Configuration, Configuration, bool, tuple[Member, ...]]:
        engine = self._engine
        history = engine.configurations
        farewells = tuple(member for member, _ in engine.farewells.values())
        return history.in_force, history.at(engine.commit_index), engine.admitted, farewells

    @property
    def is_removed(self) -> bool:
        """Whether a committed configuration says that this node is no member any more."""
        return self._engine.is_removed

    def is_news(self, hello: PeerHello) -> bool:
        """Whether a node that is not known here may be a member that this node missed."""
        engine = self._engine
        return hello.admitted and (
            hello.term > engine.term or hello.last_index > engine.log.last_index
        )

    @property
    def admitted(self) -> bool:
        """Whether this node's votes and acknowledgements count."""
        return self._engine.admitted

    @property
    def waiting_for(self) -> tuple[NodeId, ...]:
        """Members whose answer is missing before the cluster can be founded."""
        return self._engine.waiting_for()

    @property
    def has_own_noop(self) -> bool:
        """Whether an entry of this leader's own term is committed."""
        return self.is_leader and self._engine.commit_index >= self._engine.noop_index

    @property
    def quorum_wall_ms(self) -> int:
        """Median wall clock of the quorum that elected this leader."""
        return self._engine.quorum_wall_ms()

    @property
    def role(self) -> Role:
        """What this node is in its term."""
        member = self._engine.member
        resting = Role.FOLLOWER if member is not None and member.voter else Role.LEARNER
        return {LEADER: Role.LEADER, CANDIDATE: Role.CANDIDATE}.get(self._engine.role, resting)

    @property
    def transfer_target(self) -> NodeId | None:
        """To whom leadership is being handed over; propose nothing meanwhile."""
        return self._engine.transfer_target

    def transfer_refusal(self, target: NodeId | None) -> str:
        """Say why leadership cannot be handed over now; empty if it can."""
        return self._engine.transfer_refusal(target)

    def begin_transfer(self, target: NodeId | None) -> NodeId:
        """Start to hand leadership over; the next steps carry it out.

        Args:
            target: A voter, or None for the most advanced one.

        Returns:
            Whom it goes to.
        """
        return self._engine.begin_transfer(target)

    def hello(self) -> PeerHello:
        """What to tell a peer when a link comes up."""
        engine = self._engine
        return PeerHello(
            disk_id=engine.disk_id,
            term=engine.term,
            last_index=engine.log.last_index,
            founding=engine.is_blank,
            admitted=engine.admitted,
            refusal_ms=engine.refusal_ms,
        )

    def lease_holds(self, now_ms: int) -> bool:
        """Whether nobody else can have been elected before `now_ms`, a time not yet past.

        Then this node's store, with everything applied that it knows to be committed,
        holds whatever was acknowledged to anybody.

        Args:
            now_ms: Of the clock of the steps, read after what is to be judged.
        """
        return self.has_own_noop and now_ms < self._engine.lease_end_ms()

    @property
    def can_ask(self) -> bool:
        """Whether a leader is linked that answers with its read index."""
        return self._engine.leader_to_ask() is not None

    def staleness_ms(self, now_ms: int, applied_index: Index) -> int | None:
        """Return how old a store with so much applied is at most; None if unknown."""
        if applied_index >= self.commit_index and self.lease_holds(now_ms):
            return 0
        return self._engine.staleness_ms(now_ms, applied_index)

    def peer_statuses(self) -> tuple[PeerStatus, ...]:
        """What this node knows of the others."""
        engine = self._engine
        statuses = []
        for member in engine.configurations.in_force.members:
            state = engine.peers.get(member.id)
            if state is not None:
                match = Index(engine.match_indexes[state.node]) if engine.is_leader else Index(0)
                statuses.append(
                    PeerStatus(
                        id=member.id,
                        connected=state.connected,
                        match_index=match,
                        voter=engine.is_named(member.id, state),
                    )
                )
        return tuple(statuses)

    def match_index(self, node_id: NodeId) -> Index:
        """Return the highest index that a peer is known to hold durably, or 0."""
        state = self._engine.peers.get(node_id)
        return Index(0 if state is None else self._engine.match_indexes[state.node])

    def fed_from(self) -> Index | None:
        """Return up to where every follower holds the log that is sent the log now."""
        engine = self._engine
        if not engine.is_leader:
            return None
        matches = [
            engine.match_indexes[state.node]
            for state in engine.peers.values()
            if state.connected
            and state.reached
            and engine.next_indexes[state.node] > engine.log.base_index
        ]
        return Index(min(matches)) if matches else None

    def expects_replies(self) -> bool:
        """Whether an answer to what was sent may lead to something at once.

        Without it a leader has sent its whole log to every peer that is linked, all
        of it is committed, and nobody waits for a read or a change.
        """
        engine = self._engine
        last = engine.log.last_index
        return (
            engine.commit_index < last
            or self._reads.pending
            or engine.transfer_target is not None
            or not engine.counting().settled
            or any(
                state.connected and engine.next_indexes[state.node] <= last
                for state in engine.peers.values()
            )
        )

    def sync_may_commit(self) -> bool:
        """Whether a report of this node's own sync could commit something at once."""
        engine = self._engine
        if not engine.is_leader:
            return False
        commit = engine.commit_index
        return engine.counting().quorum == 1 or any(
            match > commit for match in engine.match_indexes.values()
        )

    # -------------------------------------------------------------------- step

    def step(
        self,
        now_ms: int,
        inbox: Sequence[Inbound],
        proposals: Sequence[Proposal],
        *,
        changes: Sequence[ChangeRequest] = (),
        reads: bool = False,
        asks: bool = False,
        wall_ms: int = 0,
    ) -> Ready:
        """Advance once.

        Args:
            now_ms: Monotonic time; the same or later than in the last step.
            inbox: In order of arrival. A protocol error in a message is
                reported in `Ready.violators` and skips that message only.
            proposals: In order; each becomes one entry if this node leads.
            changes: Of the membership; more than one at a time are refused.
            reads: Whether linearizable reads have arrived since the last step;
                they share `Ready.read_ticket`.
            asks: Whether reads wait for the read index of the leader, another node;
                they share `Ready.asked`.
            wall_ms: Wall clock, passed on to candidates with a vote.

        Returns:
            What to do, in the order of its fields.

        Raises:
            SafetyViolationError: Continuing could break a promise. The node
                must stop without carrying out anything of this step.
        """
        engine = self._engine
        self._world(now_ms)
        engine.now_ms = now_ms
        engine.wall_ms = wall_ms
        led_term = engine.term if engine.is_leader else None
        violators: list[tuple[NodeId, str]] = []
        engine.step_down_if_stalled()
        for item in inbox:
            take(engine, item, violators)
        for proposal in proposals:
            engine.propose(proposal)
        for change in changes:
            engine.propose_change(change)
        ready = Ready(sequence=engine.log.last_sequence)
        self._register_reads(ready, reads=reads)
        if asks and not engine.is_leader:
            ready.asked = engine.ask_read_index()
        self._lead_or_follow(ready)
        self._finish(ready, led_term)
        ready.violators = violators
        engine.last_step_ms = now_ms
        self.is_leader = engine.is_leader
        return ready

    def allocate_sequence(self) -> WriteSequence:
        """Return the number of a WAL write that carries no records."""
        return self._engine.log.allocate_sequence()

    def has_backlog(self) -> bool:
        """Whether another step would at once find something to do."""
        engine = self._engine
        return engine.apply_backlog or (engine.is_leader and engine.has_backlog())

    def pace_applying(self, *, slowly: bool) -> None:
        """Say whether each entry takes long to apply: then a step hands out one."""
        self._engine.applies_slowly = slowly

    def next_deadline_ms(self) -> int:
        """Return when a step is due even if nothing arrives."""
        engine = self._engine
        if engine.is_leader:
            return engine.heartbeat_due_ms
        if not engine.may_campaign:
            return engine.now_ms + engine.settings.heartbeat_ms
        return engine.election_due_ms()

    # ---------------------------------------------------------------- internal

    def _world(self, now_ms: int) -> None:
        WORLD.now_s = now_ms / 1000
        WORLD.source = self._random

    def _register_reads(self, ready: Ready, *, reads: bool) -> None:
        engine = self._engine
        if not reads and not engine.index_requests:
            return
        if not engine.is_leader:
            ready.reads_failed = reads
            return
        ready.read_ticket = engine.round + 1
        engine.round_requested = True
        index = Index(max(engine.commit_index, engine.noop_index))
        self._reads.register(ready.read_ticket, index)
        engine.begin_index_round(ready.read_ticket, index)

    def _lead_or_follow(self, ready: Ready) -> None:
        engine = self._engine
        engine.try_found()
        engine.tick()
        engine.say_farewell()
        if engine.is_leader:
            engine.found_cluster(self._new_cluster_id)
            engine.advance_commit()
            if not engine.counting().settled:
                engine.let_in_new_disk()
                engine.name_learner()
                engine.measure_learners()
        if engine.transfer_target is not None:
            engine.tick_transfer()
        engine._SyncObj__applyLogEntries()
        if engine.is_leader:
            engine.broadcast()
            if self._reads.pending:
                confirmed = engine.confirmed_round()
                ready.reads = self._reads.confirm(confirmed)
                engine.answer_index_requests(confirmed)
            engine.leave_office()

    def _finish(self, ready: Ready, led_term: Term | None) -> None:
        engine = self._engine
        if led_term is not None and not (engine.is_leader and engine.term == led_term):
            engine.answer_lost_proposals()
            self._reads.clear()
            engine.drop_index_requests()
            ready.reads_failed = True
            ready.reads = None
        ready.records = engine.log.take_records()
        ready.sequence = engine.log.last_sequence
        ready.commit_hint = engine.commit_index
        ready.messages, engine.outgoing = engine.outgoing, []
        ready.committed, engine.committed = engine.committed, []
        ready.outcomes, engine.outcomes = engine.outcomes, []
        ready.install, engine.install = engine.install, None
        ready.admission_changed, engine.admission_changed = engine.admission_changed, False
        if engine.log.memory_bytes > engine.settings.log_memory_bytes_max:
            engine.evict()
        if engine.loaded:
            engine.loaded = []
        if engine.wanted:
            last, bytes_max = engine.log.evicted_index, engine.settings.append_bytes_max
            ready.wanted = tuple(
                Wanted(first, min(last, Index(first + APPEND_ENTRIES_MAX - 1)), bytes_max)
                for first in engine.wanted
            )
            engine.wanted = []
        if engine.index_answers:
            ready.index_answers, engine.index_answers = engine.index_answers, []
        ready.asks_failed, engine.asks_failed = engine.asks_failed, False
        if engine.regresses:
            ready.regresses, engine.regresses = tuple(engine.regresses), []
        if engine.is_leader:
            ready.snapshot_peers = tuple(
                node_id
                for node_id, state in engine.peers.items()
                if state.connected and state.wants_snapshot
            )
        seen = (engine.term, engine.leader_id)
        ready.leader_changed = seen != self._leader_seen
        self._leader_seen = seen
        if engine.configurations.in_force is not self._configuration_seen:
            self._configuration_seen = engine.configurations.in_force
            ready.configuration = self._configuration_seen
        if engine.members_version != self._members_version:
            self._members_version = engine.members_version
            contacts_key = self._contacts_source()
            if contacts_key != self._contacts_key:
                self._contacts_key = contacts_key
                ready.contacts = self.contacts


def _hard_state(recovered: RecoveredLog) -> HardState:
    """Return the recovered hard state; the term is never below the log's."""
    last_term = recovered.base_term
    if recovered.entries:
        last_term = Term(recovered.entries[-1][2])
    elif recovered.evicted is not None:
        last_term = Term(recovered.evicted.last_term)
    if recovered.hard_state.term >= last_term:
        return recovered.hard_state
    return HardState(Term(last_term), None)


def join_log(recovered: RecoveredLog, snapshot: SnapshotMeta | None) -> tuple[RecoveredLog, bool]:
    """Decide where the log starts, given a verified snapshot (finding N2).

    A log that covers the snapshot's end keeps its tail. A snapshot newer than
    the log's end, or contradicting it, means that the node stopped between
    making it durable and restarting the log: the log restarts behind it.

    Returns:
        The log to start with, and whether the WAL has to be told.
    """
    if snapshot is None or snapshot.index <= recovered.base_index:
        return recovered, False
    if recovered.term_at(snapshot.index) == snapshot.term:
        return recovered, False
    restarted = RecoveredLog(
        hard_state=recovered.hard_state,
        base_index=snapshot.index,
        base_term=snapshot.term,
        entries=[],
        commit_hint=snapshot.index,
        sequence=WriteSequence(recovered.sequence),
    )
    return restarted, True

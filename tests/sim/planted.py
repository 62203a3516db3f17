"""Planted bugs: each takes one rule out of the engine or the replica.

A mutant is a subclass, or a function in another's place, that brings back what
PySyncObj 0.3.17 does, as far as it had the rule's place at all; the letters are
those of docs/internals/engine.md. The product knows nothing of them and has no
switch for any: they are put in place from here, for as long as a context lasts.

Owner: tests.sim.mutants, which hunts them.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from raftkv.engine import core as core_module
from raftkv.engine.core import RaftCore, join_log
from raftkv.engine.log import RaftLog
from raftkv.engine.messages import Append, AppendReply, Heartbeat, VoteReply
from raftkv.engine.ready import LogEntry, OutgoingMessage, Ready, RecoveredLog
from raftkv.engine.syncobj_library import CANDIDATE
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import EngineState, PeerState
from raftkv.errors import CommandError
from raftkv.kv.commands import ErrorReply
from raftkv.kv.store import KvStore
from raftkv.replica import recovery as recovery_module
from raftkv.replica import replica as replica_module
from raftkv.replica.batches import Batch, Batches
from raftkv.replica.clockwork import BatchClock
from raftkv.replica.log_time import LogTime
from raftkv.replica.outbox import Outbox
from raftkv.replica.replica import Replica
from raftkv.seams import PEER_RAFT
from raftkv.types import (
    ChangeKind,
    Configuration,
    Index,
    MembershipChange,
    NodeId,
    SnapshotMeta,
    WriteSequence,
)
from tests.sim import (
    planted_history,
    planted_past,
    planted_reads,
    planted_sessions,
    planted_watches,
)

Plant = Callable[[], AbstractContextManager[type[RaftCore]]]


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Attributes:
        name: For the command line and the page.
        rule: What holds without it, in one line.
        plant: Puts it in place, for as long as the context lasts, and gives the
            core class to run.
    """

    name: str
    rule: str
    plant: Plant


MUTANTS: dict[str, Mutant] = {}


def _mutant(name: str, rule: str) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        MUTANTS[name] = Mutant(name, rule, plant)
        return plant

    return add


def _core_of(engine: type[SnapshotMends]) -> type[RaftCore]:
    return type("MutantCore", (RaftCore,), {"engine_class": engine})


def _engine(name: str, rule: str) -> Callable[[type[SnapshotMends]], type[SnapshotMends]]:
    """Plant another engine."""

    def add(engine: type[SnapshotMends]) -> type[SnapshotMends]:
        _mutant(name, rule)(lambda: contextlib.nullcontext(_core_of(engine)))
        return engine

    return add


def _core(name: str, rule: str) -> Callable[[type[RaftCore]], type[RaftCore]]:
    """Plant another core."""

    def add(core_class: type[RaftCore]) -> type[RaftCore]:
        _mutant(name, rule)(lambda: contextlib.nullcontext(core_class))
        return core_class

    return add


@contextlib.contextmanager
def patched(owner: Any, **replacements: Any) -> Iterator[type[RaftCore]]:
    """Replace attributes of a module or class for a while."""
    kept = {name: getattr(owner, name) for name in replacements}
    for name, value in replacements.items():
        setattr(owner, name, value)
    try:
        yield RaftCore
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


# ----------------------------------------------------------------- replication


@_engine("A", "a reply of another term counts for nothing")
class _RepliesWithoutTerm(SnapshotMends):
    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        index = min(message.index, self.log.last_index) if message.success else message.index
        round_ = min(message.round, self.round)
        reply = AppendReply(self.term, round_, message.success, index, message.full)
        SnapshotMends.on_append_reply(self, node_id, reply)


@_engine("B", "a follower truncates only from the first real conflict")
class _TruncatesAlways(SnapshotMends):
    """Everything behind the previous index goes; the commit index with it, as the library's."""

    def _skip_held(
        self, entries: list[LogEntry], previous: int, previous_term: int
    ) -> tuple[list[LogEntry], int, int]:
        if not entries and previous < self.log.last_index:
            self._SyncObj__deleteEntriesFrom(previous + 1)
        return entries, previous, previous_term

    def _add(self, node_id: NodeId, message: Append, entries: Any, *position: int) -> None:
        commit = self.commit_index
        self._SyncObj__raftCommitIndex = Index(0)
        SnapshotMends._add(self, node_id, message, entries, *position)
        self._SyncObj__raftCommitIndex = min(commit, self.log.last_index)


# The commit index that N1's heartbeats carry, above the number of the round.
_COMMIT_SHIFT = 40


@_engine("N1", "a message that verified nothing about the log commits nothing")
class _CommitsUnverified(SnapshotMends):
    """While a snapshot streams in, heartbeats carry the commit index, and it is believed."""

    def send(self, node_id: NodeId, message: Any, depends: WriteSequence | None = None) -> None:
        if type(message) is Heartbeat and self.is_leader:
            message = Heartbeat(message.term, message.round | self.commit_index << _COMMIT_SHIFT)
        SnapshotMends.send(self, node_id, message, depends)

    def on_heartbeat(self, node_id: NodeId, message: Heartbeat) -> None:
        commit, round_ = divmod(message.round, 1 << _COMMIT_SHIFT)
        SnapshotMends.on_heartbeat(self, node_id, Heartbeat(message.term, round_))
        commit = min(commit, self.log.last_index)
        if message.term == self.term and commit > self.commit_index:
            self.set_commit(Index(commit))


# Messages of one burst at most.
_BURST = 50


@_engine("N4", "a burst of rejections rewinds once")
class _RewindsAgain(SnapshotMends):
    """The library's rejections, answers to them, and bursts that no answer interrupts."""

    def _next_hint(self, previous: int, held_term: int | None) -> int:
        return self.log.last_index + 1 if held_term is None else previous

    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        if self.is_leader and message.term == self.term and not message.success:
            self.peers[node_id].rewind_round = -1
        SnapshotMends.on_append_reply(self, node_id, message)

    def broadcast(self) -> None:
        if self.now_ms < self.heartbeat_due_ms and not self.round_requested:
            return
        SnapshotMends.broadcast(self)
        for node_id, state in self.peers.items():
            for _ in range(_BURST):
                if state.connected and state.reached and not state.wants_snapshot:
                    self._send_to(node_id, state, due=False)

    def has_backlog(self) -> bool:
        return False


@_engine("old terms", "entries of earlier terms are not committed by counting copies")
class _OldTermCommits(SnapshotMends):
    def advance_commit(self) -> None:
        matches = [self.match_indexes[state.node] for state in self.counted_peers()]
        candidate = self.quorum_value(matches, self.log.durable_index())
        if candidate > self.commit_index:
            self.set_commit(Index(candidate))
            self._SyncObj__leaderCommitIndex = candidate
            self.refresh_admission()


# ------------------------------------------------------------------ durability


class _EagerOutbox(Outbox):
    def post(self, messages: list[OutgoingMessage]) -> None:
        for message in messages:
            self._network.send(message.node, PEER_RAFT, message.body)


_mutant("sent early", "a message leaves when what it speaks for is synced")(
    lambda: patched(replica_module, Outbox=_EagerOutbox)
)


@_engine("sync in flight", "an entry resent while its sync is in flight is not acknowledged")
class _AcknowledgesWhatIsInFlight(SnapshotMends):
    """Only what this very step writes is waited for."""

    def _acknowledge(self, node_id: NodeId, message: Append, index: Index) -> None:
        depends = self.log.hard_state_sequence
        if self.log._records:
            depends = self.log.acknowledgement_depends(index)
        self._reply(node_id, message.round, success=True, index=index, depends=depends)


class _LogByIndex(RaftLog):
    """An index counts as durable once any write that reached it is synced."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._reached: list[int] = [self.last_index]
        self._reached_by: list[int] = [arguments["sequence"]]

    def add(self, command: bytes, idx: int, term: int) -> None:
        super().add(command, idx, term)
        if idx > self._reached[-1]:
            self._reached.append(idx)
            self._reached_by.append(self._last_sequence + 1)

    def durable_index(self) -> Index:
        position = bisect_right(self._reached_by, self._synced) - 1
        return Index(min(self._reached[position], self.last_index))

    def acknowledgement_depends(self, index: int) -> WriteSequence:
        position = bisect_left(self._reached, index)
        sequence = self._reached_by[min(position, len(self._reached_by) - 1)]
        return WriteSequence(max(sequence, self._hard_state_sequence))


_mutant("durable by index", "durability is tracked by write sequence, never by index")(
    lambda: patched(core_module, RaftLog=_LogByIndex)
)


@_engine("own copy", "a leader counts itself only up to its durable index")
class _CountsUnsynced(SnapshotMends):
    def advance_commit(self) -> None:
        self.log.durable_index = lambda: self.log.last_index  # type: ignore[method-assign]
        SnapshotMends.advance_commit(self)


# Commit indexes beside the logs, by the ids of their disks.
HINTS: dict[str, int] = {}


class _BelievesTheHint(SnapshotMends):
    """What stands at or below the hint is committed, whatever it is (the library's loop)."""

    hint = 0

    def set_commit(self, index: Index) -> None:
        SnapshotMends.set_commit(self, index)
        HINTS[self.disk_id] = max(index, HINTS.get(self.disk_id, 0))

    def _SyncObj__applyLogEntries(self) -> bool:
        index = min(self.hint, self.log.last_index)
        if index > self.commit_index:
            self.set_commit(Index(index))
        return SnapshotMends._SyncObj__applyLogEntries(self)


@_core("hint", "the commit hint lies in the log's own frames and is clamped to its end")
class _HintBesideLogCore(RaftCore):
    """The hint is kept beside the log, as the library's `.meta` file is, and believed."""

    engine_class = _BelievesTheHint

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._engine.hint = HINTS.get(arguments["disk_id"], 0)


# ----------------------------------------------------------- restart, snapshots


def _clears_the_log(
    recovered: RecoveredLog, snapshot: SnapshotMeta | None
) -> tuple[RecoveredLog, bool]:
    if snapshot is None or snapshot.index == recovered.base_index:
        return join_log(recovered, snapshot)
    bare = RecoveredLog(
        hard_state=recovered.hard_state,
        base_index=Index(0),
        base_term=recovered.base_term,
        entries=[],
        commit_hint=Index(0),
        sequence=recovered.sequence,
    )
    return join_log(bare, snapshot)


_mutant("N2", "a log that covers the snapshot keeps its tail at restart")(
    lambda: patched(recovery_module, join_log=_clears_the_log)
)


@_engine("SN back", "a snapshot never installs backwards")
class _InstallsBackwards(SnapshotMends):
    def on_snapshot_received(self, node_id: NodeId, meta: SnapshotMeta) -> None:
        if meta.index < self.commit_index:
            self._SyncObj__raftCommitIndex = Index(0)
            self.log.restart(meta.index, meta.term)
        SnapshotMends.on_snapshot_received(self, node_id, meta)


@_engine("SN tail", "a snapshot is acknowledged with its own index, whatever tail is kept")
class _AcknowledgesTheTail(SnapshotMends):
    _whole_tail = False

    def on_snapshot_received(self, node_id: NodeId, meta: SnapshotMeta) -> None:
        self._whole_tail = True
        SnapshotMends.on_snapshot_received(self, node_id, meta)
        self._whole_tail = False

    def send(self, node_id: NodeId, message: Any, depends: WriteSequence | None = None) -> None:
        if self._whole_tail:
            message = AppendReply(self.term, 0, True, self.log.last_index, self.disk_full)
            depends = self.log.acknowledgement_depends(self.log.last_index)
        SnapshotMends.send(self, node_id, message, depends)

    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        if message.success and message.index > self.log.last_index:
            message = AppendReply(
                message.term, message.round, True, self.log.last_index, message.full
            )
        SnapshotMends.on_append_reply(self, node_id, message)


# ------------------------------------------------------------------- membership


@_engine("N3", "one membership change at a time")
class _ManyChanges(SnapshotMends):
    def passing_refusal(self, change: MembershipChange) -> str:
        refusal = SnapshotMends.passing_refusal(self, change)
        if refusal != "another membership change is not committed yet":
            return refusal
        if change.kind is ChangeKind.PROMOTE:
            refusal = self._promotion_refusal(change.node)
            if refusal:
                return refusal
        return self._quorum_refusal(change)

    def propose_configuration(self, configuration: Configuration) -> bool:
        if not self.is_leader or self.commit_index < self.noop_index:
            return False
        self._append_configuration(configuration)
        return True


class _ConfigurationsOnceApplied(SnapshotMends):
    unapplied: tuple[tuple[Index, Configuration], ...] = ()

    def _SyncObj__applyLogEntries(self) -> bool:
        backlog = SnapshotMends._SyncObj__applyLogEntries(self)
        while self.unapplied and self.unapplied[0][0] <= self.applied_index:
            index, configuration = self.unapplied[0]
            self.unapplied = self.unapplied[1:]
            if index > self.configurations.last_index:
                self.configurations.append(index, configuration)
                self.refresh_members()
        return backlog

    def _SyncObj__deleteEntriesFrom(self, fromIDx: int) -> None:
        SnapshotMends._SyncObj__deleteEntriesFrom(self, fromIDx)
        self.unapplied = tuple(one for one in self.unapplied if one[0] < fromIDx)


@_core("K", "after a restart the configuration is the last one in the log")
class _ConfigurationOnceAppliedCore(RaftCore):
    engine_class = _ConfigurationsOnceApplied

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        engine: Any = self._engine
        history = engine.configurations
        known = [one for one in history._stack if one[0] <= engine.applied_index]
        engine.unapplied = tuple(history._stack[len(known) :])
        history._stack = known or history._stack[:1]
        engine.refresh_members()


@_engine("no rollback", "a truncation rolls the configuration in force back")
class _KeepsTruncatedConfigurations(SnapshotMends):
    def _SyncObj__deleteEntriesFrom(self, fromIDx: int) -> None:
        EngineState._SyncObj__deleteEntriesFrom(self, fromIDx)


@_engine("wiped votes", "a node whose disk was wiped neither votes nor counts")
class _AnyDisk(SnapshotMends):
    @property
    def may_vote(self) -> bool:
        return self.member is not None and self.member.voter

    def is_named(self, node_id: NodeId, state: PeerState) -> bool:
        member = self.configurations.in_force.member(node_id)
        return member is not None and member.voter

    def is_other_disk(self, node_id: NodeId, state: PeerState) -> bool:
        return False

    def counts(self, node_id: NodeId, state: PeerState) -> bool:
        return self.is_named(node_id, state)


# -------------------------------------------------------------------- elections


@_engine("V", "voters are counted, not votes, and members only")
class _CountsVotes(SnapshotMends):
    """The library's handler: everybody is asked, every answer counts."""

    def is_named(self, node_id: NodeId, state: PeerState) -> bool:
        if self.role == CANDIDATE or self.prevotes is not None:
            return True
        return SnapshotMends.is_named(self, node_id, state)

    def _may_answer(self, message: Any) -> bool:
        return True

    def on_vote_reply(self, node_id: NodeId, message: VoteReply) -> None:
        self.voters_heard.discard(node_id)
        SnapshotMends.on_vote_reply(self, node_id, message)


@_engine("any log", "a vote goes only to a log that is up to date")
class _AnyLogWins(SnapshotMends):
    def on_vote_request(self, node_id: NodeId, message: Any) -> None:
        longest = type(message)(
            term=message.term,
            last_index=1 << 60,
            last_term=1 << 60,
            pre=message.pre,
            transfer=message.transfer,
        )
        SnapshotMends.on_vote_request(self, node_id, longest)


class _NoPreVote(SnapshotMends):
    def _ask_for_prevotes(self) -> None:
        self.campaign()


class _NoStickiness(SnapshotMends):
    def is_sticky(self) -> bool:
        return False


class _NoCheckQuorum(SnapshotMends):
    def _hears_quorum(self) -> bool:
        return True


class _LibraryElections(_NoPreVote, _NoStickiness, _NoCheckQuorum):
    pass


_engine("E", "pre-vote, stickiness and check-quorum together")(_LibraryElections)
_engine("E pre-vote", "who cannot win does not raise the term")(_NoPreVote)
_engine("E stickiness", "who hears a leader votes for nobody else")(_NoStickiness)
_engine("E check-quorum", "a leader that hears no quorum leaves office")(_NoCheckQuorum)


# ------------------------------------------------------------------------ reads


@_core("read without no-op", "a read waits until the leader's own no-op is committed")
class _ReadsBeforeNoop(RaftCore):
    def _register_reads(self, ready: Ready, *, reads: bool) -> None:
        super()._register_reads(ready, reads=reads)
        waiting = self._reads._waiting
        if reads and waiting:
            last = waiting.pop()
            self._reads.register(last.ticket, self._engine.commit_index)


@_engine("read rounds", "a read needs answers to a round begun after it arrived")
class _AnyRoundConfirms(SnapshotMends):
    """An answer that arrives after the read confirms it, whenever its round began."""

    def _note_round(self, state: PeerState, round_: int) -> None:
        SnapshotMends._note_round(self, state, self.round)


@_engine("read without round", "a leader asks a quorum whether it still leads")
class _ReadsWithoutRound(SnapshotMends):
    def confirmed_round(self) -> int:
        return self.round


# ------------------------------------------------------------------------ apply


def _apply_again(replica: Any) -> None:
    """The entry that was being applied counts as not applied."""
    replica._core._engine._SyncObj__raftLastApplied = Index(replica.store.applied_index)


def _resolve_uncontained(batches: Batches, batch: Batch, results: Any) -> None:
    position = 0
    batches._end(batch)
    if batches._close(batch):
        for slot, count in batch.runs:
            slot.resolve(results[position : position + count])
            position += count


_APPLY = Replica._apply


def _apply_and_answer_at_once(replica: Any, ready: Ready) -> None:
    try:
        _APPLY(replica, ready)
    except ConnectionResetError:
        replica.store.applied_index -= 1
        _apply_again(replica)


@_mutant("AP answers", "an entry is applied once, also when its answer raises")
@contextlib.contextmanager
def _answers_uncontained() -> Iterator[type[RaftCore]]:
    with patched(Batches, resolve=_resolve_uncontained):
        with patched(Replica, _apply=_apply_and_answer_at_once) as core_class:
            yield core_class


def _run_uncontained(store: Any, _index: int, commands: Any) -> list[object]:
    results: list[object] = []
    for command in commands:
        try:
            results.append(store._handlers[command[0]](store._keyspace, command))
        except CommandError as error:
            results.append(ErrorReply(error.message))
    return results


def _apply_or_try_again(replica: Any, ready: Ready) -> None:
    try:
        _APPLY(replica, ready)
    except TypeError:
        replica.store._failed = False
        _apply_again(replica)


@_mutant("AP commands", "a command that raises is undone and passed over")
@contextlib.contextmanager
def _commands_uncontained() -> Iterator[type[RaftCore]]:
    with patched(KvStore, _run=_run_uncontained):
        with patched(Replica, _apply=_apply_or_try_again) as core_class:
            yield core_class


# ------------------------------------------------------------------------- time


def _stamp_without_catching_up(clock: Any, store: KvStore) -> tuple[int, int]:
    with patched(LogTime, catch_up=lambda *_: None):
        time = clock._advance(store)
    return max(time.log_time_ms, store.log_time_ms), max(time.lease_time_ms, store.lease_time_ms)


_mutant("time", "time goes on from the latest in the log, applied or not")(
    lambda: patched(BatchClock, stamp=_stamp_without_catching_up)
)


# ------------------------------------------------------------------- read levels

planted_reads.plant_all(_engine, _core, _mutant, patched)

# ----------------------------------------------------------------------- history

planted_history.plant_all(_mutant, patched)


# ------------------------------------------------------------ reads of the past

planted_past.plant_all(_mutant, patched)


# ----------------------------------------------------------------------- watches

planted_watches.plant_all(_mutant, patched)


# --------------------------------------------------------------------- sessions

planted_sessions.plant_all(_mutant, patched)

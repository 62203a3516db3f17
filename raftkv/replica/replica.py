"""The turn: everything that arrived becomes one step, and its effects, in order.

`Replica` owns term, log, commit index and store of one node (through `RaftCore`
and `KvStore`) and is a plain, synchronous class: the asyncio shell and the
simulator call the same methods. Everything a turn received, from all clients
and peers, is one step of the engine: one log batch, one WAL write, one fsync,
one message a peer.

Order of effects in a turn: persist (one write), send what may leave, apply what
is committed, answer, sync (on a worker where the disk is slow; reports through
`_report_synced`). A follower syncs before it applies. Nothing leaves before what
it speaks for is durable: see `replica.outbox`.

A failed write or fsync, damaged data, a broken invariant and any error that nobody
expected, in a turn or in the report of a worker, stop the node at once, with no
further message or reply; nothing is retried.

Who calls: the one owning thread. Tests: tests/unit/replica, tests/sim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from raftkv.config import Config
from raftkv.engine import messages
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import (
    KIND_COMMANDS,
    KIND_CONFIGURATION,
    DiskSpace,
    EntriesRead,
    Inbound,
    PeerDown,
    PeerHello,
    PeerMessage,
    PeerUp,
    Proposal,
    Ready,
    SnapshotReceived,
    SnapshotTaken,
    Synced,
)
from raftkv.errors import ProtocolError, StorageError
from raftkv.kv.codec import encode_batch
from raftkv.kv.store import KvStore
from raftkv.replica import transfer
from raftkv.replica.agreement import Agreement
from raftkv.replica.arrivals import ARRIVALS_BYTES_MAX, Arrivals
from raftkv.replica.batches import Batch, Batches
from raftkv.replica.checkpoints import CHECKPOINT, Checkpoints
from raftkv.replica.clockwork import BatchClock
from raftkv.replica.compaction import Compactor
from raftkv.replica.dataset_limit import DatasetLimit
from raftkv.replica.disk_space import DiskSpaceGuard, needed_bytes
from raftkv.replica.durability import Durability
from raftkv.replica.follower_reads import FollowerReads
from raftkv.replica.gathering import GATHER_CLIENTS_MIN, Gathering
from raftkv.replica.guarded_worker import GuardedWorker
from raftkv.replica.handover import Handover
from raftkv.replica.history_bounds import HistoryBounds
from raftkv.replica.log_reader import LogReader
from raftkv.replica.membership import Membership, PendingChange
from raftkv.replica.outbox import Outbox
from raftkv.replica.ports import Collector, Listener, RandomSource, Stopped, stopped_by
from raftkv.replica.read_levels import ReadLevels
from raftkv.replica.reads import Reads
from raftkv.replica.recovery import Recovered
from raftkv.replica.requests import Command
from raftkv.replica.slices import Slices
from raftkv.replica.standing import Standing
from raftkv.seams import (
    NOT_LEADER,
    PEER_RAFT,
    PEER_SNAPSHOT,
    PEER_STATE,
    SHUTTING_DOWN,
    Clock,
    Failure,
    Network,
    Observer,
    Worker,
)
from raftkv.transport.handshake import RefusalReason
from raftkv.types import (
    Configuration,
    Index,
    NodeId,
    SnapshotMeta,
    WriteSequence,
)

# Bytes of entries from which on the collector hears of a turn: of a hundred small commands.
BULK_BYTES_MIN = 1 << 14


class Replica(ReadLevels):
    """One node's share of the cluster, without sockets, threads or clocks of its own."""

    def __init__(
        self,
        *,
        config: Config,
        recovered: Recovered,
        clock: Clock,
        network: Network,
        syncer: Worker,
        background: Worker,
        observer: Observer,
        random: RandomSource,
        wake: Callable[[], None],
        on_stop: Callable[[Stopped], None],
        on_configuration: Callable[[Configuration], None],
        gather_clients_min: int = GATHER_CLIENTS_MIN,
        arrivals_bytes_max: int = ARRIVALS_BYTES_MAX,
        collector: Collector | None = None,
    ) -> None:
        """Take over what recovery found; `start` begins.

        Args:
            config: Validated settings of this node.
            recovered: Core, store, WAL and snapshots of this node's directory.
            clock: Of this node.
            network: Links to the other members.
            syncer: Runs fsync jobs, one at a time.
            background: Runs all other blocking jobs, one at a time.
            observer: Hears rare events.
            random: For seeds; the engine has its own reference to it.
            wake: Asks for a turn soon.
            on_stop: Hears once that this replica has stopped itself.
            on_configuration: Hears whom to have links with, whenever that changes.
            gather_clients_min: Clients on their way for whom newcomers wait.
            arrivals_bytes_max: What a turn takes of messages, apart from the last one.
            collector: Hears of large batches that are applied.
        """
        syncer = GuardedWorker(syncer, self.fail)
        background = GuardedWorker(background, self.fail)
        self._config = config
        self._clock = clock
        self._network = network
        self._observer = observer
        self._random = random
        self._wake = wake
        self._on_stop = on_stop
        self._on_configuration = on_configuration
        self._collector = collector
        self._core: RaftCore = recovered.core
        self._wal = recovered.wal
        self._standing = Standing(recovered.disk, recovered.identity, recovered.wal, observer)
        self.store: KvStore = recovered.store
        self._outbox = Outbox(network, recovered.core.log.synced)
        self._arrivals = Arrivals(arrivals_bytes_max)
        limits = config.limits
        timeout = config.timing.request_timeout_ms
        self._batches = Batches(limits, timeout)
        self._reads = Reads(timeout)
        self._batch_gathering = Gathering(gather_clients_min)
        self._read_gathering = Gathering(gather_clients_min)
        self._follower_reads = FollowerReads(timeout)
        self._slices = Slices()
        self._handover = Handover(recovered.core, timeout)
        self._membership = Membership(recovered.core, observer, timeout)
        self._agreement = Agreement(
            node_id=config.node.id,
            disk=recovered.disk,
            network=network,
            observer=observer,
            now_ms=clock.now_ms(),
        )
        self._batch_clock = BatchClock(clock, observer)
        self._durability = Durability(
            settings=config.durability,
            core=recovered.core,
            wal=recovered.wal,
            syncer=syncer,
            clock=clock,
            report=self._report_synced,
            fail=self.fail,
        )
        self._space = DiskSpaceGuard(
            wal=recovered.wal, background=background, observer=observer, clock=clock, fail=self.fail
        )
        self._sender = transfer.SnapshotSender(
            network=network,
            snapshots=recovered.snapshots,
            background=background,
            observer=observer,
            chunk_bytes=limits.snapshot_chunk_bytes,
            match_index=recovered.core.match_index,
            fail=self.fail,
        )
        self._compactor = Compactor(
            core=recovered.core,
            wal=recovered.wal,
            snapshots=recovered.snapshots,
            background=background,
            observer=observer,
            limits=limits,
            pinned=self._sender.pinned_index,
            deliver=self._snapshot_taken,
            fail=self.fail,
            agreement=self._agreement,
            wake=wake,
            log_bytes=recovered.applied_bytes,
            snapshot_index=recovered.snapshot_index,
        )
        self._checkpoints = Checkpoints(
            self._agreement,
            self._compactor,
            interval_ms=config.timing.checkpoint_interval_ms,
            now_ms=clock.now_ms(),
        )
        self._history_bounds = HistoryBounds(limits, clock.now_ms())
        self._dataset_limit = DatasetLimit(limits.maxmemory)
        self._snapshot_inbox = transfer.SnapshotInbox(
            network=network,
            snapshots=recovered.snapshots,
            background=background,
            observer=observer,
            ready=self._snapshot_loaded,
            fail=self.fail,
        )
        self._reader = LogReader(
            disk=recovered.disk,
            wal=recovered.wal,
            background=background,
            deliver=self._entries_read,
            fail=self.fail,
        )
        self._loaded: tuple[SnapshotMeta, KvStore] | None = None
        self._was_accepting = True
        self._draining = False
        self.stopped: Stopped | None = None
        self.listener: Listener | None = None

    # --------------------------------------------------------- input from peers

    def peer_up(self, node: NodeId, hello: PeerHello) -> None:
        """A link to a member is established."""
        self._membership.linked(node)
        self._arrivals.add(PeerUp(node, hello))
        self._wake()

    def peer_down(self, node: NodeId) -> None:
        """A link to a member is lost."""
        self._outbox.forget(node)
        self._arrivals.add(PeerDown(node))
        self._wake()

    def peer_refused(self, node: NodeId, reason: RefusalReason) -> None:
        """A node that proved who it is refuses to link with this one."""
        error = self._membership.refused(node, reason)
        if error is not None:
            self.fail(error)

    def receive(self, node: NodeId, kind: int, body: bytes) -> None:
        """Take one frame of a member.

        Raises:
            ProtocolError: It is not a message of ours; the link should end.
        """
        if kind == PEER_RAFT:
            self._arrivals.add(PeerMessage(node, body))
            # The answer of the last follower is news, but nobody waits for it: it goes
            # into the next step, which a heartbeat brings soon.
            core = self._core
            if not (core.is_leader and messages.is_reply(body)) or core.expects_replies():
                self._wake()
        elif kind == PEER_SNAPSHOT:
            self._receive_snapshot(node, transfer.decode(body))
        elif kind == PEER_STATE:
            self._agreement.received(node, body)
            self._wake()
        else:
            raise ProtocolError(f"frame of unknown kind {kind}")

    def _receive_snapshot(
        self, node: NodeId, message: transfer.SnapshotChunk | transfer.SnapshotAnswer
    ) -> None:
        if self.stopped is not None or message.term != self._core.term:
            return
        if type(message) is transfer.SnapshotChunk:
            if self._core.leader_id == node and not self._core.is_leader:
                self._snapshot_inbox.received(node, message)
        elif type(message) is transfer.SnapshotAnswer and self._core.is_leader:
            self._sender.answered(node, message, self._clock.now_ms())

    # -------------------------------------------------------------------- turn

    def awaits_more(self) -> bool:
        """Whether a turn should wait for another pass of the loop, which may bring more.

        Never for long, and never while a member has said something.
        """
        if self._arrivals:
            return False
        now_ms = self._clock.now_ms()
        return self._batch_gathering.grows(
            now_ms, self._batches.new_count
        ) or self._read_gathering.grows(now_ms, self._reads.new_count)

    def turn(self) -> None:
        """Carry out one step and its effects. Must not be called from a slot."""
        if self.stopped is not None:
            return
        try:
            self._turn(self._clock.now_ms())
        except Exception as error:
            # A turn that ended in the middle leaves effects undone that the
            # engine believes in: whatever the reason, this node must stop.
            self.fail(error)

    def _turn(self, now_ms: int) -> None:
        proposals = self._take_proposals(now_ms)
        inbox = self._take_inbox(proposals)
        has_reads = self._takes_reads(now_ms, proposals)
        ready = self._core.step(
            now_ms,
            inbox,
            proposals,
            changes=self._membership.take(now_ms),
            reads=has_reads,
            asks=self._follower_reads.has_new,
            wall_ms=self._clock.wall_ms(),
        )
        if has_reads and ready.read_ticket:
            self._read_gathering.begin(now_ms, self._reads.new_count)
            self._reads.begin(ready.read_ticket, now_ms)
        self._persist(ready)
        self._outbox.post(ready.messages)
        # At once: the others work on it while this node applies and answers.
        self._network.flush()
        if not self._core.is_leader:
            # Before it applies: the leader waits for this sync, and nobody here for a result.
            self._durability.start_sync()
            if self.stopped is not None:
                return
        self._note_changes(ready)
        self._apply_collected(ready)
        self._answer(ready, now_ms)
        self._end_gathering(now_ms)
        self._housekeeping(ready, now_ms)
        self._network.flush()
        if self.listener is not None:
            self._tell_listener(ready)
        # Last on a leader: what its clients and followers wait for has left, so that a
        # fast sync may be waited for here.
        self._durability.start_sync()
        if self.stopped is not None:
            return
        if self._core.has_backlog() or self._slices.pending:
            self._wake()
        retirement = self._membership.retirement()
        if retirement is not None:
            self._observer.event("removed", reason=retirement.reason)
            self._on_stop(retirement)

    def _take_proposals(self, now_ms: int) -> list[Proposal]:
        core = self._core
        if core.is_leader and core.term != self._batch_clock.term:
            self._batch_clock.lead(core.term, core.quorum_wall_ms, self.store)
        if self._handover.pending:
            self._batches.hold_up(now_ms)
            return []
        if not self._batches.has_new:
            due = self._core.has_own_noop and not self._batches.pending
            if not due or not self._batch_clock.tick_due(now_ms, self.store):
                return []
            return [Proposal(self._stamped([]), None)]
        if not self._core.is_leader:
            self._batches.fail_new(NOT_LEADER)
            return []
        if self._batch_gathering.goes_on(now_ms, under_way=self._batches.pending):
            return []
        proposals = self._batches.take(now_ms, self._stamped)
        clients = sum(len(cast(Batch, proposal.token).runs) for proposal in proposals)
        self._batch_gathering.begin(now_ms, clients)
        return proposals

    def _takes_reads(self, now_ms: int, proposals: list[Proposal]) -> bool:
        """Whether this step begins a round; one that proposes begins it at no cost."""
        if not self._reads.has_new:
            return False
        gathers = self._read_gathering.goes_on(now_ms, under_way=self._reads.waits_for_round)
        return bool(proposals) or not gathers

    def _end_gathering(self, now_ms: int) -> None:
        """Take another turn for those who waited for what has been answered."""
        batches, reads = self._batches, self._reads
        if self._batch_gathering.ends(now_ms, under_way=batches.pending) and batches.has_new:
            self._wake()
        if self._read_gathering.ends(now_ms, under_way=reads.waits_for_round) and reads.has_new:
            self._wake()

    def _stamped(self, commands: Sequence[Command]) -> bytes:
        log_time_ms, lease_time_ms = self._batch_clock.stamp(self.store)
        return encode_batch(log_time_ms, lease_time_ms, self._random.getrandbits(63), commands)

    def _take_inbox(self, proposals: list[Proposal]) -> list[Inbound]:
        inbox = self._arrivals.take()
        if self._arrivals:
            self._wake()
        if self._space.check(needed_bytes(inbox, proposals)):
            inbox.insert(0, DiskSpace(self._space.full))
        return inbox

    # ----------------------------------------------------------------- effects

    def _persist(self, ready: Ready) -> None:
        if ready.admission_changed:
            self._standing.note_admission(
                self._core.admitted,
                self._core.committed_configuration.member(self.node_id),
                ready.sequence,
            )
        if ready.records:
            self._durability.append(ready, reserve=self._space.full)
        self._standing.note_durable(self._outbox.synced)

    def _report_synced(self, sequence: WriteSequence) -> None:
        """Release what waited for this write, and tell the engine."""
        if self.stopped is not None:
            return
        try:
            # Before any vote that waited for this write leaves.
            self._standing.note_durable(sequence)
        except StorageError as error:
            self.fail(error)
            return
        self._outbox.release(sequence)
        self._arrivals.add(Synced(sequence))
        self._network.flush()
        # Elsewhere the report can wait for the next turn: all that hung on it has left.
        if self._core.sync_may_commit():
            self._wake()

    def _note_changes(self, ready: Ready) -> None:
        if ready.contacts is not None:
            self._on_configuration(Configuration(self.cluster_id, ready.contacts))
        for node, reason in ready.violators:
            self._observer.event("peer_protocol_error", peer=node, reason=reason)
        for node, acknowledged, last_index in ready.regresses:
            self._observer.event(
                "peer_log_regressed", peer=node, acknowledged=acknowledged, last_index=last_index
            )
        if ready.leader_changed:
            self._last_leader = self._core.leader_id or self._last_leader
            self._observer.event(
                "leader_changed",
                role=str(self._core.role),
                term=self._core.term,
                leader=self._core.leader_id or "",
            )
        if ready.install is not None:
            self._install(ready.install)

    def _install(self, meta: SnapshotMeta) -> None:
        """Replace the store by the one that was loaded from this snapshot."""
        if self._loaded is None or self._loaded[0] != meta:
            raise AssertionError("a snapshot was adopted that was not loaded")
        self._slices.retire(self.store)
        self.store = self._loaded[1]
        self.store.await_keys(self._awaited)
        self._loaded = None
        self._agreement.forget()
        self._checkpoints.forget()
        self._compactor.note_installed(meta.index)
        self._standing.note_committed(meta.configuration)
        self._observer.event("snapshot_installed", index=meta.index, keys=meta.keys)

    def _apply_collected(self, ready: Ready) -> None:
        collector = self._collector
        size = sum(len(entry.payload) for entry in ready.committed)
        if collector is None or size < BULK_BYTES_MIN:
            self._apply(ready)
            return
        collector.before_bulk()
        self._apply(ready)
        collector.after_bulk()

    def _apply(self, ready: Ready) -> None:
        store, batches, agreement = self.store, self._batches, self._agreement
        for entry in ready.committed:
            self._compactor.note_applied(len(entry.payload))
            if entry.kind == KIND_COMMANDS:
                batch = entry.token
                if type(batch) is Batch:
                    # Its own entry, since index and term are: no need to decode it.
                    batches.resolve(batch, store.apply(entry.index, entry.payload, batch.commands))
                else:
                    store.apply(entry.index, entry.payload)
            else:
                store.skip(entry.index)
                if entry.kind == KIND_CONFIGURATION:
                    self._standing.note_committed(self._core.committed_configuration)
                if type(entry.token) is PendingChange:
                    entry.token.resolve()
            agreement.note_applied(entry.index, store.state_hash)
            if store.at_checkpoint:
                now_ms = self._clock.now_ms()
                self._checkpoints.reached(store, now_ms, self._core.commit_index)
        if ready.committed:
            self._core.pace_applying(slowly=store.is_expiring)
        for detail in batches.take_errors():
            self._observer.event("answer_failed", detail=detail)
        if store.alarms:
            for alarm in store.alarms:
                self._observer.event("command_failed", **alarm._asdict())
            store.alarms.clear()

    def _answer(self, ready: Ready, now_ms: int) -> None:
        for outcome in ready.outcomes:
            failure = Failure(outcome.reason, definite=outcome.definite)
            if outcome.definite and outcome.reason == NOT_LEADER.reason:
                failure = NOT_LEADER
            if type(outcome.token) is Batch:
                self._batches.fail(outcome.token, failure)
            elif type(outcome.token) is PendingChange:
                outcome.token.fail(failure, lasting=outcome.lasting)
        if ready.reads_failed:
            self._reads.fail_all()
        if ready.reads is not None:
            self._reads.confirm(ready.reads)
        applied_index = Index(self.store.applied_index)
        self._reads.serve(applied_index, self._execute)
        if self._follower_reads.active:
            self._follower_reads.turn(ready, applied_index, now_ms, self._execute)
        self._batches.expire(now_ms)
        self._reads.expire(now_ms)
        self._membership.expire(now_ms)

    # ------------------------------------------------------------- housekeeping

    def _housekeeping(self, ready: Ready, now_ms: int) -> None:
        self._reader.start(ready.wanted)
        self._sender.turn(ready.snapshot_peers, self._core.term, now_ms)
        self._compactor.turn(self.store, now_ms)
        self._space.prepare()
        self._durability.mark_if_quiet(now_ms)
        self._slices.run_one()
        self._handover.turn(now_ms)
        if self._checkpoints.turn(now_ms, leads=self._core.is_leader):
            self.propose(CHECKPOINT, self._checkpoints)
        compaction = self._history_bounds.turn(
            self.store.history, now_ms, leads=self._core.is_leader
        )
        if compaction is not None:
            self.propose((compaction,), self._history_bounds)
        leads = self._core.is_leader and self._core.has_own_noop
        if self._dataset_limit.turn(self.store, now_ms, leads=leads):
            self.propose((self._dataset_limit.command,), self._dataset_limit)
        self._agreement.turn(
            now_ms,
            self.store.applied_index,
            self.configuration,
            commit_index=self._core.commit_index,
        )
        if self.store.free_slice():
            self._wake()

    def _entries_read(self, read: EntriesRead) -> None:
        self._arrivals.add(read)
        self._wake()

    def _snapshot_taken(self, taken: SnapshotTaken) -> None:
        self._arrivals.add_first(taken)
        self.turn()
        if self.stopped is None:
            self._compactor.cut_wal()

    def _snapshot_loaded(self, node: NodeId, meta: SnapshotMeta, store: KvStore) -> None:
        """A received snapshot is durable and loaded; let the engine decide."""
        self._loaded = (meta, store)
        self._arrivals.add_first(SnapshotReceived(node, meta))
        self.turn()
        if self._loaded is not None:
            self._slices.retire(self._loaded[1])
            self._loaded = None
        self._snapshot_inbox.forget_loaded()

    def _tell_listener(self, ready: Ready) -> None:
        listener = self.listener
        if listener is None:
            return
        if ready.leader_changed or ready.configuration is not None:
            listener.leader_changed()
        if self.accepting != self._was_accepting:
            self._was_accepting = self.accepting
            listener.accepting_changed()
        listener.turn_ended()

    def next_deadline_ms(self) -> int:
        """Return when a turn is due even if nothing arrives."""
        leads = self._core.is_leader
        deadline = self._core.next_deadline_ms()
        for other in (
            self._batches.next_deadline_ms(),
            self._reads.next_deadline_ms(),
            self._follower_reads.next_deadline_ms(),
            self._membership.next_deadline_ms(),
            self._space.retry_ms(),
            self._checkpoints.next_ms(leads=leads),
            self._compactor.next_ms(),
            self._batch_gathering.until_ms,
            self._read_gathering.until_ms,
            self._batch_clock.next_tick_ms(self.store) if leads else None,
        ):
            if other is not None and other < deadline:
                deadline = other
        return deadline

    def mark(self) -> None:
        """Write a sync mark if everything is durable, and start to sync it."""
        self._durability.mark()

    # -------------------------------------------------------------------- ends

    def drain(self) -> None:
        """Take no more writes; what is proposed will still be answered."""
        self._draining = True
        self._durability.draining = True
        self._batches.fail_new(SHUTTING_DOWN)
        self._wake()

    def close(self) -> None:
        """Release the files. The replica must be stopped or drained."""
        if self.stopped is None:
            self.stopped = Stopped(0, "closed")
        self._compactor.close(SHUTTING_DOWN)
        self._slices.close(SHUTTING_DOWN)
        self._handover.close(SHUTTING_DOWN)
        self._membership.close(SHUTTING_DOWN)
        self._follower_reads.close(SHUTTING_DOWN)
        self._sender.stop()
        self._wal.close()

    def fail(self, error: BaseException) -> None:
        """Stop for good: no further message, record or reply."""
        if self.stopped is not None:
            return
        self.stopped = stopped_by(error)
        # First: without memory the report may fail, and this must not.
        self._on_stop(self.stopped)
        self._observer.event(
            "stopped", exit_code=self.stopped.exit_code, reason=self.stopped.reason
        )

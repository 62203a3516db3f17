"""One simulated node: the production replica on simulated seams, and its process.

The process may end between any two of its effects (`SimNode.effect`): before each
write, sync and change of a directory, before each frame that leaves, before each
answer, and behind each applied entry; also while it recovers. It may be frozen
while the world goes on. The disk outlives it.
"""

from __future__ import annotations

import contextlib
import random as random_module
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raftkv.config import Config
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import Ready, WalRecord
from raftkv.errors import DamagedDataError, DiskFailedError, DiskFullError
from raftkv.kv.store import KvStore
from raftkv.replica.arrivals import ARRIVALS_BYTES_MAX
from raftkv.replica.gathering import GATHER_CLIENTS_MIN
from raftkv.replica.ports import Stopped
from raftkv.replica.recovery import recover
from raftkv.replica.replica import Replica
from raftkv.seams import Failure
from raftkv.transport.handshake import RefusalReason
from raftkv.types import Index, NodeId, WriteSequence
from tests.sim.disk import SimDisk
from tests.sim.invariants import Violation
from tests.sim.network import NodeNetwork
from tests.sim.timeouts import with_other_timeouts
from tests.sim.workers import Crash, SimSyncer, SimWorker
from tests.sim.world import SimClock

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

# What a process does to the world; it may end before each of them.
EFFECTS = ("persist", "sync", "send", "apply", "reply")
# Before a node whose start failed is started again.
RETRY_MS = 500


class SimObserver:
    def __init__(self, node: SimNode) -> None:
        self._node = node

    def event(self, name: str, /, **fields: object) -> None:
        counts = self._node.cluster.events
        counts[name] = counts.get(name, 0) + 1
        if self._node.cluster.verbose:
            print(f"{self._node.world.now_ms:10.2f} {self._node.name} {name} {fields}")


class SimSlot:
    """Takes the answers of one run; checks that there is no second one.

    With a node, the answer is an effect of it: its process may end before. The node that
    was asked, if it is named, owes an answer for as long as its process lives.
    """

    def __init__(
        self,
        answered: Callable[[list[Any] | None, Failure | None], None],
        node: SimNode | None = None,
        *,
        asked: SimNode | None = None,
    ) -> None:
        self._answered = answered
        self._node = node
        self._debts = asked.debts if asked is not None else None
        self._done = False
        if self._debts is not None:
            self._debts.add(self)

    def _once(self) -> None:
        if self._done:
            raise Violation("a slot was answered twice", invariant="answered_at_most_once")
        if self._node is not None:
            self._node.effect("reply")
            self._node.cluster.invariants.answered(self._node)
        self._done = True
        if self._debts is not None:
            self._debts.discard(self)

    def resolve(self, results: Any) -> None:
        self._once()
        self._answered(list(results), None)

    def fail(self, failure: Failure) -> None:
        self._once()
        self._answered(None, failure)


class _WatchedNetwork(NodeNetwork):
    """Shows everything that leaves to the invariants."""

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self._node.cluster.invariants.sent(self._node, node, kind, body)
        super().send(node, kind, body)


@contextlib.contextmanager
def _watched_recovery(cluster: Cluster) -> Iterator[None]:
    """Show what recovery applies: maybe nobody has applied it before."""
    apply = KvStore.apply

    def watched(store: KvStore, *arguments: Any) -> list[object]:
        results = apply(store, *arguments)
        cluster.invariants.seen_applied(store)
        return results

    KvStore.apply = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        KvStore.apply = apply  # type: ignore[method-assign]


class SimNode:
    """One node: its disk outlives its process.

    Attributes:
        debts: Slots that this process has to answer. Never walked: sets have no order.
        slow_until_ms: When the last job that its slow disk was given ends.
    """

    core_class: type[RaftCore] = RaftCore

    def __init__(self, cluster: Cluster, config: Config) -> None:
        self.cluster = cluster
        self.world = cluster.world
        self.config = config
        self.name = config.node.id
        self.disk = SimDisk(self.world, self.name)
        self.disk.happened = cluster.noted
        self.clock = SimClock(self.world)
        self.alive = False
        self.life = 0
        self.slow_disk = 1.0
        self.slow_until_ms = 0.0
        self.crash_probability = 0.0
        self.power_cut_on_crash = False
        self.paused_until_ms = 0.0
        self.retired = False
        self.debts: set[SimSlot] = set()
        self.outside_since_ms = float("inf")
        self.replica: Replica
        self.syncer: SimWorker
        self._store_seen: KvStore | None = None
        self._turn_scheduled = False
        self._timer_at = 0.0

    # ------------------------------------------------------------------ process

    def start(self) -> None:
        """Recover from the disk and begin; try again later where the disk is at fault.

        A disk that was made to rot must be refused; then the operator follows the
        advice, deletes the directory and starts the node again.
        """
        rotten = self.disk.rotten
        try:
            self._start()
        except (DiskFullError, DiskFailedError):
            self._end_of_start()
        except DamagedDataError:
            if not rotten:
                raise
            self._end_of_start()
            self.cluster.note("rot_noticed")
            self.wipe()
        except Crash:
            if self.power_cut_on_crash:
                self.disk.cut_power()
            self._end_of_start()
        else:
            if rotten:
                raise Violation(
                    f"{self.name} runs on a disk that has rotted", invariant="rot_is_noticed"
                )

    def _end_of_start(self) -> None:
        self.alive = False
        self.disk.crash_process()
        self.cluster.network.node_gone(self.name)
        self.world.after(RETRY_MS, lambda: None if self.alive else self.start())

    def _start(self) -> None:
        self.life += 1
        # Each slot remembers the process that was asked, and this is another one.
        self.debts = set()
        self._turn_scheduled = False
        self._timer_at = 0.0
        self.retired = False
        if self.disk.is_blank:
            # The operator lists the members of today for a node that starts afresh.
            self.config = replace(self.config, members=self.cluster.members_with(self.name))
        self.config = with_other_timeouts(self.config, self.world.seed, self.life)
        self.disk.effect = self.effect
        background = SimWorker(self, (0.2, 8.0))
        self.syncer = SimSyncer(self, (0.2, 4.0), others_busy=lambda: background.busy)
        observer = SimObserver(self)
        source = random_module.Random(self.world.random.getrandbits(64))
        with _watched_recovery(self.cluster):
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
            network=_WatchedNetwork(self.cluster.network, self),
            syncer=self.syncer,
            background=background,
            observer=observer,
            random=source,
            wake=self.wake,
            on_stop=self._stopped,
            on_configuration=lambda _: self.world.after(0.1, self._drop_strangers),
            # There are few clients here; where one is enough, newcomers wait often.
            gather_clients_min=1 if self.world.seed % 2 else GATHER_CLIENTS_MIN,
            # Messages are small here; one a turn means that some wait for the next one.
            arrivals_bytes_max=ARRIVALS_BYTES_MAX if self.world.seed % 3 else 0,
        )
        self._watch()
        self.alive = True
        for other in sorted(self.cluster.network.nodes):
            if other != self.name:
                self.cluster.network.connect_soon(self.name, other)
        self.wake()

    def _watch(self) -> None:
        """Show the invariants what this replica does, where it does it."""
        invariants, replica = self.cluster.invariants, self.replica
        step, append = replica._core.step, replica._wal.append
        note_applied = replica._agreement.note_applied
        batch_clock = replica._batch_clock
        stamp = batch_clock.stamp

        def watched_step(*arguments: Any, **named: Any) -> Ready:
            ready = step(*arguments, **named)
            invariants.stepped(self, ready)
            return ready

        def watched_append(
            sequence: WriteSequence,
            records: Sequence[WalRecord],
            commit_hint: Index,
            *,
            reserve: bool = False,
        ) -> None:
            append(sequence, records, commit_hint, reserve=reserve)
            invariants.wrote(self, sequence)

        def watched_stamp(store: KvStore) -> tuple[int, int]:
            times = stamp(store)
            term = batch_clock.term
            assert term is not None
            self.cluster.log_time.stamped(self.name, self.life, term, self.world.now_ms, times)
            self.cluster.lease_time.stamped(self.world.now_ms, term, *times)
            return times

        def watched_note_applied(index: int, state_hash: bytes) -> None:
            invariants.applied(self, index, state_hash)
            note_applied(index, state_hash)
            self.effect("apply")

        replica._core.step = watched_step  # type: ignore[method-assign]
        replica._wal.append = watched_append  # type: ignore[method-assign]
        batch_clock.stamp = watched_stamp  # type: ignore[method-assign]
        replica._agreement.note_applied = watched_note_applied  # type: ignore[method-assign]
        invariants.restarted(self)

    def has_other_store(self) -> bool:
        """Whether a snapshot has replaced the store since this was asked last."""
        before, self._store_seen = self._store_seen, self.replica.store
        return before is not self.replica.store

    def crash(self, *, power_cut: bool) -> None:
        """End the process at once."""
        if not self.alive:
            return
        self.alive = False
        self.cluster.crashes += 1
        self.cluster.invariants.crashed(self)
        if power_cut:
            self.disk.cut_power()
        else:
            self.disk.crash_process()
        self.cluster.network.node_gone(self.name)
        self.cluster.note_crash(self)

    def wipe(self) -> None:
        """Everything on its disk is gone."""
        self.cluster.invariants.disk_lost(self)
        self.disk.wipe()

    def _stopped(self, stopped: Stopped) -> None:
        self.retired = stopped.orderly or "was removed" in stopped.reason
        self.cluster.note_stop(self, stopped)

    def effect(self, kind: str = "send") -> None:
        """Called before every effect: the process may end here."""
        if not self.crash_probability:
            return
        # Answers are few among the effects.
        share = 4.0 if kind == "reply" else 1.0
        if self.world.chance(share * self.crash_probability):
            self.cluster.note(f"crash_before_{kind}")
            raise Crash

    def guarded(self, action: Callable[[], None]) -> None:
        """Run something of this process, which may crash in the middle."""
        try:
            action()
        except Crash:
            self.crash(power_cut=self.power_cut_on_crash)
            return
        if self.alive and (self.replica.stopped is not None or self.retired):
            self.crash(power_cut=False)
            if self.retired:
                self.cluster.retire(self)

    @property
    def is_frozen(self) -> bool:
        """Whether the process stands still while the world goes on."""
        return self.world.now_ms < self.paused_until_ms

    @property
    def frozen_for_ms(self) -> float:
        """How long it still does."""
        return max(0.0, self.paused_until_ms - self.world.now_ms)

    # ------------------------------------------------------------------- members

    def accepts(self, other: SimNode) -> bool:
        """Whether a link with that node comes about, as far as the network is concerned."""
        mine, its = self.replica.cluster_id, other.replica.cluster_id
        return not self.is_frozen and (not mine or not its or mine == its)

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
        delay = self.world.random.uniform(0.01, 1.2) + self.frozen_for_ms
        self.world.after(delay, lambda: self._turn(life))

    def receive(self, source: NodeId, kind: int, body: bytes) -> None:
        self.guarded(lambda: self.replica.receive(source, kind, body))

    def _turn(self, life: int) -> None:
        if life != self.life or not self.alive:
            return
        self._turn_scheduled = False
        if self.is_frozen or self.replica.awaits_more():
            self.wake()
            return
        self.guarded(self.replica.turn)
        self.cluster.after_turn(self)
        if self.alive and not self._turn_scheduled:
            self._arm()

    def _arm(self) -> None:
        delay = self.clock.delay_until(self.replica.next_deadline_ms())
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

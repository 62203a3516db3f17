"""What all client connections of one node share.

Owns the registry of connections, the lists of those that have answers to write
or requests that wait for a leader, the counters, and whether sockets are read.
It is what the replica reports to (`ports.ReplicaListener`), once a turn and not
once a command. Does no I/O itself; `listener` owns the server socket and timer.

Called only on the thread that owns the state.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftkv.config import Config
from raftkv.kv.history import History
from raftkv.seams import NOT_LEADER, Clock, Observer
from raftkv.server.blocking import BlockedClients
from raftkv.server.command_table import CommandTable
from raftkv.server.keyspace_events import KeyspaceEvents
from raftkv.server.ports import Replica
from raftkv.server.sentinel_events import SentinelEvents
from raftkv.server.statistics import Statistics
from raftkv.server.subscriptions import Subscriptions
from raftkv.server.watches import WatchHub
from raftkv.types import Member, NodeId

if TYPE_CHECKING:
    from raftkv.server.connection import ClientConnection
    from raftkv.server.forwarding import Forwarder
    from raftkv.server.pipeline import CommandPipeline
    from raftkv.server.publications import Publications
    from raftkv.server.routing import RoutedPipeline
    from raftkv.server.runs import Run, TimedSlot

# Election timeouts for which a leader whose link broke is taken to be gone, and a
# new one may not be known everywhere.
_ELECTIONS = 2
# Limit: connections closed in one pass of the loop, which is a millisecond.
CLOSES_A_PASS = 32
# Limit: of those who have left and are still open, so many make room for others.
LEFT_MAX = 1024


class Service:
    """Shared by the connections of one listener; implements `ports.ReplicaListener`.

    Attributes:
        connections: Open client connections by their number (CLIENT ID).
        dirty: Streams with answers that `turn_ended` will write.
        held: Streams whose requests wait for a leader.
        timed: Runs on this node's replica whose requests have waited before.
        blocked: Clients that wait for keys.
        queued_bytes: Memory of all that connections have queued since MULTI, watch, and
            listen to.
        subscriptions: Who listens to which channel.
        watches: Who watches which keys.
        linked: Members to which a link is up.
        stalled: Clients that do not take their replies at present.
        parting: Clients that were redirected behind a change of leader, to be closed.
        emptied: Set when the last connection is gone, once somebody waits for it.
        draining: No new work is taken; the node is about to stop.
        seconds: Whole seconds of the clock, refreshed by the listener's timer;
            connections use it for their age and idle time.
        started_ms: Clock time of the start.
        port: Port of the clients' socket, once it is open.
        run_id: 40 hex digits, new with every start.
        call_soon: Calls back in the next pass of the event loop, and returns a handle; None
            before the listener has started: then the next tick does it.
        call_later: Calls back after so many seconds, once the listener has started.
    """

    forwarder: Forwarder
    publications: Publications

    def __init__(
        self,
        *,
        replica: Replica,
        config: Config,
        clock: Clock,
        observer: Observer,
        table: CommandTable,
        run_id: str,
    ) -> None:
        """Start without connections."""
        self.replica = replica
        self.config = config
        self.clock = clock
        self.observer = observer
        self.table = table
        self.run_id = run_id
        self.statistics = Statistics()
        self.connections: dict[int, ClientConnection] = {}
        self.dirty: list[CommandPipeline] = []
        self.held: set[RoutedPipeline] = set()
        self.timed: list[TimedSlot] = []
        self.queued_bytes = 0
        self.subscriptions = Subscriptions()
        self.watches = WatchHub(self._history, self._wake_watches)
        self._keyspace_events = KeyspaceEvents(self.subscriptions)
        self.linked: set[NodeId] = set()
        self.stalled: set[ClientConnection] = set()
        self.parting: set[RoutedPipeline] = set()
        self.emptied: asyncio.Event | None = None
        self.draining = False
        self.started_ms = clock.now_ms()
        self._ticked_ms = self.started_ms
        self.seconds = self.started_ms // 1000
        self.port = 0
        # What CONFIG SET may change while the node runs.
        self.clients_max = config.limits.clients_max
        self.idle_seconds_max = config.limits.idle_seconds_max
        self.call_soon: Callable[[Callable[[], None]], object] = _leave_to_the_tick
        self.call_later: Callable[[float, Callable[[], None]], object] = _leave_to_the_tick
        # Connections whose clients have left, of which some wait to be closed.
        self._left: set[int] = set()
        self._leaving: deque[ClientConnection] = deque()
        self._close_scheduled = False
        self._flush_scheduled = False
        self._watches_rest = False
        self._sentinel_events = SentinelEvents(self)
        self._connection_number = 0
        self._was_leader = False
        self._leader_id: NodeId | None = None
        self._leader_since_ms: int | None = None
        self._lost_links_ms: dict[NodeId, int] = {}
        self.blocked = BlockedClients(self)

    @property
    def leader(self) -> Member | None:
        """Another node that is believed to lead, as far as one is known."""
        replica = self.replica
        if not replica.has_leader:
            return None
        leader = replica.leader
        if leader is None or leader.id == replica.node_id or self.is_just_lost(leader.id):
            return None
        return leader

    @property
    def is_settling(self) -> bool:
        """Whether the leader is so new that not every node may know it yet."""
        since_ms = self._leader_since_ms
        return since_ms is not None and self.clock.now_ms() - since_ms < self._patience_ms

    @property
    def _patience_ms(self) -> int:
        return _ELECTIONS * self.config.timing.election_timeout_ms[1]

    def is_just_lost(self, node: NodeId) -> bool:
        """Whether the link to a node broke so lately that it is probably gone.

        Sending clients to a leader that was killed makes them fail; holding them
        for as long as an election takes does not. After that the leader counts as
        out of reach from here only, and is named again.
        """
        lost_ms = self._lost_links_ms.get(node)
        if lost_ms is None:
            return False
        return self.clock.now_ms() - lost_ms < self._patience_ms

    def peer_up(self, node: NodeId) -> None:
        """A link to a member was established."""
        self._lost_links_ms.pop(node, None)
        self.linked.add(node)
        self._sentinel_events.peer_up(node)
        self.retry_held()

    def peer_down(self, node: NodeId) -> None:
        """A link to a member was lost."""
        self._lost_links_ms[node] = self.clock.now_ms()
        self.linked.discard(node)
        self._sentinel_events.peer_down(node)

    def deadline_ms(self, run: Run) -> int:
        """Return the clock time at which a run has its answer, whatever happens."""
        return run.arrived_ms + self.config.timing.request_timeout_ms

    def forget(self, number: int) -> None:
        """A connection is gone."""
        self.connections.pop(number, None)
        self._left.discard(number)
        if self.emptied is not None and not self.connections:
            self.emptied.set()

    @property
    def client_count(self) -> int:
        """How many clients are connected, not counting those who have left."""
        return len(self.connections) - len(self._left)

    @property
    def is_full(self) -> bool:
        """Whether there are as many clients as may be, not counting those who have left."""
        left = min(len(self._left), LEFT_MAX)
        return len(self.connections) - left >= self.clients_max

    def close_soon(self, connection: ClientConnection) -> None:
        """Close a connection that its client has left, a few of them in each pass of the loop."""
        self._left.add(connection.number)
        self._leaving.append(connection)
        if not self._close_scheduled:
            self._close_scheduled = self.call_soon(self._close_some) is not None

    def _close_some(self) -> None:
        self._close_scheduled = False
        for _ in range(min(len(self._leaving), CLOSES_A_PASS)):
            self._leaving.popleft().close()
        if self._leaving:
            self._close_scheduled = self.call_soon(self._close_some) is not None

    def next_connection_number(self) -> int:
        """Return a number that no connection had before."""
        self._connection_number += 1
        return self._connection_number

    @property
    def notify_flags(self) -> frozenset[str]:
        """Which changes of keys are published, as CONFIG SET notify-keyspace-events says."""
        return self._keyspace_events.flags

    @notify_flags.setter
    def notify_flags(self, flags: frozenset[str]) -> None:
        events = self._keyspace_events
        events.flags = flags
        self.watches.on_change = events.changed if events.is_on else None

    # ------------------------------------------------------------ from the replica

    def turn_ended(self) -> None:
        """Let those who wait try again, tell watches, then write each stream's answers once."""
        if (self.watches.count or self.watches.on_change is not None) and not self._watches_rest:
            self._tell_watches()
        self.blocked.serve()
        dirty, self.dirty = self.dirty, []
        for pipeline in dirty:
            pipeline.flush()

    def _history(self) -> History:
        return self.replica.history

    def _tell_watches(self) -> None:
        """Tell watches what is new; a defect there must not disturb anybody else."""
        hub = self.watches
        try:
            hub.turn()
        except Exception as error:
            # What was told is uncertain: whoever watches has to ask anew from where he is.
            self.observer.event("watches_failed", error=repr(error))
            self.watches = WatchHub(self._history, self._wake_watches)
            self.watches.on_change = hub.on_change
            for connection in list(self.connections.values()):
                if connection.watches:
                    connection.forget_watches()
                    connection.break_off(error)

    def _wake_watches(self, pause_s: float) -> None:
        """Let the watches have a turn, once others had theirs and the pause is over."""
        if pause_s:
            self._watches_rest = True
            self.call_later(pause_s, self._end_rest)
        else:
            self.flush_soon()

    def _end_rest(self) -> None:
        self._watches_rest = False
        self.flush_soon()

    def flush_soon(self) -> None:
        """Write what is due once others had their turn; once, however often it is asked for."""
        if not self._flush_scheduled:
            self._flush_scheduled = self.call_soon(self._flush) is not None

    def _flush(self) -> None:
        self._flush_scheduled = False
        self.turn_ended()

    def leader_changed(self) -> None:
        """Close redirected clients of a node that stepped down; route held requests."""
        leads = self.replica.is_leader
        leader = self.leader
        if leader is not None and leader.id != self._leader_id:
            self._leader_since_ms = self.clock.now_ms()
        self._leader_id = None if leader is None else leader.id
        stepped_down = self._was_leader and not leads
        self._was_leader = leads
        if stepped_down:
            self.blocked.end_all(NOT_LEADER)
            for connection in list(self.connections.values()):
                connection.step_down()
        self._sentinel_events.leader_changed()
        self.retry_held()

    def accepting_changed(self) -> None:
        """Stop or resume reading from all clients."""
        for connection in list(self.connections.values()):
            connection.update_reading()

    # ------------------------------------------------------------ from the listener

    def retry_held(self) -> None:
        """Route held requests if there is a way for them."""
        if self.held and (self.replica.is_leader or self.leader is not None or self.draining):
            for pipeline in list(self.held):
                pipeline.try_again()

    def tick(self) -> None:
        """Look after everything that waits for time to pass; called every 50 ms."""
        now_ms = self.clock.now_ms()
        for pipeline in list(self.parting):
            pipeline.part_if_quiet(now_ms)
        self.retry_held()
        for pipeline in list(self.held):
            if now_ms >= pipeline.held_until_ms:
                pipeline.try_again(expired=True)
        self.blocked.tick(now_ms)
        self.forwarder.expire(now_ms)
        if self.timed:
            self.timed = [slot for slot in self.timed if not slot.expire(now_ms)]
        self.watches.tick(now_ms - self._ticked_ms)
        self._ticked_ms = now_ms
        if self.dirty:
            self.turn_ended()
        if self._leaving and not self._close_scheduled:
            self._close_some()
        seconds = now_ms // 1000
        if seconds != self.seconds:
            self.seconds = seconds
            for connection in list(self.stalled):
                connection.check_taking(now_ms)
            if self.idle_seconds_max:
                self._close_idle(seconds - self.idle_seconds_max)

    def _close_idle(self, active_since: int) -> None:
        for connection in list(self.connections.values()):
            if connection.is_subscribed:
                continue
            if connection.active_second < active_since and connection.is_idle:
                self.statistics.connections_closed_idle += 1
                connection.close()


def _leave_to_the_tick(*_: object) -> None:
    """Stand in for an event loop."""

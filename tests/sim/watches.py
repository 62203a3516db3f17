"""Clients that watch keys on all nodes while these crash, lag and install snapshots.

Each is told by the production hub of the node that it is connected to, and goes to another
one behind what it has received when that node is gone, when it likes, or when it has
missed too much. What was on its way is lost with the connection. Some read slowly.

They are judged by what the nodes have applied, of which the invariant
`histories_are_equal` says that it is one thing: every client must have been told all of it
that it watches, once and in order. It is noted entry by entry, since a turn applies
several, and what the first of them changed may be gone behind the last: a flush ends the
history. A node that has applied fewer of them by then tells it none the less. Choices come
from a source of their own, so that they change nothing else about a run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import hiredis

from raftkv.kv.generic import type_name
from raftkv.kv.history import Change, CompactedError
from raftkv.kv.store import KvStore
from raftkv.server.watch_index import Watch
from raftkv.server.watches import WatchHub
from tests.sim.cluster import Cluster
from tests.sim.invariants import Violation
from tests.sim.node import SimNode

CLIENTS = 6
# Chances, each time that a node has taken a turn.
LEAVES, RECEIVES = 0.002, 0.5


class Pace(NamedTuple):
    """How a client goes about it; chances again.

    Attributes:
        connects: To the node, if it has none.
        stalls: It reads no more.
        reads_on: It does again.
    """

    connects: float
    stalls: float
    reads_on: float


QUICK = Pace(connects=0.2, stalls=0.01, reads_on=0.1)
# So slow that the history is cut before it has read it.
SLOW = Pace(connects=0.01, stalls=0.3, reads_on=0.004)

TICK_MS = 50

# What happened to a key: (what, key, type, value, deadline, create revision, version).
_Event = tuple[Any, ...]
_WORDS = (b"put", b"delete", b"expire")


def _event_of(change: Change) -> _Event:
    """Return a change as a client is told it."""
    _, kind, key, _, after = change
    if after is None:
        return (_WORDS[kind], key, None, None, 0, 0, 0)
    value, deadline_ms, create_revision, _, version = after
    told = value if type(value) is bytes else None
    name = type_name(value).encode()
    return (_WORDS[kind], key, name, told, deadline_ms, create_revision, version)


class _Client:
    """One watch of one client, whichever node it is connected to; implements `Watcher`.

    Attributes:
        received: Revision up to which it was told everything; None before it was told any.
        node: To which it is connected.
    """

    def __init__(self, watchers: Watchers, number: int, key: bytes, *, is_prefix: bool) -> None:
        self._watchers = watchers
        self.protocol = 2 + number % 2
        self.values_bytes_max = 1 << 30
        self.name = f"client {number} of {'prefix ' if is_prefix else ''}{key!r}"
        self.key = key
        self.is_prefix = is_prefix
        self.pace = SLOW if number % 3 == 2 else QUICK
        self.received: int | None = None
        self.node: SimNode | None = None
        self.watch: Watch | None = None
        self.is_writable = True
        self._under_way: list[bytes] = []
        self._reader = hiredis.Reader()

    def has_room(self) -> bool:
        return self.is_writable

    def push_parts(self, parts: list[bytes]) -> int:
        self._under_way += parts
        return sum(map(len, parts))

    def watch_ended(self, number: int) -> None:
        self.watch = None

    def connect(self, node: SimNode, hub: WatchHub) -> None:
        """Go on at a node, or begin anew if it holds too little."""
        first = None if self.received is None else self.received + 1
        self._reader = hiredis.Reader()
        self._under_way = []
        self.is_writable = True
        self.watch = Watch(self, 1, self.key, is_prefix=self.is_prefix, previous=False)
        try:
            position = hub.add(self.watch, first)
        except CompactedError as error:
            self.missed(error.oldest + 1)
            first = None
            self.watch = Watch(self, 1, self.key, is_prefix=self.is_prefix, previous=False)
            position = hub.add(self.watch, None)
        if first is None:
            self.received = position
        self.node = node

    def disconnect(self, hub: WatchHub | None) -> None:
        """Leave a node, which is gone if it has no hub; what was under way is lost."""
        if hub is not None and self.watch is not None:
            hub.remove(self.watch)
        self.node = self.watch = None
        self._under_way = []

    def receive(self) -> None:
        """Take what was under way."""
        for data in self._under_way:
            self._reader.feed(data)
        self._under_way = []
        while (message := self._reader.gets()) is not False:
            what, revision, *rest = message[2:] if self.protocol == 3 else message[2]
            if what == b"compacted":
                self.missed(revision)
            else:
                events = [tuple(event[:7]) for event in rest[0]] if rest else []
                self._told(revision, events, is_progress=what == b"progress")

    def missed(self, oldest: int) -> None:
        """Changes are gone: this must be true, and then it begins anew."""
        counts = self._watchers
        counts.counts["watch_compacted"] += 1
        if self.received is None or oldest <= self.received + 1:
            raise Violation(
                f"{self.name} lost changes below {oldest} and needs those behind {self.received}",
                invariant="a_watch_ends_only_if_changes_are_gone",
            )
        self.received = None

    def _told(self, revision: int, events: list[_Event], *, is_progress: bool) -> None:
        checks = self._watchers.cluster.invariants.checks
        checks["watches_tell_everything_once_in_order"] += 1
        received = self.received
        assert received is not None
        if revision < received or (revision == received and not is_progress):
            raise self._broken(f"was told {revision} behind {received}")
        for passed in range(received + 1, revision + is_progress):
            if self._watchers.matching(passed, self.key, is_prefix=self.is_prefix):
                raise self._broken(f"was told {revision} and not {passed}, behind {received}")
        if not is_progress:
            wanted = self._watchers.matching(revision, self.key, is_prefix=self.is_prefix)
            if events != wanted:
                raise self._broken(f"was told {events} of {revision}, which is {wanted}")
            self._watchers.counts["watch_told"] += 1
        self.received = revision

    def _broken(self, detail: str) -> Violation:
        return Violation(f"{self.name} {detail}", invariant="watches_tell_everything_once_in_order")


class Watchers:
    """All watching clients of a run, and what they must be told.

    To be made before anything is written: what was applied earlier is not noted.

    Attributes:
        counts: What they did and met.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.counts: Counter[str] = Counter()
        self._random = random.Random(f"watches of seed {cluster.world.seed}")
        self._events: dict[int, list[_Event]] = {}
        self._newest = 0
        self._hubs: dict[str, tuple[int, WatchHub, float]] = {}
        self._is_calm = False
        wishes = [(b"", True), (b"", True), (b"k", True), (b"", True)]
        self._clients = [
            _Client(self, number, *wishes[number % 4][:1], is_prefix=wishes[number % 4][1])
            for number in range(CLIENTS)
        ]
        cluster.invariants.apply_listeners.append(self._note_history)
        cluster.turn_listeners.append(self._turned)
        cluster.crash_listeners.append(self._crashed)

    def matching(self, revision: int, key: bytes, *, is_prefix: bool) -> list[_Event]:
        """Return the events of a revision that are for a watch, in order."""
        wanted: Callable[[bytes], bool] = key.__eq__
        if is_prefix:
            wanted = lambda other: other.startswith(key)  # noqa: E731 - beside its sibling
        return [event for event in self._events.get(revision, ()) if wanted(event[1])]

    def finish(self, limit_ms: float = 30_000) -> None:
        """Let nodes and clients be well, and wait until each was told everything."""
        self._is_calm = True

        def told() -> bool:
            newest = max(self._events, default=0)
            return all((client.received or 0) >= newest for client in self._clients)

        self.cluster.run_until(told, limit_ms, invariant="a_watch_is_told_in_time")

    # ------------------------------------------------------------- what happens

    def _crashed(self, node: SimNode) -> None:
        self._hubs.pop(node.name, None)
        for client in self._clients:
            if client.node is node:
                client.disconnect(None)

    def _turned(self, node: SimNode) -> None:
        """A node has taken a turn: it tells what is new, and clients do as they like."""
        hub = self._hub_of(node)
        hub.turn()
        chance = self._random.random
        for client in self._clients:
            if self._is_calm and node not in self.cluster.insiders():
                # Cut off from the members: real clients ask it how old its store is.
                if client.node is node:
                    client.disconnect(hub)
            elif client.node is None:
                if self._is_calm or chance() < client.pace.connects:
                    client.connect(node, hub)
                    self.counts["watch_connected"] += 1
            elif client.node is node:
                self._live(client, hub, chance)

    def _live(self, client: _Client, hub: WatchHub, chance: Callable[[], float]) -> None:
        if self._is_calm:
            self._go_on(client, hub)
            client.receive()
        elif chance() < LEAVES:
            client.disconnect(hub)
            return
        elif client.is_writable:
            client.is_writable = chance() >= client.pace.stalls
        elif chance() < client.pace.reads_on:
            self._go_on(client, hub)
        if chance() < RECEIVES:
            client.receive()
        if client.watch is None:
            # Told that changes are gone: it begins anew, anywhere.
            client.receive()
            client.disconnect(None)

    def _go_on(self, client: _Client, hub: WatchHub) -> None:
        client.is_writable = True
        if client.watch is not None:
            hub.resume([client.watch])

    def _hub_of(self, node: SimNode) -> WatchHub:
        life, now_ms = node.life, self.cluster.world.now_ms
        known = self._hubs.get(node.name)
        if known is None or known[0] != life:
            hub = WatchHub(lambda: node.replica.history, lambda _pause_s: None)
            self._hubs[node.name] = (life, hub, now_ms)
            return hub
        _, hub, ticked_ms = known
        if now_ms - ticked_ms >= TICK_MS:
            hub.tick(int(now_ms - ticked_ms))
            self._hubs[node.name] = (life, hub, now_ms)
        return hub

    def _note_history(self, store: KvStore) -> None:
        """Read what an entry changed when the first node has applied it.

        That all agree is judged elsewhere.
        """
        history = store.history
        if self._newest < history.revision:
            position = max(self._newest, history.compacted)
            for change in history.stretch(position, history.change_count + 1):
                self._events.setdefault(change[0], []).append(_event_of(change))
            self._newest = history.revision

"""The blocking client: carries out what the policy asks for, over a pool of sockets.

Owns idle connections and the number of those in use. What is sent where, and
what is sent again, is decided by client.policy; what a command looks like, by
client.commands. The methods for single commands are in client.sync_methods.

Invariants: a connection serves one caller at a time and goes back to the pool
only after its last reply was read; anything else closes it.

Thread-safe: any number of threads may share a `Client`.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast, overload

from raftkv.client import commands, once, policy
from raftkv.client.calls import Call
from raftkv.client.pipeline import Commands, results_of
from raftkv.client.policy import Exchange, Exchanged, Fate, Pause, Request, Route
from raftkv.client.protocol import Argument, encode_request, parse_addresses, unreachable
from raftkv.client.reading import Level, Reading, Session
from raftkv.client.recipes.sync_recipes import SyncRecipes
from raftkv.client.session_duties import DUTY_S_MAX, close_request
from raftkv.client.sessions import Outcome, Sessions
from raftkv.client.status import NodeStatus, merge_statuses, status_from_reply
from raftkv.client.sync_connection import SyncConnection
from raftkv.client.sync_keeper import Keeper, begun_anew_by_forks
from raftkv.client.sync_methods import SyncMethods
from raftkv.client.sync_watch import Watch
from raftkv.client.transactions import Gather, Transaction, transact
from raftkv.client.watching import Watching
from raftkv.errors import ConnectFailedError, ConnectionLostError, RequestError

T = TypeVar("T")
V = TypeVar("V")


class _Pool:
    """Connections of a client and of the views made from it."""

    def __init__(self, connections_max: int, *, keep_state: bool) -> None:
        self.connections_max = connections_max
        self.keep_state = keep_state
        self.is_closed = False
        self.begin()
        begun_anew_by_forks.add(self)

    def begin(self) -> None:
        """Start without connections: those of a parent process are not for its child."""
        self.permits = threading.BoundedSemaphore(self.connections_max)
        self._watches: weakref.WeakSet[Watch[Any]] = weakref.WeakSet()
        self._idle: dict[str, list[SyncConnection]] = {}
        self._lock = threading.Lock()

    def take(self, address: str) -> SyncConnection | None:
        """Return an idle connection that still stands, or None."""
        while True:
            with self._lock:
                idle = self._idle.get(address)
                connection = idle.pop() if idle else None
            if connection is None or connection.is_usable():
                return connection
            connection.close()

    def give_back(self, connection: SyncConnection) -> None:
        """Keep a connection for the next caller."""
        with self._lock:
            if not self.is_closed:
                self._idle.setdefault(connection.address, []).append(connection)
                return
        connection.close()

    def keep(self, watch: Watch[Any]) -> None:
        """Close a watch with the others.

        Raises:
            ConnectFailedError: The client is closed, and so is the watch.
        """
        with self._lock:
            if not self.is_closed:
                self._watches.add(watch)
                return
        watch.close()
        raise ConnectFailedError(policy.CLOSED)

    def close(self) -> None:
        """Close watches and what is idle now, and the others when they come back."""
        with self._lock:
            self.is_closed = True
            idle, self._idle = self._idle, {}
            watches = list(self._watches)
        for connections in idle.values():
            for connection in connections:
                connection.close()
        for watch in watches:
            watch.close()


class Pipeline(Commands, Generic[V]):
    """Commands that are sent together; made by `Client.pipeline`."""

    def __init__(self, client: Client[V]) -> None:
        super().__init__()
        self._client = client

    def execute(self, *, raise_first: bool = True) -> list[Any]:
        """Send what was gathered and return one result a command, in order.

        Args:
            raise_first: False to get errors in the places of the results.

        Raises:
            RequestError: The first error; the commands before and behind it may
                have been executed.
        """
        calls = self.take_calls()
        replies = self._client.converse([call.request for call in calls]) if calls else []
        return results_of(calls, replies, decode=self._client.decode, raise_first=raise_first)


class Client(SyncMethods[V], SyncRecipes):
    """A client of the whole cluster.

    Args:
        nodes: Addresses `host:port` of some nodes, as a list or one text with
            commas. The others are learned from them.
        deadline_s: Seconds until a call ends, whatever happens.
        reach_s_max: Seconds until a call ends while no node at all can be reached;
            None for the deadline.
        decode: True to get keys and values as text; see `decode_text`.
        connections_max: Limit of calls under way at once; more of them wait. What keeps
            leases and the session alive does not.
        keep_state: True to keep using a connection after a command such as
            SELECT or READONLY has changed it; for interactive use by one thread.
        exactly_once: False to send a write at most once and without a session: what is
            lost on the way is an `IndefiniteError`. Always so with `keep_state`.

    Every method raises a `DefiniteError` when the command was certainly not
    executed and an `IndefiniteError` when it may have been; see `outcome`.
    """

    @overload
    def __init__(
        self: Client[bytes], nodes: str | Iterable[str], *, deadline_s: float = ...,
        reach_s_max: float | None = ..., decode: Literal[False] = ...,
        connections_max: int = ..., keep_state: bool = ..., exactly_once: bool = ...,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: Client[str], nodes: str | Iterable[str], *, deadline_s: float = ...,
        reach_s_max: float | None = ..., decode: Literal[True],
        connections_max: int = ..., keep_state: bool = ..., exactly_once: bool = ...,
    ) -> None: ...  # fmt: skip
    def __init__(
        self, nodes: str | Iterable[str], *, deadline_s: float = policy.DEADLINE_S_DEFAULT,
        reach_s_max: float | None = None, decode: bool = False,
        connections_max: int = 64, keep_state: bool = False, exactly_once: bool = True,
    ) -> None:  # fmt: skip
        self._random = random.Random()
        addresses = parse_addresses(nodes)
        self._route = Route(addresses, first=self._random.randrange(len(addresses)))
        self._pool = _Pool(connections_max, keep_state=keep_state)
        self._in_background = False
        self._reading: Reading | None = None
        self._sessions: Sessions | None = None
        if exactly_once and not keep_state:
            self._sessions = Sessions(threading.Lock(), deadline_s)
        self._keeper: Keeper | None = None
        self._deadline_s = deadline_s
        self._reach_s_max = reach_s_max
        self.decode = decode
        if self._sessions is not None:
            helper = self.within(DUTY_S_MAX).in_background()
            helper._sessions = None
            self._keeper = Keeper(helper.converse, self._sessions)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, watches and the session; calls afterwards fail."""
        if self._keeper is not None:
            self._keeper.stop()
        self._close_session()
        self._pool.close()

    def _close_session(self) -> None:
        """Tell the cluster that the session is not needed, without waiting for an answer.

        Where that is lost the session ends by itself.
        """
        session = self._sessions.current if self._sessions is not None else None
        if session is None or self._route.leader is None:
            return
        connection = self._pool.take(self._route.leader)
        if connection is not None:
            connection.send_and_close(encode_request(close_request(session).arguments))

    def _view(
        self,
        *,
        route: Route | None = None,
        deadline_s: float | None = None,
        reading: Reading | None = None,
    ) -> Client[V]:
        view: Client[V] = object.__new__(Client)
        view.__dict__.update(self.__dict__)
        view._route = route or self._route
        view._reading = reading or self._reading
        view._deadline_s = self._deadline_s if deadline_s is None else deadline_s
        return view

    def within(self, deadline_s: float) -> Client[V]:
        """Return this client with another deadline; it shares the connections."""
        return self._view(deadline_s=deadline_s)

    @property
    def deadline_s(self) -> float:
        """Seconds until a call ends, whatever happens."""
        return self._deadline_s

    def within_at_most(self, deadline_s: float | None) -> Client[V]:
        """Return this client with another deadline, if that is an earlier one."""
        if deadline_s is None or deadline_s >= self._deadline_s:
            return self
        return self._view(deadline_s=deadline_s)

    def in_background(self) -> Client[V]:
        """Return this client for what keeps leases and sessions alive.

        It shares the connections, but does not wait for a free one behind other calls.
        """
        view = self._view()
        view._in_background = True
        return view

    def node(self, address: str) -> Client[V]:
        """Return this client tied to one node: redirects are raised, nothing is retried."""
        return self._view(route=self._route.pin(parse_addresses([address])[0]))

    def reading(self, level: Level, *, bound_ms: int | None = None) -> Client[V]:
        """Return this client with reads of another level; it shares the connections.

        Args:
            level: `lease` is linearizable and answered at once by a leader whose
                lease holds; `bounded` and `stale` are answered by any node.
            bound_ms: For `bounded`: how old what a read sees may be.

        Raises:
            ValueError: The level or the bound is none.
        """
        return self._view(reading=Reading(level, bound_ms=bound_ms))

    def session(self) -> Client[V]:
        """Return this client with reads from any node that see its own writes.

        They never see less than what it has seen before; what other callers do in
        the meantime may be missing.
        """
        return self._view(reading=Reading("stale", session=Session()))

    def pipeline(self) -> Pipeline[V]:
        """Return an empty pipeline."""
        return Pipeline(self)

    def transaction(
        self,
        compute: Callable[[Transaction], object],
        *watched: commands.Text,
        raise_first: bool = True,
    ) -> list[Any]:
        """Execute commands as one, unless a key that they depend on changes meanwhile.

        Args:
            compute: Reads with this client what it needs, and gathers commands in the
                transaction that it is given. Called again after a change, until the
                deadline; what it raises ends the attempt with nothing executed.
            watched: Keys that must stay as they were before `compute` was called.
            raise_first: False to get errors in the places of the results.

        Returns:
            One result a command, in order.

        Raises:
            NotAppliedError: The keys changed again and again, until the deadline.
            RequestError: As of any call; or the error of one command, when the others
                have been executed.
        """
        end_s = time.monotonic() + self._deadline_s
        steps = transact(
            watched,
            end_s=end_s, clock=time.monotonic, chance=self._random.random,
            decode=self.decode, raise_first=raise_first,
        )  # fmt: skip
        value: object = None
        while True:
            try:
                step = steps.send(value)
            except StopIteration as stop:
                return cast("list[Any]", stop.value)
            value = None
            if isinstance(step, Gather):
                compute(step.transaction)
            elif isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                value = self.within(max(0.0, end_s - time.monotonic())).run(step)

    def watch(
        self, key: Argument | None = None, *, prefix: Argument | None = None,
        from_revision: int | None = None, prev: bool = False,
    ) -> Watch[V]:  # fmt: skip
        """Watch the changes of a key, or of all keys with a prefix, in order.

        Each change is returned once and none is left out, also across the loss of
        nodes; see the page of the Python API.

        Args:
            key: The key, or None for a prefix.
            prefix: Prefix of the keys, empty for all; None for a key.
            from_revision: First revision to be returned, from 1; None for all that is
                changed once this method has returned.
            prev: Whether the values before are wanted.

        Raises:
            CompactedError: The history does not go back to that revision.
            ConnectFailedError: No node could be reached before the deadline.
            ValueError: Not exactly one of key and prefix, or no such revision.
        """
        if self._pool.is_closed:
            raise ConnectFailedError(policy.CLOSED)
        watch: Watch[V] = Watch(Watching(
            self._route,
            key=key,
            prefix=prefix,
            from_revision=from_revision,
            prev=prev,
            decode=self.decode,
            reach_s_max=self._reach_s_max or self._deadline_s,
            chance=self._random.random,
        ))  # fmt: skip
        self._pool.keep(watch)
        return watch

    @property
    def addresses(self) -> tuple[str, ...]:
        """All nodes known: those given and those learned from them."""
        return self._route.addresses

    @property
    def leader(self) -> str | None:
        """Address of the node believed to lead, or None."""
        return self._route.leader

    def execute(self, *arguments: Argument) -> Any:
        """Send any command and return its reply unconverted."""
        return self.run(commands.build_execute(*arguments))

    def scan_iter(
        self, *, match: commands.Text | None = None, count: int | None = None,
        kind: str | None = None,
    ) -> Iterator[V]:  # fmt: skip
        """Yield all keys, page by page; arguments as in `scan`.

        A key that exists all the time is yielded at least once.
        """
        cursor = 0
        while True:
            cursor, keys = self.scan(cursor, match=match, count=count, kind=kind)
            yield from keys
            if cursor == 0:
                return

    def range_iter(
        self, start: commands.Text = "", end: commands.Text = "", *,
        prefix: commands.Text | None = None, limit: int | None = None,
        revision: int | None = None, keys_only: bool = False,
    ) -> Iterator[Any]:  # fmt: skip
        """Yield all keys of a range in ascending order, with values and revisions.

        Page by page, all as of one revision, whatever is written meanwhile; arguments
        and what is yielded as in `range_page`.

        Raises:
            CommandError: The revision is compacted, perhaps between two pages.
        """
        resume: commands.Text | None = None
        while True:
            page = self.range_page(
                start, end, prefix=prefix, resume=resume, limit=limit, revision=revision,
                keys_only=keys_only,
            )  # fmt: skip
            yield from page["items"]
            resume, revision = page["next"], page["revision"]
            if resume is None:
                return

    def status(self) -> list[NodeStatus]:
        """Ask every node about itself, one after the other; see `NodeStatus`."""
        statuses: dict[str, NodeStatus] = {}
        # A node that answers may name further members.
        while missing := [address for address in self.addresses if address not in statuses]:
            statuses.update((address, self.node_status(address)) for address in missing)
        return merge_statuses(list(statuses.values()))

    def node_status(self, address: str) -> NodeStatus:
        """Ask one node about itself, for at most a second."""
        try:
            reply = self.node(address).within(min(self._deadline_s, 1.0)).execute("RAFT", "STATUS")
        except RequestError as error:
            return NodeStatus(address=address, error=str(error))
        return status_from_reply(address, reply)

    def run(self, call: Call[T]) -> T:
        """Send a call made by a builder of `client.commands` and return its result."""
        return call.result(self.converse([call.request])[0], decode=self.decode)

    def converse(self, requests: list[Request]) -> list[object]:
        """Carry out a conversation of the policy; return a reply or an error for each."""
        end_s = time.monotonic() + self._deadline_s + sum(one.waits_s for one in requests)
        if self._pool.is_closed:
            raise ConnectFailedError(policy.CLOSED)
        permits = None if self._in_background else self._pool.permits
        if permits is not None and not permits.acquire(timeout=max(0.0, self._deadline_s)):
            raise ConnectFailedError("no connection became free before the deadline")
        try:
            conversation = once.converse(
                self._sessions, self._reading, self._route, requests,
                end_s=end_s, reach_s_max=self._reach_s_max or self._deadline_s,
                clock=time.monotonic, chance=self._random.random,
            )  # fmt: skip
            effect = next(conversation)
            while True:
                effect = conversation.send(self._perform(effect))
        except StopIteration as stop:
            return cast("list[object]", stop.value)
        finally:
            if permits is not None:
                permits.release()
            if self._keeper is not None:
                self._keeper.start_if_needed()

    def outcome(self, error: RequestError) -> Outcome:
        """Find out what became of the write that an error is about; see `Outcome`.

        If it was not executed, it never will be: a copy that is still under way is refused.

        Raises:
            ValueError: The error is not an indefinite one of a write in a session.
            OutcomeUnknownError: The session has expired, and nobody knows.
            RequestError: The cluster did not answer; ask again.
        """
        write = once.write_of(error)
        outcome = once.known_outcome(self._sessions, write)
        if outcome is None:
            (reply,) = self.converse([once.outcome_request(*write)])
            outcome = once.learn_outcome(self._sessions, write, reply)
        return once.shown_outcome(outcome, decode=self.decode)

    def _perform(self, effect: Exchange | Pause) -> Exchanged:
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
            return Exchanged(Fate.COMPLETE)
        if self._pool.is_closed:
            raise ConnectionLostError(policy.CLOSED_UNDER_WAY)
        try:
            connection = self._pool.take(effect.address) or self._connect(effect)
        except OSError as error:
            return Exchanged(Fate.UNREACHABLE, detail=unreachable(effect.address, error))
        returned = False
        try:
            exchanged = connection.exchange(
                effect.payload, effect.reply_count, reply_s_max=effect.reply_s_max
            )
            if policy.may_reuse(effect, exchanged, keep_state=self._pool.keep_state):
                returned = True
                self._pool.give_back(connection)
            return exchanged
        finally:
            if not returned:
                connection.close()

    def _connect(self, effect: Exchange) -> SyncConnection:
        connection = SyncConnection(effect.address, connect_s_max=effect.reply_s_max)
        payload, reply_count = policy.HANDSHAKE
        try:
            exchanged = connection.exchange(
                payload, reply_count, reply_s_max=min(effect.reply_s_max, policy.CONNECT_S_MAX)
            )
            if exchanged.fate is not Fate.COMPLETE:
                raise ConnectionError(exchanged.detail)
            refusal = policy.accept_handshake(self._route, effect.address, exchanged.replies)
            if refusal:
                raise ConnectionError(refusal)
        except BaseException:
            connection.close()
            raise
        return connection

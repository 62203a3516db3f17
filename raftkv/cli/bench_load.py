"""The load of `raftkv bench`: connections that ask, in a closed or an open loop.

Owns the sockets, the requests and their times. A closed loop asks again when it
was answered, as most benchmarks do; it waits with a server that stalls and so
hides the stall. An open loop asks at fixed times whatever the server does, and
measures from the time at which a request was due.

Follows a leader that moves: a redirect or a lost connection sends the connection
to the node that leads now. Nothing is sent twice; what had no result is counted
by its kind. Everything is bounded: the run by time and count, an open loop by
requests in flight.

Invariants: replies come in the order of the requests of a connection, so that
times alone are kept; the garbage collector is off while the run lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import hiredis

from raftkv.cli.bench_samples import Samples
from raftkv.client.protocol import split_address
from raftkv.errors import ConnectFailedError

TICK_S = 0.001
# Of an open loop; a server that is so far behind is not measured any more.
IN_FLIGHT_MAX = 100_000
KEY_PREFIX = b"bench:"
KEY_DIGITS = 12
# How long replies are waited for after the last request.
DRAIN_S = 10.0
CONNECT_S = 5.0
CONNECTING_MAX = 64
_BACK_OFF_S = 0.02

# Kinds of failures that no server worded.
LOST = "connection lost"
NO_REPLY = "no reply"
NOT_SENT = "not sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, how often and how long.

    Attributes:
        read_share: Part of the requests that are GETs, 0..1; the others are SETs.
        requests: End after so many; None for `duration_s` alone.
        rate: Requests a second of an open loop; None for a closed loop.
        prefix: Begin of every key; a number of twelve digits follows.
        in_order: Ask for the keys one after the other instead of at random.
    """

    read_share: float = 0.0
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = 100
    keys: int = 100_000
    prefix: bytes = KEY_PREFIX
    duration_s: float = 10.0
    requests: int | None = None
    rate: float | None = None
    in_order: bool = False
    seed: int = 1


@dataclass(slots=True)
class LoadResult:
    """What came of it.

    Attributes:
        seconds: From the first request to the last reply.
        processor_s: Processor time of this process.
        late: Delays of the open loop's own clock, in seconds.
    """

    samples: Samples
    seconds: float
    processor_s: float
    late: Samples
    address: str


class Requests:
    """Makes the bytes of requests."""

    def __init__(self, load: Load) -> None:
        self._random = random.Random(load.seed)
        self._load = load
        self._next = 0
        key_bytes = len(load.prefix) + KEY_DIGITS
        value = self._random.randbytes(load.value_bytes)
        key_head = b"$%d\r\n%b" % (key_bytes, load.prefix)
        self._set_head = b"*3\r\n$3\r\nSET\r\n" + key_head
        self._set_tail = b"\r\n$%d\r\n%b\r\n" % (len(value), value)
        self._get_head = b"*2\r\n$3\r\nGET\r\n" + key_head

    def make(self, count: int) -> bytes:
        """Return `count` requests."""
        load = self._load
        chance = self._random.random
        parts = []
        for _ in range(count):
            if load.in_order:
                key = self._next % load.keys
                self._next += 1
            else:
                key = int(chance() * load.keys)
            if load.read_share and (load.read_share >= 1 or chance() < load.read_share):
                parts.append(b"%b%012d\r\n" % (self._get_head, key))
            else:
                parts.append(b"%b%012d%b" % (self._set_head, key, self._set_tail))
        return b"".join(parts) if count > 1 else parts[0]


class LoadConnection(asyncio.Protocol):
    """One connection: what it waits for, and what it does with a reply."""

    def __init__(self, run: LoadRun) -> None:
        self._run = run
        self._reader = hiredis.Reader()
        self.transport: asyncio.WriteTransport | None = None
        # When each request in flight was asked, and how many were asked then.
        self.waiting: deque[tuple[float, int]] = deque()
        self._of_first = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self.transport = cast("asyncio.WriteTransport", transport)

    def ask(self, asked_s: float, count: int) -> None:
        """Send requests that are due since `asked_s`."""
        assert self.transport is not None
        self.waiting.append((asked_s, count))
        self.transport.write(self._run.make(count))

    def data_received(self, data: bytes) -> None:
        """Match replies with requests; in a closed loop ask again when all came."""
        reader, run = self._reader, self._run
        reader.feed(data)
        count = 0
        moved_to = ""
        try:
            while (reply := reader.gets()) is not False:
                count += 1
                if reply is None:
                    run.samples.misses += 1
                elif isinstance(reply, hiredis.ReplyError):
                    self._answered(count - 1)
                    moved_to = self._refused(str(reply)) or moved_to
                    count = 0
        except hiredis.ProtocolError as error:
            run.stop(f"the server does not speak the Redis protocol: {error}")
            return
        self._answered(count)
        if moved_to:
            run.move(self, moved_to)
        elif not self.waiting:
            run.answered(self)

    def _answered(self, count: int) -> None:
        """Count results of the requests that have waited longest."""
        if not count:
            return
        run = self._run
        now_s = run.clock()
        while count and self.waiting:
            asked_s, asked = self.waiting[0]
            taken = min(count, asked - self._of_first)
            run.samples.add(asked_s, now_s, taken)
            run.settled(taken)
            self._take(taken)
            count -= taken

    def _refused(self, error: str) -> str:
        """Count an error instead of a result; returns the address it redirects to, or nothing."""
        if not self.waiting:
            return ""
        moved_to = self._run.take_error(error, self.waiting[0][0])
        self._run.settled(1)
        self._take(1)
        return moved_to

    def _take(self, count: int) -> None:
        """Wait no longer for so many of the requests asked first."""
        self._of_first += count
        if self._of_first == self.waiting[0][1]:
            self.waiting.popleft()
            self._of_first = 0

    def give_up(self, kind: str) -> int:
        """Count the requests in flight as failed; returns how many there were."""
        count = sum(asked for _, asked in self.waiting) - self._of_first
        if count:
            self._run.samples.add_error(kind, self.waiting[0][0], count)
        self.waiting.clear()
        self._of_first = 0
        return count

    def connection_lost(self, error: Exception | None) -> None:
        """Find another connection."""
        self.transport = None
        self._run.lost(self)


class LoadRun:
    """One run against one cluster.

    Args:
        addresses: Nodes, the leader first.
        clock: Monotone seconds.
        make: Returns the bytes of so many requests; None for those of the load.
    """

    def __init__(
        self,
        load: Load,
        addresses: tuple[str, ...],
        clock: Callable[[], float],
        make: Callable[[int], bytes] | None = None,
    ) -> None:
        self._load = load
        self._addresses = addresses
        self._leader = addresses[0]
        self.clock = clock
        self.make = make or Requests(load).make
        self.samples = Samples(0.0)
        self._late = Samples(0.0)
        self._connections: list[LoadConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._failure = ""
        self._asked = 0
        self._in_flight = 0
        self._end_s = 0.0
        self._last_s = 0.0
        self._done = asyncio.Event()
        self._attempts = 0

    async def run(self) -> LoadResult:
        """Connect, ask, wait for the replies.

        Raises:
            ConnectFailedError: A connection could not be made at the beginning, or
                the other side is no server of the Redis protocol.
        """
        try:
            await self._connect_all()
            gc.collect()
            gc.freeze()
            gc.disable()
            try:
                return await self._measure()
            finally:
                gc.enable()
                gc.unfreeze()
        finally:
            self._is_over = True
            for task in self._tasks:
                task.cancel()
            for connection in self._connections:
                if connection.transport is not None:
                    connection.transport.abort()

    async def _connect_all(self) -> None:
        limit = asyncio.Semaphore(CONNECTING_MAX)

        async def one() -> LoadConnection:
            async with limit:
                return await self._connect(self._leader)

        try:
            self._connections = list(
                await asyncio.gather(*[one() for _ in range(self._load.clients)])
            )
        except OSError as error:
            raise ConnectFailedError(f"{self._leader}: {error}") from error

    async def _connect(self, address: str) -> LoadConnection:
        host, port = split_address(address)
        async with asyncio.timeout(CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: LoadConnection(self), host, port
            )
        return connection

    async def _measure(self) -> LoadResult:
        processor_s = time.process_time()
        begin_s = self._last_s = self.clock()
        self.samples.begin_s = self._late.begin_s = begin_s
        self._end_s = begin_s + self._load.duration_s
        if self._load.rate is None:
            for connection in self._connections:
                self._ask(connection)
            await self._wait_done(self._load.duration_s + DRAIN_S)
        else:
            await self._ask_on_time(begin_s, self._load.rate)
            self._done.clear()
            if self._in_flight and not self._failure:
                await self._wait_done(DRAIN_S)
        self._is_over = True
        for connection in self._connections:
            connection.give_up(NO_REPLY)
        self.samples.end(self.clock())
        if self._failure:
            raise ConnectFailedError(self._failure)
        return LoadResult(
            samples=self.samples,
            seconds=max(1e-9, self._last_s - begin_s),
            processor_s=time.process_time() - processor_s,
            late=self._late,
            address=self._leader,
        )

    async def _wait_done(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._done.wait()

    # ------------------------------------------------------------- closed loop

    def _ask(self, connection: LoadConnection) -> None:
        """Ask the next requests of a closed loop, or end it."""
        count = self._load.pipeline
        now_s = self.clock()
        if self._load.requests is not None:
            count = min(count, self._load.requests - self._asked)
        if count <= 0 or now_s >= self._end_s or self._failure:
            if not self._in_flight:
                self._done.set()
            return
        self._asked += count
        self._in_flight += count
        connection.ask(now_s, count)

    def answered(self, connection: LoadConnection) -> None:
        """Go on with a connection that waits for nothing."""
        if self._load.rate is None:
            self._ask(connection)

    # --------------------------------------------------------------- open loop

    async def _ask_on_time(self, begin_s: float, rate: float) -> None:
        """Ask in every tick what is due since the last one, the connections in turn."""
        duration_s = self._load.duration_s
        due_last = int(duration_s * rate)
        if self._load.requests is not None:
            due_last = min(due_last, self._load.requests)
        turn = 0
        while self._asked < due_last and not self._failure:
            now_s = self.clock()
            tick = int((now_s - begin_s) / TICK_S)
            due = min(due_last, int(tick * TICK_S * rate) + 1)
            turn = self._ask_due(begin_s, rate, due, turn)
            await asyncio.sleep(max(0.0, begin_s + (tick + 1) * TICK_S - self.clock()))

    def _ask_due(self, begin_s: float, rate: float, due: int, turn: int) -> int:
        """Ask everything up to the request number `due`; returns whose turn is next."""
        while self._asked < due:
            # Requests of one tick are due together, at its begin.
            tick = int(self._asked / rate / TICK_S)
            asked_s = begin_s + tick * TICK_S
            count = max(1, min(due, math.ceil((tick + 1) * TICK_S * rate)) - self._asked)
            self._asked += count
            self._late.add(asked_s, max(asked_s, self.clock()), 1)
            connections = [one for one in self._connections if one.transport is not None]
            if not connections or self._in_flight >= IN_FLIGHT_MAX:
                self.samples.add_error(NOT_SENT, asked_s, count)
                continue
            self._in_flight += count
            for place in range(min(count, len(connections))):
                share = len(range(place, count, len(connections)))
                connections[(turn + place) % len(connections)].ask(asked_s, share)
            turn = (turn + count) % len(connections)
        return turn

    # ------------------------------------------------------------- what happens

    def settled(self, count: int) -> None:
        """Note that requests are not in flight any more."""
        self._last_s = self.clock()
        self._in_flight -= count
        if not self._in_flight and (
            self._load.rate is not None or self._last_s >= self._end_s
            or self._asked == self._load.requests
        ):  # fmt: skip
            self._done.set()

    def stop(self, failure: str) -> None:
        """End the run because of something that no retry mends."""
        self._failure = failure
        self._done.set()

    def take_error(self, text: str, asked_s: float) -> str:
        """Count an error reply; returns the address it redirects to, or nothing."""
        words = text.split(" ")
        self.samples.add_error(words[0], asked_s)
        return words[2] if words[0] == "MOVED" and len(words) > 2 else ""

    def move(self, connection: LoadConnection, address: str) -> None:
        """Give up a connection to a node that does not lead."""
        host, _, port = address.rpartition(":")
        self._leader = address if host else f"{self._leader.rpartition(':')[0]}:{port}"
        if connection.transport is not None:
            connection.transport.close()

    def lost(self, connection: LoadConnection) -> None:
        """Count what was in flight on a connection that ended, and replace it."""
        if self._is_over or connection not in self._connections:
            return
        if unanswered := connection.give_up(LOST):
            self.settled(unanswered)
        task = asyncio.ensure_future(self._replace(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, old: LoadConnection) -> None:
        while not self._is_over and self.clock() < self._end_s:
            try:
                new = await self._connect(self._leader)
            except (OSError, ValueError):
                # Whoever answers says who leads now.
                self._attempts += 1
                self._leader = self._addresses[self._attempts % len(self._addresses)]
                await asyncio.sleep(_BACK_OFF_S)
                continue
            self._connections[self._connections.index(old)] = new
            if self._load.rate is None:
                self._ask(new)
            return
        if not self._in_flight:
            self._done.set()


def run_load(
    load: Load, addresses: Sequence[str], make: Callable[[int], bytes] | None = None
) -> LoadResult:
    """Run a load and return what came of it.

    Args:
        load: What to ask.
        addresses: Nodes, the leader first; a leader that moves is followed.
        make: Returns the bytes of so many requests; None for those of the load.

    Raises:
        ConnectFailedError: Nobody is there, or it is no server of the Redis protocol.
    """

    async def run() -> LoadResult:
        return await LoadRun(load, tuple(addresses), time.perf_counter, make).run()

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        import uvloop

        loop_factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


def key_names(prefix: bytes, first: int, end: int) -> list[bytes]:
    """Return the names of some keys of a run."""
    return [b"%b%012d" % (prefix, key) for key in range(first, end)]

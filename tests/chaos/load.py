"""Clients that record everything: what they asked, when, and what they were told.

Each client is a loop that sends one command and waits for its reply, a raw socket and
nothing else: nothing is ever sent twice. All of them share a few keys, so that many
write to the same one; a key is left alone after 200 operations or 8 unknown outcomes
(`tests.linearizability.retirement`). Some keys have a partner, with which they are written
and read in transactions only. Some clients follow MOVED, some stay with any node and let
it forward (`RAFT ROUTING proxy`); of both, some read from the lease of the leader.

Outcomes are told honestly: a reply is `ok`; an error that the documentation calls
definite is `refused`; everything else (an UNKNOWN reply, silence longer than the
client's patience, a connection that ended after the command was given to it) is
`unknown`. Any other error fails the run.

The clients run in a thread with an event loop of their own. A planted lie, for
`--plant`, is told by the client and not by the cluster: it shows that the checker sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any

import hiredis
import uvloop

from tests.linearizability.history import Operation, Outcome, Value, value_of
from tests.linearizability.retirement import KeyRetirement

PLANTS = ("stale-read", "lost-write", "double-apply")
# One lie in so many chances.
_PLANT_EVERY = 25
CONNECT_TIMEOUT_S = 0.5
BACK_OFF_S = 0.01
# Between the least that a failover needs and more than any deadline of the server.
PATIENCE_S = (0.4, 0.8, 1.5, 5.0)
_DEFINITE = ("MOVED", "CLUSTERDOWN", "NOTAPPLIED", "TRYAGAIN", "LOADING")
_FULL = "ERR max number of clients reached"

# By kind of slot: operation and weight.
_REGISTER = (
    ("get", 40), ("set", 26), ("getset", 8), ("setnx", 8), ("setxx", 8), ("getdel", 4),
    ("del", 4), ("exists", 2),
)  # fmt: skip
_COUNTER = (("incrby", 60), ("get", 36), ("del", 4))
_APPENDED = (("append", 55), ("get", 40), ("strlen", 5))
_PAIRED = (("pairset", 36), ("pairmove", 14), ("pairget", 40), ("get", 10))
_SLOTS = (_REGISTER, _COUNTER, _APPENDED, _PAIRED)
READS = frozenset({"get", "exists", "strlen", "pairget"})
_COMMANDS = {
    "get": ("GET",), "set": ("SET",), "getset": ("GETSET",), "setnx": ("SETNX",),
    "setxx": ("SET",), "getdel": ("GETDEL",), "del": ("DEL",), "exists": ("EXISTS",),
    "incrby": ("INCRBY",), "append": ("APPEND",), "strlen": ("STRLEN",),
}  # fmt: skip


# Transactions of a key and its partner. Each step: its kind, whether it is about the partner, and
# whether it writes the value.
_TRANSACTIONS = {
    "pairset": (("set", False, True), ("set", True, True)),
    "pairmove": (("getdel", False, False), ("set", True, True)),
    "pairget": (("get", False, False), ("get", True, False)),
}


def now_us() -> int:
    """Read the clock of the history."""
    return time.monotonic_ns() // 1000


def steps_of(kind: str, key: str, arguments: Sequence[Value]) -> tuple[tuple[Value, ...], ...]:
    """Return the steps of a transaction, as the models of the checker know them."""
    return tuple(
        (inner, partner_of(key) if is_partner else key, *(arguments if has_value else ()))
        for inner, is_partner, has_value in _TRANSACTIONS[kind]
    )


def is_read(operation: Operation) -> bool:
    """Whether it changes nothing, whatever its outcome."""
    if operation.kind == "transaction":
        return all(isinstance(step, tuple) and step[0] in READS for step in operation.arguments)
    return operation.kind in READS


def partner_of(key: str) -> str:
    """Return the key that is only used together with this one."""
    return f"{key}'"


def request(kind: str, key: str, arguments: Sequence[Value]) -> bytes:
    """Return the bytes of one operation."""
    if kind in _TRANSACTIONS:
        steps = steps_of(kind, key, arguments)
        inside = [[*_COMMANDS[str(step[0])], *map(str, step[1:])] for step in steps]
        counted = [str(word) for one in inside for word in (len(one), *one)]
        return bytes(hiredis.pack_command(("KV", "EXEC", "0", str(len(inside)), *counted)))
    words = [*_COMMANDS[kind], key, *(str(one) for one in arguments)]
    if kind == "setxx":
        words.append("XX")
    return bytes(hiredis.pack_command(tuple(words)))


def result_of(kind: str, reply: Any) -> Value:
    """Return a reply as the models of the checker know it."""
    if kind == "setxx":
        return int(reply is not None)
    return value_of(reply)


def judge(reply: Any) -> Outcome | None:
    """Return what an answer says; None for an error that nothing explains."""
    if not isinstance(reply, hiredis.ReplyError):
        return Outcome.OK
    text = str(reply)
    word = text.split(" ", 1)[0]
    if word in _DEFINITE or text.startswith(_FULL):
        return Outcome.REFUSED
    return Outcome.UNKNOWN if word == "UNKNOWN" else None


class Connection:
    """One connection of one client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._replies = hiredis.Reader()

    @classmethod
    async def open(cls, address: str) -> Connection:
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> Any:
        """Return the next reply.

        Raises:
            OSError: The connection ended.
        """
        while (reply := self._replies.gets()) is False:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError("closed")
            self._replies.feed(data)
        return reply

    def close(self) -> None:
        self._writer.close()


class Recorder:
    """The history, and what is in flight."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        # When each acknowledged write was answered, for gaps and progress.
        self.acknowledged_us: list[int] = []
        self.in_flight = 0
        self.problems: list[str] = []
        self.refusals: Counter[str] = Counter()

    def add(
        self,
        client: str,
        kind: str,
        key: str,
        arguments: tuple[Value, ...],
        called_us: int,
        outcome: Outcome,
        result: Value = None,
    ) -> None:
        """Note an operation that ends now."""
        returned_us = now_us()
        if outcome is Outcome.OK and kind not in READS:
            self.acknowledged_us.append(returned_us)
        keys: tuple[str, ...] = (key,)
        if kind in _TRANSACTIONS:
            kind, keys, arguments = (
                "transaction", (key, partner_of(key)), steps_of(kind, key, arguments)
            )  # fmt: skip
        self.operations.append(
            Operation(
                client=client, kind=kind, keys=keys, arguments=arguments, called_us=called_us,
                returned_us=returned_us, outcome=outcome, result=result,
            )
        )  # fmt: skip


class Client:
    """One lane of the history."""

    def __init__(
        self, load: Load, name: str, dice: random.Random,
        *, proxied: bool, leased: bool, patience_s: float,
    ) -> None:  # fmt: skip
        self.name = name
        self._load = load
        self._dice = dice
        self._settings = [("RAFT", "ROUTING", "proxy")] if proxied else []
        if leased:
            self._settings.append(("RAFT", "READS", "lease"))
        self._patience_s = patience_s
        self._address = dice.choice(load.addresses)
        self._connection: Connection | None = None
        self._numbers = itertools.count(1)

    async def run(self) -> None:
        load = self._load
        while not load.stopping:
            connection = await self._connected()
            if connection is None:
                self._address = self._dice.choice(load.addresses)
                await asyncio.sleep(BACK_OFF_S)
                continue
            slot = self._dice.randrange(load.slots)
            choices = _SLOTS[slot % len(_SLOTS)]
            (kind,) = self._dice.choices(
                [kind for kind, _ in choices], [weight for _, weight in choices]
            )
            key = load.keys.begin(slot)
            outcome = await self.perform(connection, kind, key, self._arguments(kind))
            if kind not in READS:
                load.keys.end(key, outcome)
            if outcome is Outcome.REFUSED:
                await asyncio.sleep(BACK_OFF_S)
            elif load.think_s:
                await asyncio.sleep(load.think_s * self._dice.uniform(0.5, 1.5))
        self._drop()

    def _arguments(self, kind: str) -> tuple[Value, ...]:
        if kind in ("set", "getset", "setnx", "setxx", "pairset", "pairmove"):
            return (f"{self.name}.{next(self._numbers)}",)
        if kind == "incrby":
            return (self._dice.randint(1, 9),)
        return (f"{self.name}.{next(self._numbers)};",) if kind == "append" else ()

    async def _connected(self) -> Connection | None:
        if self._connection is None:
            try:
                connection = await Connection.open(self._address)
                for words in self._settings:
                    connection.send(hiredis.pack_command(words))
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        if await connection.read() != b"OK":
                            connection.close()
                            return None
            except (OSError, TimeoutError):
                return None
            self._connection = connection
        return self._connection

    def _drop(self, address: str | None = None) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._address = address or self._dice.choice(self._load.addresses)

    async def perform(
        self, connection: Connection, kind: str, key: str, arguments: tuple[Value, ...]
    ) -> Outcome:
        """Send one operation, wait, record; return its outcome."""
        recorder = self._load.recorder
        plant = self._load.plant_for(kind, self._dice)
        data = request(kind, key, arguments)
        called_us = now_us()
        if plant == "lost-write":
            result = await self._load.lie_about(kind, connection, key, arguments)
            if result is None:
                self._drop()
                return Outcome.REFUSED
            recorder.add(self.name, kind, key, arguments, called_us, Outcome.OK, result)
            return Outcome.OK
        recorder.in_flight += 1
        try:
            connection.send(data * 2 if plant == "double-apply" else data)
            async with asyncio.timeout(self._patience_s):
                reply = await connection.read()
                if plant == "double-apply":
                    await connection.read()
        except (OSError, TimeoutError):
            self._drop()
            recorder.add(self.name, kind, key, arguments, called_us, Outcome.UNKNOWN)
            return Outcome.UNKNOWN
        finally:
            recorder.in_flight -= 1
        outcome = judge(reply)
        if outcome is None:
            recorder.problems.append(f"{self.name}: {kind} {key}: {reply}")
            outcome = Outcome.UNKNOWN
        if outcome is not Outcome.OK:
            words = str(reply).split(" ")
            recorder.refusals[words[0] if words[0] == "MOVED" else " ".join(words[:3])] += 1
            recorder.add(self.name, kind, key, arguments, called_us, outcome)
            self._follow(reply)
            return outcome
        result = result_of(kind, reply)
        if plant == "stale-read":
            result = self._load.stale(key, result)
        elif kind == "get":
            self._load.remember(key, result)
        recorder.add(self.name, kind, key, arguments, called_us, outcome, result)
        return outcome

    def _follow(self, reply: hiredis.ReplyError) -> None:
        words = str(reply).split(" ")
        self._drop(words[2] if words[0] == "MOVED" and len(words) == 3 else None)


class Load:
    """Several clients at once, as a context manager.

    Args:
        addresses: Of all nodes, for clients.
        clients: How many.
        dice: Decides what is asked; not when.
        slots: Keys that are in use at once: registers, counters, appended ones and couples.
        think_s: Pause of a client after each operation.
        plant: One of `PLANTS`.

    Attributes:
        recorder: What happened.
        keys: Hands out the keys.
        planted: Lies told.
    """

    def __init__(
        self,
        addresses: list[str],
        *,
        clients: int,
        dice: random.Random,
        slots: int = 8,
        think_s: float = 0.0,
        plant: str | None = None,
        proxied_share: float = 0.3,
    ) -> None:
        self.addresses = addresses
        self.slots = slots
        self.think_s = think_s
        self.recorder = Recorder()
        self.keys = KeyRetirement("k")
        self.planted = 0
        self.stopping = False
        self._plant = plant
        self._plant_chances = 0
        self._older: dict[str, deque[Value]] = {}
        proxied = round(clients * proxied_share)
        self.clients = [
            Client(
                self,
                f"c{number}",
                random.Random(dice.getrandbits(64)),
                proxied=number >= clients - proxied,
                leased=number % 3 == 2,
                patience_s=PATIENCE_S[number % len(PATIENCE_S)],
            )
            for number in range(clients)
        ]
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._failure: BaseException | None = None
        self.started_us = 0
        self.ended_us = 0

    def __enter__(self) -> Load:
        self.started_us = now_us()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.check()

    def stop(self) -> None:
        """Let every client end its operation, and end the thread."""
        self.stopping = True
        if self._thread.is_alive():
            self._thread.join(max(PATIENCE_S) + 10)
        self.ended_us = self.ended_us or now_us()

    def check(self) -> None:
        """Fail at once with what a client met."""
        if self._failure is not None:
            raise AssertionError("a client failed") from self._failure
        if self.recorder.problems:
            raise AssertionError(f"unexpected replies: {self.recorder.problems[:5]}")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run_clients())
        except BaseException as error:
            self._failure = error
        finally:
            self.ended_us = now_us()
            self._loop.close()

    async def _run_clients(self) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                group.create_task(client.run())

    # ------------------------------------------------------------- questions

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged so far."""
        return len(self.recorder.acknowledged_us)

    def wait_for_flight(self, limit_s: float = 0.5) -> int:
        """Wait for a moment with operations in flight; returns how many."""
        end_s = time.monotonic() + limit_s
        while not (count := self.recorder.in_flight) and time.monotonic() < end_s:
            time.sleep(0.0005)
        return count

    # ---------------------------------------------------------------- probes

    def probe(self, name: str, address: str) -> Probe:
        """Return a reader of its own, with a connection that stays."""
        return Probe(self, name, address)

    def submit(self, work: Any) -> Future[Any]:
        """Run a coroutine on the clients' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # ---------------------------------------------------------------- plants

    def plant_for(self, kind: str, dice: random.Random) -> str | None:
        """Return the lie to be told of this operation, if one is."""
        wanted = {
            "stale-read": ("get",), "lost-write": ("append", "incrby", "set"),
            "double-apply": ("append", "incrby"),
        }.get(self._plant or "", ())  # fmt: skip
        if kind not in wanted or dice.randrange(_PLANT_EVERY):
            return None
        if self._plant == "double-apply":
            self.planted += 1
        return self._plant

    def remember(self, key: str, value: Value) -> None:
        if self._plant == "stale-read":
            older = self._older.setdefault(key, deque(maxlen=20))
            if not older or older[-1] != value:
                older.append(value)

    def stale(self, key: str, value: Value) -> Value:
        """Return what a read of the key gave long before, if that is another value."""
        older = self._older.get(key)
        if not older or len(older) < 10 or older[0] == value:
            return value
        self.planted += 1
        return older[0]

    async def lie_about(
        self, kind: str, connection: Connection, key: str, arguments: tuple[Value, ...]
    ) -> Value:
        """Return what a write would have been answered, had it been sent; None if not known."""
        if kind == "set":
            self.planted += 1
            return "OK"
        try:
            connection.send(request("get", key, ()))
            async with asyncio.timeout(1.0):
                reply = await connection.read()
        except (OSError, TimeoutError):
            return None
        if isinstance(reply, hiredis.ReplyError):
            return None
        self.planted += 1
        if kind == "incrby":
            return int(reply or 0) + int(str(arguments[0]))
        return len(reply or b"") + len(str(arguments[0]))


class Probe:
    """A reader whose connection was made before the trouble and is kept through it."""

    def __init__(self, load: Load, name: str, address: str) -> None:
        self._load = load
        self._name = name
        self._address = address
        self._connection: Connection | None = None

    def connect(self) -> bool:
        """Make the connection and use it once; tells whether it works."""
        return bool(self._load.submit(self._connect()).result())

    async def _connect(self) -> bool:
        try:
            self._connection = await Connection.open(self._address)
            return (await self._read_all(1.0))["ok"] > 0
        except (OSError, TimeoutError):
            return False

    def ask(self, patience_s: float) -> Future[Counter[str]]:
        """Send a read of every key in use now; the answers come when they come.

        Returns:
            Outcomes by name, once all are known. Each read is in the history, called
            now, so the checker says whether an answer was stale.
        """
        return self._load.submit(self._read_all(patience_s))

    async def _read_all(self, patience_s: float) -> Counter[str]:
        connection = self._connection
        assert connection is not None
        load = self._load
        outcomes: Counter[str] = Counter()
        keys = [load.keys.begin(slot) for slot in range(load.slots)]
        called_us = now_us()
        connection.send(b"".join(request("get", key, ()) for key in keys))
        for key in keys:
            outcome: Outcome | None = Outcome.UNKNOWN
            result: Value = None
            if not outcomes["unknown"]:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(patience_s):
                        reply = await connection.read()
                    outcome = judge(reply)
                    if outcome is Outcome.OK:
                        result = result_of("get", reply)
            if outcome is None:
                load.recorder.problems.append(f"{self._name}: {reply}")
                outcome = Outcome.UNKNOWN
            outcomes[outcome.value] += 1
            load.recorder.add(self._name, "get", key, (), called_us, outcome, result)
        return outcomes

    def close(self) -> None:
        connection = self._connection
        if connection is not None:
            self._load.submit(_close(connection)).result()


async def _close(connection: Connection) -> None:
    connection.close()

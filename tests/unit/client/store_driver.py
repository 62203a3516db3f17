"""Drives conversations of leases and recipes against a store, without clients and sockets.

Time is fake and goes by in pauses and requests only. Any request may be lost on the way
there or back: the client then does not know whether it was executed. Several
conversations take turns, one step each, as their clock says.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any, TypeVar

from raftkv.client.calls import Call
from raftkv.client.policy import Pause
from raftkv.client.steps import Outside, Steps
from raftkv.config import Limits
from raftkv.errors import CommandError, ConnectFailedError, OutcomeUnknownError, RaftKvError
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import ErrorReply
from raftkv.kv.store import KvStore
from raftkv.server.command_set import standard_commands
from raftkv.types import NoList, Pairs
from tests.unit.kv.driver import check_invariants

T = TypeVar("T")
TABLE = standard_commands()


def reply_of(result: Any) -> Any:
    """Return a result as a client in RESP3 gets it."""
    if isinstance(result, ErrorReply):
        return CommandError(result.message)
    if isinstance(result, NoList):
        return None
    if isinstance(result, Pairs):
        items = [reply_of(one) for one in result]
        return dict(zip(items[::2], items[1::2], strict=True))
    if isinstance(result, list):
        return [reply_of(one) for one in result]
    return result.encode() if isinstance(result, str) else result


class World:
    """A store, the time, and who talks to it.

    Attributes:
        store: What all requests are executed on.
        now_s: The time of everybody, and lease time.
        lose: Says of a request: "" for all is well, "request" or "reply" for what is lost,
            "unreachable" for one that the client knows was not sent.
    """

    def __init__(self, seed: int = 0) -> None:
        self.store = KvStore()
        self.now_s = 1000.0
        self.random = random.Random(seed)
        self.lose: Callable[[tuple[bytes, ...]], str] = lambda words: ""
        self.outside = Outside(lambda: self.now_s, self.random.random)
        self.sent: list[tuple[bytes, ...]] = []
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def ask(self, call: Call[T]) -> T:
        """Execute a call."""
        words = call.request.arguments
        self.sent.append(words)
        lost = self.lose(words)
        if lost == "unreachable":
            raise ConnectFailedError("no node could be reached")
        if lost == "request":
            raise OutcomeUnknownError("timeout")
        reply = self.execute(*words)
        if len(self.sent) % 100 == 0:
            check_invariants(self.store)
        if lost == "reply":
            raise OutcomeUnknownError("timeout")
        return call.result(reply)

    def execute(self, *words: bytes | str) -> Any:
        """Execute a request and return its reply."""
        raw = [word.encode() if isinstance(word, str) else word for word in words]
        try:
            command = TABLE.resolve(raw).parse(raw, Limits())
        except CommandError as error:
            return error
        now_ms = int(self.now_s * 1000)
        payload = encode_batch(now_ms, now_ms, self.random.getrandbits(63), [command])
        (result,) = self.store.apply(self.store.applied_index + 1, payload)
        return reply_of(result)

    def start(self, steps: Steps[T], ended: Callable[[T], None], *, failed: Any = None) -> None:
        """Begin a conversation that takes its turns in `run`."""

        def step(answer: object, failure: RaftKvError | None) -> None:
            try:
                effect = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as stop:
                ended(stop.value)
                return
            except RaftKvError as error:
                if failed is None:
                    raise
                failed(error)
                return
            if isinstance(effect, Pause):
                self.after(effect.seconds, lambda: step(None, None))
                return
            try:
                got, error = self.ask(effect.call), None
            except RaftKvError as caught:
                got, error = None, caught
            self.after(self.random.uniform(0.001, 0.01), lambda: step(got, error))

        self.after(0, lambda: step(None, None))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._waiting, (self.now_s + max(0.0, seconds), next(self._order), action))

    def run(self, seconds: float | None = None) -> None:
        """Let time go by, until nobody waits for anything."""
        end_s = self.now_s + (10**6 if seconds is None else seconds)
        while self._waiting and self._waiting[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._waiting)
            action()
        if seconds is not None:
            self.now_s = end_s

    def drive(self, steps: Steps[T]) -> T:
        """Carry out one conversation."""
        ended: list[T] = []
        failures: list[RaftKvError] = []
        self.start(steps, ended.append, failed=failures.append)
        while not ended and not failures:
            self.now_s, _, action = heapq.heappop(self._waiting)
            action()
        if failures:
            raise failures[0]
        return ended[0]

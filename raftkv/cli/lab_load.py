"""The clients of `raftkv lab`: they write, read, and remember what they were told.

Each client is a task with the package's own client library, as an application would
use it. Four things are asked for, in random order:

* a new key, which must be on every node in the end if its write was acknowledged, and
  on none if it was refused;
* the next number in a register of its own, left for a new one after an unknown outcome;
* the value of anybody's register;
* one more on a counter that all share.

These are the shapes that cli.lab_verdict decides exactly. Times are microseconds of the
monotonic clock. Belongs to one event loop. Users: cli.lab_run.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from raftkv.cli.lab_verdict import (
    Check,
    Increment,
    Outcome,
    Read,
    Write,
    counter_problems,
    key_problems,
    register_problems,
)
from raftkv.client.async_client import AsyncClient
from raftkv.errors import DefiniteError, RequestError

# How long a client waits, one after the other of these: some give a silent node up before
# the others have elected, so that one is asked again soon; the last hears every refusal.
_DEADLINES_S = (0.5, 0.8, 1.2, 3.0)
_SETTLE_DEADLINE_S = 15.0
_KEYS_AT_ONCE = 500
_COUNTER = "lab:counter"
_PROBLEMS_SHOWN = 3


def now_us() -> int:
    """Read the clock of the history."""
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class _Register:
    key: str
    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


class LabLoad:
    """All clients of a lab.

    Args:
        addresses: Of the nodes.
        clients: How many.
        source: Decides what is asked.
        think_s: Mean pause of a client after an answer.

    Attributes:
        counts: Outcomes of all operations that changed something, or should have.
        read_count: Answered reads.
    """

    def __init__(
        self, addresses: Sequence[str], *, clients: int, source: random.Random, think_s: float
    ) -> None:
        self.counts: Counter[Outcome] = Counter()
        self.read_count = 0
        self._client = AsyncClient(
            addresses,
            deadline_s=max(_DEADLINES_S),
            connections_max=2 * clients,
            # What a fault leaves unknown is counted here, and judged.
            exactly_once=False,
        )
        self._source = source
        self._think_s = think_s
        self._acknowledged_us: list[int] = []
        self._keys: list[Write] = []
        self._increments: list[Increment] = []
        self._register_numbers = itertools.count(1)
        self._key_numbers = itertools.count(1)
        self._registers: list[_Register] = []
        self._current = [self._new_register() for _ in range(clients)]
        self._is_stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def _new_register(self) -> _Register:
        register = _Register(f"lab:register:{next(self._register_numbers)}")
        self._registers.append(register)
        return register

    def start(self) -> None:
        """Let every client begin."""
        self._tasks = [
            asyncio.create_task(self._run_client(number)) for number in range(len(self._current))
        ]

    async def stop(self) -> None:
        """Let every client finish what it is at."""
        self._is_stopping.set()
        await asyncio.gather(*self._tasks)

    async def close(self) -> None:
        """End every client now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    async def _run_client(self, number: int) -> None:
        client = self._client.within(_DEADLINES_S[number % len(_DEADLINES_S)])
        while not self._is_stopping.is_set():
            chance = self._source.random()
            if chance < 0.4:
                await self._write_key(client)
            elif chance < 0.6:
                await self._write_register(client, number)
            elif chance < 0.8:
                await self._read_register(client, self._source.choice(self._current))
            else:
                await self._count(client)
            await asyncio.sleep(self._think_s * self._source.uniform(0.5, 1.5))

    async def _change(self, work: Awaitable[Any]) -> tuple[Outcome, int, int, Any]:
        """Carry out a write; return its outcome, when it was called and returned, its result."""
        called_us = now_us()
        result = None
        try:
            result = await work
            outcome = Outcome.ACKNOWLEDGED
        except DefiniteError:
            outcome = Outcome.REFUSED
        except RequestError:
            outcome = Outcome.UNKNOWN
        returned_us = now_us()
        self.counts[outcome] += 1
        if outcome is Outcome.ACKNOWLEDGED:
            self._acknowledged_us.append(returned_us)
        return outcome, called_us, returned_us, result

    async def _write_key(self, client: AsyncClient[bytes]) -> None:
        value = next(self._key_numbers)
        outcome, called_us, returned_us, _ = await self._change(
            client.set(f"lab:key:{value}", str(value))
        )
        self._keys.append(Write(value, called_us, returned_us, outcome))

    async def _write_register(self, client: AsyncClient[bytes], number: int) -> None:
        register = self._current[number]
        value = len(register.writes) + 1
        outcome, called_us, returned_us, _ = await self._change(
            client.set(register.key, str(value))
        )
        register.writes.append(Write(value, called_us, returned_us, outcome))
        if outcome is Outcome.UNKNOWN:
            self._current[number] = self._new_register()

    async def _read_register(self, client: AsyncClient[bytes], register: _Register) -> None:
        called_us = now_us()
        try:
            value = await client.get(register.key)
        except RequestError:
            return  # a read without an answer changes nothing and says nothing
        register.reads.append(Read(int(value or 0), called_us, now_us()))
        self.read_count += 1

    async def _count(self, client: AsyncClient[bytes]) -> None:
        outcome, called_us, returned_us, result = await self._change(client.incr(_COUNTER))
        self._increments.append(Increment(result or 0, called_us, returned_us, outcome))

    # ------------------------------------------------------------------ questions

    @property
    def acknowledged(self) -> int:
        """Writes acknowledged so far."""
        return len(self._acknowledged_us)

    @property
    def last_acknowledged_us(self) -> int:
        """When a write was last acknowledged; 0 if none was."""
        return self._acknowledged_us[-1] if self._acknowledged_us else 0

    def rates(self, slices: int, slice_us: int, end_us: int) -> list[int]:
        """Return how many writes were acknowledged in each of the last whole slices of time."""
        end_us = end_us // slice_us * slice_us
        edges = [
            bisect_left(self._acknowledged_us, end_us - number * slice_us)
            for number in range(slices, -1, -1)
        ]
        return [after - before for before, after in pairwise(edges)]

    def longest_gap(self, begin_us: int, end_us: int) -> float:
        """Return the seconds of the longest time without an acknowledged write.

        It ended after `begin_us` and before `end_us`, or still lasts then.
        """
        first = max(0, bisect_left(self._acknowledged_us, begin_us) - 1)
        last = bisect_left(self._acknowledged_us, end_us)
        moments = [*self._acknowledged_us[first:last], end_us]
        return max((after - before for before, after in pairwise(moments)), default=0) / 1e6

    # -------------------------------------------------------------------- verdict

    async def judge(self, nodes: dict[str, str]) -> list[Check]:
        """Read everything once more, and hold what clients were told against it.

        The clients must have stopped, and every node must have applied everything.

        Args:
            nodes: Client address by name.

        Raises:
            RequestError: A node did not answer.
        """
        client = self._client.within(_SETTLE_DEADLINE_S)
        for register in self._registers:
            called_us = now_us()
            value = int(await client.get(register.key) or 0)
            register.reads.append(Read(value, called_us, now_us()))
        called_us = now_us()
        final = Read(int(await client.get(_COUNTER) or 0), called_us, now_us())
        on_nodes: list[str] = []
        for name, address in nodes.items():
            on_nodes += key_problems(self._keys, await self._keys_on(client, address), name)
        return [self._check_keys(nodes, on_nodes), *self._check_history(final)]

    async def _keys_on(self, client: AsyncClient[bytes], address: str) -> set[int]:
        """Return which of the new keys a node itself holds, right value and all."""
        present: set[int] = set()
        for first in range(0, len(self._keys), _KEYS_AT_ONCE):
            values = [one.value for one in self._keys[first : first + _KEYS_AT_ONCE]]
            pipeline = client.node(address).pipeline()
            # The node's own copy, whoever leads.
            pipeline.command("RAFT", "READS", "stale")
            pipeline.mget(*[f"lab:key:{value}" for value in values])
            _, found = await pipeline.execute()
            present.update(
                value for value, got in zip(values, found, strict=True) if got == b"%d" % value
            )
        return present

    def _check_keys(self, nodes: dict[str, str], problems: list[str]) -> Check:
        told = Counter(one.outcome for one in self._keys)
        refused = told[Outcome.REFUSED]
        return Check(
            f"{told[Outcome.ACKNOWLEDGED]} new keys were acknowledged: all of them are on "
            f"all {len(nodes)} nodes"
            + (f", and none of the {refused} refused ones" if refused else ""),
            tuple(problems),
        )

    def _check_history(self, final: Read) -> list[Check]:
        writes = sum(len(one.writes) for one in self._registers)
        reads = sum(len(one.reads) for one in self._registers)
        stale = [
            f"{register.key}: {problem}"
            for register in self._registers
            for problem in register_problems(register.writes, register.reads)
        ]
        told = Counter(one.outcome for one in self._increments)
        return [
            Check(
                f"{reads} reads of {len(self._registers)} registers, written {writes} times: "
                "no stale value, no step back in time",
                tuple(stale[:_PROBLEMS_SHOWN]),
            ),
            Check(
                f"{told[Outcome.ACKNOWLEDGED]} increments were acknowledged and "
                f"{told[Outcome.UNKNOWN]} are unknown: the counter says {final.value}, "
                "each number was given once and in order",
                tuple(counter_problems(self._increments, final)[:_PROBLEMS_SHOWN]),
            ),
        ]

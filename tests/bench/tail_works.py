"""The works of the long tail: what a node has to do now and then, and takes long.

Owns what is done and what has to be there before; `tail` runs, watches and judges them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tests.bench.contenders import RaftKv
from tests.bench.goals import take_snapshots
from tests.bench.loads import KEY_PREFIX, VALUE_BYTES, Loader, Workload, fill
from tests.integration.cluster import ClusterNode
from tests.integration.wire import Wire, encode, split_address

LIMIT_S = 300.0
# Of a pipeline that writes many keys.
WINDOW_REQUESTS = 500
# From the moment at which keys are written to that at which they expire.
EXPIRY_LEAD_MS = 8_000
EXPIRY_HEAD_S = 0.5
BUSY_RATE = 5_000.0
RATE_OF_ONE_MAX = 20.0
SCAN_COUNT = 1000
# So long what a work has left behind is watched as well.
AFTERWARDS_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much of everything."""

    keys: int
    mortal: int
    away: int
    clients: int
    control_s: float
    busy_s: float


class Work(NamedTuple):
    """One of them.

    Attributes:
        title: For people.
        prepare: Makes what has to be there before; nobody watches.
        run: The work itself, to its end.
    """

    title: str
    prepare: Callable[[], None]
    run: Callable[[], None]


class Works:
    """All of them, on one cluster."""

    def __init__(self, ours: RaftKv, sizes: Sizes) -> None:
        self._ours = ours
        self._cluster = ours.cluster
        self._sizes = sizes
        self._node: ClusterNode = self._cluster.nodes[0]
        self._expire_ms = 0

    def by_name(self) -> dict[str, Work]:
        """Return them in an order in which they disturb each other least."""
        keys = f"{self._sizes.keys:,} keys"
        clients, mortal, away = (
            f"{count:,}" for count in (self._sizes.clients, self._sizes.mortal, self._sizes.away)
        )
        return {
            "snapshot": Work(f"snapshot of {keys}, log cut", self._write_log, self._snapshot),
            "transfer": Work(f"snapshot of {keys} to a wiped node", self._wipe, self._come_back),
            "catch-up": Work(f"node back behind {away} writes", self._leave, self._come_back),
            "expiry": Work(f"{mortal} keys expire at once", self._write_mortal, self._expire),
            "scan": Work(f"SCAN and KEYS over {keys}", _nothing, self._scan),
            "idle": Work(f"{clients} idle connections", _nothing, self._idle),
            "busy": Work(f"{clients} busy connections, {self._busy_rate:,.0f}/s", _nothing,
                         self._busy),
            "flush": Work(f"FLUSHALL of {keys}", _nothing, self._flush),
        }  # fmt: skip

    def refill(self) -> None:
        """Bring back the keys where the last FLUSHALL took them."""
        with Wire(self._ours.address) as wire:
            held = wire.call("DBSIZE")
        if held < self._sizes.keys:
            fill(self._ours, self._sizes.keys)
            self._cluster.wait_until_converged(LIMIT_S)
            # What the writing set off: snapshots, and segments that are deleted.
            take_snapshots(self._cluster)

    @property
    def _busy_rate(self) -> float:
        return min(BUSY_RATE, RATE_OF_ONE_MAX * self._sizes.clients)

    def _write_log(self) -> None:
        """Make log that a snapshot will cut."""
        fill(self._ours, self._sizes.away)

    def _snapshot(self) -> None:
        """Take a snapshot on every node at once."""
        take_snapshots(self._cluster)

    def _wipe(self) -> None:
        """Take a follower and its data away."""
        self._node = self._cluster.followers()[0]
        self._node.kill()
        shutil.rmtree(self._node.data_dir)

    def _leave(self) -> None:
        """Take a follower away, and write without it."""
        self._node = self._cluster.followers()[0]
        self._node.kill()
        fill(self._ours, self._sizes.away)

    def _come_back(self) -> None:
        """Start the node that is away, until it has everything."""
        self._node.start()
        self._cluster.wait_until_caught_up(self._node)

    def _write_mortal(self) -> None:
        """Write keys that live until one moment."""
        self._expire_ms = _wall_ms() + EXPIRY_LEAD_MS
        value = "x" * VALUE_BYTES
        with Wire(self._ours.address) as wire:
            for first in range(0, self._sizes.mortal, WINDOW_REQUESTS):
                last = min(first + WINDOW_REQUESTS, self._sizes.mortal)
                wire.send(b"".join(
                    encode("SET", f"mortal:{number}", value, "PXAT", self._expire_ms)
                    for number in range(first, last)
                ))  # fmt: skip
                for _ in range(first, last):
                    wire.read()
        time.sleep(max(0.0, (self._expire_ms - _wall_ms()) / 1000 - EXPIRY_HEAD_S))

    def _expire(self) -> None:
        """Wait until they are gone, from the memory too."""
        number = self._sizes.mortal - 1
        with Wire(self._ours.address) as wire:
            self._cluster.wait_until(
                lambda: wire.call("EXISTS", f"mortal:{number}") == 0, "expiry", LIMIT_S
            )
        time.sleep(AFTERWARDS_S)

    def _scan(self) -> None:
        """Walk over all keys, page by page, and by KEYS."""
        with Wire(self._ours.address, timeout_s=LIMIT_S) as wire:
            cursor = b"0"
            while True:
                cursor, _ = wire.call("SCAN", cursor, "COUNT", SCAN_COUNT)
                if cursor == b"0":
                    break
            wire.call("KEYS", f"{KEY_PREFIX}*77*")
            wire.call("KEYS", "*")

    def _idle(self) -> None:
        """Open many connections, and leave them alone."""
        with contextlib.ExitStack() as stack:
            for _ in range(self._sizes.clients):
                stack.enter_context(socket.create_connection(split_address(self._ours.address)))
            time.sleep(self._sizes.busy_s)

    def _busy(self) -> None:
        """Load by many connections at a fixed rate, nine reads to a write."""
        workload = Workload(
            name="busy", kind="mixed", clients=self._sizes.clients, keys=self._sizes.keys,
            rate=self._busy_rate,
        )  # fmt: skip
        Loader(self._sizes.busy_s).of_bench(self._ours, workload, 1)

    def _flush(self) -> None:
        """Remove every key, and let the memory be freed."""
        with Wire(self._ours.address) as wire:
            wire.call("FLUSHALL")
        time.sleep(2 * AFTERWARDS_S)


def _nothing() -> None:
    """Nothing has to be there before."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000

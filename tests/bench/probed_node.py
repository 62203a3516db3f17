"""A node of which every piece of work on the loop is timed.

    BENCH_PROBE_FILE=FILE python -m tests.bench.probed_node start --config ...

It is the product with a watch on it: the callbacks that do the work on the owning thread
are measured in processor time of that thread, so that a busy machine does not count, and
a timer of a millisecond notes how late it is called, which is what a client would wait.

FILE gets records of three doubles: seconds on the monotonic clock of the system, the
place of a name in `NAMES`, milliseconds. `read_probes` reads them.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from raftkv.cli.main import main
from raftkv.node import Node
from raftkv.replica.replica import Replica
from raftkv.replica.shell import ThreadWorker
from raftkv.server.connection import ClientConnection
from raftkv.server.listener import ClientListener
from raftkv.transport.link import PeerLink
from raftkv.transport.mesh import PeerMesh

PROBE_FILE = "BENCH_PROBE_FILE"
LAG, COLLECTOR = "lag", "collector"
# Where work of the loop begins. What one calls of another is a part of the caller.
ENTRIES: dict[str, tuple[type, str]] = {
    "turn": (Replica, "turn"),
    "report of a worker": (ThreadWorker, "_report"),
    "client's bytes": (ClientConnection, "data_received"),
    "new client": (ClientConnection, "connection_made"),
    "lost client": (ClientConnection, "connection_lost"),
    "peer's bytes": (PeerLink, "data_received"),
    "tick of the listener": (ClientListener, "_tick"),
    "tick of the links": (PeerMesh, "_tick"),
}
NAMES = (LAG, COLLECTOR, *ENTRIES)
RECORD_BYTES = 24
TICK_S = 0.001
WRITE_S = 0.25
# Shorter pieces of work are not worth their record.
NOTED_MS = 0.25


class Probed(NamedTuple):
    """One record: at `at_s`, something took `took_ms`."""

    at_s: float
    name: str
    took_ms: float


def read_probes(file: Path) -> list[Probed]:
    """Return what a node wrote so far, in order."""
    numbers = array("d")
    data = file.read_bytes() if file.exists() else b""
    numbers.frombytes(data[: len(data) // RECORD_BYTES * RECORD_BYTES])
    fields = iter(numbers)
    return [
        Probed(at_s, NAMES[int(place)], took_ms)
        for at_s, place, took_ms in zip(fields, fields, fields, strict=True)
    ]


class _Watch:
    """Notes durations, and writes them now and then."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._noted = array("d")
        self._depth = 0
        self._due_s = 0.0
        self._written_s = 0.0
        self._collected_s = 0.0

    def note(self, name: str, took_ms: float) -> None:
        self._noted.extend((time.monotonic(), NAMES.index(name), took_ms))

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return `work`, its processor time noted unless it is a part of other work."""

        @functools.wraps(work)
        def watched(*arguments: Any) -> Any:
            if self._depth:
                return work(*arguments)
            self._depth = 1
            begin_s = time.thread_time()
            try:
                return work(*arguments)
            finally:
                took_ms = (time.thread_time() - begin_s) * 1000
                self._depth = 0
                if took_ms >= NOTED_MS:
                    self.note(name, took_ms)

        return watched

    def collected(self, phase: str, _: dict[str, int]) -> None:
        """Note a pass of the garbage collector."""
        if phase == "start":
            self._collected_s = time.thread_time()
        else:
            self.note(COLLECTOR, (time.thread_time() - self._collected_s) * 1000)

    def tick(self) -> None:
        """Note how late the loop calls back."""
        now_s = time.monotonic()
        if self._due_s:
            self.note(LAG, max(0.0, now_s - self._due_s) * 1000)
        if now_s - self._written_s >= WRITE_S:
            os.write(self._file, self._noted.tobytes())
            del self._noted[:]
            self._written_s = now_s
        self._due_s = time.monotonic() + TICK_S
        asyncio.get_running_loop().call_later(TICK_S, self.tick)


def watch(path: str) -> None:
    """Put the watch on the classes of the product, in this process."""
    watching = _Watch(path)
    for name, (owner, method) in ENTRIES.items():
        setattr(owner, method, watching.timed(name, getattr(owner, method)))
    gc.callbacks.append(watching.collected)
    run = Node.run

    async def run_watched(node: Node) -> int:
        asyncio.get_running_loop().call_soon(watching.tick)
        return await run(node)

    Node.run = run_watched  # type: ignore[method-assign]


if __name__ == "__main__":
    watch(os.environ[PROBE_FILE])
    sys.exit(main())

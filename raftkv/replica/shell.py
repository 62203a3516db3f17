"""The asyncio side of a replica: when to take a turn, and threads that may block.

`TurnScheduler` calls `Replica.turn` once per pass of the event loop in which
something arrived, and when a deadline passes. `ThreadWorker` runs one blocking
job after the other on a thread of its own and reports on the loop's thread.
There is no lock: everything except the jobs runs on one thread.

Who calls: node. Tests: tests/unit/replica/test_shell.py.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from raftkv.replica.replica import Replica

T = TypeVar("T")

# Longest sleep of the scheduler; deadlines move rarely and always earlier by a wake.
_SLEEP_MS_MAX = 1000
# Longest wait for a job that is under way when the node stops.
_JOIN_S = 0.5


class SystemClock:
    """The clock of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since boot, suspend included where the system counts it."""
        return time.clock_gettime_ns(_BOOT_CLOCK) // 1_000_000

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class ThreadWorker:
    """One thread for blocking jobs, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` on the thread, then `done` on the loop."""
        self._jobs.put((job, done))

    def stop(self) -> None:
        """Finish the jobs that were submitted, and end the thread.

        A job that hangs in the disk is left behind: it must not keep the process.
        """
        self._jobs.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while True:
            item = self._jobs.get()
            if item is None:
                return
            job, done = item
            outcome: Any
            try:
                outcome = job()
            except BaseException as error:
                outcome = error
            try:
                self._loop.call_soon_threadsafe(done, outcome)
            except RuntimeError:
                # The loop was closed: the node has stopped and nobody waits.
                return


class TurnScheduler:
    """Calls `Replica.turn` when something arrived or a deadline passed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: SystemClock) -> None:
        self._loop = loop
        self._clock = clock
        self._replica: Replica | None = None
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0

    def start(self, replica: Replica) -> None:
        """Begin to take turns."""
        self._replica = replica
        self.wake()

    def stop(self) -> None:
        """Take no more turns."""
        self._replica = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self) -> None:
        """Take a turn in this pass of the loop, after everything that has arrived."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        replica = self._replica
        if replica is None:
            return
        replica.turn()
        if replica.stopped is None and not self._scheduled:
            self._arm(replica.next_deadline_ms())

    def _arm(self, deadline_ms: int) -> None:
        """Keep one timer; move it only if it would be late."""
        now_ms = self._clock.now_ms()
        deadline_ms = min(deadline_ms, now_ms + _SLEEP_MS_MAX)
        if self._timer is not None:
            if now_ms < self._timer_ms <= deadline_ms:
                return
            self._timer.cancel()
        self._timer_ms = max(deadline_ms, now_ms + 1)
        self._timer = self._loop.call_later((self._timer_ms - now_ms) / 1000, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self.wake()

"""The asyncio side of a replica: when to take a turn, and threads that may block.

`TurnScheduler` calls `Replica.turn` once per pass of the event loop in which
something arrived, and when a deadline passes. `ThreadWorker` runs one blocking
job after the other on a thread of its own and reports on the loop's thread.
There is no lock: everything except the jobs runs on one thread.

Who calls: node. Tests: tests/unit/replica/test_shell.py.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from raftkv.replica.replica import Replica

T = TypeVar("T")

# Longest sleep of the scheduler; deadlines move rarely and always earlier by a wake.
_SLEEP_MS_MAX = 1000
# Behind its last job a worker waits so long before it tidies up.
IDLE_S = 1.0
# Longest wait for a job that is under way when the node stops.
_JOIN_S = 0.5
# A sync runs on the loop while the average of the last ones is below this, ...
SYNC_FAST_S = 0.002
_SYNC_SAMPLES = 16
# ... and none of the last ones took longer than other clients should wait.
SYNC_SLOW_S = 0.004
_SYNC_PENALTY = 32


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

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        *,
        when_idle: Callable[[], None] | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        """Start the thread.

        Args:
            loop: Where outcomes are reported.
            name: Of the thread.
            when_idle: Called on the thread, once whenever no job follows, the first one included.
            idle_s: How long none must follow.
        """
        self._loop = loop
        self._when_idle = when_idle
        self._idle_s = idle_s
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = (
            queue.SimpleQueue()
        )
        self._unfinished = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a job was submitted that has not been reported on."""
        return self._unfinished > 0

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` on the thread, then `done` on the loop."""
        self._unfinished += 1
        self._jobs.put((job, done))

    def _report(self, done: Callable[[Any], None], outcome: Any) -> None:
        self._unfinished -= 1
        done(outcome)

    def stop(self) -> None:
        """Finish the jobs that were submitted, and end the thread.

        A job that hangs in the disk is left behind: it must not keep the process.
        """
        self._jobs.put(None)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while True:
            item = self._next_job()
            if item is None:
                return
            job, done = item
            outcome: Any
            try:
                outcome = job()
            except BaseException as error:
                outcome = error
            try:
                self._loop.call_soon_threadsafe(self._report, done, outcome)
            except RuntimeError:
                # The loop was closed: the node has stopped and nobody waits.
                return
            # Else these would hold what the job worked on until the next one.
            del item, job, done, outcome

    def _next_job(self) -> tuple[Callable[[], Any], Callable[[Any], None]] | None:
        if self._when_idle is not None:
            try:
                return self._jobs.get(timeout=self._idle_s)
            except queue.Empty:
                self._when_idle()
        return self._jobs.get()


class SyncWorker(ThreadWorker):
    """A thread for syncs, spared while the disk answers faster than a thread wakes.

    Handing a job to a thread and its report back costs two changes of the
    interpreter's owner, which is more than a fast disk takes. So a job runs at once,
    on the loop, while the last ones were fast; a slow one sends those after it to the
    thread for a while, and so does other work on the disk.

    What a sync takes on the thread says little: until the thread has the interpreter
    again, the loop may have had it for milliseconds. So the fastest of those on the
    thread tells whether the next one may be tried on the loop.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        name: str,
        *,
        others_busy: Callable[[], bool],
        fast_s: float = SYNC_FAST_S,
        slow_s: float = SYNC_SLOW_S,
    ) -> None:
        """Start the thread.

        Args:
            loop: Where reports arrive, and fast syncs run.
            name: Of the thread.
            others_busy: Whether something else is working on the disk.
            fast_s: Highest average of the last syncs for which the loop waits.
            slow_s: What takes longer sends the next ones to the thread.
        """
        super().__init__(loop, name)
        self._others_busy = others_busy
        self._fast_s = fast_s
        self._slow_s = slow_s
        self._under_way = False
        self._average_s = 0.0
        self._slow_left = 0
        self._fastest_s = math.inf

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` at once or on the thread, then `done` on the loop."""
        if self._under_way or self._slow_left > 0 or self._others_busy():
            self._under_way = True
            super().submit(partial(_timed, job), partial(self._finished, done))
            return
        outcome, seconds = _timed(job)
        self._learn(seconds)
        done(outcome)

    def _finished(self, done: Callable[[T | BaseException], None], result: Any) -> None:
        self._under_way = False
        outcome, seconds = result
        if self._slow_left > 0:
            self._fastest_s = min(self._fastest_s, seconds)
            self._slow_left -= 1
            if self._slow_left == 0 and self._fastest_s > self._fast_s:
                self._leave_loop()
        done(outcome)

    def _learn(self, seconds: float) -> None:
        self._average_s += (seconds - self._average_s) / _SYNC_SAMPLES
        if seconds > self._slow_s or self._average_s > self._fast_s:
            self._leave_loop()

    def _leave_loop(self) -> None:
        """Run the next syncs on the thread, and forget what is known of earlier ones."""
        self._slow_left = _SYNC_PENALTY
        self._average_s = 0.0
        self._fastest_s = math.inf


def _timed(job: Callable[[], T]) -> tuple[T | BaseException, float]:
    """Run a job; return its result or exception, and how long it took."""
    started = time.monotonic()
    outcome: T | BaseException
    try:
        outcome = job()
    except Exception as error:
        outcome = error
    return outcome, time.monotonic() - started


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
        if replica.awaits_more():
            self.wake()
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
        replica = self._replica
        if replica is None:
            return
        # The deadline that it was set for may have moved since.
        deadline_ms = replica.next_deadline_ms()
        if deadline_ms <= self._clock.now_ms():
            self.wake()
        elif not self._scheduled:
            self._arm(deadline_ms)

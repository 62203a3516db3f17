"""Workers of a simulated node: jobs that take time, and syncs that hold up the loop.

`SimWorker` is a thread: its job is done at the end of a delay, and the world goes on
meanwhile. `SimSyncer` is the production's worker for syncs: while the disk is fast it
syncs on the loop, inside the call that asks for it, and its process may end right
before, between two of its effects, and right behind.

Owner: tests.sim.node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftkv.replica.shell import SYNC_SLOW_S

if TYPE_CHECKING:
    from tests.sim.node import SimNode

# How long a sync on the loop holds it up, at a disk of the usual speed.
ON_LOOP_MS = (0.05, 0.9)
# Syncs that a slow one sends to the thread.
_ON_THREAD_AFTER_SLOW = 8
_SLOW_MS = SYNC_SLOW_S * 1000


class Crash(BaseException):
    """The process ends here, between two effects."""


class SimWorker:
    """Runs a job at the end of a random delay; a sync covers what was written before."""

    def __init__(self, node: SimNode, delay_ms: tuple[float, float]) -> None:
        self._node = node
        self._delay_ms = delay_ms
        self._queue: list[tuple[Callable[[], Any], Callable[[Any], None], int]] = []
        self._running = False

    @property
    def busy(self) -> bool:
        """Whether a job was submitted that has not been done."""
        return self._running or bool(self._queue)

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do `job` later, then `done` with its result or exception."""
        self._queue.append((job, done, self._node.disk.number))
        self._start()

    def _start(self) -> None:
        if self._running or not self._queue:
            return
        self._running = True
        node = self._node
        life = node.life
        delay = node.world.random.uniform(*self._delay_ms) * node.slow_disk
        if node.slow_disk > 1.0:
            node.slow_until_ms = max(node.slow_until_ms, node.world.now_ms + delay)
        node.world.after(delay, lambda: self._run(life))

    def _run(self, life: int) -> None:
        node = self._node
        if life != node.life or not node.alive:
            return
        if node.is_frozen:
            node.world.after(node.frozen_for_ms, lambda: self._run(life))
            return
        job, done, limit = self._queue.pop(0)
        self._running = False
        node.guarded(lambda: self._carry_out(job, done, limit))
        if node.alive and life == node.life:
            self._start()

    def _carry_out(self, job: Callable[[], Any], done: Callable[[Any], None], _limit: int) -> None:
        done(_outcome(job))


class SimSyncer(SimWorker):
    """Syncs on the loop or on a thread, as `raftkv.replica.shell.SyncWorker` does.

    Each life of a process draws how fast it finds its disk: so fast that every sync is
    on the loop, never, or now and then. Other work on the disk and a slow sync send the
    next ones to the thread, as in production.
    """

    def __init__(
        self, node: SimNode, delay_ms: tuple[float, float], *, others_busy: Callable[[], bool]
    ) -> None:
        super().__init__(node, delay_ms)
        self._others_busy = others_busy
        self.share_on_loop = node.world.random.choice((0.0, 0.5, 0.95))
        self._on_thread_left = 0

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Do `job` at once or later, then `done` with its result or exception."""
        node = self._node
        if self._on_thread_left:
            self._on_thread_left -= 1
        elif not self.busy and not self._others_busy() and node.world.chance(self.share_on_loop):
            took_ms = node.world.random.uniform(*ON_LOOP_MS) * node.slow_disk
            if took_ms > _SLOW_MS:
                self._on_thread_left = _ON_THREAD_AFTER_SLOW
            # Nothing else of this process happens meanwhile; all others go on.
            node.paused_until_ms = max(node.paused_until_ms, node.world.now_ms + took_ms)
            node.cluster.events["sync_on_loop"] = node.cluster.events.get("sync_on_loop", 0) + 1
            self._carry_out(job, done, node.disk.number)
            return
        super().submit(job, done)

    def _carry_out(self, job: Callable[[], Any], done: Callable[[Any], None], limit: int) -> None:
        node = self._node
        node.disk.begin_job(limit)
        try:
            outcome = _outcome(job)
        finally:
            node.disk.end_job()
        # What was saved is durable, and nobody has heard of it.
        node.effect("sync")
        done(outcome)


def _outcome(job: Callable[[], Any]) -> Any:
    try:
        return job()
    except Exception as error:
        return error

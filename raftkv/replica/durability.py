"""From records to durable bytes: one write a turn, one fsync for all that is written.

Owns the handing of WAL writes to the sync worker, one job at a time: what is
written while a job is under way is covered by the next one, so batches grow
with the disk's latency. With `sync = "interval"` or `"never"` a write counts as
durable once it is written, which survives the loss of processes, not of power.

A failed write or fsync is never retried: `fail` stops the node.

Owner: replica.replica. Tests: tests/sim/test_syncs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftkv.config import DurabilityConfig
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import Ready
from raftkv.seams import Clock, Worker
from raftkv.storage.wal import Wal
from raftkv.storage.wal_segments import SyncJob
from raftkv.types import WriteSequence

# Pause in writing after which a sync mark is written.
QUIET_MS = 200


class Durability:
    """Writes the WAL and reports what is durable.

    Attributes:
        draining: The node stops: sync at once, whatever the mode.
    """

    def __init__(
        self,
        *,
        settings: DurabilityConfig,
        core: RaftCore,
        wal: Wal,
        syncer: Worker,
        clock: Clock,
        report: Callable[[WriteSequence], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._always = settings.sync == "always"
        self._never = settings.sync == "never"
        self._interval_ms = settings.sync_interval_ms
        self._core = core
        self._wal = wal
        self._syncer = syncer
        self._clock = clock
        self._report = report
        self._fail = fail
        self._failed = False
        self._sync_due_ms = 0
        self._written_ms = 0
        self._mark_due = False
        self.draining = False

    @property
    def is_idle(self) -> bool:
        """Whether everything written is synced."""
        return self._wal.synced_sequence == self._wal.last_sequence

    def append(self, ready: Ready, *, reserve: bool) -> None:
        """Write the records of a step."""
        self._wal.append(ready.sequence, ready.records, ready.commit_hint, reserve=reserve)
        self._mark_due = True
        self._written_ms = self._clock.now_ms()
        if not self._always:
            self._report(ready.sequence)

    def start_sync(self) -> None:
        """Hand what is not durable to the sync worker, unless a job is under way."""
        if not self._always and not self.draining and not self._interval_over():
            return
        job = self._wal.sync_job()
        if job is not None:
            self._syncer.submit(job.run, partial(self._synced, job))

    def _interval_over(self) -> bool:
        if self._never:
            # Finished segments, and compaction with them, wait for a job.
            return self._wal.has_unsynced_segment
        now_ms = self._clock.now_ms()
        if now_ms < self._sync_due_ms:
            return False
        self._sync_due_ms = now_ms + self._interval_ms
        return True

    def _synced(self, job: SyncJob, outcome: object) -> None:
        """Take the report of the sync worker."""
        if self._failed:
            return
        if isinstance(outcome, BaseException):
            self._failed = True
            self._fail(outcome)
            return
        self._wal.finished(job)
        if self._always:
            self._report(job.sequence)
        self.start_sync()

    def mark_if_quiet(self, now_ms: int) -> None:
        """After a pause in writing, mark what is durable: rot can be told from a torn end.

        The sync at the end of the turn covers the mark. To sync here could fail in the
        middle of the turn, whose rest would still leave the node.
        """
        if self._mark_due and now_ms - self._written_ms >= QUIET_MS and self.is_idle:
            self._write_mark()

    def mark(self) -> None:
        """Write a sync mark if everything is durable, and start to sync it."""
        if self._write_mark():
            self.start_sync()

    def _write_mark(self) -> bool:
        self._mark_due = False
        return self._wal.mark(self._core.allocate_sequence())

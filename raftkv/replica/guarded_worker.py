"""A worker whose reports stop the node when they fail.

A report ends in the middle of some part's work: a snapshot half taken, a piece half
loaded. If an error cuts it off - no memory, or a bug - that part would wait for ever
for a report that has already come, while the node goes on without it and nobody
knows. So it ends as a turn does that failed.

Owner: replica.replica. Tests: tests/unit/replica/test_guarded_worker.py,
tests/sim/test_worker_reports.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from raftkv.seams import Worker

T = TypeVar("T")


class GuardedWorker:
    """Implements `seams.Worker` by another one."""

    def __init__(self, worker: Worker, fail: Callable[[BaseException], None]) -> None:
        """Hand every job to `worker`, and what its report raises to `fail`."""
        self._worker = worker
        self._fail = fail

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run `job` elsewhere, then `done` on the owning thread."""
        self._worker.submit(job, partial(self._report, done))

    def _report(self, done: Callable[[Any], None], outcome: Any) -> None:
        try:
            done(outcome)
        except Exception as error:
            self._fail(error)

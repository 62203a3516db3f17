"""Reading old log entries back from the WAL, for followers that are far behind.

The engine keeps only the newest entries in memory and says what it wants read
(`Ready.wanted`). The plan of a read is made on the owning thread, the reading is
done by the background worker, and what was read goes into the next step, where
the engine judges whether it is still of use.

Segments are deleted by the same worker, one job after the other, so none goes
away under a read that was planned before. Damage that a read finds stops the
node: what was durable is not, and nobody may be sent anything else instead.

Owner: replica.replica. Tests: tests/unit/replica/test_log_reader.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from raftkv.engine.ready import EntriesRead, LogEntry, Wanted
from raftkv.seams import Disk, Worker
from raftkv.storage.damage import damaged
from raftkv.types import Index

if TYPE_CHECKING:
    from raftkv.storage.wal import Wal
    from raftkv.storage.wal_reader import ReadJob


class LogReader:
    """Carries out what the engine wants read."""

    def __init__(
        self,
        *,
        disk: Disk,
        wal: Wal,
        background: Worker,
        deliver: Callable[[EntriesRead], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._disk = disk
        self._wal = wal
        self._background = background
        self._deliver = deliver
        self._fail = fail

    def start(self, wanted: Iterable[Wanted]) -> None:
        """Begin to read; the engine bounds how many reads are under way."""
        for first, last, bytes_max in wanted:
            job = self._wal.read_job(first, last, bytes_max)
            self._background.submit(job.run, partial(self._read, first, job))

    def _read(self, first: Index, job: ReadJob, outcome: list[LogEntry] | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self._fail(outcome)
        elif not outcome and first >= self._wal.retained_from():
            # Nobody removed it but from outside.
            self._fail(damaged(self._disk, job.missing, 0, f"entry {first} is not in the WAL"))
        else:
            self._deliver(EntriesRead(first, outcome))

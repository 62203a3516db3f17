"""When a leader stamps a batch, and when it proposes one only to move time.

Keys expire by log time alone, leases and sessions by lease time, so time must move in
the log also when nobody writes: when a deadline is due, and about once a second while
any key has one, so that TTL replies do not freeze. While there are leases it moves
oftener: what passed since the last stamp of a leader is lost with it, and makes
every lease longer.

Owner: replica.replica. Tests: tests/unit/replica/test_clockwork.py.
"""

from __future__ import annotations

from raftkv.kv.store import KvStore
from raftkv.replica.log_time import ALARM_ERROR_MS, LogTime
from raftkv.seams import Clock, Observer
from raftkv.types import Term

# Limit: time-only batches come at most this often.
TICK_INTERVAL_MS = 20
# While keys with a deadline exist, log time is at most this old on an idle cluster.
FRESH_MS = 1000
# While leases exist, lease time is. A part of what an election lengthens them by.
LEASE_FRESH_MS = 200


class BatchClock:
    """Both replicated times, while this node leads.

    Attributes:
        term: Of the last `lead`.
    """

    def __init__(self, clock: Clock, observer: Observer) -> None:
        self._clock = clock
        self._observer = observer
        self.term: Term | None = None
        self._time: LogTime | None = None
        self._stamped_ms = 0
        self._alarmed = False

    def lead(self, term: Term, quorum_wall_ms: int, store: KvStore) -> None:
        """Begin a term of this leader; harmless when repeated."""
        if term == self.term:
            return
        self.term = term
        self._time = LogTime(
            log_time_ms=store.log_time_ms,
            lease_time_ms=store.lease_time_ms,
            quorum_wall_ms=quorum_wall_ms,
            now_ms=self._clock.now_ms(),
        )
        self._stamped_ms = 0

    def stamp(self, store: KvStore) -> tuple[int, int]:
        """Return log time and lease time for a batch made now."""
        time = self._advance(store)
        self._stamped_ms = self._clock.now_ms()
        return time.log_time_ms, time.lease_time_ms

    def tick_due(self, now_ms: int, store: KvStore) -> bool:
        """Whether time should move although nobody writes."""
        due_ms = self.next_tick_ms(store)
        return due_ms is not None and now_ms >= due_ms

    def next_tick_ms(self, store: KvStore) -> int | None:
        """Return the boot time at which a time-only batch is due, if anything has a deadline."""
        deadline, lease_deadline = store.next_deadline_ms, store.next_lease_deadline_ms
        if (deadline is None and lease_deadline is None) or self._time is None:
            return None
        time = self._advance(store)
        now_ms = self._clock.now_ms()
        due: list[int] = []
        if deadline is not None:
            due.append(now_ms + max(0, deadline - time.log_time_ms))
            due.append(self._stamped_ms + FRESH_MS)
        if lease_deadline is not None:
            due.append(now_ms + max(0, lease_deadline - time.lease_time_ms))
        if store.lease_count:
            due.append(self._stamped_ms + LEASE_FRESH_MS)
        return max(min(due), self._stamped_ms + TICK_INTERVAL_MS)

    def _advance(self, store: KvStore) -> LogTime:
        if self._time is None:
            raise AssertionError("only a leader stamps batches")
        self._time.advance(self._clock.now_ms(), self._clock.wall_ms())
        # The log may hold later times than the store did when this term began.
        self._time.catch_up(store.log_time_ms, store.lease_time_ms)
        wrong = abs(self._time.error_ms) > ALARM_ERROR_MS
        if wrong and not self._alarmed:
            self._observer.event("clock_error", error_ms=self._time.error_ms)
        self._alarmed = wrong
        return self._time

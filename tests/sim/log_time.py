"""How far the times of a run strayed from true time: how exact expiry can be judged.

Deadlines are kept in log time, which the leaders stamp from clocks that drift and
jump, and which stands still between batches. The clients' history has true time. A
key whose time to live was `ttl` may die as much sooner as log time ever gained on
true time, and as much later as it ever fell behind. A deadline that was given as a
time comes when log time shows it, however far that is from true time. So it is with lease
time and leases.

What a leader stamps moves on with its clock all the same, and is judged here: else a
time that stands still would excuse every key that does not die.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from raftkv.kv.store import KvStore
from raftkv.replica.log_time import SLEW_RATE
from raftkv.types import Term
from tests.sim.invariants import Violation

# Clocks of the simulated world run wrong by less than this share.
_DRIFT = 0.03
# All times are whole milliseconds.
_ROUNDING_MS = 3.0


class _Stamp(NamedTuple):
    """What a leader stamped on a batch, and when that truly was."""

    now_ms: float
    log_time_ms: int
    lease_time_ms: int


class LogTimeWatch:
    """Looks at the newest store after each turn, and at every stamp.

    Attributes:
        gain_ms: Most that log time gained on true time, from any moment to a later one.
        loss_ms: Most that it lost.
        least_ms: How far it was ahead of true time when it was least so; negative when
            it was behind.
        most_ms: How far when it was most so.
    """

    def __init__(self, time_of: Callable[[KvStore], int], checks: Counter[str]) -> None:
        """Begin to watch.

        Args:
            time_of: Returns the time of a store, such that true time is the time of the world.
            checks: Counts what was judged.
        """
        self._time_of = time_of
        self.gain_ms = 0.0
        self.loss_ms = 0.0
        self.least_ms = math.inf
        self.most_ms = -math.inf
        self._newest_index = 0
        self._checks = checks
        self._stamps: dict[tuple[str, int, Term], _Stamp] = {}

    def note(self, now_ms: float, store: KvStore, *, leads: bool) -> None:
        """Take note of a store whose node leads, or is the first to apply something."""
        if store.applied_index > self._newest_index:
            self._newest_index = store.applied_index
        elif not leads:
            return
        if not store.log_time_ms:
            return
        ahead_ms = self._time_of(store) - now_ms
        self.least_ms = min(self.least_ms, ahead_ms)
        self.most_ms = max(self.most_ms, ahead_ms)
        self.gain_ms = max(self.gain_ms, ahead_ms - self.least_ms)
        self.loss_ms = max(self.loss_ms, self.most_ms - ahead_ms)

    def stamped(
        self, name: str, life: int, term: Term, now_ms: float, stamp: tuple[int, int]
    ) -> None:
        """Take note of both times that a leader stamps on a batch."""
        self._checks["time_goes_on_under_a_leader"] += 1
        made = _Stamp(now_ms, *stamp)
        before = self._stamps.get((name, life, term))
        self._stamps[name, life, term] = made
        if before is None:
            return
        passed_ms = (now_ms - before.now_ms) * (1 - _DRIFT) - _ROUNDING_MS
        log_ms = made.log_time_ms - before.log_time_ms
        lease_ms = made.lease_time_ms - before.lease_time_ms
        if log_ms < passed_ms * (1 - SLEW_RATE) or lease_ms < passed_ms:
            raise Violation(
                f"{name} leads term {term}; in {now_ms - before.now_ms:.0f} ms log time went on "
                f"by {log_ms} ms and lease time by {lease_ms} ms",
                invariant="time_goes_on_under_a_leader",
            )

"""Whether lease time keeps what is promised of leases, at every batch that was committed.

Each stamp that a leader makes is remembered with the true time; looked at is what became
of those that were applied. Then no lease ends early if lease time never gains on true
time by more than clocks drift, and it ends late by the gaps between leaders only, if
between two stamps of one leader it never loses more than that.
"""

from __future__ import annotations

import math

from raftkv.kv.store import KvStore
from raftkv.types import Term

# Boot clocks of nodes drift by at most this.
DRIFT = 0.02
# Stamps are in whole milliseconds.
_ROUNDING_MS = 3.0


class LeaseTimeWatch:
    """Sees every stamp when it is made, and every store when it has applied something.

    Attributes:
        gaps_ms: What passed between the stamps of one leader and the next, in all.
        problem: What was wrong, for the invariant.
    """

    def __init__(self) -> None:
        self.gaps_ms = 0.0
        self.problem = ""
        # Of one term, because who succeeds a leader may stamp what that did last.
        self._made: dict[tuple[Term, int, int], float] = {}
        self._newest_index = 0
        self._least_ahead_ms = math.inf
        self._last: tuple[int, float, Term] | None = None

    def stamped(self, now_ms: float, term: Term, log_time_ms: int, lease_time_ms: int) -> None:
        """A leader stamped a batch, which may be committed or not."""
        self._made[term, lease_time_ms, log_time_ms] = now_ms

    def note(self, store: KvStore, term: Term | None) -> None:
        """Look at a store that may have applied further.

        Args:
            store: Of any node.
            term: Of the entry that it applied last.
        """
        if store.applied_index <= self._newest_index or term is None:
            return
        self._newest_index = store.applied_index
        made_ms = self._made.get((term, store.lease_time_ms, store.log_time_ms))
        if made_ms is None:
            return
        lease_time_ms = store.lease_time_ms
        # Against the fastest clock: this may only fall.
        ahead_ms = lease_time_ms - made_ms * (1 + DRIFT)
        if ahead_ms > self._least_ahead_ms + _ROUNDING_MS:
            gain_ms = ahead_ms - self._least_ahead_ms
            self.problem = f"lease time gained {gain_ms:.0f} ms on true time"
        self._least_ahead_ms = min(self._least_ahead_ms, ahead_ms)
        if self._last is not None:
            self._compare(*self._last, lease_time_ms, made_ms, term)
        self._last = (lease_time_ms, made_ms, term)

    def _compare(
        self, before: int, before_ms: float, before_term: Term, now: int, now_ms: float, term: Term
    ) -> None:
        lost_ms = (now_ms - before_ms) * (1 - DRIFT) - (now - before)
        if now < before:
            self.problem = f"lease time went back by {before - now} ms"
        elif term == before_term and lost_ms > _ROUNDING_MS:
            self.problem = f"lease time lost {lost_ms:.0f} ms under one leader"
        elif term != before_term:
            self.gaps_ms += max(0.0, lost_ms)

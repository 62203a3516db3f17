"""How far the times of a run strayed from true time: how exact expiry can be judged.

Deadlines are kept in log time, which the leaders stamp from clocks that drift and
jump, and which stands still between batches. The clients' history has true time. A
key whose time to live was `ttl` may die as much sooner as log time ever gained on
true time, and as much later as it ever fell behind. So it is with lease time and leases.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from raftkv.kv.store import KvStore


class LogTimeWatch:
    """Looks at the newest store after each turn.

    Attributes:
        gain_ms: Most that log time gained on true time, from any moment to a later one.
        loss_ms: Most that it lost.
    """

    def __init__(self, time_of: Callable[[KvStore], int]) -> None:
        """Begin to watch.

        Args:
            time_of: Returns the time of a store, such that true time is the time of the world.
        """
        self._time_of = time_of
        self.gain_ms = 0.0
        self.loss_ms = 0.0
        self._least_ms = math.inf
        self._most_ms = -math.inf
        self._newest_index = 0

    def note(self, now_ms: float, store: KvStore, *, leads: bool) -> None:
        """Take note of a store whose node leads, or is the first to apply something."""
        if store.applied_index > self._newest_index:
            self._newest_index = store.applied_index
        elif not leads:
            return
        if not store.log_time_ms:
            return
        ahead_ms = self._time_of(store) - now_ms
        self._least_ms = min(self._least_ms, ahead_ms)
        self._most_ms = max(self._most_ms, ahead_ms)
        self.gain_ms = max(self.gain_ms, ahead_ms - self._least_ms)
        self.loss_ms = max(self.loss_ms, self._most_ms - ahead_ms)

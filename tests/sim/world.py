"""Simulated time: an event queue, and clocks that read it.

One seed is one run: every random choice of the simulated world comes from one
generator, and events at the same time happen in the order they were scheduled.
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable

WALL_START_MS = 1_700_000_000_000


class World:
    """Time, chance, and what happens next."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now_ms = 1000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.steps = 0
        self.trace_hash = 0

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Let `action` happen later."""
        self._count += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._count, action))

    def run_until(self, end_ms: float) -> None:
        """Let everything happen up to a time."""
        events = self._events
        pop = heapq.heappop
        while events and events[0][0] <= end_ms:
            self.now_ms, number, action = pop(events)
            self.steps += 1
            self.trace_hash = zlib.crc32(b"%d %d" % (self.now_ms * 1000, number), self.trace_hash)
            action()
        self.now_ms = end_ms

    def note(self, data: bytes) -> None:
        """Make something part of the trace: two runs of a seed must note the same."""
        # Why not hash(): it is salted for bytes, and differs between versions.
        self.trace_hash = zlib.crc32(data, self.trace_hash)

    def chance(self, probability: float) -> bool:
        """Throw the dice."""
        return self.random.random() < probability


class SimClock:
    """One node's clocks: a boot clock with an offset, a wall clock that may jump; both drift.

    Attributes:
        wall_error_ms: Of the wall clock, besides its drift.
        rate: How fast both run; 1 is right.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._boot_offset_ms = world.random.randrange(1_000_000)
        self._counted_ms = 0.0
        self._counted_at_ms = 0.0
        self.rate = 1.0
        self.wall_error_ms = 0

    def _elapsed_ms(self) -> float:
        return self._counted_ms + (self._world.now_ms - self._counted_at_ms) * self.rate

    def set_rate(self, rate: float) -> None:
        """Drift from now on."""
        self._counted_ms = self._elapsed_ms()
        self._counted_at_ms = self._world.now_ms
        self.rate = rate

    def now_ms(self) -> int:
        return int(self._elapsed_ms()) + self._boot_offset_ms

    def wall_ms(self) -> int:
        return WALL_START_MS + int(self._elapsed_ms()) + self.wall_error_ms

    def delay_until(self, deadline_ms: int) -> float:
        """Return in how much true time the boot clock shows this; at least a millisecond."""
        return max(1, deadline_ms - self.now_ms()) / self.rate

"""What has been shown to clients: how far a store has to be to answer them later.

Whoever is answered has seen what was applied then; all of it was committed. So a
linearizable read that begins later needs at least as much, and a read that may miss
so many milliseconds needs what had been shown so long before.
"""

from __future__ import annotations

from bisect import bisect_right

from tests.sim.world import World


class Floors:
    """The highest index that was shown, over time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._times_ms: list[float] = [float("-inf")]
        self._indexes: list[int] = [0]

    def note(self, index: int) -> None:
        """Somebody was answered by a store that had applied so much."""
        if index > self._indexes[-1]:
            self._times_ms.append(self._world.now_ms)
            self._indexes.append(index)

    @property
    def now(self) -> int:
        """What a linearizable read that begins now has to see."""
        return self._indexes[-1]

    def at(self, time_ms: float) -> int:
        """Return what had been shown at that time, or before."""
        return self._indexes[bisect_right(self._times_ms, time_ms) - 1]

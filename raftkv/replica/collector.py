"""Python's garbage collector, in passes of bounded work.

The store makes a tuple for every write, and lets go of one by reference counting. The
collector counts the difference only, so that it may not come for millions of writes; then
it looks at every tuple that was made since, a quarter of a second at a million keys, in
which a leader loses its office. So it is switched off, and called by a timer: a pass sees
what was made since the last one, and takes the tuples out of its books for good.

What survives two passes is not looked at again: that would mean to walk over all keys. Nor
is what is there when a large batch has been applied: it is mostly the tuples of the batch.
Why, and what it costs: docs/adr/0022.

Who calls: node. Tests: tests/unit/replica/test_collector.py.
"""

from __future__ import annotations

import asyncio
import gc

# Between two passes. A node that takes 200,000 writes a second, or loads as many keys,
# makes 5,000 tuples in this time, which take a pass about a millisecond.
PASS_S = 0.025
# Every so many passes, what survived one is looked at a second time.
SECOND_LOOK_PASSES = 4
_YOUNG, _SURVIVORS = 0, 1


class CollectorTimer:
    """Calls the collector of this process, once started.

    Args:
        loop: The event loop whose thread owns the store.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._passes = 0

    def start(self) -> None:
        """Switch the automatic passes off, and begin; what is there already stays for good."""
        gc.disable()
        gc.freeze()
        self._wait()

    def stop(self) -> None:
        """End, and leave the collector to itself; harmless when repeated."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.enable()

    def before_bulk(self) -> None:
        """Look at what was made so far, and is new, since `after_bulk` passes over it."""
        gc.collect(_YOUNG)

    def after_bulk(self) -> None:
        """Take everything out of the books without a look, which takes no time."""
        gc.freeze()

    def _wait(self) -> None:
        self._timer = self._loop.call_later(PASS_S, self._pass)

    def _pass(self) -> None:
        self._passes += 1
        gc.collect(_YOUNG if self._passes % SECOND_LOOK_PASSES else _SURVIVORS)
        self._wait()

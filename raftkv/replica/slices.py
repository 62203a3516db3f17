"""Long work on the owning thread, cut so that nobody waits for it.

Reads that look at every key, and the freeing of a store that was replaced, run
one bounded slice a turn, in turn with each other.

Owner: replica.replica. Tests: tests/unit/replica/test_slices.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from raftkv.kv.store import KvStore
from raftkv.seams import Failure, Slot


class Slices:
    """Generators that still have slices to run."""

    def __init__(self) -> None:
        self._reads: deque[tuple[Generator[None, None, object], Slot]] = deque()
        self._retired: deque[KvStore] = deque()

    @property
    def pending(self) -> bool:
        """Whether there is another slice to run."""
        return bool(self._reads or self._retired)

    def add(self, generator: Generator[None, None, object], slot: Slot) -> None:
        """Run a read to its end, a slice at a time, and resolve with its one result."""
        self._reads.append((generator, slot))

    def retire(self, store: KvStore) -> None:
        """Free a store that another one has replaced."""
        store.retire()
        self._retired.append(store)

    def run_one(self) -> None:
        """Run one slice of the next read, and one of freeing."""
        if self._reads:
            generator, slot = self._reads.popleft()
            try:
                next(generator)
            except StopIteration as stop:
                slot.resolve([stop.value])
            else:
                self._reads.append((generator, slot))
        if self._retired:
            store = self._retired[0]
            if not store.free_slice() and not store.is_viewed:
                self._retired.popleft()

    def close(self, failure: Failure) -> None:
        """Answer whoever still waits."""
        while self._reads:
            generator, slot = self._reads.popleft()
            generator.close()
            slot.fail(failure)

"""What is gone from the store and not yet from memory, and is freed in slices.

A flush leaves all dicts of the store behind at once, a value may have a million elements,
and thousands of changes leave the history together: freed at once, each would hold up the
node. So they are kept here, and `free_slice` takes a bounded part of them apart at a time.

Invariant: a husk is freed only when nothing else holds it, and none while a view is open.

Pure. Owned by `keyspace`. Tests: tests/unit/kv/test_garbage.py, test_slice_costs.py.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from sys import getrefcount
from typing import Any, Final

from raftkv.kv.entries import Bucket, Deadlines, Value
from raftkv.kv.history import Change, Chunk
from raftkv.kv.leases import Bindings, LeaseKeys, free_keys

# Limit: dropping this many entries takes about a millisecond.
FREE_SLICE_KEYS: Final = 2048
FREE_SLICE_DEADLINES: Final = 1024
# Limit: a value with more elements than this is freed by `free_slice`.
_FREED_AT_ONCE: Final = 64
# References to an object that a local variable alone holds, as `getrefcount` counts.
_REFERENCES_OF_A_LOCAL: Final = 2


class Garbage:
    """What flushes, large values and the history left behind.

    Attributes:
        flushed: What each flush replaced, which open views may still read.
        husks: Parts of large values that are gone.
        unread: Chunks of changes that an image held and did not come to read.
        small: Changes that have left the history, before which there was a collection of
            few elements.
        withheld: The same with collections of many, which wait until no view is open.
    """

    __slots__ = ("flushed", "husks", "small", "unread", "withheld")

    def __init__(self) -> None:
        self.flushed: list[tuple[list[Bucket], Deadlines, Bindings, LeaseKeys]] = []
        self.husks: list[Any] = []
        self.unread: list[Chunk] = []
        self.small: deque[Change] = deque()
        self.withheld: deque[Change] = deque()

    def discard(self, value: Value) -> None:
        """Take charge of the parts of a collection that is gone, unless they are few."""
        if value.size > _FREED_AT_ONCE:
            self.husks += value.roots()

    def free_slice(
        self, dropped: list[Chunk], dropped_plain: list[Chunk], *, is_viewed: bool
    ) -> bool:
        """Free a bounded part.

        Dicts that a view still reads live on until it lets go of them. While it may still
        hold a large collection, letting go of that here would free nothing, and all of it
        would be freed at once later; of anything else it holds little, and under load much
        leaves the history while it is open.

        Args:
            dropped: Chunks that are out of the history, which are freed, too.
            dropped_plain: Such chunks without collections, which nobody has to look through.
            is_viewed: A view is open.

        Returns:
            True while there is more to free.
        """
        # Changes first: what one of them holds would count as held elsewhere.
        freed = self._free_changes(dropped, dropped_plain)
        if not is_viewed:
            freed = self._free_withheld(self._free_husks(freed))
        self._free_flushed(freed, is_viewed=is_viewed)
        more = self.flushed or self.unread or self.small or dropped or dropped_plain
        return bool(more or (not is_viewed and (self.husks or self.withheld)))

    def _free_changes(self, dropped: list[Chunk], dropped_plain: list[Chunk]) -> int:
        """Free changes that have left the history; return how much was freed."""
        freed = 0
        for chunks in (dropped_plain, self.unread):
            while chunks and freed < FREE_SLICE_KEYS:
                freed += len(chunks.pop())
        # Oldest first: what a change made is held by the one behind it.
        while dropped and freed < FREE_SLICE_KEYS:
            chunk = dropped.pop(0)
            freed += len(chunk)
            self._keep_collections(chunk)
            del chunk
        while self.small and freed < FREE_SLICE_KEYS:
            before = self.small.popleft()[3]
            assert before is not None
            freed += 1 + before[0].size
            del before
        return freed

    def _free_withheld(self, freed: int) -> int:
        """Free changes with large collections; return what was freed in all."""
        while self.withheld and freed < FREE_SLICE_KEYS:
            before = self.withheld.popleft()[3]
            assert before is not None
            self.discard(before[0])
            del before
            freed = self._free_husks(freed + 1)
        return freed

    def _keep_collections(self, chunk: Chunk) -> None:
        """Sort what is to be freed with care, or later, out of a chunk."""
        for change in chunk:
            before = change[3]
            if before is not None and before[0].__class__ is not bytes:
                is_large = before[0].size > _FREED_AT_ONCE
                (self.withheld if is_large else self.small).append(change)

    def _free_flushed(self, freed: int, *, is_viewed: bool) -> None:
        """Free what flushes left behind."""
        while self.flushed and freed < FREE_SLICE_KEYS:
            buckets, deadlines, bindings, lease_keys = self.flushed[-1]
            if buckets:
                bucket = buckets.pop()
                freed += 1 + len(bucket)
                collections = [e[0] for e in bucket.values() if e[0].__class__ is not bytes]
                for value in collections:
                    self.husks += value.roots()
                # Else these names would hold what is to be freed.
                value = None
                del bucket, collections
                if not is_viewed:
                    freed = self._free_husks(freed)
            elif deadlines:
                for _ in repeat(None, min(FREE_SLICE_DEADLINES, len(deadlines))):
                    deadlines.pop()
                break
            elif bindings:
                freed += 1 + len(bindings.pop())
            elif lease_keys:
                freed += free_keys(lease_keys, FREE_SLICE_KEYS)
            else:
                self.flushed.pop()

    def _free_husks(self, freed: int) -> int:
        """Free parts of values, branches before their children; return what was freed in all.

        A part that something else holds, another value or the history, is left to that.
        """
        husks = self.husks
        while husks and freed < FREE_SLICE_KEYS:
            part = husks.pop()
            if getrefcount(part) > _REFERENCES_OF_A_LOCAL:
                freed += 1
                continue
            children = getattr(part, "children", None)
            if children is None:
                freed += 1 + len(part)
            else:
                husks += children
                freed += len(children)
            del part, children
        return freed

"""What is gone from the store and not yet from memory, and is freed in slices.

A flush leaves all dicts of the store behind at once, and a value may have a million
elements: freed at once, either would hold up the node. So they are kept here, and
`free_slice` takes a bounded part of them apart at a time.

Invariant: a husk is freed only when nothing else holds it, and none while a view is open.

Pure. Owned by `keyspace`. Tests: tests/unit/kv/test_slice_costs.py.
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
    """What flushes and large values left behind.

    Attributes:
        flushed: What each flush replaced, which open views may still read.
        husks: Parts of large values that are gone.
        withheld: Changes with collections that left the history while a view was open.
    """

    __slots__ = ("flushed", "husks", "withheld")

    def __init__(self) -> None:
        self.flushed: list[tuple[list[Bucket], Deadlines, Bindings, LeaseKeys]] = []
        self.husks: list[Any] = []
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
        hold a collection, letting go of that here would free nothing; of strings it holds
        few, and under load many leave the history while it is open.

        Args:
            dropped: Chunks that are out of the history, which are freed, too.
            dropped_plain: Such chunks without collections, which nobody has to look through.
            is_viewed: A view is open.

        Returns:
            True while there is more to free.
        """
        freed = 0 if is_viewed else self._free_husks(0)
        while self.flushed and freed < FREE_SLICE_KEYS:
            buckets, deadlines, bindings, lease_keys = self.flushed[-1]
            if buckets:
                bucket = buckets.pop()
                freed += 1 + len(bucket)
                for entry in bucket.values():
                    if type(entry[0]) is not bytes:
                        self.husks += entry[0].roots()
                del bucket
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
        while dropped_plain and freed < FREE_SLICE_KEYS:
            freed += len(dropped_plain.pop())
        # Oldest first: what a change made is held by the one behind it.
        while dropped and freed < FREE_SLICE_KEYS:
            chunk = dropped.pop(0)
            freed += len(chunk)
            self.withheld += [
                change
                for change in chunk
                if change[3] is not None and change[3][0].__class__ is not bytes
            ]
            del chunk
        while self.withheld and freed < FREE_SLICE_KEYS and not is_viewed:
            before = self.withheld.popleft()[3]
            assert before is not None
            self.discard(before[0])
            del before
            freed = self._free_husks(freed + 1)
        return bool(self.flushed or dropped or dropped_plain) or (
            bool(self.husks or self.withheld) and not is_viewed
        )

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

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
from raftkv.kv.history import CHUNK_CHANGES, Change, Chunk
from raftkv.kv.leases import Bindings, LeaseKeys, free_keys

# Limit: dropping this many entries takes a millisecond or two, if no cache has them.
FREE_SLICE_KEYS: Final = 512
# What it costs to let go of an entry; of an element of a collection; of eight elements
# that something else holds, too.
_ENTRY: Final = 8
_ELEMENT: Final = 4
_EIGHT_HELD: Final = 1
# The same of an entry in the last bucket of a flush. Each arena of Python's allocator holds
# entries of every bucket, so that only these free it, and giving it back takes 0.1 ms.
_LAST_ENTRY: Final = 160
# For so many changes that wait to be freed a slice is longer by another one, up to a limit:
# what writes leave behind must not come faster than it goes, be it ten milliseconds beside
# a hundred of writing. What came at once, as by a flush, has time.
_BACKLOG_CHANGES: Final = 512
_SLICE_FACTOR_MAX: Final = 32
FREE_SLICE_DEADLINES: Final = 1024
# Limit: a value with more elements than this is freed by `free_slice`.
_FREED_AT_ONCE: Final = 64
# References to an object that a local variable alone holds, and to one that is in one
# collection besides, as `getrefcount` counts.
_REFERENCES_OF_A_LOCAL: Final = 2
_REFERENCES_OF_AN_ELEMENT: Final = 3


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

    __slots__ = ("_at_leisure", "_is_new", "flushed", "husks", "small", "unread", "withheld")

    def __init__(self) -> None:
        self.flushed: list[tuple[list[Bucket], Deadlines, Bindings, LeaseKeys]] = []
        self.husks: list[Any] = []
        self.unread: list[Chunk] = []
        self.small: deque[Change] = deque()
        self.withheld: deque[Change] = deque()
        self._at_leisure = 0
        self._is_new = False

    def take_time(self, changes: int) -> None:
        """Let so many changes that leave the history at once not hurry what follows.

        And nothing is freed right now: what makes them leave takes a slice's time itself. But
        a flush in every turn must not put off what the one before it left behind.
        """
        self._at_leisure += changes
        self._is_new = len(self.flushed) <= 1

    def leave_flushed(
        self, buckets: list[Bucket], deadlines: Deadlines, bindings: Bindings, lease_keys: LeaseKeys
    ) -> None:
        """Take charge of what a flush replaced, but for dicts in which there was nothing.

        Args:
            buckets: Of the store, which stay as they are: open views may read them.
            deadlines: Of its keys, to be taken apart.
            bindings: Of its leases, likewise.
            lease_keys: Likewise.
        """
        filled = [bucket for bucket in buckets if bucket]
        self.flushed.append((filled, deadlines, bindings, lease_keys))

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
        if self._is_new:
            self._is_new = False
            return True
        backlog = len(self.small) + (0 if is_viewed else len(self.withheld))
        backlog += CHUNK_CHANGES * (len(dropped) + len(dropped_plain))
        backlog = max(0, backlog - self._at_leisure)
        limit = FREE_SLICE_KEYS * _ENTRY * min(1 + backlog // _BACKLOG_CHANGES, _SLICE_FACTOR_MAX)
        # Half of what a slice can free: soon they count like all others.
        self._at_leisure = max(0, self._at_leisure - FREE_SLICE_KEYS // 2)
        # Changes first: what one of them holds would count as held elsewhere. What is behind
        # them gets a share of every slice all the same.
        freed = min(self._free_changes(dropped, dropped_plain, limit), limit * 2 // 3)
        if not is_viewed:
            freed = self._free_withheld(self._free_husks(freed, limit), limit)
        self._free_flushed(min(freed, limit * 5 // 6), limit, is_viewed=is_viewed)
        more = self.flushed or self.unread or self.small or dropped or dropped_plain
        return bool(more or (not is_viewed and (self.husks or self.withheld)))

    def _free_changes(self, dropped: list[Chunk], dropped_plain: list[Chunk], limit: int) -> int:
        """Free changes that have left the history; return how much was freed."""
        freed = 0
        while dropped_plain and freed < limit:
            freed += _ENTRY * len(dropped_plain.pop())
        # Oldest first: what a change made is held by the one behind it.
        for chunks in (self.unread, dropped):
            while chunks and freed < limit:
                chunk = chunks.pop(0)
                freed += _ENTRY * len(chunk)
                self._keep_collections(chunk)
                del chunk
        while self.small and freed < limit:
            before = self.small.popleft()[3]
            assert before is not None
            freed += _ENTRY + before[0].size
            del before
        return freed

    def _free_withheld(self, freed: int, limit: int) -> int:
        """Free changes with large collections; return what was freed in all."""
        while self.withheld and freed < limit:
            before = self.withheld.popleft()[3]
            assert before is not None
            self.discard(before[0])
            del before
            freed = self._free_husks(freed + _ENTRY, limit)
        return freed

    def _keep_collections(self, chunk: Chunk) -> None:
        """Sort what is to be freed with care, or later, out of a chunk."""
        for change in chunk:
            before = change[3]
            if before is not None and before[0].__class__ is not bytes:
                is_large = before[0].size > _FREED_AT_ONCE
                (self.withheld if is_large else self.small).append(change)

    def _free_flushed(self, freed: int, limit: int, *, is_viewed: bool) -> None:
        """Free what flushes left behind."""
        while self.flushed and freed < limit:
            buckets, deadlines, bindings, lease_keys = self.flushed[-1]
            if buckets:
                freed = self._free_entries(buckets, freed, limit)
                if not is_viewed:
                    freed = self._free_husks(freed, limit)
            elif deadlines:
                for _ in repeat(None, min(FREE_SLICE_DEADLINES, len(deadlines))):
                    deadlines.pop()
                break
            elif bindings:
                freed += _ENTRY * (1 + len(bindings.pop()))
            elif lease_keys:
                freed += _ENTRY * free_keys(lease_keys, FREE_SLICE_KEYS)
            else:
                self.flushed.pop()

    def _free_entries(self, buckets: list[Bucket], freed: int, limit: int) -> int:
        """Free entries of the last of these buckets; return what was freed in all.

        A bucket that a view still reads is left to that.
        """
        bucket = buckets[-1]
        is_read = getrefcount(bucket) > _REFERENCES_OF_AN_ELEMENT
        cost, count = _ENTRY, max(1, (limit - freed) // _ENTRY)
        if len(buckets) == 1 and not is_read:
            cost, count = _LAST_ENTRY, min(count, FREE_SLICE_KEYS * _ENTRY // _LAST_ENTRY)
        if is_read or len(bucket) <= count:
            buckets.pop()
            entries = list(bucket.values())
        else:
            entries = [bucket.popitem()[1] for _ in repeat(None, count)]
        for entry in entries:
            if entry[0].__class__ is not bytes:
                self.husks += entry[0].roots()
        return freed + cost * (1 + len(entries))

    def _free_husks(self, freed: int, limit: int) -> int:
        """Free parts of values, branches before their children; return what was freed in all.

        A part that something else holds, another value or the history, is left to that.
        """
        husks = self.husks
        while husks and freed < limit:
            part = husks.pop()
            if getrefcount(part) > _REFERENCES_OF_A_LOCAL:
                freed += 1
                continue
            children = getattr(part, "children", None)
            if children is None:
                freed += _ENTRY + _cost_of(part)
            else:
                husks += children
                freed += _ENTRY
            del part, children
        return freed


def _cost_of(leaf: Any) -> int:
    """Guess from one element whether the others are held by another version of the value."""
    for element in leaf:
        if getrefcount(element) > _REFERENCES_OF_AN_ELEMENT:
            return len(leaf) // 8 * _EIGHT_HELD
        break
    return len(leaf) * _ELEMENT

"""The keys of the store in ascending order, for reads of ranges.

Each bucket's keys as a sorted list, made in slices when a range is first read and kept
for the next one. Writes do not look after it: whoever reads lets the history tell which
keys came and went since. An order that the history cannot follow any more is made anew;
`Keyspace.free_slice` gives back its memory.

While it is made, it is among the open views of the keyspace, which tell it what changes
in the buckets that it has been through.

Pure. Called by `ranges`. Tests: tests/unit/kv/test_ranges.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator
from typing import Final

from raftkv.kv.keyspace import BUCKET_COUNT, Bucket, Entry, Keyspace, View, bucket_of
from raftkv.kv.revisions import check_revision

# Limit: keys sorted in one slice, to the end of a bucket; about a millisecond.
SORTED_SLICE_KEYS: Final = 2048
# Limit: keys of which one slice looks whether they came or went.
FOLLOWED_SLICE_KEYS: Final = 2048


def follow(keyspace: Keyspace, spare: int = 0) -> Generator[None, None, list[list[bytes]]]:
    """Bring the order up to the present revision.

    Args:
        keyspace: Of the store.
        spare: Changes to follow in a slice beyond its limit.

    Returns:
        The sorted keys of each bucket, dead ones included; right until the caller yields.

    Raises:
        CommandError: This store was replaced.
    """
    history = keyspace.history
    newest = keyspace.revision
    while True:
        check_revision(keyspace, keyspace.revision)
        order = keyspace.key_order
        if order is None or order[0] < history.compacted:
            keyspace.key_order = None
            keyspace.key_order = yield from _made(keyspace)
            continue
        revision, lists = order
        # And what came since the last slice, twice: else writes could outrun this for ever.
        limit = FOLLOWED_SLICE_KEYS + spare + 2 * (keyspace.revision - newest)
        newest = keyspace.revision
        changes = history.stretch(revision, limit)
        for _, _, key, before, after in changes:
            if before is None or after is None:
                _settle(lists, key, is_there=after is not None)
        if len(changes) < limit:
            keyspace.key_order = (keyspace.revision, lists)
            return lists
        keyspace.key_order = (changes[-1][0], lists)
        yield


def _settle(lists: list[list[bytes]], key: bytes, *, is_there: bool) -> None:
    """Put a key into the list of its bucket or take it out, unless that is so already."""
    keys = lists[bucket_of(key)]
    position = bisect_left(keys, key)
    if (position < len(keys) and keys[position] == key) == is_there:
        return
    if is_there:
        keys.insert(position, key)
    else:
        del keys[position]


class _SortingView(View):
    """Reads the buckets as they are, and is told what changes behind it."""

    __slots__ = ("touched",)

    def __init__(self, keyspace: Keyspace) -> None:
        super().__init__(keyspace)
        self.touched: list[bytes] = []

    def note(self, buckets: list[Bucket], number: int, key: bytes, before: Entry | None) -> None:
        """Remember a key of which the caller has to look again whether it is there."""
        if number < self._next_bucket and buckets is self._buckets:
            self.touched.append(key)

    def frontier(self, buckets: list[Bucket]) -> int:
        """See `View`: what is behind it counts, which is at the beginning."""
        return 0 if buckets is self._buckets else BUCKET_COUNT

    def take_sorted(self) -> list[bytes]:
        """Return the keys of the next bucket as they are now."""
        keys = sorted(self._buckets[self._next_bucket])
        self._next_bucket += 1
        return keys


def _made(keyspace: Keyspace) -> Generator[None, None, tuple[int, list[list[bytes]]] | None]:
    """Make the order anew.

    Returns:
        It and its revision; None if a flush came between.
    """
    buckets = keyspace.buckets
    view = _SortingView(keyspace)
    keyspace.views = [*keyspace.views, view]
    try:
        lists: list[list[bytes]] = []
        sorted_count = 0
        while len(lists) < BUCKET_COUNT:
            lists.append(view.take_sorted())
            sorted_count += len(lists[-1])
            if sorted_count >= SORTED_SLICE_KEYS:
                sorted_count = 0
                yield
        left = len(view.touched)
        while True:
            limit = FOLLOWED_SLICE_KEYS + 2 * (len(view.touched) - left)
            touched = view.touched[:limit]
            del view.touched[:limit]
            left = len(view.touched)
            for key in touched:
                _settle(lists, key, is_there=key in buckets[bucket_of(key)])
            if buckets is not keyspace.buckets:
                return None
            if not view.touched:
                return keyspace.revision, lists
            yield
    finally:
        view.close()

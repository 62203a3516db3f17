"""KV RANGE: keys in ascending order, as of one revision, a page at a time.

A range is read at a revision: the present one, or an earlier one that the history still
reaches. What has changed since is taken back in what is read, so that neither the slices
of one page nor the pages of one range have to stop the writes between them.

Same rules as `strings`: the docstring of a handler is the layout of its command behind
the opcode. Called by `store` only. Tests: tests/unit/kv/test_ranges.py.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import Final, TypeAlias

from raftkv.kv.commands import Command, Opcode, RangeReadFlag
from raftkv.kv.entries import Entry, value_bytes
from raftkv.kv.history import Chunk
from raftkv.kv.key_order import follow
from raftkv.kv.keyspace import BUCKET_COUNT, Keyspace
from raftkv.kv.revisions import check_revision, shown
from raftkv.kv.scan import SlicedHandler
from raftkv.types import Pairs

# Limit: keys on one page, whatever LIMIT says.
RANGE_KEYS_MAX: Final = 10_000
# Limit: bytes of keys and values after which a page ends.
RANGE_BYTES_MAX: Final = 1024 * 1024
# Limit: keys looked at in one slice; about two milliseconds, half of it to begin the merge.
SLICE_KEYS: Final = 384
# Limit: changes taken back in one slice.
SLICE_CHANGES: Final = 1024
# Limit: dead keys that a count looks at in one piece; where more wait for their removal,
# it walks the range.
DEAD_KEYS_MAX: Final = 4096

_Found: TypeAlias = list[tuple[bytes, Entry]]


class _Past:
    """What the store had at a revision where it has something else by now.

    Attributes:
        revision: The one in question.
        seen: The revision up to which changes are taken back.
        entries: What each key had that has changed since.
        gone: Sorted lists of those keys that had something; a key may be in several.
        count: How many more keys of the range there were.
        now_ms: Log time at which it is read; 0 at an earlier revision: what was, was.
        lost: Keys that are dead for their lease.
    """

    def __init__(self, keyspace: Keyspace, wanted: int | None, start: bytes, end: bytes) -> None:
        revision = keyspace.revision if wanted is None else wanted
        self._keyspace = keyspace
        self.start = start
        self.end = end
        self.revision = revision
        self.seen = revision
        self.entries: dict[bytes, Entry | None] = {}
        self.gone: list[list[bytes]] = []
        self.count = 0
        # At present a key that waits for its removal is dead to everybody.
        self.now_ms = keyspace.log_time_ms if wanted is None else 0
        self.lost = keyspace.lost_keys() if wanted is None else frozenset()

    def has(self, key: bytes, entry: Entry) -> bool:
        """Whether a key that has, or had, this entry is not dead."""
        return not 0 < entry[1] <= self.now_ms and key not in self.lost

    def follow(self, spare: int) -> Generator[None, None, None]:
        """Take back what has changed up to now; nothing is missing until the caller yields.

        Args:
            spare: Changes to take back in a slice beyond its limit.

        Raises:
            CommandError: The history does not reach the revision any more.
        """
        keyspace = self._keyspace
        newest = keyspace.revision
        while True:
            check_revision(keyspace, self.revision)
            # And what came since the last slice, twice: else writes could outrun this for ever.
            limit = SLICE_CHANGES + spare + 2 * (keyspace.revision - newest)
            newest = keyspace.revision
            changes = keyspace.history.stretch(self.seen, limit)
            self._take_back(changes)
            if len(changes) < limit:
                self.seen = keyspace.revision
                return
            self.seen = changes[-1][0]
            yield

    def _take_back(self, changes: Chunk) -> None:
        start, end, entries = self.start, self.end, self.entries
        gone: list[bytes] = []
        for _, _, key, before, after in changes:
            if key < start or (end and key >= end):
                continue
            self.count += (before is not None) - (after is not None)
            if key not in entries:
                entries[key] = before
                if before is not None:
                    gone.append(key)
        if gone:
            self.gone.append(sorted(gone))


def key_range(keyspace: Keyspace, command: Command) -> Generator[None, None, object]:
    """(start, end or empty, limit, revision or nil, RangeReadFlag bits)

    From `start` on, up to but without `end`, or to the last key where that is empty.

    Returns:
        The number of keys with COUNT; else a map of the revision, 1 or 0 for whether there
        is more, the key to go on from or nil, and the items: keys with KEYSONLY, else
        arrays of key, value, create revision, modify revision and version.
    """
    _, start, end, limit, wanted, flags = command
    yield
    if wanted is not None:
        check_revision(keyspace, wanted)
    yield from follow(keyspace)
    past = _Past(keyspace, wanted, start, end)
    if flags & RangeReadFlag.COUNT:
        return (yield from _count(keyspace, past))
    return (yield from _page(keyspace, past, min(limit, RANGE_KEYS_MAX), flags))


def _page(keyspace: Keyspace, past: _Past, limit: int, flags: int) -> Generator[None, None, object]:
    """Read one page."""
    items: list[object] = []
    size = 0
    position: bytes | None = past.start
    following: bytes | None = None
    while position is not None and following is None:
        lists = yield from _lists(keyspace, past)
        # One more than fits tells where the next page begins.
        room = min(limit - len(items) + 1, SLICE_KEYS)
        found, position = _walk(keyspace, past, lists, position, room)
        for key, entry in found:
            if len(items) == limit or size >= RANGE_BYTES_MAX:
                following = key
                break
            items.append(key if flags & RangeReadFlag.KEYS_ONLY else _item(key, entry))
            size += len(key) + value_bytes(entry[0])
        yield
    return Pairs(
        (
            *(b"revision", past.revision),
            *(b"more", int(following is not None)),
            *(b"next", following),
            *(b"items", items),
        )
    )


def _item(key: bytes, entry: Entry) -> list[object]:
    value, _, create_revision, modify_revision, version = entry
    return [key, shown(value), create_revision, modify_revision, version]


def _count(keyspace: Keyspace, past: _Past) -> Generator[None, None, int]:
    """Count the keys of a range, from the order where that is all it takes."""
    lists = yield from _lists(keyspace, past)
    dead = keyspace.deadlines.bisect_left((past.now_ms + 1, b"")) if past.now_ms else 0
    start, end = past.start, past.end
    if end and end <= start:
        return 0
    if dead <= DEAD_KEYS_MAX and not past.lost:
        count = past.count
        for keys in lists[:BUCKET_COUNT]:
            count += (bisect_left(keys, end) if end else len(keys)) - bisect_left(keys, start)
        due = islice(keyspace.deadlines, dead)
        return count - sum(key >= start and (not end or key < end) for _, key in due)
    count = 0
    position: bytes | None = start
    while position is not None:
        found, position = _walk(keyspace, past, lists, position, SLICE_KEYS)
        count += len(found)
        yield
        lists = yield from _lists(keyspace, past)
    return count


def _lists(keyspace: Keyspace, past: _Past) -> Generator[None, None, list[list[bytes]]]:
    """Bring the order and the past to the present; both are right until the caller yields.

    Returns:
        The sorted keys of each bucket, and behind them those of the past.
    """
    spare = 0
    while True:
        newest = keyspace.revision
        lists = yield from follow(keyspace, spare)
        yield from past.follow(spare)
        if keyspace.key_order is not None and keyspace.key_order[0] == keyspace.revision:
            return [*lists, *past.gone]
        # Each went on while the other was behind: next time both can, in one slice.
        spare = 2 * (keyspace.revision - newest)


def _walk(
    keyspace: Keyspace,
    past: _Past,
    lists: list[list[bytes]],
    start: bytes,
    count: int,
) -> tuple[_Found, bytes | None]:
    """Merge the lists from a key on.

    Args:
        keyspace: Of the store.
        past: What is to be taken back.
        lists: Sorted; together they have all keys of the range.
        start: First key.
        count: Keys to look at.

    Returns:
        Keys that there were, in order; and the next one to look at, if there is one.
    """
    found: _Found = []
    keys = _merged(lists, start, past.end)
    entries = past.entries
    for key in islice(keys, count):
        entry = entries[key] if key in entries else keyspace.held(key)
        if entry is not None and past.has(key, entry):
            found.append((key, entry))
    return found, next(keys, None)


def _merged(lists: list[list[bytes]], start: bytes, end: bytes) -> Iterator[bytes]:
    """Yield the keys of sorted lists in order, each once; from `start` on, up to `end`."""
    heap = []
    for number, keys in enumerate(lists):
        position = bisect_left(keys, start)
        if position < len(keys):
            heap.append((keys[position], number, position))
    heapify(heap)
    last: bytes | None = None
    while heap:
        key, number, position = heap[0]
        if end and key >= end:
            return
        keys = lists[number]
        position += 1
        if position < len(keys):
            heapreplace(heap, (keys[position], number, position))
        else:
            heappop(heap)
        if key != last:
            last = key
            yield key


SLICED_HANDLERS: Final[dict[Opcode, SlicedHandler]] = {Opcode.KV_RANGE: key_range}

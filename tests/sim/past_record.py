"""What every key had at every revision, noted when the first node has applied an entry.

Contents are copied at that moment, so that nothing which becomes of the entries of a
node later changes what is known. That all nodes agree is judged elsewhere
(`tests.sim.histories`); this is what clients of any of them are held to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from raftkv.kv.entries import Entry
from raftkv.kv.generic import type_name
from raftkv.kv.store import KvStore

# Keys that are told as those that have changed last.
RECENT_KEYS = 40


class Kept(NamedTuple):
    """What a key had; collections as the list of all that is in them, in order."""

    value: bytes | list[Any]
    type_name: bytes
    deadline_ms: int
    create_revision: int
    modify_revision: int
    version: int


class _Extent(NamedTuple):
    """What could be read behind an entry: revisions from `compacted` to `newest`."""

    newest: int
    compacted: int


class PastRecord:
    """Keys by revision, and revisions by index.

    Attributes:
        recent: Keys that have changed last, the last one at the end.
    """

    def __init__(self) -> None:
        self.recent: deque[bytes] = deque(maxlen=RECENT_KEYS)
        self._keys: list[bytes] = []
        # Of each key: revisions at which it changed, and what it had then.
        self._changes: dict[bytes, tuple[list[int], list[Kept | None]]] = {}
        self._changes_to = 0
        self._indexes: list[int] = [0]
        self._extents: list[_Extent] = [_Extent(0, 0)]

    def note(self, store: KvStore) -> None:
        """Take what an entry has changed that a node has just applied."""
        if store.applied_index <= self._indexes[-1]:
            return
        history, after = store.history, self._changes_to
        if after < history.revision:
            if history.compacted > after:
                # A flush: what was before it no node can tell any more.
                after = history.compacted
                self._begin_anew(store)
            for change in history.stretch(after, history.change_count + 1):
                self._add(change[0], change[2], change[4])
            self._changes_to = history.revision
        self._indexes.append(store.applied_index)
        self._extents.append(_Extent(store.revision, history.compacted))

    def _begin_anew(self, store: KvStore) -> None:
        """Take all keys as they were at the oldest revision that can be read."""
        revision = store.history.compacted
        held: dict[bytes, Entry | None] = dict.fromkeys(self._keys)
        for bucket in store._keyspace.buckets:
            held.update(bucket)
        for change in reversed(store.history.stretch(revision, store.history.change_count + 1)):
            held[change[2]] = change[3]
        for key, entry in held.items():
            self._add(revision, key, entry)

    def _add(self, revision: int, key: bytes, entry: Entry | None) -> None:
        if key not in self._changes:
            insort(self._keys, key)
            self._changes[key] = ([], [])
        revisions, entries = self._changes[key]
        revisions.append(revision)
        entries.append(None if entry is None else _kept(entry))
        self.recent.append(key)

    # ------------------------------------------------------------------ asking

    def at(self, key: bytes, revision: int) -> Kept | None:
        """Return what a key had behind a revision."""
        if key not in self._changes:
            return None
        revisions, entries = self._changes[key]
        position = bisect_right(revisions, revision) - 1
        return entries[position] if position >= 0 else None

    def between(self, start: bytes, end: bytes, revision: int) -> Iterator[tuple[bytes, Kept]]:
        """Yield the keys from `start` on, without `end`, that there were; in order."""
        for position in range(bisect_left(self._keys, start), len(self._keys)):
            key = self._keys[position]
            if end and key >= end:
                return
            kept = self.at(key, revision)
            if kept is not None:
                yield key, kept

    def extent(self, index: int) -> tuple[int, int]:
        """Return the newest and the oldest revision of a store that has applied so much."""
        return self._extents[bisect_right(self._indexes, index) - 1]

    def index_of(self, revision: int) -> int | None:
        """Return the first entry behind which there was this revision, if there was one."""
        position = bisect_left(self._extents, (revision, 0))
        return self._indexes[position] if position < len(self._indexes) else None


def _kept(entry: Entry) -> Kept:
    value, deadline_ms, create_revision, modify_revision, version = entry
    content = value if type(value) is bytes else [one for all_ in value.elements() for one in all_]
    name = type_name(value).encode()
    return Kept(content, name, deadline_ms, create_revision, modify_revision, version)

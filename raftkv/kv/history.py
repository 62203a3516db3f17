"""The last changes of the store, by revision: what watches and reads of the past look at.

A change holds the entry before and the entry after, which never change themselves, so
that it costs a tuple. Changes are kept in the order of their revisions, in sealed chunks;
freezing the history for an image copies the list of chunks.

The history is replicated state. What is in it, and from which revision on, follows from
the log alone: the leader has old revisions dropped by a command of the log (`compact`),
and `enforce` keeps every node within a multiple of the bounds which that command named,
whatever the leader does. Where chunks begin and end shows nowhere.

Invariants: revisions do not fall from one change to the next; within one revision a key
has one change; every change is above `compacted`; the entry after a change is the one
before the next change of its key, or the one the store has now.

Owner: the keyspace, which feeds it (`Keyspace.record`, and `strings.set_run` for plain
SETs). Pure. Docs: ADR 24. Tests: tests/unit/kv/test_history.py.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from raftkv.kv.entries import Entry, value_bytes

# Changes after which a chunk is sealed. It may have nearly twice as many, by those of a
# run of SETs, which ends after as many.
CHUNK_CHANGES: Final = 512
# What a change counts for besides the bytes of its key and of the value before it: about
# the memory of the tuples and numbers in it.
CHANGE_BYTES: Final = 160

# Bounds of a history to which no leader has told its own.
REVISIONS_KEPT: Final = 10_000
BYTES_KEPT: Final = 64 * 1024 * 1024
# Part of the log format, as all nodes have to drop the same: a history that outgrows its
# bounds by this factor, and by these revisions beyond it, is cut back to them.
HARD_BOUND_FACTOR: Final = 4
HARD_BOUND_REVISIONS: Final = 4096


class ChangeKind(enum.IntEnum):
    """What happened to a key; part of the image format."""

    PUT = 0
    DELETE = 1
    EXPIRE = 2


# (revision, ChangeKind, key, entry before or None, entry after or None)
Change: TypeAlias = tuple[int, int, bytes, Entry | None, Entry | None]
Chunk: TypeAlias = list[Change]

PUT: Final = int(ChangeKind.PUT)
DELETE: Final = int(ChangeKind.DELETE)
EXPIRE: Final = int(ChangeKind.EXPIRE)

revision_of: Final = itemgetter(0)


class Event(NamedTuple):
    """One change of one key, as watchers get it.

    Attributes:
        revision: Of the command, transaction or expiry slice that made it.
        position: Place among the events of its revision, from 1.
        total: How many events its revision has.
        kind: `ChangeKind.PUT`, also of a key whose deadline changed; DELETE; or EXPIRE.
        key: Which has no other event of this revision.
        entry: What the key has after it; None if it is gone.
        previous: What it had before; None if it was not there.
    """

    revision: int
    position: int
    total: int
    kind: int
    key: bytes
    entry: Entry | None
    previous: Entry | None


class CompactedError(Exception):
    """A revision was asked for that is no longer held.

    Attributes:
        oldest: The oldest one at which the store can still be read; events are held of
            those above it.
    """

    def __init__(self, oldest: int) -> None:
        super().__init__(f"revisions below {oldest} are compacted")
        self.oldest = oldest


def change_bytes(change: Change) -> int:
    """Return what a change counts for in the bytes of a history."""
    before = change[3]
    if before is None:
        return CHANGE_BYTES + len(change[2])
    value = before[0]
    size = len(value) if value.__class__ is bytes else value_bytes(value)
    return CHANGE_BYTES + len(change[2]) + size


def _last_revision(chunk: Chunk) -> int:
    return chunk[-1][0]


class History:
    """Changes in the order of their revisions.

    Attributes:
        compacted: Changes at or below this revision are gone.
        revision: Newest revision that is in it, also if nothing came of that one.
        revisions_kept: Newest revisions that are kept, as the last leader said.
        bytes_kept: Bytes that are kept, as the last leader said.
        change_count: Number of changes held.
        byte_count: What they count for; see `change_bytes`.
        recent: The chunk that is being filled; a run of SETs appends to it by itself,
            and then calls `extended`.
        dropped: Chunks that are out of the history; the keyspace frees them in slices.
        dropped_plain: Such chunks in which no entry before a change is a collection.
    """

    __slots__ = (
        "_chunk_bytes",
        "_chunk_is_plain",
        "_chunks",
        "_recent_bytes",
        "_recent_is_plain",
        "byte_count",
        "bytes_kept",
        "change_count",
        "compacted",
        "dropped",
        "dropped_plain",
        "recent",
        "revision",
        "revisions_kept",
    )

    def __init__(self, revision: int = 0) -> None:
        """Begin without changes behind `revision`."""
        self.compacted = self.revision = revision
        self.revisions_kept = REVISIONS_KEPT
        self.bytes_kept = BYTES_KEPT
        self.change_count = 0
        self.byte_count = 0
        self.recent: Chunk = []
        self.dropped: list[Chunk] = []
        self.dropped_plain: list[Chunk] = []
        # Sealed, oldest first, none empty; what each counts for; and whether it is plain.
        self._chunks: list[Chunk] = []
        self._chunk_bytes: list[int] = []
        self._chunk_is_plain: list[bool] = []
        self._recent_bytes = 0
        self._recent_is_plain = True

    @classmethod
    def restored(
        cls, compacted: int, revision: int, chunks: list[Chunk], sizes: list[int]
    ) -> History:
        """Return the history that an image stands for; called by `HistoryLoader`.

        Args:
            compacted: See the attribute.
            revision: See the attribute.
            chunks: All changes in order; none empty.
            sizes: What each chunk counts for.
        """
        history = cls(compacted)
        history.revision = revision
        history._chunks = chunks
        history._chunk_bytes = sizes
        history._chunk_is_plain = [False] * len(chunks)  # not known, and soon gone
        history.change_count = sum(map(len, chunks))
        history.byte_count = sum(sizes)
        return history

    # ------------------------------------------------------------ recording

    def add(self, change: Change) -> None:
        """Take the next change; none of its key may have the same revision."""
        size = change_bytes(change)
        before = change[3]
        if before is not None and before[0].__class__ is not bytes:
            self._recent_is_plain = False
        recent = self.recent
        recent.append(change)
        self.revision = change[0]
        self.change_count += 1
        self.byte_count += size
        self._recent_bytes += size
        if len(recent) >= CHUNK_CHANGES:
            self._seal()

    def extended(self, count: int, size: int, revision: int) -> None:
        """Count what was appended to `recent`, strings only.

        Args:
            count: Number of changes.
            size: What they count for.
            revision: Of the last.
        """
        self.revision = revision
        self.change_count += count
        self.byte_count += size
        self._recent_bytes += size
        if len(self.recent) >= CHUNK_CHANGES:
            self._seal()

    def _seal(self) -> None:
        """Close the chunk that is being filled."""
        if self.recent:
            self._chunks.append(self.recent)
            self._chunk_bytes.append(self._recent_bytes)
            self._chunk_is_plain.append(self._recent_is_plain)
            self.recent = []
            self._recent_bytes = 0
            self._recent_is_plain = True

    # ------------------------------------------------------------ reading

    def check(self, revision: int) -> None:
        """Check that the store can be read as of `revision`, and events be had behind it.

        Raises:
            CompactedError: It is too old.
        """
        if revision < self.compacted:
            raise CompactedError(self.compacted)

    def events(self, after_revision: int, limit: int) -> list[Event]:
        """Return the oldest events behind a revision.

        Whole revisions only, and at least one if there is one, so that the last may take
        the list beyond `limit`.

        Args:
            after_revision: Up to which the caller has seen all.
            limit: Number of events, at least 1, from which on no revision is added.

        Raises:
            CompactedError: Events behind that revision are gone.
        """
        changes = self.stretch(after_revision, limit)
        return [
            event for _, of_one in groupby(changes, revision_of) for event in _events_of(of_one)
        ]

    def stretch(self, after_revision: int, limit: int) -> Chunk:
        """Return the oldest changes behind a revision: as `events`, without their places.

        Fewer than `limit` are all that there are.

        Raises:
            CompactedError: Changes behind that revision are gone.
        """
        self.check(after_revision)
        found: Chunk = []
        for chunk in self._chunks_after(after_revision):
            first = 0 if found else bisect_right(chunk, after_revision, key=revision_of)
            room = limit - len(found)
            if len(chunk) - first < room:
                found += chunk[first:] if first else chunk
                continue
            # To the end of the revision that reaches the limit, perhaps in later chunks.
            last = chunk[first + room - 1][0] if room > 0 else found[-1][0]
            end = bisect_right(chunk, last, key=revision_of)
            found += chunk[first:end]
            if end < len(chunk):
                break
        return found

    def _chunks_after(self, revision: int) -> Iterator[Chunk]:
        """Yield the chunks that have changes behind a revision."""
        first = bisect_right(self._chunks, revision, key=_last_revision)
        for position in range(first, len(self._chunks)):
            yield self._chunks[position]
        yield self.recent

    def freeze(self) -> list[Chunk]:
        """Return all changes as they are now, oldest first, in chunks nobody changes."""
        self._seal()
        return self._chunks.copy()

    # ------------------------------------------------------------ compaction

    def bound(self, revisions_kept: int, bytes_kept: int) -> None:
        """Take the bounds of the leader."""
        self.revisions_kept = revisions_kept
        self.bytes_kept = bytes_kept

    def target(self, revisions_kept: int, bytes_kept: int) -> int:
        """Return the revision up to which to compact, so that both bounds are kept."""
        target = max(self.compacted, self.revision - revisions_kept)
        excess = self.byte_count - bytes_kept
        sizes = [*self._chunk_bytes, self._recent_bytes]
        for chunk, size in zip([*self._chunks, self.recent], sizes, strict=True):
            if excess <= 0:
                break
            if size <= excess:
                excess -= size
                target = max(target, _last_revision(chunk)) if chunk else target
                continue
            for change in chunk:
                if excess <= 0:
                    break
                excess -= change_bytes(change)
                target = max(target, change[0])
        return target

    def enforce(self) -> None:
        """Cut back to the bounds what has outgrown them far, whatever the leader does."""
        if (
            self.revision - self.compacted
            > HARD_BOUND_FACTOR * self.revisions_kept + HARD_BOUND_REVISIONS
            or self.byte_count > HARD_BOUND_FACTOR * self.bytes_kept
        ):
            self.compact(self.target(self.revisions_kept, self.bytes_kept))

    def compact(self, revision: int) -> None:
        """Drop the changes up to `revision`, that included; harmless when repeated."""
        revision = min(revision, self.revision)
        if revision <= self.compacted:
            return
        self.compacted = revision
        self._seal()
        whole = bisect_right(self._chunks, revision, key=_last_revision)
        for chunk, size, is_plain in zip(
            self._chunks[:whole],
            self._chunk_bytes[:whole],
            self._chunk_is_plain[:whole],
            strict=True,
        ):
            self._forget(chunk, size, is_plain=is_plain)
        del self._chunks[:whole], self._chunk_bytes[:whole], self._chunk_is_plain[:whole]
        if self._chunks and self._chunks[0][0][0] <= revision:
            # A new list: an image may go on reading this one.
            chunk = self._chunks[0]
            end = bisect_right(chunk, revision, key=revision_of)
            size = sum(map(change_bytes, chunk[:end]))
            self._forget(chunk[:end], size, is_plain=self._chunk_is_plain[0])
            self._chunks[0] = chunk[end:]
            self._chunk_bytes[0] -= size

    def _forget(self, chunk: Chunk, size: int, *, is_plain: bool) -> None:
        (self.dropped_plain if is_plain else self.dropped).append(chunk)
        self.change_count -= len(chunk)
        self.byte_count -= size

    def cut(self, revision: int) -> None:
        """Drop everything, as `revision` has changed more than a history can tell."""
        self.revision = revision
        self.compact(revision)


def _events_of(of_one: Iterable[Change]) -> Iterator[Event]:
    """Number the changes of one revision."""
    changes = list(of_one)
    total = len(changes)
    for position, (revision, kind, key, before, after) in enumerate(changes, 1):
        yield Event(revision, position, total, kind, key, after, before)

"""The history pieces of an image back to a history.

An image has only the entry before each change, newest change first: the entry after it
is the one before the next change of its key, or the one in the store. So whoever reads
needs the keys first, and gets every entry once.

Believes nothing: order of revisions, kinds, and whether a key was there are checked.
Pure. Called by `image_loader`. Tests: tests/unit/kv/test_image.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from raftkv.errors import ProtocolError
from raftkv.kv.entries import Entry
from raftkv.kv.families import COLLECTIONS
from raftkv.kv.history import CHUNK_CHANGES, PUT, ChangeKind, Chunk, History, change_bytes
from raftkv.kv.image import CONTINUED, TYPE_NOTHING, TYPE_STRING, HistoryMeta
from raftkv.kv.values import Collection

_RECORDS: Final = msgspec.msgpack.Decoder(list[tuple[int, int, bytes, int, msgspec.Raw]])
_NOTHING: Final = msgspec.msgpack.Decoder(None)
_STRING: Final = msgspec.msgpack.Decoder(tuple[bytes, int, int, int, int])
_COLLECTION: Final = msgspec.msgpack.Decoder(tuple[tuple[int, list[Any]], int, int, int, int])
_PART: Final = msgspec.msgpack.Decoder(list[Any])
_REVISION_MAX: Final = 2**64
_KINDS: Final = frozenset(map(int, ChangeKind))


class HistoryLoader:
    """Builds one history, from its newest change to its oldest."""

    __slots__ = (
        "_chunks",
        "_find",
        "_later",
        "_oldest",
        "_recent",
        "_sizes",
        "_unfinished",
        "started",
    )

    def __init__(self, find: Callable[[bytes], Entry | None]) -> None:
        """Begin with none.

        Args:
            find: Returns what the store has at a key; asked only once all keys are loaded.
        """
        self._find = find
        # What each key met so far had before its oldest change that is known.
        self._later: dict[bytes, Entry | None] = {}
        # Newest first; each of them is in order.
        self._chunks: list[Chunk] = []
        self._sizes: list[int] = []
        # Newest first.
        self._recent: Chunk = []
        self._oldest = _REVISION_MAX
        # A collection of which parts are missing: the change without entries, type code,
        # size, and the entry, whose value grows.
        self._unfinished: tuple[tuple[int, int, bytes], int, int, tuple[Any, ...]] | None = None
        self.started = False

    def take(self, body: memoryview) -> None:
        """Use one whole piece.

        Raises:
            ProtocolError: It cannot be the next one.
        """
        self.started = True
        for revision, kind, key, type_code, content in _RECORDS.decode(body):
            change = (revision, kind, key)
            if self._unfinished is not None:
                if (change, type_code - CONTINUED) != self._unfinished[:2]:
                    raise ProtocolError("a collection of the history ends too early")
                self._extend(_PART.decode(content))
            elif type_code == TYPE_NOTHING:
                _NOTHING.decode(content)
                self._add(change, None)
            elif type_code == TYPE_STRING:
                self._add(change, _STRING.decode(content))
            elif type_code in COLLECTIONS:
                (size, part), *rest = _COLLECTION.decode(content)
                entry = (COLLECTIONS[type_code].empty(), *rest)
                self._unfinished = (change, type_code, size, entry)
                self._extend(part)
            else:
                raise ProtocolError(f"type {type_code} is not known to this version, or lost")

    def _extend(self, part: list[Any]) -> None:
        """Add a part to the unfinished collection; take its change once it is whole."""
        assert self._unfinished is not None
        change, type_code, size, (value, *rest) = self._unfinished
        value = value.extended(part)
        if not part or value.size > size:
            raise ProtocolError("a collection of the history has another size than it says")
        if value.size == size:
            self._unfinished = None
            self._add(change, _entry(value, rest))
        else:
            self._unfinished = (change, type_code, size, (value, *rest))

    def _add(self, change: tuple[int, int, bytes], before: Entry | None) -> None:
        revision, kind, key = change
        if not 0 < revision <= self._oldest:
            raise ProtocolError("the changes of the history are out of order")
        after = self._later[key] if key in self._later else self._find(key)
        if kind not in _KINDS or (kind == PUT) != (after is not None):
            raise ProtocolError("a change of the history does not fit what came after it")
        if after[3] != revision if after is not None else before is None:
            raise ProtocolError("a change of the history does not fit what came after it")
        self._oldest = revision
        self._later[key] = before
        self._recent.append((revision, kind, key, before, after))
        if len(self._recent) == CHUNK_CHANGES:
            self._seal()

    def _seal(self) -> None:
        self._recent.reverse()
        self._chunks.append(self._recent)
        self._sizes.append(sum(map(change_bytes, self._recent)))
        self._recent = []

    def finish(self, meta: HistoryMeta, revision: int) -> History:
        """Return the history; the loader is of no more use.

        Args:
            meta: What the image says about it.
            revision: Of the store.

        Raises:
            ProtocolError: It is not complete, or does not end with the store.
        """
        if self._recent:
            self._seal()
        chunks, sizes = self._chunks[::-1], self._sizes[::-1]
        if self._unfinished is not None or sum(map(len, chunks)) != meta.change_count:
            raise ProtocolError("the history has another number of changes than it says")
        first, last = (chunks[0][0][0], chunks[-1][-1][0]) if chunks else (revision + 1, revision)
        if not meta.compacted < first or last > revision or meta.compacted > revision:
            raise ProtocolError("the history has other revisions than it says")
        if min(meta.revisions_kept, meta.bytes_kept, meta.byte_count) < 0:
            raise ProtocolError("the history has bounds that none has")
        history = History.restored(meta.compacted, revision, chunks, sizes)
        history.bound(meta.revisions_kept, meta.bytes_kept)
        if history.byte_count != meta.byte_count:
            raise ProtocolError("the history counts for other bytes than it says")
        return history


def _entry(value: Collection, rest: list[Any]) -> Entry:
    deadline_ms, create_revision, modify_revision, version = rest
    return (value, deadline_ms, create_revision, modify_revision, version)

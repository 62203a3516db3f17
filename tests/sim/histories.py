"""All nodes hold the same history: every change, and from the same revision on.

What a revision changed is kept from the first node that applied it, and compared with
what every other node says of it, whether that node applied it or has it from an image.
What is held and what is gone is compared after each entry.
"""

from __future__ import annotations

import zlib
from itertools import groupby
from typing import Any

from raftkv.kv.history import Change, History, revision_of
from raftkv.kv.store import KvStore

EVERYTHING = 1 << 30


class Histories:
    """What is known of the history, whichever node said it."""

    def __init__(self) -> None:
        # Of each revision, a checksum over its changes.
        self._revisions: dict[int, int] = {}
        # Of each index, what is held behind it.
        self._extents: dict[int, tuple[int, ...]] = {}
        # Of each node, the revision up to which its changes were compared.
        self._compared: dict[str, int] = {}

    def difference(self, name: str, store: KvStore, *, whole: bool) -> str:
        """Compare the history of a node with what is known.

        Args:
            name: Of the node.
            store: Has just applied an entry, or been loaded.
            whole: Its history is new here, and all of it is to be compared.

        Returns:
            What differs; empty if nothing does.
        """
        history = store.history
        extent = _extent(history)
        known = self._extents.setdefault(store.applied_index, extent)
        if known != extent:
            return f"holds {extent} behind index {store.applied_index}, another {known}"
        first = 0 if whole else self._compared.get(name, 0)
        self._compared[name] = history.revision
        changes = history.stretch(max(first, history.compacted), EVERYTHING)
        for revision, of_one in groupby(changes, revision_of):
            checksum = zlib.crc32(repr(list(map(_shown, of_one))).encode())
            if self._revisions.setdefault(revision, checksum) != checksum:
                return f"knows other changes of revision {revision}"
        return ""


def _extent(history: History) -> tuple[int, ...]:
    return (
        *(history.compacted, history.revision, history.change_count, history.byte_count),
        *(history.revisions_kept, history.bytes_kept),
    )


def _shown(change: Change) -> tuple[Any, ...]:
    revision, kind, key, *entries = change
    return (revision, kind, key, *(entry and (_content(entry[0]), *entry[1:]) for entry in entries))


def _content(value: Any) -> Any:
    if type(value) is bytes:
        return value
    return (value.type_name, [item for items in value.elements() for item in items])

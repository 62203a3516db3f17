"""What arrived since the last turn, in order, and how much of it one turn takes.

A node that is brought up to date gets megabytes while it is busy with those before. Taken
by one step, they would be one long write and one long turn, during which still more arrives.

Owner: replica.replica. Tests: tests/unit/replica/test_arrivals.py.
"""

from __future__ import annotations

from raftkv.engine.ready import Inbound, PeerMessage

# Limit: bytes of messages that a turn takes, apart from the last one, which has up to
# `limits.append_bytes_max` and is 3 ms by itself.
ARRIVALS_BYTES_MAX = 1 << 15


class Arrivals:
    """Messages of peers, their links' comings and goings, and reports of workers."""

    def __init__(self, bytes_max: int = ARRIVALS_BYTES_MAX) -> None:
        """Begin empty.

        Args:
            bytes_max: Of the messages that `take` returns, apart from the last one.
        """
        self._items: list[Inbound] = []
        self._bytes_max = bytes_max

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: Inbound) -> None:
        """Put it behind all others."""
        self._items.append(item)

    def add_first(self, item: Inbound) -> None:
        """Put it in front of all others, because it is for the very next turn."""
        self._items.insert(0, item)

    def take(self) -> list[Inbound]:
        """Return the first of them, as many as a turn takes; the others stay."""
        items = self._items
        size = 0
        for count, item in enumerate(items, 1):
            if type(item) is PeerMessage:
                size += len(item.body)
                if size > self._bytes_max:
                    self._items = items[count:]
                    del items[count:]
                    return items
        self._items = []
        return items

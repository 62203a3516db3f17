"""A watch, and which watches a change is for.

`WatchIndex` finds the watches of a key by a lookup in one dict, and those of its prefixes
by one for each length of a prefix that is at most as long as the key. So watches of other
keys cost a change next to nothing, however many they are.

Pure. Owner: `watches`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Watcher(Protocol):
    """A connection, as far as watches are concerned.

    Attributes:
        protocol: Of RESP, 2 or 3.
        values_bytes_max: Most bytes of values that one message may have.
    """

    protocol: int
    values_bytes_max: int

    def has_room(self) -> bool:
        """Whether it takes another message."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether it will have room again without a call of `WatchHub.resume`."""
        ...

    def push_parts(self, parts: list[bytes]) -> int:
        """Take an encoded message, whether it has room or not; must not raise.

        Returns:
            Its size in bytes.
        """
        ...

    def watch_ended(self, number: int) -> None:
        """Forget a watch that has ended by itself."""
        ...


class Watch:
    """What one connection wants to be told, and how much of it has been.

    Attributes:
        watcher: The connection.
        number: Its name on that connection.
        key: Key or prefix.
        is_prefix: Whether keys only have to begin with it.
        previous: Messages hold the values before, too.
        position: Revision up to which everything has been told; see `WatchHub.reached`.
        told: Revision of the newest message.
        is_live: New changes are told as they come.
        is_blocked: It is behind, and waits for its connection.
        has_ended: It is told nothing any more.
    """

    __slots__ = (
        "has_ended",
        "is_blocked",
        "is_live",
        "is_prefix",
        "key",
        "number",
        "position",
        "previous",
        "told",
        "watcher",
    )

    def __init__(
        self, watcher: Watcher, number: int, key: bytes, *, is_prefix: bool, previous: bool
    ) -> None:
        """Describe a watch; `WatchHub.add` begins it."""
        self.watcher = watcher
        self.number = number
        self.key = key
        self.is_prefix = is_prefix
        self.previous = previous
        self.position = self.told = 0
        self.is_live = self.is_blocked = self.has_ended = False

    def matches(self, key: bytes) -> bool:
        """Whether changes of a key are for it."""
        return key.startswith(self.key) if self.is_prefix else key == self.key


_Watches = dict[Watch, None]


class WatchIndex:
    """Watches by what they look for; true while there are any."""

    def __init__(self) -> None:
        """Start empty."""
        self._keys: dict[bytes, _Watches] = {}
        # Length of a prefix -> prefix -> watches; and the lengths, sorted.
        self._prefixes: dict[int, dict[bytes, _Watches]] = {}
        self._lengths: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, watch: Watch) -> None:
        """Find this watch from now on; it is not in the index."""
        self._count += 1
        group = self._keys
        if watch.is_prefix:
            length = len(watch.key)
            if length not in self._prefixes:
                self._prefixes[length] = {}
                self._lengths = sorted(self._prefixes)
            group = self._prefixes[length]
        group.setdefault(watch.key, {})[watch] = None

    def remove(self, watch: Watch) -> None:
        """Find this watch no longer; it is in the index."""
        self._count -= 1
        length = len(watch.key)
        group = self._prefixes[length] if watch.is_prefix else self._keys
        watches = group[watch.key]
        del watches[watch]
        if not watches:
            del group[watch.key]
            if watch.is_prefix and not group:
                del self._prefixes[length]
                self._lengths = sorted(self._prefixes)

    def matching(self, key: bytes) -> Iterator[Watch]:
        """Yield the watches of a key and of its prefixes; the index may not change meanwhile."""
        yield from self._keys.get(key, ())
        for length in self._lengths:
            if length > len(key):
                break
            yield from self._prefixes[length].get(key[:length], ())

    def all(self) -> list[Watch]:
        """Return every watch."""
        groups = [*self._keys.values()]
        for prefixes in self._prefixes.values():
            groups += prefixes.values()
        return [watch for group in groups for watch in group]

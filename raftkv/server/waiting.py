"""Who waits for which key, in the order in which they came.

`WaitList` owns the order and the deadlines, and nothing else: what there is at a key,
and what a waiter does with it, is decided by `blocking`. A waiter keeps its place while
an attempt of it is on its way, so that one which comes back with nothing is again in
front of those that came later.

Pure.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from sortedcontainers import SortedList


class Waiter(Protocol):
    """One client's wait for any of some keys.

    Attributes:
        keys: What it waits for.
        type_name: Of what has to be at one of them, as TYPE says it.
        deadline_ms: Clock time at which it gives up; 0 for never.
        number: Its place in the order; 0 while it is in no list.
        tried: The key from which an attempt on its way pops.
    """

    keys: tuple[bytes, ...]
    type_name: str
    deadline_ms: int
    number: int
    tried: bytes | None


W = TypeVar("W", bound=Waiter)


class WaitList(Generic[W]):
    """All waiters of one node."""

    def __init__(self, keys_max: int) -> None:
        """Start empty.

        Args:
            keys_max: Limit of the keys of all waiters together.
        """
        self._keys_max = keys_max
        self._key_count = 0
        self._number = 0
        self._waiters: dict[int, W] = {}
        self._by_key: dict[bytes, dict[int, W]] = {}
        self._deadlines: SortedList[tuple[int, int]] = SortedList()

    def __len__(self) -> int:
        """Number of waiters."""
        return len(self._waiters)

    def __iter__(self) -> Iterator[W]:
        """Waiters in the order in which they came; the list may change meanwhile."""
        return iter(list(self._waiters.values()))

    @property
    def keys(self) -> Container[bytes]:
        """Keys that anybody waits for; stays up to date."""
        return self._by_key

    def add(self, waiter: W) -> bool:
        """Put a waiter behind the others; one that is there keeps its place.

        Returns:
            False, with nothing done, where its keys would be too many.
        """
        if waiter.number:
            return True
        keys = dict.fromkeys(waiter.keys)
        if self._key_count + len(keys) > self._keys_max:
            return False
        self._key_count += len(keys)
        self._number += 1
        waiter.number = self._number
        self._waiters[waiter.number] = waiter
        for key in keys:
            self._by_key.setdefault(key, {})[waiter.number] = waiter
        if waiter.deadline_ms:
            self._deadlines.add((waiter.deadline_ms, waiter.number))
        return True

    def remove(self, waiter: W) -> None:
        """Forget a waiter; harmless where it is in no list."""
        number, waiter.number = waiter.number, 0
        if self._waiters.pop(number, None) is None:
            return
        for key in dict.fromkeys(waiter.keys):
            self._key_count -= 1
            others = self._by_key[key]
            del others[number]
            if not others:
                del self._by_key[key]
        if waiter.deadline_ms:
            self._deadlines.remove((waiter.deadline_ms, number))

    def await_any(self, keys: Iterable[bytes], type_name: str) -> bool:
        """Whether anybody waits for one of the keys to have something of that type."""
        by_key = self._by_key
        return any(
            waiter.type_name == type_name
            for key in keys
            if key in by_key
            for waiter in by_key[key].values()
        )

    def first(self, key: bytes, type_name: str, count: int) -> list[W]:
        """Return who may try now to get something from a key.

        Args:
            key: Has something.
            type_name: What kind of thing.
            count: How many elements; those that are on their way to get one count too.

        Returns:
            Waiters of whom no attempt is on its way, the longest wait first.
        """
        chosen: list[W] = []
        for waiter in self._by_key.get(key, {}).values():
            if count <= 0:
                break
            if waiter.tried == key:
                count -= 1
            elif waiter.tried is None and waiter.type_name == type_name:
                chosen.append(waiter)
                count -= 1
        return chosen

    def due(self, now_ms: int) -> list[W]:
        """Return whose deadlines have come, the earliest first."""
        return [
            self._waiters[number] for _, number in self._deadlines.irange(None, (now_ms + 1, 0))
        ]

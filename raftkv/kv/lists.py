"""Lists: the value, and the commands on it, with the semantics of Redis 7.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format; validate wholly, then change under
one new revision. An end is 0 for the left and 1 for the right.

Called by `store` only; `image_loader` makes the values of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from raftkv.errors import CommandError
from raftkv.kv import sequences
from raftkv.kv.commands import OK, Command, ListFlag, Opcode
from raftkv.kv.generic import NO_SUCH_KEY
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.strings import Handler
from raftkv.kv.values import WRONG_TYPE, Collection, Part, change, charge, positions_of
from raftkv.types import NoList

OUT_OF_RANGE: Final = "ERR index out of range"

LEFT: Final = 0


class List(Collection):
    """Elements in the order of their positions; `root` is a sequence of them."""

    __slots__ = ()

    type_name = "list"
    type_code = 3
    width = 1
    overhead_bytes = 42

    @classmethod
    def empty(cls) -> List:
        """See `Collection`."""
        return cls([], 0)

    @property
    def size(self) -> int:
        """See `Collection`."""
        return sequences.size_of(self.root)

    @property
    def encoding(self) -> bytes:
        """See `Collection`."""
        return b"quicklist"

    def elements(self) -> Iterator[Part]:
        """See `Collection`."""
        return sequences.leaves(self.root)

    def extended(self, part: Part) -> List:
        """See `Collection`."""
        if not all(type(item) is bytes for item in part):
            raise TypeError("an element of a list is not bytes")
        return self.replaced(self.size, self.size, part)

    def part(self, first: int, end: int) -> list[bytes]:
        """Return the elements from `first` to `end - 1`."""
        return sequences.part(self.root, first, end) if first < end else []

    def replaced(self, first: int, end: int, elements: list[bytes]) -> List:
        """Return the list with `elements` instead of those from `first` to `end - 1`."""
        change_bytes = sum(map(len, elements))
        if end > first:
            size = self.size
            kept = size - (end - first)
            # Count those that are fewer.
            if kept < end - first:
                kept_bytes = sum(map(len, self.part(0, first) + self.part(end, size)))
                change_bytes += kept_bytes - self.content_bytes
            else:
                change_bytes -= sum(map(len, self.part(first, end)))
        root = sequences.replaced(self.root, first, end, elements)
        return List(root, self.content_bytes + change_bytes)

    def without(self, positions: list[int]) -> List:
        """Return the list without the elements at some ascending positions."""
        if len(positions) > self.size // 64:
            gone = set(positions)
            kept = [one for place, one in enumerate(self.part(0, self.size)) if place not in gone]
            return List(sequences.replaced([], 0, 0, kept), sum(map(len, kept)))
        value = self
        for position in reversed(positions):
            value = value.replaced(position, position + 1, [])
        return value

    def find(self, element: bytes) -> Iterator[int]:
        """Yield the positions of an element, ascending."""
        start = 0
        for leaf in sequences.leaves(self.root):
            if element in leaf:
                yield from (start + place for place, one in enumerate(leaf) if one == element)
            start += len(leaf)

    def find_last(self, element: bytes) -> Iterator[int]:
        """Yield the positions of an element, descending."""
        end = self.size
        for leaf in reversed(list(sequences.leaves(self.root))):
            end -= len(leaf)
            if element in leaf:
                for place in range(len(leaf) - 1, -1, -1):
                    if leaf[place] == element:
                        yield end + place


_EMPTY: Final = List.empty()


def list_of(entry: Entry | None) -> List:
    """Return the value of a list's entry; an empty one where there is no key.

    Raises:
        CommandError: The key holds another type.
    """
    if entry is None:
        return _EMPTY
    value = entry[0]
    if type(value) is not List:
        raise CommandError(WRONG_TYPE)
    return value


def _pushed(value: List, elements: list[bytes], end: int) -> List:
    """Return a list with elements added one by one at an end."""
    if end == LEFT:
        return value.replaced(0, 0, elements[::-1])
    return value.replaced(value.size, value.size, elements)


def _popped(keyspace: Keyspace, value: List, count: int, end: int) -> tuple[list[bytes], List]:
    """Return some elements from an end, the outermost first, and the list without them."""
    size = value.size
    count = min(count, size)
    charge(keyspace, count)
    first, behind = (0, count) if end == LEFT else (size - count, size)
    elements = value.part(first, behind)
    rest = value.replaced(first, behind, [])
    return (elements if end == LEFT else elements[::-1]), rest


# ---------------------------------------------------------------- writing


def push(keyspace: Keyspace, command: Command) -> object:
    """(key, end, ListFlag bits, element, ...)"""
    _, key, end, flags, *elements = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    if entry is None and flags & ListFlag.XX:
        return 0
    value = _pushed(before, elements, end)
    change(keyspace, key, entry, value)
    return value.size


def pop(keyspace: Keyspace, command: Command) -> object:
    """(key, end, count or nil)"""
    _, key, end, count = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    if entry is None:
        return None if count is None else NoList()
    if count == 0:
        return []
    elements, value = _popped(keyspace, before, 1 if count is None else count, end)
    change(keyspace, key, entry, value)
    return elements[0] if count is None else elements


def lmpop(keyspace: Keyspace, command: Command) -> list[Any]:
    """(end, count, key, ...)"""
    _, end, count, *keys = command
    for key in keys:
        entry = keyspace.find_for_write(key)
        before = list_of(entry)
        if entry is not None:
            elements, value = _popped(keyspace, before, count, end)
            change(keyspace, key, entry, value)
            return [key, elements]
    return NoList()


def pop_first(keyspace: Keyspace, command: Command) -> object:
    """(end, key, ...)"""
    _, end, *keys = command
    popped = lmpop(keyspace, (command[0], end, 1, *keys))
    return [popped[0], popped[1][0]] if popped else NoList()


def lmove(keyspace: Keyspace, command: Command) -> object:
    """(source, target, end of the source, end of the target)"""
    _, source, target, source_end, target_end = command
    source_entry = keyspace.find_for_write(source)
    before = list_of(source_entry)
    if source_entry is None:
        return None
    target_entry = keyspace.find_for_write(target)
    there = list_of(target_entry)
    elements, rest = _popped(keyspace, before, 1, source_end)
    if source == target:
        change(keyspace, source, source_entry, _pushed(rest, elements, target_end))
    else:
        change(keyspace, source, source_entry, rest)
        added = _pushed(there, elements, target_end)
        change(keyspace, target, target_entry, added, keyspace.revision)
    return elements[0]


def lset(keyspace: Keyspace, command: Command) -> object:
    """(key, position or nil, element, error text or nil)

    The error is that of a bad position, which counts only if there is such a key.
    """
    _, key, position, element, error_text = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    if entry is None:
        raise CommandError(NO_SUCH_KEY)
    if error_text is not None:
        raise CommandError(error_text.decode())
    if position < 0:
        position += before.size
    if not 0 <= position < before.size:
        raise CommandError(OUT_OF_RANGE)
    change(keyspace, key, entry, before.replaced(position, position + 1, [element]))
    return OK


def linsert(keyspace: Keyspace, command: Command) -> object:
    """(key, distance from the pivot: 0 before or 1 behind it, pivot, element)"""
    _, key, distance, pivot, element = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    if entry is None:
        return 0
    position = next(before.find(pivot), None)
    if position is None:
        return -1
    position += distance
    value = before.replaced(position, position, [element])
    change(keyspace, key, entry, value)
    return value.size


def lrem(keyspace: Keyspace, command: Command) -> object:
    """(key, count, element); from the right when negative, all when 0"""
    _, key, count, element = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    if count < 0:
        positions = sorted(islice(before.find_last(element), min(-count, before.size)))
    else:
        positions = list(islice(before.find(element), min(count, before.size) or None))
    if positions:
        change(keyspace, key, entry, before.without(positions))
    return len(positions)


def ltrim(keyspace: Keyspace, command: Command) -> object:
    """(key, first, last), both counted from the end when negative"""
    _, key, first, last = command
    entry = keyspace.find_for_write(key)
    before = list_of(entry)
    start, end = positions_of(first, last, before.size)
    if end - start < before.size:
        kept = before.replaced(end, before.size, []) if end < before.size else before
        change(keyspace, key, entry, kept.replaced(0, start, []) if start else kept)
    return OK


# ---------------------------------------------------------------- reading


def llen(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return list_of(keyspace.find(command[1])).size


def lrange(keyspace: Keyspace, command: Command) -> object:
    """(key, first, last), both counted from the end when negative"""
    _, key, first, last = command
    value = list_of(keyspace.find(key))
    start, end = positions_of(first, last, value.size)
    if start == end:
        return []
    charge(keyspace, end - start, (end - start) * (value.content_bytes // value.size))
    return value.part(start, end)


def lindex(keyspace: Keyspace, command: Command) -> object:
    """(key, position or nil, error text or nil)

    The error is that of a bad position, which counts only if there is such a key.
    """
    _, key, position, error_text = command
    entry = keyspace.find(key)
    value = list_of(entry)
    if entry is None:
        return None
    if error_text is not None:
        raise CommandError(error_text.decode())
    if position < 0:
        position += value.size
    if not 0 <= position < value.size:
        return None
    return sequences.element_at(value.root, position)


def lpos(keyspace: Keyspace, command: Command) -> object:
    """(key, element, rank, count or nil, most elements to look at or 0)

    A rank of 1 is the first match, -1 the last.
    """
    _, key, element, rank, count, looked_at_max = command
    value = list_of(keyspace.find(key))
    size = value.size
    reach = min(looked_at_max or size, size)
    find: Callable[[bytes], Iterator[int]] = value.find if rank > 0 else value.find_last
    wanted = 1 if count is None else count or size
    charge(keyspace, min(wanted, size))
    skipped = abs(rank) - 1
    found: list[int] = []
    for position in find(element):
        if (position if rank > 0 else size - 1 - position) >= reach:
            break
        if skipped:
            skipped -= 1
            continue
        found.append(position)
        if len(found) >= wanted:
            break
    if count is not None:
        return found
    return found[0] if found else None


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.LIST_PUSH: push,
    Opcode.LIST_POP: pop,
    Opcode.LMPOP: lmpop,
    Opcode.LIST_POP_FIRST: pop_first,
    Opcode.LMOVE: lmove,
    Opcode.LSET: lset,
    Opcode.LINSERT: linsert,
    Opcode.LREM: lrem,
    Opcode.LTRIM: ltrim,
    Opcode.LLEN: llen,
    Opcode.LRANGE: lrange,
    Opcode.LINDEX: lindex,
    Opcode.LPOS: lpos,
}

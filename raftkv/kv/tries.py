"""Immutable maps from bytes to anything: what hashes, sets and sorted sets are made of.

A map is a plain dict of up to 256 entries, or a `Branch`: sixteen smaller maps,
chosen by four bits of the key's CRC-32, level after level. A change copies the
dict and the branches above it and shares all the rest, so that a map of a
million entries is changed within microseconds, and whoever holds the map as it
was - an image, an undo, a copy under another name - keeps it for nothing.

Invariants: a dict or branch inside a map is never changed once it can be seen;
a part is a dict exactly when it has at most `LEAF_MAX` entries or the bits are
used up. So the order of a map follows from the order in which its entries came,
also through an image, and never from Python's own hash of bytes.

Pure functions. Users: `hashes`, `sets`, `sorted_sets`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias
from zlib import crc32

LEAF_MAX: Final = 256
_FAN_BITS: Final = 4
_FAN: Final = 1 << _FAN_BITS
_FAN_MASK: Final = _FAN - 1
_TOP_SHIFT: Final = 32 - _FAN_BITS

Leaf: TypeAlias = dict[bytes, Any]


class Branch:
    """A part of a map that is too large for one dict.

    Attributes:
        children: Sixteen parts, in the order of the bits that choose among them.
        size: Entries in all of them.
    """

    __slots__ = ("children", "size")

    def __init__(self, children: list[Node]) -> None:
        self.children = children
        self.size = sum(map(size_of, children))


Node: TypeAlias = "Leaf | Branch"


def size_of(node: Node) -> int:
    """Return the number of entries."""
    return node.size if type(node) is Branch else len(node)  # type: ignore[arg-type]


def leaf_of(node: Node, key: bytes) -> Leaf:
    """Return the dict that has the entry of a key, if there is one."""
    if type(node) is Branch:
        position = crc32(key)
        shift = _TOP_SHIFT
        while type(node) is Branch:
            node = node.children[position >> shift & _FAN_MASK]
            shift -= _FAN_BITS
    return node  # type: ignore[return-value]


def updated(node: Node, entries: Leaf) -> Node:
    """Return the map with entries added or replaced; new ones go behind old ones of their dict."""
    return _updated(node, entries, _TOP_SHIFT)


def _updated(node: Node, entries: Leaf, shift: int) -> Node:
    if type(node) is Branch:
        children = node.children.copy()
        for number, share in _shares(entries, shift):
            children[number] = _updated(children[number], share, shift - _FAN_BITS)
        return Branch(children)
    leaf = node | entries  # type: ignore[operator]
    return leaf if len(leaf) <= LEAF_MAX or shift < 0 else _split(leaf, shift)


def grown(node: Node, entries: Leaf) -> Node:
    """Return the same as `updated`, but use up `node`, which nobody else may hold."""
    return _grown(node, entries, _TOP_SHIFT)


def _grown(node: Node, entries: Leaf, shift: int) -> Node:
    if type(node) is Branch:
        children = node.children
        for number, share in _shares(entries, shift):
            child = children[number]
            before = size_of(child)
            children[number] = child = _grown(child, share, shift - _FAN_BITS)
            node.size += size_of(child) - before
        return node
    leaf: Leaf = node  # type: ignore[assignment]
    leaf.update(entries)
    return leaf if len(leaf) <= LEAF_MAX or shift < 0 else _split(leaf, shift)


def _split(entries: Leaf, shift: int) -> Node:
    """Make a branch of more entries than a dict may have."""
    children: list[Node] = [{} for _ in range(_FAN)]
    for number, share in _shares(entries, shift):
        is_leaf = len(share) <= LEAF_MAX or shift < _FAN_BITS
        children[number] = share if is_leaf else _split(share, shift - _FAN_BITS)
    return Branch(children)


def _shares(entries: Leaf, shift: int) -> Iterable[tuple[int, Leaf]]:
    """Distribute entries among the children of a branch, in their order."""
    if len(entries) == 1:
        (key,) = entries
        return [(crc32(key) >> shift & _FAN_MASK, entries)]
    shares: dict[int, Leaf] = {}
    for key, value in entries.items():
        shares.setdefault(crc32(key) >> shift & _FAN_MASK, {})[key] = value
    return shares.items()


def without(node: Node, keys: Iterable[bytes]) -> Node:
    """Return the map without some keys, all of which it has."""
    return _without(node, dict.fromkeys(keys), _TOP_SHIFT)


def _without(node: Node, keys: Leaf, shift: int) -> Node:
    if type(node) is Branch:
        children = node.children.copy()
        for number, share in _shares(keys, shift):
            children[number] = _without(children[number], share, shift - _FAN_BITS)
        branch = Branch(children)
        if branch.size > LEAF_MAX:
            return branch
        return {key: value for leaf in leaves(branch) for key, value in leaf.items()}
    leaf: Leaf = node.copy()  # type: ignore[union-attr]
    for key in keys:
        del leaf[key]
    return leaf


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield the dicts of a map in order; empty ones too."""
    if type(node) is Branch:
        for child in node.children:
            yield from leaves(child)
    else:
        yield node  # type: ignore[misc]


def items(node: Node) -> Iterator[tuple[bytes, Any]]:
    """Yield the entries in order."""
    for leaf in leaves(node):
        yield from leaf.items()


def keys(node: Node) -> list[bytes]:
    """Return the keys in order."""
    if type(node) is not Branch:
        return list(node)  # type: ignore[arg-type]
    return [key for leaf in leaves(node) for key in leaf]


def keys_at(node: Node, positions: Iterable[int]) -> list[bytes]:
    """Return the keys at some positions in the order of the map."""
    if type(node) is not Branch:
        ordered = list(node)  # type: ignore[arg-type]
        return [ordered[position] for position in positions]
    # Keys of the dicts that were looked at, because positions may come by the thousand.
    seen: dict[int, list[bytes]] = {}
    found = []
    for position in positions:
        part: Node = node
        while type(part) is Branch:
            for child in part.children:
                size = size_of(child)
                if position < size:
                    part = child
                    break
                position -= size
        ordered = seen.get(id(part)) or seen.setdefault(id(part), list(part))  # type: ignore[arg-type]
        found.append(ordered[position])
    return found


def page(node: Node, cursor: int, count: int) -> tuple[int, list[bytes]]:
    """Return some keys from a cursor on, and the cursor behind them, 0 at the end.

    A cursor is a position in the order of the keys' CRC-32, whatever comes and goes
    meanwhile. A map of one dict is always returned as a whole.

    Args:
        node: The map.
        cursor: 0 at first, then what the page before returned.
        count: How many keys at least, if there are so many.
    """
    if type(node) is not Branch:
        return 0, list(node)  # type: ignore[arg-type]
    found: list[bytes] = []
    for leaf in _leaves_from(node, cursor, 0, _TOP_SHIFT):
        pairs = sorted((crc32(key), key) for key in leaf)
        first = bisect_left(pairs, (cursor,))
        end = min(first + max(count - len(found), 0), len(pairs))
        # Keys of equal hash go together: a cursor cannot point between them.
        while first < end < len(pairs) and pairs[end][0] == pairs[end - 1][0]:
            end += 1
        found += [key for _, key in pairs[first:end]]
        if end < len(pairs):
            return pairs[end][0], found
    return 0, found


def _leaves_from(node: Node, cursor: int, lowest: int, shift: int) -> Iterator[Leaf]:
    """Yield the dicts that may have keys whose hash is `cursor` or more."""
    if type(node) is Branch:
        for number, child in enumerate(node.children):
            low = lowest + (number << shift)
            if low + (1 << shift) > cursor:
                yield from _leaves_from(child, cursor, low, shift - _FAN_BITS)
    else:
        yield node  # type: ignore[misc]

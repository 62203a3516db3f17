"""Immutable sequences of anything: what lists and the order of sorted sets are made of.

A sequence is a plain list of up to 256 elements, or a `Branch` over smaller
sequences of equal height which knows how many elements end with each of them. A
change copies one list and the branches above it and shares the rest, at any
position; whoever holds the sequence as it was keeps it for nothing.

Invariants: a list or branch inside a sequence is never changed once it can be
seen; no part of a sequence of several parts is empty. Where the cuts are depends
on how the sequence came about, and shows nowhere.

Pure functions. Users: `lists`, `sorted_sets`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

LEAF_MAX: Final = 256
FAN_MAX: Final = 64

Leaf: TypeAlias = list[Any]


class Branch:
    """A part of a sequence that is too large for one list.

    Attributes:
        children: Smaller parts, in order.
        ends: For each of them, how many elements end with it.
    """

    __slots__ = ("children", "ends")

    def __init__(self, children: list[Node]) -> None:
        self.children = children
        self.ends = list(accumulate(map(size_of, children)))


Node: TypeAlias = "Leaf | Branch"


def size_of(node: Node) -> int:
    """Return the number of elements."""
    return len(node) if type(node) is list else node.ends[-1]  # type: ignore[union-attr]


def element_at(node: Node, position: int) -> Any:
    """Return one element, 0 being the first."""
    while type(node) is Branch:
        number = bisect_right(node.ends, position)
        if number:
            position -= node.ends[number - 1]
        node = node.children[number]
    return node[position]  # type: ignore[index]


def leaves(node: Node) -> Iterator[Leaf]:
    """Yield the lists of a sequence in order."""
    if type(node) is Branch:
        for child in node.children:
            yield from leaves(child)
    else:
        yield node  # type: ignore[misc]


def part(node: Node, first: int, end: int) -> list[Any]:
    """Return the elements from `first` to `end - 1`, both inside the sequence."""
    found: list[Any] = []
    _collect(node, first, end, found)
    return found


def _collect(node: Node, first: int, end: int, found: list[Any]) -> None:
    if type(node) is not Branch:
        found += node[first:end]  # type: ignore[index]
        return
    start = 0
    for number in range(bisect_right(node.ends, first), len(node.children)):
        start = node.ends[number - 1] if number else 0
        if start >= end:
            break
        _collect(node.children[number], max(first - start, 0), end - start, found)


def replaced(node: Node, first: int, end: int, elements: list[Any]) -> Node:
    """Return the sequence with `elements` instead of those from `first` to `end - 1`."""
    parts = _replaced(node, first, end, elements)
    while len(parts) > 1:
        parts = _branches(parts)
    if not parts:
        return []
    root = parts[0]
    while type(root) is Branch and len(root.children) == 1:
        root = root.children[0]
    return root


def _replaced(node: Node, first: int, end: int, elements: list[Any]) -> list[Node]:
    """Return parts of the height of `node`, none of them empty."""
    if type(node) is not Branch:
        return _cut(node[:first] + elements + node[end:])  # type: ignore[index]
    ends, children = node.ends, node.children
    left = min(bisect_right(ends, first), len(children) - 1)
    right = max(left, min(bisect_left(ends, end), len(children) - 1))
    start = ends[left - 1] if left else 0
    if left == right:
        parts = _replaced(children[left], first - start, end - start, elements)
    else:
        parts = _replaced(children[left], first - start, ends[left] - start, elements)
        parts += _replaced(children[right], 0, end - ends[right - 1], [])
    return _branches(_mended(children[:left], parts, children[right + 1 :]))


def _cut(elements: Leaf) -> list[Node]:
    """Cut a list into lists that are not too long."""
    size = len(elements)
    if size <= LEAF_MAX:
        return [elements] if elements else []
    count = -(-size // LEAF_MAX)
    bounds = [size * number // count for number in range(count + 1)]
    return [elements[first:end] for first, end in pairwise(bounds)]


def _branches(parts: list[Node]) -> list[Node]:
    """Put parts of equal height under branches that are not too wide."""
    size = len(parts)
    if not size:
        return []
    count = -(-size // FAN_MAX)
    bounds = [size * number // count for number in range(count + 1)]
    return [Branch(parts[first:end]) for first, end in pairwise(bounds)]


def _mended(left: list[Node], parts: list[Node], right: list[Node]) -> list[Node]:
    """Join parts of equal height; those in the middle may be too small to stay alone."""
    for one in parts:
        if left and (_is_small(one) or _is_small(left[-1])):
            left[-1:] = _joined(left[-1], one)
        else:
            left.append(one)
    if right and left and _is_small(left[-1]):
        right[:1] = _joined(left.pop(), right[0])
    return left + right


def _is_small(node: Node) -> bool:
    return len(node.children) < FAN_MAX // 4 if type(node) is Branch else len(node) < LEAF_MAX // 4  # type: ignore[arg-type]


def _joined(first: Node, second: Node) -> list[Node]:
    """Return one part, or two, that hold what two neighbours of equal height hold."""
    if type(first) is Branch and type(second) is Branch:
        return _branches(first.children + second.children)
    return _cut(first + second)  # type: ignore[operator]


# ------------------------------------------------------------- in ascending order


def _first_of(node: Node) -> Any:
    while type(node) is Branch:
        node = node.children[0]
    return node[0]  # type: ignore[index]


def rank_of(node: Node, bound: Any, key: Callable[[Any], Any] | None = None) -> int:
    """Return how many elements of an ascending sequence are below a bound.

    Args:
        node: Ascending, by `key` where that is given.
        bound: Can be compared with elements, or with what `key` makes of them.
        key: As that of `sorted`.
    """

    def first_key(child: Node) -> Any:
        first = _first_of(child)
        return first if key is None else key(first)

    rank = 0
    while type(node) is Branch:
        number = max(bisect_left(node.children, bound, key=first_key) - 1, 0)
        if number:
            rank += node.ends[number - 1]
        node = node.children[number]
    return rank + bisect_left(node, bound, key=key)  # type: ignore[arg-type]


def updated(node: Node, gone: Sequence[Any], added: Sequence[Any]) -> Node:
    """Return an ascending sequence without some elements, and with others.

    Args:
        node: Ascending, without equal elements.
        gone: Elements of it.
        added: Elements that are not in it, or are gone.
    """
    if len(gone) + len(added) > size_of(node) // 8:
        # So much is new that merging all of it is cheaper.
        lost = set(gone)
        kept = [one for leaf in leaves(node) for one in leaf if one not in lost]
        return replaced([], 0, 0, sorted([*kept, *added]))
    for one in gone:
        rank = rank_of(node, one)
        node = replaced(node, rank, rank + 1, [])
    for one in added:
        rank = rank_of(node, one)
        node = replaced(node, rank, rank, [one])
    return node

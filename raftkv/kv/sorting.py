"""SORT: the elements of a list, set or sorted set in an order, or what they lead to.

The order is total, so that all nodes agree: elements of equal weight are in the order of
their bytes. With BY and GET other keys are read, whose names come of a pattern and an
element; each is looked up alone, and one that is not there counts for nothing.

Same rules as `strings`: the docstring of a handler is the layout of its command behind
the opcode, and part of the log format. Called by `store` only.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError
from raftkv.kv import sequences, tries
from raftkv.kv.commands import Command, Opcode, SortFlag
from raftkv.kv.hashes import Hash
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.lists import List
from raftkv.kv.numbers import parse_double
from raftkv.kv.sets import Set
from raftkv.kv.sorted_sets import SortedSet
from raftkv.kv.strings import Handler
from raftkv.kv.values import WRONG_TYPE, charge, store_result

NOT_A_SCORE: Final = "ERR One or more scores can't be converted into double"
# The pattern that stands for the element itself.
_ITSELF: Final = b"#"
# What strtod() skips.
_BLANKS: Final = b" \t\n\v\f\r"


def sort(keyspace: Keyspace, command: Command) -> object:
    """(key, SortFlag bits, BY pattern or nil, first, count or -1, GET pattern, ...)"""
    return _rows(keyspace, command[1:], stores=False)


def sort_store(keyspace: Keyspace, command: Command) -> object:
    """(target, then as SORT)"""
    rows = _rows(keyspace, command[2:], stores=True)
    found = [b"" if row is None else row for row in rows]
    return store_result(keyspace, command[1], List.empty().replaced(0, 0, found))


def _rows(keyspace: Keyspace, words: Command, *, stores: bool) -> list[bytes | None]:
    """Return the elements in their order, or for each what the GET patterns lead to.

    Source: sortCommandGeneric() of Redis 7.
    """
    key, flags, by, first, count, *patterns = words
    entry = keyspace.find(key)
    elements = _elements_of(entry)
    size = len(elements)
    charge(keyspace, size)
    is_set = entry is not None and type(entry[0]) is Set
    if by is None or b"*" in by:
        elements = _in_order(keyspace, elements, by, flags)
    elif is_set and stores:
        # Nothing may be stored in an order that says nothing.
        elements = _in_order(keyspace, elements, None, flags | SortFlag.ALPHA)
    elif flags & SortFlag.DESCENDING and not is_set:
        elements.reverse()
    start = max(first, 0)
    chosen = elements[start:] if count < 0 else elements[start : start + count]
    if not patterns:
        return list(chosen)
    charge(keyspace, len(chosen) * len(patterns))
    return [look_up(keyspace, pattern, element) for element in chosen for pattern in patterns]


def _elements_of(entry: Entry | None) -> list[bytes]:
    if entry is None:
        return []
    value = entry[0]
    if type(value) is List:
        return value.part(0, value.size)
    if type(value) is Set:
        return tries.keys(value.root)
    if type(value) is SortedSet:
        return [member for leaf in sequences.leaves(value.order) for _, member in leaf]
    raise CommandError(WRONG_TYPE)


def _in_order(
    keyspace: Keyspace, elements: list[bytes], by: bytes | None, flags: int
) -> list[bytes]:
    """Sort elements by themselves, or by the values that a pattern leads to."""
    weights: list[bytes | None] = list(elements)
    if by is not None:
        weights = [look_up(keyspace, by, element) for element in elements]
    if not flags & SortFlag.ALPHA:
        scores = [0.0 if weight is None else _score(weight) for weight in weights]
        ordered = [element for _, element in sorted(zip(scores, elements, strict=True))]
    else:
        # What leads nowhere comes first.
        known = [(weight is not None, weight or b"") for weight in weights]
        ordered = [element for _, element in sorted(zip(known, elements, strict=True))]
    if flags & SortFlag.DESCENDING:
        ordered.reverse()
    return ordered


def _score(weight: bytes) -> float:
    """Read a number as strtod() does, up to a NUL; nothing at all counts as 0."""
    text = weight.split(b"\0", 1)[0]
    if not text:
        return 0.0
    score = parse_double(text.lstrip(_BLANKS))
    if score is None:
        raise CommandError(NOT_A_SCORE)
    return score


def look_up(keyspace: Keyspace, pattern: bytes, element: bytes) -> bytes | None:
    """Return the string, or the field of a hash, that a pattern and an element name.

    Args:
        keyspace: Where to look.
        pattern: With `*` for the element, and perhaps `->field` behind it.
        element: Any bytes.
    """
    if pattern == _ITSELF:
        return element
    prefix, star, rest = pattern.partition(b"*")
    if not star:
        return None
    postfix, _, field = rest.partition(b"->")
    entry = keyspace.find(prefix + element + (postfix if field else rest))
    if entry is None:
        return None
    value = entry[0]
    if not field:
        return value if type(value) is bytes else None
    found: bytes | None = None
    if type(value) is Hash:
        found = tries.leaf_of(value.root, field).get(field)
    return found


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.SORT: sort,
    Opcode.SORT_STORE: sort_store,
}

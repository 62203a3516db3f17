"""What a key has: its value, its deadline and its revisions.

Owns the shape of an entry, of what entries are kept in, and the rule by which one is
counted in bytes. Pure.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from sortedcontainers import SortedList

Value: TypeAlias = Any  # bytes for a string, else a `values.Collection`; immutable
# (value, deadline in ms of log time or 0, create revision, modify revision, version)
Entry: TypeAlias = tuple[Value, int, int, int, int]
# A part of the key index.
Bucket: TypeAlias = dict[bytes, Entry]
# (deadline, key) of every key that has one, in order.
Deadlines: TypeAlias = "SortedList[tuple[int, bytes]]"


def value_bytes(value: Value) -> int:
    """Return what a value counts for: its bytes, or those of all elements and their places.

    A collection counts in whole, although it shares most parts with the one before it: in an
    image it is written in whole.
    """
    if type(value) is bytes:
        return len(value)
    return int(value.content_bytes + value.size * value.overhead_bytes)

"""Ranges of sorted sets: by rank, by score and by name, as in Redis 7.

A bound is in the log as the client wrote it, and read with the functions here,
which the parsers use to refuse bad ones. In every command the lower bound comes
first. Names are only in order among members of one score, as in Redis.

Same rules as `strings`. Called by `store` only.
"""

from __future__ import annotations

from math import inf, nextafter
from operator import itemgetter
from typing import Any, Final

from raftkv.errors import CommandError
from raftkv.kv import sequences
from raftkv.kv.commands import Command, Opcode, RangeFlag, RangeKind
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.numbers import parse_c_double
from raftkv.kv.sorted_sets import Ranked, SortedSet, couples, sorted_set_of
from raftkv.kv.strings import Handler
from raftkv.kv.values import change, charge, positions_of, store_result

NOT_A_SCORE_RANGE: Final = "ERR min or max is not a float"
NOT_A_NAME_RANGE: Final = "ERR min or max not valid string range item"

_NAME: Final = itemgetter(1)


def score_bound(text: bytes) -> tuple[float, bool]:
    """Read a bound of a range of scores.

    Returns:
        The score, and whether it is itself outside.

    Raises:
        CommandError: It is not a score.
    """
    excluded = text.startswith(b"(")
    score = parse_c_double(text[1:] if excluded else text)
    if score is None:
        raise CommandError(NOT_A_SCORE_RANGE)
    return score, excluded


def name_bound(text: bytes) -> tuple[bytes | None, bool]:
    """Read a bound of a range of names.

    Returns:
        The name, and whether it is itself outside; or None and whether it is the highest.

    Raises:
        CommandError: It is not `[name`, `(name`, `-` or `+`.
    """
    if text in (b"-", b"+"):
        return None, text == b"+"
    if text[:1] not in (b"(", b"["):
        raise CommandError(NOT_A_NAME_RANGE)
    return text[1:], text.startswith(b"(")


def _score_rank(value: SortedSet, text: bytes, *, upper: bool) -> int:
    """Return the first rank inside, or with `upper` the first one behind."""
    score, excluded = score_bound(text)
    if upper is not excluded:
        if score == inf:
            return value.size
        score = nextafter(score, inf)
    return sequences.rank_of(value.order, (score,))


def _name_rank(value: SortedSet, text: bytes, *, upper: bool) -> int:
    """Return the first rank inside, or with `upper` the first one behind."""
    name, flag = name_bound(text)
    if name is None:
        return value.size if flag else 0
    if upper is not flag:
        name += b"\0"  # the lowest name behind it
    return sequences.rank_of(value.order, name, key=_NAME)


def _ranks(value: SortedSet, kind: int, low: Any, high: Any) -> tuple[int, int]:
    """Return the first rank of a range and the one behind the last; equal when it is empty."""
    if kind == RangeKind.RANK:
        return positions_of(low, high, value.size)
    rank = _score_rank if kind == RangeKind.SCORE else _name_rank
    first, end = rank(value, low, upper=False), rank(value, high, upper=True)
    return (first, end) if first < end else (0, 0)


def _selected(value: SortedSet, command: Command) -> tuple[int, int]:
    """Return the ranks of `(kind, flags, low, high, offset, limit)`."""
    kind, flags, low, high, offset, limit = command
    reverse = flags & RangeFlag.REVERSE
    first, end = _ranks(value, kind, low, high)
    if kind == RangeKind.RANK:
        return (value.size - end, value.size - first) if reverse and end else (first, end)
    if offset < 0 or offset >= end - first:
        return 0, 0
    if limit < 0:
        limit = end - first
    if reverse:
        end -= offset
        return max(end - limit, first), end
    first += offset
    return first, min(first + limit, end)


def zrange(keyspace: Keyspace, command: Command) -> object:
    """(key, RangeKind, RangeFlag bits, low, high, offset, most members or -1)

    Ranks are integers, other bounds text; with REVERSE ranks count from the highest.
    """
    value = sorted_set_of(keyspace.find(command[1]))
    first, end = _selected(value, command[2:])
    if first == end:
        return []
    charge(keyspace, 2 * (end - first), (end - first) * (value.content_bytes // value.size))
    ranked = value.part(first, end)
    flags = command[3]
    if flags & RangeFlag.REVERSE:
        ranked.reverse()
    if flags & RangeFlag.WITH_SCORES:
        return couples(ranked)
    return [member for _, member in ranked]


def zrangestore(keyspace: Keyspace, command: Command) -> object:
    """(target, source, RangeKind, RangeFlag bits, low, high, offset, most members or -1)"""
    value = sorted_set_of(keyspace.find(command[2]))
    ranked: list[Ranked] = value.part(*_selected(value, command[3:]))
    chosen = SortedSet.of({member: score for score, member in ranked})
    return store_result(keyspace, command[1], chosen)


def zcount(keyspace: Keyspace, command: Command) -> object:
    """(key, RangeKind, low, high)"""
    _, key, kind, low, high = command
    first, end = _ranks(sorted_set_of(keyspace.find(key)), kind, low, high)
    return end - first


def zremrange(keyspace: Keyspace, command: Command) -> object:
    """(key, RangeKind, low, high)"""
    _, key, kind, low, high = command
    entry = keyspace.find_for_write(key)
    before = sorted_set_of(entry)
    first, end = _ranks(before, kind, low, high)
    if first < end:
        change(keyspace, key, entry, before.without_ranks(first, end))
    return end - first


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.ZRANGE: zrange,
    Opcode.ZRANGESTORE: zrangestore,
    Opcode.ZCOUNT: zcount,
    Opcode.ZREMRANGE: zremrange,
}

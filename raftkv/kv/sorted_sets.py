"""Sorted sets: the value, and the commands on single members, as in Redis 7.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format; validate wholly, then change under
one new revision. Scores are in the log as text, because nothing in a batch is a
float; doubles add up alike on every machine.

Ranges are in `sorted_ranges`, unions and the like in `sorted_algebra`. Called by
`store` only; `image_loader` makes the values of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import isnan
from typing import Any, Final

from raftkv.errors import CommandError
from raftkv.kv import sequences, tries
from raftkv.kv.chance import random_positions
from raftkv.kv.commands import Command, Opcode, ZaddFlag
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.numbers import parse_double
from raftkv.kv.strings import NOT_A_FLOAT, Handler
from raftkv.kv.values import (
    LISTPACK_BYTES_MAX,
    LISTPACK_ENTRIES_MAX,
    WRONG_TYPE,
    Collection,
    Part,
    change,
    charge,
    scan_page,
)
from raftkv.types import Couples, NoList

NAN_SCORE: Final = "ERR resulting score is not a number (NaN)"

LOWEST: Final = 0

Ranked = tuple[float, bytes]


class SortedSet(Collection):
    """Members with scores; `root` maps each member to its score.

    Attributes:
        order: Sequence of (score, member), ascending.
    """

    __slots__ = ("order",)

    type_name = "zset"
    type_code = 5
    width = 2
    overhead_bytes = 220

    def __init__(self, root: Any, order: sequences.Node, content_bytes: int) -> None:
        super().__init__(root, content_bytes)
        self.order = order

    @classmethod
    def empty(cls) -> SortedSet:
        """See `Collection`."""
        return cls({}, [], 0)

    @classmethod
    def of(cls, scores: dict[bytes, float]) -> SortedSet:
        """Return the sorted set of some members and their scores."""
        return cls.empty().updated(scores)

    @property
    def size(self) -> int:
        """See `Collection`."""
        return tries.size_of(self.root)

    @property
    def encoding(self) -> bytes:
        """See `Collection`."""
        if self.size > LISTPACK_ENTRIES_MAX:
            return b"skiplist"
        longest = max(map(len, tries.keys(self.root)))
        return b"listpack" if longest <= LISTPACK_BYTES_MAX else b"skiplist"

    def elements(self) -> Iterator[Part]:
        """See `Collection`; in ascending order, the only one that shows."""
        for leaf in sequences.leaves(self.order):
            yield [item for score, member in leaf for item in (member, score)]

    def extended(self, part: Part) -> SortedSet:
        """See `Collection`."""
        members, scores = part[::2], part[1::2]
        if not all(type(member) is bytes for member in members):
            raise TypeError("a member of a sorted set is not bytes")
        if not all(type(score) is float and not isnan(score) for score in scores):
            raise TypeError("a score of a sorted set is not a number")
        ranked = list(zip(scores, members, strict=True))
        size = self.size
        before = self.part(size - 1, size) if size else []
        every = before + ranked
        if any(first >= second for first, second in pairwise(every)):
            raise ValueError("a sorted set is not in order")
        root = tries.grown(self.root, dict(zip(members, scores, strict=True)))
        if tries.size_of(root) != size + len(ranked):
            raise ValueError("a member is twice in a sorted set")
        order = sequences.replaced(self.order, size, size, ranked)
        return SortedSet(root, order, self.content_bytes + sum(map(len, members)))

    def roots(self) -> tuple[object, ...]:
        """See `Collection`."""
        return (self.root, self.order)

    def get(self, member: bytes) -> float | None:
        """Return the score of a member, None where there is no such member."""
        score: float | None = tries.leaf_of(self.root, member).get(member)
        return score

    def part(self, first: int, end: int) -> list[Ranked]:
        """Return the scores and members at ranks `first` to `end - 1`."""
        return sequences.part(self.order, first, end) if first < end else []

    def updated(self, scores: dict[bytes, float]) -> SortedSet:
        """Return the sorted set with members added or given another score."""
        # A negative zero becomes a plain one, as in the small sorted sets of Redis.
        scores = {member: score + 0.0 for member, score in scores.items()}
        gone, new_bytes = [], 0
        for member in scores:
            before = self.get(member)
            if before is None:
                new_bytes += len(member)
            else:
                gone.append((before, member))
        added = [(score, member) for member, score in scores.items()]
        order = sequences.updated(self.order, gone, added)
        return SortedSet(tries.updated(self.root, scores), order, self.content_bytes + new_bytes)

    def without(self, members: Iterable[bytes]) -> SortedSet:
        """Return the sorted set without some different members that it has."""
        members = list(members)
        gone = [(self.get(member), member) for member in members]
        return SortedSet(
            tries.without(self.root, members),
            sequences.updated(self.order, gone, []),
            self.content_bytes - sum(map(len, members)),
        )

    def without_ranks(self, first: int, end: int) -> SortedSet:
        """Return the sorted set without the members at ranks `first` to `end - 1`."""
        members = [member for _, member in self.part(first, end)]
        return SortedSet(
            tries.without(self.root, members),
            sequences.replaced(self.order, first, end, []),
            self.content_bytes - sum(map(len, members)),
        )


_EMPTY: Final = SortedSet.empty()


def sorted_set_of(entry: Entry | None) -> SortedSet:
    """Return the value of a sorted set's entry; an empty one where there is no key.

    Raises:
        CommandError: The key holds another type.
    """
    if entry is None:
        return _EMPTY
    value = entry[0]
    if type(value) is not SortedSet:
        raise CommandError(WRONG_TYPE)
    return value


def couples(ranked: Iterable[Ranked]) -> Couples:
    """Return members and scores in turn."""
    return Couples(item for score, member in ranked for item in (member, score))


# ---------------------------------------------------------------- writing


def zadd(keyspace: Keyspace, command: Command) -> object:
    """(key, ZaddFlag bits, score as text, member, score as text, member, ...)"""
    _, key, flags = command[:3]
    entry = keyspace.find_for_write(key)
    before = sorted_set_of(entry)
    scores: dict[bytes, float] = {}
    added = updated = 0
    result: float | None = None
    for text, member in zip(command[3::2], command[4::2], strict=True):
        old = scores[member] if member in scores else before.get(member)
        score = _new_score(flags, old, _score(text))
        if score is None:
            continue
        result = score
        if old is None:
            added += 1
        elif score != old:
            updated += 1
        else:
            continue
        scores[member] = score
    if scores:
        change(keyspace, key, entry, before.updated(scores))
    if flags & ZaddFlag.INCR:
        return result
    return added + updated if flags & ZaddFlag.CH else added


def _score(text: bytes) -> float:
    score = parse_double(text)
    if score is None:
        raise CommandError(NOT_A_FLOAT)
    return score


def _new_score(flags: int, old: float | None, score: float) -> float | None:
    """Return the score that a member gets, or None when it is left alone.

    Source: zsetAdd() of Redis 7.
    """
    if old is None:
        return None if flags & ZaddFlag.XX else score
    if flags & ZaddFlag.NX:
        return None
    if flags & ZaddFlag.INCR:
        score += old
        if isnan(score):
            raise CommandError(NAN_SCORE)
    if (flags & ZaddFlag.LT and score >= old) or (flags & ZaddFlag.GT and score <= old):
        return None
    return score


def zrem(keyspace: Keyspace, command: Command) -> object:
    """(key, member, ...)"""
    key = command[1]
    entry = keyspace.find_for_write(key)
    before = sorted_set_of(entry)
    gone = [member for member in dict.fromkeys(command[2:]) if before.get(member) is not None]
    if gone:
        change(keyspace, key, entry, before.without(gone))
    return len(gone)


def _popped(
    keyspace: Keyspace, value: SortedSet, count: int, end: int
) -> tuple[list[Ranked], SortedSet]:
    """Return some members from an end, the outermost first, and the value without them."""
    size = value.size
    count = min(count, size)
    charge(keyspace, 2 * count)
    first, behind = (0, count) if end == LOWEST else (size - count, size)
    ranked = value.part(first, behind)
    rest = value.without_ranks(first, behind)
    return (ranked if end == LOWEST else ranked[::-1]), rest


def zpop(keyspace: Keyspace, command: Command) -> object:
    """(key, end: 0 the lowest or 1 the highest, count or nil)"""
    _, key, end, count = command
    entry = keyspace.find_for_write(key)
    before = sorted_set_of(entry)
    if entry is None or count == 0:
        return []
    ranked, value = _popped(keyspace, before, 1 if count is None else count, end)
    change(keyspace, key, entry, value)
    return list(couples(ranked)) if count is None else couples(ranked)


def zmpop(keyspace: Keyspace, command: Command) -> list[Any]:
    """(end: 0 the lowest or 1 the highest, count, key, ...)"""
    _, end, count, *keys = command
    for key in keys:
        entry = keyspace.find_for_write(key)
        before = sorted_set_of(entry)
        if entry is not None:
            ranked, value = _popped(keyspace, before, count, end)
            change(keyspace, key, entry, value)
            return [key, [[member, score] for score, member in ranked]]
    return NoList()


def zpop_first(keyspace: Keyspace, command: Command) -> object:
    """(end: 0 the lowest or 1 the highest, key, ...)"""
    _, end, *keys = command
    popped = zmpop(keyspace, (command[0], end, 1, *keys))
    return [popped[0], *popped[1][0]] if popped else NoList()


# ---------------------------------------------------------------- reading


def zscore(keyspace: Keyspace, command: Command) -> object:
    """(key, member)"""
    return sorted_set_of(keyspace.find(command[1])).get(command[2])


def zmscore(keyspace: Keyspace, command: Command) -> object:
    """(key, member, ...)"""
    value = sorted_set_of(keyspace.find(command[1]))
    return [value.get(member) for member in command[2:]]


def zcard(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return sorted_set_of(keyspace.find(command[1])).size


def zrank(keyspace: Keyspace, command: Command) -> object:
    """(key, end to count from: 0 the lowest or 1 the highest, member)"""
    _, key, end, member = command
    value = sorted_set_of(keyspace.find(key))
    score = value.get(member)
    if score is None:
        return None
    rank = sequences.rank_of(value.order, (score, member))
    return rank if end == LOWEST else value.size - 1 - rank


def zscan(keyspace: Keyspace, command: Command) -> object:
    """(key, cursor, pattern or nil, count, error text or nil)

    The error is that of bad options, which count only if there is such a key.
    """
    value = sorted_set_of(keyspace.find(command[1]))
    cursor, members = scan_page(value.root, command)
    ranked = sorted((tries.leaf_of(value.root, member)[member], member) for member in members)
    return [cursor, [item for score, member in ranked for item in (member, b"%.17g" % score)]]


def zrandmember(keyspace: Keyspace, command: Command) -> object:
    """(key, count or nil, 1 with scores else 0, seed of 64 bits)"""
    _, key, count, with_scores, seed = command
    value = sorted_set_of(keyspace.find(key))
    size = value.size
    if not size:
        return None if count is None else []
    chosen = 1 if count is None else -count if count < 0 else min(count, size)
    charge(keyspace, 2 * chosen, chosen * (value.content_bytes // size))
    positions = random_positions(seed, size, -1 if count is None else count)
    ranked = [sequences.element_at(value.order, position) for position in positions]
    if with_scores:
        return couples(ranked)
    members = [member for _, member in ranked]
    return members[0] if count is None else members


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.ZADD: zadd,
    Opcode.ZREM: zrem,
    Opcode.ZPOP: zpop,
    Opcode.ZMPOP: zmpop,
    Opcode.ZPOP_FIRST: zpop_first,
    Opcode.ZSCORE: zscore,
    Opcode.ZMSCORE: zmscore,
    Opcode.ZCARD: zcard,
    Opcode.ZRANK: zrank,
    Opcode.ZSCAN: zscan,
    Opcode.ZRANDMEMBER: zrandmember,
}

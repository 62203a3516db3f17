"""Unions, intersections and differences of sorted sets, as in Redis 7.

Sets count as sorted sets whose scores are all 1. Scores are added in the order
of the sizes of the sets, as in Redis, because sums of floats depend on it.

Same rules as `strings`. Called by `store` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Final, NamedTuple

from raftkv.errors import CommandError
from raftkv.kv import sequences, tries
from raftkv.kv.commands import Aggregate, Command, Opcode
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.numbers import parse_double
from raftkv.kv.sets import Set
from raftkv.kv.sorted_sets import SortedSet, couples
from raftkv.kv.strings import Handler
from raftkv.kv.values import WRONG_TYPE, charge, store_result

NOT_A_WEIGHT: Final = "ERR weight value is not a float"


class Source(NamedTuple):
    """One of the sets that are combined."""

    value: SortedSet | Set
    weight: float

    def score(self, member: bytes) -> float | None:
        """Return the score of a member in the result, None if it has no such member."""
        value = self.value
        if type(value) is SortedSet:
            score = value.get(member)
            return None if score is None else self._weighted(score)
        return self.weight if value.has(member) else None  # type: ignore[union-attr]

    def scores(self) -> Iterator[tuple[bytes, float]]:
        """Yield the members and their scores in the result."""
        if type(self.value) is SortedSet:
            for leaf in sequences.leaves(self.value.order):
                for score, member in leaf:
                    yield member, self._weighted(score)
        else:
            for member in tries.keys(self.value.root):
                yield member, self.weight

    def _weighted(self, score: float) -> float:
        product = score * self.weight
        return 0.0 if isnan(product) else product


def _sources(keyspace: Keyspace, keys: tuple[bytes, ...], weights: list[float]) -> list[Source]:
    """Look up the sets; all must be of the right type, before anything else is looked at."""
    sources = []
    for key, weight in zip(keys, weights, strict=True):
        entry = keyspace.find(key)
        value = SortedSet.empty() if entry is None else entry[0]
        if type(value) is not SortedSet and type(value) is not Set:
            raise CommandError(WRONG_TYPE)
        sources.append(Source(value, weight))
    return sources


def _aggregated(aggregate: int, first: float, second: float) -> float:
    if aggregate == Aggregate.SUM:
        total = first + second
        return 0.0 if isnan(total) else total
    return min(first, second) if aggregate == Aggregate.MIN else max(first, second)


def _union(sources: list[Source], aggregate: int) -> dict[bytes, float]:
    scores: dict[bytes, float] = {}
    for source in sorted(sources, key=lambda one: one.value.size):
        for member, score in source.scores():
            before = scores.get(member)
            scores[member] = score if before is None else _aggregated(aggregate, before, score)
    return scores


def _intersection(sources: list[Source], aggregate: int, limit: int = 0) -> dict[bytes, float]:
    smallest, *others = sorted(sources, key=lambda one: one.value.size)
    scores: dict[bytes, float] = {}
    for member, first in smallest.scores():
        total = first
        for other in others:
            score = other.score(member)
            if score is None:
                break
            total = _aggregated(aggregate, total, score)
        else:
            scores[member] = total
            if len(scores) == limit:
                break
    return scores


def _difference(sources: list[Source], _aggregate: int) -> dict[bytes, float]:
    first, *others = sources
    return {
        member: score
        for member, score in first.scores()
        if all(other.score(member) is None for other in others)
    }


_OPERATIONS: Final = {
    Opcode.ZUNION: _union,
    Opcode.ZINTER: _intersection,
    Opcode.ZDIFF: _difference,
    Opcode.ZUNIONSTORE: _union,
    Opcode.ZINTERSTORE: _intersection,
    Opcode.ZDIFFSTORE: _difference,
}


def _combined(keyspace: Keyspace, command: Command) -> dict[bytes, float]:
    """Carry out the part of a command that behind its target, or `with scores`, is the same."""
    opcode, _, aggregate, error_text, count = command[:5]
    keys, weights = command[5 : 5 + count], command[5 + count :]
    read = [parse_double(text) for text in weights] or [1.0] * count
    if None in read:
        raise CommandError(NOT_A_WEIGHT)
    sources = _sources(keyspace, keys, [weight or 0.0 for weight in read])
    if error_text is not None:
        raise CommandError(error_text.decode())
    return _OPERATIONS[Opcode(opcode)](sources, aggregate)


def combine(keyspace: Keyspace, command: Command) -> object:
    """(1 with scores else 0, Aggregate, error text or nil, number of keys, key, ..., weight, ...)

    The error is that of bad options, which count only if the types are right. Weights
    are text; there are none, or as many as keys.
    """
    scores = _combined(keyspace, command)
    charge(keyspace, 2 * len(scores), sum(map(len, scores)))
    ranked = sorted((score, member) for member, score in scores.items())
    return couples(ranked) if command[1] else [member for _, member in ranked]


def combine_and_store(keyspace: Keyspace, command: Command) -> object:
    """(target, Aggregate, error text or nil, number of keys, key, ..., weight, ...)"""
    return store_result(keyspace, command[1], SortedSet.of(_combined(keyspace, command)))


def zintercard(keyspace: Keyspace, command: Command) -> object:
    """(limit or 0, error text or nil, key, ...)"""
    _, limit, error_text, *keys = command
    sources = _sources(keyspace, tuple(keys), [1.0] * len(keys))
    if error_text is not None:
        raise CommandError(error_text.decode())
    return len(_intersection(sources, Aggregate.SUM, limit))


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.ZUNION: combine,
    Opcode.ZINTER: combine,
    Opcode.ZDIFF: combine,
    Opcode.ZUNIONSTORE: combine_and_store,
    Opcode.ZINTERSTORE: combine_and_store,
    Opcode.ZDIFFSTORE: combine_and_store,
    Opcode.ZINTERCARD: zintercard,
}

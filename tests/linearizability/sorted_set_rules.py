"""What a correct store would answer about sorted sets. See `models` for the table of kinds.

Scores are integers here: sums of them are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from tests.linearizability.cells import (
    AcrossRule,
    Cell,
    Effect,
    Kind,
    Result,
    Rule,
    Sample,
    Window,
    elements_of,
    put,
    with_elements,
)
from tests.linearizability.history import Value

_ZSET = "zset"
_MANY = 8
Ranked = list[tuple[str, int]]


def _scores(cell: Cell | None) -> dict[str, int]:
    return dict(elements_of(cell, _ZSET))


def _changed(cell: Cell | None, scores: dict[str, int]) -> Cell | None:
    return with_elements(cell, _ZSET, sorted(scores.items()))


def _ranked(scores: dict[str, int]) -> Ranked:
    return sorted(scores.items(), key=lambda pair: (pair[1], pair[0]))


def _wanted(flags: Sequence[str], old: int | None, score: int) -> int | None:
    """Return the score that a member is to have; None where it is to be left alone."""
    if old is None:
        return None if "xx" in flags else score
    if "incr" in flags:
        score += old
    if "nx" in flags or ("gt" in flags and score <= old) or ("lt" in flags and score >= old):
        return None
    return score


def _add(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    flags, *pairs = arguments
    scores = _scores(cell)
    added = updated = 0
    told = None
    for member, score in pairs:
        old = scores.get(member)
        new = _wanted(flags, old, score)
        if new is None:
            continue
        told = new
        added += old is None
        updated += old is not None and new != old
        scores[member] = new
    result = told if "incr" in flags else added + updated if "ch" in flags else added
    return _changed(cell, scores), result


def _without(cell: Cell | None, gone: Sequence[str]) -> Cell | None:
    return _changed(cell, {one: at for one, at in _scores(cell).items() if one not in gone})


def _remove(cell: Cell | None, members: Sequence[Any], _: Window) -> Effect:
    gone = [one for one in _scores(cell) if one in members]
    return _without(cell, gone), len(gone)


def _from_end(scores: dict[str, int], end: str, count: int) -> Ranked:
    ranked = _ranked(scores)
    return (ranked if end == "lowest" else ranked[::-1])[:count]


def _pop(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    taken = _from_end(_scores(cell), *arguments)
    return _without(cell, [member for member, _ in taken]), tuple(taken)


# ---------------------------------------------------------------- ranges


def _is_above(bound: str, score: int) -> bool:
    """Whether a score is not below a lower bound."""
    if bound in ("-inf", "+inf"):
        return bound == "-inf"
    return score > int(bound[1:]) if bound[0] == "(" else score >= int(bound)


def _is_below(bound: str, score: int) -> bool:
    if bound in ("-inf", "+inf"):
        return bound == "+inf"
    return score < int(bound[1:]) if bound[0] == "(" else score <= int(bound)


def _is_behind(bound: str, name: str) -> bool:
    """Whether a name is not before a lower bound."""
    if bound in ("-", "+"):
        return bound == "-"
    return name > bound[1:] if bound[0] == "(" else name >= bound[1:]


def _is_before(bound: str, name: str) -> bool:
    if bound in ("-", "+"):
        return bound == "+"
    return name < bound[1:] if bound[0] == "(" else name <= bound[1:]


def _inside(ranked: Ranked, by: str, low: Any, high: Any) -> Ranked:
    """Return what lies in a range; ranks count in the order that is given."""
    if by == "rank":
        size = len(ranked)
        first, last = (at + size if at < 0 else at for at in (low, high))
        return ranked[max(0, first) : max(0, last + 1)]
    if by == "score":
        return [(m, at) for m, at in ranked if _is_above(low, at) and _is_below(high, at)]
    return [(m, at) for m, at in ranked if _is_behind(low, m) and _is_before(high, m)]


def _range(
    scores: dict[str, int], by: str, low: Any, high: Any, reverse: int, offset: int, limit: int
) -> Ranked:
    ranked = _ranked(scores)
    if reverse:
        ranked.reverse()
    found = _inside(ranked, by, low, high)
    if by == "rank":
        return found
    return found[offset:] if limit < 0 else found[offset : offset + limit]


def _remove_range(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    gone = [member for member, _ in _inside(_ranked(_scores(cell)), *arguments)]
    return _without(cell, gone), len(gone)


# ---------------------------------------------------------------- reads


def _read(look: Callable[..., Result]) -> Rule:
    """Return the rule of a read: `look` gets the scores and the arguments."""

    def rule(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
        return cell, look(_scores(cell), *arguments)

    return rule


def _rank(scores: dict[str, int], member: str, reverse: int) -> Value:
    names = [name for name, _ in _range(scores, "rank", 0, -1, reverse, 0, -1)]
    return names.index(member) if member in names else None


def _pick(scores: dict[str, int], count: int | None, with_scores: int) -> Result:
    elements = tuple(scores.items()) if with_scores else tuple(scores)
    return Sample(elements, -1 if count is None and elements else count or 0)


# ---------------------------------------------------------------- several keys


def _pop_first(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
    keys, end, count = arguments
    for key in keys:
        if key in cells:
            taken = _from_end(_scores(cells[key]), end, count)
            put(cells, key, _without(cells[key], [member for member, _ in taken]))
            return key, tuple(taken)
    return None


def _store_range(cells: dict[str, Cell], target: str, arguments: Sequence[Any]) -> Value:
    source, *range_ = arguments
    found = dict(_range(_scores(cells.get(source)), *range_))
    put(cells, target, _changed(None, found))
    return len(found)


_AGGREGATES: dict[str, Callable[[int, int], int]] = {
    "sum": lambda one, other: one + other,
    "min": min,
    "max": max,
}


def _combined(
    cells: dict[str, Cell], name: str, keys: Sequence[str], aggregate: str, weights: Sequence[int]
) -> dict[str, int]:
    sources = [
        {member: weight * score for member, score in _scores(cells.get(key)).items()}
        for key, weight in zip(keys, weights or [1] * len(keys), strict=True)
    ]
    first, *others = sources
    if name == "diff":
        return {m: at for m, at in first.items() if not any(m in other for other in others)}
    members = {member for source in sources for member in source}
    if name == "inter":
        members = {one for one in members if all(one in source for source in sources)}
    join = _AGGREGATES[aggregate]
    return {one: reduce(join, [s[one] for s in sources if one in s]) for one in members}


def _combine(name: str) -> AcrossRule:
    def rule(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
        return tuple(_ranked(_combined(cells, name, *arguments)))

    return rule


def _combine_and_store(name: str) -> AcrossRule:
    def rule(cells: dict[str, Cell], target: str, arguments: Sequence[Any]) -> Value:
        scores = _combined(cells, name, *arguments)
        put(cells, target, _changed(None, scores))
        return len(scores)

    return rule


def _count_common(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
    keys, limit = arguments
    common = len(_combined(cells, "inter", keys, "sum", ()))
    return min(common, limit or common)


SORTED_SET_KINDS: dict[str, Kind] = {
    "zadd": Kind(_add, 2, _MANY),
    "zrem": Kind(_remove, 1, _MANY, (0,)),
    "zpop": Kind(_pop, 2, 2, ((),)),
    "zremrange": Kind(_remove_range, 3, 3, (0,)),
    "zscore": Kind(_read(lambda scores, member: scores.get(member)), 1, 1, None),
    "zmscore": Kind(_read(lambda scores, *some: tuple(map(scores.get, some))), 1, _MANY, None),
    "zcard": Kind(_read(len), idle_results=None),
    "zrank": Kind(_read(_rank), 2, 2, None),
    "zall": Kind(_read(lambda scores: tuple(_ranked(scores))), idle_results=None),
    "zrange": Kind(_read(lambda scores, *range_: tuple(_range(scores, *range_))), 6, 6, None),
    "zcount": Kind(
        _read(lambda scores, *range_: len(_inside(_ranked(scores), *range_))), 3, 3, None
    ),
    "zrandmember": Kind(_read(_pick), 2, 2, None),
    "zmpop": Kind(None, 3, 3, (None,), _pop_first),
    "zrangestore": Kind(None, 7, 7, (), _store_range),
    "zunion": Kind(None, 3, 3, None, _combine("union")),
    "zinter": Kind(None, 3, 3, None, _combine("inter")),
    "zdiff": Kind(None, 3, 3, None, _combine("diff")),
    "zunionstore": Kind(None, 3, 3, (), _combine_and_store("union")),
    "zinterstore": Kind(None, 3, 3, (), _combine_and_store("inter")),
    "zdiffstore": Kind(None, 3, 3, (), _combine_and_store("diff")),
    "zintercard": Kind(None, 2, 2, None, _count_common),
}

"""What a correct store would answer about sets. See `models` for the table of kinds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
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

_SET = "set"
_MANY = 8


def _members(cell: Cell | None) -> tuple[str, ...]:
    return elements_of(cell, _SET)


def _changed(cell: Cell | None, members: Iterable[str]) -> Cell | None:
    return with_elements(cell, _SET, sorted(members))


def _add(cell: Cell | None, added: Sequence[Any], _: Window) -> Effect:
    before = _members(cell)
    after = set(before) | set(added)
    return _changed(cell, after), len(after) - len(before)


def _remove(cell: Cell | None, gone: Sequence[Any], _: Window) -> Effect:
    before = _members(cell)
    after = set(before) - set(gone)
    return _changed(cell, after), len(before) - len(after)


def _pop(cell: Cell | None, arguments: Sequence[Any], _: Window) -> list[Effect]:
    """Any of the members may have been taken: the result says which."""
    (count,) = arguments
    members = _members(cell)
    if not members:
        return [(None, None if count is None else ())]
    chosen = itertools.combinations(members, min(len(members), 1 if count is None else count))
    return [
        (_changed(cell, set(members) - set(taken)), taken[0] if count is None else taken)
        for taken in chosen
    ]


def _read(look: Callable[..., Result]) -> Rule:
    """Return the rule of a read: `look` gets the members and the arguments."""

    def rule(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
        return cell, look(_members(cell), *arguments)

    return rule


def _pick(members: tuple[str, ...], count: int | None) -> Result:
    return Sample(members, -1 if count is None and members else count or 0)


def _move(cells: dict[str, Cell], source: str, arguments: Sequence[Any]) -> Value:
    target, member = arguments
    before = _members(cells.get(source))
    if member not in before:
        return 0
    if source != target:
        there = _members(cells.get(target))
        put(cells, source, _changed(cells[source], set(before) - {member}))
        put(cells, target, _changed(cells.get(target), {*there, member}))
    return 1


def _combined(name: str, sets: list[set[str]]) -> set[str]:
    first, *others = sets
    match name:
        case "inter":
            return first.intersection(*others)
        case "union":
            return first.union(*others)
    return first.difference(*others)


def _combine(name: str) -> AcrossRule:
    def rule(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
        keys = arguments[0]
        return tuple(sorted(_combined(name, [set(_members(cells.get(key))) for key in keys])))

    return rule


def _combine_and_store(name: str) -> AcrossRule:
    combine = _combine(name)

    def rule(cells: dict[str, Cell], target: str, arguments: Sequence[Any]) -> Value:
        members: Any = combine(cells, target, arguments)
        put(cells, target, _changed(None, members))
        return len(members)

    return rule


def _count_common(cells: dict[str, Cell], key: str, arguments: Sequence[Any]) -> Value:
    keys, limit = arguments
    common: Any = _combine("inter")(cells, key, (keys,))
    return min(len(common), limit or len(common))


SET_KINDS: dict[str, Kind] = {
    "sadd": Kind(_add, 1, _MANY, (0,)),
    "srem": Kind(_remove, 1, _MANY, (0,)),
    "spop": Kind(_pop, 1, 1, (None, ())),
    "sismember": Kind(_read(lambda members, one: int(one in members)), 1, 1, None),
    "smismember": Kind(
        _read(lambda members, *asked: tuple(int(one in members) for one in asked)), 1, _MANY, None
    ),
    "smembers": Kind(_read(lambda members: members), idle_results=None),
    "scard": Kind(_read(len), idle_results=None),
    "srandmember": Kind(_read(_pick), 1, 1, None),
    "smove": Kind(None, 2, 2, (0,), _move),
    "sinter": Kind(None, 1, 1, None, _combine("inter")),
    "sunion": Kind(None, 1, 1, None, _combine("union")),
    "sdiff": Kind(None, 1, 1, None, _combine("diff")),
    "sintercard": Kind(None, 2, 2, None, _count_common),
    "sinterstore": Kind(None, 1, 1, (), _combine_and_store("inter")),
    "sunionstore": Kind(None, 1, 1, (), _combine_and_store("union")),
    "sdiffstore": Kind(None, 1, 1, (), _combine_and_store("diff")),
}

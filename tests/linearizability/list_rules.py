"""What a correct store would answer about lists. See `models` for the table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.linearizability.cells import (
    Cell,
    Effect,
    Kind,
    Result,
    Rule,
    Window,
    elements_of,
    put,
    with_elements,
)
from tests.linearizability.history import Value
from tests.linearizability.string_rules import NO_SUCH_KEY

OUT_OF_RANGE = "ERR index out of range"
_LIST = "list"
_MANY = 8


def _list(cell: Cell | None) -> tuple[str, ...]:
    return elements_of(cell, _LIST)


def _changed(cell: Cell | None, elements: Sequence[str]) -> Cell | None:
    return with_elements(cell, _LIST, elements)


def _pushed(elements: Sequence[str], end: str, added: Sequence[str]) -> tuple[str, ...]:
    if end == "left":
        return (*reversed(added), *elements)
    return (*elements, *added)


def _split(elements: tuple[str, ...], end: str, count: int) -> tuple[tuple[str, ...], Any]:
    """Return what is taken from an end, the outermost first, and the rest."""
    if end == "left":
        return elements[:count], elements[count:]
    kept = max(0, len(elements) - count)
    return elements[kept:][::-1], elements[:kept]


def _push(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    end, *added = arguments
    elements = _pushed(_list(cell), end, added)
    return _changed(cell, elements), len(elements)


def _push_if_there(cell: Cell | None, arguments: Sequence[Any], window: Window) -> Effect:
    return (None, 0) if cell is None else _push(cell, arguments, window)


def _pop(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    end, count = arguments
    if cell is None:
        return None, None
    taken, rest = _split(_list(cell), end, 1 if count is None else count)
    return _changed(cell, rest), taken[0] if count is None else taken


def _set(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    place, element = arguments
    elements = list(_list(cell))
    if cell is None:
        return None, NO_SUCH_KEY
    if not -len(elements) <= place < len(elements):
        return cell, OUT_OF_RANGE
    elements[place] = element
    return _changed(cell, elements), "OK"


def _insert(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    side, pivot, element = arguments
    elements = list(_list(cell))
    if pivot not in elements:
        return cell, 0 if cell is None else -1
    elements.insert(elements.index(pivot) + (side == "after"), element)
    return _changed(cell, elements), len(elements)


def _remove(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    count, element = arguments
    elements = _list(cell)
    places = [place for place, one in enumerate(elements) if one == element]
    gone = places[count:] if count < 0 else places[: count or None]
    kept = [one for place, one in enumerate(elements) if place not in gone]
    return _changed(cell, kept), len(gone)


def _between(elements: tuple[str, ...], first: int, last: int) -> tuple[str, ...]:
    first, last = (at + len(elements) if at < 0 else at for at in (first, last))
    return elements[max(0, first) : max(0, last + 1)]


def _trim(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    return _changed(cell, _between(_list(cell), *arguments)), "OK"


def _read(look: Callable[..., Result]) -> Rule:
    """Return the rule of a read: `look` gets the elements and the arguments."""

    def rule(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
        return cell, look(_list(cell), *arguments)

    return rule


def _at(elements: tuple[str, ...], place: int) -> Value:
    return elements[place] if -len(elements) <= place < len(elements) else None


def _places(elements: tuple[str, ...], element: str, rank: int, count: int | None) -> Value:
    places = [place for place, one in enumerate(elements) if one == element]
    if rank < 0:
        places.reverse()
    places = places[abs(rank) - 1 :]
    if count is None:
        return places[0] if places else None
    return tuple(places[: count or None])


def _move(cells: dict[str, Cell], source: str, arguments: Sequence[Any]) -> Value:
    target, source_end, target_end = arguments
    if source not in cells:
        return None
    taken, rest = _split(_list(cells[source]), source_end, 1)
    there = cells.get(target)
    # A list that is rotated is never empty, and so keeps its deadline.
    onto = rest if source == target else _list(there)
    put(cells, source, _changed(cells[source], rest))
    put(cells, target, _changed(there, _pushed(onto, target_end, taken)))
    return taken[0]


def _pop_first(cells: dict[str, Cell], _: str, arguments: Sequence[Any]) -> Value:
    keys, end, count = arguments
    for key in keys:
        if key in cells:
            taken, rest = _split(_list(cells[key]), end, count)
            put(cells, key, _changed(cells[key], rest))
            return key, taken
    return None


def _sorted(elements: tuple[str, ...], backwards: int) -> Value:
    return tuple(sorted(elements, reverse=bool(backwards)))


def _store_sorted(cells: dict[str, Cell], target: str, arguments: Sequence[Any]) -> Value:
    source, count = arguments
    elements = sorted(_list(cells.get(source)))[:count]
    put(cells, target, _changed(None, elements))
    return len(elements)


LIST_KINDS: dict[str, Kind] = {
    "push": Kind(_push, 2, _MANY),
    "pushx": Kind(_push_if_there, 2, _MANY, (0,)),
    "pop": Kind(_pop, 2, 2, (None,)),
    "lset": Kind(_set, 2, 2, (NO_SUCH_KEY, OUT_OF_RANGE)),
    "linsert": Kind(_insert, 3, 3, (0, -1)),
    "lrem": Kind(_remove, 2, 2, (0,)),
    "ltrim": Kind(_trim, 2, 2),
    "llen": Kind(_read(len), idle_results=None),
    "lrange": Kind(_read(_between), 2, 2, None),
    "lindex": Kind(_read(_at), 1, 1, None),
    "lpos": Kind(_read(_places), 3, 3, None),
    "sorted": Kind(_read(_sorted), 1, 1, None),
    "sortstore": Kind(None, 2, 2, (), _store_sorted),
    "lmove": Kind(None, 3, 3, (None,), _move),
    "lmpop": Kind(None, 3, 3, (None,), _pop_first),
}

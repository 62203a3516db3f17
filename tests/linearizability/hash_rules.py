"""What a correct store would answer about hashes. See `models` for the table of kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.linearizability.cells import (
    Cell,
    Effect,
    Kind,
    Result,
    Rule,
    Sample,
    Window,
    added_halves,
    elements_of,
    number_of,
    with_elements,
)
from tests.linearizability.history import Value

_HASH = "hash"
_MANY = 8


def _fields(cell: Cell | None) -> dict[str, str]:
    return dict(elements_of(cell, _HASH))


def _changed(cell: Cell | None, fields: dict[str, str]) -> Cell | None:
    return with_elements(cell, _HASH, sorted(fields.items()))


def _set(cell: Cell | None, pairs: Sequence[Any], _: Window) -> Effect:
    fields = _fields(cell)
    new = {field for field, _ in pairs} - fields.keys()
    return _changed(cell, fields | dict(pairs)), len(new)


def _set_all(cell: Cell | None, pairs: Sequence[Any], window: Window) -> Effect:
    return _set(cell, pairs, window)[0], "OK"


def _set_if_none(cell: Cell | None, arguments: Sequence[Any], window: Window) -> Effect:
    field, value = arguments
    if field in _fields(cell):
        return cell, 0
    return _set(cell, ((field, value),), window)


def _delete(cell: Cell | None, names: Sequence[Any], _: Window) -> Effect:
    fields = _fields(cell)
    kept = {field: value for field, value in fields.items() if field not in names}
    return _changed(cell, kept), len(fields) - len(kept)


def _increase(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    field, amount = arguments
    fields = _fields(cell)
    number = number_of(fields.get(field, "0")) + amount
    return _changed(cell, fields | {field: str(number)}), number


def _increase_float(cell: Cell | None, arguments: Sequence[Any], _: Window) -> Effect:
    field, amount = arguments
    fields = _fields(cell)
    text = added_halves(fields.get(field, "0"), amount)
    return _changed(cell, fields | {field: text}), text


def _read(look: Callable[..., Result]) -> Rule:
    """Return the rule of a read: `look` gets the fields and the arguments."""

    def rule(cell: Cell | None, arguments: Sequence[Value], _: Window) -> Effect:
        return cell, look(_fields(cell), *arguments)

    return rule


def _pairs(fields: dict[str, str]) -> tuple[Value, ...]:
    return tuple(sorted(fields.items()))


def _pick(fields: dict[str, str], count: int | None, with_values: int) -> Result:
    elements = _pairs(fields) if with_values else tuple(fields)
    return Sample(elements, -1 if count is None and elements else count or 0)


HASH_KINDS: dict[str, Kind] = {
    "hset": Kind(_set, 1, _MANY),
    "hmset": Kind(_set_all, 1, _MANY),
    "hsetnx": Kind(_set_if_none, 2, 2, (0,)),
    "hdel": Kind(_delete, 1, _MANY, (0,)),
    "hincrby": Kind(_increase, 2, 2),
    "hincrbyfloat": Kind(_increase_float, 2, 2),
    "hget": Kind(_read(lambda fields, field: fields.get(field)), 1, 1, None),
    "hmget": Kind(_read(lambda fields, *names: tuple(map(fields.get, names))), 1, _MANY, None),
    "hgetall": Kind(_read(_pairs), idle_results=None),
    "hkeys": Kind(_read(lambda fields: tuple(sorted(fields))), idle_results=None),
    "hvals": Kind(_read(lambda fields: tuple(sorted(fields.values()))), idle_results=None),
    "hexists": Kind(_read(lambda fields, field: int(field in fields)), 1, 1, None),
    "hlen": Kind(_read(len), idle_results=None),
    "hstrlen": Kind(_read(lambda fields, field: len(fields.get(field, ""))), 1, 1, None),
    "hrandfield": Kind(_read(_pick), 2, 2, None),
}

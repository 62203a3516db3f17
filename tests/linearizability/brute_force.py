"""A checker that cannot be wrong, for histories of a handful of operations.

It tries every order of every choice of the unknown operations on the reference store:
no memory, no shortcut, no model. With deadlines it also tries every moment on a grid;
so it finds an explanation or it may have missed one between two points of the grid.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace

from tests.linearizability.history import Operation, Outcome
from tests.linearizability.reference import Store


def is_linearizable(operations: Sequence[Operation]) -> bool:
    """Tell whether some order explains every result; no key may have a deadline."""
    return _search(_counted(operations), Store())


def is_linearizable_on_grid(operations: Sequence[Operation], grid_us: int, end_us: int) -> bool:
    """Tell whether some order and some moments, multiples of `grid_us`, explain every result."""
    return _search(_counted(operations), Store(), grid_us=grid_us, end_us=end_us)


def _counted(operations: Sequence[Operation]) -> list[Operation]:
    return [one for one in operations if one.outcome is not Outcome.REFUSED]


def _search(
    rest: list[Operation], store: Store, *, now_us: int = 0, grid_us: int = 0, end_us: int = 0
) -> bool:
    if all(one.outcome is Outcome.UNKNOWN for one in rest):
        return True
    for one in rest:
        others = [other for other in rest if other is not one]
        if any(_precedes(other, one) for other in others):
            continue
        moments = _moments(one, now_us, grid_us, end_us)
        for at_us, told in itertools.product(moments, store.choices(one)):
            after = copy.deepcopy(store)
            try:
                result = after.run(replace(one, result=told), at_us)
            except ValueError:
                continue
            if one.outcome is Outcome.UNKNOWN or result == one.result:
                if _search(others, after, now_us=at_us, grid_us=grid_us, end_us=end_us):
                    return True
    return False


def _precedes(one: Operation, other: Operation) -> bool:
    if one.outcome is Outcome.UNKNOWN:
        return False
    assert one.returned_us is not None
    return one.returned_us < other.called_us


def _moments(one: Operation, now_us: int, grid_us: int, end_us: int) -> Sequence[int]:
    if not grid_us:
        return (0,)
    last_us = end_us if one.outcome is Outcome.UNKNOWN else one.returned_us or 0
    first_us = max(now_us, one.called_us)
    return range(-(-first_us // grid_us) * grid_us, last_us + 1, grid_us)

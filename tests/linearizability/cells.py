"""What a model knows of a key, and what every rule of a model is made of.

A rule is pure: from the cell of a key, the arguments of a command and the window in
which it takes effect to the cell behind it and the result. Where the client cannot
know what happened, as with SPOP, it gives several of these; where any of many results
would do and nothing is changed, the result is a `range` or a `Sample`.

Owners: models and the `*_rules` beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from tests.linearizability.history import Value

FOREVER = 2**62
# Later than everything, so that a key without a deadline is never due.
NEVER = FOREVER + 1

# A string, or the name of another type and its elements, in an order of their own.
Content: TypeAlias = str | tuple[str, tuple[Any, ...]]


class Cell(NamedTuple):
    """A key that is there. Its deadline lies in a range of the history's clock."""

    value: Content
    first_deadline_us: int = NEVER
    last_deadline_us: int = NEVER

    @property
    def has_deadline(self) -> bool:
        """Whether it can expire."""
        return self.first_deadline_us != NEVER


class Window(NamedTuple):
    """Between which times an operation takes effect, and how far expiry may be off."""

    first_us: int
    last_us: int
    early_us: int = 0
    late_us: int = 0
    least_ahead_us: int = 0
    most_ahead_us: int = 0
    lease_early_us: int = 0
    lease_late_us: int = 0

    def lease_deadline(self, value: Content, ttl_ms: int) -> Cell:
        """Return a cell that is to live as long as a lease that was renewed here."""
        return Cell(
            value,
            self.first_us + ttl_ms * 1000 - self.lease_early_us,
            self.last_us + ttl_ms * 1000 + self.lease_late_us,
        )

    def deadline(self, value: Content, ttl_ms: int) -> Cell:
        """Return a cell that is to live so long from here."""
        return Cell(
            value,
            self.first_us + ttl_ms * 1000 - self.early_us,
            self.last_us + ttl_ms * 1000 + self.late_us,
        )

    def until(self, value: Content, deadline_us: int) -> Cell:
        """Return a cell that is to live until the store's clock shows a time."""
        return Cell(
            value,
            deadline_us - self.most_ahead_us - self.early_us,
            deadline_us - self.least_ahead_us + self.late_us,
        )


class Sample(NamedTuple):
    """Any choice of some elements is a right result.

    Attributes:
        count: So many different ones, or all if there are fewer; when negative so many
            of which some may be the same.
    """

    elements: tuple[Value, ...]
    count: int

    def fits(self, told: Value) -> bool:
        """Whether a result is one of them; the order says nothing."""
        if not isinstance(told, tuple) or not all(one in self.elements for one in told):
            return False
        if self.count < 0:
            return len(told) == (-self.count if self.elements else 0)
        return len(set(told)) == len(told) == min(self.count, len(self.elements))


Result: TypeAlias = Value | range | Sample
Effect: TypeAlias = tuple[Cell | None, Result]
Rule: TypeAlias = Callable[[Cell | None, Sequence[Value], Window], Effect | list[Effect]]
# On several keys: changes the cells, and returns the result.
AcrossRule: TypeAlias = Callable[[dict[str, Cell], str, Sequence[Any]], Value]


class Kind(NamedTuple):
    """One kind of operation.

    Attributes:
        rule: On one key.
        idle_results: They show that nothing was changed; None as a whole: every result.
        across: Instead of `rule`, on several keys, which its first argument names: one
            key, or a tuple of them. Only as the step of a transaction.
    """

    rule: Rule | None
    arguments_min: int = 0
    arguments_max: int = 0
    idle_results: tuple[Value, ...] | None = ()
    across: AcrossRule | None = None


class ImpossibleError(Exception):
    """The command would have been an error here, so it cannot have had an effect."""


def elements_of(cell: Cell | None, type_name: str) -> tuple[Any, ...]:
    """Return what a collection holds; nothing where there is no key."""
    if cell is None:
        return ()
    if not isinstance(cell.value, tuple) or cell.value[0] != type_name:
        raise ImpossibleError
    return cell.value[1]


def with_elements(cell: Cell | None, type_name: str, elements: Sequence[Any]) -> Cell | None:
    """Return the cell of a collection behind a change: its deadline stays, unless it is empty."""
    if not elements:
        return None
    return (cell or Cell(""))._replace(value=(type_name, tuple(elements)))


def put(cells: dict[str, Cell], key: str, cell: Cell | None) -> None:
    """Give a key its cell, or take it away."""
    if cell is None:
        cells.pop(key, None)
    else:
        cells[key] = cell


def number_of(value: Value) -> int:
    """Return a number that may be written as text."""
    if isinstance(value, tuple) or value is None:
        raise ImpossibleError
    try:
        return int(value)
    except ValueError:
        raise ImpossibleError from None


def added_halves(text: str, amount: str) -> str:
    """Add multiples of a half: they are exact, and nobody disputes how they are written."""
    halves = round(2 * float(text)) + round(2 * float(amount))
    return str(halves // 2) if halves % 2 == 0 else repr(halves / 2)

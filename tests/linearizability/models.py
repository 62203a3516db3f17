"""What a correct store would answer: the sequential meaning of every kind of operation.

A model is pure. `initial` gives the first state, `step` the states that may follow
when one operation takes effect, `partition` the groups of operations that can be
judged apart. A step that gives no state says: this result is impossible here. A step
that gives several says: the client cannot know which; the checker carries the whole
set. That is needed for deadlines only, which the leaders' clocks decide: around its
deadline a key may be there or not.

Kinds are named after Redis commands; arguments without the key, and results:

| kind | arguments | result |
|---|---|---|
| get, getdel | - | value or null |
| set | value [ttl_ms] | "OK" |
| setnx, setxx | value [ttl_ms] | 1 or 0: set or not |
| setkeep | value | "OK"; a deadline stays |
| getset | value [ttl_ms] | old value or null |
| setnxget | value | old value or null: then it was set |
| getex | [ttl_ms; null takes the deadline away] | value or null |
| del, exists | - | 1 or 0 |
| cas | expected or null, value | 1 or 0 |
| incrby | amount | new number |
| incrbyfloat | amount, a multiple of a half, as text | new number as text |
| append | text | new length |
| setrange | position, text | new length |
| getrange | first, last | the piece |
| strlen | - | length |
| pexpire | ttl_ms | 1 or 0 |
| pexpirenx, pexpirexx | ttl_ms | 1 or 0: only without, only with a deadline |
| pexpireat | deadline on the clock of the history, in microseconds | 1 or 0 |
| persist | - | 1 or 0: whether a deadline was taken away |
| pttl | - | milliseconds left, -1 without a deadline, -2 without the key |
| transaction | steps (kind, key, argument...) | list of results; null if a check failed |
| check | expected or null | 1; only as the step of a transaction |
| rename, renamenx | other key | "OK", 1 or 0, or `NO_SUCH_KEY`; only as such a step |
| copy | other key, replace (1 or 0) | 1 or 0; only as such a step |
| flush | - | "OK"; what FLUSHALL does to a key |

A state is the sorted tuple of the keys that are there with their cells, so equal
states are equal values. All keys begin absent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.linearizability.history import HistoryError, Operation, Outcome, Value, value_text

FOREVER = 2**62
NO_SUCH_KEY = "ERR no such key"
# Later than everything, so that a key without a deadline is never due.
_NEVER = FOREVER + 1


class Cell(NamedTuple):
    """A key that is there. Its deadline lies in a range of the history's clock."""

    value: str
    first_deadline_us: int = _NEVER
    last_deadline_us: int = _NEVER


State = tuple[tuple[str, Cell], ...]


class Window(NamedTuple):
    """Between which times an operation takes effect, and how far expiry may be off."""

    first_us: int
    last_us: int
    early_us: int = 0
    late_us: int = 0

    def deadline(self, value: str, ttl_ms: int) -> Cell:
        """Return a cell that is to live so long from here."""
        return Cell(
            value,
            self.first_us + ttl_ms * 1000 - self.early_us,
            self.last_us + ttl_ms * 1000 + self.late_us,
        )


ANYTIME = Window(0, FOREVER)
_Effect = tuple[Cell | None, Value | range]
_Rule = Callable[[Cell | None, Sequence[Value], Window], _Effect]


class ImpossibleError(Exception):
    """The command would have been an error here, so it cannot have had an effect."""


# ------------------------------------------------------------------ one key, one command


def _text(cell: Cell | None) -> str | None:
    return None if cell is None else cell.value


def _write(arguments: Sequence[Value], window: Window) -> Cell:
    value = str(arguments[0])
    if len(arguments) > 1 and arguments[1] is not None:
        return window.deadline(value, _number(arguments[1]))
    return Cell(value)


def _number(value: Value) -> int:
    if isinstance(value, tuple) or value is None:
        raise ImpossibleError
    try:
        return int(value)
    except ValueError:
        raise ImpossibleError from None


def _get(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    return cell, _text(cell)


def _set(_: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    return _write(arguments, window), "OK"


def _setnx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    return (_write(arguments, window), 1) if cell is None else (cell, 0)


def _setxx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    return (None, 0) if cell is None else (_write(arguments, window), 1)


def _getset(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    return _write(arguments, window), _text(cell)


def _setkeep(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    return (cell or Cell(""))._replace(value=str(arguments[0])), "OK"


def _setnxget(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    return (_write(arguments, window) if cell is None else cell), _text(cell)


def _getex(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    if cell is None or not arguments:
        return cell, _text(cell)
    return _write((cell.value, *arguments), window), cell.value


def _flush(_: Cell | None, __: Sequence[Value], ___: Window) -> _Effect:
    return None, "OK"


def _getdel(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    return None, _text(cell)


def _del(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    return None, int(cell is not None)


def _exists(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    return cell, int(cell is not None)


def _cas(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    if not _is_as_expected(cell, arguments[0]):
        return cell, 0
    return _write(arguments[1:2], window), 1


def _is_as_expected(cell: Cell | None, expected: Value) -> bool:
    return _text(cell) == (None if expected is None else str(expected))


def _incrby(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    number = _number(cell.value if cell else 0) + _number(arguments[0])
    return (cell or Cell(""))._replace(value=str(number)), number


def _incrbyfloat(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    # Halves are exact, and nobody disputes how they are written.
    halves = round(2 * float(cell.value if cell else 0)) + round(2 * float(str(arguments[0])))
    text = str(halves // 2) if halves % 2 == 0 else repr(halves / 2)
    return (cell or Cell(""))._replace(value=text), text


def _setrange(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    cell = cell or Cell("")
    position, piece = _number(arguments[0]), str(arguments[1])
    before, behind = cell.value[:position], cell.value[position + len(piece) :]
    value = before.ljust(position, "\0") + piece + behind
    return cell._replace(value=value), len(value)


def _getrange(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    first, last = _number(arguments[0]), _number(arguments[1])
    return cell, cell.value[first : last + 1] if cell else ""


def _append(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    cell = cell or Cell("")
    value = cell.value + str(arguments[0])
    return cell._replace(value=value), len(value)


def _strlen(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    return cell, len(cell.value) if cell else 0


def _pexpire(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    if cell is None:
        return None, 0
    ttl_ms = _number(arguments[0])
    return (window.deadline(cell.value, ttl_ms) if ttl_ms > 0 else None), 1


def _pexpirenx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    has_deadline = cell is not None and cell.first_deadline_us != _NEVER
    return (cell, 0) if has_deadline else _pexpire(cell, arguments, window)


def _pexpirexx(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    has_deadline = cell is not None and cell.first_deadline_us != _NEVER
    return _pexpire(cell, arguments, window) if has_deadline else (cell, 0)


def _pexpireat(cell: Cell | None, arguments: Sequence[Value], window: Window) -> _Effect:
    if cell is None:
        return None, 0
    at_us = _number(arguments[0])
    return Cell(cell.value, at_us - window.early_us, at_us + window.late_us), 1


def _persist(cell: Cell | None, _: Sequence[Value], __: Window) -> _Effect:
    if cell is None or cell.first_deadline_us == _NEVER:
        return cell, 0
    return Cell(cell.value), 1


def _pttl(cell: Cell | None, _: Sequence[Value], window: Window) -> _Effect:
    if cell is None:
        return None, -2
    if cell.first_deadline_us == _NEVER:
        return cell, -1
    least_us = cell.first_deadline_us - window.last_us
    most_us = cell.last_deadline_us - window.first_us
    return cell, range(max(0, least_us // 1000), max(0, most_us // 1000 + 1) + 1)


def _check(cell: Cell | None, arguments: Sequence[Value], _: Window) -> _Effect:
    return cell, int(_is_as_expected(cell, arguments[0]))


class _Kind(NamedTuple):
    rule: _Rule
    arguments_min: int = 0
    arguments_max: int = 0
    # Results that show that nothing was changed; None as a whole: every result.
    idle_results: tuple[Value, ...] | None = ()


_KINDS = {
    "get": _Kind(_get, idle_results=None),
    "set": _Kind(_set, 1, 2),
    "setnx": _Kind(_setnx, 1, 2, (0,)),
    "setxx": _Kind(_setxx, 1, 2, (0,)),
    "setkeep": _Kind(_setkeep, 1, 1),
    "getset": _Kind(_getset, 1, 2),
    "setnxget": _Kind(_setnxget, 1, 1),
    "getex": _Kind(_getex, 0, 1, (None,)),
    "getdel": _Kind(_getdel, idle_results=(None,)),
    "del": _Kind(_del, idle_results=(0,)),
    "exists": _Kind(_exists, idle_results=None),
    "cas": _Kind(_cas, 2, 2, (0,)),
    "incrby": _Kind(_incrby, 1, 1),
    "incrbyfloat": _Kind(_incrbyfloat, 1, 1),
    "append": _Kind(_append, 1, 1),
    "setrange": _Kind(_setrange, 2, 2),
    "getrange": _Kind(_getrange, 2, 2, None),
    "strlen": _Kind(_strlen, idle_results=None),
    "pexpire": _Kind(_pexpire, 1, 1, (0,)),
    "pexpirenx": _Kind(_pexpirenx, 1, 1, (0,)),
    "pexpirexx": _Kind(_pexpirexx, 1, 1, (0,)),
    "pexpireat": _Kind(_pexpireat, 1, 1, (0,)),
    "persist": _Kind(_persist, idle_results=(0,)),
    "pttl": _Kind(_pttl, idle_results=None),
    "flush": _Kind(_flush),
    "check": _Kind(_check, 1, 1, None),
    # Their rule is `_apply_to_pair`.
    "rename": _Kind(_check, 1, 1, (NO_SUCH_KEY,)),
    "renamenx": _Kind(_check, 1, 1, (0, NO_SUCH_KEY)),
    "copy": _Kind(_check, 2, 2, (0,)),
}
_PAIRS = frozenset({"rename", "renamenx", "copy"})
_ONE_KEY = frozenset(_KINDS) - {"check"} - _PAIRS
_MAY_EXPIRE = frozenset({"pexpire", "pexpirenx", "pexpirexx", "pexpireat"})
_MAY_HAVE_TTL = frozenset({"set", "setnx", "setxx", "getset"})
# Where a value is only ever overwritten, or told to the letter.
_EXACT = frozenset({"get", "set", "getset", "getdel"})
_APPEND_ONLY = frozenset({"append", "get", "strlen", "exists"})


# ------------------------------------------------------------------------------- models


@dataclass(frozen=True, slots=True)
class Model:
    """The store as far as some kinds of operation show it.

    Args:
        name: As a history names it.
        kinds: What operations may occur.
        early_us: See `History`.
        late_us: See `History`.
    """

    name: str
    kinds: frozenset[str]
    early_us: int = 0
    late_us: int = 0

    def initial(self) -> State:
        """Return the state before the first operation: no key."""
        return ()

    def step(
        self, state: State, operation: Operation, window: Window = ANYTIME
    ) -> frozenset[State]:
        """Return the states that may follow; none if the result is impossible here.

        Args:
            state: Just before.
            operation: Takes effect wholly. Of unknown outcome: with any result.
            window: When, at the earliest and at the latest.
        """
        window = window._replace(early_us=self.early_us, late_us=self.late_us)
        successors = set()
        for cells in self._aged(dict(state), operation.keys, window):
            try:
                result = self._run(cells, operation, window)
            except ImpossibleError:
                continue
            if operation.outcome is Outcome.UNKNOWN or _fits(result, operation.result):
                successors.add(tuple(sorted(cells.items())))
        return frozenset(successors)

    def _aged(
        self, cells: dict[str, Cell], keys: tuple[str, ...], window: Window
    ) -> Iterator[dict[str, Cell]]:
        """Yield what time may have left of the keys that an operation touches."""
        choices: list[tuple[Cell | None, ...]] = []
        for key in keys:
            cell = cells.get(key)
            if cell is None or window.last_us < cell.first_deadline_us:
                choices.append((cell,))
            elif window.first_us <= cell.last_deadline_us:
                choices.append((cell, None))
            else:
                choices.append((None,))
        for choice in itertools.product(*choices):
            aged = dict(cells)
            for key, cell in zip(keys, choice, strict=True):
                _put(aged, key, cell)
            yield aged

    def _run(self, cells: dict[str, Cell], operation: Operation, window: Window) -> Value | range:
        if operation.kind != "transaction":
            key = operation.keys[0]
            return _apply(cells, operation.kind, key, operation.arguments, window)
        before = dict(cells)
        results = []
        for kind, key, *arguments in _steps(operation):
            result = _apply(cells, kind, key, arguments, window)
            if kind == "check" and result == 0:
                cells.clear()
                cells.update(before)
                return None
            results.append(result)
        # A range inside of the results compares equal to the number that fits it.
        if isinstance(operation.result, tuple) and len(operation.result) == len(results):
            pairs = zip(results, operation.result, strict=True)
            return tuple(told if _fits(result, told) else _plain(result) for result, told in pairs)
        return tuple(_plain(result) for result in results)

    def partition(self, operations: Iterable[Operation]) -> list[list[Operation]]:
        """Return the operations that may have taken effect, apart where no key joins them.

        Linearizability is local: a history is linearizable exactly if its parts on
        disjoint sets of keys are. An operation on several keys joins their parts.

        Raises:
            HistoryError: An operation is none of this model.
        """
        leaders: dict[str, str] = {}

        def leader(key: str) -> str:
            while leaders.setdefault(key, key) != key:
                leaders[key] = key = leaders[leaders[key]]
            return key

        counted = []
        for operation in operations:
            self._validate(operation)
            if operation.outcome is not Outcome.REFUSED:
                counted.append(operation)
                for key in operation.keys:
                    leaders[leader(key)] = leader(operation.keys[0])
        parts: dict[str, list[Operation]] = {}
        for operation in counted:
            parts.setdefault(leader(operation.keys[0]), []).append(operation)
        return list(parts.values())

    def _validate(self, operation: Operation) -> None:
        if operation.kind not in self.kinds:
            raise HistoryError(f"{operation}: model {self.name} knows no {operation.kind}")
        if operation.kind != "transaction":
            if len(operation.keys) != 1:
                raise HistoryError(f"{operation}: only a transaction has several keys")
            _validate_step(operation, operation.kind, operation.arguments)
            return
        for step in operation.arguments:
            if not isinstance(step, tuple) or len(step) < 2 or step[1] not in operation.keys:
                raise HistoryError(f"{operation}: a step is (kind, key, argument...)")
            if step[0] in _PAIRS and step[2:3] and step[2] not in operation.keys:
                raise HistoryError(f"{operation}: {step[2]} is none of its keys")
            _validate_step(operation, str(step[0]), step[2:])

    # ------------------------------------------------- what lets the checker look less

    def is_observation(self, operation: Operation) -> bool:
        """Tell whether an operation with this result left everything as it was."""
        if operation.outcome is not Outcome.OK:
            return False
        if operation.kind != "transaction":
            return _is_idle(operation.kind, operation.result)
        if operation.result is None:
            return True
        results = operation.result if isinstance(operation.result, tuple) else ()
        return len(results) == len(operation.arguments) and all(
            _is_idle(step[0], result)
            for step, result in zip(_steps(operation), results, strict=True)
        )

    def is_pure_read(self, operation: Operation) -> bool:
        """Tell whether an operation changes nothing whatever its result is."""
        return all(_KINDS[kind].idle_results is None for kind in _kinds_of(operation))

    def is_timeless(self, operations: Iterable[Operation]) -> bool:
        """Tell whether no key of a part can expire, so that times decide the order only."""
        return not any(
            kind in _MAY_EXPIRE
            or (kind in _MAY_HAVE_TTL and len(arguments) > 1)
            or (kind == "getex" and arguments)
            for operation in operations
            for kind, arguments in _commands_of(operation)
        )

    def beacons(self, operations: Sequence[Operation]) -> list[Operation]:
        """Return the reads which every state before them can be held against.

        Where nothing but appends change a key, each state is the beginning of every
        later one; so what is read at last shows the order of the writes from the first.
        The one that read least comes first.
        """
        if not all(one.kind in _APPEND_ONLY for one in operations):
            return []
        reads = [one for one in operations if one.kind == "get" and one.outcome is Outcome.OK]
        return sorted(reads, key=lambda one: _length(one.result))

    def can_lead_to(self, state: State, beacon: Operation) -> bool:
        """Tell whether a state can come before a beacon."""
        value = state[0][1].value if state else ""
        return isinstance(beacon.result, str | None) and (beacon.result or "").startswith(value)

    def unseen(self, operations: Sequence[Operation]) -> list[bool]:
        """Tell by operation whether it does nothing but write a value that no result shows.

        Between such a write and the next one nothing else can have been, if every other
        operation either writes blindly or tells the value it found.
        """
        if not all(one.kind in _EXACT for one in operations) or not self.is_timeless(operations):
            return [False] * len(operations)
        seen = {one.result for one in operations if one.outcome is Outcome.OK and one.kind != "set"}
        return [one.kind == "set" and str(one.arguments[0]) not in seen for one in operations]

    def is_blind(self, operation: Operation) -> bool:
        """Tell whether an operation leaves nothing of the state before it."""
        return operation.kind == "set"

    def describe(self, state: State) -> str:
        """Return a state for people."""
        return ", ".join(_cell_text(key, cell) for key, cell in state) or "nothing"


def _apply(
    cells: dict[str, Cell], kind: str, key: str, arguments: Sequence[Value], window: Window
) -> Value | range:
    if kind in _PAIRS:
        return _apply_to_pair(cells, kind, key, arguments)
    cell, result = _KINDS[kind].rule(cells.get(key), arguments, window)
    _put(cells, key, cell)
    return result


def _apply_to_pair(
    cells: dict[str, Cell], kind: str, source: str, arguments: Sequence[Value]
) -> Value:
    """Carry out RENAME, RENAMENX or COPY: the deadline goes along."""
    target = str(arguments[0])
    cell = cells.get(source)
    if cell is None:
        return 0 if kind == "copy" else NO_SUCH_KEY
    if target in cells and (kind == "renamenx" or (kind == "copy" and not arguments[1])):
        return 0
    if kind != "copy":
        del cells[source]
    cells[target] = cell
    return "OK" if kind == "rename" else 1


def _put(cells: dict[str, Cell], key: str, cell: Cell | None) -> None:
    if cell is None:
        cells.pop(key, None)
    else:
        cells[key] = cell


def _fits(result: Value | range, told: Value) -> bool:
    return told in result if isinstance(result, range) else result == told


def _plain(result: Value | range) -> Value:
    return result.start if isinstance(result, range) else result


def _steps(operation: Operation) -> Iterator[tuple[str, str, *tuple[Value, ...]]]:
    for step in operation.arguments:
        assert isinstance(step, tuple)
        kind, key, *arguments = step
        yield (str(kind), str(key), *arguments)


def _commands_of(operation: Operation) -> Iterator[tuple[str, Sequence[Value]]]:
    if operation.kind != "transaction":
        yield operation.kind, operation.arguments
        return
    for kind, _, *arguments in _steps(operation):
        yield kind, arguments


def _kinds_of(operation: Operation) -> Iterator[str]:
    return (kind for kind, _ in _commands_of(operation))


def _is_idle(kind: str, result: Value) -> bool:
    idle_results = _KINDS[kind].idle_results
    return idle_results is None or result in idle_results


def _validate_step(operation: Operation, kind: str, arguments: Sequence[Value]) -> None:
    known = _KINDS.get(kind)
    if known is None:
        raise HistoryError(f"{operation}: nobody knows {kind}")
    if not known.arguments_min <= len(arguments) <= known.arguments_max:
        raise HistoryError(f"{operation}: {kind} has {len(arguments)} arguments")


def _length(value: Value) -> int:
    return len(value) if isinstance(value, str) else 0


def _cell_text(key: str, cell: Cell) -> str:
    text = f"{key}={value_text(cell.value)}"
    return text if cell.first_deadline_us == _NEVER else f"{text} (expires)"


_TABLE: dict[str, frozenset[str]] = {
    "register": frozenset(
        {"get", "set", "setnx", "setxx", "getset", "getdel", "del", "exists"}
        | {"setkeep", "setnxget", "getex", "pexpirenx", "pexpirexx"}
        | {"pexpire", "pexpireat", "persist", "pttl"}
    ),
    "counter": frozenset({"get", "incrby", "del"}),
    "append-register": _APPEND_ONLY,
    "compare-and-set": frozenset({"get", "set", "cas"}),
    "transactions": frozenset({"get", "set", "transaction"}),
    "store": _ONE_KEY | {"transaction"},
}
MODELS: dict[str, Model] = {name: Model(name, kinds) for name, kinds in _TABLE.items()}

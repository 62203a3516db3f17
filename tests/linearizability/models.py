"""What a correct store would answer: the sequential meaning of every kind of operation.

A model is pure. `initial` gives the first state, `step` the states that may follow
when one operation takes effect, `partition` the groups of operations that can be
judged apart. A step that gives no state says: this result is impossible here. A step
that gives several says: the client cannot know which; the checker carries the whole
set. That is needed for deadlines, which the leaders' clocks decide: around its deadline a
key may be there or not; and for SPOP of unknown outcome, which took any of the members.

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
| pexpireif | value, ttl_ms, 0 any, 1 only with a deadline, 2 added to it | 1 or 0 |
| pexpiregt, pexpirelt | ttl_ms | 1 or 0: only to a later, only to an earlier deadline |
| setat, getexat | like set and getex, with a deadline on that clock | likewise |
| persist | - | 1 or 0: whether a deadline was taken away |
| pttl, ttl | - | milliseconds or seconds left, -1 without a deadline, -2 without the key |
| pexpiretime, expiretime | - | deadline on that clock, in milliseconds or seconds |
| transaction | steps (kind, key, argument...) | list of results; null if a check failed |
| check | expected or null | 1; only as the step of a transaction |
| rename, renamenx | other key | "OK", 1 or 0, or `NO_SUCH_KEY`; only as such a step |
| copy | other key, replace (1 or 0) | 1 or 0; only as such a step |
| delall, existsall | all keys | how many there were; only as such a step |
| flush | - | "OK"; what FLUSHALL does to a key |

Hashes, lists, sets, sorted sets, bits and leases have their kinds in `hash_rules` and the modules
beside it: named after the commands, with the arguments of these, elements that have no
order sorted by name, pairs as lists of two, and errors as their text. Kinds on several
keys are steps of a transaction, and name the other keys first.

A state is the sorted tuple of the keys that are there with their cells, so equal
states are equal values. All keys begin absent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.linearizability.bit_rules import BIT_KINDS
from tests.linearizability.cells import (
    FOREVER,
    Cell,
    ImpossibleError,
    Kind,
    Result,
    Sample,
    Window,
    put,
)
from tests.linearizability.hash_rules import HASH_KINDS
from tests.linearizability.history import HistoryError, Operation, Outcome, Value, value_text
from tests.linearizability.lease_rules import LEASE_KINDS
from tests.linearizability.list_rules import LIST_KINDS
from tests.linearizability.set_rules import SET_KINDS
from tests.linearizability.sorted_set_rules import SORTED_SET_KINDS
from tests.linearizability.string_rules import STRING_KINDS, string_of

State = tuple[tuple[str, Cell], ...]
_Ending = tuple[dict[str, Cell], Result]
ANYTIME = Window(0, FOREVER)


_KINDS: dict[str, Kind] = {
    **STRING_KINDS,
    **BIT_KINDS,
    **HASH_KINDS,
    **LEASE_KINDS,
    **LIST_KINDS,
    **SET_KINDS,
    **SORTED_SET_KINDS,
}
_ONE_KEY = frozenset(kind for kind, known in _KINDS.items() if known.rule) - {"check"}
_MAY_EXPIRE = frozenset(
    {"pexpire", "pexpirenx", "pexpirexx", "pexpiregt", "pexpirelt", "pexpireat"}
    | {"setat", "getexat", "pexpireif", "leasetake", "leasekeep"}
)
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
        least_ahead_us: See `History`.
        most_ahead_us: See `History`.
        lease_early_us: See `History`.
        lease_late_us: See `History`.
    """

    name: str
    kinds: frozenset[str]
    early_us: int = 0
    late_us: int = 0
    least_ahead_us: int = 0
    most_ahead_us: int = 0
    lease_early_us: int = 0
    lease_late_us: int = 0

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
        window = window._replace(
            early_us=self.early_us,
            late_us=self.late_us,
            least_ahead_us=self.least_ahead_us,
            most_ahead_us=self.most_ahead_us,
            lease_early_us=self.lease_early_us,
            lease_late_us=self.lease_late_us,
        )
        successors = set()
        for cells in self._aged(dict(state), operation.keys, window):
            try:
                endings = self._run(cells, operation, window)
            except ImpossibleError:
                continue
            for after, result in endings:
                if operation.outcome is Outcome.UNKNOWN or _fits(result, operation.result):
                    successors.add(tuple(sorted(after.items())))
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
                put(aged, key, cell)
            yield aged

    def _run(self, cells: dict[str, Cell], operation: Operation, window: Window) -> list[_Ending]:
        if operation.kind != "transaction":
            key = operation.keys[0]
            return _apply(cells, operation.kind, key, operation.arguments, window)
        before = dict(cells)
        given_up: list[_Ending] = []
        ongoing: list[tuple[dict[str, Cell], tuple[Result, ...]]] = [(cells, ())]
        for kind, key, *arguments in _steps(operation):
            further = []
            for now, results in ongoing:
                for after, result in _apply(now, kind, key, arguments, window):
                    if kind == "check" and result == 0:
                        given_up = [(before, None)]
                    else:
                        further.append((after, (*results, result)))
            ongoing = further
        told = operation.result
        return given_up + [(after, _told_result(results, told)) for after, results in ongoing]

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
        value = string_of(state[0][1]) if state else ""
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
) -> list[_Ending]:
    """Let a command take effect: what may be behind it. May change `cells`."""
    known = _KINDS[kind]
    if known.rule is None:
        assert known.across is not None
        return [(cells, known.across(cells, key, arguments))]
    effect = known.rule(cells.get(key), arguments, window)
    if isinstance(effect, tuple):
        put(cells, key, effect[0])
        return [(cells, effect[1])]
    endings: list[_Ending] = []
    for cell, result in effect:
        after = dict(cells)
        put(after, key, cell)
        endings.append((after, result))
    return endings


def _told_result(results: tuple[Result, ...], told: Value) -> Value:
    """Return the results of a transaction; where any of many would do, what the client was told."""
    if isinstance(told, tuple) and len(told) == len(results):
        pairs = zip(results, told, strict=True)
        return tuple(one if _fits(result, one) else _plain(result) for result, one in pairs)
    return tuple(_plain(result) for result in results)


def _fits(result: Result, told: Value) -> bool:
    if isinstance(result, range):
        return told in result
    return result.fits(told) if isinstance(result, Sample) else result == told


def _plain(result: Result) -> Value:
    if isinstance(result, range):
        return result.start
    return result.elements if isinstance(result, Sample) else result


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
    if known.across is not None:
        others = arguments[0] if isinstance(arguments[0], tuple) else (arguments[0],)
        for other in others:
            if other not in operation.keys:
                raise HistoryError(f"{operation}: {other} is none of its keys")


def _length(value: Value) -> int:
    return len(value) if isinstance(value, str) else 0


def _cell_text(key: str, cell: Cell) -> str:
    text = f"{key}={value_text(cell.value)}"
    return f"{text} (expires)" if cell.has_deadline else text


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

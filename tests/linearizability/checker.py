"""Judge of a history: is there one order of its operations that explains every result?

The algorithm is Wing and Gong's search with Lowe's memory: take an operation that no
other one precedes in time, let the model make its step, go on; where nothing fits, go
back. What was tried is remembered as (operations taken, states), and never tried
again. Operations of unknown outcome never return, so they may be taken at any later
place or left out; refused ones are not here. The search is exponential in what is
open at once, so four arguments make it smaller, none of which changes the answer:

* Left out is never worse. If the same required operations led to the same states with
  fewer optional ones taken, this attempt is dropped: whatever it could still explain,
  that one could.
* A result that shows no change, and fits, is taken at once: later it could only fit
  less. Where keys expire that holds only if it does not move time forward.
* Of unknown operations that are alike the one called first is taken first.
* A blind write of a value that no result shows can only be followed by another write.
  So it is taken together with the next one, just before it; and if its outcome is
  unknown it is left out.

Three answers: ok, illegal, or unknown when time or memory ran out; and unknown is a
failure, because nothing was shown. Of an illegal history the smallest part is told:
cut behind the first result that nothing explains, without the reads that do not
matter, with the longest order that explains everything before.

Sources: J. Wing, C. Gong, "Testing and verifying concurrent objects" (1993); G. Lowe,
"Testing for linearizability" (2017); A. Horn, D. Kroening, "Faster linearizability
checking via P-compositionality" (2015).
"""

from __future__ import annotations

import dataclasses
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tests.linearizability.history import History, Operation, Outcome
from tests.linearizability.models import ANYTIME, FOREVER, MODELS, Model, State, Window

PART_SECONDS_MAX = 10.0
# About 300 bytes each: what 10 seconds can visit, and what a small machine can hold.
PART_CONFIGURATIONS_MAX = 3_000_000
_CLOCK_EVERY = 256
# A failure is told even if it cannot be made small: this bounds the trying.
_SHRINK_SECONDS_MAX = 5.0


class Verdict(StrEnum):
    """What the checker knows. Only `ok` is a success."""

    OK = "ok"
    ILLEGAL = "illegal"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """The judgement of operations that no key joins with others.

    Attributes:
        keys: Of the part.
        operations: In the order of the calls, without the refused ones.
        verdict: Of the part.
        order: The whole linearization if `ok`; else the longest that was found, which
            explains every result before `offender`.
        states: After each operation of `order`, as text; several if time decides.
        offender: The first operation by its return that nothing explains.
        configurations: How many the search visited; the measure of its work.
        elapsed_s: Of processor time.
    """

    keys: tuple[str, ...]
    operations: tuple[Operation, ...]
    verdict: Verdict
    order: tuple[Operation, ...] = ()
    states: tuple[tuple[str, ...], ...] = ()
    offender: Operation | None = None
    configurations: int = 0
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The judgement of a whole history.

    Attributes:
        verdict: `illegal` if a part is, else `unknown` if one is.
        parts: All of them; the failing one of `failing` as it was, uncut.
        failing: The smallest part that is not ok, cut and shrunk if illegal.
    """

    verdict: Verdict
    parts: tuple[PartResult, ...]
    failing: PartResult | None

    @property
    def is_ok(self) -> bool:
        """Whether linearizability was shown."""
        return self.verdict is Verdict.OK

    def __str__(self) -> str:
        operations = sum(len(part.operations) for part in self.parts)
        counts = [sum(part.verdict is verdict for part in self.parts) for verdict in Verdict]
        configurations = sum(part.configurations for part in self.parts)
        slowest_s = max((part.elapsed_s for part in self.parts), default=0.0)
        text = (
            f"{self.verdict}: {operations} operations in {len(self.parts)} parts "
            f"({counts[0]} ok, {counts[1]} illegal, {counts[2]} unknown), "
            f"{configurations} configurations, slowest part {slowest_s:.2f} s"
        )
        if self.failing is not None:
            text += f"\n{explain(self.failing)}"
            if self.failing.offender is not None:
                text += f" It returned at {self.failing.offender.returned_us} us."
        return text


def explain(part: PartResult) -> str:
    """Say in a sentence or two what is wrong with a part."""
    keys = ", ".join(part.keys)
    if part.verdict is Verdict.OK:
        return f"{keys}: one order explains all {len(part.order)} operations."
    if part.offender is None:
        return (
            f"{keys}: the search over {len(part.operations)} operations ended at its limit, "
            f"after {part.configurations} configurations; nothing is shown."
        )
    state = " or ".join(part.states[-1]) if part.states else "nothing"
    return (
        f"{keys}: no order of {len(part.operations)} operations explains "
        f"[{_short(str(part.offender))}]. The longest order of those before it takes "
        f"{len(part.order)} and leaves {_short(state)}."
    )


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:50]} … {text[-60:]}"


@dataclass(slots=True)
class Budget:
    """How much a search may take, in time and in memory.

    Args:
        seconds: By the clock.
        configurations: Visited at most.
        clock: In seconds, monotone. That of the processor: a busy machine decides as much.
    """

    seconds: float = PART_SECONDS_MAX
    configurations: int = PART_CONFIGURATIONS_MAX
    clock: Callable[[], float] = time.process_time
    visited: int = 0
    _started_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    @property
    def elapsed_s(self) -> float:
        """How long ago the budget was made."""
        return self.clock() - self._started_s

    def visit(self) -> bool:
        """Count one configuration; tell whether it may be visited."""
        self.visited += 1
        if self.visited > self.configurations:
            return False
        return self.visited % _CLOCK_EVERY != 1 or self.elapsed_s < self.seconds


def check(
    history: History,
    *,
    model: Model | None = None,
    seconds_a_part: float = PART_SECONDS_MAX,
    configurations_a_part: int = PART_CONFIGURATIONS_MAX,
    clock: Callable[[], float] = time.process_time,
) -> CheckResult:
    """Judge a history.

    Args:
        history: Whole; the model may join operations from anywhere in it.
        model: Instead of the one which the history names.
        seconds_a_part: Then the part is unknown.
        configurations_a_part: Likewise.
        clock: For the time limit; see `Budget`.

    Raises:
        HistoryError: The model does not know an operation.
    """
    if model is None:
        model = dataclasses.replace(
            MODELS[history.model],
            early_us=history.early_us,
            late_us=history.late_us,
            least_ahead_us=history.least_ahead_us,
            most_ahead_us=history.most_ahead_us,
            lease_early_us=history.lease_early_us,
            lease_late_us=history.lease_late_us,
        )
    results = []
    for operations in model.partition(history.operations):
        budget = Budget(seconds_a_part, configurations_a_part, clock)
        results.append(_check_part(model, operations, budget))
    failed = [part for part in results if part.verdict is not Verdict.OK]
    if not failed:
        return CheckResult(verdict=Verdict.OK, parts=tuple(results), failing=None)
    illegal = [part for part in failed if part.verdict is Verdict.ILLEGAL]
    failing = min(illegal or failed, key=_size)
    if illegal:
        failing = _shrink(model, failing, Budget(_SHRINK_SECONDS_MAX, clock=clock))
    return CheckResult(verdict=failing.verdict, parts=tuple(results), failing=failing)


def _size(part: PartResult) -> int:
    """Count what happened until the offence: the part that will be told."""
    if part.offender is None or part.offender.returned_us is None:
        return len(part.operations)
    return sum(one.called_us <= part.offender.returned_us for one in part.operations)


def _check_part(model: Model, operations: Sequence[Operation], budget: Budget) -> PartResult:
    search = _Search(model, operations, budget)
    verdict = search.run()
    # A search that holds every state against later reads ends long before the offence.
    if verdict is Verdict.ILLEGAL and search.beacons:
        search = _first_offence(model, operations, budget) or search
    offender = search.offender if verdict is Verdict.ILLEGAL else None
    return _part_result(model, search, verdict, offender, budget)


def _part_result(
    model: Model, search: _Search, verdict: Verdict, offender: Operation | None, budget: Budget
) -> PartResult:
    order = tuple(search.operations[position] for position in search.order)
    keys = {key for operation in search.operations for key in operation.keys}
    return PartResult(
        keys=tuple(sorted(keys)),
        operations=tuple(search.operations),
        verdict=verdict,
        order=order,
        states=tuple(
            tuple(sorted(model.describe(state) for state in states))
            for states in search.states_along(search.order)
        ),
        offender=offender,
        configurations=budget.visited,
        elapsed_s=budget.elapsed_s,
    )


def _first_offence(model: Model, operations: Sequence[Operation], budget: Budget) -> _Search | None:
    """Find by bisection the first return that makes the history illegal.

    A history that is linearizable is so until any moment; so bisection may be used.
    Returns the search that ended just before it, with the offender; None if the budget
    is spent.
    """
    returns = sorted({_return_us(one) for one in operations} - {FOREVER})
    verdicts: dict[int, Verdict] = {}

    def is_illegal(cut_us: int) -> bool:
        verdicts[cut_us] = _Search(model, operations, budget, cut_us=cut_us).run()
        return verdicts[cut_us] is Verdict.ILLEGAL

    cut_us = returns[bisect_left(returns, True, hi=len(returns) - 1, key=is_illegal)]
    search = _Search(model, operations, budget, cut_us=cut_us - 1)
    if Verdict.UNKNOWN in verdicts.values() or search.run() is not Verdict.OK:
        return None
    taken = set(search.order)
    search.offender = next(
        one
        for position, one in enumerate(search.operations)
        if _return_us(one) == cut_us and position not in taken
    )
    return search


def _shrink(model: Model, part: PartResult, budget: Budget) -> PartResult:
    """Return the part until its offence, without the results that do not matter.

    A read that is left out, or a part that is cut, makes a history easier to explain;
    so what stays illegal proves that the whole is. To leave out a write would not.
    """
    if part.offender is None:
        return part
    cut_us = _return_us(part.offender)
    kept = [
        one
        for one in part.operations
        if one.called_us <= cut_us
        and not (model.is_observation(one) and _return_us(one) > cut_us)
        and not (one.outcome is Outcome.UNKNOWN and model.is_pure_read(one))
    ]
    if _Search(model, kept, budget, cut_us=cut_us).run() is not Verdict.ILLEGAL:
        return part
    size = max(1, len(kept) // 2)
    while True:
        droppable = [one for one in kept if model.is_observation(one) and one is not part.offender]
        for first in range(0, len(droppable), size):
            chunk = {id(one) for one in droppable[first : first + size]}
            fewer = [one for one in kept if id(one) not in chunk]
            if _Search(model, fewer, budget, cut_us=cut_us).run() is Verdict.ILLEGAL:
                kept = fewer
        if size == 1 or budget.elapsed_s > budget.seconds:
            break
        size //= 2
    before = _Search(model, kept, Budget(clock=budget.clock), cut_us=cut_us - 1)
    if before.run() is not Verdict.OK:
        return part
    told = _part_result(model, before, Verdict.ILLEGAL, part.offender, budget)
    return dataclasses.replace(told, configurations=part.configurations, elapsed_s=part.elapsed_s)


def _return_us(operation: Operation) -> int:
    """Return when an operation ended for the search: an unknown one never does."""
    if operation.outcome is Outcome.UNKNOWN or operation.returned_us is None:
        return FOREVER
    return operation.returned_us


class _Frame(NamedTuple):
    """One configuration on the way, with what is still to be tried from it."""

    taken: int
    number: int
    limit_us: int
    choices: list[int]
    unseen: list[int]
    # Of the path before the operations that led here.
    length: int


class _Search:
    """One search for an order.

    Operations are bits of an integer, in the order of their calls. Sets of states are
    numbered, so that a configuration is two integers.

    Args:
        model: Of the operations.
        operations: Of one part, none of them refused.
        budget: Shared with other searches, or not.
        cut_us: What returned later is optional; its result still must fit.

    Attributes:
        operations: Those which can matter, in the order of the calls.
        order: Positions in `operations`: the linearization, or the longest prefix.
        offender: The operation that bounds this prefix; None if all is explained.
        beacons: Positions of the reads which every state before them is held against.
    """

    def __init__(
        self,
        model: Model,
        operations: Sequence[Operation],
        budget: Budget,
        *,
        cut_us: int = FOREVER,
    ) -> None:
        self.operations = sorted(
            # Nobody knows what an unknown read saw, and it changed nothing.
            (one for one in operations if one.outcome is Outcome.OK or not model.is_pure_read(one)),
            key=lambda one: (one.called_us, _return_us(one)),
        )
        self.order: list[int] = []
        self.offender: Operation | None = None
        self._model = model
        self._budget = budget
        self._calls = [one.called_us for one in self.operations]
        self._returns = [
            end_us if (end_us := _return_us(one)) <= cut_us else FOREVER for one in self.operations
        ]
        self._required = sum(
            1 << position for position, end_us in enumerate(self._returns) if end_us != FOREVER
        )
        self._all = (1 << len(self.operations)) - 1
        self._observations = sum(
            1 << position
            for position, one in enumerate(self.operations)
            if model.is_observation(one)
        )
        self._unseen = self._required & sum(
            1 << position
            for position, is_unseen in enumerate(model.unseen(self.operations))
            if is_unseen
        )
        self._is_timeless = model.is_timeless(self.operations)
        self._elder = self._elders()
        self.beacons = self._find_beacons()
        self._sets: list[frozenset[State]] = []
        self._numbers: dict[frozenset[State], int] = {}
        self._steps: dict[tuple[int, int, Window], int] = {}
        self._hopeful: dict[tuple[int, int], int] = {}
        # By number of states, then by required operations taken: the sets of optional
        # ones taken, none of which contains another.
        self._seen: list[dict[int, tuple[int, ...]]] = []
        self._path: list[int] = []
        self._best_us = -1

    def _elders(self) -> list[int]:
        """Return by position the bit of the unknown operation alike that was called before."""
        last: dict[object, int] = {}
        elders = [0] * len(self.operations)
        for position, one in enumerate(self.operations):
            if one.outcome is Outcome.UNKNOWN:
                likeness = (one.kind, one.keys, one.arguments)
                elders[position] = last.get(likeness, 0)
                last[likeness] = 1 << position
        return elders

    def _find_beacons(self) -> list[int]:
        """Return the positions of the beacons among what must be explained."""
        places = {id(one): position for position, one in enumerate(self.operations)}
        positions = [places[id(one)] for one in self._model.beacons(self.operations)]
        return [position for position in positions if self._required >> position & 1]

    # ------------------------------------------------------------------------ states

    def _number(self, states: frozenset[State]) -> int:
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = len(self._sets)
            self._sets.append(states)
            self._seen.append({})
        return number

    def _step(self, number: int, position: int, window: Window) -> int:
        """Return the number of the set of states after an operation; 0 is the empty set."""
        known = self._steps.get((number, position, window))
        if known is not None:
            return known
        operation = self.operations[position]
        states: set[State] = set()
        for state in self._sets[number]:
            states |= self._model.step(state, operation, window)
        after = self._number(frozenset(states))
        self._steps[number, position, window] = after
        return after

    def _keep_hopeful(self, number: int, taken: int) -> int:
        """Drop the states that a read to come proves wrong; the shortest tells most."""
        for read in self.beacons:
            if not taken >> read & 1:
                return self._leading_to(self._leading_to(number, read), self.beacons[-1])
        return number

    def _leading_to(self, number: int, read: int) -> int:
        """Return the number of the states which can come before a read."""
        hopeful = self._hopeful.get((number, read))
        if hopeful is None:
            beacon = self.operations[read]
            hopeful = self._hopeful[number, read] = self._number(
                frozenset(
                    state for state in self._sets[number] if self._model.can_lead_to(state, beacon)
                )
            )
        return hopeful

    def _window(self, taken: int, limit_us: int) -> Window:
        """Return between which times the operation taken last takes effect.

        Not before the last call among those taken; not after the first return among
        those that were to come, itself included.
        """
        if self._is_timeless:
            return ANYTIME
        return Window(self._calls[taken.bit_length() - 1], limit_us)

    def states_along(self, order: Sequence[int]) -> list[frozenset[State]]:
        """Return the states after each operation of an order."""
        along = []
        taken = 0
        states = frozenset({self._model.initial()})
        for position in order:
            _, limit_us = self._candidates(taken)
            taken |= 1 << position
            window = self._window(taken, limit_us)
            operation = self.operations[position]
            states = frozenset().union(
                *(self._model.step(state, operation, window) for state in states)
            )
            along.append(states)
        return along

    # ------------------------------------------------------------------------ search

    def run(self) -> Verdict:
        """Search to the end, or to the end of the budget."""
        self._number(frozenset())
        first = self._number(frozenset({self._model.initial()}))
        stack: list[_Frame] = []
        entered: tuple[int, int, int] | None = (0, first, 0)
        while entered is not None:
            if not self._budget.visit():
                return Verdict.UNKNOWN
            taken, number, length = entered
            taken, choices, limit_us = self._take_observations(taken, number)
            self._note_progress(limit_us, taken)
            if limit_us == FOREVER:
                return Verdict.OK
            unseen = [one for one in choices if self._unseen >> one & 1]
            if self._is_dominated(taken, number):
                choices = []
            # All unseen values are alike, so one of them stands for all.
            choices = [one for one in choices if not self._unseen >> one & 1] + unseen[:1]
            choices.sort(key=self._returns.__getitem__, reverse=True)
            stack.append(_Frame(taken, number, limit_us, choices, unseen, length))
            entered = self._next(stack)
        return Verdict.ILLEGAL

    def _next(self, stack: list[_Frame]) -> tuple[int, int, int] | None:
        """Take the next choice that fits, going back as far as needed.

        Returns what is taken then, the number of the states, and how long the path was.
        """
        while stack:
            frame = stack[-1]
            while frame.choices:
                position = frame.choices.pop()
                elder = self._elder[position]
                if elder and not frame.taken & elder:
                    continue
                bit = 1 << position
                taken = frame.taken | bit
                after = self._step(frame.number, position, self._window(taken, frame.limit_us))
                # An optional operation that changes nothing is not worth its place.
                if after == frame.number and not self._required & bit:
                    continue
                after = self._keep_hopeful(after, taken)
                if after:
                    length = len(self._path)
                    if self._model.is_blind(self.operations[position]):
                        self._path += [one for one in frame.unseen if one != position]
                        taken |= sum(1 << one for one in frame.unseen if one != position)
                    self._path.append(position)
                    return taken, after, length
            stack.pop()
            del self._path[frame.length :]
        return None

    def _candidates(self, taken: int) -> tuple[list[int], int]:
        """Return what no other operation precedes, and the first return among the rest."""
        limit_us = FOREVER
        found = []
        rest = self._all & ~taken
        while rest:
            low = rest & -rest
            position = low.bit_length() - 1
            if self._calls[position] > limit_us:
                break
            found.append(position)
            limit_us = min(limit_us, self._returns[position])
            rest ^= low
        return found, limit_us

    def _take_observations(self, taken: int, number: int) -> tuple[int, list[int], int]:
        """Take every result that shows no change and fits; return the rest as `_candidates`."""
        while True:
            found, limit_us = self._candidates(taken)
            latest_us = self._calls[taken.bit_length() - 1] if taken else -1
            before = taken
            for position in found:
                bit = 1 << position
                if not self._observations & self._required & bit:
                    continue
                if not self._is_timeless and self._calls[position] > latest_us:
                    continue
                if self._step(number, position, self._window(taken | bit, limit_us)) == number:
                    taken |= bit
                    self._path.append(position)
            if taken == before:
                return taken, found, limit_us

    def _is_dominated(self, taken: int, number: int) -> bool:
        """Tell whether the same was reached with no more optional operations; remember it."""
        seen = self._seen[number]
        required = taken & self._required
        optional = taken ^ required
        others = seen.get(required, ())
        for other in others:
            if other & optional == other:
                return True
        seen[required] = (*(one for one in others if one & optional != optional), optional)
        return False

    def _note_progress(self, limit_us: int, taken: int) -> None:
        """Keep the order that explains the most: all that returned before `limit_us`."""
        if limit_us > self._best_us or (
            limit_us == self._best_us and len(self._path) > len(self.order)
        ):
            self._best_us = limit_us
            self.order = list(self._path)
            self.offender = None
            if limit_us != FOREVER:
                self.offender = next(
                    one
                    for position, one in enumerate(self.operations)
                    if self._returns[position] == limit_us and not taken >> position & 1
                )

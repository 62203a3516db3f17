"""The checker against one that cannot be wrong, and within the work it is allowed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.linearizability.brute_force import is_linearizable, is_linearizable_on_grid
from tests.linearizability.checker import CheckResult, Verdict, check
from tests.linearizability.history import History, HistoryError, Operation, Outcome, Value
from tests.linearizability.models import MODELS
from tests.linearizability.reference import Faults, Workload, generate

MILLISECOND = 1000
# A part may take 10 s; a slow machine visits 100,000 configurations in one.
CONFIGURATIONS_ALLOWED = 500_000

VALUES = st.sampled_from(["1", "2"])
RESULTS: dict[str, st.SearchStrategy[Value]] = {
    "get": st.sampled_from([None, "1", "2", "3"]),
    "set": st.just("OK"),
    "cas": st.sampled_from([0, 1]),
    "incrby": st.sampled_from([1, 2, 3]),
    "append": st.sampled_from([1, 2, 3]),
    "del": st.sampled_from([0, 1]),
    "setnx": st.sampled_from([0, 1]),
    "getdel": st.sampled_from([None, "1", "2"]),
    "getset": st.sampled_from([None, "1", "2"]),
    "strlen": st.sampled_from([0, 1, 2]),
}


def judge(
    *operations: Operation, configurations_a_part: int = CONFIGURATIONS_ALLOWED
) -> CheckResult:
    """Judge with a limit on the work alone: how long it takes depends on the machine."""
    return check(
        History(operations=operations),
        seconds_a_part=600.0,
        configurations_a_part=configurations_a_part,
    )


@st.composite
def intervals(draw: st.DrawFn, unit_us: int = 1) -> tuple[int, int]:
    called = draw(st.integers(0, 8))
    return called * unit_us, (called + draw(st.integers(0, 5))) * unit_us


@st.composite
def operations(draw: st.DrawFn, kinds: tuple[str, ...], keys: tuple[str, ...]) -> Operation:
    kind = draw(st.sampled_from(kinds))
    called_us, returned_us = draw(intervals())
    outcome = draw(st.sampled_from([Outcome.OK] * 5 + [Outcome.UNKNOWN, Outcome.REFUSED]))
    arguments: tuple[Value, ...] = ()
    touched: tuple[str, ...] = (draw(st.sampled_from(keys)),)
    if kind in ("set", "setnx", "getset", "append"):
        arguments = (draw(VALUES),)
    elif kind == "cas":
        arguments = (draw(st.sampled_from([None, "1", "2"])), draw(VALUES))
    elif kind == "incrby":
        arguments = (draw(st.integers(1, 2)),)
    if kind == "transaction":
        touched = keys
        steps = draw(
            st.lists(
                st.tuples(st.sampled_from(["get", "set", "check"]), st.sampled_from(keys)),
                min_size=1,
                max_size=3,
            )
        )
        arguments = tuple(
            (name, key) if name == "get" else (name, key, draw(VALUES)) for name, key in steps
        )
        told = {"get": st.sampled_from([None, "1", "2"]), "set": st.just("OK"), "check": st.just(1)}
        result: Value = tuple(draw(told[name]) for name, _ in steps)
        if any(name == "check" for name, _ in steps) and draw(st.booleans()):
            result = None
    else:
        result = draw(RESULTS[kind])
    return Operation(
        client="c",
        kind=kind,
        keys=touched,
        arguments=arguments,
        called_us=called_us,
        returned_us=returned_us,
        outcome=outcome,
        result=result if outcome is Outcome.OK else None,
    )


@pytest.mark.parametrize(
    ("kinds", "keys"),
    [
        (("get", "set"), ("x",)),
        (("get", "set", "getset", "getdel"), ("x",)),
        (("get", "set", "cas"), ("x",)),
        (("get", "incrby"), ("x",)),
        (("get", "append", "strlen"), ("x",)),
        (("get", "set", "getset", "setnx", "del", "cas"), ("x",)),
        (("get", "set", "transaction"), ("x", "y")),
    ],
    ids=lambda part: "-".join(part),
)
def test_the_answer_is_that_of_trying_everything(
    kinds: tuple[str, ...], keys: tuple[str, ...]
) -> None:
    @given(st.lists(operations(kinds, keys), max_size=6))
    def compare(history: list[Operation]) -> None:
        result = judge(*history)
        event(result.verdict)
        assert result.is_ok == is_linearizable(history)
        assert_told_truly(result, history)

    compare()


def assert_told_truly(result: CheckResult, history: list[Operation]) -> None:
    """What is told is a proof: an order that explains, or a smaller history that is illegal."""
    for part in result.parts:
        if part.verdict is Verdict.OK:
            assert replayed(part.order)
    if result.failing is not None:
        assert result.verdict is Verdict.ILLEGAL
        assert result.failing.offender in result.failing.operations
        assert not is_linearizable(result.failing.operations)
        assert replayed(result.failing.order)
        ends_us = result.failing.offender.returned_us
        assert ends_us is not None
        taken = set(map(id, result.failing.order))
        for one in result.failing.operations:
            if one.outcome is Outcome.OK and one.returned_us < ends_us:  # type: ignore[operator]
                assert id(one) in taken


def replayed(order: tuple[Operation, ...]) -> bool:
    """Tell whether an order respects time and results; it may leave later ones out."""
    chained = [
        # One microsecond each, so that nothing but this order is possible.
        replace(one, called_us=2 * place, returned_us=2 * place)
        for place, one in enumerate(order)
    ]
    in_time = all(
        later.outcome is Outcome.UNKNOWN
        or later.returned_us is None
        or later.returned_us >= earlier.called_us
        for earlier, later in itertools.combinations(order, 2)
    )
    return in_time and is_linearizable(chained)


@st.composite
def expiring(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from(["set", "set", "get", "get", "pexpire", "persist", "setnx"]))
    called_us, returned_us = draw(intervals(MILLISECOND))
    outcome = draw(st.sampled_from([Outcome.OK] * 5 + [Outcome.UNKNOWN]))
    ttl_ms = draw(st.integers(1, 4))
    arguments: tuple[Value, ...] = ()
    if kind in ("set", "setnx"):
        arguments = (draw(VALUES), ttl_ms) if draw(st.booleans()) else (draw(VALUES),)
    elif kind == "pexpire":
        arguments = (ttl_ms,)
    results = {**RESULTS, "pexpire": st.sampled_from([0, 1]), "persist": st.sampled_from([0, 1])}
    return Operation(
        client="c",
        kind=kind,
        keys=("x",),
        arguments=arguments,
        called_us=called_us,
        returned_us=returned_us,
        outcome=outcome,
        result=draw(results[kind]) if outcome is Outcome.OK else None,
    )


@pytest.mark.slow
@given(st.lists(expiring(), max_size=4))
def test_no_history_with_deadlines_is_accused_wrongly(history: list[Operation]) -> None:
    result = judge(*history)
    event(result.verdict)
    if is_linearizable_on_grid(history, MILLISECOND, 14 * MILLISECOND):
        assert result.is_ok, result


@pytest.mark.parametrize("last", [3, 4, 5, 6])
@pytest.mark.parametrize("amounts", list(itertools.permutations([1, 2, 3])), ids=str)
def test_one_sum_of_different_unknowns_is_not_taken_for_another(
    amounts: tuple[int, ...], last: int
) -> None:
    """3 is the third alone or the first two; what may still come differs."""
    unknown = [
        replace(operation("incrby", number, 9, amount), outcome=Outcome.UNKNOWN, result=None)
        for number, amount in enumerate(amounts)
    ]
    reads = [
        operation("get", 20, 21, result="3"),
        operation("get", 30, 31, result=str(last)),
    ]
    assert judge(*unknown, *reads).is_ok
    assert judge(*unknown, *reads, operation("get", 40, 41, result="7")).verdict is Verdict.ILLEGAL


MIXES = {
    "register": ("get", "set"),
    "blind writes": ("get", "set", "set", "set", "set"),
    "counter": ("get", "incrby"),
    "append register": ("get", "append"),
    "blind appends": ("get", "append", "append", "append", "append", "append"),
    "compare-and-set": ("get", "set", "cas"),
    "mixed": ("get", "set", "del", "getset", "setnx", "cas", "append", "exists"),
    "deadlines": ("get", "set-ttl", "pexpire", "persist", "get", "pttl"),
}


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("seed", range(2))
def test_a_retired_key_is_decided_early(mix: str, seed: int) -> None:
    history = generate(seed, Workload(kinds=MIXES[mix]))
    assert len(history) == 200
    assert sum(one.outcome is Outcome.UNKNOWN for one in history) == 8
    result = judge(*history)
    assert result.is_ok, result
    assert result.parts[0].configurations < CONFIGURATIONS_ALLOWED // 10


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES)
def test_a_stale_read_late_in_a_retired_key_is_found(mix: str) -> None:
    """Illegal is the costly answer: every order up to the offence must be refuted."""
    workload = Workload(kinds=MIXES[mix])
    reads = [number for number, one in enumerate(generate(2, workload)) if one.kind == "get"]
    late = {number: 15_000 for number in reads if number > 150}
    result = judge(*generate(2, workload, Faults(stale=late)))
    assert result.verdict is Verdict.ILLEGAL
    assert result.parts[0].configurations < CONFIGURATIONS_ALLOWED
    assert result.failing is not None
    assert len(result.failing.operations) < len(result.parts[0].operations)


def test_transactions_over_four_keys_are_one_part() -> None:
    workload = Workload(kinds=("transaction", "get", "set"), keys=4)
    result = judge(*generate(2, workload))
    assert result.is_ok
    assert [part.keys for part in result.parts] == [("k0", "k1", "k2", "k3")]
    assert result.parts[0].configurations < CONFIGURATIONS_ALLOWED // 10


def test_keys_that_nothing_joins_are_judged_apart() -> None:
    result = judge(*generate(3, Workload(keys=5)))
    assert sorted(part.keys for part in result.parts) == [(f"k{number}",) for number in range(5)]


def test_the_smallest_failing_part_is_told() -> None:
    good = generate(4, Workload(operations=40))
    wrong = operation("get", 900_000, 900_001, result="never written")
    large = [replace(one, keys=("large",)) for one in (*good, wrong)]
    small = [replace(one, keys=("small",)) for one in (*good[:10], wrong)]
    result = judge(*large, *small)
    assert result.failing is not None
    assert result.failing.keys == ("small",)
    # Every read but the offender was left out: none of them matters.
    assert sum(one.kind == "get" for one in result.failing.operations) == 1


def operation(
    kind: str,
    called_us: int,
    returned_us: int,
    *arguments: Value,
    result: Value = "OK",
    key: str = "x",
) -> Operation:
    return Operation(
        client="a", kind=kind, keys=(key,), arguments=arguments, called_us=called_us,
        returned_us=returned_us, result=result,
    )  # fmt: skip


def test_too_little_time_is_no_success() -> None:
    ticks = itertools.count()
    history = generate(2, Workload(kinds=MIXES["deadlines"]))
    result = check(History(operations=history), clock=lambda: 11.0 * next(ticks))
    assert result.verdict is Verdict.UNKNOWN
    assert not result.is_ok
    assert result.failing is not None
    assert result.failing.offender is None
    assert "nothing is shown" in str(result)


def test_too_little_memory_is_no_success() -> None:
    result = judge(*generate(1, Workload()), configurations_a_part=20)
    assert result.verdict is Verdict.UNKNOWN


def test_one_undecided_part_does_not_hide_an_illegal_one() -> None:
    hard = generate(1, Workload(kinds=MIXES["blind writes"]))
    wrong = operation("get", 0, 1, result="never written", key="y")
    result = judge(*hard, wrong, configurations_a_part=20)
    assert {part.verdict for part in result.parts} == {Verdict.UNKNOWN, Verdict.ILLEGAL}
    assert result.verdict is Verdict.ILLEGAL


def test_nothing_is_linearizable() -> None:
    assert judge().is_ok


def test_an_operation_of_another_model_is_no_history() -> None:
    history = History(operations=(operation("set", 0, 1, "1"),), model="counter")
    with pytest.raises(HistoryError, match="knows no set"):
        check(history)


@pytest.mark.parametrize(
    "wrong",
    [
        operation("set", 0, 1),
        operation("get", 0, 1, "1"),
        operation("transaction", 0, 1, ("get", "y"), result=(None,)),
        operation("transaction", 0, 1, "get x", result=(None,)),
        operation("transaction", 0, 1, ("fly", "x"), result=(None,)),
    ],
    ids=str,
)
def test_a_malformed_operation_is_refused(wrong: Operation) -> None:
    with pytest.raises(HistoryError):
        judge(wrong)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_has_a_read(model: str) -> None:
    read = operation("get", 0, 1, result=None)
    assert check(History(operations=(read,), model=model)).is_ok

"""The models' kinds beyond registers and counters, each with results that can and cannot be."""

from __future__ import annotations

import pytest

from tests.linearizability.checker import Verdict, check
from tests.linearizability.history import History, HistoryError, Operation, Value
from tests.linearizability.lease_rules import NO_LEASE
from tests.linearizability.string_rules import NO_SUCH_KEY

Told = tuple[str, tuple[Value, ...], Value]


def operations_of(*told: Told, keys: tuple[str, ...] = ("a",)) -> tuple[Operation, ...]:
    """Return operations of which each begins when the one before has ended."""
    return tuple(
        Operation(
            client="c", kind=kind, keys=keys, arguments=arguments, result=result,
            called_us=1000 * number, returned_us=1000 * number + 500,
        )
        for number, (kind, arguments, result) in enumerate(told)
    )  # fmt: skip


def one_after_the_other(*told: Told, keys: tuple[str, ...] = ("a",)) -> Verdict:
    """Judge them by clocks that are right."""
    return check(History(operations=operations_of(*told, keys=keys))).verdict


def in_one(*steps: tuple[Value, ...], result: tuple[Value, ...]) -> Told:
    return "transaction", steps, result


GOOD: list[tuple[Told, ...]] = [
    (("set", ("1",), "OK"), ("setkeep", ("2",), "OK"), ("get", (), "2")),
    (("setnxget", ("1",), None), ("setnxget", ("2",), "1"), ("get", (), "1")),
    (("set", ("1", 1), "OK"), ("getex", (None,), "1"), ("pttl", (), -1)),
    (("set", ("1",), "OK"), ("getex", (5000,), "1"), ("persist", (), 1)),
    (("set", ("1", 3), "OK"), ("setkeep", ("2",), "OK"), ("exists", (), 1), ("get", (), None)),
    (("set", ("1",), "OK"), ("pexpirexx", (1,), 0), ("pexpirenx", (9000,), 1), ("persist", (), 1)),
    (("incrbyfloat", ("0.5",), "0.5"), ("incrbyfloat", ("1.5",), "2"), ("get", (), "2")),
    (("incrbyfloat", ("-0.5",), "-0.5"), ("del", (), 1), ("incrbyfloat", ("2",), "2")),
    (("setrange", (3, "x"), 4), ("getrange", (2, 9), "\0x"), ("strlen", (), 4)),
    (("append", ("abc",), 3), ("setrange", (1, "X"), 3), ("get", (), "aXc")),
    (("set", ("1",), "OK"), ("flush", (), "OK"), ("exists", (), 0)),
    (("set", ("1", 5000), "OK"), ("pexpiregt", (9000,), 1), ("ttl", (), 9)),
    (("set", ("1", 5000), "OK"), ("pexpirelt", (9000,), 0), ("ttl", (), 5)),
    (("set", ("1",), "OK"), ("pexpiregt", (9000,), 0), ("pexpirelt", (9000,), 1)),
    (("set", ("1", 5000), "OK"), ("pexpiretime", (), 5000), ("expiretime", (), 5)),
    (("setat", ("1", 8_000_000), "OK"), ("pexpiretime", (), 8000), ("getexat", (9_000_000,), "1")),
    (("setat", ("1", 500), "OK"), ("get", (), None)),
    (("set", ("1", 5000), "OK"), ("pexpireif", ("1", 3000, 2), 1), ("ttl", (), 8)),
    (("set", ("1",), "OK"), ("pexpireif", ("1", 3000, 1), 0), ("pexpireif", ("1", 9, 0), 1)),
    (
        *(("leasetake", ("1", 7, 5000), "OK"), ("leasetake", ("2", 8, 5000), "1")),
        *(("leasekeep", (7, 5000), 5000), ("leasealive", (7,), 1), ("leaserevoke", (7,), 1)),
        *(("leasetake", ("3", 9, 1), "OK"), ("leaseget", (), None)),
    ),
    (
        *(("leasetake", ("1", 7, 2), "OK"), ("leaseput", ("2",), "OK")),
        *(("leasekeep", (7, 2), NO_LEASE), ("leaserevoke", (7,), NO_LEASE)),
        ("leaseget", (), "2"),
    ),
    (("leasetake", ("1", 7, 2), "OK"), ("leasedetach", (), 1), ("leasedetach", (), 0)),
]
BAD: list[tuple[Told, ...]] = [
    (("set", ("1",), "OK"), ("setnxget", ("2",), None)),
    (("set", ("1",), "OK"), ("getex", (None,), None)),
    (("set", ("1",), "OK"), ("pexpirexx", (1000,), 1)),
    (("set", ("1", 60_000), "OK"), ("pexpirenx", (1000,), 1)),
    (("incrbyfloat", ("0.5",), "0.5"), ("incrbyfloat", ("0.5",), "1.5")),
    (("setrange", (3, "x"), 4), ("getrange", (0, 9), "x")),
    (("set", ("1",), "OK"), ("flush", (), "OK"), ("get", (), "1")),
    (("set", ("1", 5000), "OK"), ("pexpiregt", (9000,), 0)),
    (("set", ("1", 5000), "OK"), ("pexpirelt", (9000,), 1)),
    (("set", ("1",), "OK"), ("pexpiregt", (9000,), 1)),
    (("set", ("1", 5000), "OK"), ("pexpiretime", (), 7000)),
    (("set", ("1", 5000), "OK"), ("ttl", (), 7)),
    (("setat", ("1", 500), "OK"), ("get", (), "1")),
    (("set", ("1",), "OK"), ("pexpireif", ("1", 3000, 1), 1)),
    (("set", ("1", 5000), "OK"), ("pexpireif", ("2", 3000, 0), 1)),
    (("leasetake", ("1", 7, 5000), "OK"), ("leasetake", ("2", 8, 5000), "OK")),
    (("leasetake", ("1", 7, 5000), "OK"), ("leasekeep", (7, 5000), NO_LEASE)),
    (("leasetake", ("1", 7, 5000), "OK"), ("leaseget", (), None)),
    (("leasetake", ("1", 7, 1), "OK"), ("exists", (), 1), ("exists", (), 1), ("leaseget", (), "1")),
    (("leasetake", ("1", 7, 5000), "OK"), ("leaserevoke", (7,), 1), ("leaseget", (), "1")),
    (("setat", ("1", 8_000_000), "OK"), ("getexat", (9_000_000,), "1"), ("pexpiretime", (), 8000)),
]


def test_a_deadline_that_is_a_time_comes_when_the_clock_of_the_store_shows_it() -> None:
    """It is an hour behind; what it was told in milliseconds to live does not care."""
    hour_us = 3_600_000_000
    told = (
        ("setat", ("1", 5_000_000), "OK"), ("pttl", (), 3_605_000), ("pexpiretime", (), 5000),
        ("set", ("1", 5000), "OK"), ("pttl", (), 5000), ("pexpiretime", (), 5003 - 3_600_000),
    )  # fmt: skip
    for ahead_us, verdict in ((-hour_us, Verdict.OK), (0, Verdict.ILLEGAL)):
        history = History(
            operations=operations_of(*told), least_ahead_us=ahead_us, most_ahead_us=ahead_us
        )
        assert check(history).verdict is verdict


@pytest.mark.parametrize("told", GOOD, ids=str)
def test_what_can_be(told: tuple[Told, ...]) -> None:
    assert one_after_the_other(*told) is Verdict.OK


@pytest.mark.parametrize("told", BAD, ids=str)
def test_what_cannot_be(told: tuple[Told, ...]) -> None:
    assert one_after_the_other(*told) is Verdict.ILLEGAL


MOVES: list[tuple[tuple[Value, ...], Value, tuple[Value, Value]]] = [
    (("rename", "a", "b"), "OK", (None, "1")),
    (("rename", "b", "a"), NO_SUCH_KEY, ("1", None)),
    (("renamenx", "a", "b"), 1, (None, "1")),
    (("copy", "a", "b", 0), 1, ("1", "1")),
    (("copy", "b", "a", 1), 0, ("1", None)),
]


@pytest.mark.parametrize(("step", "result", "left"), MOVES, ids=str)
def test_a_move_takes_the_value_along(
    step: tuple[Value, ...], result: Value, left: tuple[Value, Value]
) -> None:
    first = in_one(("set", "a", "1"), result=("OK",))
    for seen, verdict in ((left, Verdict.OK), (("1", "2"), Verdict.ILLEGAL)):
        last = in_one(("get", "a"), ("get", "b"), result=seen)
        moved = in_one(step, result=(result,))
        assert one_after_the_other(first, moved, last, keys=("a", "b")) is verdict
    other = 0 if result != 0 else 1
    assert (
        one_after_the_other(first, in_one(step, result=(other,)), keys=("a", "b"))
        is Verdict.ILLEGAL
    )


def test_nothing_is_copied_over_a_key_or_renamed_onto_one() -> None:
    both = in_one(("set", "a", "1"), ("set", "b", "2"), result=("OK", "OK"))
    for step in (("copy", "a", "b", 0), ("renamenx", "a", "b")):
        last = in_one(("get", "a"), ("get", "b"), result=("1", "2"))
        refused = in_one(step, result=(0,))
        assert one_after_the_other(both, refused, last, keys=("a", "b")) is Verdict.OK


def test_a_move_needs_both_keys_in_its_operation() -> None:
    with pytest.raises(HistoryError, match="none of its keys"):
        one_after_the_other(in_one(("rename", "a", "b"), result=("OK",)), keys=("a",))

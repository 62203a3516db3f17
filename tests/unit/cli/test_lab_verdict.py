"""The exact rules of the lab, held against a search through every order."""

from __future__ import annotations

import random

import pytest

from raftkv.cli.lab_verdict import (
    Increment,
    Outcome,
    Read,
    Write,
    counter_problems,
    key_problems,
    register_problems,
)
from tests.linearizability import history
from tests.linearizability.brute_force import is_linearizable

TOLD = {
    Outcome.ACKNOWLEDGED: history.Outcome.OK,
    Outcome.REFUSED: history.Outcome.REFUSED,
    Outcome.UNKNOWN: history.Outcome.UNKNOWN,
}
ACKNOWLEDGED, REFUSED, UNKNOWN = Outcome


def operation(
    client: str, kind: str, called_us: int, returned_us: int, outcome: Outcome, *,
    argument: str | int | None = None, result: str | int | None = None,
) -> history.Operation:  # fmt: skip
    return history.Operation(
        client=client, kind=kind, keys=("k",), called_us=called_us, returned_us=returned_us,
        arguments=() if argument is None else (argument,), outcome=TOLD[outcome], result=result,
    )  # fmt: skip


def a_register(source: random.Random) -> tuple[list[Write], list[Read]]:
    """Return writes that may be, and reads that may not."""
    writes: list[Write] = []
    now_us = 0
    for value in range(1, source.randint(1, 4)):
        called_us = now_us + source.randint(1, 4)
        now_us = called_us + source.randint(1, 4)
        outcome = source.choice((ACKNOWLEDGED, ACKNOWLEDGED, REFUSED, UNKNOWN))
        writes.append(Write(value, called_us, now_us, outcome))
        if outcome is UNKNOWN:
            break
    reads = []
    for _ in range(source.randint(1, 3)):
        called_us = source.randint(0, 20)
        reads.append(Read(source.randint(0, 3), called_us, called_us + source.randint(1, 6)))
    return writes, reads


def test_registers_are_judged_as_by_trying_every_order() -> None:
    source = random.Random(1)
    verdicts = []
    for _ in range(4000):
        writes, reads = a_register(source)
        operations = [
            operation("w", "set", one.called_us, one.returned_us, one.outcome,
                      argument=str(one.value),
                      result="OK" if one.outcome is ACKNOWLEDGED else None)
            for one in writes
        ] + [
            operation(f"r{place}", "get", one.called_us, one.returned_us, ACKNOWLEDGED,
                      result=str(one.value) if one.value else None)
            for place, one in enumerate(reads)
        ]  # fmt: skip
        verdicts.append(is_linearizable(operations))
        assert (register_problems(writes, reads) == []) == verdicts[-1], (writes, reads)
    assert 500 < sum(verdicts) < 3500


def test_counters_are_judged_as_by_trying_every_order() -> None:
    source = random.Random(2)
    verdicts = []
    for _ in range(4000):
        increments = []
        for _ in range(source.randint(1, 4)):
            called_us = source.randint(0, 12)
            outcome = source.choice((ACKNOWLEDGED, ACKNOWLEDGED, UNKNOWN, REFUSED))
            increments.append(
                Increment(
                    source.randint(1, 4), called_us, called_us + source.randint(1, 9), outcome
                )
            )
        final = Read(source.randint(0, 4), 100, 101)
        operations = [
            operation(f"c{place}", "incrby", one.called_us, one.returned_us, one.outcome,
                      argument=1, result=one.result if one.outcome is ACKNOWLEDGED else None)
            for place, one in enumerate(increments)
        ]  # fmt: skip
        operations.append(
            operation("r", "get", 100, 101, ACKNOWLEDGED,
                      result=str(final.value) if final.value else None)
        )  # fmt: skip
        verdicts.append(is_linearizable(operations))
        assert (counter_problems(increments, final) == []) == verdicts[-1], (increments, final)
    assert 200 < sum(verdicts) < 3800


@pytest.mark.parametrize(
    ("reads", "problem"),
    [
        ([Read(0, 30, 40)], "a read gave 0 after 1 had been acknowledged"),
        ([Read(2, 1, 15)], "a read gave 2 before it was written"),
        ([Read(3, 60, 70)], "a read gave 3, which was refused or never written"),
        ([Read(2, 35, 36), Read(1, 37, 38)], "a read gave 1 after 2 had been read"),
    ],
)
def test_what_is_wrong_with_a_register_is_said(reads: list[Read], problem: str) -> None:
    writes = [Write(1, 10, 20, ACKNOWLEDGED), Write(2, 30, 50, UNKNOWN)]
    assert register_problems(writes, reads) == [problem]


def test_what_is_wrong_with_a_counter_is_said() -> None:
    one = Increment(1, 0, 10, ACKNOWLEDGED)
    assert counter_problems([one], Read(0, 20, 21)) == [
        "an increment was answered with 1, and the counter says 0"
    ]
    assert "counted twice" in counter_problems([one], Read(2, 20, 21))[0]
    assert "two increments were answered with 1" in counter_problems([one, one], Read(2, 20, 21))
    assert counter_problems([one, Increment(0, 5, 9, UNKNOWN)], Read(2, 20, 21)) == []


def test_a_missing_key_and_a_refused_one_are_found() -> None:
    writes = [Write(1, 0, 1, ACKNOWLEDGED), Write(2, 1, 2, REFUSED), Write(3, 2, 3, UNKNOWN)]
    assert key_problems(writes, {1}, "n1") == []
    assert key_problems(writes, {1, 3}, "n1") == []
    assert key_problems(writes, {2}, "n2") == [
        "n2 lacks 1 acknowledged writes, 1 first",
        "n2 holds 1 refused writes, 2 first",
    ]

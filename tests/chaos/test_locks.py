"""The judge of `locks.py` tells right from wrong, and the resource refuses old tokens."""

from __future__ import annotations

import io

import pytest

from tests.chaos.fenced_resource import FencedResource
from tests.chaos.locks import Period, Write, judge

PERIODS = [
    Period(1.0, 2.0, 10, "a"),
    Period(2.1, 3.0, 20, "b"),
    Period(3.0, 4.0, 30, "a"),
]
WRITES = [
    Write(1.5, 10, "/logs/a.jsonl", accepted=True),
    Write(2.5, 20, "/logs/b.jsonl", accepted=True),
    Write(2.6, 10, "/logs/a.jsonl", accepted=False),
    Write(3.5, 30, "/logs/a.jsonl", accepted=True),
]


def test_what_is_right_passes() -> None:
    judge(PERIODS, WRITES)
    judge([], [])


@pytest.mark.parametrize(
    ("period", "reason"),
    [
        (Period(2.9, 3.5, 25, "c"), "believe to hold"),
        (Period(4.5, 5.0, 29, "c"), "does not grow"),
        (Period(4.5, 5.0, 30, "c"), "one token"),
    ],
)
def test_a_wrong_period_is_found(period: Period, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        judge(sorted([*PERIODS, period]), WRITES)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (Write(4.0, 20, "/logs/b.jsonl", accepted=True), "older holder"),
        (Write(4.0, 30, "/logs/b.jsonl", accepted=True), "another holder"),
        (Write(4.0, 99, "/logs/b.jsonl", accepted=True), "another holder"),
    ],
)
def test_a_wrong_write_is_found(write: Write, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        judge(PERIODS, [*WRITES, write])


def test_the_resource_refuses_what_is_lower_than_the_highest() -> None:
    log = io.StringIO()
    resource = FencedResource(log)
    assert [resource.write(token, "a") for token in (5, 5, 4, 9, 8)] == [
        True, True, False, True, False,
    ]  # fmt: skip
    assert len(log.getvalue().splitlines()) == 5

"""A chaos run that did too little to show anything fails, by itself."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from tests.chaos.mixed import in_proportion, shortcomings
from tests.chaos.trial import Figures


def asked(duration_s: float, **others: Any) -> argparse.Namespace:
    arguments = {
        "duration": duration_s, "clients": 12, "progress_min": 0.6, "strikes_min": None,
        "acknowledged_min": None, **others,
    }  # fmt: skip
    return argparse.Namespace(**arguments)


def figures(**others: Any) -> Figures:
    enough = {
        "progress": 0.6, "writers_a_key": 5.0, "acknowledged": 200_000,
        "strikes_in_flight": {"bridge": 20, "kill": 20}, **others,
    }  # fmt: skip
    return Figures(**enough)


def test_enough_is_enough() -> None:
    assert shortcomings(figures(), ["bridge", "kill"], asked(1800.0)) == []


def test_every_shortcoming_is_named() -> None:
    few = figures(
        progress=0.59, writers_a_key=4.0, acknowledged=199_999,
        strikes_in_flight={"bridge": 19, "kill": 20},
    )  # fmt: skip
    assert shortcomings(few, ["bridge", "kill", "flap"], asked(1800.0)) == [
        "progress in less than 60 % of seconds",
        "fewer than 5 writers a key",
        "fewer than 200000 operations acknowledged",
        "fewer than 20 times with operations in flight: bridge, flap",
    ]


@pytest.mark.parametrize(
    ("duration_s", "strikes", "acknowledged"),
    [(15.0, 0, 1666), (90.0, 1, 10_000), (900.0, 10, 100_000), (3600.0, 20, 200_000)],
)
def test_shorter_runs_are_asked_for_less(
    duration_s: float, strikes: int, acknowledged: int
) -> None:
    assert in_proportion(20, duration_s) == strikes
    assert in_proportion(200_000, duration_s) == acknowledged
    least = figures(acknowledged=acknowledged, strikes_in_flight={"bridge": strikes})
    assert shortcomings(least, ["bridge"], asked(duration_s)) == []


def test_a_given_threshold_holds_whatever_the_duration() -> None:
    few = figures(acknowledged=99, strikes_in_flight={"bridge": 2})
    assert shortcomings(
        few, ["bridge"], asked(15.0, strikes_min=3, acknowledged_min=100, clients=3)
    ) == [
        "fewer than 100 operations acknowledged",
        "fewer than 3 times with operations in flight: bridge",
    ]

"""Whole clusters under random faults, one run a seed."""

from __future__ import annotations

import os

import pytest

from tests.sim.run import fault_kinds
from tests.sim.sweep import Goals, Totals, sweep
from tests.sim.workload import command_names

SEEDS = 200
# In pieces, so that none takes so long that it looks like one that hangs.
PIECE = 50


@pytest.fixture(scope="module")
def totals() -> Totals:
    """What all pieces have done so far."""
    return Totals()


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, PIECE))
def test_no_promise_is_broken(first: int, totals: Totals) -> None:
    broken = len(totals.broken)
    sweep(range(first, first + PIECE), min(2, os.cpu_count() or 1), totals=totals)
    assert not totals.broken[broken:], "\n".join(one.text for one in totals.broken[broken:])


@pytest.mark.slow
def test_enough_happened_that_one_could_have_been(totals: Totals) -> None:
    if totals.seeds + len(totals.broken) < SEEDS:
        pytest.skip("not all seeds were run before")
    assert not totals.shortcomings(fault_kinds(), Goals(), SEEDS, command_names())

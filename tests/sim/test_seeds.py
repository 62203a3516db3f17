"""Whole clusters under random faults, one run a seed."""

from __future__ import annotations

import os

import pytest

from tests.sim.run import fault_kinds
from tests.sim.sweep import Goals, sweep

SEEDS = range(200)


@pytest.mark.slow
def test_seeds() -> None:
    """No promise is broken, and enough happened that one could have been."""
    totals = sweep(SEEDS, min(2, os.cpu_count() or 1))
    assert not totals.broken, "\n".join(one.text for one in totals.broken)
    assert not totals.shortcomings(fault_kinds(), Goals(), len(SEEDS))

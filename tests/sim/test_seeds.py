"""Whole clusters under random faults, one run a seed."""

from __future__ import annotations

import pytest

from tests.sim.run import run_seed


@pytest.mark.parametrize("seed", range(20))
def test_seed(seed: int) -> None:
    """The invariants hold after every turn, and the history is judged at the end."""
    report = run_seed(seed, duration_ms=15_000)
    assert report.acknowledged > 0

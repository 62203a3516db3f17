"""The simulator finds planted bugs: the quickest ones here, all by `python -m tests.sim.mutants`.

Each runs under the default mix, from the first seed on which it was found. With another
order of random choices another seed finds it, so a few more are tried.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import first_finding
from tests.sim.planted import MUTANTS

# Name and the seed that found it first.
QUICK = {
    "sent early": 0,
    "sync in flight": 0,
    "durable by index": 0,
    "own copy": 0,
    "N2": 0,
    "K": 0,
    "V": 0,
    "any log": 0,
    "E check-quorum": 0,
}
MORE_SEEDS = 5


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    first = QUICK[name]
    assert first_finding(name, range(first, first + MORE_SEEDS)).invariant


def test_every_name_is_a_mutant() -> None:
    assert set(QUICK) <= set(MUTANTS)

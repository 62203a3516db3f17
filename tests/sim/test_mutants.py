"""The simulator finds bugs that are planted, within a bounded number of seeds.

What it does not find in bounded time is listed in docs/internals/simulation.md with the unit test
that does.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import MUTANTS, first_finding

# Seeds are tried in order until one finds the mutant; with an unlucky change of the
# code another seed takes over.
SEEDS = range(16)

FOUND = [
    "the outbox releases before the sync",
    "the leader counts unsynced entries",
    "reads are served without a round",
    "a wiped node votes",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_planted_bug_is_found(name: str) -> None:
    assert first_finding(name, SEEDS) is not None


def test_every_name_is_a_mutant() -> None:
    assert set(FOUND) <= set(MUTANTS)

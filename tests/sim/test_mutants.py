"""The simulator finds planted bugs: the quickest ones here, all by `python -m tests.sim.mutants`.

Each runs under the default mix, from the first seed on which it was found. With another
order of random choices another seed finds it, so a few more are tried.
"""

from __future__ import annotations

import pytest

from tests.sim.mutants import PAGE, first_finding
from tests.sim.planted import MUTANTS

# Name and the seed that found it first.
QUICK = {
    "B": 0,
    "N1": 6,
    "N3": 0,
    "N4": 0,
    "sent early": 0,
    "sync in flight": 0,
    "durable by index": 0,
    "own copy": 0,
    "N2": 0,
    "K": 0,
    "wiped votes": 0,
    "V": 0,
    "any log": 0,
    "E check-quorum": 0,
    "read without no-op": 0,
    "read rounds": 0,
    "fresh on arrival": 9,
    "session image": 0,
    "session copies": 0,
    "session frees": 0,
    "session fence": 0,
    "watch skips": 0,
    "watch twice": 0,
    "watch early": 0,
    "history lost": 0,
    "history alone": 0,
    "history blurred": 0,
    "past off by one": 0,
    "range of today": 0,
    "range without removed": 0,
    "range without changed": 0,
    "range skips": 0,
    "compacted early": 0,
}
MORE_SEEDS = 5


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str) -> None:
    first = QUICK[name]
    assert first_finding(name, range(first, first + MORE_SEEDS)).invariant


def test_every_name_is_a_mutant() -> None:
    assert set(QUICK) <= set(MUTANTS)


def test_the_page_names_every_mutant_and_how_it_was_found() -> None:
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    found = {row[1].strip(): row for row in rows if len(row) == 6}
    for name, mutant in MUTANTS.items():
        _, _, rule, seeds, invariant, _ = found[name]
        assert rule.strip() == mutant.rule
        assert seeds.strip().isdigit()
        assert invariant.strip()

"""Reads under the schemes that aim at them, and the planted bugs that each must find.

Without other faults, so that a run is short: the mix of the seeds brings the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from raftkv.engine.core import RaftCore
from tests.sim import schemes
from tests.sim.cluster import Cluster, Violation
from tests.sim.mix import draw
from tests.sim.nemesis import Nemesis
from tests.sim.planted import MUTANTS
from tests.sim.read_levels import Readers

Scheme = Callable[[Nemesis], Iterator[float]]
ROUNDS = 6
AIMED_AT = {
    "lease transfer": schemes.unheard_successor,
    "lease restart": schemes.restart_in_lease,
    "lease arrival": schemes.answers_after_the_end,
    "lease unproven": schemes.answers_after_the_end,
    "index without round": schemes.reads_in_a_minority,
    "fresh unproven": schemes.reads_in_a_minority,
}


def play(seed: int, scheme: Scheme, core_class: type[RaftCore] = RaftCore) -> None:
    """Let a scheme happen several times to an otherwise healthy cluster."""
    size = 5 if scheme is schemes.reads_in_a_minority else 3
    cluster = Cluster(seed, size=size, core_class=core_class)
    mix = replace(draw(seed), pause_ms=(1e9, 1e9), delay_ms=(0.1, 1.0))
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None, 10_000)
    nemesis = Nemesis(cluster, mix)
    readers = Readers(cluster)
    for _ in range(ROUNDS):
        cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None, 20_000)
        cluster.run(500)
        nemesis._of(scheme)()
        cluster.run(2500)
    assert readers.counts["read_lease_served"]
    assert nemesis.fired[scheme.__name__]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", sorted(set(AIMED_AT.values()), key=lambda one: one.__name__))
def test_proofs_hold_under_the_schemes_that_aim_at_them(scheme: Scheme) -> None:
    for seed in range(3):
        play(seed, scheme)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(AIMED_AT))
def test_planted_bugs_of_reads_are_found_by_their_scheme(name: str) -> None:
    with MUTANTS[name].plant() as core_class:
        for seed in range(8):
            try:
                play(seed, AIMED_AT[name], core_class)
            except Violation as error:
                assert name.split(" ")[0] in error.invariant.replace("staleness", "fresh lease")
                return
    pytest.fail(f"{name} was not found")

"""One seed is one run: in any process, whatever salt Python gives its hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sim.cluster import Cluster

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "from tests.sim.run import run_seed; "
    "report = run_seed({seed}, duration_ms=3000); "
    "print(report.trace_hash, report.operations, report.crashes)"
)


def trace(seed: int, salt: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seed=seed)],
        env=os.environ | {"PYTHONHASHSEED": salt},
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 4])
def test_a_seed_gives_one_trace_whatever_the_salt(seed: int) -> None:
    traces = {trace(seed, salt) for salt in ("0", "1", "4711")}
    assert len(traces) == 1
    assert int(traces.pop().split()[1]) > 0


def test_the_trace_tells_messages_apart() -> None:
    """It covers what is sent and written, not only when something happened."""

    def first_second(payload: bytes) -> int:
        cluster = Cluster(1)
        cluster.start()
        cluster.run(1000)
        cluster.world.note(payload)
        return cluster.world.trace_hash

    assert first_second(b"one") == first_second(b"one")
    assert first_second(b"one") != first_second(b"two")


def test_two_seeds_are_two_runs() -> None:
    hashes = set()
    for seed in (1, 2):
        cluster = Cluster(seed)
        cluster.start()
        cluster.run(500)
        hashes.add(cluster.world.trace_hash)
    assert len(hashes) == 2

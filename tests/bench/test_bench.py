"""The benchmarks run: a short turn of everything, so that they cannot rot unseen.

Figures are not judged here: the machine is busy with the other tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import loads, report, turns
from tests.bench.contenders import RaftKv, RawSyncObj, Redis
from tests.bench.fsyncs import verdict
from tests.bench.goals import Goal, ratio_goals
from tests.bench.loads import Measurement
from tests.bench.report import Spread
from tests.integration.cluster import ROOT
from tests.tools import require_tool

LIMIT_S = 300


def measurement(contender: str, number: int, rate: float) -> Measurement:
    return Measurement(
        contender, "SET, 50 clients", number, rate, p50_ms=1.0, p95_ms=2.0, p99_ms=3.0, max_ms=4.0
    )


TURNS = [
    measurement("raftkv-3", 1, 100.0), measurement("redis-always", 1, 200.0),
    measurement("raftkv-3", 2, 90.0), measurement("redis-always", 2, 100.0),
    measurement("raftkv-3", 3, 300.0), measurement("redis-always", 3, 200.0),
    measurement("raftkv-3", 4, 1000.0),
]  # fmt: skip


def test_a_ratio_compares_within_a_round() -> None:
    found = report.ratio(TURNS, "SET, 50 clients", "raftkv-3", "redis-always")
    assert found == Spread(median=0.9, least=0.5, most=1.5)
    assert report.ratio(TURNS, "SET, 50 clients", "raftkv-3", "etcd") is None


def test_a_goal_is_met_by_the_median() -> None:
    value = Spread(2.0, 1.0, 9.0)
    assert Goal("", "", value, 2.0).is_met
    assert not Goal("", "", value, 2.1).is_met
    assert Goal("", "", value, 2.0, at_most=True).is_met
    assert not Goal("", "", value, 1.9, at_most=True).is_met
    assert Goal("", "", value, 4.0).share == 0.5
    assert Goal("", "", value, 1.0, at_most=True).share == 0.5


def test_a_goal_without_its_contender_is_not_met() -> None:
    goals = ratio_goals(TURNS, {"etcd": "not installed: etcd"})
    by_name = {one.name: one for one in goals}
    assert by_name["SET, 50 clients: times redis-always"].is_met
    absent = by_name["SET, 50 clients: times etcd"]
    assert (absent.is_met, absent.figure) == (False, "not installed: etcd")


def test_a_sync_counts_on_a_majority_only() -> None:
    ours = RaftKv(3)
    many = {"leader": 0.05, "follower n2": 0.05, "follower n3": 0.05}

    def judged(*counts: float) -> str:
        one = dict(zip(many, counts, strict=True))
        return verdict(ours, {"SET, 1 client": one, "SET, 50 clients": many})

    assert judged(1.0, 1.0, 0.0) == "yes: 1.00, 1.00, 0.00 a write; 50 clients: 20 writes a sync"
    assert judged(1.0, 0.5, 0.5).startswith("**NO**")
    assert verdict(ours, None) == "not counted"
    assert verdict(RawSyncObj(tuned=True), None) == "none promised"
    nothing = {"SET, 1 client": {"master": 0.0}, "SET, 50 clients": {"master": 0.0}}
    assert verdict(Redis("none"), nothing) == "no: 0.00 a write"


def run_bench(name: str, directory: Path, *options: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name}", "--out", str(directory), "--quick", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (facts,) = directory.glob("*.json")
    assert facts.with_suffix(".md").read_text().startswith("# ")
    return json.loads(facts.read_text())


def test_the_turns_of_a_batch_are_measured(tmp_path: Path) -> None:
    group = turns.Group(tmp_path)
    leader = group.leader()
    assert turns.load(group, leader, 2, reads=False) > 0
    assert turns.load(group, leader, 2, reads=True) > 0


@pytest.mark.slow
def test_a_short_run(tmp_path: Path) -> None:
    require_tool("redis-benchmark")
    names = "raftkv-3,redis-always,redis-wait,pysyncobj-tuned,echo"
    facts = run_bench("run", tmp_path, "--seconds", "0.2", "--only", names)
    measured = {(one["contender"], one["workload"]) for one in facts["measurements"]}
    assert {name for name, _ in measured} >= {"raftkv-3", "redis-always", "redis-wait", "echo"}
    assert len({workload for name, workload in measured if name == "raftkv-3"}) == 4
    assert all(one["rate"] > 0 for one in facts["measurements"])


@pytest.mark.slow
def test_a_short_start_up(tmp_path: Path) -> None:
    facts = run_bench("startup", tmp_path)
    assert len(facts["goals"]) == 6
    assert all(one["value"]["median"] > 0 for one in facts["goals"])


@pytest.mark.slow
def test_a_short_growth(tmp_path: Path) -> None:
    facts = run_bench("growth", tmp_path, "--only", "keys", "--seconds", "0.2")
    lines = [points for one in facts["series"] for points in one["lines"].values()]
    assert len(lines) == 5
    assert all(len(points) == 2 and points[1][1] > 0 for points in lines)


def test_a_load_program_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="what is wrong"):
        loads.run_program([sys.executable, "-c", "raise SystemExit('what is wrong')"])


@pytest.mark.slow
def test_a_short_long_tail(tmp_path: Path) -> None:
    facts = run_bench("tail", tmp_path)
    assert len(facts["turns"]) == 8
    assert all(one["busy"]["slice_ms"] > 0 for one in facts["turns"])
    assert all(one["busy"]["latency_p50_ms"] > 0 for one in facts["turns"])


@pytest.mark.slow
def test_a_short_crowd_of_watchers() -> None:
    options = ["--watchers", "40", "--idle", "40", "--rounds", "1", "--tellings", "3"]
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.watchers", *options],
        cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["alone", "crowd", "told"]

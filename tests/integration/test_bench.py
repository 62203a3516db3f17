"""`raftkv bench` against real nodes: it counts what they hold, and a killed leader ends nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.cluster import WAIT_S, Cluster, node_environment, run_raftkv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("bench")) as started:
        started.start()
        yield started


def arguments_of(cluster: Cluster, *arguments: str) -> list[str]:
    # A follower is asked first: the leader has to be found.
    nodes = ",".join(node.client for node in (*cluster.followers(), cluster.wait_for_leader()))
    return ["bench", *arguments, "--json", "--nodes", nodes]


def bench(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    done = run_raftkv(*arguments_of(cluster, *arguments), directory=cluster.directory)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_what_it_counts_is_what_the_cluster_holds(cluster: Cluster) -> None:
    said = bench(cluster, "set", "--keys", "500", "--requests", "500", "--in-order", "-c", "5")
    assert (said["succeeded"], said["failed"]) == (500, 0)
    assert said["server"] == cluster.wait_for_leader().client
    assert cluster.wait_for_leader().call("DBSIZE") == 500
    said = bench(cluster, "mixed", "--keys", "500", "-r", "1000", "-P", "8", "-c", "5", "--clean")
    assert (said["succeeded"], said["failed"], said["misses"]) == (1000, 0, 0)
    assert said["latency_ms"]["p50"] <= said["latency_ms"]["p99_9"] <= said["latency_ms"]["max"]
    assert cluster.wait_for_leader().call("DBSIZE") == 0


def test_it_goes_on_with_the_next_leader(cluster: Cluster) -> None:
    command = [
        sys.executable,
        "-m",
        "raftkv",
        *arguments_of(cluster, "set", "-d", "6", "--rate", "300"),
    ]
    with subprocess.Popen(
        command, env=node_environment(), stdout=subprocess.PIPE, text=True
    ) as running:

        def flowing() -> bool:
            assert running.poll() is None
            return int(cluster.wait_for_leader().call("DBSIZE")) > 50

        cluster.wait_until(flowing, "the load has begun")
        # Only now: a busy machine may have changed the leader since the start.
        leader = cluster.wait_for_leader()
        leader.kill()
        output, _ = running.communicate(timeout=WAIT_S)
    said = json.loads(output)
    assert said["server"] != leader.client
    assert said["succeeded"] > 300
    # Whatever was lost is counted, and nothing twice.
    assert said["succeeded"] + said["failed"] == 1800
    assert said["stalls"]["longest_ms"] > 0
    leader.start()
    assert cluster.wait_until_converged()

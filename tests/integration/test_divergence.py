"""A process whose state differs from the others' ends with 3, whatever made it differ.

The simulator has the same defects (tests/sim/test_divergence.py); what only real
processes have is the hash seed, of which each has its own.
"""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import ReplyError, Wire

pytestmark = pytest.mark.slow

DIVERGED = 3
MODULE = "tests.integration.node_with_defect"


def start(directory: Path, defects: dict[str, str], hash_seeds: str = "111") -> Cluster:
    """A cluster of processes with the defects named, and these hash seeds."""
    cluster = Cluster(directory, overrides=["timing.checkpoint_interval_ms=2000"])
    for node, hash_seed in zip(cluster.nodes, hash_seeds, strict=True):
        node.module = MODULE
        defect = defects.get(node.id, "none")
        node.environment = {"DEFECT": defect, "PYTHONHASHSEED": hash_seed}
    try:
        cluster.start()
    except BaseException:
        cluster.close()
        raise
    return cluster


def append(cluster: Cluster) -> None:
    assert cluster.wait_for_leader().call("APPEND", "key", "value") > 0


def held(node: ClusterNode) -> object:
    """What this very node holds, or None if it is gone."""
    try:
        with Wire(node.client) as wire:
            wire.call("READONLY")
            return wire.call("GET", "key")
    except OSError:
        return None


def check_ended(cluster: Cluster, victim: ClusterNode) -> None:
    assert victim.wait_for_exit() == DIVERGED
    report = json.loads((victim.data_dir / "diverged.json").read_text())
    assert report["node"] == victim.id
    log = victim.log.read_text()
    assert "state_diverged" in log
    assert "diverged.json" in log
    # Its word counts no more, and it does not come back with that state.
    code, output = victim.run_to_exit()
    assert code == DIVERGED
    assert "delete the directory" in output
    assert cluster.wait_for_leader() is not victim
    assert len(cluster.running) == 2


@pytest.mark.parametrize("defect", ["local-clock", "swallowed-exception"])
def test_a_defect_of_one_process(tmp_path: Path, defect: str) -> None:
    with start(tmp_path, {"n2": defect}) as cluster:
        append(cluster)
        check_ended(cluster, cluster["n2"])


def test_the_order_of_a_set_under_another_hash_seed(tmp_path: Path) -> None:
    defects = dict.fromkeys(("n1", "n2", "n3"), "set-order")
    with start(tmp_path, defects, hash_seeds="114") as cluster:
        append(cluster)
        check_ended(cluster, cluster["n3"])


def test_three_opinions_are_an_alarm_on_every_node_and_nobody_ends(tmp_path: Path) -> None:
    defects = dict.fromkeys(("n1", "n2", "n3"), "set-order")
    with start(tmp_path, defects, hash_seeds="124") as cluster:
        append(cluster)
        cluster.wait_until(
            lambda: all("state_differs" in node.log.read_text() for node in cluster.nodes),
            "every node reports a difference",
        )
        assert len(cluster.running) == 3


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
@pytest.mark.parametrize("how", ["snapshot", "interval"])
def test_a_key_that_flips_in_memory(tmp_path: Path, how: str, leads: bool) -> None:
    with start(tmp_path, dict.fromkeys(("n1", "n2", "n3"), "flip")) as cluster:
        append(cluster)
        leader = cluster.wait_for_leader()
        victim = leader if leads else cluster.followers()[0]
        cluster.wait_until(lambda: held(victim) == b"value", "the victim has applied it")
        victim.signal(signal.SIGUSR1)
        cluster.wait_until(lambda: held(victim) != b"value", "the key has flipped")
        if how == "snapshot":
            # It ends before it answers, or as it does.
            with contextlib.suppress(OSError, ReplyError):
                victim.call("RAFT", "SNAPSHOT")
        check_ended(cluster, victim)
        snapshots = victim.data_dir / "snapshots"
        assert not list(snapshots.glob("*.snapshot"))
        assert cluster.wait_for_leader().call("GET", "key") == b"value"

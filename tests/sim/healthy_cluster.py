"""Where a scenario begins: a cluster without faults, its leader, and a write to it."""

from __future__ import annotations

from typing import Any

from raftkv.kv.commands import Opcode
from tests.sim.cluster import Cluster, SimNode, SimSlot


def healthy(seed: int = 1, **settings: Any) -> Cluster:
    """Start a cluster, with settings of `Cluster`, and wait until all nodes agree."""
    cluster = Cluster(seed, **settings)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None and cluster.converged())
    return cluster


def leader_of(cluster: Cluster) -> SimNode:
    """Return the leader, which there is."""
    leader = cluster.leader()
    assert leader is not None
    return leader


def follower_of(cluster: Cluster) -> SimNode:
    """Return the first node that does not lead."""
    leader = leader_of(cluster)
    return next(node for node in cluster.nodes.values() if node is not leader)


def write(cluster: Cluster, value: bytes = b"value") -> None:
    """Let the leader set `key`, and wait until it says that it is done."""
    answers: list[object] = []
    slot = SimSlot(lambda results, failure: answers.append((results, failure)))
    leader_of(cluster).replica.propose([(Opcode.SET, b"key", value)], slot)
    cluster.run_until(lambda: bool(answers))
    assert answers == [(["OK"], None)]

"""A node whose state differs from the others' says so and never comes back with it."""

from __future__ import annotations

import pytest

from raftkv.errors import DamagedDataError
from raftkv.kv.commands import Opcode
from raftkv.kv.store import KvStore
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.sim.workload import LIMIT


def _append(cluster: Cluster, key: bytes, value: bytes) -> None:
    answers: list[object] = []

    def write() -> bool:
        leader = cluster.leader()
        if leader is not None and not answers:
            slot = SimSlot(lambda results, failure: answers.append(results))
            leader.replica.propose([(Opcode.APPEND, key, value, LIMIT)], slot)
            cluster.run(50)
        return bool(answers) and answers[-1] is not None

    cluster.run_until(write)


def _healthy(cluster: Cluster) -> None:
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)


class _ForgetfulStore(KvStore):
    """Swallows one command: the planted defect."""

    __slots__ = ()

    def _run(self, index: int, commands: object) -> list[object]:
        return super()._run(index, [])


def _plant(node: SimNode) -> None:
    node.replica.store.__class__ = _ForgetfulStore


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_diverged_node_stops_and_its_directory_is_refused(leads: bool) -> None:
    cluster = Cluster(7, check_hashes=False)
    _healthy(cluster)
    leader = cluster.leader()
    assert leader is not None
    victim = next(node for node in cluster.nodes.values() if (node is leader) == leads)
    _plant(victim)
    _append(cluster, b"key", b"value")
    cluster.run_until(lambda: not victim.alive, 5000)

    ((name, stopped),) = cluster.stops
    assert (name, stopped.exit_code) == (victim.name, 3)
    assert "diverged.json" in stopped.reason
    assert "delete the directory" in stopped.reason

    with pytest.raises(DamagedDataError, match="differs"):
        victim.start()
    victim.disk.wipe()
    victim.start()
    cluster.run_until(cluster.converged)
    assert victim.replica.store.execute((Opcode.GET, b"key")) == b"value"


def test_equal_nodes_report_nothing() -> None:
    cluster = Cluster(8)
    _healthy(cluster)
    for number in range(20):
        _append(cluster, b"key", b"%d" % number)
    cluster.run(3000)
    assert "state_differs" not in cluster.events
    assert not cluster.stops

"""Admission is remembered only when what it was founded on is durable."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.errors import IdentityRefusedError
from raftkv.replica.standing import Standing
from raftkv.storage.identity import Identity, load_identity
from raftkv.types import Configuration, Member, NodeId, WriteSequence
from tests.sim.cluster import Cluster
from tests.sim.disk import SimDisk
from tests.sim.world import World

MINE = Identity(cluster_id="", node_id="n1", disk_id="d1")


class FakeWal:
    cluster_id = ""

    def set_cluster_id(self, cluster_id: str) -> None:
        self.cluster_id = cluster_id


class Observer:
    def event(self, name: str, /, **fields: object) -> None:
        """Nobody listens."""


def member(disk_id: str) -> Member:
    return Member(id=NodeId("n1"), client="", peer="", disk_id=disk_id)


def standing(disk: SimDisk, identity: Identity = MINE) -> Standing:
    return Standing(disk, identity, FakeWal(), Observer())  # type: ignore[arg-type]


def saved(disk: SimDisk) -> Identity | None:
    return load_identity(disk, node_id="n1")


def test_an_admission_waits_for_the_write_of_its_step() -> None:
    disk = SimDisk(World(0), "n1")
    one = standing(disk)
    one.note_admission(True, member("d1"), WriteSequence(5))
    one.note_durable(WriteSequence(4))
    assert saved(disk) is None
    one.note_durable(WriteSequence(5))
    assert saved(disk) == replace(MINE, admitted=True)


def test_a_disk_that_the_cluster_replaced_is_refused_once_that_is_committed() -> None:
    one = standing(SimDisk(World(0), "n1"), replace(MINE, admitted=True))
    one.note_admission(False, member("d1"), WriteSequence(5))
    with pytest.raises(IdentityRefusedError, match="disk d2"):
        one.note_admission(False, member("d2"), WriteSequence(6))


def test_another_cluster_is_refused() -> None:
    disk = SimDisk(World(0), "n1")
    one = standing(disk)
    one.note_committed(Configuration("a" * 32, ()))
    assert one.identity.cluster_id == "a" * 32
    with pytest.raises(IdentityRefusedError, match="belongs to cluster a"):
        one.note_committed(Configuration("b" * 32, ()))


def test_a_node_that_is_let_in_remembers_it_after_the_log_that_says_so() -> None:
    """Else a power cut leaves a disk that counts itself and has forgotten the term."""
    cluster = Cluster(3)
    cluster.start()
    cluster.run_until(cluster.converged)
    node = cluster.nodes["n2"]
    node.crash(power_cut=False)
    node.disk.wipe()
    cluster.run(2000)
    node.slow_disk = 2000.0
    node.start()
    # On the thread: on the loop it would be over at once.
    node.syncer.share_on_loop = 0.0
    cluster.run_until(lambda: node.replica.status().admitted)
    identity = load_identity(node.disk, node_id="n2")
    assert identity is not None
    assert not identity.admitted
    assert node.replica._outbox.synced < node.replica._core.log.last_sequence
    node.slow_disk = 1.0

    def remembered() -> bool:
        now = load_identity(node.disk, node_id="n2")
        return now is not None and now.admitted

    cluster.run_until(remembered)


def test_a_full_disk_postpones_what_the_identity_says() -> None:
    disk = SimDisk(World(0), "n1")
    one = standing(disk)
    one.note_admission(True, member("d1"), WriteSequence(1))
    disk.space = 0
    one.note_durable(WriteSequence(1))
    one.note_committed(Configuration("c1", ()))
    assert saved(disk) is None
    disk.space = 1 << 20
    one.note_durable(WriteSequence(2))
    one.note_committed(Configuration("c1", ()))
    assert saved(disk) == replace(MINE, admitted=True, cluster_id="c1")

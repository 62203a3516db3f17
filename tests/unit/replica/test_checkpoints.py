"""Checkpoints come when they are wanted, one at a time, and snapshots wait for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from raftkv.config import TimingConfig
from raftkv.kv.commands import Opcode
from raftkv.kv.image import PIECE_BYTES_MAX
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import Agreement, Verdict
from raftkv.replica.checkpoints import SLICE_PAUSE_MS, Checkpoints
from raftkv.replica.compaction import CHECKPOINT_WAIT_MS, Compactor
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.unit.kv.driver import apply

LIMIT = 1 << 20


def led(*, interval_ms: int = 600_000, size: int = 3) -> tuple[Cluster, SimNode]:
    cluster = Cluster(12, size=size)
    for node in cluster.nodes.values():
        timing = TimingConfig(checkpoint_interval_ms=interval_ms)
        node.config = replace(node.config, timing=timing)
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    return cluster, leader


def followers(cluster: Cluster, leader: SimNode) -> list[SimNode]:
    return [node for node in cluster.nodes.values() if node is not leader]


def write(cluster: Cluster, node: SimNode, count: int, size: int = 100) -> None:
    for number in range(count):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        command = (Opcode.APPEND, b"key%d" % (number % 7), b"x" * size, LIMIT)
        node.replica.propose([command], slot)
        cluster.run_until(lambda done=done: bool(done))


def request(node: SimNode) -> list[Any]:
    answers: list[Any] = []
    node.replica.take_snapshot(SimSlot(lambda results, failure: answers.append(results or failure)))
    return answers


def images(node: SimNode) -> dict[int, bytes]:
    return node.replica._agreement._images.own


def agrees(node: SimNode, index: int = 0) -> bool:
    replica = node.replica
    return replica._agreement.verdict(index, replica.configuration) is Verdict.AGREED


def test_all_nodes_hash_the_same_index_also_when_nobody_writes() -> None:
    cluster, leader = led(interval_ms=2000)
    write(cluster, leader, 20)
    cluster.run(7000)
    hashes = {node.name: dict(images(node)) for node in cluster.nodes.values()}
    first, *others = hashes.values()
    assert 2 <= len(first) <= 4
    assert all(other == first for other in others)
    assert all(agrees(node, max(first)) for node in cluster.nodes.values())


def test_without_an_interval_there_are_none_but_for_snapshots() -> None:
    cluster, leader = led(interval_ms=0)
    write(cluster, leader, 5)
    cluster.run(30_000)
    assert not images(leader)
    answers = request(leader)
    cluster.run_until(lambda: bool(answers))
    assert list(images(leader)) == answers[0]


def test_nodes_that_are_due_take_the_same_snapshot() -> None:
    cluster, leader = led()
    write(cluster, leader, 150, size=200)
    cluster.run(2000)
    indexes = {node.replica.status().snapshot_index for node in cluster.nodes.values()}
    assert len(indexes) == 1
    assert indexes != {0}


def test_a_follower_asks_the_leader() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    follower = followers(cluster, leader)[0]
    began_ms = cluster.world.now_ms
    answers = request(follower)
    cluster.run_until(lambda: bool(answers))
    assert cluster.world.now_ms - began_ms < CHECKPOINT_WAIT_MS
    assert answers == [list(images(follower))]
    assert leader.replica.status().snapshot_index == 0
    # One wish, one checkpoint.
    cluster.run(5000)
    assert len(images(leader)) == 1


def test_a_snapshot_is_not_named_before_a_quorum_has_the_same_image() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    for node in followers(cluster, leader):
        # They apply, and never get to hash.
        node.replica._checkpoints._slice_ms = 1 << 60
        node.replica._checkpoints.turn = lambda now_ms, leads: False  # type: ignore[method-assign]
    answers = request(leader)
    cluster.run(20_000)
    assert not answers
    assert leader.replica.status().snapshot_index == 0
    cluster.run_until(lambda: bool(answers))
    assert cluster.events["snapshot_unverified"] == 1


def test_one_that_missed_the_checkpoint_is_asked_for_another() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    away = followers(cluster, leader)
    answers = request(leader)
    cluster.run_until(lambda: leader.replica._compactor._attempt is not None)
    for node in away:
        node.crash(power_cut=False)
        node.start()
    cluster.run_until(lambda: bool(answers), 20_000)
    assert "snapshot_unverified" not in cluster.events
    assert agrees(cluster.leader() or leader)


def test_a_node_alone_needs_nobody() -> None:
    cluster, leader = led(size=1)
    write(cluster, leader, 5)
    answers = request(leader)
    cluster.run_until(lambda: bool(answers), 2000)
    assert isinstance(answers[0], list)


def test_the_store_takes_writes_during_a_walk_and_the_hash_is_of_the_checkpoint() -> None:
    cluster, leader = led(interval_ms=3000)
    for node in cluster.nodes.values():
        # Nodes write at different times of their walks.
        node.slow_disk = 3.0
    write(cluster, leader, 300, size=150)
    cluster.run(2000)
    assert "state_differs" not in cluster.events
    assert not cluster.stops


def test_a_node_that_waits_for_a_snapshot_knows_how_far_it_is_behind() -> None:
    cluster, leader = led()
    away = followers(cluster, leader)[0]
    away.crash(power_cut=False)
    away.disk.wipe()
    write(cluster, leader, 400, size=200)
    away.start()
    # It gets no entry and no snapshot, but hears the leader.
    away.replica._snapshot_inbox.received = lambda *_: None  # type: ignore[method-assign]
    cluster.run(5000)
    status = away.replica.status()
    assert status.applied_index == 0
    assert status.leader_commit_index >= 400
    assert status.lag_entries >= 400


class FakeCompactor:
    """Takes pieces of its own image in the turns that a test says."""

    def __init__(self) -> None:
        self.took_pieces = self.wants_checkpoint = False

    def join(self, _store: KvStore, _now_ms: int) -> bool:
        return False


class FakeAgreement:
    is_asked_for_checkpoint = False

    def __init__(self) -> None:
        self.images: list[int] = []

    def checkpoint_reached(self) -> None:
        pass

    def ask_for_checkpoint(self, _wanted: object) -> None:
        pass

    def note_image(self, index: int, _image_hash: bytes) -> None:
        self.images.append(index)


def turns_of_a_walk(*, took_pieces: list[bool]) -> int:
    """Walk over an image; returns after how many turns it ends.

    Args:
        took_pieces: Whether a snapshot takes pieces in the turns, over and over.
    """
    store = KvStore()
    value = bytes(PIECE_BYTES_MAX - 100)
    apply(store, [(int(Opcode.SET), b"large%d" % number, value) for number in range(10)])
    compactor, agreement = FakeCompactor(), FakeAgreement()
    checkpoints = Checkpoints(
        cast(Agreement, agreement), cast(Compactor, compactor), interval_ms=0, now_ms=0
    )
    checkpoints.reached(store, 0, store.applied_index)
    turns = 0
    while not agreement.images:
        compactor.took_pieces = took_pieces[turns % len(took_pieces)]
        checkpoints.turn(turns * SLICE_PAUSE_MS, leads=False)
        turns += 1
    return turns


def test_a_walk_leaves_turns_with_pieces_of_a_snapshot_out_but_not_two_of_them() -> None:
    alone = turns_of_a_walk(took_pieces=[False])
    assert alone > 5
    assert turns_of_a_walk(took_pieces=[True, False]) == 2 * alone
    assert turns_of_a_walk(took_pieces=[True]) == 2 * alone

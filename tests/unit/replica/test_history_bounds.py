"""The leader has old revisions dropped, on all nodes at the same index."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raftkv.config import Limits
from raftkv.kv.commands import Opcode
from raftkv.kv.history import BYTES_KEPT, CHANGE_BYTES, PUT, REVISIONS_KEPT, History
from raftkv.replica.history_bounds import PROPOSAL_GAP_MS, SLACK_REVISIONS, HistoryBounds
from raftkv.seams import NOT_LEADER
from tests.sim.cluster import Cluster, SimNode, SimSlot

COMPACT = int(Opcode.COMPACT)


def grown(history: History, revisions: int) -> None:
    for revision in range(history.revision + 1, history.revision + revisions + 1):
        history.add((revision, PUT, b"key", None, (b"v", 0, 1, revision, 1)))


def test_the_defaults_are_the_bounds_that_a_store_begins_with() -> None:
    limits = Limits()
    assert (limits.history_revisions, limits.history_bytes_max) == (REVISIONS_KEPT, BYTES_KEPT)


def test_nothing_is_proposed_below_the_bounds_or_by_a_follower() -> None:
    limits = Limits(history_revisions=1000)
    bounds, history = HistoryBounds(limits, 0), History()
    history.bound(1000, BYTES_KEPT)
    grown(history, 1250 + SLACK_REVISIONS)
    assert bounds.turn(history, 0, leads=True) is None
    grown(history, 1)
    assert bounds.turn(history, 0, leads=False) is None
    assert bounds.turn(history, 0, leads=True) == (
        COMPACT, history.revision - 1000, 1000, BYTES_KEPT,
    )  # fmt: skip


def test_bytes_are_a_bound_as_well() -> None:
    size = 100 * (CHANGE_BYTES + 3)
    bounds, history = HistoryBounds(Limits(history_bytes_max=size), 0), History()
    history.bound(REVISIONS_KEPT, size)
    grown(history, 125)
    assert bounds.turn(history, 0, leads=True) is None
    grown(history, 1)
    assert bounds.turn(history, 0, leads=True) == (COMPACT, 26, REVISIONS_KEPT, size)


def test_other_bounds_are_told_once() -> None:
    bounds, history = HistoryBounds(Limits(history_revisions=0), 0), History()
    grown(history, 5)
    command = bounds.turn(history, 0, leads=True)
    assert command == (COMPACT, 0, 0, BYTES_KEPT)
    history.bound(*command[2:])
    bounds.resolve(["OK"])
    assert bounds.turn(history, PROPOSAL_GAP_MS, leads=True) is None


def test_one_proposal_at_a_time_and_not_too_often() -> None:
    bounds, history = HistoryBounds(Limits(history_revisions=0), 0), History()
    assert bounds.turn(history, 0, leads=True) is not None
    assert bounds.turn(history, 10 * PROPOSAL_GAP_MS, leads=True) is None
    bounds.fail(NOT_LEADER)
    assert bounds.turn(history, PROPOSAL_GAP_MS - 1, leads=True) is None
    assert bounds.turn(history, PROPOSAL_GAP_MS, leads=True) is not None


def write(cluster: Cluster, node: SimNode, count: int) -> None:
    for _ in range(0, count, 50):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        node.replica.propose([(int(Opcode.SET), b"key", b"value")] * 50, slot)
        cluster.run_until(lambda done=done: bool(done))


def test_all_nodes_keep_what_the_leader_keeps() -> None:
    cluster = Cluster(7, size=3)
    for node in cluster.nodes.values():
        node.config = replace(node.config, limits=replace(node.config.limits, history_revisions=60))
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    write(cluster, leader, 1000)
    cluster.run(2 * PROPOSAL_GAP_MS)
    cluster.run_until(cluster.converged)
    histories = [node.replica.store.history for node in cluster.nodes.values()]
    assert len({(one.compacted, one.revision, one.byte_count) for one in histories}) == 1
    assert histories[0].revisions_kept == 60
    assert 60 <= histories[0].change_count <= 75 + SLACK_REVISIONS

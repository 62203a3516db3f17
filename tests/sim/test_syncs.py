"""Syncs on the loop and on the thread, and directories that cannot be synced."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.errors import DiskFailedError
from raftkv.kv.commands import Opcode
from tests.sim.cluster import SimNode, SimSlot
from tests.sim.disk import SimDisk
from tests.sim.healthy_cluster import follower_of, healthy, leader_of, write
from tests.sim.world import World


def use_loop(node: SimNode, share: float) -> None:
    node.syncer.share_on_loop = share
    node.syncer._on_thread_left = 0


# ------------------------------------------------------------------ where a sync runs


def test_syncs_run_on_the_loop_in_some_lives_and_on_the_thread_in_others() -> None:
    shares, on_loop = set(), 0
    for seed in range(6):
        cluster = healthy(seed)
        for _ in range(5):
            write(cluster)
        shares |= {node.syncer.share_on_loop for node in cluster.nodes.values()}
        on_loop += cluster.events.get("sync_on_loop", 0)
    assert min(shares) == 0.0
    assert max(shares) > 0.9
    assert on_loop > 0


def test_a_sync_on_the_loop_is_over_when_it_was_asked_for() -> None:
    cluster = healthy()
    node = leader_of(cluster)
    use_loop(node, 1.0)
    done: list[object] = []
    node.syncer.submit(lambda: "saved", done.append)
    assert done == ["saved"]
    assert node.is_frozen, "nothing else of the process happens meanwhile"
    use_loop(node, 0.0)
    node.syncer.submit(lambda: "later", done.append)
    assert done == ["saved"]
    cluster.run_until(lambda: len(done) == 2)


def test_a_slow_sync_sends_the_next_ones_to_the_thread() -> None:
    cluster = healthy()
    node = leader_of(cluster)
    use_loop(node, 1.0)
    node.slow_disk = 400.0
    done: list[object] = []
    node.syncer.submit(lambda: 1, done.append)
    node.syncer.submit(lambda: 2, done.append)
    assert done == [1]
    node.slow_disk = 1.0
    cluster.run_until(lambda: done == [1, 2])


@pytest.mark.parametrize("moment", ["before", "behind"])
@pytest.mark.parametrize("power_cut", [False, True])
def test_a_process_ends_around_a_sync_on_its_loop(moment: str, power_cut: bool) -> None:
    cluster = healthy()
    node = leader_of(cluster)
    use_loop(node, 1.0)
    effects: list[str] = []

    def effect(kind: str = "send") -> None:
        effects.append(kind)
        # Behind the sync of the file there is a second boundary before its report.
        wanted = ["sync"] if moment == "before" else ["sync", "sync"]
        node.crash_probability = float([one for one in effects if one == "sync"] == wanted)
        SimNode.effect(node, kind)

    node.effect = node.disk.effect = effect  # type: ignore[method-assign]
    node.power_cut_on_crash = power_cut
    answers: list[object] = []
    slot = SimSlot(lambda results, failure: answers.append(results), node)
    node.guarded(lambda: node.replica.propose([(Opcode.SET, b"key", b"v")], slot))
    cluster.run_until(lambda: not node.alive, 2000)
    assert effects[-1] == "sync"
    assert not answers
    del node.effect
    node.crash_probability = 0.0
    node.start()
    cluster.run_until(cluster.converged)
    write(cluster)


@pytest.mark.parametrize("leads", [True, False])
@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_follows_a_sync_that_failed(leads: bool, quiet: bool) -> None:
    """On the loop it may fail in the middle of a turn; also that of a mark in a quiet log."""
    cluster = healthy()
    node = leader_of(cluster) if leads else follower_of(cluster)
    write(cluster)
    acts: list[str] = []
    send, submit, turn = node.replica._network.send, node.syncer.submit, node.replica.turn

    def watched_send(*arguments: Any) -> None:
        acts.append("send")
        send(*arguments)

    def watched_submit(*arguments: Any) -> None:
        acts.append("sync")
        submit(*arguments)

    def watched_turn() -> None:
        # Each turn has something to send.
        node.replica._agreement._urgent = True
        turn()

    node.replica._network.send = watched_send  # type: ignore[method-assign]
    node.syncer.submit = watched_submit  # type: ignore[method-assign]
    node.replica.turn = watched_turn  # type: ignore[method-assign]
    use_loop(node, 1.0)
    if not quiet:
        node.disk.sync_fails = True
        slot = SimSlot(lambda results, failure: None)
        leader_of(cluster).replica.propose([(Opcode.SET, b"key", b"v")], slot)
    else:
        # The next sync is that of the mark, long behind the last write.
        acts.clear()
        node.disk.sync_fails = True
    cluster.run_until(lambda: not node.alive, 2000)
    assert acts[-1] == "sync"


def test_a_sync_that_hangs_holds_back_no_more_the_longer_it_takes() -> None:
    """The leader goes on with heartbeats and rounds of reads, and each is answered."""
    cluster = healthy()
    leader = leader_of(cluster)
    follower = follower_of(cluster)
    use_loop(follower, 0.0)
    # Nearly three seconds or more.
    follower.slow_disk = 1.4e4
    write(cluster)
    follower.slow_disk = 1.0
    answers: list[object] = []
    for _ in range(250):
        slot = SimSlot(lambda results, failure: answers.append(results))
        leader.guarded(partial(leader.replica.read, [(Opcode.GET, b"key")], slot))
        cluster.run(10)
    outbox = follower.replica._outbox
    assert answers == [[b"value"]] * 250
    assert 0 < outbox.held_count < 10
    cluster.run_until(lambda: outbox.held_count == 0)


# ------------------------------------------------------- directories that fail to sync


def test_a_directory_that_fails_to_sync_keeps_a_prefix_of_what_was_done_to_it() -> None:
    kept = set()
    for seed in range(60):
        disk = SimDisk(World(seed), "n1")
        for name in ("a", "b"):
            disk.open(name, create=True).write(b"x", 0)
        disk.directory_sync_fails = True
        with pytest.raises(DiskFailedError):
            disk.sync_directory("")
        assert disk.failed
        assert disk.exists("a")
        assert disk.exists("b")
        disk.crash_process()
        at_once = disk.exists("b")
        disk.sync_directory("")
        disk.cut_power()
        kept.add((at_once, disk.exists("a"), disk.exists("b")))
    assert (True, True, True) in kept, "a later sync saves it"
    assert {(False, False, False), (False, True, False)} <= kept, "it is mounted again"
    assert not any(b and not a for _, a, b in kept)


@pytest.mark.parametrize("seed", range(8))
def test_a_node_that_cannot_save_a_snapshots_name_stops_and_comes_back(seed: int) -> None:
    cluster = healthy(seed)
    write(cluster)
    node = leader_of(cluster)
    node.disk.directory_sync_fails = True
    node.guarded(lambda: node.replica.take_snapshot(SimSlot(lambda *_: None)))
    cluster.run_until(lambda: not node.alive, 5000)
    assert [name for name, _ in cluster.stops] == [node.name]
    assert "directory" in cluster.stops[0][1].reason
    node.start()
    cluster.run_until(cluster.converged)
    write(cluster)


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_cannot_save_a_segments_name_stops_and_comes_back(seed: int) -> None:
    limits = Limits(wal_segment_bytes=64 * 1024, snapshot_log_bytes=1 << 24)
    cluster = healthy(seed, limits=limits)
    node = follower_of(cluster)
    write(cluster)
    node.disk.directory_sync_fails = True
    for _ in range(10):
        write(cluster, value=bytes(12 * 1024))
    cluster.run_until(lambda: not node.alive, 2000)
    assert [name for name, _ in cluster.stops] == [node.name]
    assert node.disk.directory_failures == 1
    node.start()
    cluster.run_until(cluster.converged)

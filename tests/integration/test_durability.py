"""Nothing that was acknowledged is lost, whichever processes die."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.wire import ReplyError, Wire
from tests.integration.writers import Load, fill, read_all

pytestmark = pytest.mark.slow

# Time in which a node has to end when it is asked to (docs/reference/cli.md).
STOP_LIMIT_S = 5.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("durability"), overrides=SMALL_LOG) as cluster:
        yield cluster


def assert_everywhere(cluster: Cluster, written: dict[str, bytes]) -> None:
    cluster.wait_until_converged()
    for node in cluster.nodes:
        assert read_all(node.client, list(written)) == written, node.id


@pytest.mark.parametrize("victims", ["leader", "follower", "all"])
def test_acknowledged_writes_survive_kill_9(cluster: Cluster, victims: str) -> None:
    leader = cluster.wait_for_leader()
    chosen = {"leader": [leader], "follower": cluster.others(leader)[:1], "all": cluster.nodes}
    written = fill(leader.client, prefix=f"kill {victims}", count=200, value_bytes=100)
    for node in chosen[victims]:
        node.kill()
    if victims != "all":
        survivor = cluster.wait_for_leader()
        written |= fill(survivor.client, prefix=f"after {victims}", count=50, value_bytes=10)
    cluster.start()
    assert_everywhere(cluster, written)


def test_writers_lose_nothing_while_nodes_are_killed_in_a_loop(cluster: Cluster) -> None:
    source = random.Random(20)
    with Load(cluster.addresses, writers=4, random_source=source, prefix="loop") as load:
        for round_number in range(4):
            goal = load.acknowledged + 200
            cluster.wait_until(lambda goal=goal: load.acknowledged >= goal, "writes flow")
            victims = {
                0: [cluster.wait_for_leader()],
                1: cluster.nodes,
                2: source.sample(cluster.nodes, 2),
                3: [source.choice(cluster.nodes)],
            }[round_number]
            for node in victims:
                node.kill()
            for node in victims:
                node.spawn()
            for node in victims:
                node.wait_until_serving()
            load.check_alive()
    cluster.wait_until_converged()
    load.check(cluster.addresses)
    assert load.totals().acknowledged > 800


def test_a_stop_takes_less_than_five_seconds_and_loses_nothing(cluster: Cluster) -> None:
    written = {}
    for _ in range(2):
        leader = cluster.wait_for_leader()
        written |= fill(leader.client, prefix=f"stop {leader.id}", count=100, value_bytes=100)
        started_s = time.monotonic()
        assert leader.stop() == 0
        assert time.monotonic() - started_s < STOP_LIMIT_S
        assert "stopped_cleanly" in leader.log_since_start()
        leader.start()
    assert_everywhere(cluster, written)


def test_a_stop_of_all_under_load_loses_nothing(cluster: Cluster) -> None:
    load = Load(cluster.addresses, writers=4, random_source=random.Random(3), prefix="drain")
    with load:
        cluster.wait_until(lambda: load.acknowledged > 500, "writes flow")
        started_s = time.monotonic()
        for node in cluster.nodes:
            node.signal(signal.SIGTERM)
        assert [node.wait_for_exit() for node in cluster.nodes] == [0, 0, 0]
        assert time.monotonic() - started_s < STOP_LIMIT_S
        cluster.start()
    cluster.wait_until_converged()
    load.check(cluster.addresses)


def test_a_connection_is_answered_before_a_stopping_leader_closes_it(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    with Wire(leader.client) as wire:
        assert wire.call("SET", "before", "1") == b"OK"
        leader.signal(signal.SIGTERM)
        outcome: list[object] = []
        try:
            while True:
                outcome.append(wire.call("SET", "during", len(outcome)))
        except OSError:
            pass
        assert leader.wait_for_exit() == 0
    refused = [reply for reply in outcome if isinstance(reply, ReplyError)]
    words = ("MOVED", "NOTAPPLIED", "UNKNOWN")
    assert all(str(reply).startswith(words) for reply in refused), refused
    acknowledged = outcome.count(b"OK")
    leader.start()
    cluster.wait_until_converged()
    kept = cluster.wait_for_leader().call("GET", "during")
    assert int(kept or -1) in (acknowledged - 1, acknowledged)


def snapshot_names(node: ClusterNode) -> list[str]:
    return sorted(path.name for path in (node.data_dir / "snapshots").glob("*.snapshot"))


def fall_behind(cluster: Cluster, down: ClusterNode, prefix: str) -> dict[str, bytes]:
    """Write until the log that a stopped follower needs is gone everywhere."""
    status = down.status()
    assert status is not None
    needed = status["last_index"] + 1
    down.kill()
    leader = cluster.wait_for_leader()
    written: dict[str, bytes] = {}

    def compacted() -> bool:
        part = fill(leader.client, prefix=f"{prefix}:{len(written)}", count=200, value_bytes=500)
        written.update(part)
        statuses = [node.status() for node in cluster.running]
        return all(one is not None and one["first_index"] > needed for one in statuses)

    cluster.wait_until(compacted, "the others drop what the follower needs")
    return written


@pytest.fixture(scope="module")
def compacting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("compacting")
    with Cluster(directory, overrides=SMALL_LOG + SMALL_SEGMENTS) as cluster:
        cluster.start()
        yield cluster


def test_a_follower_that_was_down_too_long_gets_a_snapshot(compacting: Cluster) -> None:
    compacting.heal()
    follower = compacting.followers()[0]
    written = fall_behind(compacting, follower, "snapshot")
    follower.start()
    compacting.wait_until_converged()
    assert "snapshot_installed" in follower.log_since_start()
    assert_everywhere(compacting, written)
    # What it was sent is durable: alone, it starts from it.
    follower.kill()
    follower.start()
    assert "recovered snapshot_index=0" not in follower.log_since_start()
    assert_everywhere(compacting, written)


def test_a_wiped_directory_is_refilled_and_counts_again(compacting: Cluster) -> None:
    compacting.heal()
    follower = compacting.followers()[0]
    written = fall_behind(compacting, follower, "wiped")
    shutil.rmtree(follower.data_dir)
    follower.start()
    compacting.wait_until_converged()
    compacting.wait_until(lambda: "admitted" in follower.log_since_start(), "it is let in again")
    assert follower.http("/readyz")[0] == 200
    assert_everywhere(compacting, written)
    # It counts: with one of the others gone, writes need it.
    leader = compacting.wait_for_leader()
    (third,) = compacting.others(leader, follower)
    third.kill()
    written |= fill(leader.client, prefix="needed", count=20, value_bytes=10)
    third.start()
    assert_everywhere(compacting, written)


def test_kill_9_of_all_after_snapshots_loses_nothing(compacting: Cluster) -> None:
    compacting.heal()
    leader = compacting.wait_for_leader()
    written = fill(leader.client, prefix="snapshots", count=1000, value_bytes=500)
    for node in compacting.nodes:
        node.kill()
    assert all(snapshot_names(node) for node in compacting.nodes)
    compacting.start()
    assert_everywhere(compacting, written)


def test_a_snapshot_by_hand_covers_what_is_applied(cluster: Cluster) -> None:
    follower = cluster.followers()[0]
    before = follower.status()
    assert before is not None
    index = follower.call("RAFT", "SNAPSHOT")
    assert index >= before["applied_index"]
    assert f"{index:020d}" in snapshot_names(follower)[-1]

"""A log that is much longer than the memory it may take, with real processes.

Without snapshots every entry stays in the log, so a follower that was away has
to be fed from the leader's disk, and a restart has to go through all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import Wire

MIB = 1 << 20
BUDGET_BYTES = 1 * MIB
VALUE_BYTES = 16 * 1024
WRITTEN_BYTES = 64 * MIB
# What a process may grow by beside the budget: buffers of a batch, of a message to each
# peer, of a segment that is read whole; and what the allocator does not give back.
GROWTH_BYTES = 40 * MIB

LONG_LOG = (
    "limits.snapshot_log_bytes=1073741824",
    f"limits.log_memory_bytes_max={BUDGET_BYTES}",
    # What is counted here is the log, and not what was overwritten.
    f"limits.history_bytes_max={BUDGET_BYTES}",
    # Who feeds a follower has to stay in office, also where the machine is busy.
    "timing.election_timeout_ms=[2000, 4000]",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("long-log"), overrides=LONG_LOG) as cluster:
        cluster.start()
        yield cluster


def write(node: ClusterNode, size: int) -> int:
    """Write that many bytes over the same few keys; return how many writes it took."""
    count = size // VALUE_BYTES
    with Wire(node.client) as wire:
        for first in range(0, count, 16):
            replies = wire.pipeline(
                [
                    ("SET", f"key{number % 50}", b"%08d" % number * (VALUE_BYTES // 8))
                    for number in range(first, first + 16)
                ]
            )
            assert replies == [b"OK"] * 16
    return count


def in_memory(node: ClusterNode) -> int:
    status = node.status()
    assert status is not None
    return int(status["log_memory_bytes"])


def test_the_memory_is_bounded_and_a_late_follower_catches_up_from_the_disk(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_until_settled()
    write(leader, 8 * MIB)
    late = cluster.followers()[0]
    late.kill()
    before = {node.id: node.memory_bytes() for node in cluster.running}
    write(leader, WRITTEN_BYTES)
    for node in cluster.running:
        # What is not yet durable or applied comes on top: at most a batch or two.
        assert in_memory(node) <= BUDGET_BYTES + 4 * MIB
        assert node.memory_bytes() - before[node.id] < GROWTH_BYTES
    assert cluster.wait_for_leader() is leader
    late.start()
    cluster.wait_until_caught_up(late)
    cluster.wait_until_converged()
    cluster.check_hashes()
    assert leader.memory_bytes() - before[leader.id] < GROWTH_BYTES
    for node in cluster.nodes:
        assert "snapshot_sending" not in node.log_since_start()
        assert not (node.data_dir / "snapshots").exists() or not list(
            (node.data_dir / "snapshots").glob("*.snapshot")
        )
        assert in_memory(node) <= BUDGET_BYTES + 4 * MIB


def test_a_restart_does_not_hold_the_whole_log(cluster: Cluster) -> None:
    cluster.wait_until_converged()
    node = cluster.followers()[0]
    status = node.status()
    assert status is not None
    node.kill()
    node.start()
    cluster.wait_until_caught_up(node)
    cluster.check_hashes()
    assert node.memory_bytes() < cluster.wait_for_leader().memory_bytes() + GROWTH_BYTES
    assert in_memory(node) <= BUDGET_BYTES + 4 * MIB


def test_damage_in_a_segment_that_is_read_back_ends_the_leader_with_code_3(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_until_settled()
    late = cluster.followers()[0]
    late.kill()
    # More than two segments: the last but one is what the follower lacks, all of it.
    write(leader, 40 * MIB)
    segments = sorted((leader.data_dir / "wal").glob("*.segment"))
    with segments[-2].open("r+b") as file:
        data = file.read()
        file.seek(0)
        position = len(data.rstrip(b"\0")) - VALUE_BYTES // 2
        file.seek(position)
        file.write(bytes((data[position] ^ 1,)))
    late.start()
    assert leader.wait_for_exit() == 3
    assert segments[-2].name in leader.log_since_start()
    cluster.wait_until(lambda: cluster.leader() is not None, "the others go on")

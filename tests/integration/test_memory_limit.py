"""The memory limit on real nodes: of the leader, kept through restarts, changed by config."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from raftkv.kv.commands import OUT_OF_MEMORY
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import split_address

pytestmark = pytest.mark.slow

LIMIT = 20_000


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("memory")
    with Cluster(directory, overrides=(f"limits.maxmemory={LIMIT}",)) as cluster:
        cluster.start()
        yield cluster


def connected(node: ClusterNode) -> redis.Redis:
    host, port = split_address(node.client)
    return redis.Redis(host, port, retry=None)


def wait_for_limit(cluster: Cluster, bytes_max: int) -> None:
    def is_in_force() -> bool:
        return all(node.info("memory")["maxmemory"] == str(bytes_max) for node in cluster.running)

    cluster.wait_until(is_in_force, f"a limit of {bytes_max} on every node")


def fill(cluster: Cluster) -> int:
    """Write until the limit is met; return how many keys it took."""
    with connected(cluster.wait_for_leader()) as client:
        for number in range(1000):
            try:
                client.set(f"key:{number}", b"x" * 100)
            except redis.exceptions.OutOfMemoryError as error:
                assert str(error) in OUT_OF_MEMORY
                return number
    raise AssertionError("nothing was refused")


def test_every_node_has_the_limit_of_the_leader(cluster: Cluster) -> None:
    wait_for_limit(cluster, LIMIT)
    count = fill(cluster)
    assert count == LIMIT // (290 + 100 + 6) + 1
    cluster.wait_until_converged()
    assert len({node.info("memory")["used_memory_dataset"] for node in cluster.nodes}) == 1
    leader = cluster.wait_for_leader()
    assert leader.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"%d" % LIMIT]

    # A snapshot and the log both bring it back, to all at once.
    for node in cluster.nodes:
        assert isinstance(node.call("RAFT", "SNAPSHOT"), int)
    for node in cluster.nodes:
        node.kill()
    cluster.start()
    wait_for_limit(cluster, LIMIT)
    with connected(cluster.wait_for_leader()) as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.incr("n")
        assert client.delete("key:0", "key:1") == 2
        assert client.incr("n") == 1

    # Another config of whoever leads replaces it.
    for node in cluster.nodes:
        node.kill()
    cluster.overrides = ("limits.maxmemory=0",)
    cluster.start()
    wait_for_limit(cluster, 0)
    with connected(cluster.wait_for_leader()) as client:
        assert client.set("big", b"x" * LIMIT)
    cluster.wait_until_converged()
    cluster.check_hashes()

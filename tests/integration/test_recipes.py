"""Leases and locks through elections, on real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis
import redis.cluster

from raftkv import Client, LeaseLostError, RequestError
from tests.integration.cluster import Cluster, run_raftkv

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("recipes")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.heal()
    running.wait_until_settled()
    return running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client[bytes]]:
    with Client(cluster.addresses) as made:
        made.flushall()
        yield made


def test_a_change_of_the_leader_shortens_no_lease_and_lengthens_it_by_the_gap(
    client: Client[bytes], cluster: Cluster
) -> None:
    ttl_s = 3.0
    lease_id = client.lease_grant(int(ttl_s * 1000))
    granted_s = time.monotonic()
    client.set("a", "1", lease=lease_id)
    leader = cluster.wait_for_leader()
    # The last stamp of the old leader is at most so much older.
    silent_s = time.monotonic() - 0.2
    leader.kill()
    cluster.wait_for_leader(other_than=leader)
    client.set("other", "1")
    gap_s = time.monotonic() - silent_s
    seen_s = time.monotonic()
    while client.exists("a"):
        seen_s = time.monotonic()
    gone_s = time.monotonic()
    # A tenth is what clocks may differ by; the rest is the time of a request.
    assert gone_s - granted_s >= ttl_s * 0.9
    assert seen_s - granted_s <= (ttl_s + gap_s) * 1.1 + 0.5


def test_locks_exclude_each_other_while_leaders_die(
    client: Client[bytes], cluster: Cluster
) -> None:
    tokens: list[int] = []
    overlaps: list[bool] = []
    inside = threading.Semaphore(1)
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            # Without a leader for long a request fails, and a lease may be lost.
            with suppress(RequestError, LeaseLostError), client.lock("l", ttl_s=30) as lock:
                token = lock.check()
                overlaps.append(not inside.acquire(blocking=False))
                tokens.append(token)
                inside.release()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = len(tokens)
        leader = cluster.wait_for_leader()
        leader.kill()
        cluster.wait_until(lambda: len(tokens) > before + 5, "the lock goes round")  # noqa: B023
        leader.start()
    ended.set()
    for thread in threads:
        thread.join(60)
    assert not any(overlaps)
    assert tokens == sorted(set(tokens))


def test_the_command_line_runs_a_command_under_a_lock(
    client: Client[bytes], cluster: Cluster
) -> None:
    nodes = ("--nodes", ",".join(cluster.addresses))
    directory = cluster.nodes[0].log.parent
    program = ("sh", "-c", "echo token $RAFTKV_LOCK_TOKEN; exit 3")
    done = run_raftkv("lock", "cli", *nodes, "--", *program, directory=directory)
    assert done.returncode == 3
    assert int(done.stdout.split()[1]) > 0
    with client.lock("cli"):
        refused = run_raftkv(
            "lock", "cli", "--wait", "0", *nodes, "--", "true", directory=directory
        )
    assert refused.returncode == 1
    granted = run_raftkv("lease", "grant", "60000", *nodes, directory=directory)
    lease_id = granted.stdout.strip()
    assert run_raftkv("lease", "list", *nodes, directory=directory).stdout.split() == [lease_id]
    for words, told in (
        (("keepalive", lease_id), "60000\n"), (("revoke", lease_id), "0\n")
    ):  # fmt: skip
        assert run_raftkv("lease", *words, *nodes, directory=directory).stdout == told


def test_the_lock_of_redis_cluster(cluster: Cluster, client: Client[bytes]) -> None:
    nodes = [redis.cluster.ClusterNode(*one.client.split(":")) for one in cluster.nodes]
    theirs = redis.RedisCluster(startup_nodes=nodes)
    try:
        with theirs.lock("r", timeout=5) as lock:
            assert lock.extend(1)
        assert client.exists("r") == 0
    finally:
        theirs.close()

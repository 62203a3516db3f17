"""redis-py against a real cluster: what it gets back, and its own retries through a kill.

Retries of the clients are left as they are where a client is to bridge the change of
the leader by itself, and switched off where a count is compared. All clients, redis-py
among them, live through more in test_foreign_clients.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import redis
import redis.asyncio
import redis.sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode as StartupNode
from redis.cluster import RedisCluster
from redis.retry import Retry

from tests.integration.cluster import Cluster
from tests.integration.wire import split_address

pytestmark = pytest.mark.slow

BRIDGE_LIMIT_S = 20.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("clients")) as cluster:
        yield cluster


# -------------------------------------------------------------------- redis-py


def startup_nodes(cluster: Cluster) -> list[StartupNode]:
    return [StartupNode(*split_address(address)) for address in cluster.addresses]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(cluster: Cluster, protocol: int) -> None:
    leader = cluster.wait_for_leader()
    host, number = split_address(leader.client)
    with redis.Redis(host, number, protocol=protocol) as client:
        assert client.ping()
        assert client.set("py", b"\x00\xff\r\n")
        assert client.get("py") == b"\x00\xff\r\n"
        assert client.incr("py:n") == client.incrby("py:n", 0)
        assert client.set("py:t", 1, ex=100)
        assert 0 < client.ttl("py:t") <= 100
        assert client.mset({"py:a": 1, "py:b": 2})
        assert client.mget("py:a", "py:b", "py:absent") == [b"1", b"2", None]
        assert b"py:a" in set(client.scan_iter("py:*", count=10))
        with client.pipeline(transaction=False) as pipe:
            for _ in range(100):
                pipe.incr("py:pipe")
            assert pipe.execute()[-1] == int(client.get("py:pipe"))
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("py")
        assert client.info("raft")["raft_role"] == "leader"
        client.delete("py:pipe")
    follower = cluster.others(leader)[0]
    with redis.Redis(*split_address(follower.client), protocol=protocol) as client:
        with pytest.raises(redis.exceptions.MovedError):
            client.set("py", 1)


def bridge(
    cluster: Cluster, increment: Callable[[], int], errors: tuple[type[Exception], ...]
) -> None:
    """Count with a client while the leader is killed; it must find the next one by itself.

    A failed call may have counted; a successful one has, and more than the one before.
    """
    before = increment()
    leader = cluster.wait_for_leader()
    killed_s = 0.0
    failures = successes = 0
    failure: Exception | None = None
    last = before
    end_s = time.monotonic() + BRIDGE_LIMIT_S
    while successes < 60:
        if successes == 20 and not killed_s:
            leader.kill()
            killed_s = time.monotonic()
        try:
            value = increment()
        except errors as error:
            failure = error
            failures += 1
            time.sleep(0.02)
        else:
            assert value > last
            last = value
            successes += 1
        assert time.monotonic() < end_s, (
            f"{successes} successes, {failures} failures, the last one {failure!r}"
        )
    assert before + successes <= last <= before + successes + failures
    leader.start()


def test_redis_cluster_goes_through_the_death_of_a_leader(cluster: Cluster) -> None:
    client = RedisCluster(
        startup_nodes=startup_nodes(cluster),
        socket_timeout=5,
        # One call must be one request: it is counted.
        retry=Retry(NoBackoff(), 0),
    )
    try:
        assert client.set("rc", "1")
        assert client.get("rc") == b"1"
        bridge(cluster, lambda: client.incr("rc:n"), (redis.RedisError, OSError))
    finally:
        client.close()


def test_redis_cluster_with_its_own_retries_finds_the_next_leader(cluster: Cluster) -> None:
    """SET may be sent twice without harm; how many errors are shown is the client's affair."""
    client = RedisCluster(startup_nodes=startup_nodes(cluster), socket_timeout=5)
    leader = cluster.wait_for_leader()
    end_s = time.monotonic() + BRIDGE_LIMIT_S
    number = 0
    try:
        while number < 100:
            if number == 30 and leader.is_running:
                leader.kill()
            try:
                number += bool(client.set("bridged", number))
            except redis.RedisError:
                time.sleep(0.05)
            assert time.monotonic() < end_s, f"{number} writes"
        assert client.get("bridged") == b"99"
    finally:
        client.close()


def test_redis_py_sentinel_finds_the_next_leader(cluster: Cluster) -> None:
    sentinel = redis.sentinel.Sentinel(
        [split_address(address) for address in cluster.addresses], socket_timeout=5
    )
    names = list(sentinel.sentinels[0].sentinel_masters())
    assert len(names) == 1
    leader = cluster.wait_for_leader()
    assert sentinel.discover_master(names[0]) == split_address(leader.client)
    client = sentinel.master_for(names[0], retry=Retry(NoBackoff(), 0))
    try:
        bridge(cluster, lambda: client.incr("sentinel:n"), (redis.RedisError, OSError))
    finally:
        client.close()
        for one in sentinel.sentinels:
            one.close()


def test_redis_py_asyncio(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(f"redis://{leader.client}/0") as client:
            await client.delete("aio:n")
            replies = await asyncio.gather(*(client.incr("aio:n") for _ in range(50)))
            assert sorted(replies) == list(range(1, 51))
            async with client.pipeline(transaction=False) as pipe:
                pipe.set("aio", "1").get("aio")
                assert await pipe.execute() == [True, b"1"]

    asyncio.run(work())


def test_redis_py_asyncio_cluster_finds_the_next_leader(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()

    async def work() -> None:
        nodes = [
            redis.asyncio.cluster.ClusterNode(*split_address(address))
            for address in cluster.addresses
        ]
        number = 0
        async with redis.asyncio.RedisCluster(startup_nodes=nodes, socket_timeout=5) as client:
            async with asyncio.timeout(BRIDGE_LIMIT_S):
                while number < 100:
                    if number == 30 and leader.is_running:
                        await asyncio.to_thread(leader.kill)
                    try:
                        number += bool(await client.set("aio:bridged", number))
                    except redis.RedisError:
                        await asyncio.sleep(0.05)
                assert await client.get("aio:bridged") == b"99"

    asyncio.run(work())

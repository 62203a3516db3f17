"""Blocking pops on a real cluster: redis-py and our clients, both routings, leaders that go."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio

from raftkv import AsyncClient, Client, DefiniteError, IndefiniteError
from tests.integration.cluster import Cluster
from tests.integration.proxied import proxied, proxied_redis
from tests.integration.wire import ReplyError, Wire

pytestmark = pytest.mark.slow

WORK_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("blocking")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.heal()
    running.wait_until_settled()
    running.wait_for_leader().call("FLUSHALL")
    return running


def wait_until_blocked(cluster: Cluster, count: int) -> None:
    """Wait until so many clients wait on the leader."""

    def blocked() -> bool:
        return cluster.wait_for_leader().info("clients")["blocked_clients"] == str(count)

    cluster.wait_until(blocked, f"{count} clients that wait")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_on_every_node(cluster: Cluster, protocol: int) -> None:
    with ThreadPoolExecutor() as pool:
        for node in cluster.nodes:
            with (
                proxied_redis(node, protocol=protocol, retry=None) as client,
                proxied_redis(cluster.nodes[0], retry=None) as other,
            ):
                popped = pool.submit(client.blpop, ["none", "l"], 20)
                wait_until_blocked(cluster, 1)
                assert other.rpush("l", "x", "y", "z") == 3
                found = popped.result(WORK_LIMIT_S)
                assert list(found) == [b"l", b"x"]
                assert list(client.brpop("l", 1)) == [b"l", b"z"]
                assert client.blmove("l", "m", 1, "LEFT", "RIGHT") == b"y"
                assert client.brpoplpush("m", "l", 1) == b"y"
                assert client.blmpop(1, 1, "l", direction="LEFT", count=2) == [b"l", [b"y"]]
                assert client.blpop("l", 0.05) is None
                other.zadd("z", {"low": 1, "high": 2, "mid": 1.5})
                assert list(client.bzpopmin("z", 1)) == [b"z", b"low", 1.0]
                assert list(client.bzpopmax("z", 1)) == [b"z", b"high", 2.0]
                assert client.bzmpop(1, 1, "z", min=True)[0] == b"z"
                assert client.bzpopmin("z", 0.05) is None
                other.set("text", 1)
                with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
                    client.blpop("text", 1)


def test_a_wait_is_longer_than_the_deadline_of_requests(cluster: Cluster) -> None:
    follower = cluster.others(cluster.wait_for_leader())[0]
    for node in (cluster.wait_for_leader(), follower):
        with proxied(node) as wire:
            started = time.monotonic()
            assert wire.call("BLPOP", "none", "5") is None
            assert time.monotonic() - started >= 5


def test_the_asyncio_client_of_redis_py_waits_while_others_work(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(f"redis://{leader.client}/0") as client:
            popped = [asyncio.create_task(client.blpop("l", 20)) for _ in range(20)]
            while int((await client.info("clients"))["blocked_clients"]) < 20:
                await asyncio.sleep(0.01)
            await client.rpush("l", *range(20))
            found = [list(one) for one in await asyncio.gather(*popped)]
            assert sorted(int(element) for _, element in found) == list(range(20))

    asyncio.run(asyncio.wait_for(work(), WORK_LIMIT_S))


def test_a_client_that_goes_while_it_waits_takes_nothing(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    for node in (leader, cluster.others(leader)[0]):
        with proxied(node) as wire:
            wire.send(b"BLPOP l 0\r\n")
            wait_until_blocked(cluster, 1)
        wait_until_blocked(cluster, 0)
        assert leader.call("RPUSH", "l", "x") == 1
        assert leader.call("LPOP", "l") == b"x"


def test_our_clients_wait_on_when_leadership_is_handed_over(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    with Client(cluster.addresses) as client, ThreadPoolExecutor() as pool:
        popped = pool.submit(client.blpop, "l", timeout_s=30)
        wait_until_blocked(cluster, 1)
        leader.call("RAFT", "TRANSFER")
        cluster.wait_for_leader(other_than=leader)
        wait_until_blocked(cluster, 1)
        client.rpush("l", "x")
        assert popped.result(WORK_LIMIT_S) == (b"l", b"x")
        assert client.blpop("l", timeout_s=0.05) is None
        client.zadd("z", {"m": 2.5})
        assert client.bzpopmax("none", "z", timeout_s=1) == (b"z", b"m", 2.5)
        client.rpush("l", "y")
        assert client.blmove("l", "m", timeout_s=1) == b"y"

    async def work() -> None:
        async with AsyncClient(cluster.addresses, decode=True) as other:
            waiting = asyncio.create_task(other.brpop("l", timeout_s=30))
            while int((await other.info("clients")).get("blocked_clients", 0)) == 0:
                await asyncio.sleep(0.01)
            await other.rpush("l", "z")
            assert await waiting == ("l", "z")

    asyncio.run(asyncio.wait_for(work(), WORK_LIMIT_S))


def test_a_killed_leader_ends_the_waits_of_its_clients(cluster: Cluster) -> None:
    """Nobody hangs: a direct client loses its connection, a proxied one is told."""
    leader = cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    with Wire(leader.client) as direct, proxied(follower) as through:
        for wire in (direct, through):
            wire.send(b"BLPOP l 0\r\n")
        wait_until_blocked(cluster, 2)
        leader.kill()
        with pytest.raises(ConnectionError):
            direct.read()
        reply = through.read()
        assert isinstance(reply, ReplyError)
        assert str(reply).startswith("UNKNOWN")
    leader.start()


def test_a_queue_through_kills_hands_out_nothing_twice(cluster: Cluster) -> None:
    """What was pushed is popped once, or still there; an unknown pop may cost one element."""
    stop = threading.Event()
    pushed: list[bytes] = []
    maybe_pushed: list[bytes] = []
    popped: list[bytes] = []
    unknown_pops: list[int] = []
    failures: list[BaseException] = []

    def produce(name: str) -> None:
        number = 0
        try:
            with Client(cluster.addresses, deadline_s=20) as client:
                while not stop.is_set():
                    number += 1
                    element = f"{name}:{number}".encode()
                    try:
                        client.rpush("queue", element)
                        pushed.append(element)
                    except IndefiniteError:
                        maybe_pushed.append(element)
                    except DefiniteError:
                        pass
                    time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    def consume() -> None:
        try:
            with Client(cluster.addresses, deadline_s=20) as client:
                while not stop.is_set():
                    try:
                        found = client.blpop("queue", timeout_s=0.5)
                        if found is not None:
                            popped.append(found[1])
                    except IndefiniteError:
                        unknown_pops.append(1)
                    except DefiniteError:
                        time.sleep(0.02)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=produce, args=(f"p{number}",)) for number in range(2)]
    threads += [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        victim = cluster.wait_for_leader()
        enough = len(popped) + 20
        cluster.wait_until(lambda enough=enough: len(popped) > enough, "pops")
        victim.kill()
        cluster.wait_for_leader(other_than=victim)
        victim.start()
        cluster.wait_until_settled()
    stop.set()
    for thread in threads:
        thread.join(WORK_LIMIT_S)
    assert not failures
    left = cluster.wait_for_leader().call("LRANGE", "queue", 0, -1)
    seen = Counter(popped) + Counter(left)
    assert max(seen.values()) == 1
    assert set(seen) <= set(pushed) | set(maybe_pushed)
    assert len(set(pushed) - set(seen)) <= len(unknown_pops)
    assert len(popped) > 60

"""Numbered writes on a real cluster: any client, any node, through kills, snapshots, restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from raftkv import AsyncClient, Client
from tests.integration.cluster import SMALL_LOG, Cluster, ClusterNode
from tests.integration.wire import ReplyError, Wire, split_address

pytestmark = pytest.mark.slow

# A busy machine may take its time.
TTL_MS = 3_600_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = (*SMALL_LOG, "writes.on_follower=proxy")
    with Cluster(tmp_path_factory.mktemp("once"), overrides=settings) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.heal()
    running.wait_until_settled()
    running.wait_for_leader().call("FLUSHALL")
    return running


def test_every_node_answers_copies(cluster: Cluster) -> None:
    session = cluster.wait_for_leader().call("KV", "SESSION", "OPEN", "TTL", TTL_MS)
    for node in [*cluster.nodes, *cluster.nodes]:
        assert node.call("KV", "ONCE", session, 1, 1, "INCR", "n") == 1
    multi = ("KV", "EXEC", 0, 2, 2, "INCR", "n", 2, "GET", "n")
    for node in cluster.nodes:
        assert node.call("KV", "ONCE", session, 2, 2, *multi) == [2, b"2"]
        assert node.call("KV", "OUTCOME", session, 2) == [b"applied", [2, b"2"]]
        assert node.call("KV", "OUTCOME", session, 3) == [b"fenced"]
        assert str(node.call("KV", "ONCE", session, 3, 2, "INCR", "n")) == "NOTAPPLIED fenced"
        assert str(node.call("KV", "ONCE", session, 1, 1, "INCR", "n")) == "UNKNOWN session expired"
    assert cluster.wait_for_leader().call("GET", "n") == b"2"


def test_results_outlive_leaders_snapshots_and_restarts_of_all_nodes(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    session = leader.call("KV", "SESSION", "OPEN", "TTL", TTL_MS)
    copies = [("KV", "ONCE", session, number, 1, "INCR", "n") for number in range(1, 30)]
    for number, words in enumerate(copies, 1):
        assert leader.call(*words) == number
    assert leader.call("KV", "OUTCOME", session, 40) == [b"fenced"]
    for node in cluster.nodes:
        assert node.call("RAFT", "SNAPSHOT") is not None
    leader.kill()
    other = cluster.wait_for_leader(other_than=leader)
    assert other.call(*copies[0]) == 1
    for node in cluster.nodes:
        if node.is_running:
            node.kill()
    for node in cluster.nodes:
        node.spawn()
    leader = cluster.wait_for_leader()
    assert [leader.call(*words) for words in copies] == list(range(1, 30))
    late = leader.call("KV", "ONCE", session, 40, 1, "INCR", "n")
    assert str(late) == "NOTAPPLIED fenced"
    assert leader.call("GET", "n") == b"29"
    assert leader.call("KV", "SESSION", "OPEN") > session


def test_an_idle_session_expires_on_an_idle_cluster(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    short = leader.call("KV", "SESSION", "OPEN", "TTL", 1000)
    long = leader.call("KV", "SESSION", "OPEN", "TTL", TTL_MS)
    cluster.wait_until(
        lambda: short not in leader.call("KV", "SESSION", "LIST"), "the session has expired"
    )
    assert long in leader.call("KV", "SESSION", "LIST")
    assert leader.call("KV", "SESSION", "KEEPALIVE", short) == 0
    reply = leader.call("KV", "ONCE", short, 1, 1, "INCR", "n")
    assert isinstance(reply, ReplyError)
    assert leader.call("GET", "n") is None


class Once:
    """Numbered writes of one thread, as in docs/howto/write-exactly-once.md."""

    def __init__(self, client: redis.Redis) -> None:
        self.client: Any = client
        self.session = self.client.execute_command("KV SESSION", "OPEN")
        self.number = 0

    def write(self, *words: Any) -> Any:
        self.number += 1
        return self.client.execute_command(
            "KV ONCE", self.session, self.number, self.number, *words
        )


def test_redis_py_with_retries(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    asked = next(node for node in cluster.nodes if node is not leader)
    host, port = split_address(asked.client)
    retry = Retry(NoBackoff(), 50)
    with redis.Redis(host, port, retry=retry, retry_on_error=[redis.ResponseError]) as client:
        once = Once(client)
        counts: list[int] = []
        kills = threading.Thread(target=kill_leader_but, args=(cluster, asked))
        kills.start()
        while kills.is_alive() or len(counts) < 100:
            counts.append(once.write("INCR", "n"))
        kills.join()
        assert counts == list(range(1, len(counts) + 1))


def kill_leader_but(cluster: Cluster, spared: ClusterNode) -> None:
    """Kill the leader twice, unless it is one that clients are connected to."""
    for _ in range(2):
        leader = cluster.wait_for_leader()
        if leader is spared:
            continue
        leader.kill()
        cluster.wait_for_leader(other_than=leader)
        leader.start()


def test_pipelines_of_our_client_through_kills(cluster: Cluster) -> None:
    with Client(cluster.addresses, deadline_s=30) as client:
        stopping = threading.Event()
        rounds = 0

        def kill() -> None:
            for _ in range(3):
                leader = cluster.wait_for_leader()
                leader.kill()
                cluster.wait_for_leader(other_than=leader)
                leader.start()
            stopping.set()

        thread = threading.Thread(target=kill)
        thread.start()
        while not stopping.is_set():
            pipeline = client.pipeline()
            for _ in range(20):
                pipeline.incr("n").rpush("l", rounds)
            results = pipeline.execute()
            assert results[::2] == list(range(20 * rounds + 1, 20 * rounds + 21))
            assert results[1::2] == results[::2]
            rounds += 1
        thread.join()
        assert client.llen("l") == 20 * rounds
        expected = [b"%d" % number for number in range(rounds) for _ in range(20)]
        assert client.lrange("l", 0, -1) == expected


def test_the_asynchronous_client_through_a_kill(cluster: Cluster) -> None:
    async def work() -> list[int]:
        async with AsyncClient(cluster.addresses, deadline_s=30) as client:

            async def increment() -> list[int]:
                return [await client.incr("n") for _ in range(60)]

            tasks = [asyncio.create_task(increment()) for _ in range(5)]
            leader = await asyncio.to_thread(cluster.wait_for_leader)
            await asyncio.to_thread(leader.kill)
            counts = [count for task in tasks for count in await task]
            await asyncio.to_thread(leader.start)
            return sorted(counts)

    assert asyncio.run(work()) == list(range(1, 301))


def test_a_closed_client_leaves_no_session(cluster: Cluster) -> None:
    before = cluster.wait_for_leader().call("KV", "SESSION", "LIST")
    with Client(cluster.addresses) as client:
        client.incr("n")
        (ours,) = set(client.execute("KV", "SESSION", "LIST")) - set(before)
    cluster.wait_until(
        lambda: ours not in cluster.wait_for_leader().call("KV", "SESSION", "LIST"),
        "the session was closed",
    )


def test_bad_input_disturbs_nobody(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    with Wire(node.client) as wire:
        session = wire.call("KV", "SESSION", "OPEN")
        for words in (
            ("KV", "ONCE"),
            ("KV", "ONCE", session, "x", "1", "INCR", "n"),
            ("KV", "ONCE", session, "9" * 30, "1", "INCR", "n"),
            ("KV", "ONCE", session, 1, 1, "GET", "n"),
            ("KV", "ONCE", session, 1, 1, b"\x00\xff", b"\r\n"),
            ("KV", "OUTCOME", b"\xff", 1),
            ("KV", "SESSION", b"\r\n"),
            ("KV", "SESSION", "OPEN", "TTL", "-1"),
        ):
            assert isinstance(wire.call(*words), ReplyError), words
        assert wire.call("KV", "ONCE", session, 1, 1, "INCR", "n") == 1

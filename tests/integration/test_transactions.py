"""Transactions on a real cluster: redis-py, redis-cli, both routings, and a leader that dies."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from raftkv import Client, DefiniteError, IndefiniteError, Transaction
from raftkv.kv.slots import key_slot
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.proxied import proxied, proxied_redis
from tests.integration.wire import ReplyError, Wire

pytestmark = pytest.mark.slow

TOOL_LIMIT_S = 60
WORK_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("transactions")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.heal()
    running.wait_until_settled()
    return running


@pytest.mark.parametrize("protocol", [2, 3])
def test_pipelines_of_redis_py_on_every_node(cluster: Cluster, protocol: int) -> None:
    for node in cluster.nodes:
        with proxied_redis(node, protocol=protocol) as client:
            client.delete("n", "h")
            with client.pipeline(transaction=True) as pipe:
                pipe.incr("n").hset("h", mapping={"a": 1}).hgetall("h").get("n").ping()
                assert pipe.execute() == [1, 1, {b"a": b"1"}, b"1", True]
            with client.pipeline(transaction=True) as pipe:
                pipe.set("n", "text").incr("n").get("n")
                values = pipe.execute(raise_on_error=False)
                assert [values[0], values[2]] == [True, b"text"]
                assert isinstance(values[1], redis.ResponseError)
            with client.pipeline(transaction=True) as pipe:
                pipe.set("n", 5).execute_command("NOSUCHCOMMAND")
                with pytest.raises((redis.exceptions.ExecAbortError, redis.ResponseError)):
                    pipe.execute()
            assert client.get("n") == b"text"


def test_watch_of_redis_py_on_a_follower(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    first, second = (proxied_redis(node) for node in cluster.others(leader))
    with first, second, first.pipeline() as pipe:
        first.set("w", 1)
        pipe.watch("w")
        value = int(pipe.get("w"))
        second.set("w", 10)
        pipe.multi()
        pipe.set("w", value + 1)
        with pytest.raises(redis.WatchError):
            pipe.execute()
        assert first.get("w") == b"10"
        pipe.watch("w")
        value = int(pipe.get("w"))
        pipe.multi()
        pipe.set("w", value + 1)
        assert pipe.execute() == [True]
        assert second.get("w") == b"11"


def test_the_transaction_helper_of_redis_py_counts_from_all_nodes(cluster: Cluster) -> None:
    """Read, compute, write back, from several clients at once: no increment is lost."""
    with proxied_redis(cluster.nodes[0]) as client:
        client.delete("counted")
    failures: list[BaseException] = []

    def work(node: ClusterNode) -> None:
        def add(pipe: redis.client.Pipeline) -> None:
            value = int(pipe.get("counted") or 0)
            pipe.multi()
            pipe.set("counted", value + 1)

        try:
            with proxied_redis(node) as client:
                for _ in range(40):
                    client.transaction(add, "counted", watch_delay=0.001)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(node,)) for node in cluster.nodes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WORK_LIMIT_S)
    assert not failures
    with proxied_redis(cluster.nodes[0]) as client:
        assert client.get("counted") == b"240"
    cluster.wait_until_converged()
    cluster.check_hashes()


def test_asyncio_pipelines(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()

    async def work() -> None:
        async with redis.asyncio.Redis.from_url(f"redis://{leader.client}/0") as client:
            await client.delete("aio:n")
            async with client.pipeline(transaction=True) as pipe:
                assert await pipe.incr("aio:n").incr("aio:n").execute() == [1, 2]

            async def double(pipe: redis.asyncio.client.Pipeline) -> None:
                value = int(await pipe.get("aio:n"))
                pipe.multi()
                pipe.set("aio:n", 2 * value)

            assert await client.transaction(double, "aio:n") == [True]
            assert await client.get("aio:n") == b"4"

    asyncio.run(work())


def test_redis_cli(cluster: Cluster, redis_cli: str) -> None:
    leader = cluster.wait_for_leader()
    script = "MULTI\nSET cli 1\nINCR cli\nEXEC\nWATCH cli\nMULTI\nFOO\nEXEC\nMULTI\nDISCARD\n"
    for protocol in ("-2", "-3"):
        shown = subprocess.run(
            [redis_cli, protocol, "-p", leader.client.rpartition(":")[2]],
            input=script, capture_output=True, text=True, timeout=TOOL_LIMIT_S, check=True,
        ).stdout  # fmt: skip
        assert shown.splitlines()[:6] == ["OK", "QUEUED", "QUEUED", "OK", "2", "OK"]
        assert "EXECABORT Transaction discarded because of previous errors." in shown


def test_redirect_refuses_inside_multi_and_nothing_is_done(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    leader.call("DEL", "r")
    for follower in cluster.others(leader):
        with Wire(follower.client) as wire:
            replies = wire.pipeline([("MULTI",), ("SET", "r", "1"), ("PING",), ("EXEC",)])
            assert str(replies[1]) == f"MOVED {key_slot(b'r')} {leader.client}"
            assert replies[2] == b"QUEUED"
            assert str(replies[3]).startswith("EXECABORT")
            assert str(wire.call("WATCH", "r")).startswith("MOVED")
    assert leader.call("GET", "r") is None


def test_kv_in_one_round_trip_from_any_node(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    leader.call("DEL", "lock")
    taken = (
        "KV",
        "TXN",
        1,
        "lock",
        "EXISTS",
        "=",
        0,
        1,
        3,
        "SET",
        "lock",
        "me",
        1,
        2,
        "GET",
        "lock",
    )
    follower = cluster.others(leader)[0]
    with proxied(follower) as wire:
        succeeded, replies, revision = wire.call(*taken)
        assert (succeeded, replies) == (1, [b"OK"])
        assert wire.call(*taken) == [0, [b"me"], revision]
        assert wire.call("KV", "GET", "lock") == [
            *(b"value", b"me", b"create_revision", revision),
            *(b"modify_revision", revision, b"version", 1, b"type", b"string"),
        ]
        assert wire.call("SET", "lock", "you", "IFEQ", "other") is None
        assert wire.call("DELEX", "lock", "IFEQ", "me") == 1


def test_a_watch_outlives_the_leader_that_it_was_read_from(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    follower = cluster.others(leader)[0]
    with proxied(follower) as wire:
        assert wire.call("SET", "held", "1") == b"OK"
        assert wire.call("WATCH", "held") == b"OK"
        leader.kill()
        cluster.wait_for_leader(other_than=leader)
        wire.pipeline([("MULTI",), ("SET", "held", "2")])
        reply = wire.call("EXEC")
        assert reply == [b"OK"] or str(reply).startswith("UNKNOWN"), reply
    leader.start()


def test_moves_between_accounts_through_kills_neither_make_nor_lose_money(
    cluster: Cluster,
) -> None:
    """An EXEC that was acknowledged counts as a whole, one that is unknown whole or not at all."""
    leader = cluster.wait_for_leader()
    accounts = [f"account:{number}" for number in range(4)]
    for account in accounts:
        assert leader.call("SET", account, 100) == b"OK"
    stop = threading.Event()
    done: list[int] = []
    failures: list[BaseException] = []

    def move(number: int) -> None:
        made = 0
        try:
            while not stop.is_set():
                node = cluster.nodes[(number + made) % 3]
                source, target = accounts[number % 4], accounts[(number + made) % 3]
                try:
                    with Wire(node.client) as wire:
                        reply = wire.pipeline(
                            [
                                *(("RAFT", "ROUTING", "proxy"), ("MULTI",)),
                                *(("DECRBY", source, 7), ("INCRBY", target, 7), ("EXEC",)),
                            ]
                        )[-1]
                        made += not isinstance(reply, ReplyError)
                except OSError:
                    time.sleep(0.02)
        except BaseException as error:
            failures.append(error)
        done.append(made)

    threads = [threading.Thread(target=move, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        victim = cluster.wait_for_leader()
        victim.kill()
        cluster.wait_for_leader(other_than=victim)
        victim.start()
        cluster.wait_until_settled()
    stop.set()
    for thread in threads:
        thread.join(WORK_LIMIT_S)
    assert not failures
    assert min(done) > 0
    total = sum(map(int, cluster.wait_for_leader().call("MGET", *accounts)))
    assert total == 400
    cluster.wait_until_converged()
    cluster.check_hashes()


def test_our_client_counts_through_kills_without_losing_or_doubling(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    leader.call("DEL", "ours")
    stop = threading.Event()
    done: list[tuple[int, int]] = []
    failures: list[BaseException] = []

    def work() -> None:
        succeeded = unknown = 0
        try:
            with Client(cluster.addresses, deadline_s=20) as client:

                def add(transaction: Transaction) -> None:
                    transaction.set("ours", int(client.get("ours") or 0) + 1)

                while not stop.is_set():
                    try:
                        succeeded += client.transaction(add, "ours") == [True]
                    except IndefiniteError:
                        unknown += 1
                    except DefiniteError:
                        time.sleep(0.02)
        except BaseException as error:
            failures.append(error)
        done.append((succeeded, unknown))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        victim = cluster.wait_for_leader()
        victim.kill()
        cluster.wait_for_leader(other_than=victim)
        victim.start()
        cluster.wait_until_settled()
    stop.set()
    for thread in threads:
        thread.join(WORK_LIMIT_S)
    assert not failures
    succeeded, unknown = (sum(column) for column in zip(*done, strict=True))
    value = int(cluster.wait_for_leader().call("GET", "ours"))
    assert succeeded > 0
    assert succeeded <= value <= succeeded + unknown

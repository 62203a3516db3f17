"""The front-end on real sockets: foreign clients, bad input, limits, the end.

Runs the whole server on uvloop in a thread, on fake replicas that share a store,
with free ports of loopback. No consensus: that is for the integration tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.retry import Retry

from raftkv.config import Limits, TimingConfig, WritesConfig
from raftkv.server.listener import ClientListener
from raftkv.types import Configuration, NodeId
from tests.unit.server.fake_replica import (
    FakeClock,
    FakeNetwork,
    FakeObserver,
    FakeReplica,
    SharedStore,
    config_for,
    members,
)
from tests.unit.server.harness import encode

WAIT_S = 10.0


class RealClock(FakeClock):
    """Real milliseconds for timers; a fixed wall clock."""

    def now_ms(self) -> int:
        return int(time.monotonic() * 1000)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


class LiveCluster:
    """Three front-ends in one thread; `on_loop` runs something in it."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.ports = free_ports(3)
        self.loop = new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.shared = SharedStore(RealClock())
        self.listeners: dict[str, ClientListener] = {}
        self.replicas: dict[str, FakeReplica] = {}
        asyncio.run_coroutine_threadsafe(self._start(), self.loop).result(WAIT_S)
        self.lead("n1")

    async def _start(self) -> None:
        everyone = members(self.ports)
        routes: dict[NodeId, Callable[..., None]] = {}
        for member in everyone:
            replica = FakeReplica(
                self.shared, Configuration("c" * 32, everyone), member.id, automatic=True
            )
            listener = ClientListener(
                replica,
                FakeNetwork(member.id, routes),
                config_for(member, everyone, **self.options),
                self.shared.clock,
                FakeObserver(),
            )
            routes[member.id] = listener.received
            self.listeners[member.id] = listener
            self.replicas[member.id] = replica
            await listener.start()

    def on_loop(self, call: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)

    def lead(self, leader: str | None) -> None:
        self.on_loop(lambda: [replica.lead(leader) for replica in self.replicas.values()])

    def drain(self, node: str, timeout_s: float = 5.0) -> None:
        drained = self.listeners[node].drain(timeout_s)
        asyncio.run_coroutine_threadsafe(drained, self.loop).result(WAIT_S)

    def stop(self) -> None:
        async def stop() -> None:
            for listener in self.listeners.values():
                await listener.stop()
            await asyncio.sleep(0.01)

        asyncio.run_coroutine_threadsafe(stop(), self.loop).result(WAIT_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(WAIT_S)
        self.loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


@contextlib.contextmanager
def live(**options: Any) -> Iterator[LiveCluster]:
    cluster = LiveCluster(**options)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[LiveCluster]:
    with live() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: LiveCluster) -> LiveCluster:
    shared_cluster.lead("n1")
    return shared_cluster


@pytest.fixture
def proxied() -> Iterator[LiveCluster]:
    with live(writes=WritesConfig(on_follower="proxy")) as cluster:
        yield cluster


class Raw:
    """A bare socket and the replies read from it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._reader = hiredis.Reader(replyError=str)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        """Next reply, or EOF."""
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(1 << 16)
            if not data:
                return EOFError
            self._reader.feed(data)
        return reply

    def ask(self, *words: bytes | str) -> Any:
        self.send(encode(*words))
        return self.read()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class TestForeignClients:
    def test_redis_py(self, cluster: LiveCluster) -> None:
        for protocol in (2, 3):
            with redis.Redis(port=cluster.ports[0], protocol=protocol, db=0) as client:
                assert client.set("a", "1", ex=100)
                assert client.get("a") == b"1"
                assert client.incr("a") == 2
                assert client.mset({"x": 1, "y": b"\x00\xff"})
                assert client.mget("x", "y", "z") == [b"1", b"\x00\xff", None]
                assert sorted(client.scan_iter("[xy]")) == [b"x", b"y"]
                assert client.info("raft")["raft_role"] == "leader"
                assert client.role()[0] in (b"master", "master")
                with client.pipeline(transaction=False) as batch:
                    batch.set("p", 1).get("p").delete("p").get("p")
                    assert batch.execute() == [True, b"1", 1, None]
                with pytest.raises(redis.ResponseError, match="not an integer"):
                    client.incr("y")

    def test_redis_py_asyncio(self, cluster: LiveCluster) -> None:
        async def run() -> None:
            async with redis.asyncio.Redis(port=cluster.ports[0]) as client:
                assert await client.set("async", "1")
                assert await client.get("async") == b"1"

        asyncio.run(run())

    def test_redis_py_is_redirected(self, cluster: LiveCluster) -> None:
        with redis.Redis(port=cluster.ports[1]) as client:
            with pytest.raises(redis.exceptions.MovedError):
                client.set("a", 1)

    def test_redis_cluster_finds_and_follows_the_leader(self, cluster: LiveCluster) -> None:
        nodes = [ClusterNode("127.0.0.1", port) for port in cluster.ports[1:]]
        with RedisCluster(startup_nodes=nodes) as client:
            assert client.set("a", "1")
            cluster.lead("n3")
            assert client.get("a") == b"1"
            assert client.set("a", "2")
            cluster.lead("n2")
            assert client.get("a") == b"2"

    def test_redis_cluster_reads_from_replicas(self, cluster: LiveCluster) -> None:
        nodes = [ClusterNode("127.0.0.1", port) for port in cluster.ports]
        strategy = LoadBalancingStrategy.ROUND_ROBIN
        with RedisCluster(startup_nodes=nodes, load_balancing_strategy=strategy) as client:
            client.set("a", "1")
            assert [client.get("a") for _ in range(6)] == [b"1"] * 6

    def test_redis_cluster_bridges_a_time_without_leader(self, cluster: LiveCluster) -> None:
        nodes = [ClusterNode("127.0.0.1", port) for port in cluster.ports]
        with RedisCluster(startup_nodes=nodes) as client:
            client.set("a", "1")
            cluster.lead(None)
            timer = threading.Timer(0.3, cluster.lead, ["n2"])
            timer.start()
            try:
                assert client.set("a", "2")
            finally:
                timer.join()

    def test_sentinel_mode_with_proxy(self, proxied: LiveCluster) -> None:
        sentinel = redis.sentinel.Sentinel([("127.0.0.1", port) for port in proxied.ports])
        assert sentinel.discover_master("raftkv") == ("127.0.0.1", proxied.ports[0])
        with pytest.raises(redis.sentinel.MasterNotFoundError):
            sentinel.discover_master("other")
        assert len(sentinel.discover_slaves("raftkv")) == 2
        assert sentinel.master_for("raftkv").set("s", "1")
        assert sentinel.slave_for("raftkv").get("s") == b"1"

    def test_plain_client_on_any_node_with_proxy(self, proxied: LiveCluster) -> None:
        for port in proxied.ports:
            with redis.Redis(port=port) as client:
                client.incr("n")
        with redis.Redis(port=proxied.ports[2]) as client:
            assert client.get("n") == b"3"

    def test_redis_cli(self, cluster: LiveCluster, redis_cli: str) -> None:
        def run(port: int, *words: str, stdin: str | None = None) -> str:
            command = [redis_cli, "-p", str(port), *words]
            return subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=WAIT_S, check=True
            ).stdout

        leader, follower, _ = cluster.ports
        assert run(leader, "SET", "cli", "hello") == "OK\n"
        assert run(follower, "-c", "GET", "cli") == "hello\n"
        assert run(follower, "GET", "cli").startswith("MOVED ")
        assert run(leader, "-3", "GET", "nope") == "\n"
        assert run(leader, stdin="SET x 1\nINCR x\n") == "OK\n2\n"
        assert "errors: 0, replies: 100" in run(leader, "--pipe", stdin="SET y 1\r\n" * 100)
        assert "All 16384 slots covered" in run(leader, "--cluster", "check", f"127.0.0.1:{leader}")

    def test_redis_benchmark(self, cluster: LiveCluster, redis_benchmark: str) -> None:
        # Not --cluster: it refuses a cluster with one master.
        load = ["-p", str(cluster.ports[0]), "-t", "set,get", "-n", "2000", "-q"]
        for options in ([], ["-P", "16"], ["-3"]):
            finished = subprocess.run(
                [redis_benchmark, *load, *options],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            assert finished.stdout.count("requests per second") >= 2

    def test_inline_and_half_close(self, cluster: LiveCluster) -> None:
        with Raw(cluster.ports[0]) as client:
            client.send(b"PING\r\nSET inline 'a b'\r\nGET inline\nset inline 1\nINCR inline\r\n")
            client.socket.shutdown(socket.SHUT_WR)
            assert [client.read() for _ in range(6)] == [
                b"PONG",
                b"OK",
                b"a b",
                b"OK",
                2,
                EOFError,
            ]


BAD_INPUT = {
    "http": (b"GET / HTTP/1.1\r\n\r\n", "ERR wrong number of arguments for 'get' command", False),
    "binary": (b"\x16\x03\x01\x02\x00\x01\n", "ERR unknown command '\x16\x03\x01\x02'", False),
    "huge array": (b"*2147483647\r\n", "ERR Protocol error: invalid multibulk length", True),
    "huge word": (b"*1\r\n$2147483647\r\n", "ERR Protocol error: invalid bulk length", True),
    "nested": (b"*1\r\n" * 5000, "ERR Protocol error: expected '$', got '*'", True),
    "endless line": (b"x" * 70_000, "ERR Protocol error: too big inline request", True),
    "quotes": (b'GET "\r\n', "ERR Protocol error: unbalanced quotes in request", True),
    "unknown": (encode("NOPE"), "ERR unknown command 'NOPE', with args beginning with: ", False),
    "arity": (encode("GET"), "ERR wrong number of arguments for 'get' command", False),
    "number": (encode("INCRBY", "n", "x"), "ERR value is not an integer or out of range", False),
    "key": (encode("GET", b"k" * 70_000), "ERR key exceeds limits.key_bytes_max", False),
    "value": (encode("SET", "k", b"v" * 5_000_000), "ERR string exceeds maximum allowed", False),
}


class TestBadInput:
    @pytest.mark.parametrize("name", BAD_INPUT)
    def test_gets_an_error_and_disturbs_nobody(self, name: str, cluster: LiveCluster) -> None:
        data, text, closes = BAD_INPUT[name]
        with Raw(cluster.ports[0]) as other, Raw(cluster.ports[0]) as client:
            client.send(data)
            assert client.read().startswith(text)
            if closes:
                assert client.read() is EOFError
            else:
                assert client.ask("PING") == b"PONG"
            assert other.ask("PING") == b"PONG"

    def test_truncated_requests_leave_nothing_behind(self, cluster: LiveCluster) -> None:
        service = cluster.listeners["n1"].service
        until(lambda: not service.connections)
        for end in range(1, 30):
            with Raw(cluster.ports[0]) as client:
                client.send(encode("SET", "truncated", "value")[:end])
        until(lambda: not service.connections)
        with Raw(cluster.ports[0]) as client:
            assert client.ask("EXISTS", "truncated") == 0

    def test_ten_thousand_tiny_requests_in_one_write(self, cluster: LiveCluster) -> None:
        with Raw(cluster.ports[0]) as client:
            client.ask("DEL", "tiny")
            sender = threading.Thread(
                target=client.send, args=(encode("INCR", "tiny") * 5000 + b"PING\r\n" * 5000,)
            )
            sender.start()
            replies = [client.read() for _ in range(10_000)]
            sender.join()
            assert replies == [*range(1, 5001), *[b"PONG"] * 5000]

    def test_large_values_in_small_pieces(self, cluster: LiveCluster) -> None:
        value = bytes(range(256)) * 4000
        data = encode("SET", "large", value)
        with Raw(cluster.ports[0]) as client:
            for position in range(0, len(data), 10_000):
                client.send(data[position : position + 10_000])
            assert client.read() == b"OK"
            assert client.ask("GET", "large") == value

    def test_declared_but_unsent_bytes_take_no_memory(self, cluster: LiveCluster) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        clients = [Raw(cluster.ports[0]) for _ in range(50)]
        for client in clients:
            client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4000000\r\nx")
        with Raw(cluster.ports[0]) as other:
            assert other.ask("PING") == b"PONG"
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for client in clients:
            client.socket.close()
        assert after - before < 20_000  # kilobytes; declared were 200 million bytes

    def test_clients_that_come_at_once_need_not_try_again(self, cluster: LiveCluster) -> None:
        """As behind a change of leader; beyond the backlog, each would wait for a second."""
        if int(Path("/proc/sys/net/core/somaxconn").read_text()) < 1000:
            pytest.skip("this system lets fewer wait")
        release = threading.Event()
        cluster.loop.call_soon_threadsafe(release.wait, WAIT_S)
        try:
            with contextlib.ExitStack() as clients:
                for _ in range(600):
                    address = ("127.0.0.1", cluster.ports[0])
                    clients.enter_context(socket.create_connection(address, timeout=WAIT_S / 2))
        finally:
            release.set()
        with Raw(cluster.ports[0]) as other:
            assert other.ask("PING") == b"PONG"

    def test_a_client_that_reads_gets_more_than_the_limit(self) -> None:
        with live(limits=Limits(output_buffer_bytes_max=8_000_000)) as cluster:
            with Raw(cluster.ports[0]) as client:
                value = b"x" * 1_000_000
                assert client.ask("SET", "k", value) == b"OK"
                client.send(encode("GET", "k") * 100)
                assert [client.read() for _ in range(100)] == [value] * 100
                assert client.ask("PING") == b"PONG"

    def test_a_client_that_does_not_read_is_cut_off(self) -> None:
        limits = Limits(output_buffer_bytes_max=8_000_000)
        with live(limits=limits) as cluster, Raw(cluster.ports[0]) as client:
            assert client.ask("SET", "k", b"x" * 1_000_000) == b"OK"
            with contextlib.suppress(OSError):
                client.send(encode("GET", "k") * 200)
            statistics = cluster.listeners["n1"].statistics
            until(lambda: statistics.connections_closed_slow == 1)
            with Raw(cluster.ports[0]) as other:
                assert other.ask("PING") == b"PONG"


class TestLife:
    def test_counts_and_limit_of_clients(self) -> None:
        with live(limits=Limits(clients_max=3)) as cluster:
            listener = cluster.listeners["n1"]
            clients = [Raw(cluster.ports[0]) for _ in range(3)]
            assert [client.ask("PING") for client in clients] == [b"PONG"] * 3
            assert listener.connection_count == 3
            with Raw(cluster.ports[0]) as late:
                assert late.read() == "ERR max number of clients reached"
                assert late.read() is EOFError
            for client in clients:
                client.socket.close()
            until(lambda: listener.connection_count == 0)
            assert listener.statistics.connections_refused == 1

    def test_drain_answers_what_is_in_flight_and_closes(self) -> None:
        with live() as cluster:
            replica = cluster.replicas["n1"]
            with Raw(cluster.ports[0]) as idle, Raw(cluster.ports[0]) as busy:
                assert idle.ask("PING") == b"PONG"
                replica.automatic = False
                busy.send(encode("SET", "a", "1"))
                until(lambda: bool(replica.proposed))
                drainer = threading.Thread(target=cluster.drain, args=["n1"])
                drainer.start()
                assert idle.read() is EOFError
                cluster.on_loop(replica.turn)
                assert busy.read() == b"OK"
                assert busy.read() is EOFError
                drainer.join(WAIT_S)
                with pytest.raises(OSError, match="refused"):
                    Raw(cluster.ports[0])

    def test_drain_refuses_held_requests_and_cuts_off_at_its_deadline(self) -> None:
        with live() as cluster:
            cluster.lead(None)
            cluster.replicas["n2"].automatic = False
            with Raw(cluster.ports[1]) as held, Raw(cluster.ports[1]) as stuck:
                held.send(encode("GET", "a"))
                service = cluster.listeners["n2"].service
                until(lambda: len(service.held) == 1)
                stuck.send(encode("RAFT", "SNAPSHOT"))
                until(lambda: bool(cluster.replicas["n2"].snapshots))
                cluster.drain("n2", 0.2)
                assert held.read() == "NOTAPPLIED shutting down"
                assert held.read() is EOFError
                with contextlib.suppress(ConnectionResetError):
                    assert stuck.read() is EOFError

    def test_held_requests_time_out_by_the_listeners_own_timer(self) -> None:
        timing = TimingConfig(leader_wait_ms=100)
        with live(timing=timing) as cluster:
            cluster.lead(None)
            with Raw(cluster.ports[0]) as client:
                assert client.ask("GET", "a") == "CLUSTERDOWN no leader elected"

    def test_a_held_client_that_goes_away_is_forgotten(self) -> None:
        with live() as cluster:
            cluster.lead(None)
            service = cluster.listeners["n2"].service
            client = Raw(cluster.ports[1])
            client.send(encode("SET", "gone", "1"))
            until(lambda: len(service.held) == 1)
            client.socket.close()
            until(lambda: not service.held)
            cluster.lead("n2")
            with Raw(cluster.ports[1]) as other:
                assert other.ask("EXISTS", "gone") == 0

    def test_step_down_closes_sockets(self) -> None:
        with live() as cluster, Raw(cluster.ports[0]) as client:
            assert client.ask("SET", "a", "1") == b"OK"
            cluster.lead("n2")
            assert client.read() is EOFError

    def test_a_port_in_use_is_reported(self) -> None:
        with live() as cluster:
            listener = cluster.listeners["n1"]
            again = ClientListener(
                cluster.replicas["n1"],
                FakeNetwork(NodeId("n1"), {}),
                listener.service.config,
                cluster.shared.clock,
                FakeObserver(),
            )
            with pytest.raises(OSError, match="in use"):
                asyncio.run_coroutine_threadsafe(again.start(), cluster.loop).result(WAIT_S)


def test_a_client_without_retries_sees_one_answer_for_one_call(cluster: LiveCluster) -> None:
    retry = Retry(NoBackoff(), 0)
    with redis.Redis(port=cluster.ports[0], retry=retry) as client:
        client.delete("once")
        assert [client.incr("once") for _ in range(50)] == list(range(1, 51))

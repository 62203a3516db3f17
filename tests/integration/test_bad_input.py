"""Bad input to a real cluster: Redis' error or a closed connection, little cost, nobody else hurt.

While each test runs, another client works on a connection of its own, and must not
notice anything but time; and no process may have grown by more than its limits explain.
"""

from __future__ import annotations

import contextlib
import pickle
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import ReplyError, Wire, encode, split_address

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
# Room for what a busy process keeps anyway; a copy of what is declared would be far beyond.
GROWTH_BYTES_MAX = 64 * MIB
# A probe that waits longer was disturbed. The machine may be busy: only a real stall counts.
PROBE_LIMIT_S = 2.0


def received(node: ClusterNode) -> int:
    """Bytes that clients have sent to a node and it has read."""
    return int(node.info("stats")["total_net_input_bytes"])


class Probe:
    """A client that works quietly on one connection, in a thread of its own."""

    def __init__(self, address: str) -> None:
        self.slowest_s = 0.0
        self.count = 0
        self.failure: BaseException | None = None
        self._wire = Wire(address)
        self._stopping = False
        self._goal = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping or self.count < self._goal:
                self.count += 1
                value = str(self.count).encode()
                started_s = time.monotonic()
                assert self._wire.call("SET", "probe", value) == b"OK"
                assert self._wire.call("GET", "probe") == value
                self.slowest_s = max(self.slowest_s, time.monotonic() - started_s)
                time.sleep(0.005)
        except BaseException as error:
            self.failure = error
        finally:
            self._wire.close()

    def stop(self) -> None:
        # It must be able to go on behind whatever was done beside it.
        self._goal = self.count + 3
        self._stopping = True
        self._thread.join(30)
        if self.failure is not None:
            raise AssertionError(f"the probe was disturbed: {self.failure!r}")
        assert not self._thread.is_alive()
        assert self.slowest_s < PROBE_LIMIT_S


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("bad")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """A healthy cluster; afterwards it still is, and its processes are the same and not fat."""
    running.heal()
    leader = running.wait_for_leader()
    leader.call("PING")
    before = {node: (node.pid, node.memory_bytes()) for node in running.nodes}
    probe = Probe(leader.client)
    try:
        yield running
    finally:
        probe.stop()
    for node, (pid, memory_bytes) in before.items():
        assert node.is_running
        assert node.pid == pid
        assert node.memory_bytes() < memory_bytes + GROWTH_BYTES_MAX, node.id
        assert "unexpected_error" not in node.log_since_start()
    running.wait_until_converged()


def exchange(node: ClusterNode, data: bytes) -> bytes:
    """Send bytes and return all that comes back up to the end of the connection."""
    with Wire(node.client) as wire:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(data)
        return wire.read_to_end(10)


# What Redis 7 answers before it closes the connection.
PROTOCOL_ERRORS = [
    (b"*1048577\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*999999999999999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\n$999999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*2\r\n$3\r\nGET\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$4294967297\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*2\r\n*2\r\n$1\r\na\r\n", b"-ERR Protocol error: expected '$', got '*'\r\n"),
    (b"*1\r\n" * 50_000, b"-ERR Protocol error: expected '$', got '*'\r\n"),
    (b"*3\r\n$3\r\nSET\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b'SET "a\r\n', b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"a" * 100_000, b"-ERR Protocol error: too big inline request\r\n"),
    (b"*" + b"1" * 100_000, b"-ERR Protocol error: too big mbulk count string\r\n"),
    (b"*1\r\n$" + b"1" * 100_000, b"-ERR Protocol error: too big bulk count string\r\n"),
]


@pytest.mark.parametrize(
    ("data", "answer"), PROTOCOL_ERRORS, ids=lambda value: repr(value[:24])[2:-1]
)
def test_a_broken_frame_gets_the_error_of_redis_and_a_closed_connection(
    cluster: Cluster, data: bytes, answer: bytes
) -> None:
    for node in cluster.nodes:
        assert exchange(node, data) == answer
        # What was whole before it is carried out.
        assert exchange(node, encode("PING") + data) == b"+PONG\r\n" + answer


def test_binary_junk_never_gets_more_than_errors(cluster: Cluster) -> None:
    source = random.Random(7)
    node = cluster.wait_for_leader()
    for number in range(60):
        junk = source.randbytes(source.randrange(1, 20_000))
        if number % 3 == 0:
            junk = b"*" + junk
        if number % 5 == 0:
            junk = b"*3\r\n$3\r\nSET\r\n$" + junk
        with Wire(node.client) as wire:
            with contextlib.suppress(OSError):
                wire.send(junk)
                wire.socket.shutdown(socket.SHUT_WR)
            answer = wire.read_to_end(10)
        assert all(line[:1] in (b"-", b"") for line in answer.split(b"\r\n")), (junk, answer)


def test_pickles_are_just_junk(cluster: Cluster, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    bomb = bomb_that_touches(proof)
    for node in cluster.nodes:
        with Wire(node.client) as wire:
            assert wire.call("SET", "bomb", bomb) == b"OK" or node is not cluster.leader()
            with contextlib.suppress(OSError):  # The node may be quicker to hang up.
                wire.send(bomb + b"\r\n")
                wire.socket.shutdown(socket.SHUT_WR)
            wire.read_to_end(10)
    assert cluster.wait_for_leader().call("GET", "bomb") == bomb
    assert not proof.exists()


def bomb_that_touches(path: Path) -> bytes:
    """Return a pickle that makes a file when it is loaded."""

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return open, (str(path), "w")

    return pickle.dumps(Bomb())


def test_truncated_frames_wait_and_are_dropped_with_their_connection(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    request = encode("SET", "truncated", b"x" * 1000)
    for cut in (1, 3, 5, 13, 20, len(request) // 2, len(request) - 1):
        with Wire(node.client) as wire:
            wire.send(encode("PING") + request[:cut])
            assert wire.read() == b"PONG"
            wire.socket.settimeout(0.05)
            with pytest.raises(TimeoutError):
                wire.read()
    assert node.call("GET", "truncated") is None
    # Byte by byte it is as good as at once.
    with Wire(node.client) as wire:
        for byte in request:
            wire.send(bytes([byte]))
        assert wire.read() == b"OK"


def test_declared_sizes_cost_nothing_before_they_arrive(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    before = node.memory_bytes()
    arrived = received(node)
    node.forget_memory_peak()
    wires = [Wire(node.client) for _ in range(200)]
    # As large as is allowed, of which almost nothing comes.
    request = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4194304\r\n" + b"x" * 100
    for wire in wires:
        wire.send(request)
    for wire in wires[:100]:
        wire.send(b"x" * 1000)
    sent = 200 * len(request) + 100 * 1000
    cluster.wait_until(lambda: received(node) >= arrived + sent, "all was read")
    assert node.memory_peak_bytes() < before + GROWTH_BYTES_MAX
    for wire in wires:
        wire.close()


def test_half_open_connections_disturb_nobody(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    address = split_address(node.client)
    sockets = [socket.create_connection(address) for _ in range(300)]
    for number, one in enumerate(sockets):
        if number % 3 == 0:
            one.sendall(b"*2\r\n$3\r\nGE")
        if number % 3 == 1:
            one.shutdown(socket.SHUT_WR)
    assert node.call("PING") == b"PONG"
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        one.close()  # with a reset


def test_ten_thousand_tiny_pipelined_commands(cluster: Cluster) -> None:
    for node in cluster.nodes:
        with Wire(node.client) as wire:
            wire.call("RAFT", "ROUTING", "proxy")
            key = f"tiny {node.id}"
            wire.send(encode("INCR", key) * 10_000)
            assert [wire.read() for _ in range(10_000)] == list(range(1, 10_001))
            wire.send(b"PING\r\n" * 10_000)
            assert [wire.read() for _ in range(10_000)] == [b"PONG"] * 10_000


def test_a_client_that_never_reads_is_bounded(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    value = b"v" * MIB
    assert node.call("SET", "large", value) == b"OK"
    with Wire(node.client) as wire:
        wire.socket.settimeout(1.0)
        number = wire.call("CLIENT", "ID")
        node.forget_memory_peak()
        with contextlib.suppress(OSError):
            # 2 GiB of replies are asked for, and none is taken.
            wire.send(encode("GET", "large") * 2000)
        alone = f"id={number} ".encode()
        cluster.wait_until(lambda: alone not in node.call("CLIENT", "LIST"), "it is cut off")
        assert node.memory_peak_bytes() < 300 * MIB
    assert node.call("DEL", "large") == 1


def test_a_client_that_reads_gets_all_of_a_large_pipeline(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    value = b"v" * (4 * MIB)
    assert node.call("SET", "large", value) == b"OK"
    before = node.memory_bytes()
    with Wire(node.client) as wire:
        node.forget_memory_peak()
        wire.send(encode("GET", "large") * 100)
        for _ in range(100):
            assert wire.read() == value
        assert wire.call("PING") == b"PONG"
    assert node.memory_peak_bytes() < before + GROWTH_BYTES_MAX
    assert node.call("DEL", "large") == 1


REFUSED_COMMANDS = [
    (("NOSUCH", "a", "b"), "ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b' "),
    (("GET",), "ERR wrong number of arguments for 'get' command"),
    (("set", "a"), "ERR wrong number of arguments for 'set' command"),
    (("CONFIG", "NOSUCH"), "ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP."),
    (("SET", "a", "b", "EX"), "ERR syntax error"),
    (("SET", "a", "b", "EX", "x"), "ERR value is not an integer or out of range"),
    (("SET", "a", "b", "EX", "0"), "ERR invalid expire time in 'set' command"),
    (("SET", "a", "b", "NX", "XX"), "ERR syntax error"),
    (("INCR", "word"), "ERR value is not an integer or out of range"),
    (("INCRBY", "number", "x"), "ERR value is not an integer or out of range"),
    (("INCRBY", "number", "9223372036854775808"), "ERR value is not an integer or out of range"),
    (("INCR", "largest"), "ERR increment or decrement would overflow"),
    (("DECRBY", "number", "-9223372036854775808"), "ERR decrement would overflow"),
    (("INCRBYFLOAT", "word", "1"), "ERR value is not a valid float"),
    (("EXPIRE", "number", "9223372036854775807"), "ERR invalid expire time in 'expire' command"),
    (("SETRANGE", "number", "-1", "x"), "ERR offset is out of range"),
    (("SETRANGE", "number", "999999999", "x"), None),
    (("SELECT", "1"), None),
    (("SCAN", "x"), "ERR invalid cursor"),
    (("HELLO", "9"), "NOPROTO unsupported protocol version"),
    (("\x00\xff", "\r\n"), None),
    (("",), None),
    (("EXEC",), "ERR EXEC without MULTI"),
    (("DISCARD",), "ERR DISCARD without MULTI"),
    (("WATCH",), "ERR wrong number of arguments for 'watch' command"),
    (("SET", "a", "b", "IFEQ"), "ERR syntax error"),
    (("SET", "a", "b", "IFEQ", "c", "NX"), "ERR syntax error"),
    (("DELEX", "a", "IFEQ"), "ERR syntax error"),
    (("KV", "TXN", "0"), "ERR wrong number of arguments for 'kv|txn' command"),
    (("KV", "TXN", "x", "0", "0"), "ERR syntax error: word 3 has to be a count"),
    (("KV", "TXN", "0", "2", "3", "SET", "a", "b", "0"), None),
    (("KV", "EXEC", "0", "1", "1", "INFO"), "ERR Command not allowed inside a transaction"),
    (("KV", "EXEC", "0", "1", "5", "KV", "EXEC", "0", "0", "0"), None),
]


def test_refused_commands_get_the_texts_of_redis_on_every_node(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    for key, value in (("word", "abc"), ("number", "5"), ("largest", str(2**63 - 1))):
        assert leader.call("SET", key, value) == b"OK"
    for node in cluster.nodes:
        with Wire(node.client) as wire:
            wire.call("RAFT", "ROUTING", "proxy")
            replies = wire.pipeline([request for request, _ in REFUSED_COMMANDS])
            for (request, text), reply in zip(REFUSED_COMMANDS, replies, strict=True):
                assert isinstance(reply, ReplyError), request
                if text is not None:
                    assert str(reply) == text, (node.id, request)
            # Nothing of all this changed anything, and the connection goes on.
            assert wire.call("MGET", "word", "number", "largest") == [
                b"abc", b"5", str(2**63 - 1).encode(),
            ]  # fmt: skip


def test_limits_of_sizes_are_errors_and_not_failures(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    with Wire(leader.client) as wire:
        largest = b"v" * (4 * MIB)
        assert wire.call("SET", "largest value", largest) == b"OK"
        assert wire.call("GET", "largest value") == largest
        assert isinstance(wire.call("SET", "too large", largest + b"v"), ReplyError)
        assert isinstance(wire.call("APPEND", "largest value", "v"), ReplyError)
        assert wire.call("SET", b"k" * 65536, "1") == b"OK"
        assert isinstance(wire.call("SET", b"k" * 65537, "1"), ReplyError)
        assert wire.call("STRLEN", "largest value") == len(largest)
        assert wire.call("DEL", "largest value", b"k" * 65536) == 2
    # Beyond the limit of a request, the connection is closed.
    assert exchange(leader, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8388609\r\n").startswith(b"-ERR ")


def test_too_many_clients_are_refused_with_the_text_of_redis(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    with Wire(leader.client) as wire:
        before = wire.call("CONFIG", "GET", "maxclients")
        assert wire.call("CONFIG", "SET", "maxclients", "5") == b"OK"
        others: list[Wire] = []
        try:
            while len(others) < 10:
                others.append(Wire(leader.client))
            answers = [other.read_to_end(5) for other in others[5:]]
            assert set(answers) == {b"-ERR max number of clients reached\r\n"}
        finally:
            for other in others:
                other.close()
            assert wire.call("CONFIG", "SET", "maxclients", before[1]) == b"OK"


def test_what_is_queued_in_multi_is_bounded_and_given_back(cluster: Cluster) -> None:
    node = cluster.wait_for_leader()
    too_many = [("SET", "queued", "1")] * 5000
    too_large = [("SET", "queued", b"x" * 3_000_000)] * 4
    with Wire(node.client) as other:
        for requests, limit in (
            (too_many, "limits.batch_commands_max"),
            (too_large, "limits.request_bytes_max"),
        ):
            with Wire(node.client) as wire:
                replies = wire.pipeline([("MULTI",), *requests])
                refused = [str(reply) for reply in replies if isinstance(reply, ReplyError)]
                assert refused
                assert all(reply.startswith("ERR transaction exceeds") for reply in refused)
                assert limit in refused[0]
                assert int(node.info("clients")["transaction_queue_bytes"]) > 0
                assert other.call("SET", "unhurt", "1") == b"OK"
                assert str(wire.call("EXEC")).startswith("EXECABORT")
        with Wire(node.client) as wire:
            wire.pipeline([("WATCH", "a"), ("MULTI",), ("SET", "queued", "1")])
        cluster.wait_until(
            lambda: node.info("clients")["transaction_queue_bytes"] == "0",
            "nothing is queued any more",
        )
        assert other.call("GET", "queued") is None

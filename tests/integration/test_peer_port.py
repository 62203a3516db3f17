"""The port of the peers, fed by strangers: nothing runs, nothing is believed, nobody is hurt."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raftkv.framing import encode_frame
from raftkv.seams import PEER_RAFT, PEER_SNAPSHOT
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.test_bad_input import GROWTH_BYTES_MAX, Probe, bomb_that_touches
from tests.integration.wire import split_address

pytestmark = pytest.mark.slow

# A handshake that is not finished by then is over.
HANDSHAKE_LIMIT_S = 5.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("peers")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """A cluster with a client at work; afterwards term and leader are what they were."""
    running.heal()
    leader = running.wait_for_leader()
    status = leader.status()
    assert status is not None
    memory = {node: node.memory_bytes() for node in running.nodes}
    probe = Probe(leader.client)
    try:
        yield running
    finally:
        probe.stop()
    after = leader.status()
    assert after is not None
    assert (after["term"], after["role"]) == (status["term"], "leader")
    for node in running.nodes:
        assert node.memory_bytes() < memory[node] + GROWTH_BYTES_MAX
        assert "unexpected_error" not in node.log_since_start()
    running.wait_until_converged()


def feed(node: ClusterNode, data: bytes) -> bytes:
    """Send bytes to the peer port; return what comes back up to the end of the connection."""
    received = b""
    with socket.create_connection(split_address(node.peer), 5) as stranger:
        stranger.settimeout(HANDSHAKE_LIMIT_S + 5)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stranger.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while part := stranger.recv(65536):
                received += part
    return received


def test_pickles_run_nothing_on_any_path(cluster: Cluster, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    bomb = bomb_that_touches(proof)
    dressed = [
        bomb,
        # As PySyncObj's own transport frames a message.
        struct.pack("i", len(bomb)) + bomb,
        # As our own frames, of each kind, before any handshake.
        *(encode_frame(kind, bomb) for kind in (PEER_RAFT, PEER_SNAPSHOT, 16, 17, 240, 241, 255)),
    ]
    for node in cluster.nodes:
        for data in dressed:
            feed(node, data)
    assert not proof.exists()


def test_junk_is_closed_and_believed_by_nobody(cluster: Cluster) -> None:
    source = random.Random(3)
    for number in range(40):
        node = cluster.nodes[number % 3]
        junk = source.randbytes(source.randrange(1, 5000))
        if number % 2:
            junk = encode_frame(source.randrange(256), junk)
        feed(node, junk + b"\0" * 10_000)


def test_huge_declared_lengths_cost_nothing(cluster: Cluster) -> None:
    whole = bytearray(encode_frame(240, b"x" * 64))
    for node in cluster.nodes:
        for position in range(4, min(len(whole), 20)):
            forged = bytearray(whole)
            forged[position : position + 4] = b"\xff\xff\xff\x7f"
            feed(node, bytes(forged) + b"y" * 100_000)


def test_silent_strangers_are_closed_in_time(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    started_s = time.monotonic()
    strangers = [socket.create_connection(split_address(node.peer), 5) for _ in range(20)]
    for stranger in strangers:
        stranger.settimeout(HANDSHAKE_LIMIT_S + 5)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(65536):
                pass
        stranger.close()
    assert time.monotonic() - started_s < HANDSHAKE_LIMIT_S + 3


def test_a_replayed_hello_is_not_let_in(cluster: Cluster) -> None:
    """What a node says first, said back to it or to another one."""
    hello = b""
    with socket.create_connection(split_address(cluster.nodes[0].peer), 5) as stranger:
        stranger.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            hello = stranger.recv(65536)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: feed(node, hello * 2), cluster.nodes))


def test_a_node_with_another_secret_is_not_let_in(
    cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It stays outside, says why, and comes in again with the right one."""
    stranger = cluster.followers()[0]
    stranger.stop()
    secret = tmp_path / "peer.secret"
    secret.write_text("00" * 32 + "\n")
    secret.chmod(0o600)
    stranger.start(f"security.peer_secret_file={secret}")
    cluster.wait_until(
        lambda: "peer_link_refused" in stranger.log_since_start(), "the refusal is told"
    )
    status = stranger.status()
    assert status is not None
    assert status["role"] != "leader"
    code, _ = stranger.http("/readyz")
    assert code == 503
    stranger.stop()
    stranger.start()
    cluster.wait_until_converged()

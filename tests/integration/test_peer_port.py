"""The port of the peers, fed by strangers: nothing runs, nothing is believed, nobody is hurt."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv.framing import encode_frame
from raftkv.seams import (
    PEER_FORWARD,
    PEER_FORWARD_REPLY,
    PEER_PUBLISH,
    PEER_RAFT,
    PEER_SNAPSHOT,
    PEER_STATE,
)
from raftkv.storage.disk import RealDisk
from raftkv.storage.identity import load_identity
from raftkv.transport.frames import FrameDecoder
from raftkv.transport.handshake import (
    KIND_CHALLENGE,
    KIND_HELLO,
    KIND_REFUSED,
    Handshake,
    HandshakeState,
    LocalHello,
    LocalIdentity,
)
from raftkv.transport.link import KIND_PING, KIND_PONG
from raftkv.transport.secret import load_secret
from raftkv.types import NodeId
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


def links_lost(node: ClusterNode) -> int:
    return node.log_since_start().count("peer_link_down")


@contextlib.contextmanager
def undisturbed(running: Cluster) -> Iterator[None]:
    """A client is at work meanwhile; afterwards term and leader are what they were."""
    running.heal()
    leader = running.wait_for_leader()
    status = leader.status()
    assert status is not None
    memory = {node: node.memory_bytes() for node in running.nodes}
    probe = Probe(leader.client)
    try:
        yield
    finally:
        probe.stop()
    after = leader.status()
    assert after is not None
    assert (after["term"], after["role"]) == (status["term"], "leader")
    for node in running.nodes:
        assert node.memory_bytes() < memory[node] + GROWTH_BYTES_MAX
        assert "unexpected_error" not in node.log_since_start()
    running.wait_until_converged()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """A cluster that must not notice: neither a client nor a link between nodes is hurt."""
    running.heal()
    running.wait_until_converged()
    lost = {node: links_lost(node) for node in running.nodes}
    with undisturbed(running):
        yield running
    assert {node: links_lost(node) for node in running.nodes} == lost


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


def test_half_a_handshake_is_closed_in_time(cluster: Cluster) -> None:
    """Open at one end only: a challenge and silence, half a frame, or a closed sending side."""
    challenge = Handshake(local_identity(cluster, "n9"), bytes(32), target=NodeId("n1")).start()
    strangers = []
    started_s = time.monotonic()
    for number, node in enumerate(cluster.nodes * 8):
        stranger = socket.create_connection(split_address(node.peer), 5)
        stranger.sendall((challenge, challenge[:20], b"")[number % 3])
        if number % 2:
            stranger.shutdown(socket.SHUT_WR)
        strangers.append(stranger)
    for stranger in strangers:
        stranger.settimeout(HANDSHAKE_LIMIT_S + 5)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(65536):
                pass
        stranger.close()
    assert time.monotonic() - started_s < HANDSHAKE_LIMIT_S + 3


class Impostor:
    """Speaks the handshake of a dialer over one connection, and remembers what it sent."""

    def __init__(self, node: ClusterNode, local: LocalIdentity, *, target: str = "") -> None:
        self.socket = socket.create_connection(split_address(node.peer), 5)
        self.socket.settimeout(HANDSHAKE_LIMIT_S + 5)
        self.handshake = Handshake(local, os.urandom(32), target=NodeId(target or node.id))
        self.sent = b""
        self._decoder = FrameDecoder(1 << 20)
        self._send(self.handshake.start())
        while self.handshake.state not in (HandshakeState.ESTABLISHED, HandshakeState.REFUSED):
            data = self.socket.recv(65536)
            if not data:
                break
            for kind, body in self._decoder.feed(data):
                if kind in (KIND_CHALLENGE, KIND_HELLO, KIND_REFUSED):
                    self._send(self.handshake.receive(kind, body))

    def _send(self, data: bytes) -> None:
        self.sent += data
        self.socket.sendall(data)

    @property
    def is_let_in(self) -> bool:
        return self.handshake.state is HandshakeState.ESTABLISHED

    def send_and_await_the_answer(self, data: bytes) -> None:
        """Send, and wait until it was looked at: a ping behind it is answered, or all is closed."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data + encode_frame(KIND_PING, b"8 bytes."))
            while received := self.socket.recv(65536):
                if any(kind == KIND_PONG for kind, _ in self._decoder.feed(received)):
                    return

    def close(self) -> None:
        self.socket.close()


def local_identity(
    cluster: Cluster, node_id: str, *, secret: bytes | None = None, **facts: Any
) -> LocalIdentity:
    """What a node says of itself: the truth, as far as its disk knows it, or lies."""
    data_dir = cluster.nodes[-1].data_dir
    known = load_identity(RealDisk(str(data_dir)), node_id="n3")
    assert known is not None
    hello = LocalHello(**{
        "cluster_id": known.cluster_id, "disk_id": known.disk_id, "term": 0, "last_index": 0,
        "founding": False, "admitted": True, **facts,
    })  # fmt: skip
    return LocalIdentity(
        node_id=NodeId(node_id), incarnation=os.urandom(16), hello=lambda: hello,
        secret=load_secret(str(cluster.peer_secret)) if secret is None else secret,
        is_member=lambda peer: True,
    )  # fmt: skip


def test_forged_hellos_are_refused(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    forged = [
        Impostor(node, local_identity(cluster, "n3", secret=bytes(32))),
        Impostor(node, local_identity(cluster, "n3"), target="n2"),
        Impostor(node, local_identity(cluster, "n1")),
        Impostor(node, local_identity(cluster, "n8")),
        Impostor(node, local_identity(cluster, "n3", cluster_id="0" * 32)),
        # Who it says it is is linked already, and the link is not given up for it.
        Impostor(node, local_identity(cluster, "n3")),
        Impostor(cluster.nodes[2], local_identity(cluster, "n2")),
    ]
    for one in forged:
        assert not one.is_let_in, one.handshake.state
        one.close()


@pytest.fixture
def cluster_of_two(running: Cluster) -> Iterator[Cluster]:
    """The cluster while its third node is stopped, so that somebody else may pose as it."""
    running.heal()
    third = running.nodes[-1]
    if running.wait_for_leader() is third:
        third.call("RAFT", "TRANSFER", "n1")
        running.wait_until(lambda: running.leader() not in (None, third), "another one leads")
    third.stop()
    yield running
    third.start()
    running.wait_until_converged()


def test_a_replayed_handshake_is_not_let_in(cluster_of_two: Cluster) -> None:
    """Every byte that a member once said with success, said again to the same node."""
    node = cluster_of_two.nodes[0]

    def told(event: str) -> int:
        return node.log_since_start().count(event)

    ups, downs = told("peer_link_up"), links_lost(node)
    genuine = Impostor(node, local_identity(cluster_of_two, "n3"))
    assert genuine.is_let_in
    genuine.close()
    cluster_of_two.wait_until(
        lambda: (told("peer_link_up"), links_lost(node)) == (ups + 1, downs + 1),
        "its coming and its going are told",
    )
    for other in cluster_of_two.nodes[:2]:
        feed(other, genuine.sent)
    cluster_of_two.wait_until(lambda: told('reason="wrong secret"') > 0, "the refusal is told")
    assert told("peer_link_up") == ups + 1


def test_a_member_that_sends_pickles_runs_nothing(cluster_of_two: Cluster, tmp_path: Path) -> None:
    """Who knows the secret is believed to be a member, and still not unpickled."""
    proof = tmp_path / "ran"
    bomb = bomb_that_touches(proof)
    leader = cluster_of_two.wait_for_leader()
    memory = {node: node.memory_bytes() for node in cluster_of_two.nodes[:2]}
    for node in cluster_of_two.nodes[:2]:
        kinds = (PEER_RAFT, PEER_SNAPSHOT, PEER_STATE, PEER_FORWARD, PEER_FORWARD_REPLY)
        for kind in (*kinds, PEER_PUBLISH, 200):
            impostor = Impostor(node, local_identity(cluster_of_two, "n3"))
            assert impostor.is_let_in
            impostor.send_and_await_the_answer(encode_frame(kind, bomb))
            impostor.close()
    assert not proof.exists()
    for node in cluster_of_two.nodes[:2]:
        assert node.memory_bytes() < memory[node] + GROWTH_BYTES_MAX
        assert node.is_running
    assert cluster_of_two.wait_for_leader().id == leader.id
    assert leader.call("SET", "after", "pickles") == b"OK"


def test_a_member_that_falls_silent_does_not_keep_its_place(cluster_of_two: Cluster) -> None:
    """An established link whose other end is gone without a word gives way to the true node."""
    impostors = [
        Impostor(node, local_identity(cluster_of_two, "n3")) for node in cluster_of_two.nodes[:2]
    ]
    assert all(one.is_let_in for one in impostors)
    third = cluster_of_two.nodes[-1]
    third.start()
    cluster_of_two.wait_until_converged()
    for one in impostors:
        one.close()
    third.stop()


def test_a_node_with_another_secret_is_not_let_in(running: Cluster, tmp_path: Path) -> None:
    """It stays outside, says why, and comes in again with the right one."""
    with undisturbed(running):
        start_with_another_secret(running, tmp_path)


def start_with_another_secret(cluster: Cluster, tmp_path: Path) -> None:
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

"""Peers that misbehave: what they send ends their own connection and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import resource
import socket
import ssl
import struct
import subprocess
import tracemalloc
from pathlib import Path

import pytest
import uvloop

from raftkv.config import Limits
from raftkv.framing import HEADER_SIZE, encode_frame
from raftkv.transport.handshake import (
    HANDSHAKE_BODY_BYTES_MAX,
    KIND_CHALLENGE,
    KIND_HELLO,
    HandshakeState,
    RefusalReason,
)
from raftkv.transport.link import KIND_PING, KIND_PONG
from raftkv.transport.mesh import UNPROVEN_LINKS_MAX, MeshTiming, TlsContexts
from tests.tools import require_tool
from tests.unit.transport.wiring import (
    TIMING,
    Cluster,
    Node,
    RawPeer,
    free_port,
    make_nodes,
    member,
    run,
    until,
)

QUICK_HANDSHAKE = dataclasses.replace(TIMING, tick_s=0.02, accept_ticks=5, dial_ticks=5)


class Victims:
    """Two linked nodes; on exit their link must still carry frames, undisturbed."""

    def __init__(self, **options) -> None:
        self.first, self.second = make_nodes(2, **options)
        # n3 is a member that only the tests impersonate: n1 and n2 accept it.
        self.cluster = Cluster(self.first, self.second, others=(member("n3", free_port()),))

    async def __aenter__(self) -> Node:
        await self.cluster.__aenter__()
        await self.cluster.linked()
        return self.first

    async def __aexit__(self, error: object, *rest: object) -> None:
        try:
            if error is None:
                self.first.send("n2", 1, b"still there?")
                await until(lambda: (1, b"still there?") in self.second.received("n1"))
                self.second.send("n1", 1, b"yes")
                await until(lambda: (1, b"yes") in self.first.received("n2"))
                assert "n2" not in self.first.downs
                assert "n1" not in self.second.downs
        finally:
            await self.cluster.__aexit__()


class Bomb:
    """Opens a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "w"))


JUNK = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "tls": bytes.fromhex("16030100c8010000c40303"),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "one byte": b"G",
    "megabytes": os.urandom(2 << 20),
    "magic alone, then junk": b"\xf5RkV" + b"j" * 100,
    "declared 4 GiB": struct.pack("<4sB3xII", b"\xf5RkV", KIND_CHALLENGE, 0xFFFFFFFF, 0),
    "declared a little too much": encode_frame(KIND_CHALLENGE, bytes(HANDSHAKE_BODY_BYTES_MAX + 1))[
        :HEADER_SIZE
    ],
    "wrong checksum": encode_frame(KIND_CHALLENGE, b"x" * 48)[:-1] + b"y",
    "raft message without a handshake": encode_frame(1, b"vote for me"),
    "hello without a challenge": encode_frame(KIND_HELLO, b"x" * 100),
    "ping without a handshake": encode_frame(KIND_PING, bytes(8)),
    "challenge of nonsense": encode_frame(KIND_CHALLENGE, b"x" * 48),
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_ends_its_own_connection(junk: bytes) -> None:
    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            raw.writer.write(junk)
            assert await raw.closed_by_other_side()
            await until(lambda: node.mesh.unproven_count == 0)
            assert not node.batches

    run(scenario())


def test_pickles_are_junk(tmp_path: Path) -> None:
    """Before, instead of, and inside frames: nothing unpickles what a peer sends."""
    import pickle

    mark = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(mark), 2)

    async def scenario() -> None:
        async with Victims() as node:
            for junk in (
                bomb,
                struct.pack("i", len(bomb)) + bomb,
                encode_frame(KIND_CHALLENGE, bomb),
                encode_frame(1, bomb),
            ):
                raw = await RawPeer.connect(node.port)
                raw.writer.write(junk)
                assert await raw.closed_by_other_side()
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            raw.send(1, bomb)
            await until(lambda: node.received("n3") == [(1, bomb)])
            await raw.close()

    run(scenario())
    assert not mark.exists()


def test_a_peer_may_send_its_words_in_single_bytes_but_not_for_ever() -> None:
    async def scenario() -> None:
        async with Victims(timing=QUICK_HANDSHAKE) as node:
            raw = await RawPeer.connect(node.port)
            challenge = encode_frame(KIND_CHALLENGE, bytes(48))

            async def dribble() -> None:
                for byte in challenge[:-1]:
                    raw.writer.write(bytes((byte,)))
                    await asyncio.sleep(0.05)

            task = asyncio.ensure_future(dribble())
            await until(lambda: raw.reader.at_eof() or raw.reader.exception())
            task.cancel()
            failed = node.observer.named("peer_handshake_failed")
            assert failed[-1]["reason"] == "handshake took too long"

    run(scenario())


def test_silent_connections_are_closed_and_counted() -> None:
    async def scenario() -> None:
        async with Victims(timing=QUICK_HANDSHAKE) as node:
            peers = [await RawPeer.connect(node.port) for _ in range(10)]
            await until(lambda: node.mesh.counters()["handshakes_failed_total"] == 10)
            for raw in peers:
                assert await raw.closed_by_other_side()
            assert node.mesh.unproven_count == 0

    run(scenario())


def test_a_flood_of_silent_connections_is_bounded_and_keeps_nobody_out() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        members = [member("n1", first.port), member("n2", second.port)]
        first.mesh.set_members(members)
        await first.mesh.start()
        flood = [await RawPeer.connect(first.port) for _ in range(3 * UNPROVEN_LINKS_MAX)]
        await until(lambda: first.mesh.counters()["handshakes_failed_total"] > UNPROVEN_LINKS_MAX)
        assert first.mesh.unproven_count <= UNPROVEN_LINKS_MAX
        second.mesh.set_members(members)
        await second.mesh.start()
        await until(lambda: first.linked() == {"n2"} and second.linked() == {"n1"})
        assert first.mesh.unproven_count <= UNPROVEN_LINKS_MAX
        for raw in flood:
            await raw.close()
        await second.mesh.stop()
        await first.mesh.stop()

    run(scenario())


def test_memory_is_bounded_by_what_may_arrive_not_by_what_is_declared() -> None:
    """100 connections, each declaring 4 GiB or sending a megabyte of something."""

    async def scenario() -> None:
        async with Victims() as node:
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            declared = struct.pack("<4sB3xII", b"\xf5RkV", KIND_CHALLENGE, 0xFFFFFFFF, 0)
            junk = bytes(1 << 20)
            peers = []
            for start in [declared, declared[:15], b"\xf5", junk] * 25:
                raw = await RawPeer.connect(node.port)
                raw.writer.write(start)
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(raw.writer.drain(), 10)
                peers.append(raw)
            await until(lambda: node.mesh.unproven_count <= 50)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert peak - before < 12 << 20
            for raw in peers:
                await raw.close()

    run(scenario())


def test_a_flood_does_not_touch_links_that_are_up() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            flood = [await RawPeer.connect(node.port) for _ in range(3 * UNPROVEN_LINKS_MAX)]
            await until(lambda: node.mesh.unproven_count == UNPROVEN_LINKS_MAX)
            for raw in flood:
                await raw.close()

    run(scenario())


# ---------------------------------------------------------------- proven peers


@pytest.mark.parametrize(
    ("bytes_sent", "reason"),
    [
        (encode_frame(1, bytes(1 << 19))[:HEADER_SIZE], "oversized frame"),
        (encode_frame(1, b"body")[:-1] + b"x", "frame checksum does not match"),
        (b"not a frame at all", "not a frame"),
        (encode_frame(250, b""), "frame of kind 250 on a link that is up"),
        (encode_frame(KIND_CHALLENGE, b""), "frame of kind 240 on a link that is up"),
        (encode_frame(KIND_PING, b"short"), "frame of kind 243 on a link that is up"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_member_that_breaks_the_protocol_loses_its_link_alone(
    bytes_sent: bytes, reason: str
) -> None:
    async def scenario() -> None:
        async with Victims(limits=Limits(peer_frame_bytes_max=1 << 18)) as node:
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n3", "n1")
            assert handshake.state is HandshakeState.ESTABLISHED
            await until(lambda: "n3" in node.linked())
            raw.writer.write(encode_frame(1, b"before") + bytes_sent)
            assert await raw.closed_by_other_side()
            assert node.downs == ["n3"]
            assert node.received("n3") == [(1, b"before")]
            assert node.reasons_down() == [reason]

    run(scenario())


def test_a_dialer_that_changes_its_mind_is_heard_on_a_link_that_is_up() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n3", "n1")
            await until(lambda: "n3" in node.linked())
            raw.writer.write(handshake.refuse(RefusalReason.OTHER_CLUSTER))
            await until(lambda: node.downs == ["n3"])
            assert node.refusals == [("n3", (RefusalReason.OTHER_CLUSTER, True, True))]
            await raw.close()

    run(scenario())


def test_frames_right_behind_the_handshake_are_not_lost() -> None:
    """A large frame may share a segment with the last word of the handshake."""

    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            large = bytes(HANDSHAKE_BODY_BYTES_MAX * 2)

            # Hold the last word back, to write it and the frame at once.
            class Held:
                def __init__(self, writer: asyncio.StreamWriter) -> None:
                    self.writer = writer
                    self.pieces: list[bytes] = []

                def write(self, data: bytes) -> None:
                    self.pieces.append(data)
                    if len(self.pieces) == 2:
                        data += encode_frame(1, large) + encode_frame(2, b"small")
                    self.writer.write(data)

            writer, raw.writer = raw.writer, Held(raw.writer)  # type: ignore[assignment]
            await raw.shake_hands("n3", "n1")
            await until(lambda: len(node.received("n3")) == 2)
            assert node.received("n3") == [(1, large), (2, b"small")]
            raw.writer = writer
            await raw.close()

    run(scenario())


def test_a_peer_that_does_not_read_loses_its_link_when_the_queue_is_full() -> None:
    async def scenario() -> None:
        limits = Limits(peer_frame_bytes_max=1 << 20, peer_queue_bytes_max=2 << 20)
        async with Victims(limits=limits) as node:
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            await until(lambda: "n3" in node.linked())
            raw.writer.transport.pause_reading()
            body = bytes(1 << 19)
            for _ in range(60):
                node.send("n3", 1, body)
                assert node.mesh.queued_bytes("n3") <= (2 << 20) + len(body) + HEADER_SIZE
                await asyncio.sleep(0)
                if node.downs:
                    break
            await until(lambda: node.downs == ["n3"])
            assert "limits.peer_queue_bytes_max" in str(node.reasons_down()[0])
            assert node.mesh.queued_bytes("n3") == 0
            await raw.close()

    run(scenario())


def test_a_queue_filled_in_one_turn_ends_the_link_after_the_turn() -> None:
    async def scenario() -> None:
        limits = Limits(peer_frame_bytes_max=1 << 20, peer_queue_bytes_max=1 << 20)
        async with Victims(limits=limits) as node:
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            await until(lambda: "n3" in node.linked())
            node.in_call = True
            for _ in range(8):
                node.mesh.send("n3", 1, bytes(1 << 18))  # type: ignore[arg-type]
                assert node.mesh.queued_bytes("n3") <= (1 << 20) + (1 << 18)  # type: ignore[arg-type]
            node.mesh.flush()
            node.in_call = False
            assert "n3" in node.linked()
            await until(lambda: node.downs == ["n3"])
            await raw.close()

    run(scenario())


def test_a_peer_that_asks_for_answers_and_does_not_read_them_is_bounded() -> None:
    async def scenario() -> None:
        limits = Limits(peer_frame_bytes_max=1 << 18, peer_queue_bytes_max=1 << 18)
        async with Victims(limits=limits) as node:
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            await until(lambda: "n3" in node.linked())
            raw.writer.transport.pause_reading()
            pings = encode_frame(KIND_PING, bytes(8)) * 10_000
            for _ in range(200):
                raw.writer.write(pings)
                await asyncio.sleep(0)
                if node.downs:
                    break
            await until(lambda: node.downs == ["n3"])
            assert "limits.peer_queue_bytes_max" in str(node.reasons_down()[0])
            await raw.close()

    run(scenario())


def test_a_peer_that_falls_silent_is_given_up() -> None:
    async def scenario() -> None:
        timing = MeshTiming(tick_s=0.02, ping_ticks=2, dead_ticks=8)
        node = Node("n1", free_port(), timing=timing)
        async with Cluster(node, others=(member("n3", free_port()),)):
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            await until(lambda: node.downs == ["n3"])
            assert node.reasons_down() == ["nothing heard for too long"]
            frame = await raw.next_frame()
            assert frame == (KIND_PING, bytes(8))

    run(scenario())


def test_a_ping_is_answered_with_its_token() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            await raw.shake_hands("n3", "n1")
            raw.send(KIND_PING, b"12345678")
            assert await raw.next_frame() == (KIND_PONG, b"12345678")
            assert not node.batches
            await raw.close()

    run(scenario())


# ---------------------------------------------------------------- second links


def test_an_unproven_claim_of_a_linked_id_changes_nothing() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n2", "n1", secret=b"guessed" * 5)
            assert handshake.refusal is not None
            assert handshake.refusal.reason is RefusalReason.WRONG_SECRET
            assert len(node.ups) == 1

    run(scenario())


def test_a_second_process_of_a_linked_id_is_turned_away() -> None:
    """Victims checks that the link between the real n1 and n2 stayed."""

    async def scenario() -> None:
        async with Victims() as node:
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n2", "n1", incarnation=b"j" * 16)
            assert handshake.refusal is not None
            assert handshake.refusal.reason is RefusalReason.ALREADY_LINKED
            assert handshake.refusal.proven
            assert node.refusals == [("n2", (RefusalReason.ALREADY_LINKED, False, True))]
            assert len(node.ups) == 1

    run(scenario())


def test_a_second_newcomer_does_not_wait_behind_the_first() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            ghost = await RawPeer.connect(node.port)
            await ghost.shake_hands("n3", "n1")
            first, second = [await RawPeer.connect(node.port) for _ in range(2)]
            waiting = asyncio.ensure_future(first.shake_hands("n3", "n1", incarnation=b"j" * 16))
            await until(lambda: node.mesh._waiting)
            late = await second.shake_hands("n3", "n1", incarnation=b"k" * 16)
            assert late.refusal is not None
            assert late.refusal.reason is RefusalReason.ALREADY_LINKED
            assert (await waiting).state is HandshakeState.ESTABLISHED
            for raw in (ghost, first, second):
                await raw.close()

    run(scenario())


def test_a_restarted_peer_replaces_its_ghost_after_a_probe() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            ghost = await RawPeer.connect(node.port)
            await ghost.shake_hands("n3", "n1")
            await until(lambda: "n3" in node.linked())
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n3", "n1", incarnation=b"j" * 16)
            assert handshake.state is HandshakeState.ESTABLISHED
            assert node.downs == ["n3"]
            assert [peer for peer, _ in node.ups] == ["n2", "n3", "n3"]
            assert await ghost.closed_by_other_side()
            raw.send(1, b"it is me")
            await until(lambda: node.received("n3") == [(1, b"it is me")])
            await raw.close()

    run(scenario())


def test_a_newcomer_that_gives_up_does_not_cost_the_link() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            ghost = await RawPeer.connect(node.port)
            await ghost.shake_hands("n3", "n1")
            raw = await RawPeer.connect(node.port)
            task = asyncio.ensure_future(raw.shake_hands("n3", "n1", incarnation=b"j" * 16))
            await until(lambda: node.mesh._waiting)
            task.cancel()
            await raw.close()
            await until(lambda: not node.mesh._waiting)
            ghost.send(1, b"alive")
            await until(lambda: node.received("n3") == [(1, b"alive")])
            assert not node.downs
            await ghost.close()

    run(scenario())


def test_the_same_process_replaces_its_own_link_at_once() -> None:
    async def scenario() -> None:
        async with Victims() as node:
            old = await RawPeer.connect(node.port)
            await old.shake_hands("n3", "n1")
            new = await RawPeer.connect(node.port)
            handshake = await new.shake_hands("n3", "n1")
            assert handshake.state is HandshakeState.ESTABLISHED
            assert node.downs == ["n3"]
            assert await old.closed_by_other_side()
            await new.close()

    run(scenario())


# ---------------------------------------------------------------- descriptors


@contextlib.contextmanager
def no_more_descriptors():
    """Let the process open none: fill all numbers below a lowered limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    held = [os.open(os.devnull, os.O_RDONLY)]
    while held[-1] <= highest:
        held.append(os.open(os.devnull, os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_running_out_of_descriptors_does_not_close_the_listener(loop_factory) -> None:
    async def scenario() -> None:
        async with Victims() as node:
            client = socket.socket()
            with no_more_descriptors():
                # Returns at once: the kernel accepts on its own account.
                client.connect(("127.0.0.1", node.port))
                await until(lambda: len(node.observer.named("peer_accept_failed")) >= 2)
                # The pause keeps the loop from spinning on a socket that stays readable.
                assert node.mesh.counters()["accepts_failed_total"] < 20
            client.close()
            raw = await RawPeer.connect(node.port)
            handshake = await raw.shake_hands("n3", "n1")
            assert handshake.state is HandshakeState.ESTABLISHED
            await raw.close()

    run(scenario(), loop_factory)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_dialing_goes_on_after_running_out_of_descriptors() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        members = [member("n1", first.port), member("n2", second.port)]
        for node in (first, second):
            node.mesh.set_members(members)
        await second.mesh.start()
        with no_more_descriptors():
            failure = second.mesh.failure
            await until(lambda: "Too many open files" in failure(first.id))
        await first.mesh.start()
        await until(lambda: first.linked() == {"n2"} and second.linked() == {"n1"})
        await first.mesh.stop()
        await second.mesh.stop()

    run(scenario())


# ---------------------------------------------------------------- TLS


@pytest.fixture
def tls(tmp_path: Path) -> TlsContexts:
    """Contexts around one self-signed certificate for 127.0.0.1."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(require_tool("openssl"), "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=raftkv"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-days", "1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(certificate, key)
    dialing = ssl.create_default_context(cafile=str(certificate))
    return TlsContexts(accepting=accepting, dialing=dialing)


def test_links_run_over_tls(tls: TlsContexts) -> None:
    async def scenario() -> None:
        async with Victims(tls=tls) as node:
            plain = await RawPeer.connect(node.port)
            plain.writer.write(encode_frame(KIND_CHALLENGE, bytes(48)))
            with contextlib.suppress(ConnectionError):
                while await plain.reader.read(1024):
                    pass
            node.send("n2", 1, bytes(1 << 20))

    run(scenario())

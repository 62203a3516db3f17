"""Meshes on loopback and raw peers that misbehave, for the tests of links."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from raftkv.config import Limits
from raftkv.engine.ready import PeerHello
from raftkv.framing import encode_frame
from raftkv.transport.frames import Frame, FrameDecoder
from raftkv.transport.handshake import (
    Handshake,
    HandshakeState,
    LocalHello,
    LocalIdentity,
    Refusal,
)
from raftkv.transport.mesh import MeshTiming, PeerMesh, TlsContexts
from raftkv.types import Member, NodeId

SECRET = b"0123456789abcdef0123456789abcdef"
HELLO = LocalHello(
    cluster_id="c" * 32, disk_id="d" * 32, term=3, last_index=9, founding=False, admitted=True
)
# Quick enough for a test, slow enough for a busy machine.
TIMING = MeshTiming(
    tick_s=0.05, ping_ticks=2, dead_ticks=200, accept_ticks=200, dial_ticks=200, probe_ticks=6
)
LIMITS = Limits(peer_frame_bytes_max=4 << 20, peer_queue_bytes_max=8 << 20)
DEADLINE_S = 10.0

_ports = iter(range(24_100, 24_900))


def free_port() -> int:
    """Return a port nobody listens on."""
    for port in _ports:
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port left")


_raw_writers: list[asyncio.StreamWriter] = []


def run(
    scenario: Coroutine[Any, Any, None],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
) -> None:
    """Run one scenario on uvloop, as a node does; close what raw peers left open."""

    async def main() -> None:
        try:
            await asyncio.wait_for(scenario, 30)
        finally:
            for writer in _raw_writers:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            _raw_writers.clear()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, with a deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE_S
    while not condition():
        if loop.time() > end:
            pytest.fail("the condition did not come about in time")
        await asyncio.sleep(0.002)


class RecordingObserver:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.events.append((name, fields))

    def named(self, name: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == name]


class Node:
    """One mesh and everything that it reported."""

    def __init__(
        self,
        node_id: str,
        port: int,
        *,
        host: str = "127.0.0.1",
        secret: bytes = SECRET,
        hello: LocalHello = HELLO,
        limits: Limits = LIMITS,
        timing: MeshTiming = TIMING,
        tls: TlsContexts | None = None,
    ) -> None:
        self.id = NodeId(node_id)
        self.port = port
        self.ups: list[tuple[str, PeerHello]] = []
        self.downs: list[str] = []
        self.batches: list[tuple[str, list[Frame]]] = []
        self.refusals: list[tuple[str, Refusal]] = []
        self.observer = RecordingObserver()
        # True while the test is inside a call after which no callback may have run.
        self.in_call = False
        self.mesh = PeerMesh(
            node_id=self.id,
            listen=f"{host}:{port}",
            secret=secret,
            hello=lambda: hello,
            on_up=self._on_up,
            on_down=self._on_down,
            on_frames=self._on_frames,
            on_refused=lambda peer, refusal: self.refusals.append((peer, refusal)),
            observer=self.observer,
            limits=limits,
            random_source=random.Random(node_id),
            tls=tls,
            timing=timing,
        )

    def _on_up(self, peer: NodeId, hello: PeerHello) -> None:
        assert not self.in_call
        assert self.ups.count((peer, hello)) == self.downs.count(peer)
        self.ups.append((peer, hello))

    def _on_down(self, peer: NodeId) -> None:
        assert not self.in_call
        self.downs.append(peer)
        assert len(self.downs) <= len(self.ups)

    def _on_frames(self, peer: NodeId, frames: list[Frame]) -> None:
        assert frames
        assert self.mesh.is_up(peer)
        self.batches.append((peer, frames))

    def received(self, peer: str) -> list[Frame]:
        return [frame for sender, frames in self.batches if sender == peer for frame in frames]

    def send(self, peer: str, kind: int, body: bytes) -> None:
        self.in_call = True
        self.mesh.send(NodeId(peer), kind, body)
        self.mesh.flush()
        self.in_call = False

    def linked(self) -> set[str]:
        return set(self.mesh.linked)

    def reasons_down(self) -> list[object]:
        return [fields["reason"] for fields in self.observer.named("peer_link_down")]


def member(node_id: str, port: int) -> Member:
    return Member(id=NodeId(node_id), client="127.0.0.1:1", peer=f"127.0.0.1:{port}")


class Cluster:
    """Nodes that know each other; `async with` starts and stops them."""

    def __init__(self, *nodes: Node, others: tuple[Member, ...] = ()) -> None:
        self.nodes = list(nodes)
        self.members = [*(member(node.id, node.port) for node in nodes), *others]

    async def __aenter__(self) -> Cluster:
        for node in self.nodes:
            node.mesh.set_members(self.members)
            await node.mesh.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.mesh.stop()

    async def linked(self) -> None:
        """Wait until everybody is linked with everybody."""
        ids = {node.id for node in self.nodes}
        await until(lambda: all(node.linked() >= ids - {node.id} for node in self.nodes))


def make_nodes(count: int, **options: Any) -> list[Node]:
    return [Node(f"n{number}", free_port(), **options) for number in range(1, count + 1)]


class RawPeer:
    """A peer made of a bare connection: proves itself, then does as the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        _raw_writers.append(writer)
        self.frames: list[Frame] = []
        self.decoder = FrameDecoder(64 << 20)

    @classmethod
    async def connect(cls, port: int) -> RawPeer:
        """Open a connection and say nothing."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def shake_hands(
        self,
        node_id: str,
        target: str,
        *,
        secret: bytes = SECRET,
        incarnation: bytes = b"i" * 16,
        hello: LocalHello = HELLO,
    ) -> Handshake:
        """Dial as a member would; returns when the handshake is over either way."""
        local = LocalIdentity(
            node_id=NodeId(node_id),
            secret=secret,
            incarnation=incarnation,
            hello=lambda: hello,
            is_member=lambda peer: True,
        )
        handshake = Handshake(local, random.randbytes(32), target=NodeId(target))
        self.writer.write(handshake.start())
        while handshake.state not in (HandshakeState.ESTABLISHED, HandshakeState.REFUSED):
            frame = await self.next_frame()
            if frame is None:
                break
            self.writer.write(handshake.receive(*frame))
        return handshake

    async def next_frame(self) -> Frame | None:
        """Return the next frame, or None at the end of the connection."""
        while not self.frames:
            try:
                data = await asyncio.wait_for(self.reader.read(65_536), DEADLINE_S)
            except ConnectionError:
                return None
            if not data:
                return None
            self.frames += self.decoder.feed(data)
            assert not self.decoder.broken
        return self.frames.pop(0)

    async def closed_by_other_side(self) -> bool:
        """Read to the end; whether it came before the deadline."""
        while await self.next_frame() is not None:
            pass
        return True

    def send(self, kind: int, body: bytes) -> None:
        self.writer.write(encode_frame(kind, body))

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


def numbers(count: int) -> Iterator[bytes]:
    """Yield distinct bodies."""
    return (number.to_bytes(4, "little") for number in range(count))


class BlackHole:
    """Stands between two nodes; swallows everything while it is open, without a word."""

    def __init__(self, target_port: int) -> None:
        self.is_open = False
        self.port = free_port()
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = RawPeer(reader, writer)
        far = await RawPeer.connect(self._target_port)
        for source, target in ((near, far), (far, near)):
            task = asyncio.ensure_future(self._carry(source, target))
            self._tasks.add(task)

    async def _carry(self, source: RawPeer, target: RawPeer) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.reader.read(65_536):
                if not self.is_open:
                    target.writer.write(data)
        # The end of a connection does not pass a black hole either.
        if not self.is_open:
            target.writer.transport.abort()

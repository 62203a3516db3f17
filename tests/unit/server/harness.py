"""Client connections without sockets: bytes in, replies and flow control out.

`Node` is a front-end on a fake replica whose turns the test takes; `Client` is
a `ClientConnection` on a transport that remembers. Several nodes share a store
and hand forwards to each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import hiredis

from raftkv.config import Config, Limits, ReadsConfig, TimingConfig, WritesConfig
from raftkv.server.connection import ClientConnection
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


def encode(*words: bytes | str) -> bytes:
    """One request as an array of bulk strings."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)


def pipeline(*lines: str) -> bytes:
    """Several requests, each a line of words."""
    return b"".join(encode(*line.split()) for line in lines)


class FakeTransport:
    """Remembers what was written and how the flow was controlled."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.reading = True
        self.closed = False
        self.aborted = False
        self.buffered = 0
        self._paused: ClientConnection | None = None

    def narrow(self, connection: ClientConnection) -> None:
        """From now on bytes stay here until they are taken, and the connection is told."""
        self._paused = connection

    def take_all(self) -> None:
        """The client has read what was written."""
        assert self._paused is not None
        was_full, self.buffered = self.buffered > self.high, 0
        if was_full:
            self._paused.resume_writing()

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.written += data
        if self._paused is not None:
            was_full = self.buffered > self.high
            self.buffered += len(data)
            if self.buffered > self.high and not was_full:
                self._paused.pause_writing()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_extra_info(self, name: str) -> Any:
        if name == "socket":
            return None
        return ("127.0.0.1", 50000 if name == "peername" else 7001)

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Client:
    """One connection and what came back on it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.transport = FakeTransport()
        self.connection = ClientConnection(node.listener.service)
        self.connection.connection_made(cast(asyncio.Transport, self.transport))
        self._reader = hiredis.Reader(replyError=str)

    def send(self, data: bytes | str) -> None:
        """Bytes as one chunk, or one line of words as one request."""
        raw = encode(*data.split()) if isinstance(data, str) else data
        self.connection.data_received(raw)

    def replies(self) -> list[Any]:
        """Whole replies written since the last call; errors are strings."""
        self._reader.feed(bytes(self.transport.written))
        self.transport.written.clear()
        replies = []
        while (reply := self._reader.gets()) is not False:
            replies.append(reply)
        return replies

    def ask(self, line: bytes | str) -> Any:
        """Send one request, take a turn, return its reply."""
        self.send(line)
        self.node.replica.turn()
        (reply,) = self.replies()
        return reply

    def lose(self) -> None:
        """The socket is gone."""
        self.transport.closed = True
        self.connection.connection_lost(None)


class Node:
    """A front-end on a fake replica."""

    def __init__(
        self,
        node_id: str = "n1",
        *,
        shared: SharedStore | None = None,
        routes: dict[NodeId, Callable[..., None]] | None = None,
        count: int = 3,
        leader: str | None = "n1",
        on_follower: str = "redirect",
        level: str = "linearizable",
        limits: Limits | None = None,
        timing: TimingConfig | None = None,
    ) -> None:
        everyone = members([7001 + position for position in range(count)])
        configuration = Configuration("c" * 32, everyone)
        member = configuration.member(node_id)
        assert member is not None
        self.shared = shared or SharedStore(FakeClock())
        self.clock = self.shared.clock
        self.observer = FakeObserver()
        self.replica = FakeReplica(self.shared, configuration, node_id)
        self.network = FakeNetwork(member.id, {} if routes is None else routes)
        self.config: Config = config_for(
            member,
            everyone,
            reads=ReadsConfig(level=level),
            writes=WritesConfig(on_follower=on_follower),
            limits=limits or Limits(),
            timing=timing or TimingConfig(),
        )
        self.listener = ClientListener(
            self.replica, self.network, self.config, self.clock, self.observer
        )
        if routes is not None:
            routes[member.id] = self.listener.received
        self.replica.lead(leader)

    @property
    def service(self) -> Any:
        return self.listener.service

    def client(self) -> Client:
        return Client(self)

    def wait(self, milliseconds: int) -> None:
        """Let time pass and the listener's timer fire."""
        self.clock.ms += milliseconds
        self.service.tick()


class Cluster:
    """Three front-ends on one store; forwards travel between them."""

    def __init__(self, leader: str | None = "n1", **options: Any) -> None:
        shared = SharedStore(FakeClock())
        routes: dict[NodeId, Callable[..., None]] = {}
        self.nodes = {
            name: Node(name, shared=shared, routes=routes, leader=leader, **options)
            for name in ("n1", "n2", "n3")
        }
        for name, node in self.nodes.items():
            for other in self.nodes:
                if other != name:
                    node.listener.peer_up(NodeId(other))

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def lead(self, leader: str | None) -> None:
        for node in self.nodes.values():
            node.replica.lead(leader)

    def turn(self) -> None:
        for node in self.nodes.values():
            node.replica.turn()

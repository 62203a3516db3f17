"""Any bytes at any time, into a link without sockets: no exception, no frame after the end."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from raftkv.framing import encode_frame
from raftkv.transport.frames import Frame, FrameDecoder
from raftkv.transport.handshake import Handshake, LocalIdentity
from raftkv.transport.link import KIND_LINK_FIRST, PeerLink
from raftkv.transport.mesh import MeshTiming
from raftkv.types import NodeId
from tests.unit.transport.wiring import HELLO, SECRET


class FakeTransport(asyncio.Transport):
    """Keeps what is written; never closes by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_aborted = False

    def write(self, data) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_aborted


class Owner:
    """Admits everybody and keeps the order of what it hears."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.up_count = 0
        self.closed_count = 0

    def link_proven(self, link: PeerLink) -> None:
        link.admit()

    def link_up(self, link: PeerLink) -> None:
        assert not self.closed_count
        self.up_count += 1

    def link_frames(self, link: PeerLink, frames: list[Frame]) -> None:
        assert self.up_count
        assert not self.closed_count
        self.frames += frames

    def link_pong(self, link: PeerLink, token: int) -> None:
        assert not self.closed_count

    def link_closed(self, link: PeerLink) -> None:
        self.closed_count += 1

    def link_gone(self, link: PeerLink) -> None:
        assert self.closed_count


def identity(node_id: str) -> LocalIdentity:
    return LocalIdentity(
        node_id=NodeId(node_id),
        secret=SECRET,
        incarnation=bytes(16),
        hello=lambda: HELLO,
        is_member=lambda peer: True,
    )


class Accepted:
    """A link on the accepting side, and the bytes of an honest dialer."""

    def __init__(self) -> None:
        self.owner = Owner()
        self.transport = FakeTransport()
        self.link = PeerLink(
            self.owner,
            Handshake(identity("n1"), b"a" * 32, target=None),
            MeshTiming(),
            frame_bytes_max=1000,
            queue_bytes_max=4000,
        )
        self.link.connection_made(self.transport)
        self.dialing = Handshake(identity("n2"), b"d" * 32, target=NodeId("n1"))

    def shake_hands(self) -> None:
        self.link.data_received(self.dialing.start())
        for kind, body in FrameDecoder(2048).feed(self.transport.written):
            self.link.data_received(self.dialing.receive(kind, body))
        assert self.owner.up_count == 1
        self.transport.written = b""

    def feed(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.link.data_received(piece)
        self.link.tick()
        self.link.connection_lost(None)
        assert self.owner.closed_count == 1
        assert self.link.close_reason


frames = st.tuples(st.integers(0, 255), st.binary(max_size=60)).map(
    lambda frame: encode_frame(*frame)
)
pieces = st.lists(frames | st.binary(max_size=80), max_size=12)


@given(pieces)
def test_any_bytes_before_the_handshake(chunks: list[bytes]) -> None:
    accepted = Accepted()
    accepted.feed(chunks)
    assert accepted.owner.up_count == 0
    assert not accepted.owner.frames


@given(pieces)
def test_any_bytes_after_the_handshake(chunks: list[bytes]) -> None:
    accepted = Accepted()
    accepted.shake_hands()
    accepted.feed(chunks)
    decoder = FrameDecoder(1000)
    expected: list[Frame] = []
    for kind, body in decoder.feed(b"".join(chunks)):
        if kind < KIND_LINK_FIRST:
            expected.append((kind, body))
        elif kind not in (243, 244) or len(body) != 8:
            break
    assert accepted.owner.frames == expected


@given(st.integers(1, 400), st.binary(max_size=50))
def test_a_handshake_in_pieces_with_frames_behind_it(size: int, body: bytes) -> None:
    accepted = Accepted()
    accepted.link.data_received(accepted.dialing.start())
    answer = FrameDecoder(2048).feed(accepted.transport.written)[0]
    stream = accepted.dialing.receive(*answer) + encode_frame(5, body) + encode_frame(6, b"")
    for position in range(0, len(stream), size):
        accepted.link.data_received(stream[position : position + size])
    assert accepted.owner.frames == [(5, body), (6, b"")]
    assert accepted.owner.closed_count == 0

"""One connection to one peer, from its first byte to its last.

Owns the decoder, the handshake, the frames that wait for the next flush and the
count of silent ticks. Does not decide which of two links stays, when to dial
again or what a frame means: it tells its `LinkOwner`. Invariants: before the
handshake ends a link accepts only handshake frames, of bounded size; after
`closed` was reported nothing more is; whatever goes wrong ends this link alone.

Time is counted in ticks that the owner gives, not read from a clock: a node
that slept wakes to one late tick, so its healthy links survive its own stall.

Who calls: `transport.mesh`, and the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Protocol, cast

from raftkv.framing import HEADER_SIZE, encode_frame, encode_frame_header
from raftkv.transport.frames import Frame, FrameDecoder
from raftkv.transport.handshake import (
    HANDSHAKE_BODY_BYTES_MAX,
    KIND_REFUSED,
    Handshake,
    HandshakeState,
    RefusalReason,
    Side,
)
from raftkv.types import NodeId

KIND_PING = 243
KIND_PONG = 244
# Kinds below are the replica's; these and above stay inside the link.
KIND_LINK_FIRST = 240

_TOKEN = struct.Struct("<Q")
_QUEUE_FULL = "more unsent bytes than limits.peer_queue_bytes_max"


class LinkTimes(Protocol):
    """Limits of one link in ticks; see `mesh.MeshTiming`."""

    @property
    def accept_ticks(self) -> int:
        """An accepted connection that is not a link by then is closed."""
        ...

    @property
    def dial_ticks(self) -> int:
        """A dialed connection that is not a link by then is closed."""
        ...

    @property
    def ping_ticks(self) -> int:
        """Silence after which the peer is asked for a sign of life."""
        ...

    @property
    def dead_ticks(self) -> int:
        """Silence after which the link counts as lost."""
        ...


class LinkOwner(Protocol):
    """Whom a link tells what happened."""

    def link_proven(self, link: PeerLink) -> None:
        """A dialer proved its id; call `admit` or `refuse`, now or later."""
        ...

    def link_up(self, link: PeerLink) -> None:
        """The link carries frames from here on."""
        ...

    def link_frames(self, link: PeerLink, frames: list[Frame]) -> None:
        """What one read of the socket brought; only between up and closed."""
        ...

    def link_pong(self, link: PeerLink, token: int) -> None:
        """The peer answered `ping(token)`."""
        ...

    def link_closed(self, link: PeerLink) -> None:
        """The link is over; reported once. `link.close_reason` says why."""
        ...

    def link_gone(self, link: PeerLink) -> None:
        """The connection of a link that is over is closed, too."""
        ...


class PeerLink(asyncio.Protocol):
    """One connection; see the module.

    Attributes:
        node_id: The peer, once the handshake has proven it; for a dialer from
            the start; otherwise empty.
        is_up: Between `link_up` and `link_closed`.
        address: Where the other side's connection comes from, for the log.
        close_reason: Words for the log; empty while open.
        bytes_sent: Bytes handed to the operating system for frames.
        bytes_received: Bytes that arrived.
    """

    __slots__ = (
        "_age_ticks",
        "_decoder",
        "_frame_bytes_max",
        "_outgoing",
        "_outgoing_bytes",
        "_owner",
        "_queue_bytes_max",
        "_silent_ticks",
        "_times",
        "_transport",
        "address",
        "bytes_received",
        "bytes_sent",
        "close_reason",
        "frames_received",
        "frames_sent",
        "handshake",
        "is_closed",
        "is_up",
    )

    def __init__(
        self,
        owner: LinkOwner,
        handshake: Handshake,
        times: LinkTimes,
        *,
        frame_bytes_max: int,
        queue_bytes_max: int,
    ) -> None:
        self.handshake = handshake
        self.address = ""
        self.is_up = False
        self.is_closed = False
        self.close_reason = ""
        self.bytes_sent = 0
        self.bytes_received = 0
        self.frames_sent = 0
        self.frames_received = 0
        self._owner = owner
        self._times = times
        self._frame_bytes_max = frame_bytes_max
        self._queue_bytes_max = queue_bytes_max
        self._decoder = FrameDecoder(HANDSHAKE_BODY_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._outgoing: list[bytes] = []
        self._outgoing_bytes = 0
        self._age_ticks = 0
        self._silent_ticks = 0

    @property
    def node_id(self) -> NodeId:
        """Id of the peer as claimed; proven once `handshake.peer` is set."""
        return self.handshake.claimed_id

    @property
    def side(self) -> Side:
        """Which end this node is."""
        return self.handshake.side

    @property
    def queued_bytes(self) -> int:
        """Bytes that were sent and not yet taken by the operating system."""
        backlog = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._outgoing_bytes + backlog

    @property
    def has_queued(self) -> bool:
        """Whether frames wait for the next flush."""
        return bool(self._outgoing)

    @property
    def has_connection(self) -> bool:
        """Whether the event loop still has a connection for this link."""
        return self._transport is not None

    # ------------------------------------------------------------ event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the handshake. Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        if name:
            self.address = f"{name[0]}:{name[1]}"
        connection = transport.get_extra_info("socket")
        if connection is not None:
            # A peer that is gone already makes some systems refuse the option.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.is_closed:
            self._transport.abort()
            return
        self._write(self.handshake.start())

    def data_received(self, data: bytes) -> None:
        """Cut what arrived into frames and pass them on. Called by the event loop."""
        if self.is_closed:
            return
        self._silent_ticks = 0
        self.bytes_received += len(data)
        if not self.is_up:
            data = self._handshake_bytes(data)
            if not self.is_up:
                return
        frames = self._decoder.feed(data)
        if frames:
            self._pass_on(frames)
        if self._decoder.broken:
            self.close(self._decoder.broken)

    def eof_received(self) -> None:
        """Let the event loop close the connection: half a link is no link."""

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end. Called by the event loop, once."""
        if not self.close_reason:
            self.close_reason = "closed by the peer" if error is None else str(error)
        self._transport = None
        self._ended()
        self._owner.link_gone(self)

    # ------------------------------------------------------------ handshake

    def admit(self) -> None:
        """Let a proven dialer in."""
        self._write(self.handshake.admit())
        self._come_up()

    def refuse(self, reason: RefusalReason) -> None:
        """Tell a proven dialer that it is not wanted, and close."""
        self._write(self.handshake.refuse(reason))
        self.finish(str(self.handshake.refusal))

    def _handshake_bytes(self, data: bytes) -> bytes:
        """Feed the handshake; return what follows its end."""
        handshake = self.handshake
        while not self.is_up and not self.is_closed:
            frame, data = self._decoder.feed_one(data)
            if frame is None:
                if self._decoder.broken:
                    # No words of refusal: what speaks here is not a peer. A dialer
                    # remembers it, so as not to ask there every moment.
                    if self.side is Side.DIALER:
                        handshake.refuse(RefusalReason.MALFORMED)
                    self.close(self._decoder.broken)
                return b""
            self._write(handshake.receive(*frame))
            if handshake.state is HandshakeState.ESTABLISHED:
                self._come_up()
            elif handshake.state is HandshakeState.PROVEN:
                self._owner.link_proven(self)
            elif handshake.state is HandshakeState.REFUSED:
                self.finish(str(handshake.refusal))
        return data

    def _come_up(self) -> None:
        self._decoder.body_bytes_max = self._frame_bytes_max
        self._age_ticks = 0
        self.is_up = True
        self._owner.link_up(self)

    # ------------------------------------------------------------ receiving

    def _pass_on(self, frames: list[Frame]) -> None:
        """Answer the link's own frames and hand the rest over in one call."""
        self.frames_received += len(frames)
        objection = ""
        for kind, _ in frames:
            if kind >= KIND_LINK_FIRST:
                frames, objection = self._take_own(frames)
                break
        if frames and self.is_up:
            self._owner.link_frames(self, frames)
        if objection:
            self.close(objection)

    def _take_own(self, frames: list[Frame]) -> tuple[list[Frame], str]:
        """Handle what concerns the link alone.

        Returns:
            The other frames, and what ends the link behind the last of them,
            or an empty text.
        """
        others: list[Frame] = []
        for kind, body in frames:
            if kind < KIND_LINK_FIRST:
                others.append((kind, body))
            elif kind == KIND_PING and len(body) == _TOKEN.size:
                # Limit: answers to one who sends and does not read pile up, too.
                if self.queued_bytes > self._queue_bytes_max:
                    return others, _QUEUE_FULL
                self._write(encode_frame(KIND_PONG, body))
            elif kind == KIND_PONG and len(body) == _TOKEN.size:
                self._owner.link_pong(self, _TOKEN.unpack(body)[0])
            elif kind == KIND_REFUSED:
                self.handshake.receive(kind, body)
                return others, str(self.handshake.refusal)
            else:
                return others, f"frame of kind {kind} on a link that is up"
        return others, ""

    # ------------------------------------------------------------ sending

    def queue(self, kind: int, body: bytes) -> None:
        """Keep one frame for the next `flush`; dropped where the link is ending.

        A frame over the peer's limit, or more unsent bytes than the queue may
        hold, close the link: dropping single frames would break the order that
        the layers above rely on.
        """
        if self.close_reason:
            return
        size = len(body)
        if size > self._frame_bytes_max:
            self._doom(f"frame of {size} bytes to send is over limits.peer_frame_bytes_max")
            return
        self._outgoing.append(encode_frame_header(kind, (body,)))
        self._outgoing.append(body)
        self._outgoing_bytes += HEADER_SIZE + size
        if self.queued_bytes > self._queue_bytes_max:
            self._doom(_QUEUE_FULL)

    def flush(self) -> None:
        """Hand everything queued to the transport in one call."""
        outgoing = self._outgoing
        if not outgoing or self._transport is None:
            return
        size = self._outgoing_bytes
        self._outgoing = []
        self._outgoing_bytes = 0
        self.bytes_sent += size
        self.frames_sent += len(outgoing) // 2
        self._transport.writelines(outgoing)

    def ping(self, token: int) -> None:
        """Ask for a sign of life; the answer comes as `link_pong`."""
        self._write(encode_frame(KIND_PING, _TOKEN.pack(token)))

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None:
            self.bytes_sent += len(data)
            self._transport.write(data)

    # ------------------------------------------------------------ end

    def tick(self) -> None:
        """Notice a handshake that never ends and a peer that fell silent."""
        self._age_ticks += 1
        self._silent_ticks += 1
        if self.is_closed:
            # Words of refusal that the peer does not take must not keep a socket.
            if self._transport is not None and self._age_ticks >= self._times.accept_ticks:
                self._transport.abort()
        elif not self.is_up:
            times = self._times
            limit = times.dial_ticks if self.side is Side.DIALER else times.accept_ticks
            if self._age_ticks >= limit:
                self.close("handshake took too long")
        elif self._silent_ticks >= self._times.dead_ticks:
            self.close("nothing heard for too long")
        elif self._silent_ticks >= self._times.ping_ticks:
            self.ping(0)

    def close(self, reason: str) -> None:
        """End the link at once; what is still queued is lost."""
        if not self.close_reason:
            self.close_reason = reason
        transport = self._transport
        self._ended()
        if transport is not None:
            transport.abort()

    def _doom(self, reason: str) -> None:
        """Take nothing more, and close once the caller has returned.

        Why not at once: `link_closed` would run inside the caller's `send`.
        """
        self.close_reason = reason
        self._outgoing = []
        self._outgoing_bytes = 0
        asyncio.get_running_loop().call_soon(self.close, reason)

    def finish(self, reason: str) -> None:
        """End the link after everything sent so far has left."""
        self.flush()
        if not self.close_reason:
            self.close_reason = reason
        transport = self._transport
        self._age_ticks = 0
        self._ended()
        if transport is not None:
            transport.close()

    def _ended(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._outgoing = []
        self._outgoing_bytes = 0
        self.is_up = False
        self._owner.link_closed(self)

"""All links of one node: at most one to each other member.

Owns who is linked, which of two links of the same peer stays, and the bounds on
connections that have proven nothing. Implements `seams.Network`. Does not know
what a frame means. Invariants:

* the node with the greater id dials; the other one only knocks where nobody
  came for long, to learn why;
* only a connection whose handshake is proven can touch an existing link, and
  one from another process of the same id only if the existing link is dead;
* `on_up`, then any number of `on_frames`, then `on_down`, for each link once;
* no callback runs inside a call of `send`, `flush` or `set_members`.

Who calls: `replica.shell` (one thread, that of the event loop), `node`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.config import Limits, is_loopback
from raftkv.engine.ready import PeerHello
from raftkv.errors import ConfigError
from raftkv.seams import Observer
from raftkv.transport.dialer import Dialer
from raftkv.transport.frames import Frame
from raftkv.transport.handshake import (
    INCARNATION_SIZE,
    NONCE_SIZE,
    Handshake,
    LocalHello,
    LocalIdentity,
    Refusal,
    RefusalReason,
    Side,
)
from raftkv.transport.link import PeerLink
from raftkv.transport.listener import Listener
from raftkv.transport.totals import LinkTotals
from raftkv.types import Member, NodeId

# Limit: connections that have not proven anything yet. A new one above it takes
# the place of the oldest: a handshake takes milliseconds, so whoever wants to
# keep peers out must open this many within that time, again and again.
UNPROVEN_LINKS_MAX: Final = 64

# How long a stopping node waits for peers to take what is queued, in seconds.
_LAST_WORDS_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshTiming:
    """How patient links are.

    Attributes:
        tick_s: Period of the check on all links, in seconds.
        ping_ticks: Silence after which a ping is sent.
        dead_ticks: Silence after which a link counts as lost. Well above an
            election timeout: a link is given up for dead routes, not for
            slow peers.
        accept_ticks: Longest handshake of an accepted connection.
        dial_ticks: The same for a dialed one. Shorter: words that were lost on a
            dead route are sent again at once on a new connection, but by the
            kernel only after its own, ever longer pauses. Longer than a probe.
        probe_ticks: How long an existing link may take to prove that it lives
            when another process of the same id asks for its place.
        knock_ticks: Time without a link after which a node is dialed although
            it should dial: it then says whether this node is still a member, or
            has another address of this node in mind.
        connect_timeout_s: Longest wait for a TCP connection.
    """

    tick_s: float = 0.25
    ping_ticks: int = 2
    dead_ticks: int = 8
    accept_ticks: int = 20
    dial_ticks: int = 8
    probe_ticks: int = 4
    knock_ticks: int = 20
    connect_timeout_s: float = 1.5


class TlsContexts:
    """TLS for both directions.

    Attributes:
        accepting: Server side.
        dialing: Client side.
    """

    __slots__ = ("accepting", "dialing")

    def __init__(self, *, accepting: ssl.SSLContext, dialing: ssl.SSLContext) -> None:
        self.accepting = accepting
        self.dialing = dialing


class _Waiting:
    """A proven dialer whose id is linked already, while the old link is probed."""

    __slots__ = ("link", "ticks_left", "token")

    def __init__(self, link: PeerLink, token: int, ticks_left: int) -> None:
        self.link = link
        self.token = token
        self.ticks_left = ticks_left


class PeerMesh:
    """Links to the other members; see the module."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        listen: str,
        secret: bytes,
        hello: Callable[[], LocalHello],
        on_up: Callable[[NodeId, PeerHello], None],
        on_down: Callable[[NodeId], None],
        on_frames: Callable[[NodeId, list[Frame]], None],
        on_refused: Callable[[NodeId, Refusal], None],
        observer: Observer,
        limits: Limits,
        random_source: random.Random,
        tls: TlsContexts | None = None,
        timing: MeshTiming | None = None,
        is_news: Callable[[PeerHello], bool] = lambda _hello: False,
    ) -> None:
        """Prepare; nothing is bound or dialed before `start`.

        Args:
            node_id: This node.
            listen: `host:port` to bind.
            secret: Shared by all members; may be empty on loopback only.
            hello: What to say of this node in a handshake, asked each time.
            on_up: A link is established; with what the peer said of itself.
            on_down: That link is over.
            on_frames: Everything that one read of a socket brought.
            on_refused: A handshake ended with a refusal, ours or the peer's.
                The id is what the other side claims: see `Refusal.proven`.
            observer: For rare events.
            limits: `peer_frame_bytes_max` and `peer_queue_bytes_max` are used.
            random_source: Jitter of the back-off; nonces do not come from it.
            tls: Both sides' contexts, or None for plain TCP.
            timing: Patience of the links; the defaults suit production.
            is_news: Whether a node that is none of the members may be one that
                this node has not heard of; such a one may link, too.

        Raises:
            ConfigError: No secret although the address can be reached from
                other machines.
        """
        if not secret and not is_loopback(listen):
            raise ConfigError(
                [f"security.peer_secret_file: required, since {listen} is not a loopback address"]
            )
        self._local = LocalIdentity(
            node_id=node_id,
            secret=secret,
            incarnation=secrets.token_bytes(INCARNATION_SIZE),
            hello=hello,
            is_member=lambda peer: peer in self._members,
            is_news=is_news,
        )
        self._on_up = on_up
        self._on_down = on_down
        self._on_frames = on_frames
        self._on_refused = on_refused
        self._observer = observer
        self._limits = limits
        self._random = random_source
        self._tls = tls
        self._timing = MeshTiming() if timing is None else timing
        self._listener = Listener(
            listen,
            self._make_accepted,
            observer,
            failure_event="peer_accept_failed",
            tls=None if tls is None else tls.accepting,
        )
        self._members: dict[NodeId, Member] = {}
        self._dialers: dict[NodeId, Dialer] = {}
        # Every link whose end has not been reported; insertion order is age.
        self._open: dict[PeerLink, None] = {}
        self._up: dict[NodeId, PeerLink] = {}
        self._dirty: list[PeerLink] = []
        self._waiting: dict[NodeId, _Waiting] = {}
        self._missing_ticks: dict[NodeId, int] = {}
        # Refused links whose last words the peer has not taken yet.
        self._lingering: set[PeerLink] = set()
        self._all_gone = asyncio.Event()
        self._probe_token = 0
        self._running = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._totals = LinkTotals()

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Bind the peer address and begin to dial.

        Raises:
            OSError: The address is in use, or not one of this machine.
        """
        self._loop = asyncio.get_running_loop()
        await self._listener.start()
        self._running = True
        self._loop.call_later(self._timing.tick_s, self._tick)
        self._dial_members()

    async def stop(self) -> None:
        """Send what is queued, close every link, and release the address.

        Each link that was up is reported by `on_down` before this returns.
        """
        self._running = False
        self._listener.stop()
        dialers = list(self._dialers.values())
        self._dialers.clear()
        for dialer in dialers:
            dialer.stop()
        for link in list(self._open):
            link.finish("this node stops")
        for dialer in dialers:
            await dialer.wait_stopped()
        if self._lingering:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), _LAST_WORDS_S)
        for link in list(self._lingering):
            link.close("this node stops")

    def set_members(self, members: Sequence[Member]) -> None:
        """Make these the nodes to link with; this node itself is ignored.

        Links to nodes that are no longer among them end soon, and so do links
        to an address that changed.
        """
        before = self._members
        self._members = {
            member.id: member for member in members if member.id != self._local.node_id
        }
        for link in list(self._open):
            member = self._members.get(link.node_id)
            if member is None and link.handshake.peer is not None:
                self._close_soon(link, "no longer a member")
            elif member is not None and link.side is Side.DIALER:
                if before.get(link.node_id, member).peer != member.peer:
                    self._close_soon(link, "the member has another address")
        if self._running:
            self._dial_members()

    # ------------------------------------------------------------ seams.Network

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        """Queue one frame for a peer; dropped silently where no link is up.

        A queue over `limits.peer_queue_bytes_max` ends the link: the peer sees
        a prefix of what was sent, never a gap.
        """
        link = self._up.get(node)
        if link is None:
            return
        if not link.has_queued:
            self._dirty.append(link)
        link.queue(kind, body)

    def flush(self) -> None:
        """Hand everything queued to the operating system, one write a peer."""
        if self._dirty:
            dirty = self._dirty
            self._dirty = []
            for link in dirty:
                link.flush()

    # ------------------------------------------------------------ views

    def is_up(self, node: NodeId) -> bool:
        """Whether a link to that node carries frames."""
        return node in self._up

    @property
    def linked(self) -> frozenset[NodeId]:
        """Nodes to which a link is up."""
        return frozenset(self._up)

    def failure(self, node: NodeId) -> str:
        """Why the last attempt to dial that node failed; empty where unknown."""
        dialer = self._dialers.get(node)
        return "" if dialer is None else dialer.failure

    def queued_bytes(self, node: NodeId) -> int:
        """Bytes sent to that node which the operating system has not taken."""
        link = self._up.get(node)
        return 0 if link is None else link.queued_bytes

    @property
    def unproven_count(self) -> int:
        """Accepted connections that have proven nothing yet."""
        return sum(1 for link in self._open if _is_unproven(link))

    def counters(self) -> dict[str, int]:
        """Numbers for metrics; `totals.PEER_METRICS` says what each is."""
        counts = self._totals.as_dict(self._open)
        counts["links"] = len(self._up)
        counts["links_unproven"] = self.unproven_count
        counts["queued_bytes"] = sum(link.queued_bytes for link in self._up.values())
        counts["accepts_failed_total"] = self._listener.failed_count
        return counts

    # ------------------------------------------------------------ LinkOwner

    def link_proven(self, link: PeerLink) -> None:
        """Decide whether a dialer that proved its id gets the place of its id."""
        peer = link.handshake.peer
        assert peer is not None
        old = self._up.get(peer.node_id)
        if old is None:
            link.admit()
            return
        assert old.handshake.peer is not None
        if old.handshake.peer.incarnation == peer.incarnation:
            # A process has one link to each peer: it gave the old one up.
            waiting = self._waiting.pop(peer.node_id, None)
            if waiting is not None:
                waiting.link.refuse(RefusalReason.ALREADY_LINKED)
            old.close("replaced by a newer link of the same process")
            link.admit()
        elif peer.node_id in self._waiting:
            link.refuse(RefusalReason.ALREADY_LINKED)
        else:
            # The peer restarted and its old connection is a ghost, or two
            # processes run with one id. A live one keeps its place.
            self._probe_token += 1
            self._waiting[peer.node_id] = _Waiting(
                link, self._probe_token, self._timing.probe_ticks
            )
            old.ping(self._probe_token)

    def link_up(self, link: PeerLink) -> None:
        """Enter a link that carries frames and report it."""
        peer = link.handshake.peer
        assert peer is not None
        node_id = peer.node_id
        known = node_id in self._members or self._local.is_news(peer.hello)
        if not known or not self._running:
            self._close_soon(link, "no longer a member")
        old = self._up.get(node_id)
        if old is not None:
            old.close("replaced by a newer link")
        self._up[node_id] = link
        self._totals.links_up += 1
        dialer = self._dialers.get(node_id)
        if dialer is not None:
            dialer.link_up(link)
            if link.side is Side.ACCEPTOR and node_id > self._local.node_id:
                self._stop_knocking(node_id)
        self._observer.event(
            "peer_link_up", node=node_id, side=link.side.value, address=link.address
        )
        self._on_up(node_id, peer.hello)

    def link_frames(self, link: PeerLink, frames: list[Frame]) -> None:
        """Pass on what one read brought."""
        self._on_frames(link.node_id, frames)

    def link_pong(self, link: PeerLink, token: int) -> None:
        """Keep a link that answered its probe; turn away who waited for its place."""
        waiting = self._waiting.get(link.node_id)
        if waiting is not None and waiting.token == token and self._up.get(link.node_id) is link:
            del self._waiting[link.node_id]
            waiting.link.refuse(RefusalReason.ALREADY_LINKED)

    def link_closed(self, link: PeerLink) -> None:
        """Forget a link; report it if it was up, or refused."""
        self._open.pop(link, None)
        self._totals.add(link)
        if link.has_connection:
            self._lingering.add(link)
            self._all_gone.clear()
        node_id = link.node_id
        dialer = self._dialers.get(node_id)
        if dialer is not None:
            dialer.link_closed(link)
        waiting = self._waiting.get(node_id)
        if waiting is not None and waiting.link is link:
            del self._waiting[node_id]
            waiting = None
        if self._up.get(node_id) is link:
            del self._up[node_id]
            self._totals.links_down += 1
            self._observer.event("peer_link_down", node=node_id, reason=link.close_reason)
            self._on_down(node_id)
            if waiting is not None and not waiting.link.is_closed:
                self._waiting.pop(node_id, None)
                waiting.link.admit()
        elif link.side is Side.ACCEPTOR and link.handshake.refusal is None:
            self._totals.handshakes_failed += 1
            self._observer.event(
                "peer_handshake_failed", address=link.address, reason=link.close_reason
            )
        if link.handshake.refusal is not None:
            self._report_refusal(link, link.handshake.refusal)

    def link_gone(self, link: PeerLink) -> None:
        """Forget a link whose connection is closed."""
        self._lingering.discard(link)
        if not self._lingering:
            self._all_gone.set()

    # ------------------------------------------------------------ inside

    def _report_refusal(self, link: PeerLink, refusal: Refusal) -> None:
        self._totals.links_refused += 1
        self._observer.event(
            "peer_link_refused",
            node=link.node_id,
            address=link.address,
            reason=link.close_reason,
            by_peer=refusal.by_peer,
            proven=refusal.proven,
        )
        if link.node_id:
            self._on_refused(link.node_id, refusal)

    def _make_link(self, target: NodeId | None) -> PeerLink:
        link = PeerLink(
            self,
            Handshake(self._local, secrets.token_bytes(NONCE_SIZE), target=target),
            self._timing,
            frame_bytes_max=self._limits.peer_frame_bytes_max,
            queue_bytes_max=self._limits.peer_queue_bytes_max,
        )
        self._open[link] = None
        return link

    def _make_accepted(self) -> PeerLink:
        """Make the link for a connection that was just accepted."""
        unproven = [link for link in self._open if _is_unproven(link)]
        if len(unproven) >= UNPROVEN_LINKS_MAX:
            unproven[0].close("too many connections without a handshake")
        return self._make_link(None)

    def _dial_members(self) -> None:
        """Have one dialer for each member that is this node's to dial."""
        for node_id, dialer in list(self._dialers.items()):
            member = self._members.get(node_id)
            if member is None or member.peer != dialer.address:
                dialer.stop()
                del self._dialers[node_id]
        for node_id, member in self._members.items():
            if node_id < self._local.node_id and node_id not in self._dialers:
                self._make_dialer(member)

    def _make_dialer(self, member: Member) -> None:
        self._dialers[member.id] = Dialer(
            member.peer,
            lambda: self._make_link(member.id),
            self._random,
            connect_timeout_s=self._timing.connect_timeout_s,
            tls=None if self._tls is None else self._tls.dialing,
        )

    def _knock(self) -> None:
        """Dial whoever should have dialed long ago."""
        for node_id, member in self._members.items():
            if node_id < self._local.node_id or node_id in self._dialers:
                continue
            missing = 0 if node_id in self._up else self._missing_ticks.get(node_id, 0) + 1
            self._missing_ticks[node_id] = missing
            if missing >= self._timing.knock_ticks:
                self._missing_ticks[node_id] = 0
                self._make_dialer(member)

    def _stop_knocking(self, node_id: NodeId) -> None:
        """The other side came: the dialer of this side is not needed any more."""
        dialer = self._dialers.pop(node_id, None)
        if dialer is not None and self._loop is not None:
            self._loop.call_soon(dialer.stop)

    def _close_soon(self, link: PeerLink, reason: str) -> None:
        """Close a link after the current call has returned to the event loop."""
        if self._loop is not None:
            self._loop.call_soon(link.close, reason)

    def _tick(self) -> None:
        """Let every link judge its peer's silence. Called by the event loop."""
        if not self._running or self._loop is None:
            return
        self._loop.call_later(self._timing.tick_s, self._tick)
        self._knock()
        for link in list(self._open):
            link.tick()
        for link in list(self._lingering):
            link.tick()
        for node_id, waiting in list(self._waiting.items()):
            waiting.ticks_left -= 1
            old = self._up.get(node_id)
            if waiting.ticks_left <= 0 and old is not None:
                # Its end lets the one that waits in, see `link_closed`.
                old.close("another process of this id came, and no answer to a probe")


def _is_unproven(link: PeerLink) -> bool:
    return link.side is Side.ACCEPTOR and link.handshake.peer is None

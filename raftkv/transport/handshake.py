"""How two nodes prove to each other who they are before a link carries anything.

Pure computation: bytes in, bytes out, no socket and no clock; randomness comes
in as arguments. Four frames, the dialer first:

    dialer -> acceptor  challenge   versions spoken, nonce
    acceptor -> dialer  challenge   versions spoken, nonce
    dialer -> acceptor  hello       who I am, whom I want, proof
    acceptor -> dialer  hello       who I am, proof     (or refused)

A proof is an HMAC-SHA256 under the cluster's peer secret over everything said
so far, both nonces and the sender's role. Invariants: nothing about the node
leaves before the acceptor has seen a proof, except to the address that the
node itself dialed; a replayed proof fails on the nonce, a reflected one on the
role; an unproven refusal is never marked as proven.

Who calls: `transport.link`. Layout: docs/reference/peer-protocol.md. Why this
shape: docs/adr/0012-peer-handshake.md.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from raftkv.engine.ready import PeerHello
from raftkv.framing import encode_frame
from raftkv.types import NodeId

# Kinds from 240 on are the link's own and never reach the replica.
KIND_CHALLENGE = 240
KIND_HELLO = 241
KIND_REFUSED = 242

PROTOCOL_VERSION_MIN = 1
PROTOCOL_VERSION_MAX = 2

NONCE_SIZE = 32
INCARNATION_SIZE = 16
PROOF_SIZE = 32
# Limit: the longest hello has 1096 bytes: 36, four names of 256 with their
# lengths, what version 2 adds, and the proof. The rest is room for a later version.
HANDSHAKE_BODY_BYTES_MAX = 2048

_PROTOCOL = b"raftkv-peer\0"
_CHALLENGE = struct.Struct("<12sHH32s")
_HELLO = struct.Struct("<HBxQQ16s")
# What a hello of version 2 adds behind the names.
_HELLO_2 = struct.Struct("<I")
_REFUSED = struct.Struct("<B3x32s")
_FLAG_FOUNDING = 1
_FLAG_ADMITTED = 2
_NO_PROOF = bytes(PROOF_SIZE)


class Side(enum.StrEnum):
    """Which end of the connection a node is."""

    DIALER = "dialer"
    ACCEPTOR = "acceptor"


class RefusalReason(enum.Enum):
    """Why a link was refused: the code on the wire and words for people."""

    VERSION = (1, "no common protocol version")
    MALFORMED = (2, "malformed handshake")
    WRONG_SECRET = (3, "wrong secret")
    OWN_ID = (4, "it has the id of the node it talks to")
    UNKNOWN_NODE = (5, "not a member of the cluster")
    OTHER_CLUSTER = (6, "other cluster")
    WRONG_TARGET = (7, "another node answers at this address")
    WRONG_DIRECTION = (8, "the node with the lower id must not dial")
    ALREADY_LINKED = (9, "another process with this id is linked")

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = text


_REASONS = {reason.code: reason for reason in RefusalReason}


class Refusal(NamedTuple):
    """One refused link.

    Attributes:
        reason: What was wrong.
        by_peer: The other side refused us; otherwise we refused it.
        proven: The other side had proven that it knows the secret. What an
            unproven one claims (its id, its refusal) is good for a log line
            only and must not stop a node.
    """

    reason: RefusalReason
    by_peer: bool
    proven: bool

    def __str__(self) -> str:
        return self.reason.text


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHello:
    """What this node says of itself; see `engine.ready.PeerHello`."""

    cluster_id: str
    disk_id: str
    term: int
    last_index: int
    founding: bool
    admitted: bool
    refusal_ms: int = 0


class PeerIdentity(NamedTuple):
    """What the other side said of itself, with its proof checked.

    Attributes:
        incarnation: Random, one for the life of a process.
    """

    node_id: NodeId
    cluster_id: str
    incarnation: bytes
    hello: PeerHello


class HandshakeState(enum.Enum):
    """Where a handshake is."""

    EXPECT_CHALLENGE = enum.auto()
    EXPECT_HELLO = enum.auto()
    # Acceptor only: the dialer is who it says; `admit` or `refuse` comes next.
    PROVEN = enum.auto()
    ESTABLISHED = enum.auto()
    REFUSED = enum.auto()


class LocalIdentity(NamedTuple):
    """What stays the same in all handshakes of one process.

    Attributes:
        secret: Shared by all members; empty where only loopback is used.
        incarnation: 16 random bytes, made when the process starts.
        hello: Asked at the last moment, so that term and index are fresh.
        is_member: Whether a node id may link with this node.
        is_news: Whether another one may after all, since it knows more than this
            node and may be a member that this node missed.
    """

    node_id: NodeId
    secret: bytes
    incarnation: bytes
    hello: Callable[[], LocalHello]
    is_member: Callable[[NodeId], bool]
    is_news: Callable[[PeerHello], bool] = lambda _hello: False


class Handshake:
    """One side of one handshake.

    Feed received frames to `receive` and send what it returns; stop when
    `state` is ESTABLISHED or REFUSED. Any frame that does not belong here
    refuses the link.

    Attributes:
        state: Where the handshake is.
        claimed_id: The other side's id: for a dialer the node it wants, for an
            acceptor what an unproven hello says; empty before.
        peer: Set once the other side's proof is checked.
        refusal: Set when `state` is REFUSED.
    """

    def __init__(
        self,
        local: LocalIdentity,
        nonce: bytes,
        *,
        target: NodeId | None,
        version_max: int = PROTOCOL_VERSION_MAX,
    ) -> None:
        """Prepare one side.

        Args:
            local: Who this node is.
            nonce: 32 bytes nobody can predict, never used before.
            target: The node to reach, for a dialer; None makes an acceptor.
            version_max: Highest version to speak, at most that of this module.
        """
        self.state = HandshakeState.EXPECT_CHALLENGE
        self.side = Side.ACCEPTOR if target is None else Side.DIALER
        self.claimed_id = NodeId("") if target is None else target
        self.peer: PeerIdentity | None = None
        self.refusal: Refusal | None = None
        self._local = local
        self._target = target
        self._challenge = _CHALLENGE.pack(_PROTOCOL, PROTOCOL_VERSION_MIN, version_max, nonce)
        self._version_max = version_max
        self._version = 0
        # Invariant: always made of whole SHA-256 digests, so that no two
        # different conversations have the same transcript.
        self._transcript = b""

    def start(self) -> bytes:
        """Return what this side says before it has heard anything."""
        return self._challenge_frame() if self.side is Side.DIALER else b""

    def receive(self, kind: int, body: bytes) -> bytes:
        """Take one frame and return the frames to answer with, perhaps none."""
        if kind == KIND_REFUSED:
            return self._receive_refused(body)
        if kind == KIND_CHALLENGE and self.state is HandshakeState.EXPECT_CHALLENGE:
            return self._receive_challenge(body)
        if kind == KIND_HELLO and self.state is HandshakeState.EXPECT_HELLO:
            return self._receive_hello(body)
        return self.refuse(RefusalReason.MALFORMED)

    def admit(self) -> bytes:
        """Accept a proven dialer; the link carries frames from then on."""
        assert self.state is HandshakeState.PROVEN
        self.state = HandshakeState.ESTABLISHED
        return self._hello_frame(self.claimed_id)

    def refuse(self, reason: RefusalReason) -> bytes:
        """End the handshake from this side and return the frame that says why."""
        proven = self.peer is not None
        self.state = HandshakeState.REFUSED
        self.refusal = Refusal(reason, by_peer=False, proven=proven)
        # Why not always a proof: an unproven peer would get HMACs of this
        # secret for the asking.
        proof = self._refusal_proof(self.side, reason.code) if proven else _NO_PROOF
        return encode_frame(KIND_REFUSED, _REFUSED.pack(reason.code, proof))

    # ------------------------------------------------------------ receiving

    def _receive_challenge(self, body: bytes) -> bytes:
        if len(body) != _CHALLENGE.size:
            return self.refuse(RefusalReason.MALFORMED)
        protocol, version_min, version_max, _nonce = _CHALLENGE.unpack(body)
        if protocol != _PROTOCOL:
            return self.refuse(RefusalReason.MALFORMED)
        version = min(version_max, self._version_max)
        if version < max(version_min, PROTOCOL_VERSION_MIN):
            return self.refuse(RefusalReason.VERSION)
        self._version = version
        self.state = HandshakeState.EXPECT_HELLO
        if self.side is Side.DIALER:
            self._transcript = _digest(self._challenge) + _digest(body)
            return self._hello_frame(self.claimed_id)
        self._transcript = _digest(body) + _digest(self._challenge)
        return self._challenge_frame()

    def _receive_hello(self, body: bytes) -> bytes:
        said, proof = body[:-PROOF_SIZE], body[-PROOF_SIZE:]
        hello = _decode_hello(said)
        if self.side is Side.ACCEPTOR and hello is not None:
            self.claimed_id = hello.identity.node_id
        other = Side.DIALER if self.side is Side.ACCEPTOR else Side.ACCEPTOR
        if not hmac.compare_digest(proof, self._proof(other, said)):
            return self.refuse(RefusalReason.WRONG_SECRET)
        if hello is None or hello.version != self._version:
            return self.refuse(RefusalReason.MALFORMED)
        self._transcript += _digest(body)
        self.peer = hello.identity
        reason = self._objection(hello)
        if reason is not None:
            return self.refuse(reason)
        if self.side is Side.DIALER:
            self.state = HandshakeState.ESTABLISHED
        else:
            self.state = HandshakeState.PROVEN
        return b""

    def _objection(self, hello: _Hello) -> RefusalReason | None:
        """Why a node that knows the secret is still not the one to link with."""
        node_id = hello.identity.node_id
        own_id = self._local.node_id
        if node_id == own_id:
            return RefusalReason.OWN_ID
        if hello.target != own_id or (self._target is not None and node_id != self._target):
            return RefusalReason.WRONG_TARGET
        own_cluster_id = self._local.hello().cluster_id
        theirs = hello.identity.cluster_id
        if own_cluster_id and theirs and own_cluster_id != theirs:
            return RefusalReason.OTHER_CLUSTER
        if not self._local.is_member(node_id):
            # One that is news may dial in either direction: its address is not
            # known here.
            known_better = self._local.is_news(hello.identity.hello)
            return None if known_better else RefusalReason.UNKNOWN_NODE
        if self.side is Side.ACCEPTOR and node_id < own_id:
            return RefusalReason.WRONG_DIRECTION
        return None

    def _receive_refused(self, body: bytes) -> bytes:
        reason = RefusalReason.MALFORMED
        proven = False
        if len(body) == _REFUSED.size:
            code, proof = _REFUSED.unpack(body)
            reason = _REASONS.get(code, RefusalReason.MALFORMED)
            other = Side.DIALER if self.side is Side.ACCEPTOR else Side.ACCEPTOR
            # A transcript without hellos would let an old proof stand for a new one.
            proven = len(self._transcript) > 2 * hashlib.sha256().digest_size and (
                hmac.compare_digest(proof, self._refusal_proof(other, code))
            )
        self.state = HandshakeState.REFUSED
        self.refusal = Refusal(reason, by_peer=True, proven=proven)
        return b""

    # ------------------------------------------------------------ sending

    def _challenge_frame(self) -> bytes:
        return encode_frame(KIND_CHALLENGE, self._challenge)

    def _hello_frame(self, target: NodeId) -> bytes:
        local = self._local
        said = _encode_hello(self._version, local.node_id, target, local.incarnation, local.hello())
        body = said + self._proof(self.side, said)
        self._transcript += _digest(body)
        return encode_frame(KIND_HELLO, body)

    def _proof(self, side: Side, said: bytes) -> bytes:
        return self._mac(b"hello " + side.encode(), _digest(said))

    def _refusal_proof(self, side: Side, code: int) -> bytes:
        return self._mac(b"refusal " + side.encode(), bytes((code,)))

    def _mac(self, label: bytes, end: bytes) -> bytes:
        text = b"".join((_PROTOCOL, label, b"\0", self._transcript, end))
        return hmac.digest(self._local.secret, text, "sha256")


# ---------------------------------------------------------------- encoding


class _Hello(NamedTuple):
    """A decoded hello whose proof is not looked at here."""

    version: int
    target: NodeId
    identity: PeerIdentity


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _encode_hello(
    version: int, node_id: NodeId, target: NodeId, incarnation: bytes, local: LocalHello
) -> bytes:
    flags = _FLAG_FOUNDING * local.founding | _FLAG_ADMITTED * local.admitted
    parts = [_HELLO.pack(version, flags, local.term, local.last_index, incarnation)]
    for name in (node_id, target, local.cluster_id, local.disk_id):
        encoded = name.encode()
        parts.append(bytes((len(encoded),)) + encoded)
    if version >= 2:
        parts.append(_HELLO_2.pack(local.refusal_ms))
    return b"".join(parts)


def claimed_sender(body: bytes) -> NodeId | None:
    """Return who sent a hello, as it says without proof; None where it is not well formed."""
    hello = _decode_hello(body[:-PROOF_SIZE])
    return None if hello is None else hello.identity.node_id


def _decode_hello(said: bytes) -> _Hello | None:
    """Return what a hello says, or None where it is not well formed."""
    if len(said) < _HELLO.size:
        return None
    version, flags, term, last_index, incarnation = _HELLO.unpack_from(said)
    names: list[str] = []
    position = _HELLO.size
    for _ in range(4):
        if position >= len(said):
            return None
        end = position + 1 + said[position]
        try:
            name = said[position + 1 : end].decode()
        except UnicodeDecodeError:
            return None
        if end > len(said) or not (name.isprintable()):
            return None
        names.append(name)
        position = end
    node_id, target, cluster_id, disk_id = names
    refusal_ms = 0
    if version >= 2:
        if len(said) - position != _HELLO_2.size:
            return None
        (refusal_ms,) = _HELLO_2.unpack_from(said, position)
        position = len(said)
    if position != len(said) or not node_id:
        return None
    hello = PeerHello(
        disk_id=disk_id,
        term=term,
        last_index=last_index,
        founding=bool(flags & _FLAG_FOUNDING),
        admitted=bool(flags & _FLAG_ADMITTED),
        refusal_ms=refusal_ms,
    )
    identity = PeerIdentity(NodeId(node_id), cluster_id, incarnation, hello)
    return _Hello(version, NodeId(target), identity)

"""Fuzz targets for what arrives on sockets: clients, links, consensus, forwards."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import msgspec

from raftkv.client.policy import Route
from raftkv.client.watching import Watching
from raftkv.engine import messages
from raftkv.errors import ProtocolError, RequestError
from raftkv.framing import HEADER_SIZE, encode_frame
from raftkv.replica import agreement, transfer
from raftkv.resp.parser import LINE_BYTES_MAX, RequestParser
from raftkv.seams import PEER_PUBLISH
from raftkv.server.forwarding import PEER_FORWARD, PEER_FORWARD_REPLY
from raftkv.transport.frames import FrameDecoder
from raftkv.transport.handshake import (
    HANDSHAKE_BODY_BYTES_MAX,
    KIND_CHALLENGE,
    KIND_HELLO,
    PROOF_SIZE,
    Handshake,
    HandshakeState,
    LocalHello,
    LocalIdentity,
    Side,
)
from raftkv.types import NodeId
from tests.fuzz.target import Script, Target, chunks, signed, some
from tests.unit.server.harness import Cluster, encode

# ------------------------------------------------------------------------ RESP

REQUEST_BYTES_MAX = 1000
ARGUMENTS_MAX = 100
# Where hiredis sees them, other types of strings and arrays are taken for words.
_LENIENT = set(b"+=(~>|")


def _parse(data: bytes, size: int) -> tuple[list[list[bytes]], str | None]:
    parser = RequestParser(request_bytes_max=REQUEST_BYTES_MAX, request_arguments_max=ARGUMENTS_MAX)
    requests: list[list[bytes]] = []
    for chunk in chunks(data, size):
        was_refused = parser.error is not None
        found = parser.parse(chunk)
        assert not (was_refused and found), "requests behind an error"
        requests += found
    return requests, parser.error


def run_requests(data: bytes) -> None:
    """Any bytes of a client, whole and in pieces: the same requests, within the limits."""
    size, text = (data[0], data[1:]) if data else (0, b"")
    requests, error = _parse(text, size)
    for request in requests:
        assert request
        assert len(request) <= max(ARGUMENTS_MAX, LINE_BYTES_MAX // 2)
        assert all(type(word) is bytes for word in request)
        assert sum(map(len, request)) <= max(REQUEST_BYTES_MAX, LINE_BYTES_MAX)
    assert error is None or error.startswith("Protocol error: ")
    if not _LENIENT & set(text):
        assert _parse(text, 1) == (requests, error)
        assert _parse(text, 0) == (requests, error)
    # What was accepted is accepted again, in the form that clients send.
    written = [one for one in requests if len(one) <= ARGUMENTS_MAX]
    written = [one for one in written if sum(map(len, one)) <= REQUEST_BYTES_MAX]
    assert _parse(b"".join(encode(*one) for one in written), size) == (written, None)


def request_seeds() -> list[bytes]:
    get = encode("GET", "k")
    texts = [
        get * 3,
        encode("SET", b"\r\n$3\r\n*2\r\n", bytes(range(256))),
        b"PING\r\n" + get + b"SET 'a b' \"c\\x41\\n\"\r\n",
        b"*0\r\n*-1\r\n" + get,
        b"*2\r\n$3\r\nGET\r\n$99999999999\r\n",
        b"*1\r\n" * 20,
        b"*3\r\n$3\r\nSET\r\n$600\r\n" + b"x" * 600 + b"\r\n$600\r\n",
    ]
    return [bytes((size,)) + text for text in texts for size in (0, 1, 7)]


# ---------------------------------------------------------------------- frames

BODY_BYTES_MAX = 4096


def run_frames(data: bytes) -> None:
    """Any stream of a peer: only whole, verified frames come out, and little is kept."""
    script = Script(data)
    size, flags = script.number(), script.number()
    stream = script.rest()
    if flags & 1:
        stream = signed(stream)
    decoder = FrameDecoder(BODY_BYTES_MAX)
    frames: list[tuple[int, bytes]] = []
    for chunk in chunks(stream, size):
        was_broken = bool(decoder.broken)
        found = decoder.feed(chunk)
        assert not (was_broken and found), "frames behind a broken one"
        frames += found
        assert decoder.held_bytes <= min(len(stream), HEADER_SIZE + BODY_BYTES_MAX)
    assert all(len(body) <= BODY_BYTES_MAX for _, body in frames)
    again = b"".join(encode_frame(kind, body) for kind, body in frames)
    assert stream.startswith(again)
    assert FrameDecoder(BODY_BYTES_MAX).feed(again) == frames


def frame_seeds() -> list[bytes]:
    stream = encode_frame(1, b"abc") + encode_frame(16, b"") + encode_frame(245, b"x" * 300)
    return [bytes((size, flags)) + stream for size in (0, 1, 100) for flags in (0, 1)]


# ------------------------------------------------------------------- consensus


def run_raft_message(data: bytes) -> None:
    """Any body of a Raft frame is refused, or a message that comes back."""
    with contextlib.suppress(ProtocolError):
        message = messages.decode(data)
        assert messages.decode(messages.encode(message)) == message


def raft_messages() -> list[messages.Message]:
    """Return one message of each type."""
    return [
        messages.Append(3, 9, 4, 5, 2, True, [(2, b"\x00abc"), (3, b"\x01")]),
        messages.Heartbeat(3, 9),
        messages.AppendReply(3, 9, False, 7, True),
        messages.RoundReply(3, 9),
        messages.VoteRequest(4, 7, 3, True, True),
        messages.VoteReply(4, True, False, 1 << 41),
        messages.TimeoutNow(4),
        messages.ReadIndexRequest(4, 12),
        messages.ReadIndexReply(4, 12, 7),
        messages.Freshness(4, 9, 7),
    ]


def raft_message_seeds() -> list[bytes]:
    return [messages.encode(message) for message in raft_messages()]


def run_snapshot_message(data: bytes) -> None:
    """Any body of a snapshot frame is refused, or a message that comes back."""
    with contextlib.suppress(ProtocolError):
        message = transfer.decode(data)
        assert message.term >= 0
        assert message.offset >= 0
        assert transfer.decode(msgspec.msgpack.encode(message)) == message


def snapshot_message_seeds() -> list[bytes]:
    return [
        msgspec.msgpack.encode(transfer.SnapshotChunk(3, "c" * 32, 1000, 10, b"data")),
        msgspec.msgpack.encode(transfer.SnapshotAnswer(3, "c" * 32, 1000)),
    ]


def run_state_report(data: bytes) -> None:
    """Any body of a state report is refused, or a report that comes back."""
    with contextlib.suppress(ProtocolError):
        report = agreement.decode(data)
        assert len(report.state_hash) == (16 if report.index else 0)
        assert len(report.image_hash) == (16 if report.image_index else 0)
        assert agreement.decode(msgspec.msgpack.encode(report)) == report


def state_report_seeds() -> list[bytes]:
    return [
        msgspec.msgpack.encode(
            agreement.StateReport(9, 7, b"s" * 16, 5, b"i" * 16, 1, True, False)
        ),
        msgspec.msgpack.encode(agreement.StateReport(0, 0, b"", 0, b"", 1, False, True)),
    ]


# ------------------------------------------------------------------- handshake

_SECRET = b"0123456789abcdef0123456789abcdef"
_HELLO = LocalHello(
    cluster_id="c" * 32, disk_id="d" * 32, term=7, last_index=9, founding=False, admitted=True
)
_PROVEN = 255  # in place of a kind: a hello with a proof that fits
_CHALLENGED = 254  # a challenge of the other side, as it should be
_NONCE = bytes(32)


def _local(name: str) -> LocalIdentity:
    return LocalIdentity(
        node_id=NodeId(name),
        secret=_SECRET,
        incarnation=name.encode() * 8,
        hello=lambda: _HELLO,
        is_member=lambda peer: peer in ("n1", "n2", "n3"),
    )


def _challenge() -> bytes:
    opening = Handshake(_local("n3"), b"\x01" * 32, target=NodeId("n2")).start()
    ((_, body),) = FrameDecoder(HANDSHAKE_BODY_BYTES_MAX).feed(opening)
    return body


def run_handshake(data: bytes) -> None:
    """Any frames before a link is up: nobody gets in without a proof, and no exception."""
    script = Script(data)
    target = NodeId("n1") if script.number() & 1 else None
    subject = Handshake(_local("n2"), _NONCE, target=target)
    other = Side.DIALER if target is None else Side.ACCEPTOR
    answers = subject.start()
    has_proven = False
    while script and subject.state is not HandshakeState.REFUSED:
        kind, body = script.number(), script.some()
        if kind == _PROVEN:
            has_proven = True
            kind, body = KIND_HELLO, body + subject._proof(other, body)
        elif kind == _CHALLENGED:
            kind, body = KIND_CHALLENGE, _challenge()
        answers += subject.receive(kind, body)
        if subject.state in (HandshakeState.PROVEN, HandshakeState.ESTABLISHED):
            break
    decoder = FrameDecoder(HANDSHAKE_BODY_BYTES_MAX)
    decoder.feed(answers)
    assert not decoder.broken
    assert decoder.held_bytes == 0
    if subject.state is HandshakeState.REFUSED:
        assert subject.refusal is not None
        assert has_proven or not subject.refusal.proven
        return
    if subject.peer is not None:
        assert has_proven
        assert subject.peer.node_id in ("n1", "n3")
        assert target in (None, subject.peer.node_id)


def handshake_seeds() -> list[bytes]:
    def names(*values: bytes) -> bytes:
        return b"".join(bytes((len(value),)) + value for value in values)

    fixed = struct.pack("<HBxQQ16s", 1, 2, 7, 9, bytes(16))
    said = fixed + names(b"n3", b"n2", b"c" * 32, b"d" * 32)
    answer = fixed + names(b"n1", b"n2", b"c" * 32, b"d" * 32)
    challenged = bytes((_CHALLENGED,)) + some(b"")
    return [
        b"\0" + challenged + bytes((_PROVEN,)) + some(said),
        b"\1" + challenged + bytes((_PROVEN,)) + some(answer),
        b"\0" + challenged + bytes((KIND_HELLO,)) + some(said + bytes(PROOF_SIZE)),
        b"\0" + bytes((KIND_CHALLENGE,)) + some(_challenge()),
    ]


# -------------------------------------------------------------------- forwards

_FORWARD = struct.Struct("<BBxxQ")
_REPLY = struct.Struct("<BBBxQ")
_N1, _N2 = NodeId("n1"), NodeId("n2")


def run_forwards(data: bytes) -> None:
    """Any forward and any reply to one: dropped by name, or answered in whole frames."""
    script = Script(data)
    cluster = Cluster(on_follower="proxy")
    client = cluster["n2"].client()
    cluster["n2"].network.is_holding = True
    client.send("INCR n")
    cluster["n1"].network.is_holding = True
    while script:
        if script.number() & 1:
            cluster["n2"].listener.received(_N1, PEER_FORWARD_REPLY, script.some())
        else:
            cluster["n1"].listener.received(_N2, PEER_FORWARD, script.some())
            cluster.turn()
    for node, kind, body in cluster["n1"].network.frames:
        assert (node, kind) == (_N2, PEER_FORWARD_REPLY)
        assert body[0] == 1
        assert len(body) >= _REPLY.size
    # Whatever came, the client's request is still answered once or pending.
    forwarder: Any = cluster["n2"].listener.service.forwarder
    assert all(size >= 0 for size in forwarder.pending_bytes.values())
    assert (sum(forwarder.pending_bytes.values()) > 0) == bool(forwarder._forwards)


def forward_seeds() -> list[bytes]:
    requests = encode("SET", "a", "1") + encode("GET", "a") + encode("KEYS", "*")
    first = b"\1" + some(_REPLY.pack(1, 0, 1, 1) + b":1")
    return [
        b"\0" + some(_FORWARD.pack(1, 2, 7) + requests),
        b"\0" + some(_FORWARD.pack(1, 3, 7) + encode("CLIENT", "ID") + b"PING\r\n"),
        first + b"\1" + some(_REPLY.pack(1, 0, 0, 1) + b"\r\n"),
        b"\1" + some(_REPLY.pack(1, 1, 0, 1)),
        b"\1" + some(_REPLY.pack(1, 2, 0, 1) + b"-UNKNOWN x\r\n"),
        b"\1" + some(_REPLY.pack(1, 3, 0, 1)),
    ]


# --------------------------------------------------------------------- messages

_MESSAGE = struct.Struct("<BxxxII")


def run_published(data: bytes) -> None:
    """Any frame of published messages: dropped whole and reported, or heard in whole messages."""
    node = Cluster()["n1"]
    client = node.client()
    client.send(encode("PSUBSCRIBE", "*") + encode("SSUBSCRIBE", "s"))
    client.replies()
    node.listener.received(_N2, PEER_PUBLISH, data)
    node.service.turn_ended()
    heard = client.replies()
    is_reported = bool(node.observer.events)
    assert not (heard and is_reported)
    assert all(message[0] in (b"pmessage", b"smessage") for message in heard)
    assert sum(len(message[-1]) for message in heard) <= len(data)


def published_seeds() -> list[bytes]:
    head = b"\1\0\0\0"
    return [
        head + _MESSAGE.pack(0, 1, 2) + b"abc" + _MESSAGE.pack(1, 1, 0) + b"s",
        head,
        head + _MESSAGE.pack(0, 1, 2**32 - 1) + b"ab",
    ]


# ---------------------------------------------------------------------- watches


def run_watch_replies(data: bytes) -> None:
    """Whatever a node says to a watch: changes in order, or the node is left; nothing else."""
    script = Script(data)
    core: Watching[bytes] = Watching(
        Route(("a:1", "b:2")), key=None, prefix=b"", from_revision=None, prev=False,
        decode=False, reach_s_max=1e9, chance=lambda: 0.5,
    )  # fmt: skip
    core.begin(0.0)
    last = 0
    while script:
        core.choose()
        core.connected(0.0)
        core.received(script.some(), 0.0)
        with contextlib.suppress(RequestError):
            while (change := core.take()) is not None:
                assert change.revision > last
                last = change.revision
        core.due(10.0)
        core.failed(ConnectionError(), 0.0)


def watch_reply_seeds() -> list[bytes]:
    accepted = b"%1\r\n+a\r\n:3\r\n*0\r\n%2\r\n$5\r\nwatch\r\n:1\r\n$8\r\nrevision\r\n:4\r\n"
    head = b">5\r\n$8\r\nkv-watch\r\n:1\r\n$6\r\nevents\r\n:5\r\n*1\r\n"
    event = b"*8\r\n$3\r\nput\r\n$1\r\nk\r\n$6\r\nstring\r\n$1\r\nv\r\n:0\r\n:1\r\n:2\r\n_\r\n"
    progress = b">4\r\n$8\r\nkv-watch\r\n:1\r\n$8\r\nprogress\r\n:9\r\n"
    refused = b"-ERR revision 3 is compacted; the oldest available is 4\r\n"
    compacted = b">5\r\n$8\r\nkv-watch\r\n:1\r\n$9\r\ncompacted\r\n:9\r\n:4\r\n"
    return [
        some(accepted + head + event + progress),
        some(accepted + compacted),
        some(accepted + head + event) + some(accepted + head + event),
        some(b"%1\r\n+a\r\n:3\r\n*0\r\n" + refused),
    ]


TARGETS = {
    "requests": Target(run_requests, request_seeds),
    "frames": Target(run_frames, frame_seeds),
    "raft-message": Target(run_raft_message, raft_message_seeds),
    "snapshot-message": Target(run_snapshot_message, snapshot_message_seeds),
    "state-report": Target(run_state_report, state_report_seeds),
    "handshake": Target(run_handshake, handshake_seeds),
    "forwards": Target(run_forwards, forward_seeds),
    "published": Target(run_published, published_seeds),
    "watch-replies": Target(run_watch_replies, watch_reply_seeds),
}

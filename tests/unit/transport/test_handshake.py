"""The handshake, both sides in memory: every refusal, and every way to cheat."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.framing import encode_frame
from raftkv.transport.frames import FrameDecoder
from raftkv.transport.handshake import (
    HANDSHAKE_BODY_BYTES_MAX,
    KIND_CHALLENGE,
    KIND_HELLO,
    KIND_REFUSED,
    PROOF_SIZE,
    PROTOCOL_VERSION_MAX,
    PROTOCOL_VERSION_MIN,
    Handshake,
    HandshakeState,
    LocalHello,
    LocalIdentity,
    RefusalReason,
    Side,
)
from raftkv.types import NodeId

ROOT = Path(__file__).resolve().parents[3]
SECRET = b"0123456789abcdef0123456789abcdef"
CLUSTER = "c" * 32
HELLO = LocalHello(
    cluster_id=CLUSTER, disk_id="d" * 32, term=7, last_index=1 << 40, founding=False, admitted=True
)
HELLO_2 = dataclasses.replace(HELLO, refusal_ms=300)
DIALER_NONCE = b"\x01" * 32
ACCEPTOR_NONCE = b"\x02" * 32


def identity(
    node_id: str,
    *,
    secret: bytes = SECRET,
    members: str = "n1 n2 n3",
    hello: LocalHello = HELLO,
    incarnation: bytes | None = None,
) -> LocalIdentity:
    return LocalIdentity(
        node_id=NodeId(node_id),
        secret=secret,
        incarnation=incarnation or hashlib.sha256(node_id.encode()).digest()[:16],
        hello=lambda: hello,
        is_member=lambda peer: peer in members.split(),
    )


def dialer(
    local: LocalIdentity | None = None, *, target: str = "n1", version: int = PROTOCOL_VERSION_MAX
) -> Handshake:
    return Handshake(
        local or identity("n2"), DIALER_NONCE, target=NodeId(target), version_max=version
    )


def acceptor(
    local: LocalIdentity | None = None,
    *,
    nonce: bytes = ACCEPTOR_NONCE,
    version: int = PROTOCOL_VERSION_MAX,
) -> Handshake:
    return Handshake(local or identity("n1"), nonce, target=None, version_max=version)


def split(data: bytes) -> list[tuple[int, bytes]]:
    decoder = FrameDecoder(HANDSHAKE_BODY_BYTES_MAX)
    frames = decoder.feed(data)
    assert not decoder.broken
    assert decoder.held_bytes == 0
    return frames


class Conversation:
    """Carries frames to and fro until nobody has anything to say.

    `tamper` may change one frame on its way: it gets its number and the frame.
    """

    def __init__(self, dialing: Handshake, accepting: Handshake, tamper=None) -> None:
        self.frames: list[tuple[Side, int, bytes]] = []
        waiting = [(Side.DIALER, frame) for frame in split(dialing.start())]
        while waiting:
            sender, (kind, body) = waiting.pop(0)
            if tamper is not None:
                kind, body = tamper(len(self.frames), kind, body)
            self.frames.append((sender, kind, body))
            receiver = accepting if sender is Side.DIALER else dialing
            if receiver.state is HandshakeState.REFUSED:
                continue
            answer = receiver.receive(kind, body)
            if receiver.state is HandshakeState.PROVEN:
                answer = receiver.admit()
            waiting += [(receiver.side, frame) for frame in split(answer)]


def test_two_members_establish_a_link() -> None:
    dialing, accepting = dialer(), acceptor()
    conversation = Conversation(dialing, accepting)
    assert [kind for _, kind, _ in conversation.frames] == [
        KIND_CHALLENGE,
        KIND_CHALLENGE,
        KIND_HELLO,
        KIND_HELLO,
    ]
    assert dialing.state is accepting.state is HandshakeState.ESTABLISHED
    assert dialing.peer is not None
    assert accepting.peer is not None
    assert (dialing.peer.node_id, accepting.peer.node_id) == ("n1", "n2")
    for peer in (dialing.peer, accepting.peer):
        assert peer.cluster_id == CLUSTER
        assert peer.hello._asdict() == {
            name: value for name, value in dataclasses.asdict(HELLO).items() if name != "cluster_id"
        }
    assert dialing.peer.incarnation == identity("n1").incarnation


@pytest.mark.parametrize("founding", [False, True])
@pytest.mark.parametrize("admitted", [False, True])
def test_flags_arrive(founding: bool, admitted: bool) -> None:
    hello = dataclasses.replace(HELLO, founding=founding, admitted=admitted)
    accepting = acceptor()
    Conversation(dialer(identity("n2", hello=hello)), accepting)
    assert accepting.peer is not None
    assert accepting.peer.hello.founding is founding
    assert accepting.peer.hello.admitted is admitted


@pytest.mark.parametrize(
    ("ours", "theirs", "accepted"),
    [
        ("", "", True),
        ("", CLUSTER, True),
        (CLUSTER, "", True),
        (CLUSTER, CLUSTER, True),
        (CLUSTER, "e" * 32, False),
    ],
)
def test_cluster_ids_differ_only_where_both_are_known(
    ours: str, theirs: str, accepted: bool
) -> None:
    accepting = acceptor(identity("n1", hello=dataclasses.replace(HELLO, cluster_id=ours)))
    Conversation(
        dialer(identity("n2", hello=dataclasses.replace(HELLO, cluster_id=theirs))), accepting
    )
    assert (accepting.state is HandshakeState.ESTABLISHED) is accepted


OTHER_CLUSTER = dataclasses.replace(HELLO, cluster_id="e" * 32)


@pytest.mark.parametrize(
    ("dialing", "accepting", "reason", "proven"),
    [
        (dialer(identity("n2", secret=b"x" * 32)), acceptor(), RefusalReason.WRONG_SECRET, False),
        (dialer(identity("n2", secret=b"")), acceptor(), RefusalReason.WRONG_SECRET, False),
        (dialer(identity("n9")), acceptor(), RefusalReason.UNKNOWN_NODE, True),
        (dialer(identity("n1")), acceptor(), RefusalReason.OWN_ID, True),
        (dialer(target="n3"), acceptor(), RefusalReason.WRONG_TARGET, True),
        (
            dialer(identity("n2", hello=OTHER_CLUSTER)),
            acceptor(),
            RefusalReason.OTHER_CLUSTER,
            True,
        ),
        (dialer(target="n3"), acceptor(identity("n3")), RefusalReason.WRONG_DIRECTION, True),
    ],
    ids=lambda value: value.name if isinstance(value, RefusalReason) else "",
)
def test_refusals(
    dialing: Handshake, accepting: Handshake, reason: RefusalReason, proven: bool
) -> None:
    """Both sides end with the same reason, and know how far to trust it."""
    conversation = Conversation(dialing, accepting)
    assert accepting.state is dialing.state is HandshakeState.REFUSED
    assert accepting.refusal is not None
    assert dialing.refusal is not None
    assert accepting.refusal.reason is dialing.refusal.reason is reason
    assert (accepting.refusal.by_peer, dialing.refusal.by_peer) == (False, True)
    assert accepting.refusal.proven is dialing.refusal.proven is proven
    assert str(dialing.refusal) == reason.text
    assert (accepting.peer is not None) is proven
    _, kind, body = conversation.frames[-1]
    assert kind == KIND_REFUSED
    if not proven:
        # Whoever does not know the secret gets no HMAC made with it.
        assert body[-PROOF_SIZE:] == bytes(PROOF_SIZE)


def test_a_place_that_is_taken_is_refused_with_proof() -> None:
    dialing, accepting = dialer(), acceptor()
    hello = split(dialing.receive(*split(accepting.receive(*split(dialing.start())[0]))[0]))[0]
    accepting.receive(*hello)
    assert accepting.state is HandshakeState.PROVEN
    dialing.receive(*split(accepting.refuse(RefusalReason.ALREADY_LINKED))[0])
    assert dialing.refusal is not None
    assert dialing.refusal.reason is RefusalReason.ALREADY_LINKED
    assert dialing.refusal.proven


def test_codes_of_reasons_never_change() -> None:
    assert {reason.name: reason.code for reason in RefusalReason} == {
        "VERSION": 1,
        "MALFORMED": 2,
        "WRONG_SECRET": 3,
        "OWN_ID": 4,
        "UNKNOWN_NODE": 5,
        "OTHER_CLUSTER": 6,
        "WRONG_TARGET": 7,
        "WRONG_DIRECTION": 8,
        "ALREADY_LINKED": 9,
    }


def test_nothing_about_the_acceptor_leaves_before_a_proof() -> None:
    accepting = acceptor()
    said = accepting.receive(*split(dialer().start())[0])
    for word in (b"n1", CLUSTER.encode(), HELLO.disk_id.encode(), SECRET):
        assert word not in said


def test_the_hello_is_made_at_the_last_moment() -> None:
    terms = iter(range(100, 200))
    local = LocalIdentity(
        node_id=NodeId("n2"),
        secret=SECRET,
        incarnation=bytes(16),
        hello=lambda: dataclasses.replace(HELLO, term=next(terms)),
        is_member=lambda peer: True,
    )
    dialing, accepting = dialer(local), acceptor()
    answer = accepting.receive(*split(dialing.start())[0])
    next(terms)
    accepting.receive(*split(dialing.receive(*split(answer)[0]))[0])
    assert accepting.peer is not None
    assert accepting.peer.hello.term == 101


# ---------------------------------------------------------------- cheating


def recorded() -> list[tuple[Side, int, bytes]]:
    return Conversation(dialer(), acceptor()).frames


def test_a_replayed_dialer_fails_on_the_nonce() -> None:
    said = [(kind, body) for side, kind, body in recorded() if side is Side.DIALER]
    fresh = acceptor(nonce=b"\x03" * 32)
    for kind, body in said:
        fresh.receive(kind, body)
    assert fresh.refusal is not None
    assert fresh.refusal.reason is RefusalReason.WRONG_SECRET
    # The same words under the same nonce do pass: it is the nonce that decides.
    careless = acceptor()
    for kind, body in said:
        careless.receive(kind, body)
    assert careless.state is HandshakeState.PROVEN


def test_a_replayed_acceptor_fails_on_the_nonce() -> None:
    said = [(kind, body) for side, kind, body in recorded() if side is Side.ACCEPTOR]
    fresh = Handshake(identity("n2"), b"\x04" * 32, target=NodeId("n1"))
    fresh.start()
    for kind, body in said:
        fresh.receive(kind, body)
    assert fresh.refusal is not None
    assert fresh.refusal.reason is RefusalReason.WRONG_SECRET


def test_a_dialers_own_words_do_not_answer_it() -> None:
    dialing = dialer()
    hello = dialing.receive(*split(dialing.start())[0])
    dialing.receive(*split(hello)[0])
    assert dialing.refusal is not None
    assert dialing.refusal.reason is RefusalReason.WRONG_SECRET
    assert dialing.peer is None


def test_an_acceptors_words_to_one_do_not_admit_another() -> None:
    """A node that accepts n3 does not thereby make a proof that n3 can use elsewhere."""
    first = Conversation(dialer(identity("n3")), acceptor())
    _, kind, body = first.frames[-1]
    accepting = acceptor(identity("n0", members="n0 n1"))
    accepting.receive(*split(dialer().start())[0])
    accepting.receive(kind, body)
    assert accepting.refusal is not None
    assert accepting.refusal.reason is RefusalReason.WRONG_SECRET


def test_every_damaged_byte_ends_the_handshake() -> None:
    """Also one that only tells the other side of newer versions (a downgrade)."""
    for number, (_, _, body) in enumerate(recorded()):
        for position in range(len(body)):

            def tamper(
                at: int, kind: int, body: bytes, number: int = number, position: int = position
            ) -> tuple[int, bytes]:
                if at == number:
                    changed = bytearray(body)
                    changed[position] ^= 1
                    body = bytes(changed)
                return kind, body

            dialing, accepting = dialer(), acceptor()
            Conversation(dialing, accepting, tamper)
            assert dialing.state is HandshakeState.REFUSED, (number, position)
            if number < 3:
                assert accepting.peer is None, (number, position)


@pytest.mark.parametrize("number", range(4))
def test_every_truncation_and_one_byte_more_end_the_handshake(number: int) -> None:
    size = len(recorded()[number][2])
    for length in [*range(size), size + 1]:

        def tamper(at: int, kind: int, body: bytes, length: int = length) -> tuple[int, bytes]:
            return kind, (body + b"\0")[:length] if at == number else body

        dialing = dialer()
        Conversation(dialing, acceptor(), tamper)
        assert dialing.state is HandshakeState.REFUSED, length


def test_an_unproven_refusal_is_not_believed() -> None:
    """Anybody can answer at an address; only a member can say 'you are not a member'."""
    for proof in (bytes(PROOF_SIZE), b"\x07" * PROOF_SIZE):
        for heard_challenge in (False, True):
            dialing = dialer()
            first = dialing.start()
            if heard_challenge:
                dialing.receive(*split(acceptor().receive(*split(first)[0]))[0])
            code = RefusalReason.UNKNOWN_NODE.code
            dialing.receive(KIND_REFUSED, struct.pack("<B3x32s", code, proof))
            assert dialing.refusal is not None
            assert dialing.refusal.reason is RefusalReason.UNKNOWN_NODE
            assert dialing.refusal.by_peer
            assert not dialing.refusal.proven


def test_a_refusal_with_another_reason_is_not_believed() -> None:
    def tamper(at: int, kind: int, body: bytes) -> tuple[int, bytes]:
        if kind == KIND_REFUSED:
            body = bytes((RefusalReason.UNKNOWN_NODE.code,)) + body[1:]
        return kind, body

    dialing = dialer(identity("n2", hello=OTHER_CLUSTER))
    Conversation(dialing, acceptor(), tamper)
    assert dialing.refusal is not None
    assert dialing.refusal.reason is RefusalReason.UNKNOWN_NODE
    assert not dialing.refusal.proven


@pytest.mark.parametrize(
    ("version_min", "version_max", "accepted"),
    [
        (1, 1, True),
        (1, 2, True),
        (2, 9, True),
        (0, 1, True),
        (3, 9, False),
        (0, 0, False),
        (9, 1, False),
    ],
)
def test_versions(version_min: int, version_max: int, accepted: bool) -> None:
    accepting = acceptor()
    body = struct.pack("<12sHH32s", b"raftkv-peer\0", version_min, version_max, DIALER_NONCE)
    answer = split(accepting.receive(KIND_CHALLENGE, body))
    if accepted:
        assert answer[0][0] == KIND_CHALLENGE
    else:
        assert accepting.refusal is not None
        assert accepting.refusal.reason is RefusalReason.VERSION
        assert answer[0][0] == KIND_REFUSED


def test_another_protocol_is_malformed() -> None:
    accepting = acceptor()
    accepting.receive(KIND_CHALLENGE, struct.pack("<12sHH32s", b"other", 1, 1, DIALER_NONCE))
    assert accepting.refusal is not None
    assert accepting.refusal.reason is RefusalReason.MALFORMED


def proven_hello(accepting: Handshake, said: bytes) -> None:
    """Send a hello of any content with a proof made independently from the documentation."""
    own = struct.pack("<12sHH32s", b"raftkv-peer\0", 1, 1, DIALER_NONCE)
    _, theirs = split(accepting.receive(KIND_CHALLENGE, own))[0]
    text = b"raftkv-peer\0hello dialer\0" + b"".join(
        hashlib.sha256(part).digest() for part in (own, theirs, said)
    )
    accepting.receive(KIND_HELLO, said + hmac.new(SECRET, text, "sha256").digest())


def names(*values: bytes) -> bytes:
    return b"".join(bytes((len(value),)) + value for value in values)


FIXED = struct.pack("<HBxQQ16s", 1, 2, 7, 9, bytes(16))


def test_a_hello_made_from_the_documentation_passes() -> None:
    accepting = acceptor()
    proven_hello(accepting, FIXED + names(b"n2", b"n1", CLUSTER.encode(), b"d"))
    assert accepting.state is HandshakeState.PROVEN
    assert accepting.peer is not None
    assert accepting.peer.hello == ("d", 7, 9, False, True, 0)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        FIXED,
        FIXED[:-1],
        FIXED + names(b"n2", b"n1", b""),
        FIXED + names(b"n2", b"n1", b"", b"d") + b"\0",
        FIXED + names(b"n2", b"n1", b"", b"d")[:-1],
        FIXED + names(b"", b"n1", b"", b"d"),
        FIXED + names(b"n2\n", b"n1", b"", b"d"),
        FIXED + names(b"n2", b"n1", b"", b"\xff\xfe"),
        struct.pack("<H", 2) + FIXED[2:] + names(b"n2", b"n1", b"", b"d"),
    ],
)
def test_a_proven_but_malformed_hello_is_refused(said: bytes) -> None:
    accepting = acceptor()
    proven_hello(accepting, said)
    assert accepting.refusal is not None
    assert accepting.refusal.reason is RefusalReason.MALFORMED


@pytest.mark.parametrize("kind", [0, 1, 16, 17, KIND_HELLO, 243, 244, 255])
def test_any_other_first_frame_is_refused(kind: int) -> None:
    for side in (dialer(), acceptor()):
        side.receive(kind, b"x" * 80)
        assert side.refusal is not None
        assert side.refusal.reason is RefusalReason.MALFORMED


def test_a_second_challenge_is_refused() -> None:
    accepting = acceptor()
    challenge = split(dialer().start())[0]
    accepting.receive(*challenge)
    accepting.receive(*challenge)
    assert accepting.refusal is not None
    assert accepting.refusal.reason is RefusalReason.MALFORMED


@given(
    st.lists(
        st.tuples(
            st.sampled_from([KIND_CHALLENGE, KIND_HELLO, KIND_REFUSED, 1, 243, 255]),
            st.binary(max_size=200)
            | st.just(split(dialer().start())[0][1])
            | st.just(recorded()[2][2]),
        ),
        max_size=4,
    )
)
def test_no_words_without_the_secret_get_in(frames: list[tuple[int, bytes]]) -> None:
    accepting = acceptor(nonce=b"\x05" * 32)
    for kind, body in frames:
        accepting.receive(kind, body)
        assert accepting.state not in (HandshakeState.PROVEN, HandshakeState.ESTABLISHED)
        assert accepting.peer is None
        if accepting.state is HandshakeState.REFUSED:
            break


def test_handshake_frames_fit_their_limit() -> None:
    longest = "x" * 255
    hello = dataclasses.replace(HELLO, cluster_id=longest, disk_id=longest)
    dialing = dialer(identity(longest, hello=hello), target="n" * 255)
    frames = split(dialing.receive(*split(acceptor().receive(*split(dialing.start())[0]))[0]))
    assert len(frames[0][1]) <= HANDSHAKE_BODY_BYTES_MAX
    assert encode_frame(*frames[0])


# ---------------------------------------------------------------- the page and the bytes

PAGE = (ROOT / "docs" / "reference" / "peer-protocol.md").read_text(encoding="utf-8")


def test_the_page_lists_every_reason_with_its_code() -> None:
    listed = dict(re.findall(r"^\| (\d) \| ([^|]+) \| (?:both|acceptor) \|", PAGE, re.MULTILINE))
    assert listed == {str(reason.code): reason.text for reason in RefusalReason}


def test_the_page_gives_the_limits_and_versions_in_force() -> None:
    assert f"**{HANDSHAKE_BODY_BYTES_MAX} bytes**" in PAGE
    assert f"lowest version spoken: {PROTOCOL_VERSION_MIN}" in PAGE
    assert f"highest version spoken: {PROTOCOL_VERSION_MAX}" in PAGE


def said_in_version(version: int) -> list[list[str]]:
    hello, other = HELLO, OTHER_CLUSTER
    if version >= 2:
        hello, other = (dataclasses.replace(one, refusal_ms=300) for one in (hello, other))
    us = identity("n1", hello=hello)
    return [
        [side.value, encode_frame(kind, body).hex()]
        for them in (hello, other)
        for side, kind, body in Conversation(
            dialer(identity("n2", hello=them), version=version), acceptor(us, version=version)
        ).frames
    ]


@pytest.mark.parametrize("version", range(PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX + 1))
def test_the_bytes_of_a_version_never_change(version: int) -> None:
    """What two nodes of a version say, for a known secret and known nonces."""
    path = ROOT / "tests" / "golden" / f"peer-handshake-v{version}.txt"
    golden = path.read_text(encoding="ascii")
    lines = [line.split(" ") for line in golden.splitlines() if not line.startswith("#")]
    assert said_in_version(version) == lines


@pytest.mark.parametrize(("dials", "accepts"), [(1, 2), (2, 1), (2, 2)])
def test_what_a_node_refuses_is_known_from_version_2_on(dials: int, accepts: int) -> None:
    dialing = dialer(identity("n2", hello=HELLO_2), version=dials)
    accepting = acceptor(identity("n1", hello=HELLO_2), version=accepts)
    Conversation(dialing, accepting)
    known = 300 if dials == accepts == 2 else 0
    for side in (dialing, accepting):
        assert side.state is HandshakeState.ESTABLISHED
        assert side.peer is not None
        assert side.peer.hello.refusal_ms == known

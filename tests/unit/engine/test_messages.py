"""Messages survive the wire, and nothing else does."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine import messages
from raftkv.engine.messages import (
    Append,
    AppendReply,
    Heartbeat,
    RoundReply,
    VoteReply,
    VoteRequest,
    decode,
    encode,
    entry_count,
    is_reply,
)
from raftkv.engine.ready import KINDS
from raftkv.errors import ProtocolError

number = st.integers(0, 2**63 - 1)
flag = st.booleans()
command = st.builds(
    lambda kind, payload: bytes((kind,)) + payload, st.sampled_from(sorted(KINDS)), st.binary()
)
entries = st.lists(st.tuples(st.just(1), command), max_size=5)
REPLIES = (AppendReply, RoundReply)
MESSAGES = st.one_of(
    st.builds(Append, st.integers(1, 2**63 - 1), number, number, number, number, flag, entries),
    st.builds(Heartbeat, number, number),
    st.builds(AppendReply, number, number, flag, number, flag),
    st.builds(RoundReply, number, number),
    st.builds(VoteRequest, number, number, number, flag, flag),
    st.builds(VoteReply, number, flag, flag, number),
)


@given(MESSAGES)
def test_a_message_survives_the_wire(message: messages.Message) -> None:
    assert decode(encode(message)) == message


@given(MESSAGES)
def test_a_message_cut_short_is_refused(message: messages.Message) -> None:
    body = encode(message)
    for end in range(len(body)):
        with pytest.raises(ProtocolError):
            decode(body[:end])


@given(st.binary(max_size=200))
def test_junk_is_refused_or_is_a_message(body: bytes) -> None:
    try:
        message = decode(body)
    except ProtocolError:
        return
    assert type(message) in messages.Message.__args__  # type: ignore[attr-defined]


@given(MESSAGES, st.data())
def test_a_flipped_bit_never_raises_anything_else(
    message: messages.Message, data: st.DataObject
) -> None:
    body = bytearray(encode(message))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ProtocolError):
        decode(bytes(body))


@pytest.mark.parametrize("kind", [2, 3, 5, 128, 255])
def test_an_entry_of_a_kind_that_is_not_ours_is_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match="unknown kind"):
        decode(encode(Append(1, 1, 0, 0, 0, False, [(1, bytes((kind,)) + b"x")])))


@pytest.mark.parametrize(
    "body",
    [
        encode(Append(1, 1, 0, 0, 0, False, [(1, b"")])),
        encode(Append(1, 1, 0, 0, 0, False, [(2, b"\0x")])),
        encode(Append(1, 1, 0, 0, 0, False, [(0, b"\0x")])),
        encode(Append(1, 1, -1, 0, 0, False, [])),
        encode(Append(1, 1, 0, -1, 0, False, [])),
        encode(Heartbeat(-1, 0)),
        msgspec.msgpack.encode({"type": "append_entries", "transmission": "start", "data": b"x"}),
        msgspec.msgpack.encode(["apply_command", b"x"]),
        msgspec.msgpack.encode([99, 1, 1]),
        b"",
    ],
)
def test_what_cannot_be_said_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


@given(MESSAGES)
def test_entries_are_never_counted_too_low(message: messages.Message) -> None:
    body = encode(message)
    count = len(message.entries) if isinstance(message, Append) else 0
    assert entry_count(body) >= count


@pytest.mark.parametrize("size", [1, 40, 5000])
def test_entries_of_a_large_message_are_counted_exactly(size: int) -> None:
    commands = [(7, b"\0" * size)] * 500
    assert entry_count(encode(Append(7, 1, 1, 1, 1, False, commands))) == 500


@given(st.binary(max_size=5000))
def test_anything_can_be_counted(body: bytes) -> None:
    assert 0 <= entry_count(body) <= len(body)


@given(MESSAGES)
def test_replies_are_told_by_their_first_bytes(message: messages.Message) -> None:
    assert is_reply(encode(message)) == isinstance(message, REPLIES)

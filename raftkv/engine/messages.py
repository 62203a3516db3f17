"""Messages between the Raft cores of two nodes, and their bytes.

Owns the wire form of consensus: msgpack arrays with a numeric tag, decoded
into typed structs, so that nothing outside this list can be expressed. The
forms by which PySyncObj would unpickle (`transmission`, `serialized`,
`apply_command`, MEMBERSHIP and VERSION entries) do not exist here, and an
entry of an unknown kind is refused before it can reach the log.

Every message carries the sender's term, and every answer the round of the
message it answers: an acknowledgement from another term is worthless
(findings A and N4 of docs/internals/engine.md).

Pure. Users: engine.core and the `syncobj_*` mends.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from raftkv.engine.ready import KINDS
from raftkv.errors import ProtocolError


class Append(msgspec.Struct, tag=1, array_like=True, frozen=True, gc=False):
    """AppendEntries (Raft, figure 2). `entries` follow `prev_index` without a gap.

    Attributes:
        round: Number of the leader's broadcast; the answer repeats it.
        answer: Whether the round is to be confirmed at once, before the
            entries are durable, because reads wait for it.
        entries: (term, command) pairs.
    """

    term: int
    round: int
    commit: int
    prev_index: int
    prev_term: int
    answer: bool
    entries: list[tuple[int, bytes]]


class Heartbeat(msgspec.Struct, tag=2, array_like=True, frozen=True, gc=False):
    """Says who leads, and proves nothing about the receiver's log."""

    term: int
    round: int


class AppendReply(msgspec.Struct, tag=3, array_like=True, frozen=True, gc=False):
    """Answer to an Append.

    Attributes:
        success: The log holds, durably, every entry up to `index`.
        index: Highest durable matching index, or the next index worth trying.
        full: The disk takes no entries at present.
    """

    term: int
    round: int
    success: bool
    index: int
    full: bool


class RoundReply(msgspec.Struct, tag=4, array_like=True, frozen=True, gc=False):
    """The sender followed the leader of `term` when round `round` arrived."""

    term: int
    round: int


class VoteRequest(msgspec.Struct, tag=5, array_like=True, frozen=True, gc=False):
    """RequestVote (Raft, figure 2).

    Attributes:
        term: Term of the election; for `pre` the one that would follow.
        pre: Only asks whether a vote would be given (Raft thesis, 9.6).
        transfer: The leader asked for this election; stickiness does not apply.
    """

    term: int
    last_index: int
    last_term: int
    pre: bool
    transfer: bool = False


class VoteReply(msgspec.Struct, tag=6, array_like=True, frozen=True, gc=False):
    """Answer to a VoteRequest; `term` repeats the request's where granted.

    Attributes:
        wall_ms: The voter's wall clock: a new leader starts log time at the
            median of its quorum.
    """

    term: int
    granted: bool
    pre: bool
    wall_ms: int


class TimeoutNow(msgspec.Struct, tag=7, array_like=True, frozen=True, gc=False):
    """The leader asks the receiver to campaign at once (Raft thesis, 3.10)."""

    term: int


class ReadIndexRequest(msgspec.Struct, tag=8, array_like=True, frozen=True, gc=False):
    """A follower asks what must be applied for reads that it has taken (Raft thesis, 6.4)."""

    term: int
    ticket: int


class ReadIndexReply(msgspec.Struct, tag=9, array_like=True, frozen=True, gc=False):
    """Answer to a ReadIndexRequest, once a round begun after it is confirmed.

    Attributes:
        index: What must be applied; 0 where the sender does not lead `term`.
    """

    term: int
    ticket: int
    index: int


class Freshness(msgspec.Struct, tag=10, array_like=True, frozen=True, gc=False):
    """What a confirmed round shows about the receiver's store.

    Attributes:
        round: The newest round whose answer by the receiver had been heard when
            the confirmed one began.
        index: What was committed when it began.
    """

    term: int
    round: int
    index: int


Message = (
    Append
    | Heartbeat
    | AppendReply
    | RoundReply
    | VoteRequest
    | VoteReply
    | TimeoutNow
    | ReadIndexRequest
    | ReadIndexReply
    | Freshness
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)

# Of an Append: tag, six numbers, a flag, entries. Nothing of an entry is decoded.
_COUNTER = msgspec.msgpack.Decoder(
    tuple[int, int, int, int, int, int, bool, list[msgspec.Raw]],
)
# Limit: bytes of an entry on the wire: an array, a term, and a command with its length.
_ENTRY_BYTES_MIN = 5
# Below this size counting costs more than assuming the worst.
_COUNTED_BYTES_MIN = 1024

# What may differ between two messages of which the later one does for both.
_PASSING = {
    AppendReply: "round",
    RoundReply: "round",
    VoteReply: "wall_ms",
    ReadIndexRequest: "ticket",
    ReadIndexReply: "ticket",
}

encode = _ENCODER.encode


def subject(body: bytes) -> Message | bytes:
    """Return what stands for a message among those to the same peer.

    Of two with the same subject, the later one does for both: it answers a later round,
    which shows what an earlier one would, or has a later ticket, which serves whatever
    waits for an earlier one.

    Args:
        body: Encoded by this module.
    """
    message = _DECODER.decode(body)
    passing = _PASSING.get(type(message))
    return body if passing is None else replace(message, **{passing: 0})


def is_reply(body: bytes) -> bool:
    """Whether this is an AppendReply or a RoundReply, going by its first bytes."""
    # An array of fewer than sixteen elements takes one byte, and so does the tag.
    return body[1:2] in (b"\x03", b"\x04")


def entry_count(body: bytes) -> int:
    """Return how many entries a message carries, or, if it is small, how many it could.

    Never less than `decode` finds; cheaper, because no entry is copied.
    """
    if len(body) >= _COUNTED_BYTES_MIN:
        try:
            return len(_COUNTER.decode(body)[-1])
        except msgspec.DecodeError:
            # Of another kind, or nothing that `decode` takes.
            pass
    return len(body) // _ENTRY_BYTES_MIN


def decode(body: bytes | memoryview) -> Message:
    """Return the message in `body`.

    Raises:
        ProtocolError: Not a message of ours, a negative number, or an entry
            of a kind that is not ours.
    """
    try:
        message = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a Raft message: {error}") from None
    if message.term < 0:
        raise ProtocolError("a Raft message with a negative term")
    if type(message) is Append:
        if message.prev_index < 0 or message.prev_term < 0 or message.commit < 0:
            raise ProtocolError("an Append with a negative position")
        for term, command in message.entries:
            if not command or command[0] not in KINDS or not 0 < term <= message.term:
                raise ProtocolError("an Append with an entry of an unknown kind or term")
    return message

"""A message leaves when what it speaks for is durable, and not a moment before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from raftkv.engine.messages import (
    Append,
    AppendReply,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    RoundReply,
    VoteReply,
    VoteRequest,
    decode,
    encode,
)
from raftkv.engine.ready import OutgoingMessage
from raftkv.replica.outbox import Outbox
from raftkv.types import NodeId, WriteSequence
from tests.unit.replica.fakes import FakeNetwork


def reply(index: int, round_: int = 1, *, full: bool = False) -> AppendReply:
    return AppendReply(term=1, round=round_, success=True, index=index, full=full)


def message(depends: int, node: str = "B", said: Message | None = None) -> OutgoingMessage:
    body = encode(reply(depends) if said is None else said)
    return OutgoingMessage(NodeId(node), body, WriteSequence(depends))


def outbox(synced: int = 5) -> tuple[Outbox, FakeNetwork]:
    network = FakeNetwork()
    return Outbox(network, WriteSequence(synced)), network


def sent(network: FakeNetwork) -> list[Message]:
    return [decode(body) for _, _, body in network.sent]


def test_what_depends_on_durable_writes_leaves_at_once() -> None:
    one, network = outbox()
    one.post([message(5), message(0)])
    assert sent(network) == [reply(5), reply(0)]


def test_the_rest_is_held_until_its_write_is_durable() -> None:
    one, network = outbox()
    one.post([message(6), message(7), message(5)])
    assert (one.held_count, sent(network)) == (2, [reply(5)])
    one.release(WriteSequence(6))
    assert (one.held_count, sent(network)[-1]) == (1, reply(6))
    one.release(WriteSequence(9))
    assert (one.held_count, sent(network)[-1]) == (0, reply(7))


def test_a_report_never_takes_durability_back() -> None:
    one, network = outbox()
    one.release(WriteSequence(3))
    assert one.synced == 5
    one.post([message(5)])
    assert len(network.sent) == 1


def test_what_is_held_for_a_lost_link_does_not_reach_the_next_one() -> None:
    one, network = outbox()
    one.post([message(6, "B"), message(6, "C")])
    one.forget(NodeId("B"))
    one.release(WriteSequence(6))
    assert [node for node, _, _ in network.sent] == ["C"]


# Each row: two messages of which the second says what the first does, and more lately.
SUPERSEDED = [
    (reply(9, 1), reply(9, 2)),
    (AppendReply(1, 1, False, 4, True), AppendReply(1, 2, False, 4, True)),
    (RoundReply(1, 1), RoundReply(1, 2)),
    (VoteReply(1, True, False, 10), VoteReply(1, True, False, 20)),
    (VoteRequest(1, 5, 1, True), VoteRequest(1, 5, 1, True)),
    (ReadIndexRequest(1, 1), ReadIndexRequest(1, 2)),
    (ReadIndexReply(1, 1, 0), ReadIndexReply(1, 2, 0)),
]


@pytest.mark.parametrize(("earlier", "later"), SUPERSEDED)
def test_of_two_that_say_the_same_the_newest_leaves(earlier: Message, later: Message) -> None:
    one, network = outbox()
    other = message(6, said=RoundReply(7, 7))
    one.post([message(6, said=earlier), other, message(6, said=later)])
    assert one.held_count == 2
    one.release(WriteSequence(6))
    assert sent(network) == [RoundReply(7, 7), later]


APPEND = Append(1, 1, 0, 0, 0, False, [(1, b"\0x")])

# Each row: what differs beside the round, so that the later one does not do for both.
DIFFERENT = [
    (message(6, said=reply(9, 1)), message(7, said=reply(9, 2))),
    (message(7, said=reply(9, 1)), message(6, said=reply(9, 2))),
    (message(6, said=reply(9, 1)), message(6, said=reply(8, 2))),
    (message(6, said=reply(9, 1)), message(6, said=reply(9, 2, full=True))),
    (message(6, said=reply(9, 1)), message(6, said=AppendReply(2, 2, True, 9, False))),
    (message(6, said=reply(9, 1)), message(6, said=AppendReply(1, 2, False, 9, False))),
    (message(6, said=reply(9, 1)), message(6, "C", said=reply(9, 2))),
    (message(6, said=RoundReply(1, 1)), message(6, said=RoundReply(2, 2))),
    (message(6, said=APPEND), message(6, said=replace(APPEND, round=2))),
    (message(6, said=VoteReply(1, True, True, 1)), message(6, said=VoteReply(1, True, False, 2))),
]


@pytest.mark.parametrize(("earlier", "later"), DIFFERENT)
def test_what_says_something_else_keeps_its_own_place(
    earlier: OutgoingMessage, later: OutgoingMessage
) -> None:
    one, network = outbox()
    one.post([earlier, later])
    assert one.held_count == 2
    one.release(WriteSequence(7))
    assert [body for _, _, body in network.sent] == [earlier.body, later.body]


@given(st.lists(st.one_of(st.integers(0, 20), st.tuples(st.integers(0, 20)))))
def test_nothing_leaves_early_and_nothing_stays(actions: list[int | tuple[int]]) -> None:
    one, network = outbox(0)
    posted: list[tuple[int, int]] = []
    for position, action in enumerate(actions):
        if isinstance(action, tuple):
            one.release(WriteSequence(action[0]))
        else:
            # The position makes each another one.
            one.post([message(action, said=reply(position))])
            posted.append((action, position))
        left = sorted(one.index for one in sent(network) if isinstance(one, AppendReply))
        assert left == [index for depends, index in posted if depends <= one.synced]


@given(st.lists(st.one_of(st.tuples(st.integers(0, 9), st.integers(0, 2)), st.integers(0, 9))))
def test_the_newest_word_on_each_index_leaves_when_its_write_is_durable(
    actions: list[tuple[int, int] | int],
) -> None:
    one, network = outbox(0)
    newest: dict[tuple[int, int], int] = {}
    for round_, action in enumerate(actions):
        if isinstance(action, tuple):
            depends, index = action
            one.post([message(depends, said=reply(index, round_))])
            newest[action] = round_
        else:
            one.release(WriteSequence(action))
        rounds = {one.round for one in sent(network) if isinstance(one, AppendReply)}
        due = {round_ for (depends, _), round_ in newest.items() if depends <= one.synced}
        held = {round_ for (depends, _), round_ in newest.items() if depends > one.synced}
        assert due <= rounds
        assert not held & rounds
        assert one.held_count == len(held)

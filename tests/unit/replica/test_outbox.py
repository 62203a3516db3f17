"""A message leaves when what it speaks for is durable, and not a moment before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.ready import OutgoingMessage
from raftkv.replica.outbox import Outbox
from raftkv.types import NodeId, WriteSequence
from tests.unit.replica.fakes import FakeNetwork


def message(depends: int, node: str = "B") -> OutgoingMessage:
    return OutgoingMessage(NodeId(node), b"%d" % depends, WriteSequence(depends))


def outbox(synced: int = 5) -> tuple[Outbox, FakeNetwork]:
    network = FakeNetwork()
    return Outbox(network, WriteSequence(synced)), network


def test_what_depends_on_durable_writes_leaves_at_once() -> None:
    one, network = outbox()
    one.post([message(5), message(0)])
    assert [body for _, _, body in network.sent] == [b"5", b"0"]


def test_the_rest_is_held_until_its_write_is_durable() -> None:
    one, network = outbox()
    one.post([message(6), message(7), message(5)])
    assert (one.held_count, [body for _, _, body in network.sent]) == (2, [b"5"])
    one.release(WriteSequence(6))
    assert (one.held_count, network.sent[-1][2]) == (1, b"6")
    one.release(WriteSequence(9))
    assert (one.held_count, network.sent[-1][2]) == (0, b"7")


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


@given(st.lists(st.one_of(st.integers(0, 20), st.tuples(st.integers(0, 20)))))
def test_nothing_leaves_early_and_nothing_stays(actions: list[int | tuple[int]]) -> None:
    one, network = outbox(0)
    posted: list[int] = []
    for action in actions:
        if isinstance(action, tuple):
            one.release(WriteSequence(action[0]))
        else:
            one.post([message(action)])
            posted.append(action)
        left = sorted(int(body) for _, _, body in network.sent)
        assert left == sorted(depends for depends in posted if depends <= one.synced)

"""A turn takes what arrived in order, and no more messages than it can bear."""

from __future__ import annotations

from raftkv.engine.ready import Inbound, PeerDown, PeerMessage, Synced
from raftkv.replica.arrivals import Arrivals
from raftkv.types import NodeId, WriteSequence

N2 = NodeId("n2")
DOWN = PeerDown(N2)


def message(size: int) -> PeerMessage:
    return PeerMessage(N2, bytes(size))


def filled(bytes_max: int, items: list[Inbound]) -> Arrivals:
    arrivals = Arrivals(bytes_max)
    for item in items:
        arrivals.add(item)
    return arrivals


def taken(arrivals: Arrivals) -> list[list[Inbound]]:
    turns = []
    while arrivals:
        turns.append(arrivals.take())
    return turns


def test_little_is_taken_at_once() -> None:
    items: list[Inbound] = [message(10), DOWN, message(20), Synced(WriteSequence(1))]
    arrivals = filled(30, items)
    assert taken(arrivals) == [items]
    assert arrivals.take() == []


def test_a_turn_ends_with_the_message_that_is_too_much() -> None:
    first, second, third, fourth = message(20), message(20), message(20), message(1)
    arrivals = filled(30, [first, DOWN, second, third, fourth])
    assert taken(arrivals) == [[first, DOWN, second], [third, fourth]]


def test_a_message_over_the_limit_is_taken_alone() -> None:
    items = [message(40) for _ in range(3)]
    assert taken(filled(30, [*items])) == [[item] for item in items]


def test_what_comes_meanwhile_is_behind_what_waits() -> None:
    first, second, late = message(40), message(1), message(2)
    arrivals = filled(30, [first, second])
    assert arrivals.take() == [first]
    arrivals.add(late)
    assert len(arrivals) == 2
    assert arrivals.take() == [second, late]


def test_what_is_for_the_next_turn_goes_first() -> None:
    first, second, urgent = message(40), message(40), Synced(WriteSequence(7))
    arrivals = filled(30, [first, second])
    arrivals.add_first(urgent)
    assert taken(arrivals) == [[urgent, first], [second]]

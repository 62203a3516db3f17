"""Reads that ask the leader, and slots that wait for a token's index."""

from __future__ import annotations

from raftkv.engine.ready import ReadsReady, Ready
from raftkv.replica.follower_reads import BEHIND, FollowerReads
from raftkv.replica.reads import Read
from raftkv.seams import NOT_LEADER, READ_TIMEOUT, SHUTTING_DOWN
from raftkv.types import Index, WriteSequence
from tests.unit.replica.fakes import TestSlot


def ready(**fields: object) -> Ready:
    return Ready(sequence=WriteSequence(1), **fields)  # type: ignore[arg-type]


class Store:
    """Serves what it is handed."""

    def __init__(self) -> None:
        self.reads = FollowerReads(1000)
        self.applied = 0

    def add(self) -> TestSlot:
        slot = TestSlot()
        self.reads.add(Read([(1, b"key")], slot, sliced=False))
        return slot

    def turn(self, now_ms: int = 0, **fields: object) -> None:
        self.reads.turn(
            ready(**fields),
            Index(self.applied),
            now_ms,
            lambda reads: [read.slot.resolve(["x"]) for read in reads],
        )


def test_all_reads_of_a_turn_share_a_ticket_and_wait_for_the_index() -> None:
    store = Store()
    slots = [store.add(), store.add()]
    assert store.reads.has_new
    store.turn(asked=3)
    assert not store.reads.has_new
    store.turn(index_answers=[ReadsReady(3, Index(5))])
    assert [slot.answers for slot in slots] == [[], []]
    store.applied = 5
    store.turn()
    assert [slot.answer for slot in slots] == [["x"], ["x"]]
    assert not store.reads.active


def test_an_answer_to_an_earlier_question_serves_nothing_later() -> None:
    store = Store()
    store.add()
    store.turn(asked=3)
    later = store.add()
    store.turn(asked=4, index_answers=[ReadsReady(3, Index(0))])
    assert later.answers == []


def test_without_anybody_to_ask_or_with_another_leader_reads_fail_definitely() -> None:
    for fields in ({"asked": 0}, {"asked": 1, "leader_changed": True}):
        store = Store()
        slot = store.add()
        store.turn(**fields)
        assert slot.answer == NOT_LEADER
    store = Store()
    slot = store.add()
    store.turn(asked=1)
    store.turn(asks_failed=True)
    assert slot.answer == NOT_LEADER


def test_a_question_that_is_not_answered_ends_with_its_deadline() -> None:
    store = Store()
    slot = store.add()
    store.turn(asked=1)
    assert store.reads.next_deadline_ms() == 1000
    store.turn(now_ms=1000)
    assert slot.answer == READ_TIMEOUT
    assert store.reads.next_deadline_ms() is None


def test_a_token_is_reached_or_late() -> None:
    store = Store()
    near, far = TestSlot(), TestSlot()
    store.reads.await_applied(Index(9), 0, far)
    store.reads.await_applied(Index(2), 10, near)
    assert store.reads.next_deadline_ms() == 1000
    store.applied = 2
    store.turn(now_ms=20)
    assert near.answer == ["OK"]
    assert store.reads.active
    store.turn(now_ms=1000)
    assert far.answer == BEHIND
    assert BEHIND.definite
    assert not store.reads.active


def test_an_end_answers_everything() -> None:
    store = Store()
    read, token = store.add(), TestSlot()
    store.reads.await_applied(Index(9), 0, token)
    store.reads.close(SHUTTING_DOWN)
    assert read.answer == token.answer == SHUTTING_DOWN

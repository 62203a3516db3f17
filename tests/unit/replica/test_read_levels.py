"""A read is executed first, and its proof looked at behind it."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.engine.ready import Ready
from raftkv.kv.commands import ErrorReply
from raftkv.replica.follower_reads import FollowerReads
from raftkv.replica.gathering import Gathering
from raftkv.replica.read_levels import ReadLevels
from raftkv.replica.reads import Reads
from raftkv.seams import NOT_LEADER, SHUTTING_DOWN
from raftkv.types import Index, Term, WriteSequence
from tests.unit.replica.fakes import FakeClock, TestSlot

GET = (1, b"key")


class FakeLog:
    terms: dict[int, int] = {7: 3}

    def term_at(self, index: int) -> int | None:
        return self.terms.get(index)


class FakeCore:
    def __init__(self) -> None:
        self.is_leader = True
        self.has_own_noop = True
        self.can_ask = True
        self.commit_index = 7
        self.lease_end_ms = 0
        self.stale_ms: int | None = 0
        self.log = FakeLog()

    def lease_holds(self, now_ms: int) -> bool:
        return now_ms < self.lease_end_ms

    def staleness_ms(self, now_ms: int, applied_index: int) -> int | None:
        return self.stale_ms


class FakeStore:
    """Each read takes so long."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.applied_index = 7
        self.takes_ms = 0

    def execute(self, command: Any) -> object:
        self.clock.advance(self.takes_ms)
        return b"value"

    def execute_all(self, commands: list[Any]) -> list[object]:
        return [self.execute(command) for command in commands]


class Levels(ReadLevels):
    def __init__(self) -> None:
        self._clock = FakeClock(1000)
        self.core = self._core = FakeCore()  # type: ignore[assignment]
        self.store = FakeStore(self._clock)  # type: ignore[assignment]
        self._reads = Reads(1000)
        self._read_gathering = Gathering()
        self._follower_reads = FollowerReads(1000)
        self._wake = lambda: None
        self.stopped = None


def test_a_read_under_a_lease_is_answered_at_once() -> None:
    levels, slot = Levels(), TestSlot()
    levels.core.lease_end_ms = 1001
    levels.read_leased([GET, GET], slot)
    assert slot.answer == [b"value", b"value"]


def test_a_read_that_outlives_the_lease_waits_for_a_round() -> None:
    levels, slot = Levels(), TestSlot()
    levels.core.lease_end_ms = 1100
    levels.store.takes_ms = 100  # type: ignore[attr-defined]
    levels.read_leased([GET], slot)
    assert slot.answers == []
    assert levels._reads.has_new


@pytest.mark.parametrize("lacks", ["has_own_noop", "applied"])
def test_a_lease_is_of_no_use_to_a_store_that_may_lack_something(lacks: str) -> None:
    levels, slot = Levels(), TestSlot()
    levels.core.lease_end_ms = 5000
    if lacks == "applied":
        levels.core.commit_index = 8
    else:
        levels.core.has_own_noop = False
    levels.read_leased([GET], slot)
    assert slot.answers == []
    assert levels._reads.has_new


def test_a_bounded_read_is_refused_with_the_age_that_it_may_have() -> None:
    levels = Levels()
    levels.core.stale_ms = 30
    assert levels.read_local(GET, 30, Index(0)) == b"value"
    assert levels.read_local(GET, 29, Index(0)) == ErrorReply("NOTAPPLIED stale 30")
    levels.core.stale_ms = None
    assert levels.read_local(GET, 29, Index(0)) == ErrorReply("NOTAPPLIED stale unknown")
    assert levels.read_local(GET, None, Index(0)) == b"value"


def test_a_read_below_its_floor_is_refused() -> None:
    levels = Levels()
    assert levels.read_local(GET, None, Index(7)) == b"value"
    assert levels.read_local(GET, None, Index(8)) == ErrorReply("NOTAPPLIED behind the token")


def test_a_follower_that_is_behind_leaves_reads_to_the_leader() -> None:
    levels = Levels()
    assert levels.can_read_by_index
    levels.core.stale_ms = 1001
    assert not levels.can_read_by_index
    levels.core.stale_ms = None
    assert not levels.can_read_by_index
    levels.core.stale_ms, levels.core.can_ask = 0, False
    assert not levels.can_read_by_index


def test_a_token_names_term_and_index() -> None:
    levels, slot = Levels(), TestSlot()
    levels.take_token(slot, ask=False)
    assert slot.answer == [b"3/7"]


def test_a_leader_asks_a_quorum_for_a_token_of_what_others_answered() -> None:
    """One that is new has not applied all that the leader before it acknowledged."""
    levels, slot = Levels(), TestSlot()
    levels.take_token(slot, ask=True)
    assert slot.answers == []
    assert levels._reads.has_new


def test_a_follower_asks_the_leader_for_a_token_of_what_others_answered() -> None:
    levels, slot = Levels(), TestSlot()
    levels.core.is_leader = False
    levels.take_token(slot, ask=True)
    assert slot.answers == []
    ready = Ready(sequence=WriteSequence(0))
    levels._follower_reads.turn(ready, Index(7), 0, levels._execute)
    assert slot.answer == NOT_LEADER


def test_a_token_of_another_history_is_refused() -> None:
    levels, slot = Levels(), TestSlot()
    levels.await_token(Term(2), Index(7), slot)
    assert slot.answer == [ErrorReply("ERR the token is of another history")]


def test_a_node_that_has_stopped_waits_for_nothing() -> None:
    levels = Levels()
    levels.stopped = object()  # type: ignore[assignment]
    token, read = TestSlot(), TestSlot()
    levels.await_token(Term(3), Index(7), token)
    levels.read_by_index([GET], read)
    assert token.answer == read.answer == SHUTTING_DOWN

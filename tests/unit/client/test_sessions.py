"""Numbers of one session, and what is known of writes that were given up; no I/O."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.client import sessions
from raftkv.client.sessions import (
    ClientSession,
    NumberedRequest,
    Outcome,
    Sessions,
    is_decided,
    is_expired,
    outcome_of,
    reply_of,
)
from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
)

INCR = (b"INCR", b"n")


def session(session_id: int = 7) -> ClientSession:
    return ClientSession(session_id, 0.0, contextlib.nullcontext())


def everything() -> Sessions:
    return Sessions(contextlib.nullcontext(), 10.0)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=60))
def test_the_lowest_number_is_that_of_the_oldest_write_without_an_outcome(
    steps: list[tuple[bool, int]],
) -> None:
    one, unfinished, taken = session(), [], 0
    for takes, count in steps:
        if takes or not unfinished:
            numbers = one.take(count)
            assert numbers == list(range(taken + 1, taken + 1 + count))
            taken += count
            unfinished += numbers
        else:
            one.finish(unfinished.pop(count % len(unfinished)))
        if unfinished:
            assert one.lowest() == min(unfinished)


def test_a_window_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "WINDOW_NUMBERS_MAX", 4)
    one = session()
    assert one.take(3) == [1, 2, 3]
    assert one.take(2) is None
    assert one.take(1) == [4]
    one.finish(2)
    assert one.take(1) is None
    one.finish(1)
    assert one.take(2) == [5, 6]
    assert one.take(1) is None


def test_a_copy_carries_the_lowest_number_of_the_moment() -> None:
    one = session()
    first, second = (NumberedRequest(one, number, INCR) for number in one.take(2) or ())
    assert second.arguments == (b"KV", b"ONCE", b"7", b"2", b"1", *INCR)
    first.note(1)
    assert second.arguments == (b"KV", b"ONCE", b"7", b"2", b"2", *INCR)
    assert (first.is_finished, second.is_finished) == (True, False)


@pytest.mark.parametrize(
    ("reply", "decided", "uncertain"),
    [
        (5, True, False),
        (None, True, False),
        (CommandError("WRONGTYPE no"), True, False),
        (CommandError("ERR no"), True, False),
        (NotAppliedError("fenced"), True, False),
        (NotAppliedError("result exceeds what a session keeps (1 bytes)"), True, False),
        (CommandError("TRYAGAIN"), False, False),
        (CommandError("LOADING"), False, False),
        (CommandError("NOAUTH"), False, False),
        (NotAppliedError("overloaded"), False, False),
        (NotAppliedError("session window full"), False, False),
        (NotLeaderError("a:1"), False, False),
        (NoLeaderError(""), False, False),
        (ConnectFailedError(""), False, False),
        (OutcomeUnknownError("session expired"), False, False),
        (OutcomeUnknownError("timeout"), False, True),
        (ConnectionLostError(""), False, True),
    ],
)
def test_what_a_reply_says_of_all_copies(reply: object, decided: bool, uncertain: bool) -> None:
    one = session()
    (number,) = one.take(1) or ()
    request = NumberedRequest(one, number, INCR)
    request.note(reply)
    assert is_decided(reply) == request.is_finished == decided
    assert request.is_uncertain == uncertain
    assert is_expired(reply) == (str(reply) == "session expired")


def test_what_was_given_up_is_asked_for_in_order_and_once() -> None:
    one = session()
    one.take(3)
    one.give_up(3)
    one.give_up(1)
    assert one.next_given_up() == 3
    one.settle(3)
    one.settle(3)
    assert one.next_given_up() == 1
    one.settle(1)
    assert one.next_given_up() is None
    assert one.lowest() == 2


def test_outcomes_are_remembered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "OUTCOMES_MAX", 2)
    known = everything()
    for number in (1, 2, 3):
        known.settle(7, number, Outcome(applied=True, result=number))
    assert known.outcome(7, 1) is None
    assert known.outcome(7, 3) == Outcome(applied=True, result=3)
    assert known.outcome(8, 3) is None


def test_one_caller_opens_a_session_for_all() -> None:
    known = everything()
    assert known.begin_opening()
    assert not known.begin_opening()
    known.end_opening(None)
    assert known.begin_opening()
    mine = session()
    known.end_opening(mine)
    assert not known.begin_opening()
    known.forget(session())
    assert known.current is mine
    known.forget(mine)
    assert known.begin_opening()


@pytest.mark.parametrize(
    ("deadline_s", "ttl_ms"),
    [
        (0.1, 60_000),
        (10.0, 60_000),
        (300.0, 600_000),
        (1e9, 86_400_000),
        (float("inf"), 86_400_000),
    ],
)
def test_a_session_outlives_what_a_call_outlives(deadline_s: float, ttl_ms: int) -> None:
    assert Sessions(contextlib.nullcontext(), deadline_s).ttl_ms == ttl_ms


@pytest.mark.parametrize("reply", [[b"maybe"], [b"applied"], [], b"fenced", None, 5])
def test_an_outcome_that_is_none_decides_nothing(reply: object) -> None:
    assert isinstance(outcome_of(reply), OutcomeUnknownError)


def test_an_outcome_is_the_reply_that_was_lost() -> None:
    error = CommandError("WRONGTYPE no")
    assert outcome_of([b"applied", error]) == Outcome(applied=True, result=error)
    assert reply_of(Outcome(applied=True, result=error)) is error
    assert outcome_of([b"fenced"]) == Outcome(applied=False)
    fenced = reply_of(Outcome(applied=False))
    assert isinstance(fenced, NotAppliedError)
    assert is_decided(fenced)
    assert outcome_of(error) is error

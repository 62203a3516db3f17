"""Time moves in the log when a deadline needs it, and not oftener."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.replica.clockwork import FRESH_MS, LEASE_FRESH_MS, TICK_INTERVAL_MS, BatchClock
from raftkv.types import Term
from tests.unit.replica.fakes import FakeClock, FakeObserver


class FakeStore:
    log_time_ms = 0
    lease_time_ms = 0
    next_deadline_ms: int | None = None
    next_lease_deadline_ms: int | None = None


def leading() -> tuple[BatchClock, FakeClock, Any, FakeObserver]:
    clock, observer, store = FakeClock(now=50_000), FakeObserver(), FakeStore()
    batch_clock = BatchClock(clock, observer)
    batch_clock.lead(Term(1), clock.wall, store)  # type: ignore[arg-type]
    return batch_clock, clock, store, observer


def test_only_a_leader_stamps() -> None:
    with pytest.raises(AssertionError, match="leader"):
        BatchClock(FakeClock(), FakeObserver()).stamp(FakeStore())  # type: ignore[arg-type]


def test_stamps_are_never_below_what_the_store_has_seen() -> None:
    clockwork, clock, store, _ = leading()
    store.log_time_ms = clock.wall + 10_000
    store.lease_time_ms = 99
    assert clockwork.stamp(store) == (clock.wall + 10_000, 99)


def test_leading_the_same_term_twice_changes_nothing() -> None:
    clockwork, clock, store, _ = leading()
    first = clockwork.stamp(store)
    clock.advance(100)
    clockwork.lead(Term(1), 10**15, store)
    assert clockwork.stamp(store) == (first[0] + 100, first[1] + 100)


def test_without_a_deadline_time_stands_still_in_the_log() -> None:
    clockwork, clock, store, _ = leading()
    clock.advance(10**6)
    assert clockwork.next_tick_ms(store) is None
    assert not clockwork.tick_due(clock.now, store)


def test_a_deadline_is_met_when_it_is_due() -> None:
    clockwork, clock, store, _ = leading()
    clockwork.stamp(store)
    store.next_deadline_ms = clock.wall + 300
    assert clockwork.next_tick_ms(store) == clock.now + 300
    clock.advance(300)
    assert clockwork.tick_due(clock.now, store)


def test_a_far_deadline_still_keeps_time_fresh() -> None:
    clockwork, clock, store, _ = leading()
    clockwork.stamp(store)
    store.next_deadline_ms = clock.wall + 10**9
    assert clockwork.next_tick_ms(store) == clock.now + FRESH_MS


def test_a_lease_is_over_when_it_is_due_and_keeps_lease_time_fresh() -> None:
    clockwork, clock, store, _ = leading()
    clockwork.stamp(store)
    store.next_lease_deadline_ms = 150
    assert clockwork.next_tick_ms(store) == clock.now + 150
    store.next_lease_deadline_ms = 10**9
    assert clockwork.next_tick_ms(store) == clock.now + LEASE_FRESH_MS
    store.next_lease_deadline_ms = 0  # revoked
    assert clockwork.next_tick_ms(store) == clock.now + TICK_INTERVAL_MS


def test_lease_time_goes_on_from_what_the_last_leader_stamped_when_that_is_applied() -> None:
    clockwork, clock, store, _ = leading()
    clock.advance(30)
    store.lease_time_ms = 900  # of an entry that was not applied yet at the election
    assert clockwork.stamp(store)[1] == 900
    clock.advance(50)
    assert clockwork.stamp(store)[1] == 950


def test_ticks_come_at_a_bounded_rate() -> None:
    clockwork, clock, store, _ = leading()
    clockwork.stamp(store)
    store.next_deadline_ms = 1
    assert clockwork.next_tick_ms(store) == clock.now + TICK_INTERVAL_MS


def test_a_wrong_wall_clock_is_reported_once_for_each_error() -> None:
    clockwork, clock, store, observer = leading()
    clock.wall += 5000
    for _ in range(3):
        clockwork.stamp(store)
    assert observer.names() == ["clock_error"]
    clock.wall -= 5000
    clockwork.stamp(store)
    clock.wall += 5000
    clockwork.stamp(store)
    assert observer.names() == ["clock_error"] * 2

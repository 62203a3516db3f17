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
    lease_count = 0


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


def test_time_goes_on_from_what_the_log_held_when_the_term_began() -> None:
    """An entry that was not applied yet has later times than the clock of the new leader."""
    clockwork, clock, store, _ = leading()
    hour_ms = 3_600_000
    store.log_time_ms, store.lease_time_ms = clock.wall + hour_ms, 10_000
    first = clockwork.stamp(store)
    clock.advance(1000)
    log_time_ms, lease_time_ms = clockwork.stamp(store)
    assert log_time_ms - first[0] >= 900
    assert lease_time_ms - first[1] == 1000


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
    store.lease_count = 1
    store.next_lease_deadline_ms = 150
    assert clockwork.next_tick_ms(store) == clock.now + 150
    store.next_lease_deadline_ms = 10**9
    assert clockwork.next_tick_ms(store) == clock.now + LEASE_FRESH_MS
    store.next_lease_deadline_ms = 0  # revoked
    assert clockwork.next_tick_ms(store) == clock.now + TICK_INTERVAL_MS


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


def test_a_deadline_in_lease_time_is_met_when_it_is_due_and_asks_for_nothing_before() -> None:
    clockwork, clock, store, _ = leading()
    store.lease_time_ms = 500
    clockwork.lead(Term(2), clock.wall, store)
    clockwork.stamp(store)
    store.next_lease_deadline_ms = 500 + 60_000
    assert clockwork.next_tick_ms(store) == clock.now + 60_000
    clock.advance(59_999)
    assert not clockwork.tick_due(clock.now, store)
    clock.advance(1)
    assert clockwork.tick_due(clock.now, store)


def test_the_earlier_of_two_deadlines_counts() -> None:
    clockwork, clock, store, _ = leading()
    clockwork.stamp(store)
    store.next_deadline_ms = clock.wall + 300
    store.next_lease_deadline_ms = 200
    assert clockwork.next_tick_ms(store) == clock.now + 200
    store.next_lease_deadline_ms = 400
    assert clockwork.next_tick_ms(store) == clock.now + 300

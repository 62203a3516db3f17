"""Log time follows the wall clock without ever stepping; lease time counts time led."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.replica.log_time import SLEW_RATE, LogTime

WALL = 1_700_000_000_000


def led(log_time_ms: int = 0, lease_time_ms: int = 0, wall: int = WALL) -> LogTime:
    return LogTime(
        log_time_ms=log_time_ms, lease_time_ms=lease_time_ms, quorum_wall_ms=wall, now_ms=0
    )


def test_a_term_starts_at_the_quorums_clock_but_never_before_the_log() -> None:
    assert led().log_time_ms == WALL
    assert led(log_time_ms=WALL + 5000).log_time_ms == WALL + 5000


def test_it_runs_with_the_boot_clock_while_the_wall_clock_agrees() -> None:
    time = led()
    time.advance(1234, WALL + 1234)
    assert time.log_time_ms == WALL + 1234
    assert time.error_ms == 0


def test_a_step_of_the_wall_clock_is_followed_slowly() -> None:
    for step in (3_600_000, -3_600_000):
        time = led()
        time.advance(1000, WALL + 1000 + step)
        moved = time.log_time_ms - WALL
        assert abs(moved - 1000) <= 1000 * SLEW_RATE + 1
        assert abs(time.error_ms - step) < 1000


def test_lease_time_counts_only_what_passed_in_office() -> None:
    time = led(lease_time_ms=70_000)
    assert time.lease_time_ms == 70_000
    time.advance(500, WALL)
    assert time.lease_time_ms == 70_500


@given(st.lists(st.tuples(st.integers(-50, 10_000), st.integers(-(10**10), 10**10))))
def test_neither_time_ever_goes_back(readings: list[tuple[int, int]]) -> None:
    time = led()
    now = 0
    before = (time.log_time_ms, time.lease_time_ms)
    for passed, error in readings:
        now += passed
        time.advance(now, WALL + now + error)
        after = (time.log_time_ms, time.lease_time_ms)
        assert after[0] >= before[0]
        assert after[1] >= before[1]
        before = after

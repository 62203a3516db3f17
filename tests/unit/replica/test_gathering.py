"""Newcomers wait for what is on its way, but neither for few nor for long."""

from __future__ import annotations

from raftkv.replica.gathering import GATHER_CLIENTS_MIN, GATHER_MS, RETURN_MS, Gathering


def test_nobody_waits_for_few() -> None:
    gathering = Gathering()
    gathering.begin(100, GATHER_CLIENTS_MIN - 1)
    assert not gathering.goes_on(100, under_way=True)
    assert gathering.until_ms is None


def test_newcomers_wait_until_the_fate_of_many_is_known() -> None:
    gathering = Gathering()
    gathering.begin(100, GATHER_CLIENTS_MIN)
    assert gathering.goes_on(100, under_way=True)
    assert gathering.until_ms == 100 + GATHER_MS
    assert gathering.ends(100, under_way=False)
    assert not gathering.active
    assert not gathering.ends(100, under_way=False), "an end is told once"


def test_newcomers_wait_no_longer_than_the_limit() -> None:
    gathering = Gathering()
    gathering.begin(100, GATHER_CLIENTS_MIN)
    assert gathering.goes_on(100 + GATHER_MS - 1, under_way=True)
    assert not gathering.goes_on(100 + GATHER_MS, under_way=True)
    assert gathering.until_ms is None


def ended(now_ms: int) -> Gathering:
    gathering = Gathering()
    gathering.begin(now_ms, GATHER_CLIENTS_MIN)
    assert not gathering.grows(now_ms, 5), "while they wait, nobody counts them"
    assert gathering.ends(now_ms, under_way=False)
    return gathering


def test_behind_an_end_those_who_come_back_are_waited_for() -> None:
    gathering = ended(100)
    assert gathering.grows(100, 5)
    assert gathering.grows(100, 6)
    assert not gathering.grows(100, 6), "nobody came"
    assert not gathering.grows(100, 7), "the next batch is due"


def test_those_who_come_back_are_not_waited_for_long() -> None:
    gathering = ended(100)
    assert gathering.grows(100, 5)
    assert not gathering.grows(100 + RETURN_MS, 6)

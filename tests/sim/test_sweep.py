"""A sweep that shows too little fails, and its table can be read."""

from __future__ import annotations

from collections import Counter

from tests.sim.run import fault_kinds
from tests.sim.sweep import Broken, Goals, Totals, rows_of, text_table


def totals() -> Totals:
    return Totals(
        seeds=200, operations=100, acknowledged=60, elections=100, snapshots_installed=20,
        membership_changes=20, faults=Counter(kill=10, wipe=10),
    )  # fmt: skip


def test_enough_for_so_many_seeds() -> None:
    assert totals().shortcomings(["kill", "wipe"], Goals(), 200) == []


def test_every_shortcoming_is_named() -> None:
    few = totals()
    few.elections, few.acknowledged = 99, 40
    del few.faults["wipe"]
    assert few.shortcomings(["kill", "wipe"], Goals(), 200) == [
        "elections: 99, at least 100 expected",
        "fault wipe: fired 0 times, at least 10 expected",
        "only 40% of the operations were acknowledged",
    ]


def test_a_fault_that_never_fires_is_missed_in_a_short_sweep_too() -> None:
    assert totals().shortcomings(["rot"], Goals(), 5) == [
        "fault rot: fired 0 times, at least 1 expected"
    ]


def test_what_becomes_of_frames_and_writes_is_asked_for() -> None:
    asked = {"frame_late", "frame_copied", "frame_of_dead", "torn_write"}
    assert asked <= set(fault_kinds())


def test_a_command_that_is_seldom_acknowledged_is_named() -> None:
    few = totals()
    few.commands = Counter(GET=10, LMOVE=9)
    assert few.shortcomings([], Goals(), 200, ["GET", "LMOVE"]) == [
        "LMOVE: acknowledged 9 times, at least 10 expected"
    ]


def test_the_table_is_aligned() -> None:
    broken = totals()
    broken.broken.append(Broken(7, "linearizable", "no order"))
    lines = text_table(rows_of(broken, ["kill", "wipe"], 60.0)).splitlines()
    figures = [line for line in lines if line[-1:].isdigit()]
    assert len({len(line) for line in figures}) == 1
    assert any(line.startswith("violations") and line.endswith(" 1") for line in lines)

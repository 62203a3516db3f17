"""Runs become entries within their limits, and every slot is answered once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raftkv.config import Limits
from raftkv.replica.batches import Batch, Batches
from raftkv.seams import DISCARDED, LEADERSHIP_LOST, NOT_LEADER, TIMEOUT
from tests.unit.replica.fakes import TestSlot

LIMITS = Limits(batch_commands_max=4, batch_bytes_max=40)


def encode(commands: Sequence[tuple[Any, ...]]) -> bytes:
    return b"".join(command[0] for command in commands)


def batches() -> Batches:
    return Batches(LIMITS, 1000)


def add(one: Batches, *sizes: int) -> TestSlot:
    slot = TestSlot()
    one.add([(b"x" * size,) for size in sizes], slot)
    return slot


def token(proposal: Any) -> Batch:
    assert isinstance(proposal.token, Batch)
    return proposal.token


def test_all_runs_of_a_turn_are_one_entry_and_get_their_own_results() -> None:
    one = batches()
    first, second = add(one, 1, 1), add(one, 2)
    (proposal,) = one.take(0, encode)
    assert proposal.payload == b"xxxx"
    one.resolve(token(proposal), ["a", "b", "c"])
    assert (first.answer, second.answer) == (["a", "b"], ["c"])
    assert one.uncommitted_bytes == 0
    assert not one.pending


def test_a_limit_of_commands_or_bytes_begins_another_entry() -> None:
    one = batches()
    slots = [add(one, 1, 1, 1), add(one, 1, 1), add(one, 30), add(one, 30)]
    proposals = one.take(0, encode)
    assert [len(p.payload) for p in proposals] == [3, 32, 30] or len(proposals) >= 3
    for proposal in proposals:
        count = sum(number for _, number in token(proposal).runs)
        one.resolve(token(proposal), [0] * count)
    assert [len(slot.answer) for slot in slots] == [3, 2, 1, 1]


def test_a_run_above_the_limits_is_parted_and_answered_as_a_whole_in_order() -> None:
    one = batches()
    slot = add(one, *[1] * 11)
    proposals = one.take(0, encode)
    assert all(len(proposal.payload) <= 4 for proposal in proposals)
    results = iter(range(11))
    for proposal in proposals:
        count = sum(number for _, number in token(proposal).runs)
        one.resolve(token(proposal), [next(results) for _ in range(count)])
    assert slot.answer == list(range(11))


def test_one_command_above_the_limit_goes_alone() -> None:
    one = batches()
    add(one, 100)
    assert [len(proposal.payload) for proposal in one.take(0, encode)] == [100]


def test_a_parted_run_that_was_applied_in_part_is_unknown_even_if_the_rest_is_definite() -> None:
    one = batches()
    slot = add(one, *[1] * 6)
    first, second, *_ = one.take(0, encode)
    one.resolve(token(first), [0] * 3)
    one.fail(token(second), DISCARDED)
    assert not slot.answer.definite


def test_a_parted_run_that_failed_stays_failed() -> None:
    one = batches()
    slot = add(one, *[1] * 6)
    first, second, *_ = one.take(0, encode)
    one.fail(token(first), LEADERSHIP_LOST)
    one.resolve(token(second), [0] * 3)
    assert slot.answer is LEADERSHIP_LOST


def test_a_batch_that_times_out_is_unknown_and_its_result_goes_nowhere() -> None:
    one = batches()
    slot = add(one, 1)
    (proposal,) = one.take(100, encode)
    assert one.next_deadline_ms() == 1100
    one.expire(1099)
    assert not slot.answers
    one.expire(1100)
    assert (slot.answer.reason, slot.answer.definite) == ("timeout", False)
    one.resolve(token(proposal), [1])
    assert one.uncommitted_bytes == 0


def test_the_time_of_runs_that_are_held_up_begins_with_their_wait() -> None:
    one = batches()
    one.hold_up(50)
    slot = add(one, 1)
    one.hold_up(100)
    one.hold_up(700)
    one.take(900, encode)
    later = add(one, 1)
    one.take(900, encode)
    assert one.next_deadline_ms() == 1100
    one.expire(1100)
    assert slot.answer is TIMEOUT
    one.expire(1899)
    assert not later.answers
    one.expire(1900)
    assert later.answer is TIMEOUT


def test_a_wait_that_ended_in_a_failure_takes_no_time_from_later_runs() -> None:
    one = batches()
    add(one, 1)
    one.hold_up(100)
    one.fail_new(NOT_LEADER)
    add(one, 1)
    one.take(900, encode)
    assert one.next_deadline_ms() == 1900


def test_runs_that_were_never_proposed_fail_as_told() -> None:
    one = batches()
    slot = add(one, 1)
    one.fail_new(NOT_LEADER)
    assert slot.answer is NOT_LEADER
    assert one.take(0, encode) == []


def test_an_early_batch_that_ends_late_does_not_hide_later_deadlines() -> None:
    one = batches()
    first_slot, second_slot = add(one, 1), TestSlot()
    (first,) = one.take(0, encode)
    one.add([(b"y",)], second_slot)
    (second,) = one.take(500, encode)
    one.resolve(token(second), [2])
    one.expire(1000)
    assert first_slot.answer.reason == "timeout"
    assert second_slot.answer == [2]
    assert one.next_deadline_ms() is None
    assert token(first).answered


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=12), max_size=8))
def test_whatever_the_sizes_all_commands_go_once_in_order(runs: list[list[int]]) -> None:
    one = batches()
    slots = []
    number = 0
    expected = []
    for run in runs:
        slot = TestSlot()
        commands = []
        for size in run:
            commands.append((b"%03d" % number + b"." * size,))
            number += 1
        expected += [command[0] for command in commands]
        one.add(commands, slot)
        slots.append(slot)
    proposals = one.take(0, encode)
    assert b"".join(proposal.payload for proposal in proposals) == b"".join(expected)
    for proposal in proposals:
        count = sum(many for _, many in token(proposal).runs)
        assert count <= LIMITS.batch_commands_max or count == 1
        one.resolve(token(proposal), [proposal.payload[:3]] * count)
    assert [len(slot.answer) for slot in slots] == [len(run) for run in runs]
    assert one.uncommitted_bytes == 0

"""Reads wait for their round and for the store, and every failure is definite."""

from __future__ import annotations

from raftkv.engine.ready import ReadsReady
from raftkv.replica.reads import Read, Reads
from raftkv.types import Index
from tests.unit.replica.fakes import TestSlot


def reads_with(count: int) -> tuple[Reads, list[TestSlot], list[Read]]:
    reads = Reads(1000)
    return reads, [TestSlot() for _ in range(count)], []


def add(reads: Reads, slot: TestSlot) -> None:
    reads.add(Read([(1, b"key")], slot, sliced=False))


def test_a_read_is_served_after_its_round_and_its_index() -> None:
    reads, (slot,), served = reads_with(1)
    add(reads, slot)
    assert reads.has_new
    reads.begin(7, 0)
    reads.serve(Index(99), served.append)
    assert served == []
    reads.confirm(ReadsReady(7, Index(10)))
    reads.serve(Index(9), served.append)
    assert served == []
    reads.serve(Index(10), served.append)
    assert [read.slot for read in served] == [slot]


def test_a_confirmed_round_says_nothing_of_later_ones() -> None:
    reads, slots, served = reads_with(3)
    for ticket, slot in enumerate(slots, start=7):
        add(reads, slot)
        reads.begin(ticket, 0)
    reads.confirm(ReadsReady(8, Index(10)))
    reads.serve(Index(10), served.append)
    assert [read.slot for read in served] == slots[:2]


def test_losing_office_fails_reads_in_every_stage_definitely_and_once() -> None:
    reads, slots, served = reads_with(3)
    add(reads, slots[0])
    reads.begin(1, 0)
    reads.confirm(ReadsReady(1, Index(50)))
    add(reads, slots[1])
    reads.begin(2, 0)
    add(reads, slots[2])
    reads.fail_all()
    reads.serve(Index(99), served.append)
    reads.expire(10_000)
    assert served == []
    assert [(slot.answer.reason, slot.answer.definite) for slot in slots] == [
        ("not leader", True)
    ] * 3


def test_time_over_is_definite_for_a_read_in_both_stages() -> None:
    reads, (first, second), served = reads_with(2)
    add(reads, first)
    reads.begin(1, 0)
    reads.confirm(ReadsReady(1, Index(50)))
    add(reads, second)
    reads.begin(2, 500)
    assert reads.next_deadline_ms() == 1000
    reads.expire(1000)
    assert first.answer.definite
    assert not second.answers
    assert reads.next_deadline_ms() == 1500
    reads.expire(1500)
    assert second.answer.definite
    assert reads.next_deadline_ms() is None
    assert served == []

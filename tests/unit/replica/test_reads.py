"""Reads wait for their round and for the store, and every failure is definite."""

from __future__ import annotations

from typing import Any

from raftkv.engine.ready import ReadsReady
from raftkv.kv.commands import ErrorReply, Opcode
from raftkv.replica.reads import Read, Reads
from raftkv.types import Index
from tests.sim.cluster import Cluster, SimSlot
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
    reads.serve(Index(99), served.extend)
    assert served == []
    reads.confirm(ReadsReady(7, Index(10)))
    reads.serve(Index(9), served.extend)
    assert served == []
    reads.serve(Index(10), served.extend)
    assert [read.slot for read in served] == [slot]


def test_a_confirmed_round_says_nothing_of_later_ones() -> None:
    reads, slots, served = reads_with(3)
    for ticket, slot in enumerate(slots, start=7):
        add(reads, slot)
        reads.begin(ticket, 0)
    reads.confirm(ReadsReady(8, Index(10)))
    reads.serve(Index(10), served.extend)
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
    reads.serve(Index(99), served.extend)
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


def test_reads_of_all_kinds_share_a_round_and_each_gets_its_own_answer() -> None:
    cluster = Cluster(3, size=3)
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    replica = leader.replica
    answers: dict[str, Any] = {}

    def slot(name: str) -> SimSlot:
        return SimSlot(lambda results, failure: answers.update({name: failure or list(results)}))

    writes = [
        (int(Opcode.SET), b"a", b"1"),
        (int(Opcode.SET), b"b", b"2"),
        (int(Opcode.HSET), b"h", 0, b"field", b"value"),
    ]
    replica.propose(writes, slot("written"))
    cluster.run_until(lambda: "written" in answers)
    get = int(Opcode.GET)
    replica.read([(get, b"a")], slot("a"))
    replica.read([(int(Opcode.HLEN), b"h")], slot("length"))
    replica.read([(get, b"missing")], slot("missing"))
    replica.read([(get, b"h")], slot("hash"))
    replica.read([(get, b"b"), (get, b"a")], slot("two"))
    replica.read([], slot("none"))
    replica.read([(get, b"b")], slot("b"))
    cluster.run_until(lambda: len(answers) == 8)
    (wrong_type,) = answers.pop("hash")
    assert isinstance(wrong_type, ErrorReply)
    assert wrong_type.message.startswith("WRONGTYPE")
    del answers["written"]
    assert answers == {
        "a": [b"1"], "length": [1], "missing": [None], "two": [b"2", b"1"], "none": [], "b": [b"2"],
    }  # fmt: skip


def test_a_single_read_of_a_round_is_answered() -> None:
    cluster = Cluster(4, size=1)
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    answers: list[Any] = []
    slot = SimSlot(lambda results, failure: answers.append(failure or list(results)))
    leader.replica.read([(int(Opcode.GET), b"missing")], slot)
    cluster.run_until(lambda: bool(answers))
    assert answers == [[None]]

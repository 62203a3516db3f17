"""The record of the past is right, and clients that read it ask for all that there is."""

from __future__ import annotations

import pytest

from raftkv.config import Limits
from raftkv.kv.commands import Command, Opcode
from tests.sim.cluster import Cluster, SimSlot
from tests.sim.past_reads import PastReaders
from tests.sim.past_record import PastRecord
from tests.sim.workload import Workload


def _started(limits: Limits | None = None) -> tuple[Cluster, PastReaders]:
    cluster = Cluster(1, limits=limits)
    readers = PastReaders(cluster)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None)
    return cluster, readers


def _recorded(*entries: list[Command]) -> PastRecord:
    """Let a cluster apply entries of several commands each, and return what was noted."""
    cluster, readers = _started()
    readers.stop()
    answers: list[object] = []
    for number, commands in enumerate(entries, 1):
        leader = cluster.leader()
        assert leader is not None
        leader.replica.propose(commands, SimSlot(lambda results, _: answers.append(results)))
        cluster.run_until(lambda number=number: len(answers) == number)
    return readers.record


def test_a_key_is_known_as_it_was() -> None:
    record = _recorded(
        [(Opcode.SET, b"a", b"1"), (Opcode.LIST_PUSH, b"l", 1, 0, b"x"), (Opcode.SET, b"a", b"2")],
        [(Opcode.LIST_PUSH, b"l", 1, 0, b"y"), (Opcode.DEL, b"a")],
    )
    assert record.at(b"a", 0) is None
    assert record.at(b"a", 1) == record.at(b"a", 2) == (b"1", b"string", 0, 1, 1, 1)
    assert record.at(b"a", 4) == (b"2", b"string", 0, 1, 3, 2)
    assert record.at(b"a", 5) is None
    assert record.at(b"l", 3) == ([b"x"], b"list", 0, 2, 2, 1)
    assert record.at(b"l", 5) == ([b"x", b"y"], b"list", 0, 2, 4, 2)
    assert [key for key, _ in record.between(b"a", b"", 4)] == [b"a", b"l"]
    assert [key for key, _ in record.between(b"", b"l", 4)] == [b"a"]
    first, second = record.index_of(1), record.index_of(4)
    assert first == record.index_of(3)
    assert first is not None
    assert second is not None
    assert record.extent(first) == (3, 0)
    assert record.extent(second) == record.extent(second + 9) == (5, 0)
    assert record.index_of(6) is None


def test_a_flush_ends_what_was_before_it_and_nothing_else() -> None:
    record = _recorded(
        [(Opcode.SET, b"a", b"1")],
        [
            *((Opcode.SET, b"b", b"2"), (Opcode.FLUSH,)),
            *((Opcode.SET, b"b", b"3"), (Opcode.SET, b"b", b"4")),
        ],
    )
    assert list(record.between(b"", b"", 3)) == []
    assert record.at(b"a", 2) == (b"1", b"string", 0, 1, 1, 1)
    assert record.at(b"b", 4) == (b"3", b"string", 0, 4, 4, 1)
    assert record.at(b"b", 5) == (b"4", b"string", 0, 4, 5, 2)
    index = record.index_of(5)
    assert index is not None
    assert record.extent(index) == (5, 3)


@pytest.mark.parametrize("revisions_kept", [0, 10_000])
def test_the_past_is_read_in_all_ways(revisions_kept: int) -> None:
    cluster, readers = _started(Limits(history_revisions=revisions_kept))
    workload = Workload(cluster)
    cluster.run(45_000)
    workload.running = False
    readers.stop()
    cluster.run(7000)
    expected = {"linearizable", "local", "pages", "unanswered", "future", "compacted"}
    assert {f"past_{name}" for name in expected} <= set(readers.counts)
    assert "past_replaced" not in readers.counts
    checks = cluster.invariants.checks
    assert checks["past_reads_are_what_was_committed"] > 40
    assert checks["present_ranges_are_linearizable"] > 10

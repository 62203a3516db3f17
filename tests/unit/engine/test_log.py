"""The log in memory, its records, and durability by write sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.evicted import ENTRY_OVERHEAD_BYTES
from raftkv.engine.log import APPEND_ENTRIES_MAX, RaftLog
from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
)
from raftkv.types import HardState, Index, Term, WriteSequence


def log(entries: int = 0, *, base: int = 0, term: int = 1) -> RaftLog:
    return RaftLog(
        base_index=Index(base),
        base_term=Term(term if base else 0),
        entries=[(b"\0%d" % number, base + number + 1, term) for number in range(entries)],
        hard_state=HardState(Term(term), None),
        sequence=WriteSequence(7),
    )


def write(one: RaftLog, *indexes: int, term: int = 1) -> int:
    """Append in one write of its own; return its sequence."""
    for index in indexes:
        one.add(b"\0x", index, term)
    one.take_records()
    return one.last_sequence


def test_what_was_recovered_is_durable() -> None:
    assert log(3).durable_index() == 3
    assert log(0, base=5).durable_index() == 5


def test_an_entry_is_durable_when_its_write_is() -> None:
    one = log(2)
    first = write(one, 3, 4)
    second = write(one, 5)
    assert one.durable_index() == 2
    one.note_synced(WriteSequence(first))
    assert one.durable_index() == 4
    one.note_synced(WriteSequence(second))
    assert one.durable_index() == 5


def test_a_report_of_an_older_sync_says_nothing_of_an_entry_that_took_the_place() -> None:
    one = log(2)
    first = write(one, 3)
    one.deleteEntriesFrom(3)
    second = write(one, 3, term=2)
    one.note_synced(WriteSequence(first))
    assert one.durable_index() == 2
    one.note_synced(WriteSequence(second))
    assert one.durable_index() == 3


def test_an_acknowledgement_waits_for_entry_hard_state_and_truncation() -> None:
    one = log(4)
    assert one.acknowledgement_depends(4) == 7
    one.deleteEntriesFrom(4)
    one.take_records()
    # Also an entry before the truncation: the tail must not come back after a crash.
    assert one.acknowledgement_depends(2) == 8
    one.setCurrentTerm(2, "B")
    one.take_records()
    assert one.acknowledgement_depends(2) == 9
    write(one, 4, term=2)
    assert (one.acknowledgement_depends(3), one.acknowledgement_depends(4)) == (9, 10)


def test_every_change_is_a_record_of_its_step() -> None:
    one = log(2)
    one.setCurrentTerm(2, "B")
    one.deleteEntriesFrom(2)
    one.add(b"\0y", 2, 2)
    one.restart(Index(9), Term(3))
    assert one.take_records() == [
        HardStateRecord(Term(2), "B"),  # type: ignore[arg-type]
        TruncateRecord(Index(2)),
        EntryRecord(Index(2), Term(2), b"\0y"),
        SnapshotRecord(Index(9), Term(3)),
    ]
    assert one.take_records() == []
    assert one.last_sequence == 8


def test_the_same_hard_state_is_not_written_twice() -> None:
    one = log()
    one.setCurrentTerm(1, None)
    assert one.take_records() == []


def test_a_term_never_goes_back() -> None:
    with pytest.raises(AssertionError, match="go back"):
        log(term=3).setCurrentTerm(2, None)


def test_a_gap_is_refused() -> None:
    with pytest.raises(AssertionError, match="does not follow"):
        log(2).add(b"\0", 4, 1)


def test_the_base_cannot_be_truncated() -> None:
    with pytest.raises(AssertionError, match="base"):
        log(2).deleteEntriesFrom(0)


def test_terms_are_known_from_the_base_to_the_end() -> None:
    one = log(2, base=5)
    assert [one.term_at(index) for index in (4, 5, 7, 8)] == [None, 1, 1, None]
    assert one.entry_at(5) is None
    assert one.entry_at(6) == (b"\x000", 6, 1)


def test_bytes_are_limited_but_one_entry_always_comes() -> None:
    one = RaftLog(
        base_index=Index(0),
        base_term=Term(0),
        entries=[(bytes(size), index, 1) for index, size in enumerate((10, 10, 50, 1), start=1)],
        hard_state=HardState(Term(1), None),
        sequence=WriteSequence(0),
    )
    assert [entry[1] for entry in one.entries_from(1, 20)] == [1, 2]
    assert [entry[1] for entry in one.entries_from(3, 20)] == [3]
    assert [entry[1] for entry in one.entries_from(4, 20)] == [4]


def test_a_message_has_a_limited_number_of_entries() -> None:
    one = log(2 * APPEND_ENTRIES_MAX)
    entries = one.entries_from(2, 1 << 20)
    assert [entry[1] for entry in entries] == list(range(2, APPEND_ENTRIES_MAX + 2))


def test_compaction_makes_the_last_dropped_entry_the_base() -> None:
    one = log(5)
    one.compact(Index(3))
    assert (one.base_index, one.base_term, one.last_index, len(one)) == (3, 1, 5, 3)
    one.compact(Index(2))
    assert one.base_index == 3


def test_a_restart_is_durable_only_with_its_own_write() -> None:
    one = log(5)
    one.restart(Index(9), Term(2))
    one.take_records()
    assert one.acknowledgement_depends(9) == one.last_sequence > one.synced


def test_what_leaves_the_memory_keeps_its_term_and_its_place() -> None:
    one = log(3)
    write(one, 4, 5, term=2)
    one.note_synced(one.last_sequence)
    one.evict(4, 0)
    assert (one.base_index, one.evicted_index, one.last_index) == (0, 4, 5)
    assert [one.term_at(index) for index in range(7)] == [0, 1, 1, 1, 2, 2, None]
    assert [one.entry_at(index) for index in (3, 4)] == [None, None]
    assert one.entry_at(5) == (b"\0x", 5, 2)
    assert one.memory_count == 1
    assert one.memory_bytes == 2 + ENTRY_OVERHEAD_BYTES
    assert one[0][1:] == (4, 2)


def test_what_is_not_durable_stays_in_memory() -> None:
    one = log(2)
    first = write(one, 3)
    write(one, 4)
    one.note_synced(WriteSequence(first))
    one.evict(4, 0)
    assert one.evicted_index == 3
    one.note_synced(one.last_sequence)
    one.evict(4, 0)
    assert one.evicted_index == 4


def test_no_more_leaves_than_the_budget_asks() -> None:
    one = log(10)
    one.evict(10, one.memory_bytes - 1)
    assert one.evicted_index == 1
    one.evict(10, one.memory_bytes)
    assert one.evicted_index == 1


def test_an_evicted_entry_is_acknowledged_at_once() -> None:
    one = log(4)
    write(one, 5)
    one.note_synced(one.last_sequence)
    one.evict(5, 0)
    assert one.acknowledgement_depends(2) <= one.synced
    one.setCurrentTerm(2, "B")
    assert one.acknowledgement_depends(2) == one.synced + 1


def test_compaction_of_evicted_entries_leaves_the_memory_alone() -> None:
    one = log(6)
    one.evict(4, 0)
    before = one.memory_bytes
    one.compact(Index(2))
    assert (one.base_index, one.evicted_index, one.memory_bytes) == (2, 4, before)
    assert [one.term_at(index) for index in (1, 2, 3)] == [None, 1, 1]
    one.compact(Index(5))
    assert (one.base_index, one.evicted_index, one.memory_count) == (5, 5, 1)
    assert one.term_at(4) is None


def test_what_a_snapshot_leaves_is_counted_in_bytes_across_memory_and_disk() -> None:
    one = log()
    for index in range(1, 21):
        one.add(bytes(20_000), index, 1)
    one.take_records()
    one.note_synced(one.last_sequence)
    one.evict(15, 0)
    assert one.first_within(Index(20), 60_000) == 18
    assert one.first_within(Index(20), 59_999) == 19
    assert one.first_within(Index(20), 0) == 21
    # Each of these is larger than the distance of two sums.
    assert one.first_within(Index(20), 140_000) == 14
    assert one.first_within(Index(10), 60_000) == 8
    assert one.first_within(Index(20), 1 << 30) == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 20)),
        st.tuples(st.just("sync"), st.integers(0, 5)),
        st.tuples(st.just("compact"), st.integers(0, 20)),
        st.tuples(st.just("restart"), st.integers(1, 5)),
        st.tuples(st.just("apply"), st.integers(0, 20)),
        st.tuples(st.just("term"), st.integers(1, 3)),
        st.tuples(st.just("evict"), st.integers(0, 600)),
    )
)


@given(steps)
def test_against_a_list_in_which_each_entry_knows_its_write(actions: list[tuple[str, int]]) -> None:
    one = log()
    base, base_term, term, applied = 0, 0, 1, 0
    model: list[tuple[int, int, int]] = []
    for verb, number in actions:
        durable = sum(entry[2] <= one.synced for entry in model)
        if verb == "add":
            for _ in range(number):
                index = base + len(model) + 1
                one.add(b"\0x", index, term)
                model.append((index, term, one.last_sequence + 1))
        elif verb == "term":
            term += number
        elif verb == "truncate" and applied - base < number <= len(model):
            # As the engine does it: what is applied is never truncated.
            one.deleteEntriesFrom(base + number - one[0][1])
            del model[number - 1 :]
        elif verb == "sync":
            one.note_synced(WriteSequence(max(one.synced, one.last_sequence - number)))
        elif verb == "apply":
            applied = max(applied, min(base + len(model), applied + number))
        elif verb == "evict":
            one.evict(applied, number)
            assert one.evicted_index <= min(applied, base + durable)
            assert one.memory_bytes <= number or one.evicted_index == min(applied, base + durable)
        elif verb == "compact" and 0 < number <= min(durable, applied - base):
            base, base_term, _ = model[number - 1]
            one.compact(Index(base))
            del model[:number]
        elif verb == "restart":
            base, base_term = base + len(model) + number, term
            applied = base
            one.restart(Index(base), Term(term))
            model = []
        one.take_records()
        assert (one.base_index, one.base_term) == (base, base_term)
        assert one.last_index == base + len(model)
        assert one.last_term == (model[-1][1] if model else base_term)
        assert one.term_at(base - 1) is None
        assert one.term_at(base) == base_term
        in_memory = 0
        for index, entry_term, sequence in model:
            assert one.term_at(index) == entry_term
            assert one.acknowledgement_depends(index) >= min(sequence, one.synced)
            if sequence > one.synced:
                assert one.acknowledgement_depends(index) >= sequence
            if one.durable_index() >= index:
                assert sequence <= one.synced
            if index > one.evicted_index:
                in_memory += 1
                assert one.entry_at(index) == (b"\0x", index, entry_term)
        assert one.memory_count == in_memory
        assert one.memory_bytes == in_memory * (2 + ENTRY_OVERHEAD_BYTES)

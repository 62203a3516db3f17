"""The log in memory, its records, and durability by write sequence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.log import RaftLog
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


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("truncate"), st.integers(0, 20)),
        st.tuples(st.just("sync"), st.integers(0, 5)),
        st.tuples(st.just("compact"), st.integers(0, 20)),
        st.tuples(st.just("restart"), st.integers(1, 5)),
    )
)


@given(steps)
def test_against_a_list_in_which_each_entry_knows_its_write(actions: list[tuple[str, int]]) -> None:
    one = log()
    base = 0
    model: list[tuple[int, int]] = []
    for verb, number in actions:
        if verb == "add":
            for _ in range(number):
                index = base + len(model) + 1
                one.add(b"\0x", index, 1)
                model.append((index, one.last_sequence + 1))
        elif verb == "truncate" and 0 < number <= len(model):
            one.deleteEntriesFrom(number)
            del model[number - 1 :]
        elif verb == "sync":
            one.note_synced(WriteSequence(max(one.synced, one.last_sequence - number)))
        elif verb == "compact" and 0 < number <= len(model):
            if model[number - 1][1] <= one.synced:
                base = model[number - 1][0]
                one.compact(Index(base))
                del model[:number]
        elif verb == "restart":
            base = base + len(model) + number
            one.restart(Index(base), Term(1))
            model = []
        one.take_records()
        assert one.last_index == base + len(model)
        for index, sequence in model:
            assert one.acknowledgement_depends(index) >= sequence
            if one.durable_index() >= index:
                assert sequence <= one.synced
        assert one.size_bytes == 2 * len(model)

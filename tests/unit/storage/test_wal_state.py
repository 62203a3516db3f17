"""The rules that any sequence of WAL records obeys."""

from __future__ import annotations

import pytest

from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.storage.wal_state import LogState
from raftkv.types import HardState, Index, NodeId, Term


def state() -> LogState:
    return LogState(base_index=10, base_term=3, hard_state=HardState(Term(4), None), commit_hint=0)


def entry(index: int, term: int) -> EntryRecord:
    return EntryRecord(Index(index), Term(term), b"")


@pytest.mark.parametrize(
    ("records", "last_index", "last_term"),
    [
        ([], 10, 3),
        ([entry(11, 3), entry(12, 4), entry(13, 4)], 13, 4),
        ([entry(11, 3), entry(12, 4), TruncateRecord(Index(12))], 11, 3),
        ([entry(11, 4), entry(12, 4), entry(13, 4), TruncateRecord(Index(12))], 11, 4),
        ([entry(11, 4), TruncateRecord(Index(11))], 10, 3),
        ([entry(11, 4), TruncateRecord(Index(12))], 11, 4),
        ([TruncateRecord(Index(9))], 8, None),
        ([TruncateRecord(Index(9)), entry(9, 5)], 9, 5),
        ([entry(11, 4), SnapshotRecord(Index(50), Term(7))], 50, 7),
        ([SnapshotRecord(Index(5), Term(2)), entry(6, 2), TruncateRecord(Index(6))], 5, 2),
    ],
)
def test_end_of_the_log(records: list[WalRecord], last_index: int, last_term: int | None) -> None:
    whole, one_by_one = state(), state()
    whole.apply(records)
    for record in records:
        one_by_one.apply([record])
    for found in (whole, one_by_one):
        assert (found.last_index, found.last_term) == (last_index, last_term)


@pytest.mark.parametrize(("term", "vote"), [(4, "n1"), (4, None), (5, None), (9, "n2")])
def test_a_term_grows_and_gets_one_vote(term: int, vote: str | None) -> None:
    found = state()
    found.apply([HardStateRecord(Term(term), None if vote is None else NodeId(vote))])
    assert found.hard_state == (term, vote)
    found.apply([HardStateRecord(Term(term), found.hard_state.vote)])  # Said again.


@pytest.mark.parametrize(
    "records",
    [
        [entry(12, 3)],
        [entry(10, 3)],
        [TruncateRecord(Index(12))],
        [TruncateRecord(Index(0))],
        [HardStateRecord(Term(3), None)],
        [HardStateRecord(Term(4), NodeId("n1")), HardStateRecord(Term(4), NodeId("n2"))],
    ],
)
def test_what_breaks_the_rules_is_refused(records: list[WalRecord]) -> None:
    with pytest.raises(ValueError, match=r"follows|truncation|second vote"):
        state().apply(records)

"""What the records written so far add up to: end of the log, terms, hard state.

Owns the rules that every sequence of WAL records obeys: indexes without gaps,
terms that never go back, one vote a term. `Wal.append` applies them before it
writes, recovery applies the same rules to what it reads, and each segment
header repeats the sum, so that a segment needs none before it.

Pure: no I/O. Who calls: `storage.wal`, `storage.wal_recovery`.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.types import HardState, Index, Term


class LogState:
    """End of the log and hard state after a sequence of records.

    Attributes:
        last_index: Last index of the log.
        hard_state: Newest term and vote.
        commit_hint: Highest hint seen.
    """

    __slots__ = ("_runs", "commit_hint", "hard_state", "last_index")

    def __init__(
        self, *, base_index: int, base_term: int, hard_state: HardState, commit_hint: int
    ) -> None:
        self.last_index = base_index
        self.hard_state = hard_state
        self.commit_hint = commit_hint
        # (first index, term) of each stretch of one term, so that the term at
        # the end is known after a truncation without keeping one per entry.
        self._runs = [(base_index, base_term)]

    @property
    def last_term(self) -> int | None:
        """Term at `last_index`; None when a truncation went below the first base."""
        return self._runs[-1][1] if self._runs else None

    def apply(self, records: Sequence[WalRecord]) -> None:
        """Add records.

        Raises:
            ValueError: They do not continue what is there; the state is then
                undefined and its owner has to stop.
        """
        for record in records:
            if type(record) is EntryRecord:
                index, term, _ = record
                if index != self.last_index + 1:
                    raise ValueError(f"entry {index} follows entry {self.last_index}")
                self.last_index = index
                runs = self._runs
                if not runs or runs[-1][1] != term:
                    runs.append((index, term))
            elif type(record) is HardStateRecord:
                self._apply_hard_state(record)
            elif type(record) is TruncateRecord:
                self._apply_truncation(record.first)
            elif isinstance(record, SnapshotRecord):
                self.last_index = record.index
                self._runs = [(record.index, record.term)]

    def _apply_hard_state(self, record: HardStateRecord) -> None:
        term, vote = self.hard_state
        if record.term < term:
            raise ValueError(f"term {record.term} follows term {term}")
        # Raft, figure 2: at most one vote a term. Losing this loses everything.
        if record.term == term and vote is not None and record.vote not in (None, vote):
            raise ValueError(f"a second vote in term {term}")
        self.hard_state = HardState(Term(record.term), record.vote)

    def _apply_truncation(self, first: int) -> None:
        if not 1 <= first <= self.last_index + 1:
            raise ValueError(f"truncation at {first} of a log that ends at {self.last_index}")
        while self._runs and self._runs[-1][0] >= first:
            self._runs.pop()
        self.last_index = Index(first - 1)

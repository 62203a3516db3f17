"""The Raft log in memory, and the records by which a step makes it durable.

`RaftLog` stands in for PySyncObj's journal: the library's handlers call its
camelCase methods, each change becomes a WAL record of the current step, and
each entry remembers the write sequence under which it goes to the disk.

Durability is tracked by that number, never by index: a truncation reuses
indexes while an older fsync may still be in flight.

Invariants: position 0 is a base (index and term before the first entry);
indexes have no gap; `_sequences` never falls from one entry to the next.

Pure. Owner: engine.core. Tests: tests/unit/engine/test_log.py.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import overload

from raftkv.engine.ready import (
    KIND_NOOP,
    EntryRecord,
    HardStateRecord,
    LogEntry,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.types import HardState, Index, NodeId, Term, WriteSequence

_BASE_COMMAND = bytes((KIND_NOOP,))


class RaftLog:
    """Entries after a base, with the records that the current step has made."""

    def __init__(
        self,
        *,
        base_index: Index,
        base_term: Term,
        entries: list[LogEntry],
        hard_state: HardState,
        sequence: WriteSequence,
    ) -> None:
        """Take over a recovered log; everything in it is already durable."""
        self._entries: list[LogEntry] = [(_BASE_COMMAND, base_index, base_term), *entries]
        self._sequences: list[int] = [sequence] * len(self._entries)
        self._hard_state = hard_state
        self._hard_state_sequence: int = sequence
        self._truncate_sequence: int = sequence
        self._last_sequence: int = sequence
        self._synced: int = sequence
        self._commit = base_index
        self._records: list[WalRecord] = []
        self.size_bytes = sum(len(entry[0]) for entry in entries)

    # ------------------------------------------------------------ our side

    @property
    def base_index(self) -> Index:
        """Index before the first entry."""
        return Index(self._entries[0][1])

    @property
    def base_term(self) -> Term:
        """Term at the base."""
        return Term(self._entries[0][2])

    @property
    def last_index(self) -> Index:
        """Index of the last entry, or the base."""
        return Index(self._entries[-1][1])

    @property
    def last_term(self) -> Term:
        """Term of the last entry, or the base's."""
        return Term(self._entries[-1][2])

    @property
    def hard_state(self) -> HardState:
        """Newest term and vote."""
        return self._hard_state

    @property
    def hard_state_sequence(self) -> WriteSequence:
        """Write that carries the newest hard state."""
        return WriteSequence(self._hard_state_sequence)

    @property
    def synced(self) -> WriteSequence:
        """Every write up to this one is durable."""
        return WriteSequence(self._synced)

    @property
    def last_sequence(self) -> WriteSequence:
        """Newest write that a step has asked for."""
        return WriteSequence(self._last_sequence)

    def term_at(self, index: int) -> int | None:
        """Return the term at `index`, the base included; None outside the log."""
        position = index - self._entries[0][1]
        if 0 <= position < len(self._entries):
            return self._entries[position][2]
        return None

    def entry_at(self, index: int) -> LogEntry | None:
        """Return the entry at `index`; None at the base, below it, and past the end."""
        position = index - self._entries[0][1]
        if 0 < position < len(self._entries):
            return self._entries[position]
        return None

    def entries_from(self, first: int, bytes_max: int) -> list[LogEntry]:
        """Return entries from `first` on, at least one if there is one, within `bytes_max`."""
        entries = self._entries
        position = first - entries[0][1]
        end = position
        size = 0
        while end < len(entries):
            size += len(entries[end][0])
            if size > bytes_max and end > position:
                break
            end += 1
        return entries[position:end]

    def durable_index(self) -> Index:
        """Return the highest index whose entry, and all before it, are durable."""
        position = bisect_right(self._sequences, self._synced) - 1
        return Index(self._entries[position][1]) if position >= 0 else self.base_index

    def acknowledgement_depends(self, index: int) -> WriteSequence:
        """Return the write that must be synced before `index` may be acknowledged."""
        position = max(0, index - self._entries[0][1])
        return WriteSequence(
            max(self._sequences[position], self._hard_state_sequence, self._truncate_sequence)
        )

    def note_synced(self, sequence: WriteSequence) -> None:
        """Take the report that every write up to `sequence` is durable."""
        self._synced = max(self._synced, sequence)

    def take_records(self) -> list[WalRecord]:
        """Return what this step wrote; the next change belongs to a new write."""
        records = self._records
        if records:
            self._records = []
            self._last_sequence += 1
        return records

    def allocate_sequence(self) -> WriteSequence:
        """Return a number for a write that carries no records: a sync mark."""
        self._last_sequence += 1
        return WriteSequence(self._last_sequence)

    def compact(self, index: Index) -> None:
        """Drop entries at and below `index`, which becomes the base."""
        position = index - self._entries[0][1]
        if position <= 0:
            return
        dropped = self._entries[1 : position + 1]
        self.size_bytes -= sum(len(entry[0]) for entry in dropped)
        _, base_index, base_term = self._entries[position]
        self._entries[: position + 1] = [(_BASE_COMMAND, base_index, base_term)]
        self._sequences[: position + 1] = [self._sequences[position]]

    def restart(self, index: Index, term: Term) -> None:
        """Drop everything: the log goes on behind an installed snapshot."""
        self._write(SnapshotRecord(index, term))
        self._entries = [(_BASE_COMMAND, index, term)]
        self._sequences = [self._last_sequence + 1]
        self.size_bytes = 0

    def _write(self, record: WalRecord) -> None:
        self._records.append(record)

    # ------------------------------------------------- what PySyncObj calls

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append one entry (PySyncObj's name and order of arguments)."""
        if idx != self._entries[-1][1] + 1:
            raise AssertionError(f"entry {idx} does not follow {self._entries[-1][1]}")
        self._entries.append((command, idx, term))
        self._sequences.append(self._last_sequence + 1)
        self._records.append(EntryRecord(Index(idx), Term(term), command))
        self.size_bytes += len(command)

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - library's name
        """Drop the entries from a list position on (PySyncObj's name)."""
        if entryFrom <= 0:
            raise AssertionError("the base of the log cannot be truncated")
        if entryFrom >= len(self._entries):
            return
        self._write(TruncateRecord(Index(self._entries[entryFrom][1])))
        self.size_bytes -= sum(len(entry[0]) for entry in self._entries[entryFrom:])
        del self._entries[entryFrom:]
        del self._sequences[entryFrom:]
        self._truncate_sequence = self._last_sequence + 1

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Record term and vote (PySyncObj's name)."""
        hard_state = HardState(
            Term(term), None if votedForNodeId is None else NodeId(votedForNodeId)
        )
        if hard_state == self._hard_state:
            return
        if hard_state.term < self._hard_state.term:
            raise AssertionError(f"term would go back from {self._hard_state.term} to {term}")
        self._hard_state = hard_state
        self._hard_state_sequence = self._last_sequence + 1
        self._write(HardStateRecord(*hard_state))

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """Keep the commit index as a hint for recovery (PySyncObj's name)."""
        self._commit = Index(raftCommitIndex)

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """Return the newest commit index (PySyncObj's name)."""
        return self._commit

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, position: int) -> LogEntry: ...

    @overload
    def __getitem__(self, position: slice) -> list[LogEntry]: ...

    def __getitem__(self, position: int | slice) -> LogEntry | list[LogEntry]:
        return self._entries[position]

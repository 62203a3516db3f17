"""The Raft log: its newest entries in memory, and the records that make it durable.

`RaftLog` stands in for PySyncObj's journal: the library's handlers call its
camelCase methods, each change becomes a WAL record of the current step, and
each entry remembers the write sequence under which it goes to the disk.

Durability is tracked by that number, never by index: a truncation reuses
indexes while an older fsync may still be in flight.

The oldest entries leave the memory when it exceeds its budget, once they are
applied and durable; their terms stay known (`engine.evicted`), and whoever needs
them has them read back from the disk (`Ready.wanted`).

Invariants: position 0 stands for the entry before the first one in memory, or
for the base (index and term before the first entry of the log); indexes have no
gap; `_sequences` never falls from one entry to the next.

Pure. Owner: engine.core. Tests: tests/unit/engine/test_log.py.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import overload

from raftkv.engine.evicted import ENTRY_OVERHEAD_BYTES, EvictedEntries, excess, memory_bytes
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

# Limit: entries in one message to a peer, which takes 6 us for each besides their bytes.
APPEND_ENTRIES_MAX = 512
_BASE_COMMAND = bytes((KIND_NOOP,))


class RaftLog:
    """Entries after a base, with the records that the current step has made.

    Attributes:
        base_index: Index before the first entry.
        evicted_index: Index before the first entry in memory: the base, or that
            of an entry which is on the disk only.
        memory_bytes: What the entries in memory cost.
    """

    def __init__(
        self,
        *,
        base_index: Index,
        base_term: Term,
        entries: list[LogEntry],
        hard_state: HardState,
        sequence: WriteSequence,
        evicted: EvictedEntries | None = None,
    ) -> None:
        """Take over a recovered log; everything in it is already durable.

        Args:
            base_index: Index before the first entry.
            base_term: Term at `base_index`.
            entries: Those in memory, continuous, up to the last.
            hard_state: Newest term and vote.
            sequence: Highest write sequence used.
            evicted: Those between base and `entries`, applied already.
        """
        self._evicted = evicted or EvictedEntries(base_index, base_term)
        self.base_index = base_index
        self.evicted_index = Index(self._evicted.last_index)
        before = (_BASE_COMMAND, self._evicted.last_index, self._evicted.last_term)
        self._entries: list[LogEntry] = [before, *entries]
        self._sequences: list[int] = [sequence] * len(self._entries)
        self._hard_state = hard_state
        self._hard_state_sequence: int = sequence
        self._truncate_sequence: int = sequence
        self._last_sequence: int = sequence
        self._synced: int = sequence
        self._commit = base_index
        self._records: list[WalRecord] = []
        self.memory_bytes = memory_bytes(entries)

    # ------------------------------------------------------------ our side

    @property
    def base_term(self) -> Term:
        """Term at the base."""
        return Term(self._evicted.base_term)

    @property
    def memory_count(self) -> int:
        """How many entries are in memory."""
        return len(self._entries) - 1

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
        return self._evicted.term_at(index) if position < 0 else None

    def entry_at(self, index: int) -> LogEntry | None:
        """Return the entry at `index`; None where it is not in memory or there is none."""
        position = index - self._entries[0][1]
        if 0 < position < len(self._entries):
            return self._entries[position]
        return None

    def entries_from(self, first: int, bytes_max: int) -> list[LogEntry]:
        """Return entries for a message: those from `first` on, at least one if there is one.

        Args:
            first: Above `evicted_index`.
            bytes_max: Of the entries behind the first one.
        """
        entries = self._entries
        position = first - entries[0][1]
        end = position
        end_max = min(len(entries), position + APPEND_ENTRIES_MAX)
        size = 0
        while end < end_max:
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
        # An evicted entry is durable, so the write of the last of them does for it.
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

    def evict(self, index: int, bytes_max: int) -> None:
        """Drop the oldest entries from memory until it costs at most `bytes_max`.

        Args:
            index: None above it; one above what is not durable goes either.
            bytes_max: As `memory_bytes` counts.
        """
        entries = self._entries
        end = min(index, self.durable_index()) - entries[0][1] + 1
        count = excess(entries, 1, end, bytes_excess=self.memory_bytes - bytes_max)
        if count:
            dropped = entries[1 : count + 1]
            self._evicted.add(dropped)
            self._drop_first(count)
            self.memory_bytes -= memory_bytes(dropped)

    def _drop_first(self, count: int) -> None:
        """Let the entry at position `count` be the one before the first in memory."""
        _, index, term = self._entries[count]
        self.evicted_index = Index(index)
        self._entries[: count + 1] = [(_BASE_COMMAND, index, term)]
        self._sequences[: count + 1] = [self._sequences[count]]

    def compact(self, index: Index) -> None:
        """Drop entries at and below `index`, which becomes the base."""
        if index <= self.base_index:
            return
        self.base_index = index
        position = index - self._entries[0][1]
        if position <= 0:
            self._evicted.forget(index)
            return
        self.memory_bytes -= memory_bytes(self._entries[1 : position + 1])
        self._drop_first(position)
        self._evicted = EvictedEntries(index, self._entries[0][2])

    def first_within(self, last: Index, bytes_max: int) -> Index:
        """Return the first of the entries up to `last` whose commands fit into `bytes_max`.

        Never more than these; fewer by a few where they are not in memory.
        """
        entries = self._entries
        position = last - entries[0][1]
        size = 0
        while position > 0:
            size += len(entries[position][0])
            if size > bytes_max:
                return Index(entries[position][1] + 1)
            position -= 1
        return Index(self._evicted.first_within(min(last, entries[0][1]), bytes_max - size))

    def restart(self, index: Index, term: Term) -> None:
        """Drop everything: the log goes on behind an installed snapshot."""
        self._write(SnapshotRecord(index, term))
        self.base_index = self.evicted_index = index
        self._evicted = EvictedEntries(index, term)
        self._entries = [(_BASE_COMMAND, index, term)]
        self._sequences = [self._last_sequence + 1]
        self.memory_bytes = 0

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
        self.memory_bytes += len(command) + ENTRY_OVERHEAD_BYTES

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - library's name
        """Drop the entries from a list position on (PySyncObj's name)."""
        if entryFrom <= 0:
            raise AssertionError("the base of the log cannot be truncated")
        if entryFrom >= len(self._entries):
            return
        self._write(TruncateRecord(Index(self._entries[entryFrom][1])))
        self.memory_bytes -= memory_bytes(self._entries[entryFrom:])
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

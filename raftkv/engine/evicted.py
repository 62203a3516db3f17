"""What is still known of log entries that are on the disk only.

The engine keeps the newest entries in memory, within a budget of bytes. Of the
older ones it has to know the term (log matching asks for the term at the
previous index) and roughly the size (what a snapshot leaves behind for late
followers is counted in bytes). Terms never fall along a log, so a run of one
term needs one pair of numbers, however long it is; sizes are summed up at
intervals.

Invariant: covers the indexes from a base, whose term is known too, to
`last_index` without a gap. Only entries that are applied and durable come here,
so nothing in it is ever truncated.

Pure. Users: engine.log; storage.wal_recovery, which drops what exceeds the
budget while it reads. Tests: tests/unit/engine/test_evicted.py.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

# As `engine.ready.LogEntry`, which needs this module.
_LogEntry = tuple[bytes, int, int]

# Bytes of memory that an entry costs besides its command: the headers of a bytes
# object, a tuple and two numbers, and its places in two lists (CPython, 64 bit).
ENTRY_OVERHEAD_BYTES = 192
# Bytes of commands between two sums: 64 MiB of log cost 64 KiB of memory.
SAMPLE_BYTES = 16 * 1024


def memory_bytes(entries: Sequence[_LogEntry]) -> int:
    """Return what these entries cost in memory."""
    return sum(len(entry[0]) for entry in entries) + ENTRY_OVERHEAD_BYTES * len(entries)


def excess(entries: Sequence[_LogEntry], first: int, end: int, *, bytes_excess: int) -> int:
    """Return how many entries of a range have to go, the oldest first.

    Args:
        entries: Entries by position.
        first: Position of the oldest that may go.
        end: Position behind the newest that may go.
        bytes_excess: What they should free, as `memory_bytes` counts.
    """
    position = first
    while position < end and bytes_excess > 0:
        bytes_excess -= len(entries[position][0]) + ENTRY_OVERHEAD_BYTES
        position += 1
    return position - first


class EvictedEntries:
    """Terms and sizes of the entries behind a base.

    Attributes:
        base_index: Index before the first entry.
        last_index: Index of the last one, or the base.
    """

    __slots__ = (
        "_bytes",
        "_run_firsts",
        "_run_terms",
        "_sample_bytes",
        "_sample_indexes",
        "base_index",
        "last_index",
    )

    def __init__(self, base_index: int, base_term: int) -> None:
        self.base_index = base_index
        self.last_index = base_index
        self._run_firsts = [base_index]
        self._run_terms = [base_term]
        # Sums of bytes from the first base to an index, that one included.
        self._sample_indexes = array("Q", (base_index,))
        self._sample_bytes = array("Q", (0,))
        self._bytes = 0

    @property
    def base_term(self) -> int:
        """Term at the base."""
        return self._run_terms[0]

    @property
    def last_term(self) -> int:
        """Term at `last_index`."""
        return self._run_terms[-1]

    def add(self, entries: Sequence[_LogEntry]) -> None:
        """Take entries that leave the memory; they continue what is here."""
        size, sampled = self._bytes, self._sample_bytes[-1]
        terms = self._run_terms
        for command, index, term in entries:
            if term != terms[-1]:
                self._run_firsts.append(index)
                terms.append(term)
            size += len(command)
            if size - sampled >= SAMPLE_BYTES:
                self._sample_indexes.append(index)
                self._sample_bytes.append(size)
                sampled = size
        self._bytes = size
        self.last_index += len(entries)

    def term_at(self, index: int) -> int | None:
        """Return the term at `index`, the base included; None outside."""
        if not self.base_index <= index <= self.last_index:
            return None
        return self._run_terms[bisect_right(self._run_firsts, index) - 1]

    def forget(self, index: int) -> None:
        """Drop the entries at and below `index`, one of them, which becomes the base."""
        run = bisect_right(self._run_firsts, index) - 1
        del self._run_firsts[:run], self._run_terms[:run]
        self._run_firsts[0] = index
        sample = bisect_right(self._sample_indexes, index) - 1
        del self._sample_indexes[:sample], self._sample_bytes[:sample]
        self.base_index = index

    def first_within(self, last: int, bytes_max: int) -> int:
        """Return the first of the newest entries up to `last` that fit into `bytes_max`.

        Never more than these; fewer by those of up to two times `SAMPLE_BYTES`.
        """
        place = bisect_left(self._sample_indexes, last)
        known = place < len(self._sample_bytes)
        size = self._sample_bytes[place] if known else self._bytes
        place = bisect_left(self._sample_bytes, size - bytes_max)
        known = place < len(self._sample_bytes)
        before = self._sample_indexes[place] if known else last
        return max(self.base_index, min(before, last)) + 1

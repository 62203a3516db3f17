"""When old revisions go: the leader proposes it, so that all nodes drop the same.

A leader compares the history of its store with its own settings. Where it has outgrown
them by a quarter, it proposes COMPACT up to the revision that keeps them; and once at the
begin of its office, where the bounds that the store knows are not those of its settings.

Owner: replica.replica. Tests: tests/unit/replica/test_history_bounds.py, tests/sim.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.config import Limits
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.history import History
from raftkv.seams import Failure

# Limit: a leader proposes compactions at most this often.
PROPOSAL_GAP_MS = 20
# Revisions which a history may have beyond its bound and a quarter, so that a small
# bound does not compact for every few writes.
SLACK_REVISIONS = 100


class HistoryBounds:
    """When to propose a compaction, and up to where.

    Is the slot of its own proposals: an answer only means that there may be another.
    """

    def __init__(self, limits: Limits, now_ms: int) -> None:
        self._limits = limits
        self._proposed = False
        self._proposal_ms = now_ms - PROPOSAL_GAP_MS

    def resolve(self, results: Sequence[object]) -> None:
        """The proposal was applied."""
        self._proposed = False

    def fail(self, failure: Failure) -> None:
        """The proposal was refused, or nobody knows what became of it."""
        self._proposed = False

    def turn(self, history: History, now_ms: int, *, leads: bool) -> Command | None:
        """Look whether something is to be proposed now, with this object as slot.

        Args:
            history: Of the store.
            now_ms: Boot time.
            leads: This node may propose.

        Returns:
            The command, or None.
        """
        if not leads or self._proposed or now_ms - self._proposal_ms < PROPOSAL_GAP_MS:
            return None
        revisions, size = self._limits.history_revisions, self._limits.history_bytes_max
        outgrown = (
            history.revision - history.compacted > revisions + revisions // 4 + SLACK_REVISIONS
            or history.byte_count > size + size // 4
        )
        if not outgrown and (history.revisions_kept, history.bytes_kept) == (revisions, size):
            return None
        self._proposed = True
        self._proposal_ms = now_ms
        target = history.target(revisions, size) if outgrown else history.compacted
        return (int(Opcode.COMPACT), target, revisions, size)

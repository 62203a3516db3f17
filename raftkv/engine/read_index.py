"""Linearizable reads that wait for a quorum to confirm who leads.

A read may be served once the leader's own no-op of its term is committed, a
quorum has answered a broadcast *begun after the read arrived*, in the same
term, and the store has applied what was committed then (Raft thesis, 6.4).
All reads of a step share one round.

Pure; owns only the tickets. The rounds themselves are counted by
engine.syncobj_replication. Owner: engine.core.
"""

from __future__ import annotations

from collections import deque

from raftkv.engine.ready import ReadsReady
from raftkv.types import Index


class ReadIndex:
    """Read tickets of the current term, in the order of their rounds."""

    def __init__(self) -> None:
        self._waiting: deque[ReadsReady] = deque()

    @property
    def pending(self) -> bool:
        """Whether a ticket waits for its round."""
        return bool(self._waiting)

    def register(self, ticket: int, index: Index) -> None:
        """Let reads wait for round `ticket`; they need `index` applied."""
        self._waiting.append(ReadsReady(ticket, index))

    def confirm(self, confirmed_round: int) -> ReadsReady | None:
        """Release every ticket whose round a quorum has confirmed.

        Returns:
            The newest of them: its index is the highest, so it covers all.
        """
        released = None
        while self._waiting and self._waiting[0].ticket <= confirmed_round:
            released = self._waiting.popleft()
        return released

    def clear(self) -> bool:
        """Drop all tickets; say whether there were any."""
        had = bool(self._waiting)
        self._waiting.clear()
        return had

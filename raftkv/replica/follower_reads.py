"""Reads of this node's store that wait for an index: the leader's, or a token's.

A follower reads linearizably by asking the leader what has to be applied: all reads
of a turn share one question, which the leader answers once a round that began after
it is confirmed. A token names an index outright. Nothing has been executed before
the index is applied, so every failure here is definite.

Owner: replica.replica. Tests: tests/unit/replica/test_follower_reads.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from raftkv.engine.ready import Ready
from raftkv.replica.reads import Read, Reads
from raftkv.seams import NOT_LEADER, Failure, Slot
from raftkv.types import Index

# What a read gets whose token is not applied in time.
BEHIND = Failure("behind the token", definite=True)


class _Awaited(NamedTuple):
    index: Index  # type: ignore[assignment]  # hides tuple.index
    deadline_ms: int
    slot: Slot


class FollowerReads:
    """Reads that asked the leader, and slots that wait for an index to be applied."""

    def __init__(self, request_timeout_ms: int) -> None:
        self._timeout_ms = request_timeout_ms
        self._reads = Reads(request_timeout_ms)
        # In the order of their deadlines: all have the same timeout.
        self._awaited: deque[_Awaited] = deque()

    @property
    def has_new(self) -> bool:
        """Whether reads arrived for which the leader was not asked yet."""
        return self._reads.has_new

    @property
    def active(self) -> bool:
        """Whether anything waits."""
        return self._reads.pending or bool(self._awaited)

    def add(self, read: Read) -> None:
        """Take reads for which the leader has to be asked."""
        self._reads.add(read)

    def await_applied(self, index: Index, now_ms: int, slot: Slot) -> None:
        """Resolve the slot, without results, once `index` is applied."""
        self._awaited.append(_Awaited(index, now_ms + self._timeout_ms, slot))

    def turn(
        self,
        ready: Ready,
        applied_index: Index,
        now_ms: int,
        execute: Callable[[list[Read]], None],
    ) -> None:
        """Go on with everything that waits, after what is committed was applied."""
        if self._reads.has_new:
            if ready.asked:
                self._reads.begin(ready.asked, now_ms)
            else:
                self.fail_all(NOT_LEADER)
        for answer in ready.index_answers:
            self._reads.confirm(answer)
        if ready.asks_failed or ready.leader_changed:
            self.fail_all(NOT_LEADER)
        self._reads.serve(applied_index, execute)
        self._reads.expire(now_ms)
        if self._awaited:
            self._serve_awaited(applied_index, now_ms)

    def _serve_awaited(self, applied_index: Index, now_ms: int) -> None:
        waiting, self._awaited = self._awaited, deque()
        for awaited in waiting:
            if awaited.index <= applied_index:
                awaited.slot.resolve(["OK"])
            elif awaited.deadline_ms <= now_ms:
                awaited.slot.fail(BEHIND)
            else:
                self._awaited.append(awaited)

    def fail_all(self, failure: Failure) -> None:
        """Answer every read that was not served."""
        self._reads.fail_all(failure)

    def close(self, failure: Failure) -> None:
        """Answer everything that waits; the node stops."""
        self._reads.fail_all(failure)
        waiting, self._awaited = self._awaited, deque()
        for awaited in waiting:
            awaited.slot.fail(failure)

    def next_deadline_ms(self) -> int | None:
        """Return when `turn` has something to give up."""
        deadline_ms = self._reads.next_deadline_ms()
        if self._awaited:
            awaited_ms = self._awaited[0].deadline_ms
            deadline_ms = awaited_ms if deadline_ms is None else min(deadline_ms, awaited_ms)
        return deadline_ms

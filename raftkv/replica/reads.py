"""Linearizable reads on their way from arrival to the store.

All reads of a turn share the round that the engine begins at the end of that
turn's step. They are served once a quorum has confirmed the round and the
store has applied what was committed when they arrived. Until then nothing has
been executed, so every failure here is definite.

Owner: replica.replica. Tests: tests/unit/replica/test_reads.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from raftkv.engine.ready import ReadsReady
from raftkv.seams import NOT_LEADER, READ_TIMEOUT, Failure, Slot
from raftkv.types import Index

Command = tuple[Any, ...]


class Read(NamedTuple):
    """One run of reads of one connection; `sliced` ones walk the whole store."""

    commands: Sequence[Command]
    slot: Slot
    sliced: bool


class _Round(NamedTuple):
    ticket: int
    deadline_ms: int
    reads: list[Read]


class Reads:
    """Reads by stage: new, waiting for a round, waiting for the store."""

    def __init__(self, request_timeout_ms: int) -> None:
        self._timeout_ms = request_timeout_ms
        self._new: list[Read] = []
        self._rounds: deque[_Round] = deque()
        self._confirmed: deque[tuple[Index, _Round]] = deque()

    @property
    def has_new(self) -> bool:
        """Whether reads arrived since the last step."""
        return bool(self._new)

    @property
    def new_count(self) -> int:
        """How many reads arrived since the last step."""
        return len(self._new)

    @property
    def waits_for_round(self) -> bool:
        """Whether a round is on its way for reads."""
        return bool(self._rounds)

    @property
    def pending(self) -> bool:
        """Whether any read is not answered yet."""
        return bool(self._new or self._rounds or self._confirmed)

    def add(self, read: Read) -> None:
        """Take reads into the next step."""
        self._new.append(read)

    def begin(self, ticket: int, now_ms: int) -> None:
        """Let everything new wait for the round of this step."""
        new, self._new = self._new, []
        self._rounds.append(_Round(ticket, now_ms + self._timeout_ms, new))

    def confirm(self, ready: ReadsReady) -> None:
        """Let the rounds up to that ticket wait for the store only."""
        while self._rounds and self._rounds[0].ticket <= ready.ticket:
            self._confirmed.append((ready.index, self._rounds.popleft()))

    def serve(self, applied_index: Index, execute: Callable[[list[Read]], None]) -> None:
        """Hand out every read whose index is applied, those of a round together."""
        while self._confirmed and self._confirmed[0][0] <= applied_index:
            execute(self._confirmed.popleft()[1].reads)

    def fail_all(self, failure: Failure = NOT_LEADER) -> None:
        """Answer every read that was not served."""
        rounds = [*(round_ for _, round_ in self._confirmed), *self._rounds]
        self._confirmed.clear()
        self._rounds.clear()
        new, self._new = self._new, []
        for read in [read for round_ in rounds for read in round_.reads] + new:
            read.slot.fail(failure)

    def expire(self, now_ms: int) -> None:
        """Answer reads whose time is over."""
        while self._confirmed and self._confirmed[0][1].deadline_ms <= now_ms:
            self._fail(self._confirmed.popleft()[1])
        while self._rounds and self._rounds[0].deadline_ms <= now_ms:
            self._fail(self._rounds.popleft())

    def next_deadline_ms(self) -> int | None:
        """Return when `expire` has something to do."""
        # What is confirmed began before what is not, and all have the same time.
        if self._confirmed:
            return self._confirmed[0][1].deadline_ms
        return self._rounds[0].deadline_ms if self._rounds else None

    @staticmethod
    def _fail(round_: _Round) -> None:
        for read in round_.reads:
            read.slot.fail(READ_TIMEOUT)

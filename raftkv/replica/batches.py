"""What clients asked to have replicated: runs, batches, and their answers.

A run is a list of consecutive commands of one connection with one slot for all
its answers. All runs of a turn become one batch, which is one log entry, unless
it would exceed the limits of an entry. Bookkeeping is per run and per batch,
never per command.

Every slot is answered exactly once: with results, or with a failure that says
whether the commands may have been executed. An answer is final; a batch that
timed out and is committed later is applied, and answered to nobody.

Owner: replica.replica. Tests: tests/unit/replica/test_batches.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from raftkv.config import Limits
from raftkv.engine.ready import Proposal
from raftkv.kv.codec import decodes_alike
from raftkv.seams import TIMEOUT, Failure, Slot

Command = tuple[Any, ...]
Encode = Callable[[Sequence[Command]], bytes]


class _PartedRun:
    """Answers of a run that was spread over several entries."""

    __slots__ = ("_failure", "_results", "_slot", "_waiting")

    def __init__(self, slot: Slot, parts: int) -> None:
        self._slot: Slot | None = slot
        self._waiting = parts
        self._results: list[object] = []
        self._failure: Failure | None = None

    def resolve(self, results: Sequence[object]) -> None:
        """Take the results of the next part; entries are applied in order."""
        self._results.extend(results)
        self._part_ended()

    def fail(self, failure: Failure) -> None:
        """Fail the whole run, definitely only if no part of it was applied."""
        self._failure = self._failure or failure
        if failure.definite:
            # Another part may be committed and not handed out yet.
            self._part_ended()
        elif self._slot is not None:
            slot, self._slot = self._slot, None
            slot.fail(failure)

    def _part_ended(self) -> None:
        self._waiting -= 1
        if self._waiting > 0 or self._slot is None:
            return
        slot, self._slot = self._slot, None
        failure = self._failure
        if failure is None:
            slot.resolve(self._results)
        else:
            slot.fail(Failure(failure.reason, definite=False) if self._results else failure)


class Batch:
    """The runs of one proposed entry; travels through the engine as its token.

    Attributes:
        runs: Slots, and the number of commands of each.
        commands: Of all runs, if they are what decoding the entry gives; else None.
        size: Bytes of the payload.
        deadline_ms: Boot time at which the runs are answered whatever happens.
        answered: The runs have their answers.
        ended: The fate of the entry is known.
    """

    __slots__ = ("answered", "commands", "deadline_ms", "ended", "runs", "size")

    def __init__(
        self,
        runs: list[tuple[Slot, int]],
        commands: list[Command] | None,
        size: int,
        deadline_ms: int,
    ) -> None:
        self.runs = runs
        self.commands = commands
        self.size = size
        self.deadline_ms = deadline_ms
        self.answered = False
        self.ended = False


class Batches:
    """Runs waiting for the next turn, and batches waiting for their fate."""

    def __init__(self, limits: Limits, request_timeout_ms: int) -> None:
        self._limits = limits
        self._timeout_ms = request_timeout_ms
        self._runs: list[tuple[Slot, list[Command]]] = []
        self._held_up_ms: int | None = None
        self._pending: deque[Batch] = deque()
        self._errors: list[str] = []
        self.uncommitted_bytes = 0

    @property
    def has_new(self) -> bool:
        """Whether a run waits for the next turn."""
        return bool(self._runs)

    @property
    def new_count(self) -> int:
        """How many runs wait for the next turn."""
        return len(self._runs)

    @property
    def pending(self) -> bool:
        """Whether a batch waits for its fate."""
        return bool(self._pending)

    def add(self, commands: list[Command], slot: Slot) -> None:
        """Take one run into the next turn's batch."""
        self._runs.append((slot, commands))

    def hold_up(self, now_ms: int) -> None:
        """Let the time of what waits begin, because it cannot be proposed in this turn."""
        if self._runs and self._held_up_ms is None:
            self._held_up_ms = now_ms

    def take(self, now_ms: int, encode: Encode) -> list[Proposal]:
        """Turn everything that waits into proposals."""
        if self._held_up_ms is not None:
            now_ms, self._held_up_ms = self._held_up_ms, None
        runs, self._runs = self._runs, []
        proposals: list[Proposal] = []
        group: list[tuple[Slot, list[Command]]] = []
        count = 0
        for slot, commands in runs:
            if group and count + len(commands) > self._limits.batch_commands_max:
                self._encode_group(group, now_ms, encode, proposals)
                group, count = [], 0
            group.append((slot, commands))
            count += len(commands)
        if group:
            self._encode_group(group, now_ms, encode, proposals)
        return proposals

    def _encode_group(
        self,
        group: list[tuple[Slot, list[Command]]],
        now_ms: int,
        encode: Encode,
        proposals: list[Proposal],
    ) -> None:
        if len(group) == 1:
            commands = group[0][1]
        else:
            commands = list(chain.from_iterable(run for _, run in group))
        payload = encode(commands)
        limits = self._limits
        if len(commands) > 1 and (
            len(payload) > limits.batch_bytes_max or len(commands) > limits.batch_commands_max
        ):
            for part in _halves(group):
                self._encode_group(part, now_ms, encode, proposals)
            return
        runs = [(slot, len(run)) for slot, run in group]
        kept = commands if decodes_alike(commands) else None
        batch = Batch(runs, kept, len(payload), now_ms + self._timeout_ms)
        self._pending.append(batch)
        self.uncommitted_bytes += batch.size
        proposals.append(Proposal(payload, batch))

    def resolve(self, batch: Batch, results: Sequence[object]) -> None:
        """Answer the runs of an applied batch."""
        self._end(batch)
        if not self._close(batch):
            return
        position = 0
        for slot, count in batch.runs:
            # Why contain: an answer that cannot be delivered says nothing about
            # the entry, which is applied on every node alike (finding AP).
            try:
                slot.resolve(results[position : position + count])
            except Exception as error:
                self._errors.append(f"{type(error).__name__}: {error}")
            position += count

    def take_errors(self) -> list[str]:
        """Return what went wrong in delivering answers since the last call."""
        errors = self._errors
        if errors:
            self._errors = []
        return errors

    def fail(self, batch: Batch, failure: Failure) -> None:
        """Answer the runs of a batch that will have no result here."""
        self._end(batch)
        self._answer(batch, failure)

    def fail_new(self, failure: Failure) -> None:
        """Answer the runs that were not proposed."""
        self._held_up_ms = None
        runs, self._runs = self._runs, []
        for slot, _ in runs:
            slot.fail(failure)

    def expire(self, now_ms: int) -> None:
        """Answer batches whose time is over; they may still be applied."""
        while self._pending and self._pending[0].deadline_ms <= now_ms:
            self._answer(self._pending[0], TIMEOUT)

    def next_deadline_ms(self) -> int | None:
        """Return when `expire` has something to do."""
        return self._pending[0].deadline_ms if self._pending else None

    def _answer(self, batch: Batch, failure: Failure) -> None:
        if self._close(batch):
            for slot, _ in batch.runs:
                slot.fail(failure)

    def _end(self, batch: Batch) -> None:
        # Why not when it is answered: what timed out is in the log all the same,
        # and the limit is on the log.
        if not batch.ended:
            batch.ended = True
            self.uncommitted_bytes -= batch.size

    def _close(self, batch: Batch) -> bool:
        if batch.answered:
            return False
        batch.answered = True
        while self._pending and self._pending[0].answered:
            self._pending.popleft()
        return True


def _halves(
    group: list[tuple[Slot, list[Command]]],
) -> tuple[list[tuple[Slot, list[Command]]], list[tuple[Slot, list[Command]]]]:
    """Split between runs, or a single run between its commands."""
    if len(group) > 1:
        middle = len(group) // 2
        return group[:middle], group[middle:]
    slot, commands = group[0]
    parted = _PartedRun(slot, 2)
    middle = len(commands) // 2
    return [(parted, commands[:middle])], [(parted, commands[middle:])]

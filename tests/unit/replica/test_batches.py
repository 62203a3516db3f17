"""Every run gets one answer, which never promises more than is known of all its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftkv.config import Limits
from raftkv.engine.ready import Proposal
from raftkv.replica.batches import Batch, Batches
from raftkv.seams import DISCARDED, LEADERSHIP_LOST, TIMEOUT, Failure

LIMITS = Limits(batch_bytes_max=4096, batch_commands_max=2)
TIMEOUT_MS = 1000


class Answer:
    """A slot that remembers what it got."""

    def __init__(self) -> None:
        self.got: list[object] = []

    def resolve(self, results: Sequence[object]) -> None:
        self.got.append(list(results))

    def fail(self, failure: Failure) -> None:
        self.got.append((failure.reason, failure.definite))


def encode(commands: Sequence[Any]) -> bytes:
    return bytes(10 * len(commands))


def propose(batches: Batches, count: int) -> tuple[Answer, list[Batch]]:
    """Take one run of that many commands into proposals."""
    answer = Answer()
    batches.add([(number,) for number in range(count)], answer)
    return answer, [_batch_of(proposal) for proposal in batches.take(0, encode)]


def _batch_of(proposal: Proposal) -> Batch:
    assert type(proposal.token) is Batch
    return proposal.token


def test_the_results_of_a_run_in_several_entries_come_together() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, parts = propose(batches, 4)
    assert len(parts) == 2
    batches.resolve(parts[0], ["a", "b"])
    assert answer.got == []
    batches.resolve(parts[1], ["c", "d"])
    assert answer.got == [["a", "b", "c", "d"]]


def test_a_discarded_part_is_not_definite_while_another_part_may_be_applied() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, parts = propose(batches, 4)
    # The first part is committed and waits to be handed out; the second is known
    # to be discarded before that.
    batches.fail(parts[1], DISCARDED)
    assert answer.got == []
    batches.resolve(parts[0], ["a", "b"])
    assert answer.got == [("entry discarded", False)]


def test_a_discarded_part_behind_an_applied_one_is_indefinite() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, parts = propose(batches, 8)
    assert len(parts) == 4
    batches.resolve(parts[0], ["a", "b"])
    for part in parts[1:]:
        batches.fail(part, DISCARDED)
    assert answer.got == [("entry discarded", False)]


def test_a_run_none_of_whose_parts_was_applied_is_definite() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, parts = propose(batches, 8)
    for part in parts:
        batches.fail(part, DISCARDED)
    assert answer.got == [("entry discarded", True)]


def test_an_indefinite_part_is_answered_at_once_and_once() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, parts = propose(batches, 4)
    batches.fail(parts[0], LEADERSHIP_LOST)
    assert answer.got == [("leadership lost", False)]
    batches.fail(parts[1], DISCARDED)
    assert answer.got == [("leadership lost", False)]


def test_what_timed_out_still_counts_as_uncommitted() -> None:
    batches = Batches(LIMITS, TIMEOUT_MS)
    answer, (batch,) = propose(batches, 1)
    size = batches.uncommitted_bytes
    assert size > 0
    batches.expire(TIMEOUT_MS)
    assert answer.got == [(TIMEOUT.reason, False)]
    # It is in the log all the same: only its fate makes room for another.
    assert batches.uncommitted_bytes == size
    assert batches.next_deadline_ms() is None
    batches.resolve(batch, ["late"])
    assert answer.got == [(TIMEOUT.reason, False)]
    assert batches.uncommitted_bytes == 0

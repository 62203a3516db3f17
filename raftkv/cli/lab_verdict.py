"""Was every promise kept? Decided from what the clients of `raftkv lab` were told.

Deciding whether any history is linearizable is hard in general. It is easy, and
exact, for the two shapes that the lab writes:

* a register with one writer that writes 1, 2, 3, ... and leaves it for a new one
  after a write whose outcome is unknown. Three rules decide: no read sees what was
  not asked for yet, none misses what was acknowledged before it began, and none goes
  behind what an earlier read saw. (L. Lamport, On interprocess communication, 1986)
* a counter to which every client adds one, and whose answers say the order.

Pure. Times are microseconds of one clock; an operation precedes another when it
returned before the other was called. Users: cli.lab_load, cli.lab.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple


class Outcome(enum.Enum):
    """What a client was told."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # certainly not executed
    UNKNOWN = "unknown"  # perhaps executed, now or later


class Write(NamedTuple):
    """One write of a register, or one new key; its value is its own."""

    value: int
    called_us: int
    returned_us: int
    outcome: Outcome


class Read(NamedTuple):
    """One answered read of a register; 0 where there was nothing."""

    value: int
    called_us: int
    returned_us: int


class Increment(NamedTuple):
    """One addition of one; the result is known if it was acknowledged."""

    result: int
    called_us: int
    returned_us: int
    outcome: Outcome


def register_problems(writes: Sequence[Write], reads: Sequence[Read]) -> list[str]:
    """Say what is wrong with a register.

    Args:
        writes: Of its only writer, in order, with ascending values. An unknown
            outcome is the last.
        reads: Of anybody, in any order.

    Returns:
        One sentence a problem; empty exactly if the history is linearizable.
    """
    assert all(one.outcome is not Outcome.UNKNOWN for one in writes[:-1])
    effective = {one.value: one for one in writes if one.outcome is not Outcome.REFUSED}
    acknowledged = [one for one in writes if one.outcome is Outcome.ACKNOWLEDGED]
    returned_us = [one.returned_us for one in acknowledged]
    problems = []
    seen: list[tuple[int, int]] = [(-1, 0)]  # when a read returned, the most seen up to then
    for read in sorted(reads, key=lambda one: one.returned_us):
        seen.append((read.returned_us, max(read.value, seen[-1][1])))
    for read in reads:
        written = bisect_left(returned_us, read.called_us)
        least = acknowledged[written - 1].value if written else 0
        seen_before = seen[bisect_left(seen, (read.called_us, 0)) - 1][1]
        write = effective.get(read.value)
        if read.value and write is None:
            problems.append(f"a read gave {read.value}, which was refused or never written")
        elif write is not None and write.called_us > read.returned_us:
            problems.append(f"a read gave {read.value} before it was written")
        elif read.value < least:
            problems.append(f"a read gave {read.value} after {least} had been acknowledged")
        elif read.value < seen_before:
            problems.append(f"a read gave {read.value} after {seen_before} had been read")
    return problems


def counter_problems(increments: Sequence[Increment], final: Read) -> list[str]:
    """Say what is wrong with a counter.

    Args:
        increments: Of everybody, in any order.
        final: A read behind all of them.

    Returns:
        One sentence a problem; empty exactly if the history is linearizable.
    """
    answered = sorted(one for one in increments if one.outcome is Outcome.ACKNOWLEDGED)
    results = [one.result for one in answered]
    problems = [
        f"two increments were answered with {one}"
        for one, other in pairwise(results)
        if one == other
    ]
    if results and results[-1] > final.value:
        problems.append(
            f"an increment was answered with {results[-1]}, and the counter says {final.value}"
        )
    # Behind each result: the earliest return of it and all greater ones.
    limits_us = [final.returned_us]
    for one in reversed(answered):
        if one.called_us > limits_us[-1]:
            problems.append(f"{one.result} was counted after a greater number had been answered")
        limits_us.append(min(one.returned_us, limits_us[-1]))
    limits_us.reverse()
    known = set(results)
    missing = [value for value in range(1, final.value + 1) if value not in known]
    unknown_us = sorted(one.called_us for one in increments if one.outcome is Outcome.UNKNOWN)
    if len(missing) > len(unknown_us):
        problems.append(
            f"the counter says {final.value}: {len(results)} increments were acknowledged and "
            f"{len(unknown_us)} are unknown, so some were counted twice"
        )
    # Both ascend, so the earliest unknown one serves the smallest number best.
    for value, called_us in zip(missing, unknown_us, strict=False):
        if called_us > limits_us[bisect_left(results, value)]:
            problems.append(f"{value} was counted before anybody asked for it")
    return problems


def key_problems(writes: Sequence[Write], present: set[int], where: str) -> list[str]:
    """Say which new keys are missing, or are there although they were refused.

    Args:
        writes: One a key.
        present: Values of the keys that a node holds.
        where: Name of the node.
    """
    problems = []
    lost = [
        one for one in writes if one.outcome is Outcome.ACKNOWLEDGED and one.value not in present
    ]
    ghosts = [one for one in writes if one.outcome is Outcome.REFUSED and one.value in present]
    if lost:
        problems.append(f"{where} lacks {len(lost)} acknowledged writes, {lost[0].value} first")
    if ghosts:
        problems.append(f"{where} holds {len(ghosts)} refused writes, {ghosts[0].value} first")
    return problems


class Check(NamedTuple):
    """One line of the verdict.

    Attributes:
        promise: What was checked, with its figures.
        problems: Empty if it holds.
    """

    promise: str
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing contradicts it."""
        return not self.problems

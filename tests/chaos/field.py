"""The field of a chaos run: what nemeses work on, what they met, and their list.

A nemesis is a context manager: entering hurts, leaving heals, and one may be entered
within another. It calls `field.strikes()` at the moment it hurts, which waits for
operations in flight and counts. The nemeses themselves are in `tests.chaos.nemeses` and
`tests.chaos.disk_nemeses`.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.chaos.hurt_cluster import HurtCluster, HurtNode
from tests.chaos.load import Load
from tests.chaos.world import Direction
from tests.integration.wire import ReplyError, Wire

EXIT_DAMAGED = 3
EXIT_DISK_FAILED = 6
EXIT_REFUSED = 7
_ANSWER_S = 2.0
# Another nemesis may be hurting a node: then this one comes again later.
_EVERYBODY_S = 4.0


@dataclass
class Field:
    """What a nemesis works on, and what it met.

    Attributes:
        strikes_by_name: How often each hurt.
        in_flight_by_name: How often with operations in flight.
        facts: Whatever else is worth a figure.
    """

    cluster: HurtCluster
    load: Load
    dice: random.Random
    say: Callable[[str], None]
    strikes_by_name: Counter[str] = field(default_factory=Counter)
    in_flight_by_name: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)
    name: str = ""

    def strikes(self) -> None:
        """Wait for operations in flight and count: the next statement hurts."""
        self.strikes_by_name[self.name] += 1
        if self.load.wait_for_flight():
            self.in_flight_by_name[self.name] += 1

    @property
    def leader(self) -> HurtNode:
        return self.cluster.leader_or_any(self.dice)

    def minority(self) -> list[HurtNode]:
        """Return at least one node and fewer than half."""
        return self.dice.sample(
            self.cluster.nodes,
            self.dice.randint(1, len(self.cluster.nodes) - self.cluster.majority),
        )

    def leader_or_random(self) -> HurtNode:
        """Return the leader half of the time."""
        return self.leader if self.dice.random() < 0.5 else self.dice.choice(self.cluster.nodes)

    def everybody_counts(self) -> bool:
        """Wait a little until every disk counts, so that one of them may be lost."""
        end_s = time.monotonic() + _EVERYBODY_S
        while time.monotonic() < end_s:
            statuses = [node.status(timeout_s=0.3) for node in self.cluster.nodes]
            if all(status is not None and status["admitted"] == 1 for status in statuses):
                return True
            time.sleep(0.05)
        self.facts["lost disks that had to wait"] += 1
        return False

    def ask(self, node: HurtNode, *words: str) -> None:
        """Send RAFT ...; the answer, or that there is none, is a figure and nothing more."""
        answer = "no answer"
        with contextlib.suppress(OSError):
            with Wire(node.client, timeout_s=_ANSWER_S, connect_timeout_s=_ANSWER_S) as wire:
                reply = wire.call("RAFT", *words)
                answer = "refused" if isinstance(reply, ReplyError) else "done"
        self.facts[f"RAFT {' '.join(words[: 1 + (words[0] == 'MEMBER')])} {answer}"] += 1

    def links_of(self, node: HurtNode) -> set[Direction]:
        """Every direction to and from a node."""
        return {one for one in self.cluster.links.directions if node.number in one}

    def pause(self, least_s: float, most_s: float) -> None:
        time.sleep(self.dice.uniform(least_s, most_s))


Nemesis = Callable[[Field], AbstractContextManager[None]]
NEMESES: dict[str, Nemesis] = {}


def nemesis(function: Callable[[Field], Iterator[None]]) -> Nemesis:
    """Register a nemesis under the name of its function."""
    made = contextlib.contextmanager(function)
    NEMESES[function.__name__.replace("_", "-")] = made
    return made


@contextlib.contextmanager
def may_end(node: HurtNode, code: int) -> Iterator[None]:
    """Tell other nemeses at the same node that this one has it end with that code."""
    node.expected_exits = (*node.expected_exits, code)
    try:
        yield
    finally:
        node.expected_exits = tuple(one for one in node.expected_exits if one != code)


def start_again(field: Field, nodes: list[HurtNode]) -> None:
    """Start what does not run; a node that ended in a way nobody planned fails the run."""
    for node in nodes:
        node.resume()
        if not node.is_running:
            node.spawn()

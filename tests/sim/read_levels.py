"""Reads at every level from every node, each judged by what its level promises.

* `lease`, and the read index that a follower asks for, are linearizable: they see all
  that was shown to anybody before they began (`tests.sim.read_floors`).
* `bounded`, and the staleness that a node states, may miss what was shown later than so
  long ago, on a clock that drifts.
* a token makes reads from any nodes see one's own writes, and never less than before;
  judged by values that one client alone writes, each greater than the one before.

Dice of their own, so that no other choice of a run depends on them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import OK, Command, ErrorReply, Opcode
from raftkv.seams import Failure
from raftkv.types import Index, Term
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation

# Rates of two clocks differ by less than this share.
DRIFT = 0.05
# The clocks show whole milliseconds.
_ROUNDING_MS = 2.0
BOUNDS_MS = (60, 200, 500, 2000)
_READ: Command = (Opcode.GET, b"burst0")


def read_at_some_level(node: SimNode, commands: list[Command], slot: SimSlot) -> None:
    """Read linearizably, in one of the ways there are."""
    choice = node.world.random.random()
    if choice < 0.4:
        node.replica.read(commands, slot)
    elif choice < 0.7:
        node.replica.read_leased(commands, slot)
    else:
        node.replica.read_by_index(commands, slot)


def _judged(
    cluster: Cluster, node: SimNode, level: str, noted: Callable[[str], None] = lambda _: None
) -> SimSlot:
    """Return the slot of a linearizable read that begins now."""
    floor = cluster.floors.now

    def answered(results: list[Any] | None, _failure: Failure | None) -> None:
        if results is None:
            noted(f"{level}_refused")
            return
        noted(f"{level}_served")
        applied = node.replica.store.applied_index
        if applied < floor:
            raise Violation(
                f"{node.name} reads at level {level} at entry {applied}; entry {floor} had been "
                "shown before",
                invariant=f"{level}_reads_are_linearizable",
            )
        cluster.floors.note(applied)

    return SimSlot(answered, asked=node)


def _judge_age(cluster: Cluster, node: SimNode, age_ms: int, invariant: str) -> None:
    """See that nothing is missing that was shown longer ago."""
    since_ms = cluster.world.now_ms - age_ms * (1 + DRIFT) - _ROUNDING_MS
    floor, applied = cluster.floors.at(since_ms), node.replica.store.applied_index
    if applied < floor:
        raise Violation(
            f"{node.name} answers from entry {applied} and says that nothing older than "
            f"{age_ms} ms is missing; entry {floor} had been shown before",
            invariant=invariant,
        )


def read_at_every_level(cluster: Cluster, node: SimNode) -> None:
    """Read from a node in all the ways there are."""

    def read() -> None:
        node.replica.read_leased([_READ], _judged(cluster, node, "lease"))
        node.replica.read_by_index([_READ], _judged(cluster, node, "index"))
        staleness_ms = node.replica.staleness_ms()
        if staleness_ms is not None:
            _judge_age(cluster, node, staleness_ms, "staleness_is_not_understated")

    if not node.is_frozen:
        node.guarded(read)


class Readers:
    """Clients that read at every level, now and then, from any node.

    Attributes:
        counts: Reads by level and outcome.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._dice = random.Random(f"readers of seed {cluster.world.seed}")
        self._running = True
        self.counts: Counter[str] = Counter()
        self._levels: list[Callable[[SimNode], None]] = [
            self._leased,
            self._leased,
            self._by_index,
            self._bounded,
            self._stated,
            self._token,
        ]
        self._next()
        for number in range(2):
            _TokenClient(self, f"token{number}", random.Random(self._dice.random())).rest()

    @property
    def cluster(self) -> Cluster:
        return self._cluster

    @property
    def running(self) -> bool:
        return self._running

    def stop(self) -> None:
        """Read no more."""
        self._running = False

    def note(self, name: str) -> None:
        self.counts[f"read_{name}"] += 1

    def _next(self) -> None:
        self._world.after(self._dice.uniform(5, 90), self._act)

    def _act(self) -> None:
        if not self._running:
            return
        node = self._cluster.nodes[self._dice.choice(sorted(self._cluster.nodes))]
        leader = self._cluster.leader()
        if leader is not None and self._dice.random() < 0.3:
            node = leader
        if node.alive:
            action = self._dice.choice(self._levels)
            life = node.life

            def arrive() -> None:
                if node.alive and node.life == life:
                    node.guarded(lambda: action(node))

            # A process that stands still finds it when it goes on, before its next turn.
            self._world.after(node.frozen_for_ms, arrive)
        self._next()

    def _leased(self, node: SimNode) -> None:
        node.replica.read_leased([_READ], _judged(self._cluster, node, "lease", self.note))

    def _by_index(self, node: SimNode) -> None:
        node.replica.read_by_index([_READ], _judged(self._cluster, node, "index", self.note))

    def _bounded(self, node: SimNode) -> None:
        bound_ms = self._dice.choice(BOUNDS_MS)
        result = node.replica.read_local(_READ, bound_ms, Index(0))
        if isinstance(result, ErrorReply):
            self.note("bounded_refused")
        else:
            self.note("bounded_served")
            _judge_age(self._cluster, node, bound_ms, "bounded_reads_keep_their_bound")

    def _stated(self, node: SimNode) -> None:
        staleness_ms = node.replica.staleness_ms()
        if staleness_ms is not None:
            self.note("staleness_stated")
            _judge_age(self._cluster, node, staleness_ms, "staleness_is_not_understated")

    def _token(self, node: SimNode) -> None:
        """Ask for a token behind all that any node has answered."""
        floor = self._cluster.floors.now

        def answered(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is None:
                self.note("token_refused")
                return
            self.note("token_taken")
            if int(results[0].partition(b"/")[2]) < floor:
                raise Violation(
                    f"{node.name} gives token {results[0]!r}; entry {floor} had been shown before",
                    invariant="a_token_is_behind_all_that_was_answered",
                )

        node.replica.take_token(SimSlot(answered), ask=True)


class _TokenClient:
    """Writes a key of its own and reads it anywhere, behind its token."""

    def __init__(self, readers: Readers, name: str, dice: random.Random) -> None:
        self._readers = readers
        self._cluster = readers.cluster
        self._dice = dice
        self._key = name.encode()
        self._known = self._written = 0
        self._token = (Term(0), Index(0))

    def rest(self) -> None:
        self._cluster.world.after(self._dice.uniform(20, 400), self._act)

    def _act(self) -> None:
        if not self._readers.running:
            return
        self.rest()
        leader = self._cluster.leader()
        quiet = self._cluster.world.now_ms < self._cluster.quiet_until_ms
        if leader is not None and not quiet and self._dice.random() < 0.4:
            self._write(leader)
        else:
            node = self._cluster.nodes[self._dice.choice(sorted(self._cluster.nodes))]
            if node.alive and not node.is_frozen:
                self._read(node)

    def _learn(self, value: int, node: SimNode) -> None:
        """Take a value and the position that belongs to it."""
        self._known = max(self._known, value)
        term, _, index = node.replica.token().partition(b"/")
        if int(index) > self._token[1]:
            self._token = Term(int(term)), Index(int(index))

    def _write(self, node: SimNode) -> None:
        def answered(results: list[Any] | None, _failure: Failure | None) -> None:
            # Not what the memory limit has refused.
            if results == [OK]:
                self._readers.note("token_written")
                self._learn(number, node)
                self._cluster.floors.note(node.replica.store.applied_index)

        self._written = number = self._written + 1
        command: Command = (Opcode.SET, self._key, b"%d" % number)
        slot = SimSlot(answered, asked=node)
        node.guarded(lambda: node.replica.propose([command], slot))

    def _read(self, node: SimNode) -> None:
        term, index = self._token
        known = self._known

        def waited(results: list[Any] | None, _failure: Failure | None) -> None:
            if results is None:
                self._readers.note("token_late")
                return
            value = node.replica.read_local((Opcode.GET, self._key), None, index)
            if isinstance(value, ErrorReply):
                raise Violation(
                    f"{node.name} has waited for {term}/{index} in vain: {value.message}",
                    invariant="a_token_that_was_reached_lets_reads_through",
                )
            self._readers.note("token_read")
            if not isinstance(value, bytes):
                # FLUSHALL of another client.
                return
            number = int(value)
            if number < known:
                raise Violation(
                    f"{node.name} reads {number} behind token {term}/{index}; the same client "
                    f"had seen {known}",
                    invariant="tokens_read_ones_own_writes_and_never_less",
                )
            self._learn(number, node)

        slot = SimSlot(waited, asked=node)
        node.guarded(lambda: node.replica.await_token(term, index, slot))

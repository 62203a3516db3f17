"""Clients that append unique tokens, and the judgement of what they saw.

Every write appends a token that nobody else writes, so the final value of a key
is its whole history: it shows each acknowledged token once, each refused one
never, in an order that respects real time; and every read must be a prefix of
it that contains what was acknowledged before the read began.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raftkv.kv.commands import Opcode
from raftkv.seams import Failure
from tests.sim.cluster import Cluster, SimSlot, Violation

LIMIT = 512 << 20
TOKEN_SIZE = 8


@dataclass
class Operation:
    kind: str
    key: bytes
    token: bytes
    called_ms: float
    returned_ms: float = float("inf")
    outcome: str = "pending"
    value: bytes = b""


@dataclass
class History:
    operations: list[Operation] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return sum(operation.outcome == outcome for operation in self.operations)


class Workload:
    """Random appends and linearizable reads by clients that follow the leader."""

    def __init__(self, cluster: Cluster, *, keys: int = 4, clients: int = 4) -> None:
        self._cluster = cluster
        self._keys = [b"key%d" % number for number in range(keys)]
        self.history = History()
        self.running = True
        self._tokens = 0
        for _ in range(clients):
            self._next()

    def _next(self) -> None:
        world = self._cluster.world
        world.after(world.random.uniform(1, 60), self._act)

    def _act(self) -> None:
        if not self.running:
            return
        world = self._cluster.world
        node = self._cluster.nodes[world.random.choice(sorted(self._cluster.nodes))]
        if not node.alive or not node.replica.is_leader:
            self._next()
            return
        key = world.random.choice(self._keys)
        if world.chance(0.4):
            operation = Operation("read", key, b"", world.now_ms)
            slot = SimSlot(lambda results, failure: self._done(operation, results, failure))
            node.guarded(lambda: node.replica.read([(Opcode.GET, key)], slot))
        else:
            self._tokens += 1
            token = b"%07d;" % self._tokens
            operation = Operation("append", key, token, world.now_ms)
            slot = SimSlot(lambda results, failure: self._done(operation, results, failure))
            command = (Opcode.APPEND, key, token, LIMIT)
            node.guarded(lambda: node.replica.propose([command], slot))
        self.history.operations.append(operation)
        if world.chance(0.7):
            self._next()
        else:
            self._act()

    def _done(
        self, operation: Operation, results: list[Any] | None, failure: Failure | None
    ) -> None:
        operation.returned_ms = self._cluster.world.now_ms
        if failure is not None:
            operation.outcome = "refused" if failure.definite else "unknown"
            return
        assert results is not None
        operation.outcome = "ok"
        if operation.kind == "read":
            operation.value = results[0] or b""

    def judge(self) -> None:
        """Compare the history with the final state of every node."""
        for key in self._keys:
            values = {
                node.name: node.replica.store.execute((Opcode.GET, key)) or b""
                for node in self._cluster.insiders()
            }
            final = next(iter(values.values()))
            if any(value != final for value in values.values()):
                raise Violation(f"nodes hold different values of {key!r}")
            assert isinstance(final, bytes)
            judge_key(
                final, [operation for operation in self.history.operations if operation.key == key]
            )


def judge_key(final: bytes, operations: list[Operation]) -> None:
    """Check one key's operations against its final value."""
    tokens = [final[at : at + TOKEN_SIZE] for at in range(0, len(final), TOKEN_SIZE)]
    position = {token: number for number, token in enumerate(tokens)}
    if len(position) != len(tokens):
        raise Violation("a token was applied twice")
    appends = [operation for operation in operations if operation.kind == "append"]
    for operation in appends:
        if operation.outcome == "ok" and operation.token not in position:
            raise Violation(f"acknowledged write {operation.token!r} is lost")
        if operation.outcome == "refused" and operation.token in position:
            raise Violation(f"refused write {operation.token!r} was applied")
    acknowledged = sorted(
        (operation.returned_ms, position[operation.token])
        for operation in appends
        if operation.outcome == "ok"
    )
    for operation in appends:
        if operation.token in position:
            _check_floor(acknowledged, operation, position[operation.token], "write")
    reads = [operation for operation in operations if operation.kind == "read"]
    for operation in reads:
        if operation.outcome != "ok":
            continue
        if not final.startswith(operation.value):
            raise Violation("a read saw a value that never was")
        seen = len(operation.value) // TOKEN_SIZE
        _check_floor(acknowledged, operation, seen, "read")
        for append in appends:
            if append.called_ms > operation.returned_ms and append.token in position:
                if position[append.token] < seen:
                    raise Violation("a read saw a write that began later")
    _check_monotone(reads)


def _check_floor(
    acknowledged: list[tuple[float, int]], operation: Operation, place: int, kind: str
) -> None:
    """What was acknowledged before a call lies before its effect."""
    for returned_ms, position in acknowledged:
        if returned_ms >= operation.called_ms:
            break
        if position >= place:
            raise Violation(f"a {kind} took effect before a write acknowledged earlier")


def _check_monotone(reads: list[Operation]) -> None:
    """A read that begins after another ended sees at least as much."""
    done = sorted(
        (read for read in reads if read.outcome == "ok"), key=lambda read: read.returned_ms
    )
    for later in done:
        for earlier in done:
            if earlier.returned_ms >= later.called_ms:
                break
            if len(earlier.value) > len(later.value):
                raise Violation("a read went back in time")

"""A store that is right, and clients that use it at once: histories known to be linearizable.

Every operation takes effect at one drawn moment between its call and its return, on a
plain dictionary; so the order of these moments is a linearization. An unknown one
takes effect at any moment after its call, also long after the client gave up, or
never. The semantics are written down a second time here, without a look at
models.py, so that a mistake there does not hide itself.

Faults can be planted; then the history may be wrong, and mostly is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from tests.linearizability import reference_collections
from tests.linearizability.history import Operation, Outcome, Value

# Never the end of anything; the moment of an effect that does not come.
_NEVER_US = 1 << 60


class Store:
    """A dictionary with deadlines, driven by the same kinds as the models."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.deadlines_us: dict[str, int] = {}

    def run(self, operation: Operation, now_us: int = 0) -> Value:
        """Apply one operation and return its result; chance decides as the operation was told."""
        if operation.kind == "transaction":
            return self._run_transaction(operation, now_us)
        key, arguments = operation.keys[0], list(operation.arguments)
        if operation.kind in reference_collections.KINDS:
            self._expire(key, now_us)
            new, result = reference_collections.run(
                operation.kind, self.values.get(key), arguments, operation.result
            )
            if new is None:
                self._drop(key)
            else:
                self.values[key] = new
            return result
        return self._one(operation.kind, key, arguments, now_us)

    def choices(self, operation: Operation) -> list[Value]:
        """Return what an operation may be told, as far as chance decides it; else a None."""
        if operation.kind == "spop" and operation.outcome is Outcome.UNKNOWN:
            return sorted(self.values.get(operation.keys[0], ())) or [None]
        return [operation.result]

    def _run_transaction(self, operation: Operation, now_us: int) -> Value:
        kept = dict(self.values), dict(self.deadlines_us)
        results: list[Value] = []
        for step in operation.arguments:
            assert isinstance(step, tuple)
            kind, key, *arguments = step
            if kind == "check":
                self._expire(str(key), now_us)
                if self.values.get(str(key)) != arguments[0]:
                    self.values, self.deadlines_us = kept
                    return None
                results.append(1)
            elif kind == "smove":
                results.append(self._move_member(str(key), *map(str, arguments)))
            else:
                results.append(self._one(str(kind), str(key), arguments, now_us))
        return tuple(results)

    def _move_member(self, source: str, target: str, member: str) -> int:
        before = self.values.get(source, set())
        if member not in before:
            return 0
        self.values[source] = before - {member}
        self.values[target] = self.values.get(target, set()) | {member}
        return 1

    def _expire(self, key: str, now_us: int) -> None:
        if self.deadlines_us.get(key, _NEVER_US) <= now_us:
            self._drop(key)

    def _drop(self, key: str) -> None:
        self.values.pop(key, None)
        self.deadlines_us.pop(key, None)

    def _write(self, key: str, now_us: int, value: Value, ttl_ms: Value = None) -> None:
        self._drop(key)
        self.values[key] = str(value)
        if isinstance(ttl_ms, int):
            self.deadlines_us[key] = now_us + ttl_ms * 1000

    def _one(self, kind: str, key: str, arguments: list[Any], now_us: int) -> Value:
        self._expire(key, now_us)
        old = self.values.get(key)
        match kind:
            case "get":
                return old
            case "exists":
                return 0 if old is None else 1
            case "strlen":
                return len(old or "")
            case "pttl":
                if old is None:
                    return -2
                if key not in self.deadlines_us:
                    return -1
                return (self.deadlines_us[key] - now_us) // 1000
            case "pexpire":
                if old is not None:
                    self.deadlines_us[key] = now_us + arguments[0] * 1000
                return 0 if old is None else 1
            case "persist":
                return 0 if self.deadlines_us.pop(key, None) is None else 1
        return self._change(kind, key, arguments, now_us)

    def _change(self, kind: str, key: str, arguments: list[Any], now_us: int) -> Value:
        old = self.values.get(key)
        match kind:
            case "set":
                self._write(key, now_us, *arguments)
                return "OK"
            case "setnx" | "setxx":
                if (old is None) != (kind == "setnx"):
                    return 0
                self._write(key, now_us, *arguments)
                return 1
            case "getset":
                self._write(key, now_us, arguments[0])
                return old
            case "getdel":
                self._drop(key)
                return old
            case "del":
                self._drop(key)
                return 0 if old is None else 1
            case "cas":
                if old != arguments[0]:
                    return 0
                self._write(key, now_us, arguments[1])
                return 1
            case "incrby":
                self.values[key] = str(int(old or 0) + arguments[0])
                return int(self.values[key])
            case "append":
                self.values[key] = (old or "") + arguments[0]
                return len(self.values[key])
        raise AssertionError(kind)


@dataclass(slots=True)
class Workload:
    """What the clients do.

    Attributes:
        kinds: Drawn from evenly; name one twice to have it more often.
        keys: How many.
        clients: Each has one operation in flight.
        operations: In all.
        unknowns: How many of them end unknown, at most.
        refused_chance: Of every operation.
        stay_chance: That a client begins its next operation in the very moment.
    """

    kinds: tuple[str, ...] = ("get", "set")
    keys: int = 1
    clients: int = 8
    operations: int = 200
    unknowns: int = 8
    refused_chance: float = 0.03
    stay_chance: float = 0.2


@dataclass(slots=True)
class _Planned:
    operation: Operation
    effect_us: int
    result: Value = None


@dataclass(slots=True)
class Faults:
    """What the store does wrong, each by the position of the operation it befalls.

    Attributes:
        lost: Acknowledged and not applied.
        doubled: Applied twice, the second time at the end of the interval.
        stale: Reads the state of so many microseconds ago.
    """

    lost: frozenset[int] = frozenset()
    doubled: frozenset[int] = frozenset()
    stale: dict[int, int] = field(default_factory=dict)


def generate(
    seed: int, workload: Workload | None = None, faults: Faults | None = None
) -> tuple[Operation, ...]:
    """Return a history; linearizable without faults. The same seed gives the same one."""
    workload = workload or Workload()
    source = random.Random(seed)
    planned = _plan(source, workload)
    return _play(planned, faults or Faults())


def _plan(source: random.Random, workload: Workload) -> list[_Planned]:
    unknown = set(source.sample(range(workload.operations), workload.unknowns))
    free_us = {f"c{number}": source.randint(0, 900) for number in range(workload.clients)}
    planned = []
    for number in range(workload.operations):
        client = min(free_us, key=lambda name: (free_us[name], name))
        called_us = free_us[client]
        returned_us = called_us + source.randint(1, 2000)
        effect_us = source.randint(called_us, returned_us)
        outcome = Outcome.OK
        if number in unknown:
            outcome = Outcome.UNKNOWN
            effect_us = source.choice([effect_us, called_us + source.randint(0, 40_000), _NEVER_US])
        elif source.random() < workload.refused_chance:
            outcome, effect_us = Outcome.REFUSED, _NEVER_US
        kind = source.choice(workload.kinds)
        keys, arguments = _draw_command(source, workload, kind, number)
        operation = Operation(
            client=client,
            kind=kind,
            keys=keys,
            arguments=arguments,
            called_us=called_us,
            returned_us=returned_us,
            outcome=outcome,
        )
        planned.append(_Planned(operation, effect_us))
        pause_us = 0 if source.random() < workload.stay_chance else source.randint(1, 800)
        free_us[client] = returned_us + pause_us
    return planned


def _draw_command(
    source: random.Random, workload: Workload, kind: str, number: int
) -> tuple[tuple[str, ...], tuple[Value, ...]]:
    key = f"k{source.randrange(workload.keys)}"
    unique = f"v{number}"
    match kind:
        case "set" | "setnx" | "setxx" | "getset":
            return (key,), (unique,)
        case "set-ttl":
            return (key,), (unique, source.randint(1, 6))
        case "cas":
            guess = None if number < 3 else f"v{max(0, number - source.randint(1, 12))}"
            return (key,), (guess, unique)
        case "incrby":
            return (key,), (source.randint(1, 3),)
        case "append":
            return (key,), (f"{number:03};",)
        case "pexpire":
            return (key,), (source.randint(1, 6),)
        case "transaction":
            other = f"k{source.randrange(workload.keys)}"
            reads = source.random() < 0.4
            steps: list[tuple[Value, ...]] = [("get", key), ("get", other)]
            if not reads:
                steps = [("get", key), ("set", key, unique), ("set", other, unique)]
            return tuple(sorted({key, other})), tuple(steps)
    return (key,), reference_collections.draw(source, kind, unique)


def _play(planned: list[_Planned], faults: Faults) -> tuple[Operation, ...]:
    """Let the store run through the moments, in order."""
    moments = [
        (one.effect_us, position, one, False)
        for position, one in enumerate(planned)
        if one.effect_us != _NEVER_US
    ]
    moments += [
        (planned[position].operation.returned_us or 0, position, planned[position], True)
        for position in faults.doubled
    ]
    store = Store()
    past: list[tuple[int, dict[str, Any]]] = [(-1, {})]
    for effect_us, position, one, is_again in sorted(moments, key=lambda moment: moment[:2]):
        kind = "set" if one.operation.kind == "set-ttl" else one.operation.kind
        one.operation = replace(one.operation, kind=kind)
        runs_on = store
        if position in faults.stale or position in faults.lost:
            runs_on = Store()
            runs_on.values = dict(store.values)
        if position in faults.stale:
            seen_us = effect_us - faults.stale[position]
            runs_on.values = dict(next(v for at_us, v in reversed(past) if at_us <= seen_us))
        result = runs_on.run(one.operation, effect_us)
        if not is_again:
            one.result = result
        past.append((effect_us, dict(store.values)))
    return tuple(_told(one) for one in planned)


def _told(one: _Planned) -> Operation:
    kind = "set" if one.operation.kind == "set-ttl" else one.operation.kind
    told = one.result if one.operation.outcome is Outcome.OK else None
    return replace(one.operation, kind=kind, result=told)

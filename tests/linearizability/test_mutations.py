"""Good histories made bad: every mutant that is illegal must be called so.

Large mutants are illegal by construction: values are written once, so a read shows
which write it saw. Small ones are judged by brute force as well.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.linearizability.brute_force import is_linearizable
from tests.linearizability.checker import Verdict, check
from tests.linearizability.history import History, Operation, Outcome
from tests.linearizability.reference import Faults, Workload, generate

SEEDS = range(3)
REGISTER = Workload(kinds=("get", "set"))
COUNTER = Workload(kinds=("get", "incrby"), unknowns=0)
APPEND = Workload(kinds=("get", "append"))
LIST = Workload(kinds=("lrange", "push"), clients=4, unknowns=2)
SET = Workload(kinds=("smembers", "sadd"), clients=4, unknowns=2)
SORTED_SET = Workload(kinds=("zall", "zadd"), clients=4, unknowns=2)


def verdict(operations: tuple[Operation, ...]) -> Verdict:
    return check(History(operations=operations), seconds_a_part=600.0).verdict


def seen_writes(operations: tuple[Operation, ...]) -> list[tuple[int, int]]:
    """Return (write, read) by position, for each acknowledged set and a read that saw it."""
    writes = {
        one.arguments[0]: number
        for number, one in enumerate(operations)
        if one.kind == "set" and one.outcome is Outcome.OK
    }
    return [
        (writes[one.result], number)
        for number, one in enumerate(operations)
        if one.kind == "get" and one.outcome is Outcome.OK and one.result in writes
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dropped_write_that_was_read(seed: int) -> None:
    good = generate(seed, REGISTER)
    assert verdict(good) is Verdict.OK
    write, _ = seen_writes(good)[seed]
    assert verdict(good[:write] + good[write + 1 :]) is Verdict.ILLEGAL


@pytest.mark.parametrize("seed", SEEDS)
def test_a_read_shifted_before_the_write_that_it_saw(seed: int) -> None:
    good = generate(seed, REGISTER)
    pairs = [(write, read) for write, read in seen_writes(good) if good[write].called_us > 1]
    write, read = pairs[len(pairs) // 2]
    end_us = good[write].called_us - 1
    shifted = replace(good[read], called_us=end_us - 1, returned_us=end_us)
    assert verdict((*good[:read], shifted, *good[read + 1 :])) is Verdict.ILLEGAL


@pytest.mark.parametrize("seed", SEEDS)
def test_two_reads_in_the_wrong_order(seed: int) -> None:
    good = generate(seed, COUNTER)
    assert verdict(good) is Verdict.OK
    reads = [
        number
        for number, one in enumerate(good)
        if one.kind == "get" and one.outcome is Outcome.OK and one.client == "c1"
    ]
    first, second = next(
        (one, other)
        for one, other in pairwise(reads)
        if good[one].result != good[other].result
        and (good[one].returned_us or 0) < good[other].called_us
    )
    mutant = list(good)
    mutant[first] = replace(good[first], result=good[second].result)
    mutant[second] = replace(good[second], result=good[first].result)
    assert verdict(tuple(mutant)) is Verdict.ILLEGAL


def writes_in(workload: Workload, seed: int, kind: str) -> list[int]:
    return [
        number
        for number, one in enumerate(generate(seed, workload))
        if one.kind == kind and one.outcome is Outcome.OK
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("workload", "kind"),
    [
        (COUNTER, "incrby"), (APPEND, "append"), (LIST, "push"), (SET, "sadd"),
        (SORTED_SET, "zadd"),
    ],
)  # fmt: skip
def test_a_write_lost_after_it_was_acknowledged(seed: int, workload: Workload, kind: str) -> None:
    lost = writes_in(workload, seed, kind)[20]
    assert verdict(generate(seed, workload, Faults(lost=frozenset({lost})))) is Verdict.ILLEGAL


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("workload", "kind"), [(COUNTER, "incrby"), (APPEND, "append"), (LIST, "push")]
)
def test_a_write_applied_twice(seed: int, workload: Workload, kind: str) -> None:
    doubled = writes_in(workload, seed, kind)[20]
    faults = Faults(doubled=frozenset({doubled}))
    assert verdict(generate(seed, workload, faults)) is Verdict.ILLEGAL


POPS = Workload(kinds=("smembers", "sadd", "spop"), clients=4, unknowns=3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_member_taken_twice(seed: int) -> None:
    good = generate(seed, POPS)
    assert verdict(good) is Verdict.OK
    first, second = [
        number for number, one in enumerate(good) if one.kind == "spop" and one.result is not None
    ][5:7]
    mutant = list(good)
    mutant[second] = replace(good[second], result=good[first].result)
    assert verdict(tuple(mutant)) is Verdict.ILLEGAL


# ------------------------------------------------------------------------- small mutants

Mutation = Callable[[random.Random, list[Operation]], None]


def _drop(source: random.Random, history: list[Operation]) -> None:
    history.pop(source.randrange(len(history)))


def _duplicate(source: random.Random, history: list[Operation]) -> None:
    one = source.choice(history)
    later_us = source.randint(0, 3000)
    assert one.returned_us is not None
    history.append(
        replace(one, called_us=one.called_us + later_us, returned_us=one.returned_us + later_us)
    )


def _exchange(source: random.Random, history: list[Operation]) -> None:
    first, second = source.sample(range(len(history)), 2)
    one, other = history[first], history[second]
    history[first] = replace(one, called_us=other.called_us, returned_us=other.returned_us)
    history[second] = replace(other, called_us=one.called_us, returned_us=one.returned_us)


def _shift_back(source: random.Random, history: list[Operation]) -> None:
    number = source.randrange(len(history))
    one = history[number]
    assert one.returned_us is not None
    back_us = source.randint(0, one.called_us)
    history[number] = replace(
        one, called_us=one.called_us - back_us, returned_us=one.returned_us - back_us
    )


def _retell(source: random.Random, history: list[Operation]) -> None:
    """Give one operation the result of another one of its kind."""
    told = [number for number, one in enumerate(history) if one.outcome is Outcome.OK]
    pairs = [(a, b) for a in told for b in told if history[a].kind == history[b].kind]
    if pairs:
        taker, giver = source.choice(pairs)
        history[taker] = replace(history[taker], result=history[giver].result)


MUTATIONS: tuple[Mutation, ...] = (_drop, _duplicate, _exchange, _shift_back, _retell)
SMALL_MIXES = (
    ("get", "set"),
    ("get", "incrby"),
    ("get", "append"),
    ("get", "set", "cas"),
    ("get", "set", "getset", "setnx", "del"),
    ("get", "set", "transaction"),
    ("hgetall", "hset", "hdel"),
    ("lrange", "push", "pop"),
    ("smembers", "sadd", "spop"),
    ("scard", "sadd", "spop", "srem"),
    ("zall", "zadd", "zpop"),
    ("getbit", "setbit", "get"),
)


@pytest.mark.slow
def test_small_mutants_are_judged_as_by_brute_force() -> None:
    judged: Counter[tuple[str, bool]] = Counter()
    for seed in range(2400):
        source = random.Random(seed)
        workload = Workload(
            kinds=SMALL_MIXES[seed % len(SMALL_MIXES)],
            keys=1 + (seed % 2), clients=3, operations=6, unknowns=1,
        )  # fmt: skip
        good = generate(seed, workload)
        assert verdict(good) is Verdict.OK, seed
        mutation = source.choice(MUTATIONS)
        mutant = list(good)
        mutation(source, mutant)
        truth = is_linearizable(mutant)
        judged[mutation.__name__, truth] += 1
        assert (verdict(tuple(mutant)) is Verdict.OK) == truth, f"{seed}: {mutation.__name__}"
    for mutation in MUTATIONS:
        assert judged[mutation.__name__, False] >= 10, judged
        assert judged[mutation.__name__, True] >= 10, judged

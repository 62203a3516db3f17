"""Every command that clients of the simulator may ask, against one store and the models.

One client, one store, no faults: so whatever the models refuse here is a mistake of the
store, of a model, or of what lies between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import ErrorReply, Opcode
from raftkv.kv.store import KvStore
from tests.linearizability.checker import check
from tests.linearizability.history import History, Operation
from tests.linearizability.lease_rules import NO_LEASE
from tests.sim.commands import Asker, Step
from tests.sim.workload import FAMILIES, NOT_ASKED
from tests.sim.world import WALL_START_MS, World

KEY = "k:1:0"
# Asked by `tests.sim.workload` itself: they concern all keys.
OF_ALL_KEYS = {
    Opcode.KEYS, Opcode.SCAN, Opcode.RANDOMKEY, Opcode.DBSIZE, Opcode.FLUSH,
    Opcode.COUNTKEYSINSLOT,
}  # fmt: skip


EXPECTED_ERRORS = {"ERR no such key", "ERR index out of range", NO_LEASE}


def play(
    family: str, seed: int, count: int, store: KvStore | None = None
) -> tuple[History, list[Step], list[Any]]:
    """Let one client ask one thing after another."""
    world = World(seed)
    asker, store = Asker(world), store or KvStore()
    steps, replies, operations = [], [], []
    last = asker.last_reads(family, KEY)
    for index in range(1, count + len(last) + 1):
        # Some ask for what they saw before.
        step = asker.ask(family, KEY) if index <= count else last[index - count - 1]
        world.now_ms += world.random.choice((1, 1, 5, 300))
        called_us = int(world.now_ms * 1000)
        log_time_ms = WALL_START_MS + int(world.now_ms)
        seed_of_batch = world.random.getrandbits(63)
        batch = encode_batch(log_time_ms, int(world.now_ms), seed_of_batch, [step.command])
        (reply,) = store.apply(index, batch)
        asker.transactions.learn(step.command, reply)
        steps.append(step)
        replies.append(reply)
        operations.append(
            Operation(
                client="c", kind=step.kind, keys=step.keys, arguments=step.arguments,
                called_us=called_us, returned_us=called_us + 10, result=step.convert(reply),
            )
        )  # fmt: skip
    history = History(
        operations=tuple(operations), early_us=2000, late_us=2000,
        lease_early_us=2000, lease_late_us=2000,
    )  # fmt: skip
    return history, steps, replies


@pytest.mark.parametrize("family", dict.fromkeys(FAMILIES))
@pytest.mark.parametrize("seed", range(3))
def test_a_store_alone_answers_as_the_models_say(family: str, seed: int) -> None:
    history, steps, replies = play(family, seed, 400)
    result = check(history)
    assert result.is_ok, result
    # A command that is an error for its form would be judged, too, and show nothing.
    errors = {
        (step.kind, reply.message)
        for step, reply in zip(steps, replies, strict=True)
        if isinstance(reply, ErrorReply) and step.kind != "exists"
    }
    assert not {text for _, text in errors} - EXPECTED_ERRORS, errors


def test_every_command_of_the_store_is_asked() -> None:
    asked = {
        Opcode(step.command[0])
        for family in dict.fromkeys(FAMILIES)
        for step in play(family, 1, 800)[1]
    }
    assert asked | OF_ALL_KEYS == set(Opcode) - NOT_ASKED


WRONG: dict[str, tuple[Opcode, Callable[[Any], Any]]] = {
    "hash": (Opcode.HINCRBY, lambda reply: reply + 1),
    "list": (Opcode.LRANGE, lambda reply: reply[::-1]),
    "list group": (Opcode.LMOVE, lambda reply: None),
    "set": (Opcode.SMEMBERS, lambda reply: reply[1:]),
    "set group": (Opcode.SMOVE, lambda reply: 1 - reply),
    "sorted set": (Opcode.ZRANK, lambda reply: None if reply is None else reply + 1),
    "sorted set group": (Opcode.ZUNION, lambda reply: reply[2:]),
    "names": (Opcode.ZCOUNT, lambda reply: reply + 1),
    "bits": (Opcode.SETBIT, lambda reply: 1 - reply),
    "bit group": (Opcode.BITOP, lambda reply: reply + 1),
    "watched group": (Opcode.DELEX, lambda reply: 1 - reply),
    "leased": (Opcode.LEASE_DETACH, lambda reply: 1 - reply),
}


@pytest.mark.parametrize("family", WRONG)
def test_a_store_that_answers_wrongly_is_noticed(family: str) -> None:
    opcode, spoil = WRONG[family]

    class Wrong(KvStore):
        def apply(self, index: int, payload: Any) -> list[Any]:
            replies = super().apply(index, payload)
            return [spoil(one) if asked.pop(0) == opcode else one for one in replies]

    # The same world asks the same things.
    asked = [step.command[0] for step in play(family, 5, 200)[1]]
    assert opcode in asked
    assert not check(play(family, 5, 200, Wrong())[0]).is_ok


@pytest.mark.parametrize("family", [name for name in WRONG if "group" not in name])
def test_a_write_that_is_lost_is_noticed(family: str) -> None:
    class Forgetful(KvStore):
        def apply(self, index: int, payload: Any) -> list[Any]:
            replies = super().apply(index, payload)
            if index == 40:
                deletion = encode_batch(self.log_time_ms, 0, 0, [(Opcode.DEL, KEY.encode())])
                super().apply(index + 1, deletion)
                self.applied_index = index
            return replies

    assert not check(play(family, 6, 120, Forgetful())[0]).is_ok

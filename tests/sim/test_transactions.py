"""The clients' history shows transactions that are executed wrongly, on all nodes alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftkv.kv import store, transactions
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.keyspace import Keyspace
from tests.sim.cluster import Violation
from tests.sim.test_workload import run

DURATION_MS = 60_000

# Transactions are a small part of what is asked: not every run has one that tells.
SEEDS = range(3, 23)

Wrong = Callable[[Keyspace, Command], object]


def broken_in_some_run() -> str:
    """Return the invariant that the first of some runs breaks, or nothing."""
    for seed in SEEDS:
        try:
            run(seed, DURATION_MS)
        except Violation as error:
            return error.invariant
    return ""


def _watches_nothing(keyspace: Keyspace, command: Command) -> object:
    return transactions.execute(keyspace, (command[0], 0, *command[2 + 2 * command[1] :]))


def _is_done_by_half(keyspace: Keyspace, command: Command) -> object:
    results = transactions.execute(keyspace, command)
    commands, _ = transactions._commands_at(command, 2 + 2 * command[1])
    if results and len(commands) > 1 and commands[0][0] == Opcode.SET:
        # As if the first of them had been an entry of its own, which was lost.
        transactions._INSIDE[int(Opcode.DEL)](keyspace, (Opcode.DEL, commands[0][1]))
    return results


def _answers_null_behind_the_deed(keyspace: Keyspace, command: Command) -> object:
    results = transactions.execute(keyspace, command)
    return transactions.NoList() if keyspace.revision % 5 == 0 else results


@pytest.mark.parametrize(
    "wrong", [_watches_nothing, _is_done_by_half, _answers_null_behind_the_deed]
)
def test_a_wrong_exec_is_noticed(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store._HANDLERS, int(Opcode.EXEC), wrong)
    assert broken_in_some_run() == "linearizable"


def test_a_compare_that_always_holds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(keyspace: Keyspace, command: Command) -> object:
        return transactions.execute_branch(keyspace, (command[0], 0, *command[6:]))

    monkeypatch.setitem(store._HANDLERS, int(Opcode.TXN), wrong)
    assert broken_in_some_run() == "linearizable"

"""The clients' history shows a store that errs, though all nodes err alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.kv.commands import Command, Opcode
from raftkv.kv.store import KvStore
from tests.linearizability.checker import check
from tests.linearizability.history import History, Outcome
from tests.sim.cluster import Cluster, Violation
from tests.sim.run import run_seed
from tests.sim.workload import Workload

# Of the log: one entry in so many goes wrong.
EVERY = 23


def run(seed: int = 3, duration_ms: float = 25_000) -> Workload:
    """Let clients work on a cluster without faults, and judge what they saw."""
    cluster = Cluster(seed)
    cluster.start()
    cluster.run_until(lambda: cluster.leader() is not None)
    workload = Workload(cluster)
    cluster.run(duration_ms)
    workload.running = False
    cluster.run(7000)
    assert workload.is_answered()
    workload.read_everything()
    cluster.run_until(cluster.converged)
    workload.judge()
    return workload


def test_everything_that_clients_can_ask_is_asked_and_judged() -> None:
    workload = run(duration_ms=60_000)
    kinds = workload.kinds()
    # Which commands there are to ask is looked at in `test_steps`.
    assert len(kinds) > 70
    assert {"SET", "GET", "HSET", "LMOVE", "SADD", "ZADD", "SETBIT", "EXPIRE", "EXEC"} <= set(kinds)
    assert set(kinds) & {"KEYS", "SCAN", "RANDOMKEY", "DBSIZE", "COUNTKEYSINSLOT"}
    assert workload.count(Outcome.OK) > 300
    history = workload.history()
    assert len({operation.client for operation in history.operations}) > 5


def _loses(commands: list[Command]) -> list[Command]:
    return [(Opcode.GET, b"nothing") if one[0] == Opcode.SET else one for one in commands]


def _doubles(commands: list[Command]) -> list[Command]:
    return [one for one in commands for _ in range(2)]


@pytest.mark.parametrize("err", [_loses, _doubles])
def test_a_store_that_errs_on_all_nodes_is_noticed(
    err: Callable[[list[Command]], list[Command]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = KvStore._run

    def wrong(self: KvStore, index: int, commands: list[Command]) -> list[object]:
        results = right(self, index, err(commands) if index % EVERY == 0 else commands)
        if len(results) > len(commands):
            results = results[:: len(results) // len(commands)]
        # The reply of what was lost sounds like that of a SET.
        return ["OK" if one is None and index % EVERY == 0 else one for one in results]

    monkeypatch.setattr(KvStore, "_run", wrong)
    with pytest.raises(Violation) as caught:
        run(duration_ms=60_000)
    assert caught.value.invariant == "linearizable"


def test_a_saved_history_is_judged_alike(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    report = run_seed(2, duration_ms=6000, history=path)
    result = check(History.load(path))
    assert result.is_ok
    assert len(result.parts) == report.parts_checked

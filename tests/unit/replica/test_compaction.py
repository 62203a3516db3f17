"""Snapshots are taken when due, answered to whoever asked, and never cut the log too early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.errors import DiskFailedError, DiskFullError
from raftkv.kv import keyspace
from raftkv.kv.commands import Opcode
from raftkv.kv.image import PIECE_BYTES_MAX
from raftkv.replica import compaction
from raftkv.replica.compaction import PIECE_INTERVAL_MS, PRESSED_PIECES
from raftkv.storage.snapshots import SnapshotWriter
from raftkv.types import Index
from tests.sim.cluster import Cluster, SimNode, SimSlot

LIMIT = 1 << 20


def led(limits: Limits | None = None) -> tuple[Cluster, SimNode]:
    cluster = Cluster(11, limits=limits)
    cluster.start()
    cluster.run_until(cluster.converged)
    leader = cluster.leader()
    assert leader is not None
    return cluster, leader


def write(cluster: Cluster, node: SimNode, count: int, size: int = 100) -> None:
    for number in range(count):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        command = (Opcode.APPEND, b"key%d" % (number % 7), b"x" * size, LIMIT)
        node.replica.propose([command], slot)
        cluster.run_until(lambda done=done: bool(done))


def request(node: SimNode, into: list[Any]) -> None:
    node.replica.take_snapshot(SimSlot(lambda results, failure: into.append(results or failure)))


def test_a_request_is_answered_with_the_index_of_a_durable_snapshot() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    answers: list[Any] = []
    request(leader, answers)
    cluster.run_until(lambda: bool(answers))
    index = leader.replica.status().snapshot_index
    assert answers == [[index]]
    name = leader.disk.names("snapshots")[-1]
    assert name.startswith(f"{index:020d}")


def test_a_request_during_an_attempt_does_not_swallow_the_one_under_way() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    first: list[Any] = []
    second: list[Any] = []
    leader.slow_disk = 20.0
    request(leader, first)
    cluster.run_until(lambda: leader.replica._compactor._attempt is not None)
    write(cluster, leader, 1)
    request(leader, second)
    cluster.run_until(lambda: bool(first) and bool(second), limit_ms=5000)
    assert first[0][0] <= second[0][0]


def test_a_request_with_nothing_new_is_answered_at_once() -> None:
    cluster, leader = led()
    write(cluster, leader, 2)
    answers: list[Any] = []
    request(leader, answers)
    cluster.run_until(lambda: len(answers) == 1)
    request(leader, answers)
    cluster.run_until(lambda: len(answers) == 2)
    assert answers[0] == answers[1]


def test_the_log_is_cut_only_behind_a_durable_snapshot() -> None:
    cluster, leader = led()
    seen: list[tuple[int, int]] = []
    write(cluster, leader, 400, size=200)
    status = leader.replica.status()
    assert status.snapshot_index > 0
    assert status.first_index - 1 <= status.snapshot_index
    seen.append((status.first_index, status.snapshot_index))
    leader.crash(power_cut=True)
    leader.start()
    cluster.run_until(cluster.converged)
    assert leader.replica.status().snapshot_index >= seen[0][1]


def test_a_full_disk_ends_the_attempt_and_not_the_node() -> None:
    cluster, leader = led()
    write(cluster, leader, 5)
    real: Callable[..., Any] = leader.replica._compactor._snapshots.writer

    def refuse(*_: Any, **__: Any) -> Any:
        raise DiskFullError("no space")

    leader.replica._compactor._snapshots.writer = refuse  # type: ignore[method-assign]
    answers: list[Any] = []
    request(leader, answers)
    cluster.run_until(lambda: bool(answers))
    assert answers[0].reason == "disk full"
    assert leader.alive
    leader.replica._compactor._snapshots.writer = real  # type: ignore[method-assign]
    request(leader, answers)
    cluster.run_until(lambda: len(answers) == 2)
    assert isinstance(answers[1], list)


def test_an_attempt_that_is_given_up_does_not_take_the_file_of_the_next_one() -> None:
    """Its file is removed by the worker, which may be slow, and all have the same name."""
    cluster, leader = led()
    write(cluster, leader, 5)
    first: list[Any] = []
    second: list[Any] = []
    compactor = leader.replica._compactor
    request(leader, first)
    cluster.run_until(lambda: compactor._attempt is not None and compactor._attempt.is_written)
    leader.slow_disk = 500.0
    assert compactor._attempt is not None
    # As if one had come from a leader meanwhile.
    compactor.snapshot_index = compactor._attempt.index
    leader.wake()
    cluster.run_until(lambda: bool(first))
    leader.slow_disk = 1.0
    write(cluster, leader, 2)
    request(leader, second)
    cluster.run_until(lambda: bool(second) or not leader.alive, limit_ms=30_000)
    assert leader.alive
    assert second[0][0] > first[0][0]


def test_whoever_waits_is_answered_when_the_node_stops() -> None:
    cluster, leader = led()
    write(cluster, leader, 2)
    answers: list[Any] = []
    request(leader, answers)
    leader.replica.close()
    assert [answer.reason for answer in answers] == ["shutting down"]
    assert cluster.nodes


@pytest.mark.parametrize("keep", [0, 1 << 20])
def test_a_tail_is_kept_for_followers_that_lag_a_little(keep: int) -> None:
    limits = Limits(snapshot_keep_log_bytes=keep)
    cluster, leader = led(limits)
    write(cluster, leader, 10)
    answers: list[Any] = []
    request(leader, answers)
    cluster.run_until(lambda: bool(answers))
    status = leader.replica.status()
    assert status.first_index == (1 if keep else status.snapshot_index + 1)


def fill_pieces(cluster: Cluster, node: SimNode, count: int) -> None:
    """Write values of which each takes a piece of the image for itself."""
    for number in range(count):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        command = (int(Opcode.SET), b"large%d" % number, bytes(PIECE_BYTES_MAX - 100))
        node.replica.propose([command], slot)
        cluster.run_until(lambda done=done: bool(done))


def begun(cluster: Cluster, node: SimNode) -> tuple[compaction._Attempt, list[Any]]:
    """Begin a snapshot of this node; returns it, and where the answer will be."""
    answers: list[Any] = []
    request(node, answers)
    compactor = node.replica._compactor
    cluster.run_until(lambda: compactor._attempt is not None)
    assert compactor._attempt is not None
    return compactor._attempt, answers


def snapshot_ms(cluster: Cluster, node: SimNode, *, log_bytes: int = 0) -> tuple[float, float]:
    """Take a snapshot of this node, which so much log follows at once.

    Returns:
        How long it took to be written, and from being confirmed to its end.
    """
    attempt, answers = begun(cluster, node)
    node.replica._compactor.note_applied(log_bytes)
    began_ms = cluster.world.now_ms
    cluster.run_until(lambda: attempt.is_written or attempt.steps is not None)
    written_ms = cluster.world.now_ms
    cluster.run_until(lambda: attempt.steps is not None)
    confirmed_ms = cluster.world.now_ms
    cluster.run_until(lambda: bool(answers))
    assert isinstance(answers[0], list)
    return written_ms - began_ms, cluster.world.now_ms - confirmed_ms


def test_a_snapshot_pauses_between_its_pieces_unless_writes_press_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = Limits(snapshot_log_bytes=1 << 30, snapshot_chunk_bytes=1 << 16)
    cluster, leader = led(limits)
    fill_pieces(cluster, leader, 20)
    pauses_ms = 19 * PIECE_INTERVAL_MS
    assert min(snapshot_ms(cluster, leader)) >= pauses_ms
    jobs: list[int] = []
    write_all = compaction._write_all

    def noted(writer: SnapshotWriter, pieces: Sequence[bytes]) -> None:
        jobs.append(len(pieces))
        write_all(writer, pieces)

    monkeypatch.setattr(compaction, "_write_all", noted)
    write(cluster, leader, 1)
    snapshot_ms(cluster, leader)
    assert set(jobs) == {1}
    jobs.clear()
    monkeypatch.setattr(keyspace, "NOTED_ENTRIES_MAX", 0)
    write(cluster, leader, 1)
    writing_ms, reading_ms = snapshot_ms(cluster, leader)
    assert writing_ms < 0.5 * pauses_ms
    assert jobs[0] == PRESSED_PIECES
    # Then it holds nothing more, and has time again.
    assert reading_ms >= pauses_ms


def test_a_snapshot_does_not_pause_when_the_next_one_is_due() -> None:
    limits = Limits(snapshot_log_bytes=1 << 30, snapshot_chunk_bytes=1 << 16)
    cluster, leader = led(limits)
    fill_pieces(cluster, leader, 20)
    writing_ms, reading_ms = snapshot_ms(cluster, leader, log_bytes=1 << 30)
    pauses_ms = 19 * PIECE_INTERVAL_MS
    assert writing_ms < 0.5 * pauses_ms
    # Step by step, but each as soon as the one before is done.
    assert reading_ms < 0.9 * pauses_ms


def test_a_snapshot_that_one_of_the_leader_overtakes_is_given_up_at_once() -> None:
    limits = Limits(snapshot_log_bytes=1 << 30, snapshot_chunk_bytes=1 << 16)
    cluster, leader = led(limits)
    fill_pieces(cluster, leader, 20)
    attempt, answers = begun(cluster, leader)
    leader.replica._compactor.snapshot_index = Index(attempt.index + 1)
    cluster.run_until(lambda: bool(answers), limit_ms=100)
    assert answers == [[attempt.index + 1]]
    assert not leader.replica.store.is_viewed
    cluster.run_until(lambda: not leader.disk.names("snapshots"), limit_ms=100)


@pytest.mark.parametrize(
    ("error", "stops"), [(DiskFailedError("no such device"), True), (DiskFullError("full"), False)]
)
def test_a_disk_that_fails_when_an_overtaken_file_is_removed_stops_the_node(
    error: Exception, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(snapshot_log_bytes=1 << 30, snapshot_chunk_bytes=1 << 16)
    cluster, leader = led(limits)
    fill_pieces(cluster, leader, 2)
    attempt, answers = begun(cluster, leader)

    def fail(_: SnapshotWriter) -> None:
        raise error

    failures: list[BaseException] = []
    compactor = leader.replica._compactor
    monkeypatch.setattr(compactor, "_fail", failures.append)
    monkeypatch.setattr(SnapshotWriter, "abort", fail)
    compactor.snapshot_index = Index(attempt.index + 1)
    cluster.run_until(lambda: bool(answers) and not compactor._is_clearing, limit_ms=100)
    assert failures == ([error] if stops else [])

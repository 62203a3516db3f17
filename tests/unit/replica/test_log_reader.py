"""Followers far behind are fed from the files, and from nothing that is damaged."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.engine.ready import EntriesRead, Wanted
from raftkv.errors import DamagedDataError
from raftkv.kv.commands import Opcode
from raftkv.replica.log_reader import LogReader
from raftkv.storage.wal import Wal
from raftkv.storage.wal_format import segment_name
from raftkv.types import Index
from tests.sim.cluster import Cluster
from tests.sim.node import SimNode, SimSlot
from tests.unit.replica.fakes import StepWorker
from tests.unit.storage.crashing_disk import CrashingDisk
from tests.unit.storage.wal_steps import append_entries, mark, recover, sync

LIMIT = 1 << 20
NOTHING_IN_MEMORY = Limits(
    wal_segment_bytes=64 * 1024,
    snapshot_log_bytes=1 << 30,
    append_bytes_max=4096,
    log_memory_bytes_max=0,
)


class Reading:
    """A reader on a real WAL, and what came of it."""

    def __init__(self, count: int) -> None:
        self.disk = CrashingDisk()
        self.wal: Wal
        self.wal, _ = recover(self.disk)
        append_entries(self.wal, count)
        sync(self.wal)
        self.worker = StepWorker()
        self.delivered: list[EntriesRead] = []
        self.failures: list[BaseException] = []
        self.reader = LogReader(
            disk=self.disk,
            wal=self.wal,
            background=self.worker,
            deliver=self.delivered.append,
            fail=self.failures.append,
        )

    def want(self, first: int, last: int, bytes_max: int = 1 << 20) -> None:
        self.reader.start([Wanted(Index(first), Index(last), bytes_max)])


def test_a_read_is_done_by_the_worker_and_bounded_in_bytes() -> None:
    reading = Reading(200)
    reading.want(50, 150, 1000)
    assert reading.delivered == []
    reading.worker.run_all()
    ((first, entries),) = reading.delivered
    assert first == 50
    assert [index for _, index, _ in entries] == list(range(50, 60))
    assert sum(len(command) for command, _, _ in entries) <= 1000


def test_segments_are_removed_behind_a_read_that_was_planned_before() -> None:
    reading = Reading(200)
    mark(reading.wal)
    reading.want(1, 200)
    names = reading.wal.compact(Index(150))
    assert segment_name(1) in names
    reading.worker.submit(lambda: reading.wal.remove_segments(names), lambda outcome: None)
    reading.worker.run_all()
    assert [index for _, index, _ in reading.delivered[0].entries] == list(range(1, 201))
    assert reading.failures == []


def test_what_was_removed_under_a_read_is_found_missing_and_not_damaged() -> None:
    reading = Reading(200)
    mark(reading.wal)
    reading.want(1, 200)
    reading.wal.remove_segments(reading.wal.compact(Index(150)))
    reading.worker.run_all()
    assert reading.delivered == [EntriesRead(Index(1), [])]
    assert reading.failures == []


def test_a_segment_that_somebody_took_away_is_damage() -> None:
    reading = Reading(200)
    reading.want(1, 200)
    reading.disk.remove(segment_name(1))
    reading.worker.run_all()
    assert reading.delivered == []
    (failure,) = reading.failures
    assert type(failure) is DamagedDataError
    assert failure.file == reading.disk.path(segment_name(1))


def test_rot_found_by_a_read_is_damage_with_file_and_position() -> None:
    reading = Reading(30)
    reading.disk.flip(segment_name(1), 2000, 1)
    reading.want(1, 30)
    reading.worker.run_all()
    assert reading.delivered == []
    (failure,) = reading.failures
    assert type(failure) is DamagedDataError
    assert failure.file == reading.disk.path(segment_name(1))
    assert 0 < failure.position <= 2000


# ------------------------------------------------------------- whole replicas


def led(limits: Limits = NOTHING_IN_MEMORY, seed: int = 5) -> tuple[Cluster, SimNode, SimNode]:
    """A cluster, its leader, and a follower."""
    cluster = Cluster(seed, limits=limits)
    cluster.start()
    cluster.run_until(cluster.converged)
    leader = cluster.leader()
    assert leader is not None
    return cluster, leader, next(node for node in cluster.nodes.values() if node is not leader)


def write(cluster: Cluster, node: SimNode, count: int, size: int = 100) -> None:
    for number in range(count):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        command = (Opcode.APPEND, b"key%d" % (number % 7), b"x" * size, LIMIT)
        node.replica.propose([command], slot)
        cluster.run_until(lambda done=done: bool(done))


def test_a_follower_that_was_away_is_fed_from_the_disk_without_a_snapshot() -> None:
    cluster, leader, follower = led()
    follower.crash(power_cut=False)
    write(cluster, leader, 300, size=300)
    status = leader.replica.status()
    assert status.log_memory_bytes == status.log_memory_entries == 0
    assert status.first_index == 1
    follower.start()
    cluster.run_until(cluster.converged)
    assert cluster.events.get("snapshot_sending", 0) == 0
    assert follower.replica.store.state_hash == leader.replica.store.state_hash


@pytest.mark.parametrize("budget", [0, 20_000])
def test_a_restart_applies_what_does_not_fit_into_memory(budget: int) -> None:
    limits = Limits(
        wal_segment_bytes=64 * 1024, snapshot_log_bytes=1 << 30, log_memory_bytes_max=budget
    )
    cluster, leader, follower = led(limits)
    write(cluster, leader, 200, size=300)
    cluster.run(500)
    before = follower.replica.status()
    follower.crash(power_cut=True)
    follower.start()
    core = follower.replica._core
    assert core.log.last_index == before.last_index
    assert core.log.base_index == 0
    assert core.log.evicted_index > 0
    assert follower.replica.store.applied_index == core.log.evicted_index
    # What is not known to be committed has to stay, whatever it costs.
    assert core.log.memory_bytes <= budget or core.log.evicted_index == core.commit_index
    assert core.configuration == before.configuration
    assert [core.log.term_at(index) for index in range(before.last_index + 1)] == [
        leader.replica._core.log.term_at(index) for index in range(before.last_index + 1)
    ]
    cluster.run_until(cluster.converged)


def test_damage_in_an_old_segment_stops_the_leader_before_it_is_sent() -> None:
    cluster, leader, follower = led()
    follower.crash(power_cut=False)
    write(cluster, leader, 300, size=300)
    leader.disk.flip_bit(segment_name(1), 20_000, 3)
    follower.start()
    cluster.run_until(lambda: not leader.alive)
    ((name, stopped),) = cluster.stops
    assert name == leader.name
    assert stopped.exit_code == 3
    assert segment_name(1) in stopped.reason
    assert follower.alive


def test_a_snapshot_leaves_the_log_that_a_linked_follower_is_still_sent() -> None:
    limits = Limits(
        wal_segment_bytes=64 * 1024,
        snapshot_log_bytes=64 * 1024,
        snapshot_keep_log_bytes=0,
        log_memory_bytes_max=0,
    )
    cluster, leader, follower = led(limits)
    compactor = leader.replica._compactor
    engine = leader.replica._core._engine
    state = engine.peers[follower.name]
    write(cluster, leader, 20)
    applied = Index(leader.replica.store.applied_index)
    engine.match_indexes[state.node] = applied - 10
    assert compactor._keep_from(applied) == applied - 9
    engine.match_indexes[state.node] = 0
    bound = leader.replica._core.log.first_within(applied, 2 * limits.snapshot_log_bytes)
    assert compactor._keep_from(applied) == bound
    state.connected = False
    assert compactor._keep_from(applied) > applied - 9


def test_a_read_for_entries_that_a_snapshot_covers_meanwhile_harms_nobody() -> None:
    cluster, leader, follower = led()
    follower.crash(power_cut=False)
    write(cluster, leader, 300, size=300)
    leader.slow_disk = 50.0
    follower.start()
    engine = leader.replica._core._engine
    cluster.run_until(lambda: engine.peers[follower.name].reading > 0)
    answers: list[Any] = []
    leader.replica.take_snapshot(
        SimSlot(lambda results, failure: answers.append(results or failure))
    )
    leader.slow_disk = 1.0
    cluster.run_until(lambda: bool(answers))
    cluster.run_until(cluster.converged)
    assert follower.replica.store.state_hash == leader.replica.store.state_hash
    assert isinstance(answers[0], list)

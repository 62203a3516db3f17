"""A start finds what was durable, refuses what is damaged, and forgets no promise."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.errors import DamagedDataError, IdentityRefusedError
from raftkv.kv.commands import Opcode
from raftkv.replica.recovery import Recovered, engine_settings, recover
from raftkv.storage.identity import load_identity
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.unit.replica.fakes import FakeClock, FakeObserver

LIMIT = 1 << 20


class Dice:
    def __init__(self) -> None:
        self.count = 0

    def random(self) -> float:
        return 0.5

    def getrandbits(self, count: int, /) -> int:
        self.count += 1
        return self.count


def start(node: SimNode) -> Recovered:
    return recover(
        node.config, node.disk, clock=FakeClock(), observer=FakeObserver(), random=Dice()
    )


def written(count: int = 60, *, seed: int = 21, size: int = 400) -> tuple[Cluster, SimNode]:
    """A cluster in which one follower has written and compacted, and is stopped."""
    cluster = Cluster(seed)
    cluster.start()
    cluster.run_until(cluster.converged)
    leader = cluster.leader()
    assert leader is not None
    for number in range(count):
        done: list[Any] = []
        slot = SimSlot(lambda results, failure, done=done: done.append(results or failure))
        command = (Opcode.APPEND, b"key%d" % (number % 5), b"x" * size, LIMIT)
        leader.replica.propose([command], slot)
        cluster.run_until(lambda done=done: bool(done))
    cluster.run_until(cluster.converged)
    cluster.run(500)
    node = next(node for node in cluster.nodes.values() if node is not leader)
    return cluster, node


def test_a_new_directory_gets_an_identity_before_anything_else() -> None:
    cluster = Cluster(1)
    node = cluster.nodes["n1"]
    recovered = start(node)
    identity = load_identity(node.disk, node_id="n1")
    assert identity == recovered.identity
    assert len(recovered.identity.disk_id) == 32
    assert not recovered.identity.admitted
    assert recovered.identity.wal_created
    node.disk.cut_power()
    assert start(node).identity == recovered.identity


def test_what_was_applied_is_there_again_and_term_and_vote_with_it() -> None:
    _, node = written()
    before = node.replica.status()
    hard_state = node.replica._core.log.hard_state
    assert before.snapshot_index > 0
    node.crash(power_cut=False)
    recovered = start(node)
    assert recovered.core.log.hard_state == hard_state
    assert recovered.core.log.last_index == before.last_index
    # And all behind it that does not come into memory, which is committed.
    applied = max(before.snapshot_index, recovered.core.log.evicted_index)
    assert recovered.store.applied_index == applied <= recovered.core.commit_index
    assert recovered.core.configuration == before.configuration
    assert recovered.core.admitted


def test_a_power_cut_loses_nothing_that_was_synced() -> None:
    _, node = written(20)
    before = node.replica.status()
    node.crash(power_cut=True)
    assert start(node).core.log.last_index == before.last_index


def test_a_missing_snapshot_under_a_log_that_starts_behind_it_is_damage() -> None:
    cluster, node = written(60, size=10_000)
    cluster.run(1000)
    assert start_index(node) > 1
    node.crash(power_cut=False)
    for name in node.disk.names("snapshots"):
        node.disk.remove(f"snapshots/{name}")
    with pytest.raises(DamagedDataError, match="no snapshot covers"):
        start(node)


def start_index(node: SimNode) -> int:
    """First index that the WAL files still hold."""
    return int(node.replica._core.log.base_index) + 1


def test_a_damaged_snapshot_stops_the_node_with_file_and_position() -> None:
    _, node = written()
    node.crash(power_cut=False)
    name = f"snapshots/{node.disk.names('snapshots')[-1]}"
    size = node.disk.open(name).size()
    node.disk.flip_bit(name, size // 2, 3)
    with pytest.raises(DamagedDataError) as caught:
        start(node)
    assert caught.value.file.endswith(name)
    assert caught.value.advice


def test_a_directory_whose_log_is_gone_is_not_taken_for_a_new_one() -> None:
    _, node = written(5)
    node.crash(power_cut=False)
    for name in node.disk.names("wal"):
        node.disk.remove(f"wal/{name}")
    with pytest.raises(DamagedDataError):
        start(node)


def test_a_directory_of_another_node_is_refused() -> None:
    cluster, node = written(5)
    other = next(other for other in cluster.nodes.values() if other is not node)
    node.crash(power_cut=False)
    with pytest.raises(IdentityRefusedError):
        recover(other.config, node.disk, clock=FakeClock(), observer=FakeObserver(), random=Dice())


def test_the_engine_gets_its_share_of_the_settings() -> None:
    config = Cluster(1).nodes["n1"].config
    settings = engine_settings(config)
    assert settings.heartbeat_ms == config.timing.heartbeat_ms
    assert (settings.election_timeout_min_ms, settings.election_timeout_max_ms) == tuple(
        config.timing.election_timeout_ms
    )
    assert settings.append_bytes_max == config.limits.append_bytes_max

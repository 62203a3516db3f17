"""The simulated machines do what they promise, and the invariants see what goes wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from raftkv.config import Limits
from raftkv.engine import messages
from raftkv.errors import DiskFailedError
from raftkv.kv.commands import Opcode
from raftkv.seams import PEER_RAFT
from raftkv.types import NodeId
from tests.sim.cluster import SimNode, SimSlot, Violation
from tests.sim.disk import SECTOR_BYTES, TORN_BY_SECTORS, TORN_WRITE, SimDisk
from tests.sim.hardware import _choose_place
from tests.sim.healthy_cluster import follower_of, healthy, leader_of, write
from tests.sim.world import SimClock, World

# --------------------------------------------------------------------- answers


def test_a_process_owes_an_answer_for_as_long_as_it_lives() -> None:
    cluster = healthy()
    node = leader_of(cluster)
    slot = SimSlot(lambda results, failure: None, asked=node)
    lost = SimSlot(lambda results, failure: None, asked=node)
    assert not cluster.owes_nothing()
    node.replica.propose([(Opcode.SET, b"key", b"value")], slot)
    cluster.run(1000)
    assert node.debts == {lost}
    node.crash(power_cut=False)
    node.start()
    assert cluster.owes_nothing()


def test_what_recovery_applies_is_shown_too() -> None:
    """Maybe nobody has applied it before: seed 1676."""
    cluster = healthy(limits=Limits(log_memory_bytes_max=1024))
    node = leader_of(cluster)
    for _ in range(60):
        write(cluster)
    shown: list[int] = []
    cluster.invariants.apply_listeners.append(lambda store: shown.append(store.applied_index))
    node.crash(power_cut=False)
    node.start()
    assert shown
    assert shown[-1] == node.replica.store.applied_index


# ------------------------------------------------------------------------ disk


def test_a_job_of_a_slow_disk_ends_slowly_after_it_is_quick_again() -> None:
    """However short it was slow: seed 1570."""
    cluster = healthy()
    node = follower_of(cluster)
    node.syncer.share_on_loop = 0.0
    node.slow_disk = 400.0
    write(cluster)
    cluster.run_until(lambda: node.slow_until_ms > 0)
    node.slow_disk = 1.0
    cluster.run_until(lambda: not node.syncer.busy)
    assert 0 <= cluster.world.now_ms - node.slow_until_ms < 50


def test_a_write_that_a_failed_sync_left_is_read_and_not_saved_by_another_sync() -> None:
    left = 0
    for seed in range(20):
        disk = SimDisk(World(seed), "n1")
        file = disk.open("file", create=True)
        file.write(b"data", 0)
        disk.sync_directory("")
        disk.sync_fails = True
        with pytest.raises(DiskFailedError):
            file.sync()
        seen = file.read(0, 4)
        file.sync()
        disk.cut_power()
        left += seen == b"data" and disk.open("file").read(0, 4) != b"data"
    assert left > 0


def test_a_write_that_a_power_cut_tore_is_counted() -> None:
    size = 4 * SECTOR_BYTES
    counts: Counter[str] = Counter()
    for seed in range(200):
        disk = SimDisk(World(seed), "n1")
        file = disk.open("file", create=True)
        disk.sync_directory("")
        file.write(b"x" * size, 0)
        disk.cut_power()
        data = disk.open("file").read(0, size).ljust(size, b"\0")
        torn = 0 < data.count(b"x") < size
        assert disk.happened[TORN_WRITE] == torn
        counts += disk.happened
    assert 0 < counts[TORN_BY_SECTORS] < counts[TORN_WRITE]


def test_a_write_during_a_sync_is_not_covered_by_it() -> None:
    disk = SimDisk(World(1), "n1")
    file = disk.open("wal/1.segment", create=True)
    file.write(b"one", 0)
    asked = disk.number
    file.write(b"two", 3)
    disk.begin_job(asked)
    file.sync()
    disk.sync_directory("wal")
    disk.end_job()
    assert disk.wal_durable_to == asked
    assert not disk.is_all_durable("wal")
    file.sync()
    assert disk.wal_durable_to == disk.number
    assert disk.is_all_durable("wal")


def test_a_torn_write_keeps_any_of_its_sectors() -> None:
    kept = set()
    for seed in range(300):
        disk = SimDisk(World(seed), "n1")
        file = disk.open("file", create=True)
        file.allocate(4 * 512)
        file.sync()
        disk.sync_directory("")
        file.write(b"x" * 4 * 512, 0)
        disk.cut_power()
        data = disk.open("file").read(0, 4 * 512)
        kept.add(tuple(data[at : at + 512].count(b"x") for at in range(0, 4 * 512, 512)))
    assert any(first < 512 and 512 in rest for first, *rest in kept), "never without the beginning"
    assert {(512,) * 4, (0,) * 4} <= kept


def test_a_node_whose_sync_fails_stops_and_comes_back() -> None:
    cluster = healthy()
    leader = leader_of(cluster)
    leader.disk.sync_fails = True
    answers: list[object] = []
    slot = SimSlot(lambda results, failure: answers.append(results), leader)
    leader.replica.propose([(Opcode.SET, b"key", b"value")], slot)
    cluster.run_until(lambda: not leader.alive, 2000)
    assert [name for name, _ in cluster.stops] == [leader.name]
    leader.start()
    cluster.run_until(cluster.converged)


@pytest.mark.parametrize("seed", range(6))
def test_rot_is_refused_and_the_advice_followed(seed: int) -> None:
    cluster = healthy(seed)
    for number in range(5):
        write(cluster, b"%d" % number)
    victim = leader_of(cluster)
    victim.crash(power_cut=False)
    place = _choose_place(victim.disk, cluster.world.random.random)
    assert place is not None
    victim.disk.flip_bit(*place, 3)
    victim.disk.rotten = True
    before = victim.replica.disk_id
    victim.start()
    assert not victim.alive
    cluster.run_until(cluster.converged)
    assert cluster.noted["rot_noticed"] == 1
    assert victim.replica.disk_id != before
    assert victim.replica.read_stale((Opcode.GET, b"key")) == b"4"


# ------------------------------------------------------------ clocks, processes


def test_clocks_drift_and_never_go_back() -> None:
    world = World(1)
    clock = SimClock(world)
    world.run_until(10_000)
    started_ms, seen_ms = clock.now_ms(), clock.now_ms()
    for rate in (1.02, 0.98, 1.0):
        clock.set_rate(rate)
        for _ in range(100):
            world.run_until(world.now_ms + 10)
            assert clock.now_ms() >= seen_ms
            seen_ms = clock.now_ms()
    assert 2990 <= seen_ms - started_ms <= 3010
    clock.set_rate(1.02)
    assert clock.delay_until(clock.now_ms() + 1020) == pytest.approx(1000, abs=2)


def test_a_frozen_leader_is_replaced_and_steps_down_when_it_wakes() -> None:
    cluster = healthy()
    old = leader_of(cluster)
    old.paused_until_ms = cluster.world.now_ms + 3000
    cluster.run(2500)
    assert old.is_frozen
    assert leader_of(cluster) is not old
    answers: list[object] = []
    slot = SimSlot(lambda results, failure: answers.append(failure), old)
    cluster.world.after(
        501, lambda: old.guarded(lambda: old.replica.read([(Opcode.GET, b"k")], slot))
    )
    cluster.run(1500)
    assert len(answers) == 1
    assert answers[0] is not None, "it served a read"
    cluster.run_until(cluster.converged)


@pytest.mark.parametrize("kind", ["persist", "sync", "send", "apply", "reply"])
def test_a_process_ends_before_each_kind_of_effect(kind: str) -> None:
    cluster = healthy()
    leader = leader_of(cluster)
    effects: list[str] = []

    def effect(happening: str = "send") -> None:
        effects.append(happening)
        leader.crash_probability = float(happening == kind)
        SimNode.effect(leader, happening)

    leader.effect = leader.disk.effect = effect  # type: ignore[method-assign]
    answers: list[object] = []
    slot = SimSlot(lambda results, failure: answers.append(results), leader)
    leader.guarded(lambda: leader.replica.propose([(Opcode.SET, b"key", b"value")], slot))
    cluster.run_until(lambda: not leader.alive, 2000)
    assert effects[-1] == kind
    # An entry is answered when it is applied, before the next one is.
    assert bool(answers) == (kind == "apply")
    assert cluster.noted[f"crash_before_{kind}"] == 1
    del leader.effect
    leader.crash_probability = 0.0
    leader.start()
    cluster.run_until(cluster.converged)


# ------------------------------------------------------------------ invariants


def test_an_acknowledgement_of_what_is_not_durable_is_noticed() -> None:
    cluster = healthy()
    leader = leader_of(cluster)
    follower = follower_of(cluster)
    status = follower.replica.status()
    record = cluster.invariants._records[follower.name]

    def reply(index: int) -> bytes:
        return messages.encode(messages.AppendReply(status.term, 1, True, index, False))

    cluster.invariants.sent(follower, NodeId(leader.name), PEER_RAFT, reply(status.last_index))
    cell = record.cells[status.last_index]
    record.cells[status.last_index] = cell._replace(sequence=1 << 40)
    with pytest.raises(Violation, match="before it is durable") as caught:
        cluster.invariants.sent(follower, NodeId(leader.name), PEER_RAFT, reply(status.last_index))
    assert caught.value.invariant == "no_message_before_its_write"


def test_a_vote_that_is_not_durable_is_noticed() -> None:
    cluster = healthy()
    node = leader_of(cluster)
    term = node.replica.status().term
    body = messages.encode(messages.VoteReply(term + 1, True, False, 0))
    with pytest.raises(Violation, match="no_message_before_its_write"):
        cluster.invariants.sent(node, NodeId("n9"), PEER_RAFT, body)


def test_two_leaders_of_a_term_are_noticed() -> None:
    cluster = healthy()
    leader = leader_of(cluster)
    other = follower_of(cluster)
    with pytest.raises(Violation, match="one_leader_a_term"):
        cluster.invariants.one_leader_a_term(other, leader.replica.status().term)


def test_a_node_that_speaks_after_its_disk_has_failed_is_noticed() -> None:
    cluster = healthy()
    node = leader_of(cluster)
    node.disk.failed = True
    with pytest.raises(Violation, match="nothing_leaves_a_stopped_node"):
        cluster.run(200)

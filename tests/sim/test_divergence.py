"""A node whose state differs from the others' says so and never comes back with it.

Each defect that makes states differ is planted in the store or the memory of one
node, of the production replica, and must end that node: it stops with exit code 3,
leaves a report, and its directory is refused until it is deleted.
"""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.errors import DamagedDataError
from raftkv.kv import strings
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.keyspace import Keyspace, bucket_of
from tests.sim.cluster import Cluster, SimNode, SimSlot
from tests.sim.healthy_cluster import follower_of, healthy, leader_of
from tests.sim.workload import LIMIT

Handler = Callable[[Keyspace, Command], object]

KEY = b"key"


def write(cluster: Cluster, *commands: Command) -> None:
    """Have commands applied, whoever leads."""
    answers: list[object] = []

    def written() -> bool:
        leader = cluster.leader()
        if leader is not None and not answers:
            slot = SimSlot(lambda results, failure: answers.append(results))
            leader.replica.propose(list(commands), slot)
            cluster.run(50)
        return bool(answers) and answers[-1] is not None

    cluster.run_until(written)


def append(cluster: Cluster, value: bytes = b"value", key: bytes = KEY) -> None:
    write(cluster, (Opcode.APPEND, key, value, LIMIT))


def report_of(node: SimNode) -> dict[str, Any]:
    file = node.disk.open("diverged.json")
    report: dict[str, Any] = json.loads(file.read(0, file.size()))
    file.close()
    return report


def check_stopped(cluster: Cluster, victim: SimNode) -> None:
    """The victim, and nobody else, has stopped as diverged and stays away."""
    ((name, stopped),) = cluster.stops
    assert (name, stopped.exit_code) == (victim.name, 3)
    assert "diverged.json" in stopped.reason
    assert "delete the directory" in stopped.reason
    assert "state_diverged" in cluster.events
    report = report_of(victim)
    assert report["node"] == victim.name
    assert report["index"] > 0
    with pytest.raises(DamagedDataError, match="differs"):
        victim.start()


def check_refilled(cluster: Cluster, victim: SimNode) -> None:
    """With its directory deleted, the victim gets what the others hold."""
    victim.disk.wipe()
    victim.start()
    cluster.run_until(cluster.converged)
    values = {node.replica.store.execute((Opcode.GET, KEY)) for node in cluster.nodes.values()}
    assert len(values) == 1


def plant(node: SimNode, opcode: Opcode, handler: Handler) -> None:
    """Give one node's store another handler of a command."""
    node.replica.store._handlers[int(opcode)] = handler


def flip(node: SimNode, key: bytes = KEY) -> None:
    """Change one bit of a value in memory, past every command."""
    bucket = node.replica.store._keyspace.buckets[bucket_of(key)]
    value, *others = bucket[key]
    bucket[key] = (bytes((value[0] ^ 1,)) + value[1:], *others)  # type: ignore[assignment]


# ------------------------------------------------------- defects of one command


def local_clock(node: SimNode) -> Handler:
    """The stored value depends on the wall clock of the node."""

    def handler(keyspace: Keyspace, command: Command) -> object:
        hour = node.clock.wall_ms() // 3_600_000
        return strings.append(keyspace, (*command[:2], b"%d" % hour, command[3]))

    return handler


def swallowed_early(_: SimNode) -> Handler:
    """The command fails before it has changed anything, and says that it has."""

    def handler(keyspace: Keyspace, command: Command) -> object:
        with contextlib.suppress(TypeError):
            strings.append(keyspace, (*command[:3], "no number"))
        return len(command[2])

    return handler


def swallowed_late(_: SimNode) -> Handler:
    """The command fails behind its revision: hash, result and revision are those of success."""

    def handler(keyspace: Keyspace, command: Command) -> object:
        with contextlib.suppress(ZeroDivisionError):
            keyspace.revision += 1
            raise ZeroDivisionError
        return len(command[2])

    return handler


def hashed_order(_: SimNode) -> Handler:
    """The stored value is in the order of a set whose members hash by a seed of this node."""

    class Member(bytes):
        def __hash__(self) -> int:
            return zlib.crc32(b"seed of this node" + self)

    def handler(keyspace: Keyspace, command: Command) -> object:
        members = {Member(b"%d" % number) for number in range(50)}
        return strings.append(keyspace, (*command[:2], b"".join(members), command[3]))

    return handler


def usual_order(keyspace: Keyspace, command: Command) -> object:
    members = [b"%d" % number for number in range(50)]
    return strings.append(keyspace, (*command[:2], b"".join(members), command[3]))


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
@pytest.mark.parametrize("defect", [local_clock, swallowed_early, swallowed_late, hashed_order])
def test_a_defect_on_one_node_ends_it(defect: Callable[[SimNode], Handler], leads: bool) -> None:
    cluster = healthy(7, check_hashes=False)
    append(cluster)
    victim = leader_of(cluster) if leads else follower_of(cluster)
    victim.clock.wall_error_ms = 7 * 3_600_000
    for node in cluster.nodes.values():
        if node is victim or defect is local_clock:
            plant(node, Opcode.APPEND, defect(node))
        elif defect is hashed_order:
            plant(node, Opcode.APPEND, usual_order)
    append(cluster)
    write(cluster, (Opcode.STRLEN, KEY))
    ask_for_snapshot(cluster)
    cluster.run_until(lambda: not victim.alive, 10_000)
    check_stopped(cluster, victim)


# --------------------------------------------------------- one key, in memory


def ask_for_snapshot(cluster: Cluster, node: SimNode | None = None) -> list[Any]:
    answers: list[Any] = []
    node = node or cluster.leader()
    if node is not None:
        node.replica.take_snapshot(
            SimSlot(lambda results, failure: answers.append(results or failure))
        )
    return answers


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
@pytest.mark.parametrize("asked", [False, True], ids=["another asked", "victim asked"])
def test_a_key_flipped_in_memory_before_a_snapshot_ends_the_node(leads: bool, asked: bool) -> None:
    cluster = healthy(7, check_hashes=False)
    append(cluster)
    cluster.run(3000)
    assert not cluster.stops
    victim = leader_of(cluster) if leads else follower_of(cluster)
    flip(victim)
    other = next(node for node in cluster.nodes.values() if node is not victim)
    ask_for_snapshot(cluster, victim if asked else other)
    cluster.run_until(lambda: not victim.alive, 10_000)
    check_stopped(cluster, victim)
    assert report_of(victim)["what"] == "image"
    # What was flipped never became a snapshot of that node.
    assert not [name for name in victim.disk.names("snapshots") if name.endswith(".snapshot")]
    check_refilled(cluster, victim)


def test_a_key_flipped_in_memory_is_found_although_nobody_writes() -> None:
    cluster = healthy(9, check_hashes=False)
    append(cluster)
    victim = leader_of(cluster)
    flip(victim)
    interval_ms = victim.config.timing.checkpoint_interval_ms
    cluster.run_until(lambda: not victim.alive, interval_ms + 10_000)
    check_stopped(cluster, victim)


def test_a_flipped_key_does_not_reach_a_node_that_is_refilled() -> None:
    """The log is full, all are due for a snapshot, and one node waits for it."""
    limits = Limits(
        wal_segment_bytes=256 * 1024, snapshot_log_bytes=24 * 1024, snapshot_keep_log_bytes=0
    )
    cluster = healthy(10, check_hashes=False, limits=limits)
    append(cluster)
    away = follower_of(cluster)
    away.crash(power_cut=False)
    victim = leader_of(cluster)
    flip(victim)
    for _ in range(60):
        append(cluster, b"x" * 1000, b"other")
    # Two nodes, two opinions: nobody can tell who is right, so nobody hands out either.
    cluster.run(40_000)
    assert "state_differs" in cluster.events
    assert not cluster.stops
    for node in cluster.nodes.values():
        assert not [name for name in node.disk.names("snapshots") if name.endswith(".snapshot")]
    away.start()
    cluster.run_until(lambda: not victim.alive, 90_000)
    check_stopped(cluster, victim)
    check_refilled(cluster, victim)
    assert cluster.nodes[away.name].replica.store.execute((Opcode.GET, KEY)) == b"value"


def test_a_minority_alone_takes_its_snapshot_in_the_end() -> None:
    cluster = healthy(11, check_hashes=False)
    append(cluster)
    kept = follower_of(cluster)
    for node in cluster.nodes.values():
        if node is not kept:
            node.crash(power_cut=False)
    answers = ask_for_snapshot(cluster, kept)
    cluster.run_until(lambda: bool(answers))
    assert "snapshot_unverified" in cluster.events


# -------------------------------------------------------------- nothing planted


def test_equal_nodes_report_nothing() -> None:
    cluster = healthy(8)
    for number in range(20):
        append(cluster, b"%d" % number)
        if number % 7 == 0:
            ask_for_snapshot(cluster)
    cluster.run(3000)
    assert cluster.events.get("snapshot_taken", 0) > 0
    assert "state_differs" not in cluster.events
    assert "snapshot_unverified" not in cluster.events
    assert not cluster.stops

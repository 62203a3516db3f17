"""What is done to the disks of a cluster under load, one context manager each.

See `tests.chaos.field`. None takes the disks of more than a minority, and none wipes
one before the last wiped one is admitted again, because beyond that nothing is promised.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.field import (
    EXIT_DAMAGED,
    EXIT_DISK_FAILED,
    Field,
    may_end,
    nemesis,
    start_again,
)
from tests.chaos.hurt_cluster import HurtNode
from tests.integration.damage import Place, covered_by_sync, flip_bit, snapshots

# A wiped node has to be let in before it is filled.
_TRANSFER_S = 4.0


@nemesis
def slow_sync(field: Field) -> Iterator[None]:
    """Every sync of some nodes takes up to half a second longer."""
    nodes = field.minority() if field.dice.random() < 0.7 else list(field.cluster.nodes)
    if field.dice.random() < 0.5 and field.leader not in nodes:
        nodes.append(field.leader)
    before = {node: node.faults.sync_delay_us for node in nodes}
    field.strikes()
    for node in nodes:
        node.faults.sync_delay_us = field.dice.choice((5_000, 50_000, 200_000, 500_000))
    try:
        yield
    finally:
        for node in nodes:
            node.faults.sync_delay_us = before[node]


@nemesis
def failing_sync(field: Field) -> Iterator[None]:
    """Every sync of a node fails; it must stop with 6, and what it wrote is lost."""
    node = field.leader_or_random()
    failed = node.faults.syncs_failed
    field.strikes()
    node.faults.sync_fails = 1
    try:
        with may_end(node, EXIT_DISK_FAILED):
            yield
    finally:
        if node.faults.syncs_failed > failed:
            node.resume()
            code = node.wait_for_exit(10.0)
            assert code == EXIT_DISK_FAILED, f"{node.id} ended with {code} after a failed sync"
            field.facts["nodes that stopped at a failed sync"] += 1
            node.faults.sync_fails = 0
            # Nobody can say what is on such a disk: the worst is that nothing is.
            field.facts["bytes lost at failed syncs"] += node.cut_power(None)
        node.faults.sync_fails = 0
        start_again(field, [node])


@nemesis
def failing_write(field: Field) -> Iterator[None]:
    """Every write of a node fails; it must stop with 6."""
    node = field.leader_or_random()
    failed = node.faults.writes_failed
    field.strikes()
    node.faults.write_fails = 1
    try:
        with may_end(node, EXIT_DISK_FAILED):
            yield
    finally:
        if node.faults.writes_failed > failed:
            node.resume()
            code = node.wait_for_exit(10.0)
            assert code == EXIT_DISK_FAILED, f"{node.id} ended with {code} after a failed write"
            field.facts["nodes that stopped at a failed write"] += 1
        node.faults.write_fails = 0
        start_again(field, [node])


@nemesis
def full_disk(field: Field) -> Iterator[None]:
    """The file systems of a minority, of the leader or of all are full."""
    nodes = field.dice.choice((field.minority(), [field.leader], list(field.cluster.nodes)))
    field.strikes()
    for node in nodes:
        node.fill_disk()
    try:
        yield
    finally:
        for node in nodes:
            node.free_disk()
            assert node.ended_as_expected, (
                f"{node.id} ended with a full disk: {node.log_since_start()[-2000:]}"
            )


@contextlib.contextmanager
def _without_power(field: Field, nodes: list[HurtNode]) -> Iterator[None]:
    field.strikes()
    for node in nodes:
        if node.is_running:
            node.signal(signal.SIGKILL)
    for node in nodes:
        torn = field.dice if field.dice.random() < 0.5 else None
        field.facts["bytes lost at power cuts"] += node.cut_power(torn)
    try:
        yield
    finally:
        start_again(field, nodes)


@nemesis
def power_cut_one(field: Field) -> Iterator[None]:
    """A node, mostly the leader, loses the power and every byte that was not synced."""
    with _without_power(field, [field.leader_or_random()]):
        yield


@nemesis
def power_cut_all(field: Field) -> Iterator[None]:
    """Every node loses the power at once."""
    with _without_power(field, list(field.cluster.nodes)):
        field.pause(0.0, 0.2)
    yield


@nemesis
def wiped_disk(field: Field) -> Iterator[None]:
    """A node is killed, loses its disk, and comes back empty: it is filled by a snapshot."""
    if not field.everybody_counts():
        yield
        return
    node = field.leader_or_random()
    field.strikes()
    node.kill()
    node.wipe()
    node.spawn()
    yield


@nemesis
def interrupted_snapshot(field: Field) -> Iterator[None]:
    """A follower with an empty disk is being filled when it, the leader or the link goes.

    Its links are slow, so that the transfer is under way for a while.
    """
    if not field.everybody_counts():
        yield
        return
    leader = field.leader
    follower = field.dice.choice(field.cluster.others(leader))
    links = field.cluster.links
    follower.kill()
    follower.wipe()
    links.shape(field.links_of(follower), delay_ms=field.dice.choice((30, 80)), jitter_ms=20)
    told = leader.log.stat().st_size
    follower.spawn()
    end_s = time.monotonic() + _TRANSFER_S
    while not (is_sending := _tells_of_sending(leader.log, told)) and time.monotonic() < end_s:
        time.sleep(0.01)
    field.facts["snapshots interrupted"] += is_sending
    field.pause(0.0, 0.2)
    field.strikes()
    victim = field.dice.choice((follower, leader, None))
    between = {(follower.number, leader.number), (leader.number, follower.number)}
    if victim is None:
        links.cut(between)
    else:
        victim.kill()
    try:
        yield
    finally:
        links.mend(between)
        links.unshape()
        start_again(field, [follower, leader])


def _tells_of_sending(log: Path, position: int) -> bool:
    """Whether a node has begun to send a snapshot since its log was so long."""
    with log.open("rb") as file:
        file.seek(position)
        return b"snapshot_sending" in file.read()


@nemesis
def rotten_disk(field: Field) -> Iterator[None]:
    """A bit flips in the files of a node that is down: it must refuse with 3.

    Then it is wiped, as it advises. The bit is in the newest snapshot, or in what a
    sync of the log had covered: damage behind that cannot be told from a torn write (see
    the guarantees).
    """
    if not field.everybody_counts():
        yield
        return
    node = field.dice.choice(field.cluster.nodes)
    field.strikes()
    node.kill()
    place, bit = _place_to_rot(field, node.data_dir), field.dice.randrange(8)
    flip_bit(place, bit)
    node.spawn()
    code = node.wait_for_exit()
    assert code == EXIT_DAMAGED, (
        f"{node.id} ended with {code}, and bit {bit} of {place} had flipped: "
        f"{node.log_since_start()[-2000:]}"
    )
    field.facts["nodes that refused rotten files"] += 1
    node.wipe()
    node.spawn()
    yield


def _place_to_rot(field: Field, data_dir: Path) -> Place:
    found = snapshots(data_dir)
    if found and field.dice.random() < 0.35:
        return Place(found[-1], field.dice.randrange(found[-1].stat().st_size))
    return covered_by_sync(data_dir).choose(field.dice)

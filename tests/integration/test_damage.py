"""A node with damaged data says so and stops; the cluster goes on; the advice helps."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.damage import (
    Place,
    Report,
    covered_by_sync,
    digest_of,
    flip_bit,
    parse_report,
    segments,
    snapshots,
    wait_for_snapshots,
)
from tests.integration.writers import fill, read_all

pytestmark = pytest.mark.slow

EXIT_DAMAGED = 3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose nodes hold snapshots and several segments."""
    directory = tmp_path_factory.mktemp("damage")
    with Cluster(directory, overrides=SMALL_LOG + SMALL_SEGMENTS) as cluster:
        cluster.start()
        fill(cluster.wait_for_leader().client, prefix="base", count=1500, value_bytes=500)
        wait_for_snapshots(cluster)
        yield cluster


def refuse_to_start(node: ClusterNode) -> Report:
    """Start a node that must not run; return what it says."""
    before = digest_of(node.data_dir)
    code, output = node.run_to_exit()
    assert code == EXIT_DAMAGED, output
    assert digest_of(node.data_dir) == before, "a refused start changed the data"
    report = parse_report(output, node.data_dir)
    assert report.has_advice, output
    return report


def in_wal(node: ClusterNode, source: random.Random) -> Place:
    return covered_by_sync(node.data_dir).choose(source)


def in_snapshot(node: ClusterNode, source: random.Random) -> Place:
    newest = snapshots(node.data_dir)[-1]
    return Place(newest, source.randrange(newest.stat().st_size))


def in_identity(node: ClusterNode, source: random.Random) -> Place:
    path = node.data_dir / "identity"
    return Place(path, source.randrange(path.stat().st_size))


@pytest.mark.parametrize("choose", [in_wal, in_snapshot, in_identity])
def test_a_flipped_bit_stops_the_node_and_the_advice_brings_it_back(
    cluster: Cluster, choose: Callable[[ClusterNode, random.Random], Place]
) -> None:
    victim = cluster.followers()[0]
    assert victim.stop() == 0
    source = random.Random(choose.__name__)
    place = choose(victim, source)
    flip_bit(place, source.randrange(8))
    report = refuse_to_start(victim)
    assert report.file == place.path
    assert report.position <= place.position
    # It refuses again, as long as nobody helps; the others serve.
    refuse_to_start(victim)
    written = fill(cluster.wait_for_leader().client, prefix=choose.__name__, count=100,
                   value_bytes=50)  # fmt: skip
    # The advice: delete the directory, start again.
    shutil.rmtree(victim.data_dir)
    victim.start()
    cluster.wait_until_converged()
    assert read_all(victim.client, list(written)) == written


@pytest.mark.parametrize("victim_dies", ["stopped", "killed"])
def test_every_chosen_bit_before_the_last_mark_is_noticed(
    cluster: Cluster, victim_dies: str
) -> None:
    victim = cluster.followers()[0]
    if victim_dies == "stopped":
        victim.stop()
    else:
        # A mark is written when nothing is left to sync; then it can die.
        victim.kill()
    covered = covered_by_sync(victim.data_dir)
    newest = covered.ranges[-1]
    source = random.Random(victim_dies)
    places = [
        Place(newest[0], 0),
        Place(newest[0], newest[1] - 1),
        Place(covered.ranges[0][0], 0),
        covered.choose(source),
    ]
    for place in places:
        bit = source.randrange(8)
        flip_bit(place, bit)
        refuse_to_start(victim)
        flip_bit(place, bit)
    victim.start()
    cluster.wait_until_converged()


def test_a_missing_segment_or_snapshot_is_damage(cluster: Cluster, tmp_path: Path) -> None:
    victim = cluster.followers()[0]
    victim.stop()
    chosen = [segments(victim.data_dir)[-1], snapshots(victim.data_dir)[-1]]
    for path in chosen:
        aside = tmp_path / path.name
        path.rename(aside)
        # With the newest snapshot away the previous one may do, if the log reaches back to it.
        if path.suffix == ".snapshot" and len(snapshots(victim.data_dir)) > 0:
            for older in snapshots(victim.data_dir):
                older.rename(tmp_path / older.name)
        refuse_to_start(victim)
        for put_aside in tmp_path.glob(f"*{path.suffix}"):
            put_aside.rename(path.parent / put_aside.name)
    victim.start()
    cluster.wait_until_converged()


def test_bytes_behind_the_last_mark_are_dropped_and_said(cluster: Cluster) -> None:
    victim = cluster.followers()[0]
    victim.stop()
    data_end = covered_by_sync(victim.data_dir).ranges[-1]
    path = data_end[0]
    # Behind the mark itself: the remains of a write that no sync covered.
    with path.open("r+b") as file:
        content = file.read()
        end = len(content.rstrip(b"\0")) + 64
        file.seek(end)
        file.write(b"torn" * 100)
    victim.start()
    assert "wal_tail_dropped" in victim.log_since_start()
    cluster.wait_until_converged()

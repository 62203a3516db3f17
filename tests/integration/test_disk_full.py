"""A full disk is a state and not a failure: said, survived, and over when space returns.

Each node's data lies on a small file system of its own, which takes the right to
mount one; where that is missing, the tests are skipped. A limit on file sizes would
not do: it is a failed write, which stops a node.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.wire import ReplyError, Wire
from tests.integration.writers import fill, read_all

pytestmark = pytest.mark.slow

DISK_BYTES = 8 * 1024 * 1024


def mount(path: Path, size_bytes: int) -> None:
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("mount is not installed")
    if result.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted: {result.stderr.strip()}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root on Linux")
    # No snapshot is due, so the log alone fills what is left.
    with contextlib.ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("full"), overrides=SMALL_SEGMENTS)
        mounted: list[Path] = []
        stack.callback(lambda: [subprocess.run(["umount", str(path)]) for path in mounted])
        stack.enter_context(cluster)
        for node in cluster.nodes:
            mount(node.data_dir, DISK_BYTES)
            mounted.append(node.data_dir)
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    for node in running.nodes:
        ballast(node).unlink(missing_ok=True)
    running.heal()
    yield running
    for node in running.nodes:
        ballast(node).unlink(missing_ok=True)


def ballast(node: ClusterNode) -> Path:
    return node.data_dir / "ballast"


def fill_disk(node: ClusterNode) -> None:
    """Take every byte that is left."""
    with ballast(node).open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\1" * 4096)


def write_until_refused(node: ClusterNode) -> tuple[dict[str, bytes], list[str]]:
    """Write until every write is refused; return what was acknowledged and the refusals."""
    written: dict[str, bytes] = {}
    refusals: list[str] = []
    with Wire(node.client) as wire:
        for number in range(4000):
            key, value = f"full:{node.id}:{number}", b"v" * 2000
            reply = wire.call("SET", key, value)
            if reply == b"OK":
                written[key] = value
                refusals.clear()
            else:
                assert isinstance(reply, ReplyError)
                refusals.append(str(reply))
                if len(refusals) == 20:
                    break
    return written, refusals


def is_full(node: ClusterNode) -> bool:
    status = node.status()
    return status is not None and status["disk_full"] == 1


def test_a_leader_without_space_refuses_definitely_and_goes_on_reading(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    kept = fill(leader.client, prefix="kept", count=50, value_bytes=100)
    fill_disk(leader)
    written, refusals = write_until_refused(leader)
    assert set(refusals) == {"NOTAPPLIED disk full"}
    assert is_full(leader)
    # It still leads, reads are confirmed by the others, and nothing was lost.
    assert cluster.wait_for_leader() is leader
    assert leader.call("GET", "kept:1") == kept["kept:1"]
    code, text = leader.http("/readyz")
    assert (code, "disk" in text) == (200, True)
    # What was refused is nowhere, what was acknowledged is everywhere.
    cluster.wait_until_converged()
    for node in cluster.nodes:
        assert read_all(node.client, list(written)) == written
    assert leader.call("EXISTS", f"full:{leader.id}:{len(written)}") == 0
    # It ends by itself.
    ballast(leader).unlink()
    cluster.wait_until(lambda: not is_full(leader), "space is noticed")
    cluster.wait_until(lambda: leader.call("SET", "again", "1") == b"OK", "writes are taken")


def test_one_follower_without_space_is_no_reason_to_refuse(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    follower, other = cluster.others(leader)
    fill_disk(follower)
    written: dict[str, bytes] = {}

    def followers_disk_is_full() -> bool:
        part = fill(leader.client, prefix=f"one:{len(written)}", count=100, value_bytes=2000)
        written.update(part)
        return is_full(follower)

    cluster.wait_until(followers_disk_is_full, "the follower's disk is full")
    written |= fill(leader.client, prefix="more", count=100, value_bytes=2000)
    assert not is_full(other)
    assert follower.is_running
    ballast(follower).unlink()
    cluster.wait_until_converged()
    assert read_all(follower.client, list(written)) == written


def test_a_node_that_is_killed_while_its_disk_is_full_starts_again(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    fill_disk(leader)
    written, refusals = write_until_refused(leader)
    assert refusals
    leader.kill()
    survivor = cluster.wait_for_leader()
    written |= fill(survivor.client, prefix="survivor", count=50, value_bytes=100)
    ballast(leader).unlink()
    leader.start()
    cluster.wait_until_converged()
    for node in cluster.nodes:
        assert read_all(node.client, list(written)) == written


def test_without_space_in_a_majority_writes_are_refused_and_reads_served(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_for_leader()
    fill(leader.client, prefix="majority", count=10, value_bytes=10)
    for follower in cluster.others(leader):
        fill_disk(follower)
    written: dict[str, bytes] = {}
    unknown: list[str] = []
    with contextlib.suppress(OSError), Wire(leader.client) as wire:
        for number in range(4000):
            key = f"quorum:{number}"
            reply = wire.call("SET", key, b"v" * 2000)
            if reply == b"OK":
                written[key] = b"v" * 2000
                continue
            unknown.append(str(reply))
            if str(reply).startswith("NOTAPPLIED"):
                break
    # The first that found no quorum may be unknown; from then on the leader knows.
    assert all(reply.startswith(("NOTAPPLIED disk full", "UNKNOWN")) for reply in unknown), unknown
    cluster.wait_until(
        lambda: str(leader.call("SET", "refused", "1")) == "NOTAPPLIED disk full",
        "the leader refuses definitely",
    )
    assert leader.call("GET", "majority:1") is not None
    for follower in cluster.others(leader):
        assert follower.is_running
        ballast(follower).unlink()
    cluster.wait_until(lambda: leader.call("SET", "again", "1") == b"OK", "writes are taken")
    cluster.wait_until_converged()
    for node in cluster.nodes:
        assert read_all(node.client, list(written)) == written

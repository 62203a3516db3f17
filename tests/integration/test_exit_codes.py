"""How a process ends says why: the exit codes of docs/reference/cli.md, on real processes.

Damaged data (3) has a module of its own, test_damage.
"""

from __future__ import annotations

import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster
from tests.integration.wire import ReplyError, Wire, split_address
from tests.integration.writers import fill, read_all

pytestmark = pytest.mark.slow

DONE, BAD_CONFIG, IN_USE, DISK_FAILED, REFUSED = 0, 2, 4, 6, 7


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("exits")) as cluster:
        yield cluster


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_is_0_within_five_seconds(cluster: Cluster, number: signal.Signals) -> None:
    node = cluster.followers()[0]
    # A client that never says goodbye, and one in the middle of a request.
    with Wire(node.client), Wire(node.client) as half:
        half.send(b"*2\r\n$3\r\nGET\r\n$10\r\nhal")
        started_s = time.monotonic()
        node.signal(number)
        assert node.wait_for_exit() == DONE
        assert time.monotonic() - started_s < 5.0


def test_every_problem_of_a_bad_config_is_told_with_its_range_and_is_2(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.stop()
    code, output = node.run_to_exit(
        "timing.heartbeat_ms=0", "limits.client_max=5", "durability.sync=sometimes"
    )
    assert code == BAD_CONFIG
    assert "3 problems" in output
    for words in (
        "timing.heartbeat_ms",
        "5..10000 ms",
        "did you mean limits.clients_max?",
        "always | interval | never",
    ):
        assert words in output
    assert "Traceback" not in output


def test_a_config_that_is_not_there_is_2(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.stop()
    config, node.config = node.config, node.config.with_name("absent.toml")
    try:
        code, output = node.run_to_exit()
    finally:
        node.config = config
    assert code == BAD_CONFIG
    assert "absent.toml" in output


@pytest.mark.parametrize("which", ["client", "peer", "admin"])
def test_a_port_in_use_is_4(cluster: Cluster, which: str) -> None:
    node = cluster.followers()[0]
    node.stop()
    with socket.socket() as occupier:
        occupier.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupier.bind(split_address(getattr(node, which)))
        occupier.listen()
        code, output = node.run_to_exit()
    assert code == IN_USE, output
    assert getattr(node, which).rpartition(":")[2] in output
    assert "Traceback" not in output


def test_a_data_directory_in_use_is_4_and_its_holder_goes_on(cluster: Cluster) -> None:
    holder, other = cluster.followers()[0], cluster.followers()[1]
    other.stop()
    code, output = other.run_to_exit(f"node.data_dir=data/{holder.id}")
    assert code == IN_USE, output
    assert str(holder.pid) in output
    assert holder.status() is not None


def test_a_write_that_the_disk_refuses_is_6_and_loses_nothing(cluster: Cluster) -> None:
    if sys.platform != "linux":
        pytest.skip("the limit of another process can only be set on Linux")
    leader = cluster.wait_for_leader()
    written = fill(leader.client, prefix="before", count=400, value_bytes=1000)
    # Files may not grow beyond here; the log of the WAL is, and the kernel refuses the write.
    resource.prlimit(leader.pid, resource.RLIMIT_FSIZE, (131072, resource.RLIM_INFINITY))
    with Wire(leader.client) as wire:
        try:
            reply = wire.call("SET", "refused by the disk", "1")
        except OSError:
            reply = None
    assert leader.wait_for_exit(10) == DISK_FAILED, leader.log_tail()
    # Perhaps: the others may have it. Never a success, and never a definite failure.
    assert reply is None or (isinstance(reply, ReplyError) and str(reply).startswith("UNKNOWN"))
    survivor = cluster.wait_for_leader()
    written |= fill(survivor.client, prefix="after", count=10, value_bytes=10)
    leader.start()
    cluster.wait_until_converged()
    for node in cluster.nodes:
        assert read_all(node.client, list(written)) == written


def test_the_directory_of_another_node_is_7(cluster: Cluster) -> None:
    first, second = cluster.followers()[:2]
    first.stop()
    second.stop()
    code, output = first.run_to_exit(f"node.data_dir=data/{second.id}")
    assert code == REFUSED, output
    assert first.id in output
    assert second.id in output


def test_the_directory_of_another_cluster_is_7(cluster: Cluster) -> None:
    data = cluster.nodes[0].data_dir.parent
    own, foreign = data.with_name("own"), data.with_name("foreign")
    for node in cluster.nodes:
        node.stop()
    # The same machines founded a cluster once more, and one directory is of that one.
    shutil.copytree(data, own)
    for node in cluster.nodes:
        shutil.rmtree(node.data_dir)
    cluster.start()
    fill(cluster.wait_for_leader().client, prefix="foreign", count=10, value_bytes=10)
    cluster.wait_until_converged()
    for node in cluster.nodes:
        node.stop()
    data.rename(foreign)
    own.rename(data)
    stray = cluster.nodes[1]
    shutil.rmtree(stray.data_dir)
    shutil.copytree(foreign / stray.id, stray.data_dir)
    for node in cluster.others(stray):
        node.start()
    code, output = stray.run_to_exit()
    assert code == REFUSED, output
    assert "another cluster" in output
    # The others never counted it, and refill its name once the directory is gone.
    shutil.rmtree(stray.data_dir)
    stray.start()
    cluster.wait_until_converged()
    assert stray.call("RAFT", "READS", "stale") == b"OK"
    assert read_all(stray.client, ["foreign:1"]) == {"foreign:1": None}

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.cli.local_cluster import (
    InUseError,
    LocalCluster,
    LocalClusterError,
    make_cluster,
    open_cluster,
)
from raftkv.cli.local_commands import exit_meaning
from raftkv.cli.processes import ProcessRecord, identity_of, save_record
from raftkv.errors import ConfigError
from tests.unit.cli.conftest import Run


@pytest.fixture
def cluster_here(tmp_path: Path) -> LocalCluster:
    return make_cluster(tmp_path / "here", nodes=3, base_port=26401)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stops when asked."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_a_cluster_is_made_once_and_found_again(cluster_here: LocalCluster) -> None:
    assert [node.node_id for node in cluster_here.nodes] == ["n1", "n2", "n3"]
    assert cluster_here.clients == "127.0.0.1:26401,127.0.0.1:26402,127.0.0.1:26403"
    assert (cluster_here.directory / "data" / "peer.secret").exists()
    before = (cluster_here.directory / "node1.toml").read_bytes()
    again = make_cluster(cluster_here.directory, nodes=None, base_port=None)
    assert again.clients == cluster_here.clients
    assert (cluster_here.directory / "node1.toml").read_bytes() == before


@pytest.mark.parametrize(("nodes", "base_port"), [(5, None), (None, 26501)])
def test_what_is_there_is_not_changed(
    cluster_here: LocalCluster, nodes: int | None, base_port: int | None
) -> None:
    with pytest.raises(LocalClusterError, match="3 nodes from port 26401"):
        make_cluster(cluster_here.directory, nodes=nodes, base_port=base_port)


def test_more_than_nine_nodes_stay_in_order(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, nodes=11, base_port=26401)
    assert [node.node_id for node in cluster.nodes] == [f"n{number}" for number in range(1, 12)]


def test_an_empty_directory_holds_no_cluster(tmp_path: Path) -> None:
    assert open_cluster(tmp_path) is None


def test_a_bad_config_is_told(cluster_here: LocalCluster) -> None:
    (cluster_here.directory / "node2.toml").write_text("[node]\nid = 1\n")
    with pytest.raises(ConfigError):
        open_cluster(cluster_here.directory)


def test_a_port_that_is_taken_is_named(cluster_here: LocalCluster) -> None:
    cluster_here.check_free()
    with socket.create_server(("127.0.0.1", 26502)):
        with pytest.raises(InUseError, match=r"127\.0\.0\.1:26502 \(n2\)"):
            cluster_here.check_free()


def test_nothing_is_written_where_a_port_of_a_new_cluster_is_taken(
    run: Run, tmp_path: Path
) -> None:
    directory = tmp_path / "new"
    with socket.create_server(("127.0.0.1", 26602)):
        result = run("up", "--dir", str(directory), "--base-port", "26401")
    assert result.exit_code == 4
    assert "in use by another program: 127.0.0.1:26602. " in result.stderr
    assert not directory.exists()


def test_a_running_cluster_is_not_started_twice(
    cluster_here: LocalCluster, child: subprocess.Popen[bytes]
) -> None:
    record = ProcessRecord(child.pid, identity_of(child.pid))
    save_record(cluster_here.nodes[1].pid_file, record)
    with pytest.raises(InUseError, match=rf"n2 \(process {child.pid}\)"):
        cluster_here.check_free()


def test_stop_ends_what_is_recorded_and_forgets_it(
    cluster_here: LocalCluster, child: subprocess.Popen[bytes]
) -> None:
    node = cluster_here.nodes[1]
    save_record(node.pid_file, ProcessRecord(child.pid, identity_of(child.pid)))
    assert cluster_here.stop() == [node]
    assert child.wait(10) == -signal.SIGTERM
    assert not node.pid_file.exists()
    assert cluster_here.stop() == []


def test_stop_ends_what_was_started_and_not_recorded_yet(
    cluster_here: LocalCluster, child: subprocess.Popen[bytes]
) -> None:
    """Ctrl-C between the start of a process and its record leaves nothing behind."""
    node = cluster_here.nodes[1]
    node.process = child
    assert cluster_here.stop() == [node]
    assert node.exit_code() == -signal.SIGTERM


def test_stop_leaves_a_stranger_alone(
    cluster_here: LocalCluster, child: subprocess.Popen[bytes]
) -> None:
    node = cluster_here.nodes[0]
    save_record(node.pid_file, ProcessRecord(child.pid, "another boot 12"))
    assert cluster_here.stop() == []
    assert child.poll() is None
    assert not node.pid_file.exists()


def test_a_node_that_does_not_stop_is_killed(cluster_here: LocalCluster) -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        node = cluster_here.nodes[0]
        node.process = stubborn
        save_record(node.pid_file, ProcessRecord(stubborn.pid, identity_of(stubborn.pid)))
        killed: list[str] = []
        cluster_here.stop(stop_s_max=0.1, killed=lambda each: killed.append(each.node_id))
        assert killed == ["n1"]
        assert node.exit_code() == -signal.SIGKILL


def test_only_the_log_of_this_run_is_shown(cluster_here: LocalCluster) -> None:
    node = cluster_here.nodes[0]
    assert node.last_log_lines() == []
    node.log.write_text("old\n")
    node.log_start = node.log.stat().st_size
    with node.log.open("a") as log:
        log.writelines(f"line {number}\n\n" for number in range(20))
    assert node.last_log_lines(2) == ["line 18", "line 19"]
    assert "old" not in node.last_log_lines(100)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0: stopped as asked"), (3, "exit code 3: damaged data"),
     (99, "exit code 99"), (-9, "killed by SIGKILL"), (-200, "killed by signal 200")],
)  # fmt: skip
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert exit_meaning(code) == words


def test_down_without_a_cluster_fails(run: Run, tmp_path: Path) -> None:
    result = run("down", "--dir", str(tmp_path))
    assert result.exit_code == 1
    assert "there is no cluster" in result.stderr


def test_down_where_nothing_runs(run: Run, cluster_here: LocalCluster) -> None:
    result = run("down", "--dir", str(cluster_here.directory))
    assert result.exit_code == 0
    assert "Nothing is running" in result.stdout


def test_down_names_what_it_leaves_alone(run: Run, cluster_here: LocalCluster) -> None:
    with socket.create_server(("127.0.0.1", 26402)):
        result = run("down", "--dir", str(cluster_here.directory))
    assert result.exit_code == 0
    assert "left alone: 127.0.0.1:26402 (n2)" in result.stderr


def test_up_says_what_is_in_the_way(run: Run, cluster_here: LocalCluster) -> None:
    directory = str(cluster_here.directory)
    with socket.create_server(("127.0.0.1", 26401)):
        result = run("up", "--dir", directory)
    assert result.exit_code == 4
    assert "in use by another program: 127.0.0.1:26401 (n1)" in result.stderr
    result = run("up", "--dir", directory, "--nodes", "5")
    assert result.exit_code == 2
    assert "holds a cluster of 3 nodes" in result.stderr
    (cluster_here.directory / "node2.toml").write_text("[node]\nid = 1\n")
    result = run("up", "--dir", directory)
    assert result.exit_code == 2
    assert "node.id" in result.stderr

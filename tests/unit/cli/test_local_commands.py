"""What `raftkv up` shows, with nodes of the fake cluster in the place of processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from raftkv.cli.local_cluster import LocalCluster, LocalNode
from raftkv.cli.local_commands import _hints, _panel, _show_lines, _View
from raftkv.cli.terminal import cell_text
from tests.unit.client.fake_cluster import FakeCluster


def ended_process(code: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    process.wait(10)
    return process


@pytest.fixture
def view(cluster: FakeCluster, tmp_path: Path) -> Iterator[_View]:
    nodes = [
        LocalNode(
            node_id=node.name,
            config=tmp_path / f"node{number}.toml",
            client=node.address,
            addresses=(node.address,),
        )
        for number, node in enumerate(cluster.nodes, 1)
    ]
    made = _View(LocalCluster(tmp_path, nodes))
    yield made
    made.close()


def drawn(view: _View, *, width: int = 140) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(_panel(view))
    return console.export_text()


def test_leaders_are_told_once_each(view: _View, cluster: FakeCluster) -> None:
    said: list[str] = []
    view.refresh(said.append)
    view.refresh(said.append)
    assert said == [f"n1 leads in term 7 at {cluster.addresses[0]}"]
    assert view.is_ready
    cluster.leader = cluster.nodes[2]
    view.refresh(said.append)
    assert said[1:] == [f"n3 leads in term 7 at {cluster.addresses[2]}"]


def test_a_node_that_has_not_answered_is_not_ready(view: _View, cluster: FakeCluster) -> None:
    cluster.nodes[1].stop()
    view.refresh(lambda line: None)
    assert view.has_leader
    assert not view.is_ready
    assert [cell_text(row[1]) for row in view.rows()] == ["leader", "starting", "follower"]
    cluster.leader = None
    view.refresh(lambda line: None)
    assert not view.has_leader


def test_the_end_of_a_node_is_told_with_its_log(view: _View, cluster: FakeCluster) -> None:
    cluster.nodes[1].stop()
    node = view.cluster.nodes[1]
    node.process = ended_process(3)
    node.log.write_text("wal/1: damaged at byte 12\n")
    said: list[str] = []
    view.refresh(said.append)
    view.refresh(said.append)
    told = "\n".join(said)
    assert told.count("n2 ended (exit code 3: damaged data)") == 1
    assert "  wal/1: damaged at byte 12" in said
    assert f"  Its whole log: {node.log}" in said
    assert "raftkv start --config node2.toml" in told
    assert [cell_text(cell) for cell in view.rows()[1]][1] == "stopped"
    assert cell_text(view.rows()[1][-1]) == "exit 3"


def test_a_node_that_was_started_again_by_hand_is_alive(view: _View) -> None:
    view.cluster.nodes[1].process = ended_process(1)
    view.refresh(lambda line: None)
    assert [cell_text(cell) for cell in view.rows()[1]][1] == "follower"
    assert cell_text(view.rows()[1][-1]) == "by hand"


def test_no_address_is_cut_in_a_terminal_of_80_columns(
    view: _View, cluster: FakeCluster, tmp_path: Path
) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.Popen([sys.executable, "-c", program])
    killed.wait(10)
    cluster.nodes[1].stop()
    view.cluster.nodes[1].process = killed
    view.cluster.nodes[2].process = ended_process(1)
    view.refresh(lambda line: None)
    text = drawn(view, width=80)
    assert "SIGKILL" in text
    assert "by hand" in text
    for node in cluster.nodes:
        assert f" {node.address} " in text


def test_the_panel_shows_every_node_and_what_to_type(view: _View, cluster: FakeCluster) -> None:
    view.refresh(lambda line: None)
    text = drawn(view)
    for node in cluster.nodes:
        assert node.address in text
    assert "3 of 3 nodes answer" in text
    assert "raftkv set greeting hello" in text
    assert "Ctrl-C" in text


def test_hints_name_the_nodes_where_they_are_not_the_default(view: _View) -> None:
    assert _hints(view.cluster)[0] == f"export RAFTKV_NODES={view.cluster.clients}"


def test_without_a_terminal_the_view_ends_with_its_last_node(
    view: _View, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for node in view.cluster.nodes:
        node.process = ended_process(0)
    for fake in cluster.nodes:
        fake.stop()
    _show_lines(view)
    printed = capsys.readouterr().out
    assert printed.count("ended (exit code 0: stopped as asked)") == 3
    assert "whole log" not in printed

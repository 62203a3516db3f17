"""A cluster of real processes that grows, shrinks, and loses its leader on purpose."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster, ClusterNode, run_raftkv

pytestmark = pytest.mark.slow

EXIT_REFUSED = 7


def spare_node(cluster: Cluster, number: int) -> ClusterNode:
    """One more node, whose config file lists the others and itself."""
    text = cluster.nodes[0].config.read_text()
    node = ClusterNode(cluster, number, cluster.directory / f"n{number}.toml")
    own, first, rest = text.partition("[[members]]")
    for old, new in (
        ('"n1"', f'"{node.id}"'),
        ("data/n1", f"data/{node.id}"),
        (cluster.nodes[0].client, node.client),
        (cluster.nodes[0].peer, node.peer),
        (cluster.nodes[0].admin, node.admin),
    ):
        own = own.replace(old, new)
    member = f'[[members]]\nid = "{node.id}"\nclient = "{node.client}"\npeer = "{node.peer}"\n\n'
    node.config.write_text(own + member + first + rest)
    cluster.nodes.append(node)
    return node


def command(cluster: Cluster, *words: str, directory: Path) -> tuple[int, str]:
    nodes = ",".join(node.client for node in cluster.running)
    result = run_raftkv(*words, "--nodes", nodes, "--deadline", "30", directory=directory)
    return result.returncode, result.stdout + result.stderr


def test_a_node_joins_votes_and_the_leader_leaves(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        assert cluster.wait_for_leader().call("SET", "k", "v") == b"OK"
        newcomer = spare_node(cluster, 4)
        newcomer.spawn()
        newcomer.wait_until_serving()
        cluster.wait_until(
            lambda: "waiting_to_be_added" in newcomer.log_text(), "n4 says that it waits"
        )
        status = newcomer.status()
        assert status is not None
        assert (status["admitted"], status["applied_index"]) == (0, 0)

        added = command(
            cluster, "member", "add", "n4", newcomer.client, newcomer.peer, directory=tmp_path
        )
        assert added[0] == 0, added
        cluster.wait_until_caught_up(newcomer)
        status = newcomer.status()
        assert status is not None
        assert status["role"] == "learner"

        code, said = command(cluster, "member", "promote", "n4", "--json", directory=tmp_path)
        assert (code, json.loads(said)) == (
            0, {"member": "n4", "change": "promote", "done": True},
        )  # fmt: skip
        cluster.wait_until(
            lambda: (newcomer.status() or {}).get("role") == "follower", "n4 follows as a voter"
        )
        listed = command(cluster, "member", "list", "--json", directory=tmp_path)[1]
        assert [(one["id"], one["voter"]) for one in json.loads(listed)] == [
            ("n1", 1), ("n2", 1), ("n3", 1), ("n4", 1),
        ]  # fmt: skip
        assert command(cluster, "member", "promote", "n4", directory=tmp_path) == (
            1, "error: ERR n4 votes already\n",
        )  # fmt: skip

        code, said = command(cluster, "transfer", "n4", directory=tmp_path)
        assert (code, said) == (0, "n4 leads now\n")
        assert cluster.wait_for_leader() is newcomer

        leader = newcomer
        assert command(cluster, "member", "remove", "n4", directory=tmp_path)[0] == 0
        assert leader.wait_for_exit() == EXIT_REFUSED
        assert "n4 was removed from the cluster" in leader.log_text()
        cluster.nodes.remove(leader)
        cluster.wait_for_leader()
        assert cluster.wait_for_leader().call("GET", "k") == b"v"
        cluster.nodes.append(leader)

        # It knows that from its own log when it is started again.
        code, said = leader.run_to_exit()
        assert code == EXIT_REFUSED
        assert re.search(r"removed from the cluster.*delete its data directory", said, re.S)


@pytest.mark.parametrize("node_id", ["n1", "n3"])
def test_a_node_that_was_removed_while_it_was_down_hears_of_it(
    tmp_path: Path, node_id: str
) -> None:
    """n3 dials the others; n1 is dialed by them, and has to ask why nobody comes."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_until_converged()
        gone = cluster[node_id]
        gone.kill()
        cluster.wait_for_leader()
        assert command(cluster, "member", "remove", node_id, directory=tmp_path)[0] == 0
        # The leader that removed it would still tell it for a while; a new one does not.
        assert command(cluster, "transfer", directory=tmp_path)[0] == 0
        code, said = gone.run_to_exit()
        assert code == EXIT_REFUSED
        assert f"{node_id} was removed from the cluster while it was away" in said


def test_a_removed_follower_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        follower = cluster.followers()[0]
        assert command(cluster, "member", "remove", follower.id, directory=tmp_path)[0] == 0
        assert follower.wait_for_exit() == EXIT_REFUSED
        assert f"{follower.id} was removed from the cluster" in follower.log_text()

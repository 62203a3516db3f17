from __future__ import annotations

import json

from raftkv.cli import admin
from raftkv.client.status import NodeStatus, lag_entries, merge_statuses, status_from_reply
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_cluster import Failing, FakeCluster


def test_status_is_a_table_of_every_node(run: Run, cluster: FakeCluster) -> None:
    result = run("status", "--nodes", cluster.addresses[1])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["node", "role", "term", "commit", "applied", "lag", "address"]
    assert lines[1] == ["n1", "leader", "7", "40", "40", "0", cluster.addresses[0]]
    assert lines[2] == ["n2", "follower", "7", "38", "38", "2", cluster.addresses[1]]
    assert result.stdout.splitlines()[-1] == (
        f"n1 leads at {cluster.addresses[0]}; 3 of 3 nodes answer"
    )


def test_a_node_that_is_down_is_in_the_table(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[2].stop()
    lines = run("status").stdout.splitlines()
    assert lines[3].split() == ["?", "down", "-", "-", "-", "-", cluster.addresses[2]]
    assert "2 of 3 nodes answer" in lines[4]


def test_status_without_any_node_fails(run: Run, cluster: FakeCluster) -> None:
    for node in cluster.nodes:
        node.stop()
    result = run("status")
    assert result.exit_code == 1
    assert "no node answers" in result.stdout


def test_status_for_programs(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[2].stop()
    said = json.loads(run("status", "--json").stdout)
    assert [(one["node"], one["role"], one["lag"]) for one in said] == [
        ("n1", "leader", 0), ("n2", "follower", 2), (None, None, None),
    ]  # fmt: skip
    assert said[0]["fields"]["commit_index"] == 40
    assert said[2]["error"]


def test_status_says_whom_the_first_election_waits_for() -> None:
    statuses = [NodeStatus(address="a:1", node_id="n1", fields={"waiting_for": "n3"})]
    assert admin.summary(statuses) == (
        "no leader; the first election waits for n3; 1 of 1 node answers", "red",
    )  # fmt: skip


def test_member_list(run: Run, cluster: FakeCluster) -> None:
    lines = [line.split() for line in run("member", "list").stdout.splitlines()]
    assert lines[0] == ["id", "client", "peer", "voter"]
    assert lines[1] == ["n1", cluster.addresses[0], "127.0.0.1:1", "yes"]
    said = json.loads(run("member", "list", "--json").stdout)
    assert [one["id"] for one in said] == ["n1", "n2", "n3"]


def test_a_status_of_resp2_is_understood() -> None:
    reply = [b"raft_node_id", b"n1", b"raft_role", b"leader", b"raft_last_index", b"9"]
    status = status_from_reply("a:1", reply)
    assert (status.node_id, status.is_leader, status.last_index) == ("n1", True, 9)


def test_a_status_that_is_none_is_an_error() -> None:
    assert status_from_reply("a:1", b"x").error
    assert status_from_reply("a:1", {b"raft_term": b"many"}).error


def test_a_node_under_two_addresses_is_shown_once() -> None:
    first = NodeStatus(address="a:1", node_id="n1", role="leader", last_index=5)
    again = NodeStatus(address="localhost:1", node_id="n1", role="leader", last_index=5)
    silent = NodeStatus(address="b:1", error="refused")
    assert merge_statuses([silent, first, again]) == [first, silent]
    assert lag_entries(silent, [first, silent]) is None


def test_a_change_of_the_members_goes_to_the_leader(run: Run, cluster: FakeCluster) -> None:
    cluster.canned[b"RAFT"] = "OK"
    result = run("member", "add", "n4", "h4:7001", "h4:7101")
    assert (result.exit_code, result.stdout) == (
        0, "n4 is a learner now; let it vote with `raftkv member promote n4`\n",
    )  # fmt: skip
    for words, said in (
        (("promote", "n4"), "n4 votes now"),
        (("demote", "n4"), "n4 is a learner now"),
        (("move", "n4", "h5:7001", "h5:7101"), "n4 has new addresses"),
        (("remove", "n4"), "n4 is no member any more"),
    ):
        assert run("member", *words).stdout == f"{said}\n"
    said = json.loads(run("member", "remove", "n4", "--json").stdout)
    assert said == {"member": "n4", "change": "remove", "done": True}


def test_a_refused_change_fails_definitely(run: Run, cluster: FakeCluster) -> None:
    cluster.canned[b"RAFT"] = Failing("ERR n4 is not a member")
    result = run("member", "remove", "n4")
    assert result.exit_code == 1
    assert "n4 is not a member" in result.stderr
    cluster.canned[b"RAFT"] = Failing("NOTAPPLIED n4 has not caught up yet: 7 entries to go")
    result = run("member", "promote", "n4", "--deadline", "0.2")
    assert result.exit_code == 1
    assert "7 entries to go" in result.stderr
    cluster.canned[b"RAFT"] = Failing("UNKNOWN leadership lost")
    assert run("member", "promote", "n4").exit_code == 5


def test_transfer(run: Run, cluster: FakeCluster) -> None:
    cluster.canned[b"RAFT"] = b"n2"
    assert run("transfer").stdout == "n2 leads now\n"
    assert json.loads(run("transfer", "n2", "--json").stdout) == {"leader": "n2"}

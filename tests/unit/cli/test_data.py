"""Data commands: what is sent, what is printed, and the exit code."""

from __future__ import annotations

import json

import pytest

from raftkv.client.sync_client import Client
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_cluster import FakeCluster

# Command lines on a cluster with a=1, b=text, and what they print.
LINES = [
    ("get a", "1\n"),
    ("get missing", "\n"),
    ("get a --rev 3", "1\n"),
    ("get missing --rev 3", "\n"),
    ("range", "a\nb\n"),
    ("range b", "b\n"),
    ("range a b --rev 7", "a\n"),
    ("range --limit 1", "a\n"),
    ("range --prefix b --values", "b\ntext\n"),
    ("range --count", "2\n"),
    ("set c x", "OK\n"),
    ("set a 2 --get", "1\n"),
    ("set a 2 --ex 60 --xx", "OK\n"),
    ("del a b missing", "2\n"),
    ("exists a a missing", "2\n"),
    ("mget a missing b", "1\n\ntext\n"),
    ("mset c 3 d 4", "OK\n"),
    ("getdel a", "1\n"),
    ("append b !", "5\n"),
    ("strlen b", "4\n"),
    ("getrange b 1 -2", "ex\n"),
    ("incr a", "2\n"),
    ("decr a", "0\n"),
    ("incrby a -5", "-4\n"),
    ("decrby a 5", "-4\n"),
    ("incrbyfloat a 0.5", "1.5\n"),
    ("expire a 100", "1\n"),
    ("expire missing 100", "0\n"),
    ("ttl a", "-1\n"),
    ("persist a", "0\n"),
    ("type b", "string\n"),
    ("scan", "a\nb\n"),
    ("scan --match b* --count 1", "b\n"),
    ("scan --limit 1", "a\n"),
    ("keys", "a\nb\n"),
    ("keys b*", "b\n"),
    ("rename a z", "OK\n"),
    ("copy a z", "1\n"),
    ("dbsize", "2\n"),
    ("flushall", "OK\n"),
    ("flushall --yes", "OK\n"),
    ("exec -- SET k v EX 60", "OK\n"),
    ("exec MGET a b", "1\ntext\n"),
    ("exec INCRBY a -3", "-2\n"),
    ("ping", "PONG\n"),
    ("info raft", "raft_role  leader\nraft_term  7\n"),
]
JSON_LINES = [
    ("get a", "1"),
    ("get missing", None),
    ("get a --rev 3", "1"),
    ("get missing --rev 3", None),
    ("range", ["a", "b"]),
    (
        "range b --values",
        [{"key": "b", "value": "text", "create_revision": 1, "modify_revision": 1, "version": 1}],
    ),
    ("set c x", "OK"),
    ("del a b", 2),
    ("mget a missing", {"a": "1", "missing": None}),
    ("keys", ["a", "b"]),
    ("incr a", 2),
    ("expire a 100", 1),
    ("type a", "string"),
    ("exec MGET a missing", ["1", None]),
    ("info raft", {"raft_role": "leader", "raft_term": "7"}),
]


@pytest.fixture(autouse=True)
def _keys(cluster: FakeCluster) -> None:
    cluster.keys.update({b"a": b"1", b"b": b"text"})


@pytest.mark.parametrize(("line", "printed"), LINES, ids=[line for line, _ in LINES])
def test_a_command_line(run: Run, line: str, printed: str) -> None:
    result = run(*line.split(" "))
    assert (result.stdout, result.stderr, result.exit_code) == (printed, "", 0)


@pytest.mark.parametrize(("line", "value"), JSON_LINES, ids=[line for line, _ in JSON_LINES])
def test_a_command_line_with_json(run: Run, line: str, value: object) -> None:
    words = line.split(" ")
    result = run(words[0], "--json", *words[1:])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == value


def test_values_are_any_bytes(run: Run, cluster: FakeCluster) -> None:
    assert run("set", "a", stdin=b"\x00\xff\n").exit_code == 0
    assert cluster.keys[b"a"] == b"\x00\xff\n"
    assert run("get", "a").stdout_bytes == b"\x00\xff\n\n"
    assert json.loads(run("get", "a", "--json").stdout) == {"base64": "AP8K"}
    assert run("set", "é", "ü").exit_code == 0
    assert cluster.keys["é".encode()] == "ü".encode()


def test_a_condition_that_does_not_hold_is_a_failure(run: Run) -> None:
    result = run("set", "a", "2", "--nx")
    assert result.exit_code == 1
    assert "the key exists" in result.stderr
    assert run("set", "missing", "2", "--xx").exit_code == 1


def test_an_error_of_the_server_exits_1(run: Run) -> None:
    result = run("incr", "b")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: ERR value is not an integer or out of range\n"


def test_an_unknown_outcome_exits_5_and_says_so(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.append("UNKNOWN leadership lost")
    result = run("incr", "a")
    assert result.exit_code == 5
    assert "outcome unknown: leadership lost" in result.stderr
    assert "may or may not" in result.stderr


def test_errors_for_programs(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.append("UNKNOWN timeout")
    result = run("incr", "a", "--json")
    assert json.loads(result.stderr) == {
        "error": "timeout", "type": "OutcomeUnknownError", "definite": False,
    }  # fmt: skip
    result = run("incr", "b", "--json")
    assert json.loads(result.stderr)["definite"] is True


def test_nobody_there_is_said_with_advice(run: Run, cluster: FakeCluster) -> None:
    for node in cluster.nodes:
        node.stop()
    result = run("get", "a", "--deadline", "0.1")
    assert result.exit_code == 1
    assert "raftkv up" in result.stderr


def test_the_option_wins_over_the_environment(run: Run, cluster: FakeCluster) -> None:
    assert run("get", "a", "--nodes", "127.0.0.1:1", "--deadline", "0.05").exit_code == 1
    for node in cluster.nodes[:2]:
        node.acts.append("ERR not asked")
    cluster.leader = cluster.nodes[2]
    assert run("get", "a", "-n", cluster.addresses[2]).stdout == "1\n"


def test_an_interrupted_command_has_an_unknown_outcome(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "incr", interrupt)
    result = run("incr", "a")
    assert result.exit_code == 5
    assert "outcome unknown: interrupted" in result.stderr

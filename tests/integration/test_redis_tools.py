"""redis-cli and redis-benchmark against a real cluster: every mode that makes sense.

A mode ends by itself with sensible output, or is watched in a terminal until it has shown
what someone would look for.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from redis.cluster import RedisCluster

from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.test_redis_clients import startup_nodes

pytestmark = pytest.mark.slow

TOOL_LIMIT_S = 60


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # These tools end at the first error, so the leader has to stay in office, also where
    # the machine is busy.
    patient = ("timing.election_timeout_ms=[2000, 4000]",)
    with Cluster(tmp_path_factory.mktemp("tools"), overrides=patient) as cluster:
        yield cluster


def port(node: ClusterNode) -> str:
    return node.client.rpartition(":")[2]


def run_tool(*arguments: str, text: str = "") -> str:
    result = subprocess.run(
        arguments, input=text, capture_output=True, text=True, timeout=TOOL_LIMIT_S, check=False
    )
    assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
    return result.stdout.strip()


def watch_tool(*arguments: str, until: str) -> str:
    """Run a program that does not end, in a terminal, until it has shown what is waited for."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = ""
    end_s = time.monotonic() + TOOL_LIMIT_S
    try:
        while re.search(until, shown) is None:
            assert time.monotonic() < end_s, f"{arguments}: {shown}"
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 1 << 16).decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown


# ------------------------------------------------------------------- redis-cli


def test_redis_cli_follows_with_c_and_shows_the_redirect_without(
    cluster: Cluster, redis_cli: str
) -> None:
    leader = cluster.wait_for_leader()
    follower, other = cluster.others(leader)
    assert run_tool(redis_cli, "-c", "-p", port(follower), "SET", "greeting", "hello") == "OK"
    assert run_tool(redis_cli, "-c", "-p", port(other), "GET", "greeting") == "hello"
    shown = run_tool(redis_cli, "-p", port(follower), "SET", "a", "b")
    assert re.fullmatch(rf"MOVED \d+ {leader.client}", shown)
    assert run_tool(redis_cli, "-3", "-p", port(leader), "GET", "greeting") == "hello"


def test_redis_cli_reads_commands_from_a_pipe_and_scans(cluster: Cluster, redis_cli: str) -> None:
    leader = cluster.wait_for_leader()
    commands = "".join(f"SET piped:{number} {number}\n" for number in range(200))
    answers = run_tool(redis_cli, "-p", port(leader), text=commands).split()
    assert answers == ["OK"] * 200
    keys = run_tool(redis_cli, "-p", port(leader), "--scan", "--pattern", "piped:*").split()
    assert sorted(keys) == sorted(f"piped:{number}" for number in range(200))
    mass = "".join(f"*3\r\n$3\r\nSET\r\n$4\r\nm{number:03}\r\n$1\r\nx\r\n" for number in range(500))
    assert "errors: 0, replies: 500" in run_tool(
        redis_cli, "-p", port(leader), "--pipe", text=mass
    )  # fmt: skip


def test_redis_cli_finds_a_whole_cluster(cluster: Cluster, redis_cli: str) -> None:
    for node in cluster.nodes:
        assert "cluster_state:ok" in run_tool(redis_cli, "-p", port(node), "CLUSTER", "INFO")
    leader = cluster.wait_for_leader()
    shown = run_tool(redis_cli, "--cluster", "info", leader.client)
    assert "[OK]" in shown
    assert "master" in shown


@pytest.fixture
def one_of_each(cluster: Cluster) -> ClusterNode:
    """The leader, with one key of each type and a big one among them."""
    leader = cluster.wait_for_leader()
    leader.call("FLUSHALL")
    leader.call("SET", "a text", "x" * 5000)
    leader.call("HSET", "a hash", "field", "1")
    leader.call("RPUSH", "a list", "1", "2", "3")
    leader.call("SADD", "a set", "1", "2")
    leader.call("ZADD", "ranks", "1", "one", "2", "two", "3", "three", "4", "four")
    return leader


def test_redis_cli_finds_the_biggest_keys_by_elements_and_by_memory(
    one_of_each: ClusterNode, redis_cli: str
) -> None:
    by_elements = run_tool(redis_cli, "-p", port(one_of_each), "--bigkeys")
    assert "Sampled 5 keys in the keyspace!" in by_elements
    assert re.search(r"Biggest string found '\"a text\"' has 5000 bytes", by_elements)
    assert re.search(r"Biggest +zset found '\"ranks\"' has 4 members", by_elements)
    by_memory = run_tool(redis_cli, "-p", port(one_of_each), "--memkeys")
    found = re.search(r"Biggest string found '\"a text\"' has (\d+) bytes", by_memory)
    assert found is not None
    assert int(found[1]) > 5000
    assert all(f"1 {kind}s with" in by_memory for kind in ("hash", "list", "set", "string", "zset"))


def test_redis_cli_says_that_hot_keys_are_not_counted(
    one_of_each: ClusterNode, redis_cli: str
) -> None:
    result = subprocess.run(
        [redis_cli, "-p", port(one_of_each), "--hotkeys"], capture_output=True, text=True,
        timeout=TOOL_LIMIT_S, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "An LFU maxmemory policy is not selected" in result.stderr


def test_redis_cli_shows_statistics_of_any_node(cluster: Cluster, redis_cli: str) -> None:
    row = r"\n\d+ +[\d.]+M +\d+ +0 +\d+ \(\+\d+\) +\d+ +\r"
    for node in cluster.nodes:
        shown = watch_tool(
            redis_cli, "-p", port(node), "--stat", "-i", "0.05", until=f"{row}[^$]*{row}"
        )
        assert "keys       mem      clients" in shown


def test_redis_cli_measures_latency(cluster: Cluster, redis_cli: str) -> None:
    leader = port(cluster.wait_for_leader())
    least, most, mean, samples = run_tool(redis_cli, "-p", leader, "--latency").split()
    assert int(least) <= float(mean) <= int(most)
    assert int(samples) > 1
    watch_tool(
        redis_cli, "-p", leader, "--latency-history", "-i", "1",
        until=r"avg: [\d.]+ \(\d+ samples\) -- 1\.\d+ seconds range",
    )  # fmt: skip
    watch_tool(redis_cli, "-p", leader, "--latency-dist", "-i", "1", until="From 0 to 100%")


def test_redis_cli_repeats_a_command(cluster: Cluster, redis_cli: str) -> None:
    leader = port(cluster.wait_for_leader())
    run_tool(redis_cli, "-p", leader, "DEL", "repeated")
    assert run_tool(redis_cli, "-p", leader, "-r", "3", "INCR", "repeated").split() == list("123")


def test_redis_cli_checks_a_whole_cluster(cluster: Cluster, redis_cli: str) -> None:
    for node in cluster.nodes:
        shown = run_tool(redis_cli, "--cluster", "check", node.client)
        assert "All 16384 slots covered." in shown
        assert "All nodes agree about slots configuration." in shown
        assert "2 additional replica(s)" in shown
    assert run_tool(redis_cli, "--cluster", "call", node.client, "PING").count(": PONG") == 3


# ------------------------------------------------------------- redis-benchmark


def requests_a_second(output: str) -> dict[str, float]:
    rows = [line.replace('"', "").split(",") for line in output.splitlines() if line]
    return {row[0]: float(row[1]) for row in rows if row[0] in ("SET", "GET")}


@pytest.mark.parametrize("depth", ["1", "16"])
def test_redis_benchmark_runs_to_the_end_against_the_leader(
    cluster: Cluster, redis_benchmark: str, depth: str
) -> None:
    leader = cluster.wait_for_leader()
    output = run_tool(
        redis_benchmark, "-p", port(leader), "-t", "set,get", "-c", "50", "-n", "20000",
        "-P", depth, "-d", "100", "-r", "10000", "--csv",
    )  # fmt: skip
    rates = requests_a_second(output)
    assert set(rates) == {"SET", "GET"}
    assert min(rates.values()) > 0
    cluster.wait_until_converged()


# What redis-benchmark does unless it is told; two rows have a title of their own.
DEFAULT_TESTS = (
    "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD",
    "HSET", "SPOP", "ZADD", "ZPOPMIN", "LPUSH (needed to benchmark LRANGE)",
    "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
    "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
)  # fmt: skip


@pytest.mark.parametrize("depth", ["1", "16"])
def test_redis_benchmark_does_its_whole_list(
    cluster: Cluster, redis_benchmark: str, depth: str
) -> None:
    leader = cluster.wait_for_leader()
    output = run_tool(
        redis_benchmark, "-p", port(leader), "-c", "10", "-n", "500", "-P", depth, "--csv"
    )
    rows = [line.split('","') for line in output.splitlines()[1:] if line.startswith('"')]
    assert [row[0].strip('"') for row in rows] == list(DEFAULT_TESTS)
    assert all(float(row[1]) > 0 for row in rows)


def test_redis_benchmark_wants_more_than_one_shard_of_a_cluster(
    cluster: Cluster, redis_benchmark: str
) -> None:
    result = subprocess.run(
        [redis_benchmark, "-p", port(cluster.nodes[0]), "--cluster", "-n", "10", "-t", "set"],
        capture_output=True, text=True, timeout=TOOL_LIMIT_S, check=False,
    )  # fmt: skip
    assert "Invalid cluster: 1 node(s)." in result.stdout + result.stderr


def test_redis_benchmark_runs_through_a_proxy(cluster: Cluster, redis_benchmark: str) -> None:
    follower = cluster.followers()[0]
    follower.stop()
    follower.start("writes.on_follower=proxy")
    output = run_tool(
        redis_benchmark, "-p", port(follower), "-t", "set,get", "-c", "20", "-n", "4000", "--csv"
    )
    assert set(requests_a_second(output)) == {"SET", "GET"}
    follower.stop()


# ---------------------------------------------------------------- side by side


def test_two_clients_of_different_kinds_see_each_other(cluster: Cluster, redis_cli: str) -> None:
    leader = cluster.wait_for_leader()
    client = RedisCluster(startup_nodes=startup_nodes(cluster))
    seen: list[str] = []
    reader = threading.Thread(
        target=lambda: seen.append(
            run_tool(redis_cli, "-c", "-p", port(cluster.others(leader)[0]), "GET", "shared")
        )
    )
    try:
        client.set("shared", "by cluster client")
        reader.start()
        reader.join()
    finally:
        client.close()
    assert seen == ["by cluster client"]

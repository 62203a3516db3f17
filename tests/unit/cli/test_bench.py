from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import Result

from raftkv.cli import bench
from raftkv.cli.bench_load import Load, run_load
from raftkv.errors import ConnectFailedError
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_cluster import FakeCluster

SHORT = ("--clients", "4", "--keys", "20", "--value-size", "10")


def said_by(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_sets_are_counted_and_arrive(run: Run, cluster: FakeCluster) -> None:
    said = said_by(run("bench", "set", *SHORT, "--requests", "200", "--pipeline", "8", "--json"))
    assert said["succeeded"] == 200
    assert said["failed"] == 0
    assert said["server"] == cluster.addresses[0]
    assert cluster.names().count(b"SET") == 200
    assert all(key.startswith(b"bench:") for key in cluster.keys)
    assert {len(value) for value in cluster.keys.values()} == {10}


def test_reads_of_filled_keys_find_them_and_clean_deletes_them(
    run: Run, cluster: FakeCluster
) -> None:
    said = said_by(run("bench", "get", *SHORT, "-r", "100", "--fill", "--clean", "--json"))
    assert (said["succeeded"], said["misses"]) == (100, 0)
    assert not cluster.keys


def test_reads_that_find_nothing_are_told(run: Run) -> None:
    result = run("bench", "get", *SHORT, "-r", "100")
    assert "100 reads found no key" in result.output


def test_the_report_for_people(run: Run) -> None:
    result = run("bench", "mixed", *SHORT, "-r", "400")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mixed (90% reads): 4 clients, pipeline 1, values of 10 B, 20 keys")
    assert lines[1].split() == [
        "requests/s", "p50", "ms", "p95", "ms", "p99", "ms", "p99.9", "ms", "max", "ms", "errors",
    ]  # fmt: skip
    assert lines[2].split()[-1] == "0"


def test_an_open_loop_keeps_its_rate(run: Run) -> None:
    said = said_by(run("bench", "set", *SHORT, "--rate", "200", "--duration", "0.5", "--json"))
    assert said["loop"] == "open"
    assert said["succeeded"] == 100
    assert isinstance(said["generator"], dict)
    assert said["generator"]["late_ms"]["p50"] >= 0


def test_a_stall_of_the_server_is_seen_by_requests_that_were_due_meanwhile(
    cluster: FakeCluster,
) -> None:
    cluster.nodes[0].acts.append("hang")
    timer = threading.Timer(0.3, cluster.released.set)
    timer.start()
    result = run_load(Load(clients=2, keys=5, rate=100.0, duration_s=0.6), cluster.addresses)
    timer.join()
    assert result.samples.longest_s > 0.2 or result.samples.errors


def test_errors_are_counted_by_kind(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.extend(["NOTAPPLIED overloaded"] * 3)
    cluster.nodes[0].acts.appendleft("")  # the question who leads
    result = run("bench", "set", "-c", "1", "-k", "5", "-r", "20")
    assert result.exit_code == 0
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["NOTAPPLIED", "3", "not", "executed"] in words


def test_a_lost_connection_is_an_unknown_outcome_and_the_run_goes_on(
    run: Run, cluster: FakeCluster
) -> None:
    cluster.nodes[0].acts.extend(["", "drop after"])
    said = said_by(run("bench", "set", "-c", "1", "-k", "5", "-r", "20", "--json"))
    assert said["errors"] == {"connection lost": 1}
    assert said["succeeded"] == 19


def test_it_follows_the_leader(cluster: FakeCluster) -> None:
    cluster.leader = cluster.nodes[1]
    result = run_load(Load(clients=2, keys=5, requests=20), cluster.addresses)
    assert result.address == cluster.addresses[1]
    assert result.samples.errors == {"MOVED": 2}
    assert result.samples.succeeded == 18


def test_an_empty_cluster_of_errors_is_a_failure(run: Run, cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.extend(["", *["ERR no"] * 10])
    assert run("bench", "set", "-c", "1", "-r", "10").exit_code == 1


def test_nobody_there_is_told(run: Run, cluster: FakeCluster) -> None:
    for node in cluster.nodes:
        node.stop()
    result = run("bench", "--deadline", "1")
    assert result.exit_code == 1
    assert "No node could be reached" in result.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("set", "--reads", "0.5"), "--reads is for the workload `mixed`"),
        (("set", "--rate", "10", "--pipeline", "2"), "it goes without --pipeline"),
        (("set", "-c", "1000", "-s", "1000000"), "bytes in flight"),
        (("put",), "'put' is not one of 'set', 'get', 'mixed'"),
        (("set", "-c", "0"), "0 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, options: tuple[str, ...], complaint: str) -> None:
    result = run("bench", *options)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


@contextmanager
def talker(words: bytes) -> Iterator[str]:
    """A server that says the same to everybody, whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(4096):
                    connection.sendall(words)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def test_a_server_of_another_protocol_is_told() -> None:
    with talker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        with pytest.raises(ConnectFailedError, match="does not speak the Redis protocol"):
            run_load(Load(clients=1), (address,))


def test_a_silent_server_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftkv.cli.bench_load.DRAIN_S", 0.2)
    begin_s = time.monotonic()
    with talker(b"") as address:
        result = run_load(Load(clients=1, duration_s=0.2), (address,))
    assert result.samples.errors == {"no reply": 1}
    assert time.monotonic() - begin_s < 10


def test_little_bars() -> None:
    assert bench.sparkline([]) == ""
    assert bench.sparkline([0.0, 0.0]) == "▁▁"
    assert bench.sparkline([0.0, 4.0, 8.0]) == "▁▄█"
    assert len(bench.sparkline([1.0] * 1000)) <= 60

"""`raftkv up` and the commands of a user, on real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftkv.client.sync_client import Client
from tests.free_ports import can_listen, free_base_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


def raftkv(*arguments: str, nodes: str = "", timeout_s: float = WAIT_S) -> tuple[int, str, str]:
    """Run one command to its end; return exit code, output and errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if nodes:
        environment["RAFTKV_NODES"] = nodes
    result = subprocess.run(
        [sys.executable, "-m", "raftkv", *arguments],
        capture_output=True, text=True, timeout=timeout_s, env=environment, check=False,
    )  # fmt: skip
    return result.returncode, result.stdout, result.stderr


class Up:
    """A running `raftkv up` and what it has printed."""

    def __init__(self, directory: Path, base_port: int) -> None:
        self.directory = directory
        self.nodes = ",".join(f"127.0.0.1:{base_port + number}" for number in range(3))
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "raftkv", "up",
             "--dir", str(directory), "--base-port", str(base_port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()

    def wait_for(self, words: str) -> str:
        """Return the first line with these words, as soon as there is one."""

        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self.process.poll() is not None, WAIT_S)
        if found() is None:
            self._reader.join(5)
        line = found()
        assert line is not None, "\n".join(self.lines)
        return line

    def pid_of(self, node_id: str) -> int:
        return int(json.loads((self.directory / f"{node_id}.pid").read_text())["pid"])

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(WAIT_S)
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


Start = Callable[[], Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `raftkv up`, always in the same directory; stopped at the end."""
    base_port = free_base_port()
    started: list[Up] = []

    def launch() -> Up:
        started.append(Up(tmp_path / "cluster", base_port))
        return started[-1]

    yield launch
    for up in started:
        if up.process.poll() is None:
            up.stop()
    raftkv("down", "--dir", str(tmp_path / "cluster"))


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true in time"
        time.sleep(0.05)


def test_up_serves_every_command_on_every_node_and_stops_cleanly(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    addresses = up.nodes.split(",")
    assert raftkv("set", "greeting", "hello", nodes=addresses[0]) == (0, "OK\n", "")
    for address in addresses:
        assert raftkv("get", "greeting", nodes=address) == (0, "hello\n", "")
        assert raftkv("incr", "visits", nodes=address)[0] == 0
    assert raftkv("get", "visits", nodes=up.nodes)[1] == "3\n"

    code, output, _ = raftkv("status", "--json", nodes=addresses[1])
    statuses = json.loads(output)
    assert code == 0
    assert [status["node"] for status in statuses] == ["n1", "n2", "n3"]
    assert sorted(status["role"] for status in statuses) == ["follower", "follower", "leader"]
    assert "leads at" in raftkv("status", nodes=up.nodes)[1]
    members = json.loads(raftkv("member", "list", "--json", nodes=up.nodes)[1])
    assert [member["client"] for member in members] == addresses

    code, output, _ = raftkv("cli", "--typed", "-e", "SET a 1", "-e", "INCR a", nodes=up.nodes)
    assert (code, output) == (0, "OK\n(integer) 2\n")
    assert raftkv("incr", "greeting", nodes=up.nodes)[0] == 1

    assert up.stop() == 0
    assert [line for line in up.lines if line.endswith(" stopped")] == [
        "n1 stopped", "n2 stopped", "n3 stopped",
    ]  # fmt: skip
    assert not list(up.directory.glob("*.pid"))


def test_data_is_kept_between_runs(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    assert raftkv("mset", "a", "1", "b", "2", nodes=up.nodes)[0] == 0
    assert up.stop() == 0
    up = start()
    up.wait_for("Ready:")
    assert raftkv("mget", "a", "b", nodes=up.nodes)[1] == "1\n2\n"
    assert up.stop() == 0


def test_a_second_up_says_that_the_cluster_runs(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    code, _, errors = raftkv("up", "--dir", str(up.directory))
    assert code == 4
    assert "already running" in errors
    assert f"n1 (process {up.pid_of('n1')})" in errors


def test_a_node_that_dies_is_shown_and_its_cluster_goes_on(start: Start) -> None:
    up = start()
    leader = up.wait_for("leads in term").split()[0]
    up.wait_for("Ready:")
    assert raftkv("set", "a", "1", nodes=up.nodes)[0] == 0
    os.kill(up.pid_of(leader), signal.SIGKILL)
    up.wait_for(f"{leader} ended (killed by SIGKILL)")
    assert f"{leader}.log" in up.wait_for("whole log")
    with Client(up.nodes, deadline_s=WAIT_S) as client:
        assert client.get("a") == b"1"
        client.set("a", "2")
    code, output, _ = raftkv("status", nodes=up.nodes)
    assert code == 0
    assert "2 of 3 nodes answer" in output
    assert up.stop() == 0


def test_detach_and_down(tmp_path: Path) -> None:
    directory = str(tmp_path / "cluster")
    base_port = free_base_port()
    nodes = f"127.0.0.1:{base_port}"
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(raftkv, "down", "--dir", directory)
        code, output, errors = raftkv(
            "up", "--dir", directory, "--base-port", str(base_port), "--detach"
        )
        assert code == 0, output + errors
        assert "Ready:" in output
        assert raftkv("set", "a", "1", nodes=nodes)[0] == 0
        code, output, _ = raftkv("down", "--dir", directory)
        assert code == 0
        assert output == "n1 stopped\nn2 stopped\nn3 stopped\n"
    assert raftkv("get", "a", "--deadline", "0.1", nodes=nodes)[0] == 1


def test_nodes_whose_up_was_killed_are_found_and_stopped(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    up.process.kill()
    up.stop()
    code, _, errors = raftkv("up", "--dir", str(up.directory))
    assert code == 4
    assert "already running" in errors
    assert raftkv("set", "a", "1", nodes=up.nodes)[0] == 0
    code, output, _ = raftkv("down", "--dir", str(up.directory))
    assert code == 0
    assert output == "n1 stopped\nn2 stopped\nn3 stopped\n"


def test_up_stops_its_nodes_when_nobody_reads_what_it_writes(tmp_path: Path) -> None:
    """As in `raftkv up | head -1`, and when a terminal is closed."""
    directory, base_port = tmp_path / "here", free_base_port()
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "raftkv", "up",
         "--dir", str(directory), "--base-port", str(base_port)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Starting")
        process.stdout.close()
        assert process.wait(WAIT_S) == 0
    code, output, _ = raftkv("down", "--dir", str(directory))
    assert code == 0
    assert "Nothing is running" in output
    assert can_listen(base_port)


def test_up_says_what_it_cannot_write(tmp_path: Path) -> None:
    directory = tmp_path / "here"
    (directory / "n2.log").mkdir(parents=True)
    code, _, errors = raftkv("up", "--dir", str(directory), "--base-port", str(free_base_port()))
    assert code == 1
    assert "n2.log" in errors
    assert "Traceback" not in errors
    code, output, _ = raftkv("down", "--dir", str(directory))
    assert "Nothing is running" in output


def test_status_watch_goes_on_until_it_is_interrupted(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "raftkv", "status", "--watch", "--interval", "0.1"],
        stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAFTKV_NODES": up.nodes},
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        rounds = 0
        for line in watching.stdout:
            rounds += "3 of 3 nodes answer" in line
            if rounds == 3:
                break
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.wait(WAIT_S) == 0


def test_a_start_that_fails_shows_exit_code_and_log(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    base_port = free_base_port()
    assert raftkv("init", "--dir", str(directory), "--base-port", str(base_port))[0] == 0
    # `init` writes the secret where it is called; here it is missing, or no file at all.
    (directory / "data" / "peer.secret").mkdir(parents=True)
    code, output, errors = raftkv("up", "--dir", str(directory), "--detach")
    assert code == 1
    assert "ended (exit code" in output
    assert "a node ended" in errors
    assert not list(directory.glob("*.pid"))


def test_the_client_follows_the_leader_through_its_end(start: Start) -> None:
    up = start()
    up.wait_for("Ready:")
    with Client(up.nodes.split(",")[0], deadline_s=WAIT_S) as client:
        client.set("n", "0")
        (leader,) = [status.node_id for status in client.status() if status.is_leader]
        os.kill(up.pid_of(leader), signal.SIGKILL)
        # Once its end has reached this machine's sockets, no write is left in doubt.
        up.wait_for(f"{leader} ended")
        client.set("after", "1")
        wait_until(lambda: any(status.is_leader for status in client.status()))
        assert client.get("after") == b"1"

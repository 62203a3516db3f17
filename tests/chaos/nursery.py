"""Nodes are born here: a process that has imported the product and forks on demand.

A restart costs half a second of processor time, nearly all of it imports, and the
scripts restart nodes hundreds of times on machines that others use as well. So each
node has a nursery: a process on its network, with everything imported and a hash seed
of its own, which forks whenever the node is to start. The child then runs
`tests.chaos.node_with_faults` as if it had just been started.

The script talks to a nursery by JSON lines: `start` gives a pid, `poll` the exit code
of a pid or null. Only `poll` reaps, so a pid means one process until its end is known.
A nursery ends with its input, and its children with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import raftkv.cli.main
import raftkv.cli.node_commands
import raftkv.node
from tests.chaos import node_with_faults
from tests.chaos.faults import FaultPage
from tests.chaos.world import ROOT, Links, die_with_parent

_POLL_S = 0.005


class BornProcess:
    """A node's process, with the methods of `subprocess.Popen` that clusters use."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._nursery.poll(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end_s = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end_s is not None and time.monotonic() > end_s:
                raise subprocess.TimeoutExpired(f"node {self.pid}", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The script's end.

    Args:
        number: Of the node, for its network.
        log: For what the nursery itself has to say.
    """

    def __init__(self, number: int, log: Path) -> None:
        self._lock = threading.Lock()
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*Links.inside(number), sys.executable, "-m", "tests.chaos.nursery"],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
                env={**os.environ, "PYTHONHASHSEED": str(number)}, preexec_fn=die_with_parent,
            )  # fmt: skip

    def start(
        self, arguments: list[str], *, directory: Path, log: Path, page: Path, platter: Path
    ) -> BornProcess:
        """Start `raftkv` with these arguments."""
        pid = self._call({
            "start": arguments, "directory": str(directory), "log": str(log), "page": str(page),
            "platter": str(platter), "environment": _environment(),
        })  # fmt: skip
        return BornProcess(self, pid)

    def poll(self, pid: int) -> int | None:
        """Return the exit code as `subprocess` gives it; None while it runs."""
        return self._call({"poll": pid})

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _call(self, request: dict[str, Any]) -> Any:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def _environment() -> dict[str, str]:
    """Return the environment of a node: no setting of the caller."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}


def main() -> int:
    """Answer requests until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        answer = _poll(request["poll"]) if "poll" in request else _start(request)
        print(json.dumps(answer), flush=True)
    return 0


def _poll(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _be_node(request)
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def _be_node(request: dict[str, Any]) -> int:
    """Become what a fresh process would be, and run it; returns its exit code."""
    die_with_parent()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, max(log, nothing) + 1)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["raftkv", *request["start"]]
    node_with_faults.plant(FaultPage(Path(request["page"])), Path(request["platter"]))
    try:
        raftkv.cli.main.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())

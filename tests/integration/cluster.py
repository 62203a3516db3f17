"""A cluster of real processes on this machine, for tests and chaos scripts.

Owns the ports, the config files, the data in a directory of its own, and the
processes: each is known by its handle, and every one of them is ended when the
cluster is closed, whatever happened before. Waits are for conditions, with
deadlines; what did not come true is told with the last lines of every log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from raftkv.cluster_files import write_cluster
from tests.free_ports import can_listen
from tests.integration.wire import Wire, call

ROOT = Path(__file__).resolve().parents[2]
# The machine may be busy with other work: only failures take this long.
WAIT_S = 60.0
LOG_TAIL_LINES = 25

# The least that snapshots can be asked for: one after every 64 KiB of log.
SMALL_LOG = ("limits.snapshot_log_bytes=65536", "limits.snapshot_keep_log_bytes=0")
# Log is dropped in whole segments only, so these are the smallest that are allowed.
SMALL_SEGMENTS = (
    "limits.value_bytes_max=65536",
    "limits.request_bytes_max=196608",
    "limits.batch_bytes_max=131072",
    "limits.wal_segment_bytes=589824",
)

# A cluster takes ports from base to base + 204: three rows of five. Rows of
# several clusters lie side by side in one block of 300 ports.
_PORT_BLOCKS = range(28000, 30700, 300)
_PORT_ROW = 5
_CLAIM_STEP = 270

Result = TypeVar("Result")


class ClusterNode:
    """One member: its files, its ports and, while it runs, its process.

    Attributes:
        id: `n1`, `n2`, ...
        client: `host:port` of the Redis protocol; `peer` and `admin` likewise.
        data_dir: What may be damaged or deleted while the node is down.
        log: File with everything that its processes wrote.
        module: What to run, for a test that plants something.
        environment: Variables for its processes, beside those of all nodes.
    """

    def __init__(self, cluster: Cluster, number: int, config: Path) -> None:
        self.cluster = cluster
        self.id = f"n{number}"
        self.config = config
        self.client, self.peer, self.admin = (
            f"127.0.0.1:{cluster.base_port + step + number - 1}" for step in (0, 100, 200)
        )
        self.data_dir = cluster.directory / "data" / self.id
        self.log = cluster.directory / f"{self.id}.log"
        self.overrides: tuple[str, ...] = ()
        self.module = "raftkv"
        self.environment: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._log_start = 0

    def __repr__(self) -> str:
        return self.id

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --------------------------------------------------------------- processes

    def spawn(self, *overrides: str) -> None:
        """Start the process and return at once.

        Args:
            overrides: For `--set`, behind those of the cluster and of this node.
        """
        assert not self.is_running
        arguments = [sys.executable, "-m", self.module, "start", "--config", str(self.config)]
        for override in (*self.cluster.overrides, *self.overrides, *overrides):
            arguments += ["--set", override]
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments,
                cwd=self.cluster.directory,
                env={**node_environment(), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._paused = False

    def start(self, *overrides: str) -> None:
        """Start the process and wait until it answers clients."""
        self.spawn(*overrides)
        self.wait_until_serving()

    def wait_until_serving(self) -> None:
        def serving() -> bool:
            assert self.is_running, f"{self.id} ended: {self.log_since_start()}"
            return self.status() is not None

        self.cluster.wait_until(serving, f"{self.id} answers")

    def run_to_exit(self, *overrides: str, limit_s: float = WAIT_S) -> tuple[int, str]:
        """Start a process that should end by itself; return its exit code and what it wrote."""
        self.spawn(*overrides)
        code = self.wait_for_exit(limit_s)
        return code, self.log_since_start()

    def wait_for_exit(self, limit_s: float = WAIT_S) -> int:
        assert self.process is not None
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            message = f"{self.id} still runs after {limit_s} s\n{self.log_since_start()}"
            self.kill()
            raise AssertionError(message) from None

    def kill(self) -> None:
        """End the process as a crash does (SIGKILL), and reap it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, limit_s: float = WAIT_S) -> int:
        """Ask the process to stop and return its exit code."""
        self.resume()
        self.signal(signal.SIGTERM)
        return self.wait_for_exit(limit_s)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): it keeps its sockets and says nothing."""
        self.signal(signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        if self._paused and self.is_running:
            self.signal(signal.SIGCONT)
        self._paused = False

    def memory_bytes(self) -> int:
        """Resident memory of the process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.id} has no memory")

    def forget_memory_peak(self) -> None:
        """Let `memory_peak_bytes` begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def memory_peak_bytes(self) -> int:
        """Most resident memory that the process ever had, or since it was told to forget."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.id} has no memory")

    # ---------------------------------------------------------------- questions

    def info(self, section: str) -> dict[str, str]:
        """Return the fields of one section of INFO."""
        text = self.call("INFO", section).decode()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return dict(line.split(":", 1) for line in lines)

    def log_since_start(self) -> str:
        """Return what the newest process wrote."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode("utf-8", "replace")

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-LOG_TAIL_LINES:])

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one request over a connection of its own."""
        return call(self.client, *arguments)

    def status(self, timeout_s: float = 1.0) -> dict[str, Any] | None:
        """Return RAFT STATUS without the prefix of the names, or None if it does not answer."""
        try:
            with Wire(self.client, timeout_s=timeout_s, connect_timeout_s=timeout_s) as wire:
                reply = wire.call("RAFT", "STATUS")
        except OSError:
            return None
        if not isinstance(reply, list):
            return None
        words = [item.decode() if isinstance(item, bytes) else item for item in reply]
        names = [str(name).removeprefix("raft_") for name in words[::2]]
        return dict(zip(names, words[1::2], strict=True))

    def http(self, path: str) -> tuple[int, str]:
        """Ask the admin port; returns status and body."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


class Cluster:
    """Processes of one cluster; close it, or use it as a context manager.

    Args:
        directory: Empty; holds configs, data and logs.
        size: Number of nodes, 1..5; more where `base_port` is given.
        overrides: `section.key=value` for every node.
        base_port: Of three rows of free ports, `PEER_PORT_STEP` apart; None to find one.
    """

    def __init__(
        self, directory: Path, *, size: int = 3, overrides: Sequence[str] = (),
        base_port: int | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.overrides = tuple(overrides)
        self.base_port, self._claim = (
            claim_ports() if base_port is None else (base_port, socket.socket())
        )
        files = write_cluster(directory, nodes=size, base_port=self.base_port,
                              working_directory=directory)  # fmt: skip
        self.peer_secret = files.peer_secret
        self.nodes = [
            ClusterNode(self, number, config) for number, config in enumerate(files.configs, 1)
        ]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process; also one that is paused or hangs."""
        for node in self.nodes:
            with contextlib.suppress(ProcessLookupError):
                node.kill()
        self._claim.close()

    def __getitem__(self, node_id: str) -> ClusterNode:
        return next(node for node in self.nodes if node.id == node_id)

    @property
    def running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_running]

    @property
    def addresses(self) -> list[str]:
        """Client addresses of all nodes."""
        return [node.client for node in self.nodes]

    def others(self, *nodes: ClusterNode) -> list[ClusterNode]:
        return [node for node in self.nodes if node not in nodes]

    def start(self) -> None:
        """Start every node that does not run, and wait for a leader of all."""
        for node in self.nodes:
            if not node.is_running:
                node.spawn()
        for node in self.nodes:
            node.wait_until_serving()
        self.wait_for_leader()

    def heal(self) -> None:
        """Bring every node back, and wait until all of them agree."""
        for node in self.nodes:
            node.resume()
            if node.is_running and node.status() is None:
                node.kill()
        self.start()
        self.wait_until_converged()

    # -------------------------------------------------------------------- waits

    def wait_until(
        self, condition: Callable[[], Result], what: str, limit_s: float = WAIT_S
    ) -> Result:
        """Return the first true value of a condition.

        Raises:
            AssertionError: It did not come true; tells the last lines of every log.
        """
        end_s = time.monotonic() + limit_s
        while not (result := condition()):
            if time.monotonic() > end_s:
                raise AssertionError(f"not within {limit_s} s: {what}\n{self.log_tails()}")
            time.sleep(0.02)
        return result

    def leader(self) -> ClusterNode | None:
        """Return the node which leads, and which a majority of all nodes says leads."""
        statuses = {node: node.status() for node in self.running}
        known = [status for status in statuses.values() if status is not None]
        for node, status in statuses.items():
            if status is None or status["role"] != "leader":
                continue
            followed = [
                other
                for other in known
                if other["leader_id"] == node.id and other["term"] == status["term"]
            ]
            if len(followed) > len(self.nodes) // 2:
                return node
        return None

    def wait_for_leader(self, *, other_than: ClusterNode | None = None) -> ClusterNode:
        """Wait until a majority follows one leader, which answers a read of its own term."""

        def led() -> ClusterNode | None:
            leader = self.leader()
            if leader is None or leader is other_than:
                return None
            try:
                reply = leader.call("GET", "no such key")
            except OSError:
                return None
            return leader if reply is None else None

        found = self.wait_until(led, "a leader")
        assert found is not None
        return found

    def wait_until_settled(self) -> ClusterNode:
        """Wait until the leader is so old that nodes keep the clients whom they redirect."""

        def settled() -> ClusterNode | None:
            leader = self.wait_for_leader()
            for node in self.others(leader):
                try:
                    with Wire(node.client) as wire:
                        wire.call("GET", "no such key")
                        wire.call("PING")
                except OSError:
                    return None
            return leader

        found = self.wait_until(settled, "an old leader")
        assert found is not None
        return found

    def followers(self) -> list[ClusterNode]:
        return self.others(self.wait_for_leader())

    def converged_status(self) -> dict[str, Any] | None:
        """Return the common status if all running nodes have applied all that is in the log."""
        statuses = [node.status() for node in self.running]
        if not statuses or any(status is None for status in statuses):
            return None
        facts = {
            (
                status["applied_index"],
                status["last_index"],
                status["state_hash_index"],
                status["state_hash"],
                status["admitted"],
            )
            for status in statuses
            if status is not None
        }
        if len(facts) != 1:
            return None
        ((applied, last, *_, admitted),) = facts
        return statuses[0] if applied == last and admitted == 1 else None

    def wait_until_converged(self, limit_s: float = WAIT_S) -> dict[str, Any]:
        """Wait for equal state hashes at equal index, everything applied and every disk counted.

        Only for a time without writes. A difference at equal index is told at once.
        """

        def converged() -> dict[str, Any] | None:
            self.check_hashes()
            return self.converged_status()

        found = self.wait_until(converged, "all nodes agree", limit_s)
        assert found is not None
        return found

    def wait_until_caught_up(self, node: ClusterNode) -> None:
        """Wait until a node has what the leader has now, and its disk counts; writes may go on."""

        def caught_up() -> bool:
            assert node.is_running, f"{node.id} ended: {node.log_since_start()}"
            status = node.status()
            return (
                status is not None and status["admitted"] == 1 and status["applied_index"] >= goal
            )

        status = self.wait_until(self.wait_for_leader().status, "the leader answers")
        assert status is not None
        goal = status["applied_index"]
        self.wait_until(caught_up, f"{node.id} has applied index {goal}")

    def check_hashes(self) -> None:
        """Fail when two nodes at the same index have different states."""
        seen: dict[int, tuple[str, str]] = {}
        for node in self.running:
            status = node.status()
            if status is None:
                continue
            index, state = status["state_hash_index"], status["state_hash"]
            other_id, other_state = seen.setdefault(index, (node.id, state))
            assert state == other_state, f"{node.id} and {other_id} differ at index {index}"

    def _positions(self) -> str:
        names = ("role", "term", "applied_index", "last_index", "admitted", "waiting_for")
        facts = []
        for node in self.nodes:
            status = node.status()
            known = {name: status[name] for name in names} if status else "silent"
            facts.append(f"{node.id}: {known}")
        return "; ".join(facts)

    def log_tails(self) -> str:
        """Return the last lines of every log."""
        tails = [f"--- {node.id} ({node.log})\n{node.log_tail()}" for node in self.nodes]
        return "\n".join([self._positions(), *tails])


def node_environment() -> dict[str, str]:
    """Return the environment of a node: this package, and no setting of the caller."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def run_raftkv(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run one command of raftkv to its end."""
    return subprocess.run(
        [sys.executable, "-m", "raftkv", *arguments],
        cwd=directory, env=node_environment(), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip


def claim_ports() -> tuple[int, socket.socket]:
    """Return a base port that no other cluster of these tests uses while the socket is open."""
    for block in _PORT_BLOCKS:
        for base in range(block, block + 95, _PORT_ROW):
            claim = socket.socket()
            try:
                claim.bind(("127.0.0.1", block + _CLAIM_STEP + (base - block) // _PORT_ROW))
            except OSError:
                claim.close()
                continue
            wanted = [base + step + number for step in (0, 100, 200) for number in range(_PORT_ROW)]
            if all(can_listen(port) for port in wanted):
                return base, claim
            claim.close()
    raise AssertionError("no free ports")

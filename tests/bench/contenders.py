"""The servers under measurement: how each is started, asked for its leader, and ended.

Owns processes, data directories and ports. Every contender says by `missing` why it
cannot run here - a program or a compiler is absent - so that it is left out with that
message. Each has the settings it ships with, but for what its name says.

Users: run, goals, growth, startup. The load is made by tests.bench.loads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.bench.ports import Ports
from tests.integration.cluster import ROOT, Cluster, ClusterNode

START_S = 30.0
START_ATTEMPTS = 3
# Where Debian's golang-etcd-server-dev puts the sources of etcd's own client.
GO_PATH = "/usr/share/gocode"
ETCD_LOAD = ROOT / "tests" / "bench" / "etcd_load" / "main.go"


class Contender:
    """One server or cluster.

    Attributes:
        name: As in tables and on the command line.
        title: For people.
        speaks: `resp`, `etcd` or `library`.
        fsyncs: Whether every acknowledged write is synced.
    """

    name = ""
    title = ""
    speaks = "resp"
    fsyncs = False

    def missing(self) -> str:
        """Return why it cannot run here, or nothing."""
        return ""

    def start(self, directory: Path, ports: Ports) -> None:
        """Start it, with its data under `directory`; returns when it serves."""

    def close(self) -> None:
        """End its processes."""

    @property
    def address(self) -> str:
        """`host:port` that takes writes now."""
        raise LookupError(f"{self.name} has no address")

    def processes(self) -> dict[str, int]:
        """Return the pid of every process, by its part."""
        return {}


def _need(*programs: str) -> str:
    absent = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""


def spawn(command: Sequence[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a process that writes to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT,
            env={**os.environ, **environment},
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, then end it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens.

    Raises:
        RuntimeError: The process ended, or the time is over.
    """
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"does not listen on {port}:\n{log.read_text(errors='replace')[-2000:]}")


class RaftKv(Contender):
    """A cluster of raftkv with the settings it ships with."""

    fsyncs = True

    def __init__(self, nodes: int = 3, overrides: Sequence[str] = ()) -> None:
        self.name = f"raftkv-{nodes}"
        self.title = f"raftkv, {nodes} nodes" if nodes > 1 else "raftkv, 1 node"
        self.size = nodes
        self._overrides = overrides
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    def prepare(self, cluster: Cluster) -> None:
        """Change what shall be different about a cluster before it starts."""

    def start(self, directory: Path, ports: Ports) -> None:
        for attempt in range(START_ATTEMPTS):
            self._cluster = Cluster(
                directory / str(attempt), size=self.size, overrides=self._overrides,
                base_port=ports.take_rows(self.size),
            )  # fmt: skip
            self.prepare(self._cluster)
            try:
                self._cluster.start()
                return
            except AssertionError as error:
                # A port that was free may have become that of somebody's connection.
                self._cluster.close()
                if "address_in_use" not in str(error) or attempt + 1 == START_ATTEMPTS:
                    raise

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()

    @property
    def address(self) -> str:
        return self.cluster.wait_for_leader().client

    def processes(self) -> dict[str, int]:
        leader = self.cluster.wait_for_leader()
        named = {"leader": leader.pid}
        followers: list[ClusterNode] = self.cluster.others(leader)
        return named | {f"follower {one.id}": one.pid for one in followers}


class Redis(Contender):
    """One Redis, unreplicated.

    Args:
        sync: `none`, `everysec` or `always`.
    """

    def __init__(self, sync: str) -> None:
        self.name = f"redis-{sync}"
        self.title = "Redis, no AOF" if sync == "none" else f"Redis, appendfsync {sync}"
        self.fsyncs = sync == "always"
        self._sync = sync
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port = 0

    def missing(self) -> str:
        return _need("redis-server", "redis-benchmark")

    def _spawn(self, directory: Path, port: int, *options: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        aof = ["no"] if self._sync == "none" else ["yes", "--appendfsync", self._sync]
        command = [
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory),
            "--save", "", "--appendonly", *aof, *options,
        ]  # fmt: skip
        log = directory / "redis.log"
        self._processes.append(spawn(command, log))
        wait_for_port(port, self._processes[-1], log)

    def start(self, directory: Path, ports: Ports) -> None:
        self._port = ports.take()
        self._spawn(directory, self._port)

    def close(self) -> None:
        for process in self._processes:
            end(process)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def processes(self) -> dict[str, int]:
        return {"master": self._processes[0].pid}


class RedisWithWait(Redis):
    """One master and two replicas; each batch of writes ends with WAIT 1."""

    def __init__(self) -> None:
        super().__init__("none")
        self.name = "redis-wait"
        self.title = "Redis, 1+2, WAIT 1"
        self.replicas = 2

    def start(self, directory: Path, ports: Ports) -> None:
        super().start(directory / "master", ports)
        for number in range(self.replicas):
            self._spawn(
                directory / f"replica{number}", ports.take(),
                "--replicaof", f"127.0.0.1 {self._port}", "--repl-diskless-sync-delay", "0",
            )  # fmt: skip
        self._wait_for_replicas()

    def _wait_for_replicas(self) -> None:
        host, _, port = self.address.rpartition(":")
        end_s = time.monotonic() + START_S
        with socket.create_connection((host, int(port)), START_S) as connection:
            while time.monotonic() < end_s:
                connection.sendall(b"SET bench: 1\r\nWAIT %d 100\r\n" % self.replicas)
                if connection.recv(4096).endswith(b":%d\r\n" % self.replicas):
                    return
        raise RuntimeError("the replicas of Redis do not follow")


class Etcd(Contender):
    """Three members of etcd, as Debian ships it."""

    name = "etcd"
    title = "etcd, 3 nodes"
    speaks = "etcd"
    fsyncs = True

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self.endpoints: list[str] = []
        self.load_program = Path()

    def missing(self) -> str:
        if absent := _need("etcd", "go"):
            return absent
        if not (Path(GO_PATH) / "src/go.etcd.io/etcd/clientv3").is_dir():
            return "not installed: golang-etcd-server-dev, which has etcd's client for Go"
        return ""

    def start(self, directory: Path, ports: Ports) -> None:
        directory.mkdir(parents=True)
        self.load_program = build_etcd_load(directory)
        first = ports.take(6)
        self.endpoints = [f"127.0.0.1:{first + number}" for number in range(3)]
        peers = [f"http://127.0.0.1:{first + 3 + number}" for number in range(3)]
        members = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))
        for number, (client, peer) in enumerate(zip(self.endpoints, peers, strict=True)):
            command = [
                "etcd", "--name", f"e{number}", "--data-dir", str(directory / f"e{number}"),
                "--listen-client-urls", f"http://{client}",
                "--advertise-client-urls", f"http://{client}",
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", members, "--initial-cluster-state", "new",
                "--quota-backend-bytes", str(8 * 1024**3), "--log-level", "error",
            ]  # fmt: skip
            self._processes.append(spawn(command, directory / f"e{number}.log"))
        for number, process in enumerate(self._processes):
            port = int(self.endpoints[number].rpartition(":")[2])
            wait_for_port(port, process, directory / f"e{number}.log")

    def close(self) -> None:
        for process in self._processes:
            end(process)

    @property
    def address(self) -> str:
        return ",".join(self.endpoints)

    def processes(self) -> dict[str, int]:
        return {f"member {number}": one.pid for number, one in enumerate(self._processes)}


def build_etcd_load(directory: Path) -> Path:
    """Compile the load program for etcd."""
    program = directory / "etcd_load"
    done = subprocess.run(
        ["go", "build", "-o", str(program), str(ETCD_LOAD)],
        env={**os.environ, "GO111MODULE": "off", "GOPATH": GO_PATH, "GOFLAGS": ""},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"the load program for etcd does not compile:\n{done.stderr}")
    return program


class RawSyncObj(Contender):
    """PySyncObj's ReplDict in three processes, without fsync and without clients.

    Args:
        tuned: With its best setting instead of its defaults.
    """

    speaks = "library"

    def __init__(self, *, tuned: bool) -> None:
        self.name = "pysyncobj-tuned" if tuned else "pysyncobj"
        self.title = "PySyncObj, tuned" if tuned else "PySyncObj, as it comes"
        self.tuned = tuned
        self.base_port = 0

    def start(self, directory: Path, ports: Ports) -> None:
        # Its processes live as long as one measurement.
        self.base_port = ports.take(3)


class Echo(Contender):
    """The control: answers and does nothing."""

    name = "echo"
    title = "echo server"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self, directory: Path, ports: Ports) -> None:
        directory.mkdir(parents=True)
        self._port = ports.take()
        command = [sys.executable, "-m", "tests.bench.echo_server", str(self._port)]
        self._process = spawn(command, directory / "echo.log")
        wait_for_port(self._port, self._process, directory / "echo.log")

    def close(self) -> None:
        if self._process is not None:
            end(self._process)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def processes(self) -> dict[str, int]:
        assert self._process is not None
        return {"server": self._process.pid}


def all_contenders() -> list[Contender]:
    """Return one of each, in the order of the tables."""
    return [
        RaftKv(3), RaftKv(1), RaftKv(5),
        Redis("always"), Redis("everysec"), Redis("none"), RedisWithWait(),
        Etcd(), RawSyncObj(tuned=False), RawSyncObj(tuned=True), Echo(),
    ]  # fmt: skip


@contextlib.contextmanager
def running(
    contenders: Sequence[Contender], directory: Path, ports: Ports
) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    """Start what can run here; gives those, and why the others cannot.

    Everything is ended and its data deleted at the end.
    """
    directory = directory.resolve()  # the processes have another working directory
    started: list[Contender] = []
    absent: dict[str, str] = {}
    try:
        for contender in contenders:
            if reason := contender.missing():
                absent[contender.name] = reason
                print(f"{contender.title} is left out: {reason}", file=sys.stderr, flush=True)
                continue
            started.append(contender)
            contender.start(directory / contender.name, ports)
        yield started, absent
    finally:
        for contender in started:
            contender.close()
            shutil.rmtree(directory / contender.name, ignore_errors=True)

"""A cluster of real processes on this machine, with its files in one directory.

Owns the directory of `raftkv up`: config files and secret (made once, kept),
data, one log and one pid file a node. Starts nodes as `python -m raftkv start`,
watches them and stops them. Owns no output: cli.local_commands shows what
happens.

Invariants: data is never deleted; a process is only signalled when its identity
is the recorded one; nodes run in sessions of their own, so that Ctrl-C reaches
the command and the command decides.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import raftkv
from raftkv.cli import terminal
from raftkv.cli.processes import ProcessRecord, identity_of, load_record, save_record
from raftkv.client.protocol import split_address
from raftkv.cluster_files import (
    ADMIN_PORT_STEP,
    BASE_PORT,
    LOCAL_HOST,
    local_members,
    write_cluster,
)
from raftkv.errors import RaftKvError
from raftkv.settings import load_config

# As many as survive the loss of one.
NODES = 3
# A node stops by itself within 5 s of SIGTERM.
STOP_S_MAX = 8.0
_POLL_S = 0.05
_LOG_TAIL_BYTES = 8192


class LocalClusterError(RaftKvError):
    """The local cluster cannot be started as asked."""


class InUseError(LocalClusterError):
    """A port is taken, or the cluster is already running."""


@dataclass(slots=True)
class LocalNode:
    """One node of the local cluster and, while it runs, its process.

    Attributes:
        node_id: As its config names it.
        config: Path of its config file.
        client: Address of its Redis protocol.
        addresses: All addresses it listens on.
        log_start: Position in its log file where this run begins.
        process: Set if this command has started it.
    """

    node_id: str
    config: Path
    client: str
    addresses: tuple[str, ...]
    log_start: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """File of its standard output and error."""
        return self.config.with_name(f"{self.node_id}.log")

    @property
    def pid_file(self) -> Path:
        """File that names its process."""
        return self.config.with_name(f"{self.node_id}.pid")

    def record(self) -> ProcessRecord | None:
        """Return its running process, or None."""
        record = load_record(self.pid_file)
        return record if record is not None and record.is_alive() else None

    def unrecorded(self) -> ProcessRecord | None:
        """Return its process if that was started here and not written down yet."""
        if self.process is None or self.process.poll() is not None:
            return None
        return ProcessRecord(self.process.pid, identity_of(self.process.pid))

    def exit_code(self) -> int | None:
        """Return how its process ended; None if it runs, or was not started here.

        A process ended by signal N has the code -N.
        """
        return self.process.poll() if self.process is not None else None

    def last_log_lines(self, count: int = 8) -> list[str]:
        """Return what it wrote last in this run."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_start, end - _LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line for line in text.splitlines() if line.strip()][-count:]


class LocalCluster:
    """All nodes in one directory.

    Args:
        directory: Where everything is.
        nodes: As their config files describe them.
    """

    def __init__(self, directory: Path, nodes: Sequence[LocalNode]) -> None:
        self.directory = directory
        self.nodes = tuple(nodes)

    @property
    def clients(self) -> str:
        """Addresses for `--nodes`."""
        return ",".join(node.client for node in self.nodes)

    def running(self) -> list[LocalNode]:
        """Return the nodes whose recorded process is alive."""
        return [node for node in self.nodes if node.record() is not None]

    def check_free(self) -> None:
        """Make sure that nothing runs and every port can be had.

        Raises:
            InUseError: Says what is in the way and what to do.
        """
        running = self.running()
        if running:
            names = ", ".join(
                f"{node.node_id} (process {record.pid})"
                for node in running
                if (record := node.record()) is not None
            )
            raise InUseError(
                f"already running in {self.directory}: {names}. "
                f"`raftkv down --dir {self.directory}` stops it."
            )
        taken = [
            f"{address} ({node.node_id})"
            for node in self.nodes
            for address in node.addresses
            if not is_free(address)
        ]
        if taken:
            raise InUseError(
                f"in use by another program: {', '.join(taken)}. "
                f"Stop it, or choose other ports with --base-port and another --dir."
            )

    def taken_client_addresses(self) -> list[str]:
        """Return where clients would find somebody, with the node that belongs there."""
        return [
            f"{node.client} ({node.node_id})" for node in self.nodes if not is_free(node.client)
        ]

    def start(self) -> None:
        """Start every node; returns before they are ready."""
        for node in self.nodes:
            _start_node(node, self.directory)

    def ended(self) -> list[tuple[LocalNode, int]]:
        """Return the nodes started here that have ended, with their exit codes."""
        codes = [(node, node.exit_code()) for node in self.nodes]
        return [(node, code) for node, code in codes if code is not None]

    def stop(
        self,
        *,
        stop_s_max: float = STOP_S_MAX,
        killed: Callable[[LocalNode], None] = lambda node: None,
    ) -> list[LocalNode]:
        """Stop every node that runs, at the same time.

        Args:
            stop_s_max: Seconds after which a node that still runs is killed.
            killed: Told of each node that had to be.

        Returns:
            The nodes that were running.
        """
        records = {node.node_id: node.record() or node.unrecorded() for node in self.nodes}
        stopping = [node for node in self.nodes if records[node.node_id] is not None]
        for record in records.values():
            if record is not None:
                record.terminate()
        end_s = time.monotonic() + stop_s_max
        for node in stopping:
            record = records[node.node_id]
            assert record is not None
            while _is_running(node, record):
                if time.monotonic() > end_s and record.kill():
                    killed(node)
                    end_s = float("inf")
                time.sleep(_POLL_S)
        for node in self.nodes:
            node.pid_file.unlink(missing_ok=True)
        return stopping


def _is_running(node: LocalNode, record: ProcessRecord) -> bool:
    """Whether a process still runs; a child of ours is reaped on the way."""
    if node.process is not None and node.process.pid == record.pid:
        return node.process.poll() is None
    return record.is_alive()


def is_free(address: str) -> bool:
    """Whether a node could listen there."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the nodes do: connections of an earlier run may still be ending.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def node_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a node's process finds this package."""
    made = dict(environment)
    package_root = Path(raftkv.__file__).resolve().parent.parent
    if package_root.name not in ("site-packages", "dist-packages"):
        # A checkout: the process runs elsewhere and would not find the package.
        paths = [str(package_root), made.get("PYTHONPATH", "")]
        made["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return made


def _start_node(node: LocalNode, directory: Path) -> None:
    with node.log.open("ab") as log:
        node.log_start = log.tell()
        # `-P`: the directory of the data is no place to import from.
        node.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "raftkv", "start", "--config", node.config.name],
            cwd=directory,
            env=node_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    save_record(node.pid_file, ProcessRecord(node.process.pid, identity_of(node.process.pid)))


def open_cluster(directory: Path) -> LocalCluster | None:
    """Return the cluster whose files are in a directory; None where there are none.

    Raises:
        ConfigError: A config file is bad; lists every problem.
    """
    found = [
        (int(match.group(1)), path)
        for path in directory.glob("node*.toml")
        if (match := re.fullmatch(r"node(\d+)\.toml", path.name))
    ]
    nodes = []
    for _, path in sorted(found):
        config = load_config(path, environment=os.environ).config
        nodes.append(
            LocalNode(
                node_id=config.node.id,
                config=path,
                client=config.listen.client,
                addresses=(config.listen.client, config.listen.peer, config.listen.admin),
            )
        )
    return LocalCluster(directory, nodes) if nodes else None


def _check_ports(nodes: int, base_port: int) -> None:
    """Make sure that a new cluster can listen, before its ports are written down for good."""
    taken = [
        address
        for number, member in enumerate(local_members(nodes, base_port=base_port))
        for address in (
            member.client,
            member.peer,
            f"{LOCAL_HOST}:{base_port + ADMIN_PORT_STEP + number}",
        )
        if not is_free(address)
    ]
    if taken:
        raise InUseError(
            f"in use by another program: {', '.join(taken)}. "
            "Stop it, or choose other ports with --base-port."
        )


def make_cluster(directory: Path, *, nodes: int | None, base_port: int | None) -> LocalCluster:
    """Return the cluster of a directory, made if there is none.

    Args:
        directory: Kept between runs.
        nodes: How many; None for what is there, or three.
        base_port: Client port of the first node; None for what is there, or 7001.

    Raises:
        LocalClusterError: What is there does not fit what was asked for.
        InUseError: A port of a new cluster is taken; nothing was written.
        ConfigError: A config file is bad, or cannot be written.
    """
    cluster = open_cluster(directory)
    if cluster is None:
        nodes = NODES if nodes is None else nodes
        base_port = BASE_PORT if base_port is None else base_port
        _check_ports(nodes, base_port)
        write_cluster(directory, nodes=nodes, base_port=base_port, working_directory=directory)
        cluster = open_cluster(directory)
        assert cluster is not None
        return cluster
    count = len(cluster.nodes)
    first_port = split_address(cluster.nodes[0].client)[1]
    if nodes not in (None, count) or base_port not in (None, first_port):
        raise LocalClusterError(
            f"{directory} holds a cluster of {terminal.count_of(count, 'node')} "
            f"from port {first_port} on. "
            "Start it without --nodes and --base-port, or choose another --dir."
        )
    return cluster

"""A throw-away cluster of real processes, made to be hurt.

Owns a temporary directory of its own, the ports, the config files, the processes and
the links between them. Nothing here can reach another cluster: addresses, directory and
settings are made here, settings in the environment are not handed on, and no signal
goes to a process that was not started here.

A lab that was itself killed cannot clean up; the next one ends its processes, which are
known by their start time, and deletes its directory.

Not thread-safe: belongs to one event loop. Users: cli.lab_run, cli.lab_scenarios.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from raftkv.cli.lab_links import Doorway, Links
from raftkv.cli.local_cluster import LocalClusterError, is_free, node_environment
from raftkv.cli.processes import ProcessRecord, identity_of, load_record, save_record
from raftkv.client.async_client import AsyncClient
from raftkv.client.status import NodeStatus
from raftkv.cluster_files import (
    LOCAL_HOST,
    PEER_SECRET_NAME,
    ensure_peer_secret,
    render_node_config,
)
from raftkv.config import ListenConfig
from raftkv.types import Member, NodeId

_PREFIX = "raftkv-lab-"
_OWNER_FILE = "lab.pid"
# Each lab takes a block: a row of ports a purpose, a port a node.
_PORTS = range(17400, 25400, 40)
_PORT_ROW = 10
_STOP_S_MAX = 8.0
_POLL_S = 0.02
_STATUS_S = 0.05
_STATUS_S_MAX = 0.4


class LabNode:
    """One node.

    Attributes:
        id: n1, n2, ...
        client: Where clients reach it, whatever is cut.
        log: What its processes wrote.
        status: What it said last; None while it does not answer.
        is_paused: Whether it was stopped with SIGSTOP.
    """

    def __init__(self, directory: Path, number: int, base_port: int) -> None:
        self.id = f"n{number}"
        self.client, self.peer, self.admin, self.dialed = (
            f"{LOCAL_HOST}:{base_port + row * _PORT_ROW + number - 1}" for row in range(4)
        )
        self.data = directory / "data" / self.id
        self.log = directory / f"{self.id}.log"
        self.status: NodeStatus | None = None
        self.is_paused = False
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        # Set while this process ends because it was made to.
        self._is_ended = True

    @property
    def config(self) -> Path:
        """Its config file."""
        return self._directory / f"{self.id}.toml"

    @property
    def is_running(self) -> bool:
        """Whether its process exists, paused or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def failure(self) -> str:
        """How its process ended by itself; empty if it runs or was made to end."""
        if self._is_ended or self._process is None or self._process.poll() is None:
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = lines[-1] if lines else "it wrote nothing"
        return f"{self.id} ended by itself with exit code {self._process.returncode}: {last}"

    def can_answer(self) -> bool:
        """Whether there is a process that is not paused."""
        return self.is_running and not self.is_paused

    @property
    def role(self) -> str:
        """What it is, in one word."""
        if not self.is_running:
            return "down"
        if self.is_paused:
            return "paused"
        return self.status.role if self.status is not None else "starting"

    def start(self) -> None:
        """Start its process."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("RAFTKV_")
        }
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for the lab, which decides.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "raftkv", "start", "--config", self.config.name],
                cwd=self._directory, env=node_environment(environment),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        record = ProcessRecord(self._process.pid, identity_of(self._process.pid))
        save_record(self._directory / f"{self.id}.pid", record)
        self._is_ended = self.is_paused = False
        self.status = None

    def _send(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def pause(self) -> None:
        """Stop its process where it is (SIGSTOP)."""
        self._send(signal.SIGSTOP)
        self.is_paused = True
        self.status = None

    def resume(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._send(signal.SIGCONT)
        self.is_paused = False

    def kill(self) -> None:
        """End its process at once (SIGKILL); returns when it is gone."""
        self._is_ended = True
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self.is_paused = False
        self.status = None

    async def stop(self) -> None:
        """Ask its process to end (SIGTERM), and wait; killed if it does not."""
        self._is_ended = True
        self.resume()
        self._send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S_MAX):
                while self.is_running:
                    await asyncio.sleep(_POLL_S)
        self.kill()

    def wipe(self) -> None:
        """Delete its data; it must not run."""
        assert not self.is_running
        shutil.rmtree(self.data, ignore_errors=True)


class LabCluster:
    """All nodes of one lab.

    Args:
        count: How many nodes.
        base_port: First port of the block to take; None for one that is free.

    Attributes:
        directory: Holds everything; deleted at the end.
        keep: Whether it is kept instead.
        links: Between the nodes.
        changed: Called when somebody begins to lead: its node and its term.
    """

    def __init__(self, count: int, *, base_port: int | None = None) -> None:
        base_port = _free_ports(count) if base_port is None else base_port
        self.keep = False
        self.changed: Callable[[LabNode, int], None] = lambda _node, _term: None
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        record = ProcessRecord(os.getpid(), identity_of(os.getpid()))
        save_record(self.directory / _OWNER_FILE, record)
        self.nodes = [LabNode(self.directory, number, base_port) for number in range(1, count + 1)]
        self.links = Links({node.id: Doorway(node.dialed, node.peer) for node in self.nodes})
        self._write_files()
        self._client = AsyncClient(self.clients, deadline_s=_STATUS_S_MAX)
        self._watching: asyncio.Task[None] | None = None
        self._told_term = 0

    def _write_files(self) -> None:
        ensure_peer_secret(self.directory / "data" / PEER_SECRET_NAME)
        members = tuple(
            Member(id=NodeId(node.id), client=node.client, peer=node.dialed) for node in self.nodes
        )
        for node in self.nodes:
            text = render_node_config(
                node_id=node.id,
                data_dir=f"data/{node.id}",
                listen=ListenConfig(client=node.client, peer=node.peer, admin=node.admin),
                members=members,
                peer_secret_file=f"data/{PEER_SECRET_NAME}",
            )
            node.config.write_text(text, encoding="utf-8")

    async def __aenter__(self) -> Self:
        try:
            await self.links.start()
            for node in self.nodes:
                node.start()
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every process and delete the directory, unless it is to be kept."""
        if self._watching is not None:
            self._watching.cancel()
        for node in self.nodes:
            node.kill()
        await self._client.close()
        await self.links.close()
        if self.keep:
            # Nobody owns it any more: the next lab must not clean it up.
            (self.directory / _OWNER_FILE).unlink(missing_ok=True)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)

    # ------------------------------------------------------------------ questions

    @property
    def clients(self) -> list[str]:
        """Addresses for clients."""
        return [node.client for node in self.nodes]

    @property
    def majority(self) -> int:
        """As many as have to agree."""
        return len(self.nodes) // 2 + 1

    @property
    def leader(self) -> LabNode | None:
        """Who led in the newest term when last asked."""
        leaders = [
            (node.status.term, node.id, node)
            for node in self.nodes
            if node.status is not None and node.status.is_leader
        ]
        return max(leaders)[2] if leaders else None

    @property
    def term(self) -> int:
        """The newest term that any node has told."""
        return max((node.status.term for node in self.nodes if node.status is not None), default=0)

    def followers(self) -> list[LabNode]:
        """Return everybody but the leader."""
        return [node for node in self.nodes if node is not self.leader]

    @property
    def failure(self) -> str:
        """Whose process ended by itself; empty if nobody's did."""
        return next((node.failure for node in self.nodes if node.failure), "")

    @property
    def is_whole(self) -> bool:
        """Whether every node runs, follows the same leader, and has applied all of its log."""
        leader = self.leader
        if leader is None or leader.status is None:
            return False
        last = leader.status.last_index
        return all(
            node.status is not None
            and node.status.leader_id == leader.id
            and node.status.term == leader.status.term
            # Under load a status is always a little behind.
            and node.status.applied_index + 200 >= last
            and int(node.status.fields.get("admitted") or 0) == 1
            for node in self.nodes
        )

    async def ask_everybody(self) -> list[NodeStatus]:
        """Ask all nodes about themselves now, a second each at most."""
        client = self._client.within(1.0)
        return await asyncio.gather(*[client.node_status(node.client) for node in self.nodes])

    # ------------------------------------------------------------------- watching

    async def _watch(self) -> None:
        """Ask every node that can answer, several times a second."""
        async with asyncio.TaskGroup() as group:
            for node in self.nodes:
                group.create_task(self._watch_node(node))

    async def _watch_node(self, node: LabNode) -> None:
        while True:
            await asyncio.sleep(_STATUS_S)
            if not node.can_answer():
                continue
            status = await self._client.node_status(node.client)
            if not node.can_answer():
                continue
            node.status = None if status.error else status
            if not status.error and status.is_leader and status.term > self._told_term:
                self._told_term = status.term
                self.changed(node, status.term)


def _free_ports(count: int) -> int:
    """Return a base port whose whole block is free.

    Raises:
        LocalClusterError: There is none.
    """
    # Labs that start at the same time shall not begin with the same block.
    places = list(_PORTS)
    first = os.getpid() % len(places)
    for base_port in places[first:] + places[:first]:
        ports = [base_port + row * _PORT_ROW + node for row in range(4) for node in range(count)]
        if all(is_free(f"{LOCAL_HOST}:{port}") for port in ports):
            return base_port
    raise LocalClusterError(f"no free ports between {_PORTS.start} and {_PORTS.stop}")


def sweep_abandoned() -> list[Path]:
    """End and delete what labs of this user left that were killed; returns their directories."""
    swept = []
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            about = directory.lstat()
            owner = load_record(directory / _OWNER_FILE)
            if directory.is_symlink() or about.st_uid != os.getuid():
                continue
            if owner is None or owner.is_alive():
                continue
            records = [load_record(path) for path in directory.glob("n*.pid")]
            nodes = [record for record in records if record is not None and record.kill()]
            end_s = time.monotonic() + _STOP_S_MAX
            # What still writes would bring the directory back.
            while any(node.is_alive() for node in nodes) and time.monotonic() < end_s:
                time.sleep(_POLL_S)
            shutil.rmtree(directory, ignore_errors=True)
            swept.append(directory)
    return swept

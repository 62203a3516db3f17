"""A cluster whose links, disks and clocks the chaos scripts can hurt.

Every node runs `tests.chaos.node_with_faults`, born by a `tests.chaos.nursery`, in a
network namespace of its own (`tests.chaos.world`), with its data directory on a small
file system of its own, so that it can be full. Beside what `tests.integration.cluster`
gives, a node can lose the power and its disk. Nobody but `HurtNode` changes a data directory.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from raftkv.cluster_files import PEER_SECRET_NAME, ensure_peer_secret, render_node_config
from raftkv.config import ListenConfig
from raftkv.types import Member, NodeId
from tests.chaos.faults import FaultPage
from tests.chaos.nursery import Nursery
from tests.chaos.platter import BALLAST, clear_directory, cut_power, forget_platter
from tests.chaos.world import Links, node_address
from tests.integration.cluster import Cluster, ClusterNode

_CLIENT_PORT, _PEER_PORT, _ADMIN_PORT = 7001, 7101, 7201
# Room for several segments and snapshots of a cluster that keeps little log.
DISK_BYTES = 64 * 1024 * 1024


class HurtNode(ClusterNode):
    """One member.

    Attributes:
        number: From 1; the name of its cable.
        faults: What its disk and its clock do.
        expected_exits: Codes with which its process may end by itself just now.
    """

    def __init__(self, cluster: HurtCluster, number: int, config: Path) -> None:
        super().__init__(cluster, number, config)
        self.number = number
        address = node_address(number)
        self.client, self.peer, self.admin = (
            f"{address}:{port}" for port in (_CLIENT_PORT, _PEER_PORT, _ADMIN_PORT)
        )
        self.faults = FaultPage(cluster.directory / "faults" / self.id)
        self.platter = cluster.directory / "platter" / self.id
        self.expected_exits: tuple[int, ...] = ()
        self._nursery = Nursery(number, cluster.directory / "nursery.log")
        self.data_dir.mkdir(parents=True, mode=0o700)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "none",
             str(self.data_dir)], check=True,
        )  # fmt: skip

    def spawn(self, *overrides: str) -> None:
        assert not self.is_running
        arguments = ["start", "--config", str(self.config)]
        for override in (*self.cluster.overrides, *self.overrides, *overrides):
            arguments += ["--set", override]
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._nursery.start(  # type: ignore[assignment]
            arguments, directory=self.cluster.directory, log=self.log, page=self.faults_path,
            platter=self.platter,
        )  # fmt: skip
        self._paused = False

    @property
    def faults_path(self) -> Path:
        return self.cluster.directory / "faults" / self.id

    @property
    def is_paused(self) -> bool:
        return self.is_running and self._paused

    @property
    def ended_as_expected(self) -> bool:
        """Whether the process runs, was killed, or ended as somebody has caused."""
        code = self.process.poll() if self.process is not None else None
        return code in (None, -signal.SIGKILL, *self.expected_exits)

    def close(self) -> None:
        """End the process and give the file system back."""
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self._nursery.close()
        subprocess.run(["umount", str(self.data_dir)], check=False)

    def cut_power(self, torn: random.Random | None) -> int:
        """Kill the process and lose what was not synced; returns the bytes lost."""
        self.kill()
        return cut_power(self.data_dir, self.platter, torn=torn)

    def wipe(self) -> None:
        """Give a node that does not run an empty disk."""
        assert not self.is_running
        clear_directory(self.data_dir)
        forget_platter(self.platter)

    def fill_disk(self) -> None:
        """Take all the space there is."""
        with (self.data_dir / BALLAST).open("ab", buffering=0) as ballast:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(bytes(size))

    def free_disk(self) -> None:
        (self.data_dir / BALLAST).unlink(missing_ok=True)


class HurtCluster(Cluster):
    """Nodes on private links; only inside of `world.enter`.

    Args:
        directory: Empty.
        size: Number of nodes, 1..9.
        overrides: `section.key=value` for every node.
    """

    nodes: list[HurtNode]  # type: ignore[assignment]

    def __init__(self, directory: Path, *, size: int = 3, overrides: Sequence[str] = ()) -> None:
        self.directory = directory
        self.overrides = tuple(overrides)
        self.base_port = _CLIENT_PORT
        self.links = Links(size, directory)
        self.peer_secret = directory / "data" / PEER_SECRET_NAME
        ensure_peer_secret(self.peer_secret)
        members = tuple(
            Member(
                id=NodeId(f"n{number}"),
                client=f"{node_address(number)}:{_CLIENT_PORT}",
                peer=f"{node_address(number)}:{_PEER_PORT}",
            )
            for number in range(1, size + 1)
        )
        self.nodes = []
        for number, member in enumerate(members, 1):
            config = directory / f"node{number}.toml"
            config.write_text(
                render_node_config(
                    node_id=member.id,
                    data_dir=f"data/{member.id}",
                    listen=ListenConfig(
                        client=member.client,
                        peer=member.peer,
                        admin=f"{node_address(number)}:{_ADMIN_PORT}",
                    ),
                    members=members,
                    peer_secret_file=f"data/{PEER_SECRET_NAME}",
                ),
                encoding="utf-8",
            )
            self.nodes.append(HurtNode(self, number, config))

    def close(self) -> None:
        """End every process and give the file systems back."""
        for node in self.nodes:
            node.close()
        self.links.close()

    def relieve(self) -> None:
        """Take every fault away; who does not run stays down."""
        self.links.mend()
        self.links.unshape()
        for node in self.nodes:
            node.faults.clear()
            node.free_disk()
            node.resume()

    @property
    def majority(self) -> int:
        return len(self.nodes) // 2 + 1

    def leader_or_any(self, dice: random.Random) -> HurtNode:
        """Return the leader; while there is none, any node that runs."""
        leader = self.leader()
        if isinstance(leader, HurtNode):
            return leader
        return dice.choice([node for node in self.nodes if node.is_running] or self.nodes)

    def keep_data(self, target: Path) -> None:
        """Copy the data directories out, before their file systems go."""
        target.mkdir(exist_ok=True)
        for node in self.nodes:
            if os.path.ismount(node.data_dir):
                subprocess.run(["cp", "-r", str(node.data_dir), str(target)], check=False)

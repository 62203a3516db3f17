"""A network of their own for the nodes, whose links can be cut, slowed and made lossy.

`enter` moves the process into private network and mount namespaces, as root or in a
user namespace: nothing it does there is seen by the machine, and all of it ends with
the process, however that ends. There every node gets a namespace with one cable to a
hub, which routes. The clients live in the hub, so they reach every node always.

* A cut drops the packets of one direction, silently, as a broken switch does: a policy
  rule of the hub (`from A to B blackhole`). Connections stay, and go on after the cut.
* Delay and loss: a rule sends the packets of one direction to a tunnel device, where
  `tests.chaos.shaper` holds them back or loses them. No netem is needed.

Why namespaces and not proxies: what is dropped are packets, not bytes of a connection
that a proxy has acknowledged, and the peers see each other's true addresses, which the
first leader writes into the log.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_INSIDE = "CHAOS_WORLD"
_DIE_WITH_PARENT = 1
_CUT_PRIORITY = 80
_SHAPE_PRIORITY = 90
_SHAPED_TABLE = 101

Direction = tuple[int, int]


def _unshare() -> list[str]:
    private = ["unshare", "--net", "--mount"]
    return private if os.geteuid() == 0 else [*private, "--user", "--map-root-user"]


@cache
def why_impossible() -> str:
    """Return why there can be no such network here; empty if there can."""
    for tool in ("unshare", "nsenter", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is missing (packages util-linux and iproute2)"
    probe = (
        "mount -t tmpfs none /run && ip netns add a && ip link add v0 type veth peer name v1 "
        "netns a && ip tuntap add t0 mode tun && ip rule add from 10.1.1.1 to 10.1.1.2 blackhole"
    )
    done = subprocess.run(
        [*_unshare(), "sh", "-c", probe], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else f"no private network here: {done.stderr.strip()}"


def enter() -> None:
    """Run this script once more inside of private namespaces; returns there only.

    Does nothing where only the help is wanted.
    """
    if os.environ.get(_INSIDE) or {"-h", "--help"} & set(sys.argv[1:]):
        return
    problem = why_impossible()
    if problem:
        print(f"FAILED {Path(sys.argv[0]).stem}: {problem}", file=sys.stderr)
        raise SystemExit(2)
    os.environ[_INSIDE] = "1"
    sys.stdout.flush()
    command = [*_unshare(), sys.executable, *sys.argv]
    os.execvp(command[0], command)


def die_with_parent() -> None:
    """For `preexec_fn`: a process started here must not outlive the script."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, 9)


def node_address(number: int) -> str:
    """Address of a node, by its number from 1."""
    return f"10.77.{number}.2"


class Links:
    """The cables between nodes, by the numbers of the nodes.

    Args:
        count: Nodes 1..count.
        directory: For the log of the shaper.
    """

    def __init__(self, count: int, directory: Path) -> None:
        self._numbers = range(1, count + 1)
        self._cut: set[Direction] = set()
        self._shaped: set[Direction] = set()
        self._log = directory / "shaper.log"
        self._shaper: subprocess.Popen[str] | None = None
        self._build()

    def _build(self) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self._ip("link set lo up", *(f"netns add n{number}" for number in self._numbers))
        for number in self._numbers:
            hub = f"10.77.{number}.1"
            self._ip(
                f"link add v{number} type veth peer name cable netns n{number}",
                f"addr add {hub}/30 dev v{number}",
                f"link set v{number} up",
            )
            subprocess.run(
                ["ip", "-n", f"n{number}", "-batch", "-"], check=True, text=True,
                input=f"addr add {node_address(number)}/30 dev cable\nlink set cable up\n"
                f"link set lo up\nroute add default via {hub}\n",
            )  # fmt: skip

    def close(self) -> None:
        if self._shaper is not None:
            self._shaper.kill()
            self._shaper.wait()

    @staticmethod
    def inside(number: int) -> list[str]:
        """Return what to put before a command so that it runs on the network of a node."""
        return ["nsenter", f"--net=/run/netns/n{number}"]

    @property
    def directions(self) -> list[Direction]:
        return list(itertools.permutations(self._numbers, 2))

    # --------------------------------------------------------------------- cuts

    def cut(self, directions: Iterable[Direction]) -> None:
        """Drop every packet in these directions from now on."""
        fresh = sorted(set(directions) - self._cut)
        self._ip(*(f"rule add {self._cut_rule(one)}" for one in fresh))
        self._cut.update(fresh)

    def cut_apart(self, *groups: Iterable[int]) -> None:
        """Drop every packet between nodes of different groups; who is in none is left alone."""
        sets = [set(group) for group in groups]
        self.cut(
            (source, target)
            for one, other in itertools.permutations(sets, 2)
            for source in one
            for target in other
        )

    def mend(self, directions: Iterable[Direction] | None = None) -> None:
        """Let packets through again; without an argument, everywhere."""
        gone = sorted(self._cut if directions is None else set(directions) & self._cut)
        self._ip(*(f"rule del {self._cut_rule(one)}" for one in gone))
        self._cut.difference_update(gone)

    @staticmethod
    def _cut_rule(direction: Direction) -> str:
        source, target = direction
        return (
            f"priority {_CUT_PRIORITY} from {node_address(source)} to {node_address(target)} "
            "blackhole"
        )

    # ----------------------------------------------------------- delay and loss

    def shape(
        self,
        directions: Iterable[Direction],
        *,
        delay_ms: float,
        jitter_ms: float = 0.0,
        loss: float = 0.0,
        duplicates: float = 0.0,
    ) -> None:
        """Hold packets back, each by itself, so that jitter reorders; lose and double some.

        Args:
            directions: The others stay as they are.
            delay_ms: At least.
            jitter_ms: At most so much more.
            loss: Share of the packets.
            duplicates: Share of the packets.
        """
        directions = list(directions)
        self._tell({
            f"{node_address(source)}>{node_address(target)}": [
                delay_ms, jitter_ms, loss, duplicates
            ]
            for source, target in directions
        })  # fmt: skip
        fresh = sorted(set(directions) - self._shaped)
        self._ip(*(f"rule add {self._shape_rule(one)}" for one in fresh))
        self._shaped.update(fresh)

    def unshape(self) -> None:
        """Let packets take the short way again; what is held back still arrives."""
        self._ip(*(f"rule del {self._shape_rule(one)}" for one in sorted(self._shaped)))
        self._shaped.clear()

    @staticmethod
    def _shape_rule(direction: Direction) -> str:
        source, target = direction
        return (
            f"priority {_SHAPE_PRIORITY} iif v{source} from {node_address(source)} "
            f"to {node_address(target)} lookup {_SHAPED_TABLE}"
        )

    def _tell(self, links: dict[str, list[float]]) -> None:
        if self._shaper is None or self._shaper.poll() is not None:
            with self._log.open("a") as log:
                self._shaper = subprocess.Popen(
                    [sys.executable, "-m", "tests.chaos.shaper"], cwd=ROOT, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                    preexec_fn=die_with_parent,
                )  # fmt: skip
            assert self._shaper.stdout is not None
            device = self._shaper.stdout.readline().strip()
            assert device, f"the shaper does not start: {self._log.read_text()}"
            self._ip(f"link set {device} up")
            for interface in ("all", device):
                Path(f"/proc/sys/net/ipv4/conf/{interface}/rp_filter").write_text("0")
            self._ip(f"route replace default dev {device} table {_SHAPED_TABLE}")
        assert self._shaper.stdin is not None
        self._shaper.stdin.write(json.dumps(links) + "\n")
        self._shaper.stdin.flush()

    @staticmethod
    def _ip(*commands: str) -> None:
        """Run commands of ip(8) in one process."""
        if commands:
            text = "\n".join(commands) + "\n"
            subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True)

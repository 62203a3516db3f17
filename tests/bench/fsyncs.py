"""Whether an acknowledged write was synced: system calls counted from outside.

strace counts the fdatasync and fsync calls of every process of a contender while writes
are acknowledged, in a run of its own, since tracing slows everything. With one client,
each write is a batch of its own: each must cost one sync on a majority of the nodes.
With many clients, the number tells how many writes share a sync.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from typing import Any

from tests.bench.contenders import Contender
from tests.bench.loads import CannotAskError, Loader, Workload

ATTACH_S = 20.0
_CALLS = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)

ONE_CLIENT = Workload(name="SET, 1 client", clients=1)
MANY_CLIENTS = Workload(name="SET, 50 clients", clients=50)


class Tracer:
    """Counts the syncs of one process and its threads."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process = subprocess.Popen(
            ["strace", "-f", "-c", "-e", "trace=fdatasync,fsync,sync_file_range", "-p", str(pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._wait_until_attached()

    def _wait_until_attached(self) -> None:
        end_s = time.monotonic() + ATTACH_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with open(f"/proc/{self._pid}/status", encoding="ascii") as status:
                if f"TracerPid:\t{self._process.pid}\n" in status.read():
                    return
            time.sleep(0.02)
        self._process.kill()
        raise RuntimeError(f"strace cannot attach: {self._process.communicate()[1]}")

    def end(self) -> int:
        """Detach; returns how many syncs there were."""
        self._process.send_signal(signal.SIGINT)
        _, text = self._process.communicate(timeout=60)
        return sum(int(count) for count, name in _CALLS.findall(text) if name != "total")


def count_syncs(contender: Contender, seconds: float) -> dict[str, Any] | None:
    """Return syncs a write of every process, with one and with many clients.

    None where nothing can be counted: no strace, or no process that lives on.
    """
    if shutil.which("strace") is None or not contender.processes():
        return None
    found: dict[str, Any] = {}
    for workload in (ONE_CLIENT, MANY_CLIENTS):
        try:
            found[workload.name] = _count(contender, workload, seconds)
        except CannotAskError:
            return None
    return found


def _count(contender: Contender, workload: Workload, seconds: float) -> dict[str, float]:
    loader = CountingLoader(seconds)
    tracers = {part: Tracer(pid) for part, pid in contender.processes().items()}
    loader.measure(contender, workload, 0)
    syncs = {part: tracer.end() for part, tracer in tracers.items()}
    return {part: round(count / loader.writes, 3) for part, count in syncs.items()}


class CountingLoader(Loader):
    """A loader which also knows how many writes were acknowledged."""

    writes = 0

    def measure(self, contender: Contender, workload: Workload, number: int) -> Any:
        """Load one contender for one turn; RESP by the program that counts everything."""
        measured = (
            self.of_bench(contender, workload, number)
            if contender.speaks == "resp"
            else super().measure(contender, workload, number)
        )
        self.writes = max(1, measured.succeeded)
        return measured


def verdict(contender: Contender, counted: dict[str, Any] | None) -> str:
    """Say in one cell what the counts mean."""
    if counted is None:
        return "not counted" if contender.fsyncs else "none promised"
    per_write = sorted(counted[ONE_CLIENT.name].values(), reverse=True)
    majority = len(per_write) // 2 + 1
    # A write that meets the end of a run is counted on one side only.
    synced = per_write[majority - 1] >= 0.98
    shown = ", ".join(f"{count:.2f}" for count in per_write)
    shared = max(counted[MANY_CLIENTS.name].values())
    batch = f"; 50 clients: {1 / shared:.0f} writes a sync" if shared else ""
    if synced:
        return f"yes: {shown} a write{batch}"
    return f"no: {shown} a write" if not contender.fsyncs else f"**NO**: {shown} a write{batch}"

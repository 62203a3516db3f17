"""What a thousand watchers and a thousand idle connections cost the other clients.

    python -m tests.bench.watchers [--watchers 1000] [--idle 1000] [--rounds 3] [--seconds 5]

One cluster, and in each round three spans by turns, in which a client asks the leader at
fixed times (`latency_probe`): `alone`, the control; `crowd`, with all these connections
on the leader, whose watchers look for keys that nobody writes; and `told`, in which each
second one key changes that all of them watch. What counts is the difference to the
control of the same round; processor time a command is that of the leader's process.

Exit code 1 when the median of the differences of the 99th percentile is 10 ms or more.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.latency_probe import LatencyProbe
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import Wire

LIMIT_MS = 10.0
# A busy machine shall not lose its leader meanwhile.
PATIENT = ("timing.election_timeout_ms=[3000,6000]",)
SPANS = ("alone", "crowd", "told")
_TICKS_S = os.sysconf("SC_CLK_TCK")


class Crowd:
    """Connections that wait, and a thread that reads what they are told.

    Attributes:
        bytes_told: What came.
    """

    def __init__(self, address: str, *, watchers: int, idle: int) -> None:
        self.bytes_told = 0
        self._wires = [Wire(address) for _ in range(watchers + idle)]
        self._poll = select.epoll()
        for number, wire in enumerate(self._wires[:watchers]):
            wire.call("HELLO", 3)
            wire.call("KV", "WATCH", "KEY", f"nobody writes {number}")
            wire.call("KV", "WATCH", "KEY", "told to all")
            self._poll.register(wire.socket, select.EPOLLIN)
        self._sockets = {wire.socket.fileno(): wire.socket for wire in self._wires}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            for number, _ in self._poll.poll(0.05):
                self.bytes_told += len(self._sockets[number].recv(65536))

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._poll.close()
        for wire in self._wires:
            wire.close()


@contextmanager
def _telling(address: str) -> Iterator[None]:
    """Change the key that all watch, once a second."""
    ended = threading.Event()

    def tell() -> None:
        with Wire(address) as wire:
            while not ended.wait(1.0):
                wire.call("SET", "told to all", "news")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def processor_s(node: ClusterNode) -> float:
    """Return the processor time that a node has used."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def measure(leader: ClusterNode, seconds: float) -> dict[str, float]:
    """Ask for some seconds; return percentiles in ms and processor time a command in us."""
    before_s = processor_s(leader)
    with LatencyProbe(leader.client) as probe:
        time.sleep(seconds)
    used_s = processor_s(leader) - before_s
    latencies = sorted(latency_ms for _, latency_ms in probe.samples)
    return {
        "p50": statistics.median(latencies),
        "p99": latencies[int(len(latencies) * 0.99)],
        "max": latencies[-1],
        "us": used_s / len(latencies) * 1e6,
    }


def run(options: argparse.Namespace, cluster: Cluster) -> dict[str, list[dict[str, float]]]:
    """Measure every span in every round."""
    leader = cluster.wait_until_settled()
    found: dict[str, list[dict[str, float]]] = {span: [] for span in SPANS}
    for _ in range(options.rounds):
        found["alone"].append(measure(leader, options.seconds))
        crowd = Crowd(leader.client, watchers=options.watchers, idle=options.idle)
        try:
            found["crowd"].append(measure(leader, options.seconds))
            with _telling(leader.client):
                found["told"].append(measure(leader, options.seconds))
        finally:
            crowd.close()
        assert crowd.bytes_told > 0, "nobody was told anything"
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--watchers", type=int, default=1000, metavar="N")
    parser.add_argument("--idle", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), overrides=PATIENT) as cluster,
    ):
        cluster.start()
        found = run(options, cluster)
    worst = 0.0
    for span in SPANS:
        medians = {
            name: statistics.median(one[name] for one in found[span]) for name in found[span][0]
        }
        extra = statistics.median(
            one["p99"] - control["p99"]
            for one, control in zip(found[span], found["alone"], strict=True)
        )
        worst = max(worst, extra)
        print(
            f"{span:6} p50 {medians['p50']:6.2f} ms  p99 {medians['p99']:6.2f} ms  "
            f"max {medians['max']:6.2f} ms  leader {medians['us']:5.0f} us a command  "
            f"p99 {extra:+.2f} ms"
        )
    return 1 if worst >= LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a thousand watchers and a thousand idle connections cost the other clients.

    python -m tests.bench.watchers [--watchers 1000] [--idle 1000] [--rounds 5] [--tellings 20]

One cluster, and in each round three spans by turns, in which a client asks the leader at
fixed times (`latency_probe`) while three times a second another one changes a key:
`alone`, the control, where nobody watches it; `crowd`, with all these connections on the
leader, whose watchers look for other keys; and `told`, where all of them watch it.

What counts is the longest wait in the moments behind a change: the median of a span is
hardly moved by what else the machine does, and the difference to the control of the same
round is what the crowd costs. Processor time a command is that of the leader's process.

Exit code 1 when the median of the differences is 10 ms or more.
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
from pathlib import Path

from tests.bench.latency_probe import LatencyProbe
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import Wire

LIMIT_MS = 10.0
# A busy machine shall not lose its leader meanwhile.
PATIENT = ("timing.election_timeout_ms=[3000,6000]",)
SPANS = ("alone", "crowd", "told")
WATCHED, UNWATCHED = "told to all", "told to nobody"
# Between changes, and how long behind one its cost is looked for.
PAUSE_S, BEHIND_S = 0.15, 0.2
_MESSAGE = b"events"
_TICKS_S = os.sysconf("SC_CLK_TCK")


class Crowd:
    """Connections that wait, and a thread that reads what they are told.

    Attributes:
        count: Messages that came.
        last_told_s: When the newest one came, on the monotonic clock.
    """

    def __init__(self, address: str, *, watchers: int, idle: int) -> None:
        self.count = 0
        self.last_told_s = 0.0
        self._wires = [Wire(address) for _ in range(watchers + idle)]
        self._poll = select.epoll()
        for number, wire in enumerate(self._wires[:watchers]):
            wire.call("HELLO", 3)
            wire.call("KV", "WATCH", "KEY", f"nobody writes {number}")
            wire.call("KV", "WATCH", "KEY", WATCHED)
            self._poll.register(wire.socket, select.EPOLLIN)
        self._sockets = {wire.socket.fileno(): wire.socket for wire in self._wires}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ended.is_set():
            for number, _ in self._poll.poll(0.05):
                # One message at a time, too small to come in two parts; or of progress.
                count = self._sockets[number].recv(65536).count(_MESSAGE)
                if count:
                    self.count += count
                    self.last_told_s = time.monotonic()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._poll.close()
        for wire in self._wires:
            wire.close()


def processor_s(node: ClusterNode) -> float:
    """Return the processor time that a node has used."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def measure(leader: ClusterNode, key: str, tellings: int, crowd: Crowd | None) -> dict[str, float]:
    """Change a key some times; return what the other clients waited for, in ms.

    Returns:
        `behind`, the median of the longest waits behind a change; `p50` and `p99` of all
        requests; `last`, until the last watcher was told; `us`, processor time a command.
    """
    told_at: list[float] = []
    last_ms: list[float] = []
    before_s = processor_s(leader)
    with LatencyProbe(leader.client) as probe, Wire(leader.client) as wire:
        for _ in range(tellings):
            time.sleep(PAUSE_S)
            told_at.append(time.monotonic())
            wire.call("SET", key, "news")
            time.sleep(BEHIND_S)
            if crowd is not None:
                last_ms.append((crowd.last_told_s - told_at[-1]) * 1000)
    used_s = processor_s(leader) - before_s
    latencies = sorted(latency_ms for _, latency_ms in probe.samples)
    behind = [
        max(wait_ms for due_s, wait_ms in probe.samples if 0 <= due_s - at_s < BEHIND_S)
        for at_s in told_at
    ]
    return {
        "behind": statistics.median(behind),
        "p50": statistics.median(latencies),
        "p99": latencies[int(len(latencies) * 0.99)],
        "last": max(0.0, statistics.median(last_ms)) if last_ms else 0.0,
        "us": used_s / len(latencies) * 1e6,
    }


def run(options: argparse.Namespace, cluster: Cluster) -> dict[str, list[dict[str, float]]]:
    """Measure every span in every round."""
    leader = cluster.wait_until_settled()
    found: dict[str, list[dict[str, float]]] = {span: [] for span in SPANS}
    count = options.tellings
    for _ in range(options.rounds):
        found["alone"].append(measure(leader, UNWATCHED, count, None))
        crowd = Crowd(leader.client, watchers=options.watchers, idle=options.idle)
        try:
            found["crowd"].append(measure(leader, UNWATCHED, count, None))
            found["told"].append(measure(leader, WATCHED, count, crowd))
        finally:
            crowd.close()
        assert crowd.count == options.watchers * count, "somebody was not told everything"
    return found


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--watchers", type=int, default=1000, metavar="N")
    parser.add_argument("--idle", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--tellings", type=int, default=20, metavar="N", help="in each span")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory), overrides=PATIENT) as cluster,
    ):
        cluster.start()
        found = run(options, cluster)
    worst_ms = 0.0
    for span in SPANS:
        medians = {
            name: statistics.median(one[name] for one in found[span]) for name in found[span][0]
        }
        extra_ms = statistics.median(
            one["behind"] - control["behind"]
            for one, control in zip(found[span], found["alone"], strict=True)
        )
        worst_ms = max(worst_ms, extra_ms)
        print(
            f"{span:6} behind a change {medians['behind']:6.2f} ms ({extra_ms:+.2f})  "
            f"all p50 {medians['p50']:5.2f} ms  p99 {medians['p99']:6.2f} ms  "
            f"last told {medians['last']:5.1f} ms  leader {medians['us']:4.0f} us a command"
        )
    return 1 if worst_ms >= LIMIT_MS else 0


if __name__ == "__main__":
    sys.exit(main())

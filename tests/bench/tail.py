"""The long tail: what long-running work does to those who ask something small meanwhile.

    python -m tests.bench.tail --out DIR [--rounds 3] [--keys 1000000] [--works a,b] [--quick]

Three nodes hold a million keys, and a client asks the leader at fixed times. Each work -
a snapshot, the sending of one to a wiped node, a node that catches up, the expiry of
100,000 keys at one moment, KEYS and SCAN, 1,000 clients idle and busy, FLUSHALL - comes
after a control run in which nothing else is done, again and again. Judged:

* the longest piece of work on a loop, in processor time of its thread, of any node;
* p99.9 of the lateness of the loop, of the node where it is worst, over the control's;
* p99.9 of the client's latency, over the control's.

Writes tail.json, tail.md and tail.png to DIR; the exit code is 1 when a limit is not
kept. About five minutes for three rounds. --quick tries everything with few keys.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import plots, report
from tests.bench.contenders import RaftKv, running
from tests.bench.goals import Goal
from tests.bench.latency_probe import LatencyProbe
from tests.bench.ports import Ports
from tests.bench.probed_node import COLLECTOR, LAG, PROBE_FILE, WRITE_S, read_probes
from tests.bench.report import Spread
from tests.bench.tail_works import Sizes, Works
from tests.integration.cluster import Cluster, ClusterNode

SLICE_MS_MAX = 5.0
OVER_CONTROL_MS_MAX = 10.0
REAL = Sizes(keys=1_000_000, mortal=100_000, away=100_000, clients=1000, control_s=6.0, busy_s=6.0)
QUICK = Sizes(keys=3_000, mortal=300, away=500, clients=30, control_s=0.5, busy_s=0.5)


@dataclass(frozen=True, kw_only=True)
class Window:
    """What was seen in one stretch of time.

    Attributes:
        slice_ms: Longest piece of work on any loop, in processor time.
        slice_name: Whose it was: the work, and the node.
        collector_ms: Longest pass of the garbage collector.
    """

    seconds: float
    slice_ms: float
    slice_name: str
    collector_ms: float
    lag_p99_9_ms: float
    latency_p50_ms: float
    latency_p99_9_ms: float
    latency_max_ms: float
    requests: int
    errors: list[str]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One work, and the control run before it."""

    work: str
    round: int
    control: Window
    busy: Window

    @property
    def lag_over_ms(self) -> float:
        return self.busy.lag_p99_9_ms - self.control.lag_p99_9_ms

    @property
    def latency_over_ms(self) -> float:
        return self.busy.latency_p99_9_ms - self.control.latency_p99_9_ms


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest of the values that `percent` of them do not exceed."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


# --------------------------------------------------------------------- the watch


class WatchedRaftKv(RaftKv):
    """A cluster with a watch on every loop."""

    def prepare(self, cluster: Cluster) -> None:
        for node in cluster.nodes:
            node.module = "tests.bench.probed_node"
            node.environment = {PROBE_FILE: str(probe_file(node))}


def probe_file(node: ClusterNode) -> Path:
    """Return where a watched node writes what it sees."""
    return node.cluster.directory / f"{node.id}.probe"


def watch(ours: WatchedRaftKv, work: Callable[[], object]) -> Window:
    """Let a work run, while a client asks the leader."""
    with LatencyProbe(ours.address) as probe:
        begin_s = time.monotonic()
        work()
        end_s = time.monotonic()
    # Then the nodes have written what they saw.
    time.sleep(2 * WRITE_S)
    latencies = [latency_ms for due_s, latency_ms in probe.samples if due_s >= begin_s]
    longest, collector_ms, lag_ms = (0.0, "none"), 0.0, 0.0
    for node in ours.cluster.nodes:
        lags = []
        for at_s, name, took_ms in read_probes(probe_file(node)):
            if not begin_s <= at_s <= end_s:
                continue
            if name == LAG:
                lags.append(took_ms)
            elif name == COLLECTOR:
                collector_ms = max(collector_ms, took_ms)
            else:
                longest = max(longest, (took_ms, f"{name}, {node.id}"))
        lag_ms = max(lag_ms, percentile(lags, 99.9))
    return Window(
        seconds=end_s - begin_s, slice_ms=longest[0], slice_name=longest[1],
        collector_ms=collector_ms, lag_p99_9_ms=lag_ms,
        latency_p50_ms=percentile(latencies, 50), latency_p99_9_ms=percentile(latencies, 99.9),
        latency_max_ms=max(latencies, default=0.0), requests=len(latencies), errors=probe.errors,
    )  # fmt: skip


def measure(ours: WatchedRaftKv, options: argparse.Namespace) -> list[Turn]:
    """Make the rounds."""
    sizes: Sizes = options.sizes
    works = Works(ours, sizes)
    turns = []
    for number in range(1, options.rounds + 1):
        works.refill()
        for name, work in works.by_name().items():
            if options.works and name not in options.works:
                continue
            control = watch(ours, lambda: time.sleep(sizes.control_s))
            work.prepare()
            turn = Turn(work=work.title, round=number, control=control, busy=watch(ours, work.run))
            turns.append(turn)
            print(
                f"{turn.work}: {turn.busy.seconds:.1f} s, slice {turn.busy.slice_ms:.1f} ms "
                f"({turn.busy.slice_name}), lag {turn.busy.lag_p99_9_ms:.1f} "
                f"({control.lag_p99_9_ms:.1f}) ms, latency {turn.busy.latency_p99_9_ms:.1f} "
                f"({control.latency_p99_9_ms:.1f}) ms, {len(turn.busy.errors)} errors",
                file=sys.stderr, flush=True,
            )  # fmt: skip
    return turns


# -------------------------------------------------------------------- the verdict


def by_work(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Return the rounds of each work."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.work, []).append(turn)
    return found


def judge(turns: Sequence[Turn]) -> list[Goal]:
    """Hold the rounds against the limits; three lines a work."""
    goals = []
    for work, rounds in by_work(turns).items():
        slowest = max((one.busy for one in rounds), key=lambda window: window.slice_ms)
        lag, latency = (
            " ms, control ".join(
                f"{Spread.of([getattr(window, name) for window in windows]).median:.1f}"
                for windows in ([one.busy for one in rounds], [one.control for one in rounds])
            )
            for name in ("lag_p99_9_ms", "latency_p99_9_ms")
        )
        goals += [
            Goal(f"{work}: longest slice in ms of processor time",
                 f"longest: {slowest.slice_name}; collector {slowest.collector_ms:.1f} ms",
                 Spread.of([one.busy.slice_ms for one in rounds]), SLICE_MS_MAX, at_most=True),
            Goal(f"{work}: p99.9 of the loop's lag over the control in ms", f"{lag} ms",
                 Spread.of([one.lag_over_ms for one in rounds]), OVER_CONTROL_MS_MAX,
                 at_most=True),
            Goal(f"{work}: p99.9 of a client's latency over the control in ms", f"{latency} ms",
                 Spread.of([one.latency_over_ms for one in rounds]), OVER_CONTROL_MS_MAX,
                 at_most=True),
        ]  # fmt: skip
    return goals


def make_page(facts: dict[str, Any], goals: Sequence[Goal]) -> str:
    """Return the Markdown page."""
    judged = (
        "A trial run: nothing here is a measurement." if facts["quick"]
        else f"{sum(one.is_met for one in goals)} of {len(goals)} limits kept."
    )  # fmt: skip
    return "\n".join([
        "# Long tail\n",
        report.machine_line(facts["machine"]) + "\n",
        f"{facts['rounds']} rounds, each work behind a control run without it; a value is the "
        f"median of the rounds, with the smallest and the largest. {facts['sizes']['keys']:,} "
        f"keys, values of 100 B, 3 nodes, sync = always; the client got "
        f"{facts['errors']} errors. {judged}\n",
        report.table(["work", "figures", "value (spread)", "limit", ""],
                     [one.row() for one in goals]),
    ])  # fmt: skip


def run(options: argparse.Namespace) -> bool:
    """Measure, judge, write; returns whether every limit is kept."""
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name:
        directory = Path(name)
        facts: dict[str, Any] = {"machine": report.machine(directory)}
        ours = WatchedRaftKv(3)
        with running([ours], directory, Ports()):
            turns = measure(ours, options)
    goals = judge(turns)
    facts |= {
        "rounds": options.rounds, "quick": options.quick,
        "sizes": dataclasses.asdict(options.sizes),
        "errors": sum(len(one.control.errors) + len(one.busy.errors) for one in turns),
        "goals": [dataclasses.asdict(one) | {"met": one.is_met} for one in goals],
        "turns": [dataclasses.asdict(one) for one in turns],
    }  # fmt: skip
    report.save(options.out, "tail", facts, make_page(facts, goals))
    plots.plot_tail(
        {
            work: [(one.control.latency_p99_9_ms, one.busy.latency_p99_9_ms) for one in rounds]
            for work, rounds in by_work(turns).items()
        },
        {work: [one.busy.slice_ms for one in rounds] for work, rounds in by_work(turns).items()},
        options.out / "tail.png",
    )
    return all(one.is_met for one in goals)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=None, help="default 3; 1 with --quick")
    parser.add_argument("--keys", type=int, default=None, help="default 1000000")
    parser.add_argument("--works", default="", metavar="WORK,...", help="default: all")
    parser.add_argument("--quick", action="store_true", help="try everything, judge nothing")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 3)
    options.sizes = QUICK if options.quick else REAL
    if options.keys:
        options.sizes = dataclasses.replace(options.sizes, keys=options.keys)
    options.works = options.works.split(",") if options.works else []
    return 0 if run(options) or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())

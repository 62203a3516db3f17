"""The goals for speed, measured in one interleaved run and judged line by line.

    python -m tests.bench.goals --out DIR [--rounds 5] [--seconds 3] [--quick]

Every round has: raftkv (3 nodes, sync = always), Redis (one node, appendfsync always),
etcd (3 nodes) and raw PySyncObj (its best setting) at every workload of the table; the
price of a sync and of a round trip; an open loop at half of the peak just measured, with
a snapshot of every node inside, beside an echo server under the same load. Then the
leader is killed again and again, and the memory of the nodes of a fresh cluster is
compared with what it was when they were empty.

Writes goals.json, goals.md and plots to DIR; the exit code is 1 when a goal is not met
or cannot be measured. About four minutes a round, of which the open loops take two.
--quick tries everything in a minute and judges nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import plots, report
from tests.bench.contenders import (
    Contender,
    Echo,
    Etcd,
    RaftKv,
    RawSyncObj,
    Redis,
    running,
)
from tests.bench.fsyncs import count_syncs, verdict
from tests.bench.loads import KEYS, Loader, Measurement, Workload, fill
from tests.bench.ports import Ports
from tests.bench.probes import Probe, probe
from tests.bench.report import Spread
from tests.bench.run import measure_rounds
from tests.integration.cluster import ROOT, Cluster
from tests.integration.wire import Wire, encode

SET_50 = Workload(name="SET, 50 clients")
SET_50_DEEP = Workload(name="SET, 50 clients, pipeline 16", pipeline=16)
GET_50 = Workload(name="GET, 50 clients", kind="get")
GET_50_DEEP = Workload(name="GET, 50 clients, pipeline 16", kind="get", pipeline=16)
SET_1 = Workload(name="SET, 1 client", clients=1)
WORKLOADS = (SET_50, SET_50_DEEP, GET_50, GET_50_DEEP)
SNAPSHOT_AT = 0.35  # of the open loop
SNAPSHOT_S_MAX = 300.0
MEGABYTE = 1_000_000
_GAP = re.compile(r"in flight: (\d+) ms")

OURS, REDIS, ETCD, LIBRARY = "raftkv-3", "redis-always", "etcd", "pysyncobj-tuned"
# Workload, whom it is compared with, the least ratio.
RATIOS = (
    (SET_50, ETCD, 5.0), (SET_50, REDIS, 0.5), (SET_50_DEEP, REDIS, 0.45),
    (GET_50, ETCD, 5.0), (GET_50, REDIS, 0.6), (GET_50_DEEP, REDIS, 0.65),
    (SET_50, LIBRARY, 5.0),
)  # fmt: skip
FDATASYNCS, ROUND_TRIPS = 2.5, 4
P99_TIMES = 3.0
P99_9_MS_MAX = 20.0
GAP_MEDIAN_S_MAX, GAP_S_MAX = 0.5, 1.0
MEMORY_MB_MAX = 60.0
# Behind the start, or the last write: what is freed then goes back to the system a second later.
SETTLE_S = 4.0


@dataclass(frozen=True)
class Goal:
    """One line: what was found, what is wanted.

    Attributes:
        figure: The numbers behind it, for people.
        value: Over the rounds; None when it could not be measured.
        wanted: The least value, or the most where `at_most`.
    """

    name: str
    figure: str
    value: Spread | None
    wanted: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        if self.value is None:
            return False
        median = self.value.median
        return median <= self.wanted if self.at_most else median >= self.wanted

    @property
    def share(self) -> float:
        """Part of the goal that is reached; 1 and more when it is met."""
        if self.value is None:
            return 0.0
        median = self.value.median
        return (self.wanted / median if median else 2.0) if self.at_most else median / self.wanted

    def row(self) -> list[str]:
        sign = "at most" if self.at_most else "at least"
        value = "-" if self.value is None else self.value.text()
        return [self.name, self.figure, value, f"{sign} {self.wanted:g}",
                "met" if self.is_met else "**not met**"]  # fmt: skip


# ------------------------------------------------------------------- throughput


def ratio_goals(measurements: Sequence[Measurement], absent: dict[str, str]) -> list[Goal]:
    """Judge throughput against the others."""
    goals = []
    for workload, other, wanted in RATIOS:
        name = f"{workload.name}: times {other}"
        value = report.ratio(measurements, workload.name, OURS, other)
        if value is None:
            figure = absent.get(other, "not measured")
        else:
            rates = [
                Spread.of([one.rate for one in
                           report.of_rounds(measurements, who, workload.name).values()]).median
                for who in (OURS, other)
            ]  # fmt: skip
            figure = f"{rates[0]:,.0f}/s to {rates[1]:,.0f}/s"
        goals.append(Goal(name, figure, value, wanted))
    return goals


def single_goals(turns: Sequence[tuple[Measurement, Probe]]) -> list[Goal]:
    """Judge the latency of one client by what the machine took in the same round."""
    floors = [
        FDATASYNCS * one.fdatasync_p50_ms + ROUND_TRIPS * one.round_trip_p50_ms for _, one in turns
    ]
    p50 = Spread.of([set_.p50_ms for set_, _ in turns])
    p99 = Spread.of([set_.p99_ms for set_, _ in turns])
    sync = Spread.of([one.fdatasync_p50_ms for _, one in turns])
    trip = Spread.of([one.round_trip_p50_ms for _, one in turns])
    slow_sync = Spread.of([one.fdatasync_p99_ms for _, one in turns])
    return [
        Goal(
            "SET, 1 client: p50 over 2.5 fdatasync + 4 round trips",
            f"p50 {p50.median:.2f} ms; fdatasync {sync.median:.3f} ms (3 writers), "
            f"round trip {trip.median:.3f} ms",
            Spread.of([
                set_.p50_ms / floor for (set_, _), floor in zip(turns, floors, strict=True)
            ]),
            1.0, at_most=True,
        ),
        Goal(
            "SET, 1 client: p99 over the larger of p50 and the fdatasync's p99",
            f"p99 {p99.median:.2f} ms; fdatasync p99 {slow_sync.median:.2f} ms",
            Spread.of([
                set_.p99_ms / max(set_.p50_ms, one.fdatasync_p99_ms) for set_, one in turns
            ]),
            P99_TIMES, at_most=True,
        ),
    ]  # fmt: skip


# -------------------------------------------------------------------- open loop


def snapshot_indexes(cluster: Cluster) -> list[int]:
    """Return the index of the newest snapshot of every node."""
    return [int((node.status() or {}).get("snapshot_index", 0)) for node in cluster.nodes]


def take_snapshots(cluster: Cluster) -> None:
    """Let every node take a snapshot at the same moment, which is the worst case.

    Returns when each has answered, which it does when its snapshot is durable.
    """
    with contextlib.ExitStack() as stack:
        asked = []
        for node in cluster.nodes:
            try:
                wire = stack.enter_context(Wire(node.client, timeout_s=SNAPSHOT_S_MAX))
                wire.send(encode("RAFT", "SNAPSHOT"))
                asked.append((node, wire))
            except OSError as error:
                print(f"no snapshot of {node.id}: {error}", file=sys.stderr)
        for node, wire in asked:
            try:
                reply = wire.read()
            except OSError as error:
                reply = error
            if not isinstance(reply, int):
                print(f"no snapshot of {node.id}: {reply}", file=sys.stderr)


def open_loop_turn(
    ours: RaftKv, echo: Echo, peak: float, seconds: float, number: int
) -> dict[str, Measurement]:
    """Load both at half of the peak; raftkv takes a snapshot inside."""
    workload = Workload(name="SET, open loop at half the peak", rate=max(1.0, round(peak / 2)))
    loader = Loader(seconds)
    found = {"echo": loader.measure(echo, workload, number)}
    before = snapshot_indexes(ours.cluster)
    timer = threading.Timer(SNAPSHOT_AT * seconds, take_snapshots, [ours.cluster])
    timer.start()
    try:
        found[OURS] = loader.measure(ours, workload, number)
    finally:
        timer.join()
    after = snapshot_indexes(ours.cluster)
    found[OURS].details["snapshots"] = sum(a > b for a, b in zip(after, before, strict=True))
    found[OURS].details["rate_wanted"] = workload.rate
    return found


def open_loop_goals(turns: Sequence[dict[str, Measurement]]) -> list[Goal]:
    """Judge the open loops."""
    ours = [one[OURS] for one in turns]
    stalls = [one.details["stalls"]["count"] for one in ours]
    echoes = [one["echo"].details["stalls"]["count"] for one in turns]
    rates = Spread.of([one.details["rate_wanted"] for one in ours])
    longest = max(one.details["stalls"]["longest_ms"] for one in ours)
    snapshots = sum(one.details["snapshots"] for one in ours)
    slow = [one["echo"].p99_9_ms or 0.0 for one in turns]
    return [
        Goal(
            "open loop at half the peak, a snapshot inside: p99.9 in ms",
            f"{rates.median:,.0f}/s, {snapshots} snapshots; echo server "
            f"{Spread.of(slow).text()} ms",
            Spread.of([one.p99_9_ms or 0.0 for one in ours]), P99_9_MS_MAX, at_most=True,
        ),
        Goal(
            "the same: stalls over 50 ms beyond those of the echo server",
            f"{sum(stalls)} (longest {longest:,.0f} ms), echo server {sum(echoes)}",
            Spread.of([float(a - b) for a, b in zip(stalls, echoes, strict=True)]),
            0.0, at_most=True,
        ),
    ]  # fmt: skip


# ---------------------------------------------------------- failover and memory


def failover_goals(kills: int, directory: Path) -> list[Goal]:
    """Kill the leader again and again; the history is judged as well."""
    done = subprocess.run(
        [sys.executable, "tests/chaos/failover.py", "--kills", str(kills), "--seed", "1",
         "--median-max", "60", "--gap-max", "60", "--dir", str(directory)],
        cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    gaps = [int(text) / 1000 for text in _GAP.findall(done.stdout)]
    if done.returncode != 0 or not gaps:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:]
        failed = f"the run failed: {' '.join(said)[:200]}"
        return [Goal("kill -9 of the leader", failed, None, GAP_MEDIAN_S_MAX, at_most=True)]
    spread = Spread.of(gaps)
    worst = Spread(spread.most, spread.most, spread.most)
    figure = f"{len(gaps)} kills, history linearizable"
    return [
        Goal("kill -9 of the leader: median gap in s", figure, spread, GAP_MEDIAN_S_MAX,
             at_most=True),
        Goal("kill -9 of the leader: longest gap in s", figure, worst, GAP_S_MAX, at_most=True),
    ]  # fmt: skip


def memory_goal(directory: Path, ports: Ports, keys: int) -> Goal:
    """Compare the nodes of a fresh cluster before and after three writes of each key."""
    ours = RaftKv(3)
    with running([ours], directory, ports):
        nodes = ours.cluster.nodes
        time.sleep(SETTLE_S)
        before = [node.memory_bytes() for node in nodes]
        for _ in range(3):
            fill(ours, keys)
        ours.cluster.wait_until_converged()
        time.sleep(SETTLE_S)
        after = [node.memory_bytes() for node in nodes]
    over = [(late - early) / MEGABYTE for early, late in zip(before, after, strict=True)]
    empty = Spread.of([early / MEGABYTE for early in before])
    # The largest node counts.
    value = Spread(max(over), min(over), max(over))
    return Goal(
        f"memory of a node in MB: {keys:,} keys after {3 * keys:,} writes, over an empty node",
        f"nodes {', '.join(f'{one:.0f}' for one in over)} MB; empty {empty.median:.0f} MB",
        value, MEMORY_MB_MAX, at_most=True,
    )  # fmt: skip


# ----------------------------------------------------------------------- a run


@dataclass
class Rounds:
    """What the interleaved rounds gave."""

    measurements: list[Measurement]
    single: list[tuple[Measurement, Probe]]
    opened: list[dict[str, Measurement]]
    failures: list[str]


def measure(
    contenders: Sequence[Contender], directory: Path, options: argparse.Namespace
) -> Rounds:
    """Make the rounds."""
    found = Rounds([], [], [], [])
    loader = Loader(options.seconds)
    by_name = {one.name: one for one in contenders}
    ours, echo = by_name[OURS], by_name["echo"]
    assert isinstance(ours, RaftKv)
    assert isinstance(echo, Echo)
    compared = [one for one in contenders if one is not echo]
    for number in range(1, options.rounds + 1):
        print(f"== round {number} of {options.rounds}", file=sys.stderr, flush=True)
        turns, failures = measure_rounds(compared, WORKLOADS, 1, loader)
        found.failures += failures
        found.measurements += [dataclasses.replace(one, round=number) for one in turns]
        found.single.append(
            (loader.measure(ours, SET_1, number), probe(directory, options.seconds))
        )
        peak = report.of_rounds(found.measurements, OURS, SET_50.name)[number].rate
        found.opened.append(open_loop_turn(ours, echo, peak, options.open_loop_seconds, number))
    return found


def make_page(facts: dict[str, Any], goals: Sequence[Goal]) -> str:
    """Return the Markdown page."""
    judged = (
        "A trial run: nothing here is a measurement.\n" if facts["quick"]
        else f"{sum(one.is_met for one in goals)} of {len(goals)} goals met.\n"
    )  # fmt: skip
    synced = [f"* {name}: {text}" for name, text in facts["synced"].items()]
    missing = [f"* {name}: {reason}" for name, reason in facts["absent"].items()]
    missing += [f"* {failure}" for failure in facts["failures"]]
    return "\n".join([
        "# Goals for speed\n",
        report.machine_line(facts["machine"]) + "\n",
        f"{facts['rounds']} interleaved rounds; a value is the median of the rounds, with the "
        f"smallest and the largest. Values of 100 B, {facts['keys']:,} keys, 3 nodes, "
        f"sync = always. {judged}",
        report.table(
            ["work", "figures (medians)", "value (spread)", "goal", ""],
            [one.row() for one in goals],
        ),
        "Every acknowledged write synced? Counted by strace in a separate run.\n",
        "\n".join([*synced, ""]),
        *(["Left out\n", "\n".join([*missing, ""])] if missing else []),
    ])  # fmt: skip


def draw(directory: Path, goals: Sequence[Goal], found: Rounds) -> None:
    """Write the plots."""
    plots.plot_goals(
        [(one.name, one.share, one.is_met) for one in goals if one.wanted], directory / "goals.png"
    )
    last = found.opened[-1]
    seconds = last[OURS].details["timeline"]["window_s"] * len(
        last[OURS].details["timeline"]["rate"]
    )
    plots.plot_over_time(
        {name: last[name].details["timeline"] for name in (OURS, "echo")},
        {OURS: "raftkv, 3 nodes", "echo": "echo server under the same load"},
        f"Open loop at half the peak, {last[OURS].details['rate_wanted']:,.0f}/s",
        directory / "open-loop.png", marks=[(SNAPSHOT_AT * seconds, "snapshot of every node")],
    )  # fmt: skip


def run(options: argparse.Namespace) -> bool:
    """Measure, judge, write; returns whether every goal is met."""
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = [RaftKv(3), Redis("always"), Etcd(), RawSyncObj(tuned=True), Echo()]
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name:
        directory, ports = Path(name), Ports()
        facts: dict[str, Any] = {"machine": report.machine(directory)}
        with running(chosen, directory, ports) as (contenders, absent):
            for contender in contenders:
                fill(contender, options.keys)
            found = measure(contenders, directory, options)
            synced = {
                one.title: verdict(one, count_syncs(one, min(2.0, options.seconds)))
                for one in contenders
                if one.fsyncs
            }
        goals = [
            *ratio_goals(found.measurements, absent),
            *single_goals(found.single),
            *open_loop_goals(found.opened),
            *failover_goals(options.kills, directory),
            memory_goal(directory, ports, options.keys),
        ]
    facts |= {
        "rounds": options.rounds, "keys": options.keys, "quick": options.quick,
        "absent": absent, "synced": synced, "failures": found.failures,
        "goals": [dataclasses.asdict(one) | {"met": one.is_met} for one in goals],
        "measurements": [one.as_json() for one in found.measurements],
        "single": [[one.as_json(), dataclasses.asdict(floor)] for one, floor in found.single],
        "open_loop": [{who: one.as_json() for who, one in turn.items()} for turn in found.opened],
    }  # fmt: skip
    report.save(options.out, "goals", facts, make_page(facts, goals))
    draw(options.out, goals, found)
    return all(one.is_met for one in goals)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=None, help="default 5; 1 with --quick")
    parser.add_argument("--seconds", type=float, default=None, help="a turn; default 3, or 0.5")
    parser.add_argument("--open-loop-seconds", type=float, default=None, help="default 60, or 3")
    parser.add_argument("--kills", type=int, default=None, help="of the leader; default 20, or 1")
    parser.add_argument("--quick", action="store_true", help="try everything, judge nothing")
    options = parser.parse_args()
    quick = options.quick
    options.rounds = options.rounds or (1 if quick else 5)
    options.seconds = options.seconds or (0.5 if quick else 3.0)
    options.open_loop_seconds = options.open_loop_seconds or (3.0 if quick else 60.0)
    options.kills = options.kills or (1 if quick else 20)
    options.keys = 2_000 if quick else KEYS
    return 0 if run(options) or quick else 1


if __name__ == "__main__":
    sys.exit(main())

"""Measures raftkv beside Redis, etcd and raw PySyncObj, in interleaved rounds.

    python -m tests.bench.run --out DIR [--rounds 5] [--seconds 3] [--only NAME,...] [--quick]

Starts every contender that can run here, lets each have a turn at every workload in
every round, counts the syncs of each in a run of its own, and writes results.json,
results.md and plots to DIR. --only takes names of contenders: raftkv-3, raftkv-1,
raftkv-5, redis-always, redis-everysec, redis-none, redis-wait, etcd, pysyncobj,
pysyncobj-tuned, echo. About three minutes a round with all of them; --quick takes one
short round of the closed loops and one open loop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench import plots, report
from tests.bench.contenders import Contender, all_contenders, running
from tests.bench.fsyncs import count_syncs, verdict
from tests.bench.loads import CannotAskError, Loader, Measurement, Workload, fill
from tests.bench.ports import Ports

OPEN_RATES = (1_000, 5_000, 10_000)
CLOSED = (
    Workload(name="SET, 1 client", clients=1),
    Workload(name="SET, 50 clients"),
    Workload(name="SET, 50 clients, pipeline 16", pipeline=16),
    Workload(name="GET, 50 clients", kind="get"),
    Workload(name="GET, 50 clients, pipeline 16", kind="get", pipeline=16),
    Workload(name="1 SET to 9 GETs, 50 clients", kind="mixed"),
)
QUICK_CLOSED = CLOSED[1:4]
QUICK_KEYS = 1_000


def open_loop(rate: int) -> Workload:
    """Return the workload of SETs at a fixed rate."""
    return Workload(name=f"SET, open loop, {rate:,}/s", rate=rate)


def measure_rounds(
    contenders: Sequence[Contender], workloads: Sequence[Workload], rounds: int, loader: Loader
) -> tuple[list[Measurement], list[str]]:
    """Give every contender its turn at every workload in every round.

    The order of the contenders moves on by one each time, so that none is always behind
    the same neighbour. Returns the turns, and what could not be measured.
    """
    found: list[Measurement] = []
    failures: list[str] = []
    impossible: set[tuple[str, str]] = set()
    turn = 0
    for number in range(1, rounds + 1):
        for workload in workloads:
            turn += 1
            first = turn % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                if (contender.name, workload.name) in impossible:
                    continue
                try:
                    found.append(loader.measure(contender, workload, number))
                except CannotAskError:
                    impossible.add((contender.name, workload.name))
                except RuntimeError as error:
                    failures.append(f"round {number}: {error}")
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return found, failures


def latency_table(
    measurements: Sequence[Measurement], workload: str, titles: dict[str, str], reference: str
) -> str:
    """Return the Markdown table of one workload."""
    rows = []
    for name, title in titles.items():
        turns = list(report.of_rounds(measurements, name, workload).values())
        if not turns:
            continue
        rates = report.Spread.of([one.rate for one in turns])
        compared = report.ratio(measurements, workload, name, reference)
        rows.append([
            f"**{title}**" if name == "raftkv-3" else title,
            rates.text(0),
            *[
                report.number(report.median_of(turns, key))
                for key in ("p50_ms", "p95_ms", "p99_ms", "p99_9_ms", "max_ms")
            ],
            "-" if compared is None or name == reference else compared.text(),
            f"{sum(one.failed for one in turns):,}",
        ])  # fmt: skip
    columns = ["contender", "requests/s (spread)", "p50 ms", "p95", "p99", "p99.9", "max",
               f"x {titles.get(reference, reference)}", "errors"]  # fmt: skip
    return report.table(columns, rows)


def make_page(facts: dict[str, Any], measurements: Sequence[Measurement]) -> str:
    """Return the Markdown page of a run."""
    titles: dict[str, str] = facts["titles"]
    reference = "redis-always" if "redis-always" in titles else next(iter(titles))
    lines = [
        "# Benchmark\n",
        report.machine_line(facts["machine"]) + "\n",
        f"{facts['rounds']} rounds of {facts['seconds']:g} s a turn, interleaved; "
        f"{facts['keys']:,} keys, values of 100 B. Medians of the rounds, with the smallest and "
        "the largest. Closed loops over RESP are redis-benchmark's; mixes, open loops and WAIT "
        "are `raftkv bench`'s, etcd's a Go program over its own client, all to the leader. "
        "p99.9 is unknown where the load program does not tell it.\n",
    ]
    for workload in dict.fromkeys(one.workload for one in measurements):
        lines += [f"## {workload}\n", latency_table(measurements, workload, titles, reference)]
    lines += ["## Synced?\n", "Calls of fdatasync and fsync, counted by strace in a separate "
              "run, for each process: one client, whose every write is a batch.\n"]  # fmt: skip
    rows = [[titles[name], text] for name, text in facts["synced"].items()]
    lines.append(report.table(["contender", "every acknowledged write synced?"], rows))
    left_out = [f"* {name}: {reason}" for name, reason in facts["absent"].items()]
    left_out += [f"* {failure}" for failure in facts["failures"]]
    if left_out:
        lines += ["## Left out\n", "\n".join(left_out) + "\n"]
    return "\n".join(lines)


def draw(directory: Path, titles: dict[str, str], measurements: Sequence[Measurement]) -> None:
    """Write the plots."""
    closed = [one for one in measurements if "open loop" not in one.workload]
    opened = [one for one in measurements if "open loop" in one.workload]
    plots.plot_throughput(closed, titles, directory / "throughput.png")
    plots.plot_latencies(closed, titles, directory / "latency.png")
    if opened:
        plots.plot_latencies(opened, titles, directory / "latency-open-loop.png")
        last = opened[-1].workload
        timelines = {
            one.contender: one.details["timeline"]
            for one in opened
            if one.workload == last and one.round == 1 and "timeline" in one.details
        }
        shown = {name: timelines[name] for name in titles if name in timelines}
        if shown:
            plots.plot_over_time(
                shown, titles, f"Latency over time: {last}", directory / "latency-over-time.png"
            )


def run(options: argparse.Namespace) -> None:
    """Measure and write."""
    chosen = all_contenders()
    if options.only:
        chosen = [one for one in chosen if one.name in options.only.split(",")]
    workloads = QUICK_CLOSED if options.quick else CLOSED
    rates = OPEN_RATES[:1] if options.quick else OPEN_RATES
    keys = QUICK_KEYS if options.quick else workloads[0].keys
    loader = Loader(options.seconds)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name:
        facts: dict[str, Any] = {
            "machine": report.machine(Path(name)), "rounds": options.rounds,
            "seconds": options.seconds, "keys": keys,
        }  # fmt: skip
        with running(chosen, Path(name), Ports()) as (contenders, absent):
            for contender in contenders:
                fill(contender, keys)
            measurements, failures = measure_rounds(
                contenders, (*workloads, *map(open_loop, rates)), options.rounds, loader
            )
            counted = {one.name: count_syncs(one, min(options.seconds, 2.0)) for one in contenders}
            facts |= {
                "titles": {one.name: one.title for one in contenders},
                "absent": absent, "failures": failures, "syncs_a_write": counted,
                "synced": {one.name: verdict(one, counted[one.name]) for one in contenders},
            }  # fmt: skip
    facts["measurements"] = [one.as_json() for one in measurements]
    report.save(options.out, "results", facts, make_page(facts, measurements))
    draw(options.out, facts["titles"], measurements)
    print(f"longest spread: {_longest_spread(measurements):.0%} of its median", file=sys.stderr)


def _longest_spread(measurements: Sequence[Measurement]) -> float:
    """Return the largest distance between rounds, as a part of the median."""
    rates: dict[tuple[str, str], list[float]] = {}
    for one in measurements:
        rates.setdefault((one.contender, one.workload), []).append(one.rate)
    return max((max(some) - min(some)) / statistics.median(some) for some in rates.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=None, help="default 5; 1 with --quick")
    parser.add_argument("--seconds", type=float, default=None, help="a turn; default 3, or 0.5")
    parser.add_argument("--only", default="", metavar="NAME,...")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.5 if options.quick else 3.0)
    if options.only:
        unknown = set(options.only.split(",")) - {one.name for one in all_contenders()}
        if unknown:
            parser.error(f"no such contender: {', '.join(sorted(unknown))}")
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

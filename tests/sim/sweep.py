"""Many seeds in several processes, what they did, and whether that was enough.

    python -m tests.sim.sweep --seeds 2000 --jobs 2
    python -m tests.sim.sweep --seeds 200 --first 5000 --report sweep.md

Each seed is a run of at least 60 simulated seconds and 300 client operations under
the default mix of faults. Ends with 0 if no promise was broken and the runs were
worth something: every kind of fault fired, every command was asked, leaders changed,
snapshots and membership changes happened and most operations were acknowledged, each at
least as often as `Goals` says for so many seeds. Else with 1, and the command that replays each
violation.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.sim.invariants import Violation
from tests.sim.run import DURATION_MS, OPERATIONS_MIN, Report, fault_kinds, replay_command, run_seed
from tests.sim.workload import command_names

SAY_EVERY_S = 20
# Counts that a sweep of so many seeds has to reach; fewer seeds, proportionally less.
FULL_SEEDS = 2000


@dataclass(frozen=True)
class Goals:
    """Least counts of a sweep of `FULL_SEEDS`."""

    each_fault: int = 100
    each_command: int = 100
    elections: int = 1000
    snapshots_installed: int = 200
    membership_changes: int = 200
    acknowledged_share: float = 0.5


@dataclass(frozen=True)
class Broken:
    """A seed that broke a promise, or the simulator."""

    seed: int
    invariant: str
    text: str


@dataclass
class Totals:
    """Sums over seeds."""

    seeds: int = 0
    steps: int = 0
    simulated_ms: float = 0.0
    cpu_s: float = 0.0
    operations: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    elections: int = 0
    snapshots_taken: int = 0
    snapshots_installed: int = 0
    membership_changes: int = 0
    parts_checked: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    slowest_heal_ms: float = 0.0
    broken: list[Broken] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count one seed that kept every promise."""
        self.seeds += 1
        self.steps += report.steps
        self.simulated_ms += report.simulated_ms
        self.cpu_s += report.cpu_s
        self.operations += report.operations
        self.acknowledged += report.acknowledged
        self.refused += report.refused
        self.unknown += report.unknown
        self.elections += report.elections
        self.snapshots_taken += report.events.get("snapshot_taken", 0)
        self.snapshots_installed += report.events.get("snapshot_installed", 0)
        self.membership_changes += report.membership_changes
        self.parts_checked += report.parts_checked
        self.checks += report.checks
        self.faults += report.faults
        self.commands += report.commands
        self.slowest_heal_ms = max(self.slowest_heal_ms, report.heal_ms)

    @property
    def acknowledged_share(self) -> float:
        """Of all operations that clients asked for, refused ones included."""
        return self.acknowledged / self.operations if self.operations else 0.0

    def shortcomings(
        self, kinds: Iterable[str], goals: Goals, asked: int, commands: Iterable[str] = ()
    ) -> list[str]:
        """Say what these runs did too seldom to show anything.

        Args:
            kinds: Of fault; each has to fire at least once, however few seeds there are.
            goals: For `FULL_SEEDS`.
            asked: For how many seeds.
            commands: Names of those that have to be acknowledged.
        """
        share = min(1.0, asked / FULL_SEEDS)

        def least(count: int) -> int:
            return max(1, math.floor(count * share))

        found = [
            f"{what}: {count}, at least {least(goal)} expected"
            for what, count, goal in (
                ("elections", self.elections, goals.elections),
                ("snapshots installed", self.snapshots_installed, goals.snapshots_installed),
                ("membership changes", self.membership_changes, goals.membership_changes),
            )
            if count < least(goal)
        ]
        found += [
            f"fault {kind}: fired {self.faults[kind]} times, at least {least(goals.each_fault)} "
            "expected"
            for kind in sorted(kinds)
            if self.faults[kind] < least(goals.each_fault)
        ]
        found += [
            f"{name}: acknowledged {self.commands[name]} times, at least "
            f"{math.floor(goals.each_command * share)} expected"
            for name in sorted(commands)
            if self.commands[name] < math.floor(goals.each_command * share)
        ]
        if self.acknowledged_share < goals.acknowledged_share:
            found.append(f"only {self.acknowledged_share:.0%} of the operations were acknowledged")
        return found


def run_one(seed: int) -> Report | Broken:
    """Run one seed in this process."""
    try:
        report = run_seed(seed)
    except Violation as error:
        return Broken(seed, error.invariant, str(error))
    except Exception as error:
        return Broken(seed, type(error).__name__, f"{type(error).__name__}: {error}")
    finally:
        # Nodes and their slots refer to each other; in the middle of a run, to look
        # for such rings costs more than the run.
        gc.collect()
    return report


def _prepare() -> None:
    gc.disable()


def outcomes(seeds: range, jobs: int) -> Iterator[Report | Broken]:
    """Run seeds, in order in this process or as they end in several."""
    if jobs == 1:
        gc.disable()
        try:
            yield from map(run_one, seeds)
        finally:
            gc.enable()
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare) as pool:
        yield from pool.map(run_one, seeds, chunksize=1)


def sweep(seeds: range, jobs: int, *, totals: Totals | None = None, loud: bool = False) -> Totals:
    """Run seeds and add up what they did, on top of what others did before."""
    totals = totals or Totals()
    started_s = said_s = time.monotonic()
    for done, outcome in enumerate(outcomes(seeds, jobs), 1):
        if isinstance(outcome, Broken):
            totals.broken.append(outcome)
            if loud:
                print(f"seed {outcome.seed}: {outcome.text}", flush=True)
        else:
            totals.add(outcome)
        now_s = time.monotonic()
        if loud and now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            left_s = (now_s - started_s) / done * (len(seeds) - done)
            print(
                f"{done} of {len(seeds)} seeds, {len(totals.broken)} violations, "
                f"{left_s / 60:.0f} min left",
                flush=True,
            )
    return totals


def rows_of(totals: Totals, kinds: Iterable[str], elapsed_s: float) -> list[tuple[str, str]]:
    """Return the table: a name and a figure a row; an empty figure is a heading."""
    runs = max(1, totals.seeds)
    rows = [
        ("seeds", f"{totals.seeds + len(totals.broken):,}"),
        ("violations", f"{len(totals.broken):,}"),
        ("steps", f"{totals.steps:,}"),
        ("simulated time", f"{totals.simulated_ms / 3_600_000:.1f} h"),
        ("processor time a seed", f"{totals.cpu_s / runs:.2f} s"),
        ("elapsed", f"{elapsed_s / 60:.1f} min"),
        ("client operations", f"{totals.operations:,}"),
        ("  acknowledged", f"{totals.acknowledged:,} ({totals.acknowledged_share:.1%})"),
        ("  refused", f"{totals.refused:,}"),
        ("  of unknown outcome", f"{totals.unknown:,}"),
        ("kinds of command acknowledged", f"{len(totals.commands):,}"),
        ("histories judged, in parts", f"{totals.parts_checked:,}"),
        ("elections", f"{totals.elections:,}"),
        ("snapshots taken", f"{totals.snapshots_taken:,}"),
        ("snapshots installed", f"{totals.snapshots_installed:,}"),
        ("membership changes", f"{totals.membership_changes:,}"),
        ("longest way to agreement once healed", f"{totals.slowest_heal_ms / 1000:.1f} s"),
        ("faults, by kind", ""),
    ]
    rows += [(f"  {kind}", f"{totals.faults[kind]:,}") for kind in sorted(kinds)]
    rows.append(("what came of them", ""))
    others = sorted(set(totals.faults) - set(kinds))
    rows += [(f"  {name}", f"{totals.faults[name]:,}") for name in others]
    rows.append(("invariants, checked so often", ""))
    rows += [(f"  {name}", f"{totals.checks[name]:,}") for name in sorted(totals.checks)]
    return rows


def text_table(rows: list[tuple[str, str]]) -> str:
    """Return the table for a terminal."""
    left = max(len(name) for name, _ in rows)
    right = max(len(figure) for _, figure in rows)
    return "\n".join(f"{name:<{left}}  {figure:>{right}}".rstrip() for name, figure in rows)


def markdown(totals: Totals, rows: list[tuple[str, str]], failures: list[str]) -> str:
    """Return the same for a page."""
    lines = [
        "# Simulated clusters",
        "",
        f"`{' '.join(['python -m tests.sim.sweep', *sys.argv[1:]])}`",
    ]
    lines += ["", "| | |", "|---|---:|"]
    lines += [f"| {name.replace('  ', '&emsp;')} | {figure} |" for name, figure in rows]
    lines += ["", *(f"* **{failure}**" for failure in failures)]
    lines += [f"* seed {one.seed}: {one.text}" for one in totals.broken]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Run seeds, print the table, say whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=FULL_SEEDS, help="how many (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="first seed (%(default)s)")
    parser.add_argument(
        "--backwards",
        action="store_true",
        help="the last seed first, which a run that was cut off had not reached",
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (%(default)s)")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="write the table there too")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    if options.backwards:
        seeds = seeds[::-1]
    started_s = time.monotonic()
    totals = sweep(seeds, options.jobs, loud=True)
    rows = rows_of(totals, fault_kinds(), time.monotonic() - started_s)
    failures = totals.shortcomings(fault_kinds(), Goals(), len(seeds), command_names())
    print(text_table(rows))
    for failure in failures:
        print(f"NOT ENOUGH: {failure}")
    for one in totals.broken:
        print(f"VIOLATION, seed {one.seed}, {one.invariant}: replay with")
        print(f"    {replay_command(one.seed, DURATION_MS)}")
    if options.report:
        options.report.write_text(markdown(totals, rows, failures), encoding="utf-8")
    if totals.broken or failures:
        return 1
    print(f"every promise was kept: {len(seeds)} seeds, 0 violations")
    return 0


__all__ = ["OPERATIONS_MIN", "Broken", "Goals", "Totals", "main", "outcomes", "run_one", "sweep"]

if __name__ == "__main__":
    sys.exit(main())

"""Hunting planted bugs: how many seeds does the simulator need for each?

    python -m tests.sim.mutants                          # hunt them all, one seed after another
    python -m tests.sim.mutants --only N1 --seeds 1000
    python -m tests.sim.mutants --jobs 2 --write         # and keep the table in the docs

Every mutant of `tests.sim.planted` runs under the same default mix as everything else.
It counts as found only by a named invariant: a crash of the mutant itself
(`AttributeError` and its like) is the fault of whoever planted it and is passed over.
So the strength of the simulator can be seen, and not only believed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import re
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.sim.cluster import Cluster, Violation
from tests.sim.planted import HINTS, MUTANTS, patched
from tests.sim.run import DURATION_MS, run_seed

PAGE = Path(__file__).parents[2] / "docs" / "internals" / "planted-bugs.md"
SEEDS = 1000
# A node that ends of these was broken by the mutant's own code, not caught by a rule.
_ARTEFACT = re.compile(
    r"^(Assertion|Attribute|Index|Key|Name|Protocol|Recursion|Type|Value|ZeroDivision)Error"
)


@dataclass(frozen=True)
class Finding:
    """How a mutant was found.

    Attributes:
        seeds: How many it took; 0 if they did not suffice.
        text: What was found; else, how the mutant's own code failed.
        crashes: Seeds passed over because the mutant's own code failed.
    """

    name: str
    seeds: int
    invariant: str
    text: str
    crashes: int
    took_s: float


def first_finding(
    name: str, seeds: Iterable[int] = range(SEEDS), duration_ms: float = DURATION_MS
) -> Finding:
    """Try seeds until one shows a mutant."""
    began_s = time.monotonic()
    crashes, failure = 0, ""
    with MUTANTS[name].plant() as core_class, _watched_stops() as stops:
        for number, seed in enumerate(seeds, 1):
            stops.clear()
            HINTS.clear()
            invariant = text = ""
            try:
                run_seed(seed, duration_ms=duration_ms, core_class=core_class)
            except Violation as error:
                invariant, text = error.invariant, error.detail
            except Exception as error:
                stops.append(f"{type(error).__name__}: {error}")
            gc.collect()
            failed = [reason for reason in stops if _ARTEFACT.match(reason)]
            if failed:
                crashes += 1
                failure = failed[0]
            elif invariant:
                took_s = time.monotonic() - began_s
                return Finding(name, number, invariant, text, crashes, took_s)
    return Finding(name, 0, "", failure, crashes, time.monotonic() - began_s)


@contextlib.contextmanager
def _watched_stops() -> Iterator[list[str]]:
    """Collect why nodes stopped themselves."""
    reasons: list[str] = []
    note_stop = Cluster.note_stop

    def noted(cluster: Cluster, node: Any, stopped: Any) -> None:
        reasons.append(stopped.reason)
        note_stop(cluster, node, stopped)

    with patched(Cluster, note_stop=noted):
        yield reasons


def _hunt(arguments: tuple[str, int, int]) -> Finding:
    name, first, count = arguments
    gc.disable()
    return first_finding(name, range(first, first + count))


def hunt(names: Iterable[str], first: int, count: int, jobs: int) -> Iterator[Finding]:
    """Hunt mutants, one after another in each process."""
    tasks = [(name, first, count) for name in names]
    if jobs == 1:
        yield from map(_hunt, tasks)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from pool.map(_hunt, tasks, chunksize=1)


_HEAD = """# Planted bugs

Written by `python -m tests.sim.mutants --write`: do not edit by hand.

Each row takes one rule out of the production code and runs the simulator's default mix, seed after
seed from {first} on, until an invariant is broken. No mutant has a mix of its own, and none counts
as found because its own code fails. The mutants are in `tests/sim/planted.py`, the invariants in
`tests/sim/invariants.py` and `tests/sim/foresight.py`; what the mix does and why is described in
[the simulation](simulation.md).

| planted bug | the rule that it breaks | seeds needed | found by |
|---|---|---:|---|
"""


def page(findings: Iterable[Finding], first: int, count: int) -> str:
    """Return the page of the documentation."""
    rows = [
        f"| {one.name} | {MUTANTS[one.name].rule} | {one.seeds or f'not in {count}'} | "
        f"{f'`{one.invariant}`' if one.invariant else ''} |\n"
        for one in findings
    ]
    return _HEAD.format(first=first) + "".join(rows)


def main() -> int:
    """Hunt mutants and say how each was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help="at most (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="first seed (%(default)s)")
    parser.add_argument("--only", action="append", choices=MUTANTS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1, help="processes (%(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    findings = []
    for one in hunt(options.only or MUTANTS, options.first, options.seeds, options.jobs):
        findings.append(one)
        said = f"{one.seeds:5d} seeds  {one.invariant}: {one.text[:100]}"
        if not one.seeds:
            said = f"      NOT in {options.seeds} seeds {one.text[:100]}"
        crashed = f" ({one.crashes} crashed)" if one.crashes else ""
        print(f"{one.name:20} {one.took_s:6.0f} s {said}{crashed}", flush=True)
    missed = [one.name for one in findings if not one.seeds]
    if options.write and not options.only:
        PAGE.write_text(page(findings, options.first, options.seeds), encoding="utf-8")
    print(f"{len(findings) - len(missed)} of {len(findings)} planted bugs found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

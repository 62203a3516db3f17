#!/usr/bin/env python3
"""All nemeses mixed, for minutes: the claim that every read is linearizable, put to the test.

    python tests/chaos/mixed.py --duration 1800 --seed 1 --report chaos-report
    python tests/chaos/mixed.py --duration 60 --plant stale-read        (must be illegal)

Cuts and bad links, kills, storms, pauses, slow, failing, full, rotten and wiped disks,
power cuts, clock jumps and floods; now and then two at once. Nodes take snapshots all
the time. `--plant` makes the recording clients lie about one operation in many: a run
that calls such a history legal would be worth nothing.

A run of 1800 seconds or more has to see every nemesis strike 20 times with operations in
flight, and 200,000 acknowledged operations; a shorter one, proportionally less. Whatever
its length, writes are acknowledged in 60 % of the seconds, and five clients write to a
key, or all where there are fewer. All but the last can be set.

Needs root or user namespaces (see tests/chaos/world.py).

Exit code 0: all promises held. 1: one was broken, or a lie was planted and found; data,
logs, history and timeline are kept. 2: wrong options, or such a network cannot be made.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import world
from tests.chaos.nemeses import NEMESES
from tests.chaos.script import Script
from tests.chaos.trial import WRITERS_A_KEY_MIN, Figures, Trial, add_options

# What a run of this length has to reach, or a longer one.
FULL_DURATION_S = 1800.0
STRIKES_MIN = 20
ACKNOWLEDGED_MIN = 200_000


def in_proportion(count: int, duration_s: float) -> int:
    """Return what of a full run's count is asked of a run of this length."""
    return math.floor(count * min(1.0, duration_s / FULL_DURATION_S))


def shortcomings(
    figures: Figures, names: Sequence[str], arguments: argparse.Namespace
) -> list[str]:
    """Say what a run did too seldom to show anything.

    Args:
        figures: What it did.
        names: Of its nemeses.
        arguments: Parsed; thresholds that are None follow from the duration.
    """
    strikes_min, acknowledged_min = (
        in_proportion(count, arguments.duration) if given is None else given
        for given, count in (
            (arguments.strikes_min, STRIKES_MIN),
            (arguments.acknowledged_min, ACKNOWLEDGED_MIN),
        )
    )
    found = []
    if figures.progress < arguments.progress_min:
        found.append(f"progress in less than {100 * arguments.progress_min:.0f} % of seconds")
    writers_min = min(WRITERS_A_KEY_MIN, arguments.clients)
    if figures.writers_a_key < writers_min:
        found.append(f"fewer than {writers_min} writers a key")
    if figures.acknowledged < acknowledged_min:
        found.append(f"fewer than {acknowledged_min} operations acknowledged")
    rare = [name for name in names if figures.strikes_in_flight.get(name, 0) < strikes_min]
    if rare:
        found.append(f"fewer than {strikes_min} times with operations in flight: {', '.join(rare)}")
    return found


def run(script: Script) -> str:
    """Run the trial and hold its figures against the thresholds."""
    arguments = script.arguments
    if arguments.report is None:
        arguments.report = Path(tempfile.gettempdir()) / f"raftkv-chaos-{arguments.seed}"
    script.say(f"report: {arguments.report}")
    names = [name for name in (arguments.only or NEMESES) if name not in arguments.without]
    trial = Trial(script, names)
    summary = trial.run()
    problems = shortcomings(trial.figures, names, arguments)
    assert not problems, f"{'; '.join(problems)}: {summary}"
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=1800.0)
    script.parser.set_defaults(nodes=5, seed=random.SystemRandom().getrandbits(32))
    add_options(script, clients=12)
    parser = script.parser
    parser.add_argument("--only", action="append", choices=list(NEMESES), metavar="NAME",
                        help=f"may be given again: {', '.join(NEMESES)}")  # fmt: skip
    parser.add_argument("--without", action="append", default=[], choices=list(NEMESES),
                        metavar="NAME", help="leave this out; may be given again")  # fmt: skip
    parser.add_argument("--progress-min", type=float, default=0.6, metavar="SHARE",
                        help="of the seconds, with an acknowledged write (0.6)")  # fmt: skip
    parser.add_argument("--strikes-min", type=int, default=None, metavar="N",
                        help="of each nemesis, with operations in flight "
                             f"({STRIKES_MIN} in {FULL_DURATION_S:.0f} s)")  # fmt: skip
    parser.add_argument("--acknowledged-min", type=int, default=None, metavar="N",
                        help=f"operations ({ACKNOWLEDGED_MIN} in "
                             f"{FULL_DURATION_S:.0f} s)")  # fmt: skip
    return script.main(run, arguments)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

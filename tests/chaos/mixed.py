#!/usr/bin/env python3
"""All nemeses mixed, for minutes: the claim that every read is linearizable, put to the test.

    python tests/chaos/mixed.py --duration 1800 --seed 1 --report chaos-report
    python tests/chaos/mixed.py --duration 60 --plant stale-read        (must be illegal)

Cuts and bad links, kills, storms, pauses, slow, failing, full, rotten and wiped disks,
power cuts, clock jumps and floods; now and then two at once. Nodes take snapshots all
the time. `--plant` makes the recording clients lie about one operation in many: a run
that calls such a history legal would be worth nothing.

The thresholds of progress and of strikes hold for runs of any length in proportion, and
can be set. Needs root or user namespaces (see tests/chaos/world.py).

Exit code 0: all promises held. 1: one was broken, or a lie was planted and found; data,
logs, history and timeline are kept. 2: wrong options, or such a network cannot be made.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import world
from tests.chaos.nemeses import NEMESES
from tests.chaos.script import Script
from tests.chaos.trial import WRITERS_A_KEY_MIN, Trial, add_options


def run(script: Script) -> str:
    """Run the trial and hold its figures against the thresholds."""
    arguments = script.arguments
    if arguments.report is None:
        arguments.report = Path(tempfile.gettempdir()) / f"raftkv-chaos-{arguments.seed}"
    script.say(f"report: {arguments.report}")
    names = [name for name in (arguments.only or NEMESES) if name not in arguments.without]
    trial = Trial(script, names)
    summary = trial.run()
    figures = trial.figures
    problems = []
    if figures.progress < arguments.progress_min:
        problems.append(f"progress in less than {100 * arguments.progress_min:.0f} % of seconds")
    if figures.writers_a_key < min(WRITERS_A_KEY_MIN, arguments.clients):
        problems.append(f"fewer than {WRITERS_A_KEY_MIN} writers a key")
    if figures.acknowledged < arguments.acknowledged_min:
        problems.append(f"fewer than {arguments.acknowledged_min} operations acknowledged")
    rare = [
        name for name in names if figures.strikes_in_flight.get(name, 0) < arguments.strikes_min
    ]
    if rare:
        problems.append(f"too seldom with operations in flight: {', '.join(rare)}")
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
    parser.add_argument("--strikes-min", type=int, default=0, metavar="N",
                        help="of each nemesis, with operations in flight (0)")  # fmt: skip
    parser.add_argument("--acknowledged-min", type=int, default=0, metavar="N",
                        help="operations (0)")  # fmt: skip
    return script.main(run, arguments)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

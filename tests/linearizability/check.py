"""Judge a recorded history from the command line.

    python -m tests.linearizability.check HISTORY.jsonl [--html OUT.html]

Ends with 0 if the history is linearizable, 1 if it is not, 2 if it cannot be read,
and 3 if that was not decided in time, which shows nothing and so is a failure.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.linearizability import timeline
from tests.linearizability.checker import PART_SECONDS_MAX, Verdict, check
from tests.linearizability.history import History, HistoryError
from tests.linearizability.models import MODELS

EXIT_CODES = {Verdict.OK: 0, Verdict.ILLEGAL: 1, Verdict.UNKNOWN: 3}
_UNREADABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, judge, draw; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.linearizability.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("history", type=Path, metavar="HISTORY.jsonl")
    parser.add_argument(
        "--html", type=Path, metavar="OUT",
        help="draw the smallest failing part, or the largest part if all is well",
    )  # fmt: skip
    parser.add_argument("--model", choices=sorted(MODELS), help="instead of the history's own")
    parser.add_argument(
        "--seconds", type=float, default=PART_SECONDS_MAX, metavar="S",
        help=f"limit for each part ({PART_SECONDS_MAX:g})",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        history = History.load(options.history)
        if options.model:
            history = dataclasses.replace(history, model=options.model)
        result = check(history, seconds_a_part=options.seconds)
    except (OSError, HistoryError) as error:
        print(f"unreadable: {error}", file=sys.stderr)
        return _UNREADABLE
    print(result)
    if options.html and result.parts:
        parts = [result.failing] if result.failing else result.parts
        timeline.write(options.html, parts, comment=history.comment)
        print(f"timeline: {options.html}")
    return EXIT_CODES[result.verdict]


if __name__ == "__main__":
    sys.exit(main())

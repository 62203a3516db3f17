#!/usr/bin/env python3
"""The members of the cluster change: demoted, promoted, removed, added; leadership handed over.

    python tests/chaos/membership.py --duration 60 --seed 1

A removed node ends with 7, loses its disk, and comes back as a new one. In between nodes
are killed and lose their disks, and links are cut.

Every operation of every client is recorded and the history judged; at the end all nodes
must have the same state hash. Needs root or user namespaces (see tests/chaos/world.py).

Exit code 0: all promises held. 1: one was broken; data, logs, history and timeline are
kept. 2: wrong options, or such a network cannot be made here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import world
from tests.chaos.trial import trial_main

NAMES = (
    "transfer-leadership",
    "demoted-member",
    "removed-member",
    "kill-one",
    "wiped-disk",
    "leader-alone",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=3)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

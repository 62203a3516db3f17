#!/usr/bin/env python3
"""The power goes: what was not synced is not in the files any more.

    python tests/chaos/power_cut.py --duration 60 --seed 1

The disk seam of the node's test entry point keeps beside the data directory what was
synced, file contents and names apart. After the kill that takes the directory's place;
in half of the cuts any sectors of unsynced writes are left, torn. One node, or all at
once: no acknowledged write may be missing.

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
    "power-cut-one",
    "power-cut-all",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=3)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

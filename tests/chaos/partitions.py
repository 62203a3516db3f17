#!/usr/bin/env python3
"""Cuts the links between real nodes: leader alone, one-way, bridge, ring, flapping; bad links.

    python tests/chaos/partitions.py --duration 60 --seed 1

Each node has a network namespace; cuts drop packets of one direction, so connections
stay and nobody is told. Bad links hold packets back, lose, double and reorder them.
Clients reach every node all the time, also a leader that nobody else reaches.

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
    "leader-alone",
    "one-way",
    "bridge",
    "majority-ring",
    "flapping",
    "bad-links",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=5)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

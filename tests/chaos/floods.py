#!/usr/bin/env python3
"""Floods of connections to client and peer ports: idle, half a request, junk.

    python tests/chaos/floods.py --duration 60 --seed 1

The other clients must be served all the same.

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

NAMES = ("connection-flood",)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=3)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

#!/usr/bin/env python3
"""Disks that are slow, that fail, that are full, and that rot.

    python tests/chaos/disk_faults.py --duration 60 --seed 1

Syncs and writes fail in the disk seam of the node's test entry point, which can delay a
sync and knows what it had not saved; a node must stop with 6 then. Full is really full:
each node has a small file system of its own (tmpfs), and a file takes the rest of it.
Nobody may stop for that, and it must end by itself. A node with a rotten file must
refuse with 3; it is wiped, as it advises, and refilled by a snapshot.

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
    "slow-sync",
    "failing-sync",
    "failing-write",
    "full-disk",
    "wiped-disk",
    "rotten-disk",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=3)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

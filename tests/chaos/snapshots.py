#!/usr/bin/env python3
"""Followers are filled by snapshots, while the transfer, both its ends and the members are hurt.

    python tests/chaos/snapshots.py --duration 60 --seed 1

Nodes take snapshots all the time and keep as little log as they may, so whoever has
lost its disk, or was removed and added again, gets one, in pieces of 16 KiB over slow
links. In the middle of a transfer the follower or the leader is killed, or their link
is cut; leaders change and links are bad. snapshot_catchup.py does it with more data.

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
    "interrupted-snapshot",
    "wiped-disk",
    "removed-member",
    "kill-one",
    "transfer-leadership",
    "bad-links",
)


def main(arguments: Sequence[str] | None = None) -> int:
    return trial_main(__doc__, NAMES, arguments, duration_s=60.0, nodes=3)


if __name__ == "__main__":
    world.enter()
    sys.exit(main())

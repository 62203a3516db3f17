"""Nodes whose election timeouts differ, and change when one starts again.

A lease counts on what others promised; who promises less, and who promised more
before it was started anew, is what it can be wrong about.
"""

from __future__ import annotations

import random
from dataclasses import replace

from raftkv.config import Config

# The most stays: it decides when a deaf leader leaves, which is judged.
_MAX_MS = 600


def with_other_timeouts(config: Config, seed: int, life: int) -> Config:
    """Return the config of one start of a node; in two of three seeds as it is."""
    if seed % 3 != 1:
        return config
    dice = random.Random(f"timeouts of {config.node.id} in life {life} of seed {seed}")
    least_ms = 3 * config.timing.heartbeat_ms + 10
    timeouts_ms = (dice.choice([least_ms, 300, 330, 400]), _MAX_MS)
    return replace(config, timing=replace(config.timing, election_timeout_ms=timeouts_ms))

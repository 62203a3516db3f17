"""What one seed's world is like: its size, its limits, its network, its faults.

The default mix is not one distribution but many: each seed draws how many nodes
there are, how much fits into an append, a batch, a segment and a snapshot's worth
of log, how fast and how faithful links are, how often faults come and with which
weights. So some runs compact after thirty entries and some never, some see one
fault again and again and some see all of them.

Owner: tests.sim.run, which makes the cluster of it; tests.sim.nemesis, which takes
the weights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from raftkv.config import Limits

KIB = 1024


@dataclass(frozen=True)
class Mix:
    """One seed's draw.

    Attributes:
        size: Members at the beginning.
        delay_ms: Range of the way of a frame.
        late_share: See `SimNetwork`.
        copied_share: See `SimNetwork`.
        pause_ms: Range of the time between two faults.
        changes_pause_ms: Range of the time between two membership changes.
    """

    seed: int
    size: int
    limits: Limits
    delay_ms: tuple[float, float]
    late_share: float
    copied_share: float
    pause_ms: tuple[float, float]
    changes_pause_ms: tuple[float, float]

    def weights(self, names: Sequence[str]) -> dict[str, float]:
        """Return how likely each fault is: none impossible, a few much likelier."""
        source = random.Random(f"weights of seed {self.seed}")
        weights = {name: 0.1 + source.random() ** 3 for name in names}
        if source.random() < 0.5:
            for name in source.sample(list(names), 4):
                weights[name] += 2.0
        return weights


def draw(seed: int) -> Mix:
    """Draw the world of one seed."""
    source = random.Random(f"mix of seed {seed}")
    snapshot_bytes = source.choice([KIB, 2 * KIB, 4 * KIB, 8 * KIB, 24 * KIB])
    limits = Limits(
        append_bytes_max=source.choice([64, 160, 320, KIB, 16 * KIB]),
        batch_commands_max=source.choice([1, 4, 4096]),
        wal_segment_bytes=source.choice([64 * KIB, 128 * KIB]),
        snapshot_log_bytes=snapshot_bytes,
        snapshot_keep_log_bytes=min(snapshot_bytes, source.choice([0, 0, KIB, 4 * KIB])),
        snapshot_chunk_bytes=source.choice([512, 2 * KIB, 8 * KIB]),
        # Of its own source, as the next one: most seeds have no limit, in some of the
        # others it is exceeded nearly all the time.
        maxmemory=random.Random(f"memory limit of seed {seed}").choice(
            [0, 0, 0, 6 * KIB, 10 * KIB, 16 * KIB]
        ),
        # Of its own source, so that no other choice depends on it. 0: whatever is
        # durable and applied leaves the memory at once.
        log_memory_bytes_max=random.Random(f"memory of seed {seed}").choice(
            [0, 0, KIB, 4 * KIB, 16 * KIB, 8192 * KIB]
        ),
        # Of its own source as well. All are small beside what a seed writes, but for the
        # last one, which the store knows without being told.
        history_revisions=random.Random(f"history of seed {seed}").choice([0, 50, 300, 10_000]),
    )
    pace = source.choice([0.6, 1.0, 2.0])
    return Mix(
        seed=seed,
        size=source.choices([3, 4, 5], [12, 3, 5])[0],
        limits=limits,
        delay_ms=source.choice([(0.05, 0.6), (0.1, 3.0), (0.1, 3.0), (0.5, 12.0)]),
        late_share=source.choice([0.0, 0.2, 0.7]),
        copied_share=source.choice([0.0, 0.2, 0.7]),
        pause_ms=(200 * pace, 1500 * pace),
        changes_pause_ms=source.choice([(100, 700), (300, 3000), (1000, 10_000)]),
    )

"""How `limits.maxmemory` of the leader becomes the limit of all nodes.

A limit that each node took from its own config would refuse an entry on one node and
apply it on another. So it is a part of the state, changed by an entry that the leader
proposes when the limit in force is another one than its config says: behind an election,
or a restart with another config.

Owner: replica.replica. Tests: tests/unit/replica/test_dataset_limit.py, tests/sim.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.kv.commands import Command, Opcode
from raftkv.kv.store import KvStore
from raftkv.seams import Failure

# Limit: the leader proposes at most this often.
PROPOSAL_GAP_MS = 200


class DatasetLimit:
    """When to propose the limit. Is the slot of its own proposals."""

    def __init__(self, bytes_max: int) -> None:
        """Take the setting; 0 for no limit."""
        self._bytes_max = bytes_max
        self._proposed = False
        self._proposal_ms: int | None = None

    @property
    def command(self) -> Command:
        """What to propose."""
        return (int(Opcode.LIMIT_DATASET), self._bytes_max)

    def resolve(self, results: Sequence[object]) -> None:
        """The proposal was applied."""
        self._proposed = False

    def fail(self, failure: Failure) -> None:
        """The proposal was refused, or nobody knows what became of it."""
        self._proposed = False

    def turn(self, store: KvStore, now_ms: int, *, leads: bool) -> bool:
        """Say whether the limit is to be proposed now, with this object as slot.

        Args:
            store: Of this node.
            now_ms: Boot time.
            leads: This node leads, and its own first entry is committed.
        """
        if not leads or self._proposed or store.dataset_bytes_max == self._bytes_max:
            return False
        if self._proposal_ms is not None and now_ms - self._proposal_ms < PROPOSAL_GAP_MS:
            return False
        self._proposed = True
        self._proposal_ms = now_ms
        return True

"""Checkpoints: entries of the log at which all nodes compare their whole memory.

The rolling state hash covers what commands did, not what lies in memory since. So
the leader proposes a checkpoint from time to time, and before a snapshot counts;
behind that entry every node freezes its image, hashes it in slices, and reports the
hash (replica.agreement). Equal stores have equal images, so one key that flipped in
memory makes the odd one out, which stops.

A node that is due for a snapshot takes it at the checkpoint, and the hash is that
of the snapshot; the others, and nodes that are not due, only hash. Nothing here is
needed for consensus: a node that is still hashing passes over the next checkpoint.

Owner: replica.replica. Tests: tests/unit/replica/test_checkpoints.py, tests/sim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raftkv.kv.commands import Command, Opcode
from raftkv.kv.image import Image
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import STATES_MAX, Agreement
from raftkv.replica.compaction import Compactor
from raftkv.seams import Failure
from raftkv.types import Index

CHECKPOINT: tuple[Command, ...] = ((int(Opcode.CHECKPOINT),),)
# Between two slices of a walk: a check may take long, and others shall not notice.
SLICE_PAUSE_MS = 5
# Limit: a leader proposes checkpoints at most this often.
PROPOSAL_GAP_MS = 200


class Checkpoints:
    """When to propose a checkpoint, and this node's walk at the last one.

    Is the slot of its own proposals: an answer only means that there may be another.
    """

    def __init__(
        self, agreement: Agreement, compactor: Compactor, *, interval_ms: int, now_ms: int
    ) -> None:
        """Count the interval from now on.

        Args:
            agreement: Gets the hashes, and knows who asks for a checkpoint.
            compactor: Asks for one before each snapshot, which it takes there.
            interval_ms: Between two checkpoints when nobody asks for one; 0 for none.
            now_ms: Boot time.
        """
        self._agreement = agreement
        self._compactor = compactor
        self._interval_ms = interval_ms
        self._reached_ms = now_ms
        self._proposed = False
        self._proposal_ms = now_ms - PROPOSAL_GAP_MS
        self._image: Image | None = None
        self._slices: Iterator[bytes] = iter(())
        self._slice_ms = 0
        self._has_yielded = False

    def resolve(self, results: Sequence[object]) -> None:
        """The proposal was applied."""
        self._proposed = False

    def fail(self, failure: Failure) -> None:
        """The proposal was refused, or nobody knows what became of it."""
        self._proposed = False

    def reached(self, store: KvStore, now_ms: int, commit_index: Index) -> None:
        """A checkpoint was applied: hash the image behind it.

        Args:
            store: As of that index.
            now_ms: Boot time.
            commit_index: Far beyond it, the others have forgotten their hashes.
        """
        self._reached_ms = now_ms
        self._agreement.checkpoint_reached()
        is_late = commit_index - store.applied_index >= STATES_MAX
        if not self._compactor.join(store, now_ms) and self._image is None and not is_late:
            self._image = store.start_image()
            self._slices = self._image.slices()
            self._slice_ms = now_ms

    def forget(self) -> None:
        """The store is replaced by a snapshot."""
        if self._image is not None:
            self._image.close()
            self._image = None

    def turn(self, now_ms: int, *, leads: bool) -> bool:
        """Take the next slice if it is time.

        Args:
            now_ms: Boot time.
            leads: This node may propose a checkpoint itself.

        Returns:
            Whether a checkpoint is to be proposed now, with this object as slot.
        """
        if self._image is not None and (now_ms >= self._slice_ms or self._image.is_pressed):
            # Not in one turn with pieces of a snapshot, but in the next one at the latest.
            self._has_yielded = self._compactor.took_pieces and not self._has_yielded
            if not self._has_yielded:
                self._take_slice(self._image, now_ms)
        wanted = self._compactor.wants_checkpoint
        self._agreement.ask_for_checkpoint(wanted and not leads)
        if not leads or self._proposed or self._image is not None:
            return False
        is_due = wanted or self._agreement.is_asked_for_checkpoint or self._is_late(now_ms)
        if not is_due or now_ms - self._proposal_ms < PROPOSAL_GAP_MS:
            return False
        self._proposed = True
        self._proposal_ms = now_ms
        return True

    def next_ms(self, *, leads: bool) -> int | None:
        """Return the boot time at which `turn` has something to do by itself."""
        if self._image is not None:
            return self._slice_ms
        if leads and self._interval_ms:
            return max(self._reached_ms + self._interval_ms, self._proposal_ms + PROPOSAL_GAP_MS)
        return None

    def _is_late(self, now_ms: int) -> bool:
        return 0 < self._interval_ms <= now_ms - self._reached_ms

    def _take_slice(self, image: Image, now_ms: int) -> None:
        self._slice_ms = now_ms + SLICE_PAUSE_MS
        if next(self._slices, None) is not None:
            return
        if image.image_hash is None:
            raise AssertionError("the image was not walked to its end")
        self._image = None
        self._agreement.note_image(image.meta.applied_index, image.image_hash)

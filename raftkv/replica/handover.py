"""One transfer of leadership at a time, and the answer to whoever asked for it.

Owner: replica.replica. Tests: tests/unit/replica/test_handover.py.
"""

from __future__ import annotations

from raftkv.engine.core import RaftCore
from raftkv.seams import Failure, Slot
from raftkv.types import NodeId


class Handover:
    """A transfer under way, from the request to its outcome."""

    def __init__(self, core: RaftCore, patience_ms: int) -> None:
        self._core = core
        self._patience_ms = patience_ms
        self._gave_up_ms: int | None = None
        self._target: NodeId | None = None
        self._slot: Slot | None = None

    @property
    def pending(self) -> bool:
        """Whether proposals have to wait for the outcome."""
        return self._core.transfer_target is not None

    def begin(self, target: NodeId | None, slot: Slot) -> None:
        """Start a transfer; the slot is resolved with the new leader's id."""
        refusal = self._core.transfer_refusal(target)
        if refusal or self._slot is not None:
            slot.fail(Failure(refusal or "a transfer is under way", definite=True))
            return
        self._target = self._core.begin_transfer(target)
        self._slot = slot
        self._gave_up_ms = None

    def turn(self, now_ms: int) -> None:
        """Answer once somebody else leads, or once the transfer was given up."""
        slot = self._slot
        if slot is None:
            return
        leader = self._core.leader_id
        if not self._core.is_leader and leader is not None:
            self._slot = None
            slot.resolve([leader.encode()])
        elif self._core.is_leader and self._core.transfer_target is None:
            self._slot = None
            slot.fail(Failure(f"{self._target} did not take over in time", definite=True))
        elif not self._core.is_leader:
            if self._gave_up_ms is None:
                self._gave_up_ms = now_ms
            if now_ms - self._gave_up_ms > self._patience_ms:
                self._slot = None
                slot.fail(Failure("leadership given up, nobody leads yet", definite=False))

    def close(self, failure: Failure) -> None:
        """Answer whoever still waits; the node stops."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.fail(failure)

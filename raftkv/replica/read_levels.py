"""Reads below or beside the leader's read index, and the tokens that order them.

What each level proves is in `engine.syncobj_reads`; here a read is executed first
and its proof looked at afterwards, on a clock read anew: however long this process
stood still in between, what it read was right at the moment of the look.

Base of replica.replica.Replica. Tests: tests/unit/replica/test_read_levels.py,
tests/sim/read_levels.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.kv.commands import ErrorReply
from raftkv.replica.follower_reads import BEHIND, FollowerReads
from raftkv.replica.reads import Read
from raftkv.replica.requests import Command, ReplicaRequests
from raftkv.seams import SHUTTING_DOWN, Clock, Failure, Slot
from raftkv.types import Index, Term

_BEHIND_REPLY = ErrorReply(f"NOTAPPLIED {BEHIND.reason}")
_UNKNOWN_REPLY = ErrorReply("NOTAPPLIED stale unknown")
# A store that is further behind leaves linearizable reads to the leader.
_KEEPS_UP_MS = 1000


class ReadLevels(ReplicaRequests):
    """What reads may rely on besides a round of their own."""

    _clock: Clock
    _follower_reads: FollowerReads

    def read_leased(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads linearizably, at once where the lease allows it.

        Else as `read` does; this node must lead.
        """
        core = self._core
        if self.stopped is None and core.has_own_noop:
            # Another node may have shown what is committed and not applied here.
            if self.store.applied_index >= core.commit_index:
                results = self.store.execute_all(list(commands))
                if core.lease_holds(self._clock.now_ms()):
                    slot.resolve(results)
                    return
        self.read(commands, slot)

    @property
    def can_read_by_index(self) -> bool:
        """Whether the leader can be asked, and this node's store keeps up with it."""
        staleness_ms = self.staleness_ms()
        return staleness_ms is not None and staleness_ms <= _KEEPS_UP_MS and self._core.can_ask

    def read_by_index(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads linearizably on this node's store, which need not lead.

        The leader is asked for its read index. `NOT_LEADER` comes where nobody can
        be asked, or the leader changes before it has answered.
        """
        if self.stopped is not None:
            slot.fail(SHUTTING_DOWN)
            return
        self._follower_reads.add(Read(list(commands), slot, sliced=False))
        self._wake()

    def read_local(self, command: Command, bound_ms: int | None, floor_index: Index) -> object:
        """Evaluate one read on this node's store, at once, if it is new enough.

        Args:
            command: A read.
            bound_ms: What was acknowledged so long ago or earlier must be in it;
                None for any age.
            floor_index: What must be applied.

        Returns:
            The result, or an `ErrorReply` that begins with NOTAPPLIED.
        """
        result = self.store.execute(command)
        refusal = self.local_refusal(bound_ms, floor_index)
        return result if refusal is None else refusal

    def local_refusal(self, bound_ms: int | None, floor_index: Index) -> ErrorReply | None:
        """Say why this node's store is too old for a read; see `read_local`."""
        if self.store.applied_index < floor_index:
            return _BEHIND_REPLY
        if bound_ms is None:
            return None
        staleness_ms = self.staleness_ms()
        if staleness_ms is None:
            return _UNKNOWN_REPLY
        if staleness_ms <= bound_ms:
            return None
        return ErrorReply(f"NOTAPPLIED stale {staleness_ms}")

    def staleness_ms(self) -> int | None:
        """Return how old this node's store is at most, or None while nothing is proven."""
        return self._core.staleness_ms(self._clock.now_ms(), Index(self.store.applied_index))

    # ------------------------------------------------------------------- tokens

    def take_token(self, slot: Slot, *, ask: bool) -> None:
        """Resolve with a token, a position behind everything that was answered before.

        Args:
            slot: Resolves with one result, `term/index` as bytes.
            ask: Another node may have answered: what it had applied counts.
        """
        if not ask:
            slot.resolve([self.token()])
        elif self.is_leader:
            # A new leader has not applied yet all that the one before it acknowledged.
            self.read([], _TokenSlot(self, slot))
        else:
            self.read_by_index([], _TokenSlot(self, slot))

    def token(self) -> bytes:
        """Return the position that this node's store has reached."""
        index = Index(self.store.applied_index)
        return b"%d/%d" % (self._core.log.term_at(index) or 0, index)

    def await_token(self, term: Term, index: Index, slot: Slot) -> None:
        """Resolve once the store has reached a token; fails definitely when it is late."""
        held = self._core.log.term_at(index)
        if held is not None and term and index <= self.store.applied_index and held != term:
            slot.resolve([ErrorReply("ERR the token is of another history")])
        elif self.stopped is not None:
            slot.fail(SHUTTING_DOWN)
        else:
            self._follower_reads.await_applied(index, self._clock.now_ms(), slot)
            self._wake()


class _TokenSlot:
    """Makes a token of the moment at which a read would be served."""

    def __init__(self, levels: ReadLevels, slot: Slot) -> None:
        self._levels = levels
        self._slot = slot

    def resolve(self, _results: Sequence[object]) -> None:
        """Take the position that was reached."""
        self._slot.resolve([self._levels.token()])

    def fail(self, failure: Failure) -> None:
        """Hand the failure on."""
        self._slot.fail(failure)

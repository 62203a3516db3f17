"""Requests to change the membership, and how a node learns that it is no member.

A change is one entry of the log; its slot is answered when the entry commits,
or with a definite refusal, or as unknown when leadership was lost before. The
rules of a change are the engine's (`engine.syncobj_changes`).

A node that was removed hears it from the log, or, if it was down meanwhile,
from the other voters, who refuse its links: it ends when a majority of those it
knows do so, and only if it counted before. One that was never added waits.

Owner: replica.replica. Tests: tests/unit/replica/test_membership.py, tests/sim.
"""

from __future__ import annotations

from collections import deque

from raftkv.engine.core import RaftCore
from raftkv.engine.ready import ChangeRequest
from raftkv.errors import IdentityRefusedError
from raftkv.kv.commands import ErrorReply
from raftkv.replica.ports import EXIT_REFUSED, Stopped
from raftkv.seams import NOT_LEADER, TIMEOUT, Failure, Observer, Slot
from raftkv.transport.handshake import RefusalReason
from raftkv.types import MembershipChange, NodeId

_ADVICE = "To let it join again, delete its data directory and add it with `raftkv member add`."


class PendingChange:
    """A request on its way through the log; travels through the engine as its token."""

    __slots__ = ("deadline_ms", "slot")

    def __init__(self, slot: Slot, deadline_ms: int) -> None:
        self.slot: Slot | None = slot
        self.deadline_ms = deadline_ms

    def resolve(self) -> None:
        """The change is committed."""
        if self.slot is not None:
            slot, self.slot = self.slot, None
            slot.resolve(["OK"])

    def fail(self, failure: Failure, *, lasting: bool = False) -> None:
        """It is refused, for now or because it makes no sense, or nobody will know."""
        if self.slot is None:
            return
        slot, self.slot = self.slot, None
        if lasting:
            slot.resolve([ErrorReply(f"ERR {failure.reason}")])
        else:
            slot.fail(failure)


class Membership:
    """Changes that wait, and refusals by other members."""

    def __init__(self, core: RaftCore, observer: Observer, request_timeout_ms: int) -> None:
        self._core = core
        self._observer = observer
        self._timeout_ms = request_timeout_ms
        self._new: list[tuple[MembershipChange, Slot]] = []
        self._pending: deque[PendingChange] = deque()
        self._refusals: dict[NodeId, RefusalReason] = {}
        self._retired = False

    # ----------------------------------------------------------------- changes

    def add(self, change: MembershipChange, slot: Slot) -> None:
        """Take a change into the next step."""
        if not self._core.is_leader:
            slot.fail(NOT_LEADER)
        else:
            self._new.append((change, slot))

    def take(self, now_ms: int) -> list[ChangeRequest]:
        """Return what the next step is to propose."""
        if not self._new:
            return []
        new, self._new = self._new, []
        requests = []
        for change, slot in new:
            pending = PendingChange(slot, now_ms + self._timeout_ms)
            self._pending.append(pending)
            requests.append(ChangeRequest(change, pending))
        return requests

    def expire(self, now_ms: int) -> None:
        """Answer changes whose time is over; they may still be committed."""
        while self._pending and (
            self._pending[0].slot is None or self._pending[0].deadline_ms <= now_ms
        ):
            self._pending.popleft().fail(TIMEOUT)

    def next_deadline_ms(self) -> int | None:
        """Return when `expire` has something to do."""
        return self._pending[0].deadline_ms if self._pending else None

    def close(self, failure: Failure) -> None:
        """Answer whoever still waits; the node stops."""
        new, self._new = self._new, []
        for _, slot in new:
            slot.fail(failure)
        for pending in self._pending:
            pending.fail(Failure(failure.reason, definite=False))
        self._pending.clear()

    # ---------------------------------------------------------------- standing

    def linked(self, node: NodeId) -> None:
        """A member accepts this node."""
        self._refusals.pop(node, None)

    def refused(self, node: NodeId, reason: RefusalReason) -> IdentityRefusedError | None:
        """Note that a member, proven to be one, refuses this node; say if that ends it."""
        configuration = self._core.configuration
        others = [voter.id for voter in configuration.voters if voter.id != self._core.node_id]
        if node not in others:
            return None
        if reason is RefusalReason.UNKNOWN_NODE and not self._core.admitted:
            self._observer.event("waiting_to_be_added", peer=node)
            return None
        self._refusals[node] = reason
        refusers = [voter for voter in others if self._refusals.get(voter) is reason]
        if len(refusers) < min(configuration.quorum, len(others)):
            return None
        who = ", ".join(refusers)
        if reason is RefusalReason.UNKNOWN_NODE:
            return IdentityRefusedError(
                f"{self._core.node_id} was removed from the cluster while it was away: "
                f"{who} refuse it as not a member. {_ADVICE}"
            )
        return IdentityRefusedError(
            f"{who} belong to another cluster than this node's data directory"
        )

    def retirement(self) -> Stopped | None:
        """Return, once, how the node is to end because the log says that it was removed."""
        if self._retired or not self._core.is_removed:
            return None
        self._retired = True
        return Stopped(
            EXIT_REFUSED,
            f"{self._core.node_id} was removed from the cluster: its members have committed "
            f"a configuration without it. {_ADVICE}",
            orderly=True,
        )

"""Planted bugs of the read levels: each takes one rule out of the proofs.

Beside `tests.sim.planted`, which explains what a mutant is and collects them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.engine.core import RaftCore
from raftkv.engine.messages import Freshness
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import PeerState
from raftkv.replica.read_levels import ReadLevels, _TokenSlot
from raftkv.types import Index, NodeId

Engine = type[SnapshotMends]


class _LeaseOutlivesTransfer(SnapshotMends):
    def lease_end_ms(self) -> int:
        if not self.is_leader:
            return 0
        ends = [self._refuses_until_ms(state) for state in self.counted_peers()]
        return self.quorum_value(ends, 1 << 62)


class _VotesAfterStart(SnapshotMends):
    @property
    def start_refusal_ms(self) -> int:
        return 0


class _LeaseFromArrival(SnapshotMends):
    """The lease counts from when the answer came, not from when its round began."""

    def _note_round(self, state: PeerState, round_: int) -> None:
        SnapshotMends._note_round(self, state, round_)
        self.round_begun_ms[round_ % len(self.round_begun_ms)] = self.now_ms


class _LeaseWithoutVotes(SnapshotMends):
    """A leader trusts its lease as long as it leads."""

    def lease_end_ms(self) -> int:
        return 1 << 62 if self.is_leader else 0


class _LeaseBeforeNoop(RaftCore):
    @property
    def has_own_noop(self) -> bool:
        return self.is_leader


class _IndexWithoutRound(SnapshotMends):
    """A leader answers a follower at once, without asking anybody."""

    def begin_index_round(self, round_: int, index: Index) -> None:
        SnapshotMends.begin_index_round(self, round_, index)
        self.answer_index_requests(round_)


class _FreshSinceHeard(SnapshotMends):
    """A store counts as new as of when the proof arrived."""

    def on_freshness(self, node_id: NodeId, message: Freshness) -> None:
        self._heard.append(self._heard[-1]._replace(round=0, at_ms=self.now_ms))
        SnapshotMends.on_freshness(self, node_id, message)


class _FreshUnconfirmed(SnapshotMends):
    """What a leader knows to be committed is told without a round that confirms it."""

    def prove_freshness(self) -> None:
        kept = self.confirmed_round
        self.confirmed_round = lambda: self.round  # type: ignore[method-assign]
        SnapshotMends.prove_freshness(self)
        self.confirmed_round = kept  # type: ignore[method-assign]


def _read_unguarded(levels: Any, command: Any, _bound_ms: Any, _floor_index: Any) -> object:
    return levels.store.execute(command)


def _resolve_at_once(_levels: Any, _term: Any, _index: Any, slot: Any) -> None:
    slot.resolve(["OK"])


def _take_own_token(levels: Any, slot: Any, *, ask: bool) -> None:
    if ask and not levels.is_leader:
        levels.read_by_index([], _TokenSlot(levels, slot))
    else:
        slot.resolve([levels.token()])


def plant_all(
    engine: Callable[[str, str], Callable[[Engine], Engine]],
    core: Callable[[str, str], Callable[[type[RaftCore]], type[RaftCore]]],
    mutant: Callable[[str, str], Callable[[Any], Any]],
    patched: Callable[..., Any],
) -> None:
    """Name them with the decorators of the collection."""
    engine("lease transfer", "a lease ends before leadership is handed over")(
        _LeaseOutlivesTransfer
    )
    engine("lease restart", "a node that starts votes for nobody for a while")(_VotesAfterStart)
    engine("lease arrival", "a lease counts from when its round began")(_LeaseFromArrival)
    engine("lease unproven", "a lease ends when a quorum may vote again")(_LeaseWithoutVotes)
    core("lease without no-op", "a lease is for who has committed an entry of its own")(
        _LeaseBeforeNoop
    )
    engine("index without round", "a follower's read needs a round of the leader's")(
        _IndexWithoutRound
    )
    engine("fresh on arrival", "a store is as new as a round heard before the proof began")(
        _FreshSinceHeard
    )
    engine("fresh unproven", "freshness is told of rounds that a quorum confirmed")(
        _FreshUnconfirmed
    )
    mutant("any staleness", "a bounded read is refused by a store too old for it")(
        lambda: patched(ReadLevels, read_local=_read_unguarded)
    )
    mutant("token unawaited", "a read behind a token waits until it is applied")(
        lambda: patched(ReadLevels, await_token=_resolve_at_once)
    )
    mutant("token of a new leader", "a leader too asks before it names what others answered")(
        lambda: patched(ReadLevels, take_token=_take_own_token)
    )

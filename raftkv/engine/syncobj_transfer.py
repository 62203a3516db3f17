"""Handing leadership over on purpose: no election timeout, no lost proposal.

The leader takes no new proposals, brings one follower up to its last index,
and tells it to campaign at once; that campaign needs no pre-vote and is not
refused for having heard the leader lately. If it does not succeed within an
election timeout, the leader goes on leading.

PySyncObj's own transfer (`timeout_now`) is not used: its campaign would be
refused by stickiness, and it neither holds proposals nor gives up.

Source: Raft thesis, section 3.10. Tests: tests/unit/engine/test_transfer.py.
"""

from __future__ import annotations

from raftkv.engine.messages import TimeoutNow
from raftkv.engine.syncobj_election import ElectionMends
from raftkv.types import NodeId


class TransferMends(ElectionMends):
    """The leader's and the target's side of a transfer."""

    _transfer_deadline_ms = 0

    def transfer_refusal(self, target: NodeId | None) -> str:
        """Say why leadership cannot be handed over now; empty if it can."""
        if not self.is_leader:
            return "this node does not lead"
        if self.transfer_target is not None:
            return f"a transfer to {self.transfer_target} is under way"
        if target == self.node_id:
            return "this node leads already"
        candidates = self._transfer_candidates()
        if target is not None and target not in candidates:
            return f"{target} is not a voter that is connected"
        return "" if candidates else "no other voter is connected"

    def begin_transfer(self, target: NodeId | None) -> NodeId:
        """Start a transfer, to the most advanced voter if none is named."""
        if target is None:
            candidates = self._transfer_candidates()
            target = max(
                candidates, key=lambda node_id: self.match_indexes[self.peers[node_id].node]
            )
        self.transfer_target = target
        self._transfer_deadline_ms = self.now_ms + self.settings.election_timeout_max_ms
        self.broadcast_requested = True
        return target

    def tick_transfer(self) -> None:
        """Tell the target to campaign once it holds the whole log; give up in time."""
        target = self.transfer_target
        if target is None:
            return
        state = self.peers.get(target)
        late = self.now_ms > self._transfer_deadline_ms
        if not self.is_leader or state is None or not state.connected or late:
            self.transfer_target = None
        elif self.match_indexes[state.node] == self.log.last_index:
            self.transfer_told_term = self.term
            self.send(target, TimeoutNow(term=self.term))

    def on_timeout_now(self, node_id: NodeId, message: TimeoutNow) -> None:
        """Campaign at once because the leader asks for it."""
        if message.term == self.term and self.leader_id == node_id and self.may_vote:
            self.campaign(transfer=True)

    def _transfer_candidates(self) -> list[NodeId]:
        return [
            node_id
            for node_id, state in self.peers.items()
            if state.connected and self.counts(node_id, state)
        ]

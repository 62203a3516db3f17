"""Messages that wait until what they speak for is durable.

One rule, enforced in one place: a message leaves when the write sequence that
it depends on is synced. A vote or an acknowledgement that left must survive a
crash of this node; the engine says what each message depends on
(`engine.ready.OutgoingMessage.depends`), and nothing else in the replica sends
Raft messages.

Owner: replica.replica. Tests: tests/unit/replica/test_outbox.py.
"""

from __future__ import annotations

from raftkv.engine.ready import OutgoingMessage
from raftkv.seams import PEER_RAFT, Network
from raftkv.types import NodeId, WriteSequence


class Outbox:
    """Holds messages back until `release`."""

    def __init__(self, network: Network, synced: WriteSequence) -> None:
        self._network = network
        self._synced = synced
        self._held: list[OutgoingMessage] = []

    @property
    def synced(self) -> WriteSequence:
        """Every write up to this one is durable."""
        return self._synced

    @property
    def held_count(self) -> int:
        """Messages that wait for a sync."""
        return len(self._held)

    def post(self, messages: list[OutgoingMessage]) -> None:
        """Send what may leave and hold the rest."""
        for message in messages:
            if message.depends <= self._synced:
                self._network.send(message.node, PEER_RAFT, message.body)
            else:
                self._held.append(message)

    def release(self, synced: WriteSequence) -> None:
        """Send what depended on writes that are durable by this report."""
        if synced <= self._synced:
            return
        self._synced = synced
        held, self._held = self._held, []
        self.post(held)

    def forget(self, node: NodeId) -> None:
        """Drop what is held for a peer whose link is gone."""
        self._held = [message for message in self._held if message.node != node]

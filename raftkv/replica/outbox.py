"""Messages that wait until what they speak for is durable.

One rule, enforced in one place: a message leaves when the write sequence that
it depends on is synced. A vote or an acknowledgement that left must survive a
crash of this node; the engine says what each message depends on
(`engine.ready.OutgoingMessage.depends`), and nothing else in the replica sends
Raft messages.

A disk may take its time while the leader goes on asking. So a message that says the
same as one that is held takes its place, if both wait for the same write: what is
held is bounded by the writes that are not durable, not by time.

Owner: replica.replica. Tests: tests/unit/replica/test_outbox.py.
"""

from __future__ import annotations

from raftkv.engine.messages import Message, subject
from raftkv.engine.ready import OutgoingMessage
from raftkv.seams import PEER_RAFT, Network
from raftkv.types import NodeId, WriteSequence


class Outbox:
    """Holds messages back until `release`."""

    def __init__(self, network: Network, synced: WriteSequence) -> None:
        self._network = network
        self._synced = synced
        # In the order in which they were posted.
        self._held: dict[tuple[NodeId, WriteSequence, Message | bytes], OutgoingMessage] = {}

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
                key = (message.node, message.depends, subject(message.body))
                # Not in the old one's place: what was posted between stays ahead.
                self._held.pop(key, None)
                self._held[key] = message

    def release(self, synced: WriteSequence) -> None:
        """Send what depended on writes that are durable by this report."""
        if synced <= self._synced:
            return
        self._synced = synced
        for key, message in list(self._held.items()):
            if message.depends <= synced:
                del self._held[key]
                self._network.send(message.node, PEER_RAFT, message.body)

    def forget(self, node: NodeId) -> None:
        """Drop what is held for a peer whose link is gone."""
        self._held = {key: message for key, message in self._held.items() if message.node != node}

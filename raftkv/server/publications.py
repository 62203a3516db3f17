"""Messages of PUBLISH on their way to the subscribers of all nodes.

A message goes to the subscribers of this node at once and to every other member
over the peer link, once and over one hop; it is in no log, is never sent again, and
where a link is down or full it is dropped and counted (docs/adr: messages are not
logged). All that a pass of the event loop brings goes to each peer in one frame.

Invariants: what one connection publishes reaches each subscriber in that order,
because both the links and this queue keep theirs; messages never fill more than a
quarter of a peer's queue, which the log needs too.

Called only on the thread that owns the state.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from raftkv.seams import PEER_PUBLISH
from raftkv.server.ports import PeerLinks
from raftkv.types import NodeId

if TYPE_CHECKING:
    from raftkv.server.service import Service

# Body of a frame: version, three zero bytes; then messages, each with 1 if it is for a
# shard channel, three zero bytes, and the lengths of channel and text in front of them.
_HEADER = struct.Struct("<Bxxx")
_MESSAGE = struct.Struct("<BxxxII")
_VERSION = 1

# A frame is sent as soon as it is this large; a single message may be larger.
_FRAME_BYTES = 256 * 1024
# Limit: a quarter of the peer queue, so that messages never close the link.
_QUEUE_SHARE = 4


class Publications:
    """Sends and receives the messages of one node."""

    def __init__(self, service: Service, network: PeerLinks) -> None:
        """Start with nothing on its way."""
        self._service = service
        self._network = network
        self._parts: list[bytes] = []
        self._size = 0
        self._count = 0
        self._scheduled = False

    def publish(self, channel: bytes, text: bytes, *, sharded: bool = False) -> int:
        """Send a message of a client of this node to all subscribers.

        Returns:
            How many of them are connected to this node.
        """
        service = self._service
        service.statistics.messages_published += 1
        if len(service.replica.configuration.members) > 1:
            header = _MESSAGE.pack(sharded, len(channel), len(text))
            self._parts += (header, channel, text)
            self._size += len(header) + len(channel) + len(text)
            self._count += 1
            if self._size >= _FRAME_BYTES:
                self.flush()
            elif not self._scheduled:
                self._scheduled = True
                service.call_soon(self.flush)
        return service.subscriptions.deliver(channel, text, sharded=sharded)

    def flush(self) -> None:
        """Send what was published to every peer whose queue has room for it."""
        self._scheduled = False
        if not self._count:
            return
        service, network = self._service, self._network
        body = b"".join((_HEADER.pack(_VERSION), *self._parts))
        count, self._count = self._count, 0
        self._parts, self._size = [], 0
        limits = service.config.limits
        room = limits.peer_queue_bytes_max // _QUEUE_SHARE
        replica = service.replica
        for member in replica.configuration.members:
            if member.id == replica.node_id:
                continue
            queued = network.queued_bytes(member.id)
            fits = not queued or queued + len(body) <= room
            if member.id in service.linked and fits and len(body) <= limits.peer_frame_bytes_max:
                network.send(member.id, PEER_PUBLISH, body)
            else:
                service.statistics.messages_dropped += count
        network.flush()

    def received(self, node: NodeId, body: bytes | memoryview) -> None:
        """Hand the messages of another node to subscribers; a malformed frame is dropped whole."""
        try:
            messages = _decode(bytes(body))
        except (struct.error, ValueError) as error:
            self._service.observer.event("publication_malformed", peer=node, error=str(error))
            return
        self._service.statistics.messages_received += len(messages)
        for sharded, channel, text in messages:
            self._service.subscriptions.deliver(channel, text, sharded=sharded)


def _decode(body: bytes) -> list[tuple[bool, bytes, bytes]]:
    """Return kind, channel and text of each message.

    Raises:
        ValueError, struct.error: It is not such a frame.
    """
    (version,) = _HEADER.unpack_from(body)
    if version != _VERSION:
        raise ValueError(f"version {version} of published messages")
    messages = []
    position = _HEADER.size
    while position < len(body):
        sharded, channel_size, text_size = _MESSAGE.unpack_from(body, position)
        start = position + _MESSAGE.size
        middle = start + channel_size
        position = middle + text_size
        if position > len(body) or sharded > 1:
            raise ValueError("a message that ends behind its frame, or of no known kind")
        messages.append((bool(sharded), body[start:middle], body[middle:position]))
    return messages

"""Counters of the front-end, as plain integers for INFO and /metrics.

Owned by the service of one listener; changed only on the thread that owns the
state. `reset` is CONFIG RESETSTAT. No names of metrics here: observe.metrics
and handlers_info choose them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

# What `ClientListener.counters` returns, for /metrics and its page.
MEANINGS = {
    "connections": "Open client connections.",
    "connections_blocked": "Clients that wait on this node for a key (leader only).",
    "connections_held": "Client connections with requests that wait for a leader.",
    "watches": "Watches of all connections.",
    "commands": "Commands carried out or proposed since the start.",
    "connections_accepted": "Clients that connected and were let in.",
    "connections_refused": "Clients turned away because of limits.clients_max.",
    "connections_closed_slow": "Clients cut off because of limits.output_buffer_bytes_max or "
    "limits.push_buffer_bytes_max.",
    "connections_closed_idle": "Clients closed because of limits.idle_seconds_max.",
    "protocol_errors": "Clients closed because of bytes that are not the protocol.",
    "error_replies": "Requests refused before they reached the store.",
    "forwards_sent": "Batches of requests sent to the leader for a client.",
    "forwards_received": "Batches of requests carried out for another node.",
    "messages_published": "Messages that clients of this node published.",
    "messages_received": "Messages that clients of other nodes published.",
    "messages_dropped": "Messages not sent to one of the other nodes, whose link was down or full.",
    "messages_pushed": "Messages to subscribers and watchers.",
    "bytes_received": "Bytes from clients.",
    "bytes_sent": "Bytes to clients.",
}


@dataclass(slots=True)
class Statistics:
    """What happened since the start, or since the counters were reset.

    Attributes:
        connections_accepted: Clients that connected and were let in.
        connections_refused: Clients turned away because of `limits.clients_max`.
        connections_closed_slow: Closed because of `limits.output_buffer_bytes_max` or
            `limits.push_buffer_bytes_max`.
        connections_closed_idle: Closed because of `limits.idle_seconds_max`.
        protocol_errors: Closed because of bytes that are not the protocol.
        error_replies: Requests refused before they reached the store.
        forwards_sent: Batches of requests sent to the leader for a client.
        forwards_received: Batches of requests carried out for another node.
        messages_published: By clients of this node.
        messages_received: Published by clients of other nodes.
        messages_dropped: Not sent to one of the other nodes, whose link was down or full.
        messages_pushed: To subscribers and watchers.
        bytes_received: From clients.
        bytes_sent: To clients.
    """

    connections_accepted: int = 0
    connections_refused: int = 0
    connections_closed_slow: int = 0
    connections_closed_idle: int = 0
    protocol_errors: int = 0
    error_replies: int = 0
    forwards_sent: int = 0
    forwards_received: int = 0
    messages_published: int = 0
    messages_received: int = 0
    messages_dropped: int = 0
    messages_pushed: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0

    def reset(self) -> None:
        """Set all counters to zero."""
        for counter in fields(self):
            setattr(self, counter.name, 0)

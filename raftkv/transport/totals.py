"""What all links of a node carried since it started, and what became of them.

Owns plain integers, so that counting costs an addition a read or flush and
nothing a frame. Invariant: a total never goes down, also when links end.

Who calls: `transport.mesh`; `observe.metrics` reads the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from raftkv.transport.link import PeerLink

# Every number that `PeerMesh.counters` gives: names that end in `_total` only
# grow, the others are of this moment.
PEER_METRICS: Final[Mapping[str, str]] = {
    "accepts_failed_total": "Times that accept() failed on the peer address",
    "bytes_received_total": "Bytes that arrived from peers",
    "bytes_sent_total": "Bytes sent to peers",
    "frames_received_total": "Frames that arrived from peers",
    "frames_sent_total": "Frames sent to peers",
    "handshakes_failed_total": "Accepted connections that ended before their handshake",
    "links": "Links that carry frames",
    "links_down_total": "Links that were up and ended",
    "links_refused_total": "Handshakes that ended with a refusal by either side",
    "links_unproven": "Accepted connections that have proven nothing yet",
    "links_up_total": "Links that came up",
    "queued_bytes": "Bytes sent to peers which the operating system has not taken",
}


class LinkTotals:
    """Sums over links that are over, and counts of what happened to links."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "frames_received",
        "frames_sent",
        "handshakes_failed",
        "links_down",
        "links_refused",
        "links_up",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_received = 0
        self.frames_sent = 0
        self.handshakes_failed = 0
        self.links_down = 0
        self.links_refused = 0
        self.links_up = 0

    def add(self, link: PeerLink) -> None:
        """Keep what a link carried that is over."""
        self.bytes_received += link.bytes_received
        self.bytes_sent += link.bytes_sent
        self.frames_received += link.frames_received
        self.frames_sent += link.frames_sent

    def as_dict(self, open_links: Iterable[PeerLink]) -> dict[str, int]:
        """Return the totals by metric name, those of `open_links` included."""
        sums = LinkTotals()
        for name in self.__slots__:
            setattr(sums, name, getattr(self, name))
        for link in open_links:
            sums.add(link)
        return {f"{name}_total": getattr(sums, name) for name in self.__slots__}

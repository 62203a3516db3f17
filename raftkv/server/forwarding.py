"""Forwards: requests of a client of one node, carried out by the leader.

`Forwarder` sends stretches of requests over the peer link (frame kinds 16 and
17), once, over one hop, and relays the leader's encoded replies. On the leader a
`ForwardedStream` runs them through the same pipeline as a client of its own.

What waits for a key waits on the leader, until the client's node cancels it with a
forward of the same number and without requests, or the link is lost.

A forward ends in exactly one way: replies; refused by a node that does not lead
(definite, routed again); or lost with the link or its deadline, which is
`UNKNOWN` for its writes and definite for its reads. It is never sent again once
its outcome is uncertain. Bodies: docs/reference/forwards.md.

Called only on the thread that owns the state.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from raftkv.config import ARGUMENT_OVERHEAD_BYTES
from raftkv.resp.parser import RequestParser
from raftkv.resp.values import encode_error
from raftkv.seams import NOT_LEADER, Network
from raftkv.server.blocking import BlockedRun
from raftkv.server.command_table import CommandSpec, Kind
from raftkv.server.pipeline import NOT_LEADER_REPLY, CommandPipeline
from raftkv.server.runs import Run
from raftkv.server.service import Service
from raftkv.types import NodeId

PEER_FORWARD = 16
PEER_FORWARD_REPLY = 17

# Body of a forward: version, RESP version of the replies, two zero bytes, forward
# number; then the requests as RESP arrays of bulk strings.
_FORWARD = struct.Struct("<BBxxQ")
# Body of a reply: version, outcome, 1 when more frames of it follow, a zero byte,
# forward number; then a piece of the replies.
_REPLY = struct.Struct("<BBBxQ")
_VERSION = 1

_ANSWERED = 0
_REFUSED = 1  # nothing was carried out: that node does not lead
_ANSWERED_UNKNOWN = 2  # as _ANSWERED, and one of the replies is UNKNOWN
_TOO_LARGE = 3  # carried out, but the replies exceed REPLIES_BYTES_MAX

REPLY_PIECE_BYTES = 1024 * 1024
REPLIES_BYTES_MAX = 16 * 1024 * 1024
# Limit: requests on their way to one node; a quarter of the peer queue, so that
# forwards never close the link that the log needs.
_QUEUE_SHARE = 4
_WRITES = (int(Kind.WRITE), int(Kind.BLOCKING))


def forward_bytes(request: Sequence[bytes]) -> int:
    """Return how much of a forward a request takes, at most."""
    return sum(map(len, request)) + ARGUMENT_OVERHEAD_BYTES * len(request)


class _Forward:
    """One forward whose replies are awaited."""

    __slots__ = ("deadline_ms", "node", "pieces", "run", "size")

    def __init__(self, run: Run, node: NodeId, size: int, deadline_ms: int) -> None:
        self.run = run
        self.node = node
        self.size = size
        self.deadline_ms = deadline_ms
        self.pieces: list[bytes] = []


class Forwarder:
    """Both ends of forwarding on one node.

    Attributes:
        pending_bytes: Forwards on their way, by node.
    """

    def __init__(self, service: Service, network: Network) -> None:
        """Start with no forward on its way; links count as up until reported down."""
        self._service = service
        self._network = network
        self._number = 0
        self._forwards: dict[int, _Forward] = {}
        # What is being carried out here for other nodes, by node and number.
        self._streams: dict[tuple[NodeId, int], ForwardedStream] = {}
        self._down: set[NodeId] = set()
        self.pending_bytes: dict[NodeId, int] = {}

    # ------------------------------------------------------------ origin

    def forward(self, run: Run, node: NodeId) -> bool:
        """Send a run to the leader.

        Returns:
            False, with nothing sent, when the link is down or already carries
            as much as it may.
        """
        service = self._service
        size = sum(map(forward_bytes, run.requests[run.first : run.end]))
        pending = self.pending_bytes.get(node, 0)
        room = service.config.limits.peer_queue_bytes_max // _QUEUE_SHARE - pending
        if node in self._down or (pending and size > room):
            return False
        self._number += 1
        forward = _Forward(run, node, size, self._deadline_ms(run))
        self._forwards[self._number] = forward
        self.pending_bytes[node] = pending + size
        run.forwarded = True
        parts = [_FORWARD.pack(_VERSION, run.protocol, self._number)]
        for request in run.requests[run.first : run.end]:
            parts.append(b"*%d\r\n" % len(request))
            parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in request]
        service.statistics.forwards_sent += 1
        self._network.send(node, PEER_FORWARD, b"".join(parts))
        self._network.flush()
        return True

    def _deadline_ms(self, run: Run) -> int:
        """Return when a forward is given up; 0 for one that waits until its link is lost."""
        end_ms = self._service.deadline_ms(run)
        if not isinstance(run, BlockedRun):
            return end_ms
        return end_ms + run.pop.timeout_ms if run.pop.timeout_ms else 0

    def cancel(self, run: Run) -> None:
        """Tell the leader that nobody waits any longer for what a run would pop."""
        for number, forward in self._forwards.items():
            if forward.run is run:
                body = _FORWARD.pack(_VERSION, run.protocol, number)
                self._network.send(forward.node, PEER_FORWARD, body)
                self._network.flush()
                break

    def peer_up(self, node: NodeId) -> None:
        """Forwards to a node may be sent."""
        self._down.discard(node)

    def peer_down(self, node: NodeId) -> None:
        """The link is gone: what was on its way may or may not have been carried out."""
        self._down.add(node)
        for number, forward in list(self._forwards.items()):
            if forward.node == node:
                self._lose(number, "link to the leader lost")
        for origin, number in list(self._streams):
            if origin == node:
                self._streams.pop((origin, number)).stop_waiting()
        self._service.turn_ended()

    def expire(self, now_ms: int) -> None:
        """Give up forwards whose deadline has come."""
        # In no order of their deadlines: what has waited for a leader has less time left.
        for number, forward in list(self._forwards.items()):
            if 0 < forward.deadline_ms <= now_ms:
                self._lose(number, "timeout")

    def _finish(self, number: int) -> _Forward:
        forward = self._forwards.pop(number)
        self.pending_bytes[forward.node] -= forward.size
        return forward

    def _lose(self, number: int, reason: str) -> None:
        """Answer a forward whose replies will not come."""
        run = self._finish(number).run
        replies: list[bytes] = []
        for request in run.requests[run.first : run.end]:
            spec = self._service.table.find(request)
            if spec is not None and spec.kind in _WRITES:
                run.pipeline.poison()
                replies.append(encode_error(f"UNKNOWN {reason}"))
            else:
                replies.append(encode_error(f"NOTAPPLIED {reason}"))
        run.relay(replies)

    # ------------------------------------------------------------ both

    def received(self, node: NodeId, kind: int, body: bytes | memoryview) -> None:
        """Take a frame of kind 16 or 17 from a peer; malformed ones are reported and dropped."""
        try:
            if kind == PEER_FORWARD:
                self._carry_out(node, bytes(body))
            elif kind == PEER_FORWARD_REPLY:
                self._take_reply(node, bytes(body))
        except (struct.error, ValueError) as error:
            self._service.observer.event("forward_malformed", peer=node, error=str(error))

    def _take_reply(self, node: NodeId, body: bytes) -> None:
        version, outcome, more, number = _REPLY.unpack_from(body)
        if version != _VERSION:
            raise ValueError(f"version {version} of a forward's reply")
        forward = self._forwards.get(number)
        if forward is None or forward.node != node:
            return  # Its deadline was earlier.
        forward.pieces.append(body[_REPLY.size :])
        if more:
            return
        if outcome == _TOO_LARGE:
            self._lose(number, "reply too large to be proxied")
        elif outcome == _REFUSED:
            self._finish(number).run.fail(NOT_LEADER)
        else:
            run = self._finish(number).run
            if outcome == _ANSWERED_UNKNOWN:
                run.pipeline.poison()
            run.relay(forward.pieces)
        self._service.turn_ended()

    # ------------------------------------------------------------ leader

    def _carry_out(self, node: NodeId, body: bytes) -> None:
        version, protocol, number = _FORWARD.unpack_from(body)
        if version != _VERSION or protocol not in (2, 3):
            raise ValueError(f"version {version} of a forward, protocol {protocol}")
        if len(body) == _FORWARD.size:
            self._cancelled(node, number)
            return
        limits = self._service.config.limits
        parser = RequestParser(
            request_bytes_max=limits.request_bytes_max,
            request_arguments_max=limits.request_arguments_max,
        )
        requests = parser.parse(body[_FORWARD.size :])
        if parser.error is not None or not requests:
            raise ValueError(parser.error or "a forward without requests")
        self._service.statistics.forwards_received += 1
        stream = ForwardedStream(self, node, number, protocol)
        self._streams[node, number] = stream
        stream.carry_out(requests)

    def _cancelled(self, node: NodeId, number: int) -> None:
        stream = self._streams.get((node, number))
        if stream is not None:
            stream.stop_waiting()
            self._service.turn_ended()

    def reply(self, node: NodeId, number: int, outcome: int, parts: Sequence[bytes]) -> None:
        """Send the encoded replies of a forward back, in frames of bounded size."""
        self._streams.pop((node, number), None)
        data = b"".join(parts)
        frame_bytes_max = self._service.config.limits.peer_frame_bytes_max
        piece_bytes = min(REPLY_PIECE_BYTES, frame_bytes_max - _REPLY.size)
        position = 0
        while True:
            end = position + piece_bytes
            header = _REPLY.pack(_VERSION, outcome, end < len(data), number)
            self._network.send(node, PEER_FORWARD_REPLY, header + data[position:end])
            if end >= len(data):
                break
            position = end
        self._network.flush()

    @property
    def service(self) -> Service:
        """What the streams of forwarded requests run on."""
        return self._service


class ForwardedStream(CommandPipeline):
    """The requests of one forward on the node that leads."""

    __slots__ = (
        "_ended",
        "_forwarder",
        "_node",
        "_number",
        "_parts",
        "_refused",
        "_size",
        "_started",
    )

    def __init__(self, forwarder: Forwarder, node: NodeId, number: int, protocol: int) -> None:
        """Reply to `node` under `number`."""
        super().__init__(forwarder.service)
        self.protocol = protocol
        # The client's read level was settled by the node that it is connected to.
        self.set_read_level("linearizable")
        self._forwarder = forwarder
        self._node = node
        self._number = number
        self._parts: list[bytes] = []
        self._size = 0
        self._refused = False
        self._started = False
        self._ended = False

    def carry_out(self, requests: list[list[bytes]]) -> None:
        """Run the requests; the reply leaves when the last one is answered."""
        self.ending = True
        self.take(requests)
        if self._output or self.dirty or not self._fifo:
            self.flush()

    def stop_waiting(self) -> None:
        """Nobody is there any more for what a blocking pop may still find."""
        if self.blocked is not None:
            self.quit()

    def _gather(self, requests: list[list[bytes]], first: int) -> int:
        self._started = True
        return super()._gather(requests, first)

    def _take_following(self, requests: list[list[bytes]]) -> None:
        if self._started:
            for _ in requests:
                self._reply(NOT_LEADER_REPLY)
        else:
            self._refused = True

    def _do_locally(self, spec: CommandSpec, arguments: list[bytes]) -> bool:
        self._reply(encode_error(f"ERR '{spec.name}' cannot be proxied"))
        return True

    def _answer_not_leader(self, run: Run) -> bool:
        if not self._size and not self._output:
            entries = list(self._fifo)
            runs = [entry for entry in entries if isinstance(entry, Run)]
            if not all(entry.finished for entry in runs):
                return False
            if len(runs) == len(entries) and all(
                entry.failure is not None and entry.failure.reason == NOT_LEADER.reason
                for entry in runs
            ):
                self._refused = True
                self._fifo.clear()
                self._backlog = []
                self._blocked = False
                return False
        self._output += self._not_leader_replies(run)
        return True

    def _send(self, parts: Sequence[bytes]) -> None:
        self._size += sum(map(len, parts))
        if self._size > REPLIES_BYTES_MAX:
            self._parts = []
        else:
            self._parts += parts

    @property
    def origin(self) -> str:
        """Name of the node that forwarded, for the log."""
        return self._node

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._refused:
            outcome = _REFUSED
        elif self._size > REPLIES_BYTES_MAX:
            outcome = _TOO_LARGE
        else:
            outcome = _ANSWERED_UNKNOWN if self._poisoned else _ANSWERED
        self._forwarder.reply(self._node, self._number, outcome, self._parts)

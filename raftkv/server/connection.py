"""One client's socket: bytes in, requests to the pipeline, replies out.

`ClientConnection` is an asyncio protocol on top of
`pushes.PushingPipeline`. It parses everything a read brought, lets
the pipeline carry it out, and writes the replies of a turn with one call. It owns
the state that a client can set (RESP version, name, routing, read level) and the
flow of bytes: reading stops while requests wait, while the client does not take
its replies, and while the replica has enough to do. Large replies are handed to
the socket in pieces, as the client takes them; one that takes nothing while more
than the limit waits is cut off.

A half-closed connection (`printf ... | nc`) is answered before it is closed,
but requests held for a leader are dropped with it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import cast

from raftkv.resp.parser import RequestParser
from raftkv.resp.values import encode_error
from raftkv.server.pushes import PushingPipeline
from raftkv.server.routing import SHUTTING_DOWN_REPLY
from raftkv.server.service import Service

CLIENTS_MAX_REPLY = encode_error("ERR max number of clients reached")

# While requests are held or wait for a key, reading goes on so that a closed connection is
# noticed, but only for this much more input.
_HELD_BYTES_MAX = 256 * 1024
# What a client may leave unread before its requests are no longer read.
_HIGH_WATER_BYTES = 64 * 1024
# How long a client may take nothing while more than the limit waits for it.
STALLED_MS = 5000
# Above this, parts are handed over one by one instead of being joined.
_JOINED_BYTES_MAX = 128 * 1024


class ClientConnection(PushingPipeline, asyncio.Protocol):
    """The protocol object of one accepted socket.

    Attributes:
        number: CLIENT ID.
        name: CLIENT SETNAME.
        library_name: CLIENT SETINFO LIB-NAME.
        library_version: CLIENT SETINFO LIB-VER.
        client_address: `host:port` of the client.
        local_address: `host:port` of this side.
        opened_second: Clock second of the connection's start.
        active_second: Clock second of the last input.
        last_word: First word of the newest request.
    """

    __slots__ = (
        "_held_bytes",
        "_output_max",
        "_parser",
        "_reading",
        "_stalled_bytes",
        "_stalled_ms",
        "_transport",
        "_unchecked_max",
        "active_second",
        "client_address",
        "last_word",
        "library_name",
        "library_version",
        "local_address",
        "name",
        "number",
        "opened_second",
    )

    def __init__(self, service: Service) -> None:
        """Wait for `connection_made`."""
        super().__init__(service)
        limits = service.config.limits
        self._parser = RequestParser(
            request_bytes_max=limits.request_bytes_max,
            request_arguments_max=limits.request_arguments_max,
        )
        self._output_max = limits.output_buffer_bytes_max
        # While the transport has not paused us, it holds less than its high water
        # mark; so much more needs no look at its buffer.
        self._unchecked_max = self._output_max - _HIGH_WATER_BYTES
        self._transport: asyncio.Transport | None = None
        self._reading = True
        self._stalled_ms = 0
        self._stalled_bytes = 0
        self._held_bytes = 0
        self.number = 0
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.client_address = self.local_address = ""
        self.opened_second = self.active_second = service.seconds
        self.last_word = b"NULL"

    # ------------------------------------------------------------ socket events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register, or turn the client away."""
        service = self.service
        self._transport = cast(asyncio.Transport, transport)
        if service.is_full or service.draining:
            service.statistics.connections_refused += 1
            reply = SHUTTING_DOWN_REPLY if service.draining else CLIENTS_MAX_REPLY
            self._transport.write(reply)
            self._transport.close()
            self._transport = None
            return
        service.statistics.connections_accepted += 1
        self.number = service.next_connection_number()
        self.client_address = _address(transport.get_extra_info("peername"))
        self.local_address = _address(transport.get_extra_info("sockname"))
        if (opened := transport.get_extra_info("socket")) is not None:
            # A client whose machine is gone is noticed by the operating system.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        service.connections[self.number] = self
        self.update_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """Drop what was not carried out; answers that still come go nowhere."""
        self._transport = None
        self._leave_lists()
        self.quit()
        self.release()
        self.unsubscribe_all()
        self.discard()
        self.service.forget(self.number)

    def data_received(self, data: bytes) -> None:
        """Carry out every request that is now whole."""
        service = self.service
        service.statistics.bytes_received += len(data)
        self.active_second = service.seconds
        if self._blocked and self._is_waiting:
            self._held_bytes += len(data)
        try:
            requests = self._parser.parse(data)
            if requests:
                self.last_word = requests[-1][0]
                self.take(requests)
            if self._output or self.dirty:
                self.flush()
        except Exception as error:
            self.break_off(error)
            return
        if self._blocked and self._is_waiting:
            self.update_reading()
        if self._parser.error is not None and not self.ending:
            self._end_behind_protocol_error()

    def eof_received(self) -> bool:
        """Answer what was read, then close; what is held or waits for a key is dropped."""
        self.ending = True
        if self._is_waiting:
            self.quit()
            self.release()
        if self.is_idle:
            # In its turn: behind a thousand others that leave, others wait for each.
            self.service.close_soon(self)
        else:
            self.flush()
        return True

    def pause_writing(self) -> None:
        """The client does not take its replies: read no more of its requests."""
        self._writable = False
        self._stalled_ms = self.service.clock.now_ms()
        self._stalled_bytes = 0
        self.service.stalled.add(self)
        self.update_reading()

    def resume_writing(self) -> None:
        """The client took its replies."""
        self._writable = True
        self.service.stalled.discard(self)
        self.update_reading()
        self._resume_messages()
        if self._fifo or (self._blocked and not self.held):
            self.flush()

    def check_taking(self, now_ms: int) -> None:
        """Cut off a client that takes nothing while more than the limit waits for it."""
        transport = self._transport
        if transport is None:
            return
        buffered = transport.get_write_buffer_size()
        if buffered < self._stalled_bytes:
            self._stalled_ms = now_ms
        self._stalled_bytes = buffered
        if now_ms - self._stalled_ms >= STALLED_MS:
            if self.is_too_slow or buffered + self._waiting_reply_bytes() > self._output_max:
                self._cut_off()

    # ------------------------------------------------------------ flow

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for an answer or to be carried out."""
        return not self._fifo and not self._backlog and not self._output

    @property
    def _is_waiting(self) -> bool:
        """Whether it may take long until the backlog is carried out."""
        return self.held or self.blocked is not None

    def update_reading(self) -> None:
        """Read from the socket exactly while more input is welcome."""
        wanted = (
            self._writable
            and not self.ending
            and self._replica.accepting
            and (not self._blocked or (self._is_waiting and self._held_bytes <= _HELD_BYTES_MAX))
        )
        if not self._is_waiting:
            self._held_bytes = 0
        transport = self._transport
        if wanted != self._reading and transport is not None and not transport.is_closing():
            self._reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def _reading_changed(self) -> None:
        self.update_reading()

    def _may_resume(self) -> bool:
        return self._writable and super()._may_resume()

    def step_down(self) -> None:
        """This node leads no longer: close a redirected client once it is answered.

        Messages reach a subscriber through any node, and would be lost while it connects.
        """
        if not self.proxied and not self.readonly and not self.is_subscribed:
            self.finish()

    def finish(self) -> None:
        """Read no more; close once everything that was read is answered."""
        self.ending = True
        self.update_reading()
        self.flush()

    def _end_behind_protocol_error(self) -> None:
        self.service.statistics.protocol_errors += 1
        self.ending = True
        self.update_reading()
        self.farewell = encode_error(f"ERR {self._parser.error}")
        self.flush()

    # ------------------------------------------------------------ output

    def _send(self, parts: Sequence[bytes]) -> None:
        transport = self._transport
        if transport is None:
            return
        if len(parts) == 1:
            data = parts[0]
            size = len(data)
        else:
            size = sum(map(len, parts))
            data = b"".join(parts) if size <= _JOINED_BYTES_MAX else b""
        self.service.statistics.bytes_sent += size
        if (
            size > self._unchecked_max or not self._writable
        ) and transport.get_write_buffer_size() + size > self._output_max:
            self._cut_off()
        elif data:
            transport.write(data)
        else:
            transport.writelines(parts)

    def _cut_off(self) -> None:
        self.service.statistics.connections_closed_slow += 1
        self.service.observer.event("client_too_slow", client=self.client_address)
        self.abort()

    def _end(self) -> None:
        self.close()

    @property
    def origin(self) -> str:
        """Address of the client, for the log."""
        return self.client_address

    def break_off(self, error: Exception) -> None:
        """Cut the client off because of a defect."""
        super().break_off(error)
        self.abort()

    def close(self) -> None:
        """Close the socket behind what was written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the socket at once."""
        self._writable = False
        self._leave_lists()
        self.quit()
        self.release()
        if self._transport is not None:
            self._transport.abort()

    def _leave_lists(self) -> None:
        self.service.stalled.discard(self)
        self.service.parting.discard(self)


def _address(name: object) -> str:
    """Show a socket's name as `host:port`, IPv6 in brackets."""
    if not isinstance(name, tuple) or len(name) < 2:
        return "?:0"
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"

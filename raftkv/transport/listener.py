"""Accepts connections on one address for as long as the node runs.

Owns the listening sockets and nothing of what comes in through them. Invariant:
no failure of accept() closes a listening socket; when the process or the machine
is out of descriptors, accepting pauses and is tried again.

Why not `loop.create_server`: when accept() fails, uvloop closes the waiting
connections or the whole server without a word, asyncio logs a traceback each
time. Here it is one event, a pause, and nothing else.

Who calls: `transport.mesh` for peers; any server above may use it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final

from raftkv.config import split_address
from raftkv.seams import Observer

_BACKLOG: Final = 1024
# Connections taken in one turn of the loop, so that a flood does not starve the rest.
_ACCEPTS_PER_TURN: Final = 16
_RETRY_DELAY_S: Final = 0.2
_TLS_HANDSHAKE_TIMEOUT_S: Final = 5.0


class Listener:
    """Listening sockets of one address.

    Attributes:
        make_protocol: Makes the protocol for one new connection; may be set until `start`.
        accepted_count: Connections taken since the start.
        failed_count: Failures of accept() since the start.
    """

    def __init__(
        self,
        address: str,
        make_protocol: Callable[[], asyncio.Protocol],
        observer: Observer,
        *,
        failure_event: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Prepare; nothing is bound before `start`.

        Args:
            address: `host:port` to bind.
            make_protocol: See `Listener`.
            observer: Hears of failures of accept().
            failure_event: Under this name.
            tls: Server-side context, or None for plain TCP.
        """
        self.accepted_count = 0
        self.failed_count = 0
        self._address = address
        self.make_protocol = make_protocol
        self._observer = observer
        self._failure_event = failure_event
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def bind(self) -> None:
        """Bind and listen; connections wait until `start`.

        Raises:
            OSError: The address is in use, or not one of this machine.
        """
        loop = asyncio.get_running_loop()
        host, port = split_address(self._address)
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, target in dict.fromkeys(found):
                self._bind(socket.socket(family, kind, protocol), target)
        except OSError:
            self.stop()
            raise

    async def start(self) -> None:
        """Take connections, after `bind` if that was not called.

        Raises:
            OSError: The address is in use, or not one of this machine.
        """
        if not self._sockets:
            await self.bind()
        self._loop = loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening, self._take, listening)

    def stop(self) -> None:
        """Close the listening sockets. Connections stay."""
        for listening in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
        for task in self._tasks:
            task.cancel()

    def _bind(self, listening: socket.socket, target: object) -> None:
        self._sockets.append(listening)
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            # The IPv4 address of the same name has a socket of its own.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(target)  # type: ignore[arg-type]
        listening.listen(_BACKLOG)

    def _take(self, listening: socket.socket) -> None:
        """Accept what waits. Called by the event loop."""
        assert self._loop is not None
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Out of descriptors or memory. The socket stays readable, so
                # without a pause the loop would spin.
                self.failed_count += 1
                self._observer.event(self._failure_event, error=str(error))
                self._loop.remove_reader(listening)
                self._loop.call_later(_RETRY_DELAY_S, self._resume, listening)
                return
            self.accepted_count += 1
            connection.setblocking(False)
            # A client that is gone already makes some systems refuse the option.
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._adopt(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._sockets and self._loop is not None:
            self._loop.add_reader(listening, self._take, listening)

    async def _adopt(self, connection: socket.socket) -> None:
        """Put a protocol on an accepted connection."""
        assert self._loop is not None
        protocol = self.make_protocol()
        try:
            if self._tls is None:
                await self._loop.connect_accepted_socket(lambda: protocol, connection)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: protocol,
                    connection,
                    ssl=self._tls,
                    ssl_handshake_timeout=_TLS_HANDSHAKE_TIMEOUT_S,
                )
        except (OSError, asyncio.CancelledError) as error:
            # ssl.SSLError is an OSError: whoever is there does not speak TLS.
            connection.close()
            protocol.connection_lost(error if isinstance(error, OSError) else None)
            if isinstance(error, asyncio.CancelledError):
                raise

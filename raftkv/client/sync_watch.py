"""A watch for threads: an iterator over the changes, on a socket of its own.

Owns the socket. What is asked, and when another node is, is decided by
client.watching. One thread at a time may use a watch; another one may close it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from types import TracebackType
from typing import Generic, Self, TypeVar

from raftkv.client.policy import CONNECT_S_MAX
from raftkv.client.protocol import split_address
from raftkv.client.watching import Change, Watching

V = TypeVar("V")
_RECEIVE_BYTES = 256 * 1024


class Watch(Generic[V]):
    """The changes of a key or a prefix, in order; made by `Client.watch`.

    Iterating waits for changes and ends when the watch is closed. Loss of a node or of
    the leader is not noticed, but for a pause.
    """

    def __init__(self, watching: Watching[V]) -> None:
        self._watching = watching
        self._socket: socket.socket | None = None
        self._is_closed = False
        self._poll = select.poll()
        watching.begin(time.monotonic())
        try:
            while not watching.is_started:
                self._advance(time.monotonic() + 1.0)
            self._watching.check_accepted()
        except BaseException:
            self.close()
            raise

    @property
    def revision(self) -> int:
        """Revision up to which all changes have been returned: go on from the next."""
        return self._watching.revision or 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change[V]:
        while not self._is_closed:
            change = self.next_change(timeout_s=3600.0)
            if change is not None:
                return change
        raise StopIteration

    def next_change(self, *, timeout_s: float) -> Change[V] | None:
        """Return the next change.

        Args:
            timeout_s: Seconds to wait for it; 0 for what has arrived already.

        Returns:
            None when there was none in time, or the watch is closed.

        Raises:
            CompactedError: Changes were missed, because they are gone; the watch is over.
            ConnectFailedError: No node could be reached for the deadline of the client.
                Nothing is missed; the next call goes on.
        """
        end_s = time.monotonic() + timeout_s
        while not self._is_closed:
            change = self._watching.take()
            if change is not None:
                return change
            if not self._advance(end_s) and time.monotonic() >= end_s:
                return self._watching.take()
        return None

    def close(self) -> None:
        """End the watch."""
        self._is_closed = True
        self._disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _disconnect(self) -> None:
        connected, self._socket = self._socket, None
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            connected.close()

    def _advance(self, end_s: float) -> bool:
        """Connect, or wait for bytes; whether anything arrived."""
        try:
            if self._socket is None:
                self._connect()
            return self._receive(end_s)
        except OSError as error:
            self._disconnect()
            if not self._is_closed:
                time.sleep(self._watching.failed(error, time.monotonic()))
            return False

    def _connect(self) -> None:
        address = split_address(self._watching.choose())
        connected = socket.create_connection(address, CONNECT_S_MAX)
        self._socket = connected
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(CONNECT_S_MAX)
        connected.sendall(self._watching.connected(time.monotonic()))
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)

    def _receive(self, end_s: float) -> bool:
        watching, connected = self._watching, self._socket
        if connected is None:
            raise ConnectionError("closed")
        now_s = time.monotonic()
        wait_s = max(0.0, min(end_s - now_s, watching.wait_s(now_s)))
        readable = self._poll.poll(wait_s * 1000)
        if readable:
            data = connected.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionError("closed by the server")
            watching.received(data, time.monotonic())
        elif request := watching.due(time.monotonic()):
            connected.sendall(request)
        if reason := watching.left():
            raise ConnectionError(reason)
        return bool(readable)

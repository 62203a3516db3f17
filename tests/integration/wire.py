"""A client that hides nothing: sends what it is told, returns what came back.

Real client libraries reconnect, retry and follow redirects, which is what a test
of the server must not do behind its own back. Replies are those of hiredis;
an error is returned as `hiredis.ReplyError`, not raised.
"""

from __future__ import annotations

import select
import socket
import time
from types import TracebackType
from typing import Any

import hiredis

ReplyError = hiredis.ReplyError
# Longer than any deadline of the server, so that silence is the server's fault.
REPLY_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 5.0


def encode(*arguments: str | bytes | int) -> bytes:
    """Return one request as RESP."""
    return bytes(hiredis.pack_command(arguments))


def split_address(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


class Wire:
    """One connection to one node.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = REPLY_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.address = address
        self.socket = socket.create_connection(split_address(address), connect_timeout_s)
        self.socket.settimeout(timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Any:
        """Return the next reply.

        Raises:
            ConnectionError: The node closed the connection first.
            TimeoutError: Nothing came in time.
        """
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError(f"{self.address} closed the connection")
            self._reader.feed(data)
        return reply

    def call(self, *arguments: str | bytes | int) -> Any:
        """Send one request and return its reply."""
        self.send(encode(*arguments))
        return self.read()

    def pipeline(self, requests: list[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Send all requests at once and return their replies."""
        self.send(b"".join(encode(*request) for request in requests))
        return [self.read() for _ in requests]

    def read_to_end(self, limit_s: float = REPLY_TIMEOUT_S) -> bytes:
        """Return every byte up to the end of the connection.

        Raises:
            TimeoutError: The node did not close it in time.
        """
        parts = []
        end_s = time.monotonic() + limit_s
        while True:
            ready, _, _ = select.select([self.socket], [], [], max(0, end_s - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{self.address} kept the connection; sent {parts!r}")
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return b"".join(parts)
            if not data:
                return b"".join(parts)
            parts.append(data)


def call(address: str, *arguments: str | bytes | int, timeout_s: float = REPLY_TIMEOUT_S) -> Any:
    """Make a connection for one request."""
    with Wire(address, timeout_s=timeout_s) as wire:
        return wire.call(*arguments)

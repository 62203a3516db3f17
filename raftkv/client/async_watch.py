"""A watch for asyncio: an asynchronous iterator over the changes, on a connection of its own.

Owns the connection. What is asked, and when another node is, is decided by
client.watching. One task at a time may use a watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Generic, Self, TypeVar

from raftkv.client.policy import CLOSED, CONNECT_S_MAX
from raftkv.client.protocol import split_address
from raftkv.client.watching import Change, Watching
from raftkv.errors import ConnectFailedError

V = TypeVar("V")
_RECEIVE_BYTES = 256 * 1024


class AsyncWatch(Generic[V]):
    """The changes of a key or a prefix, in order; made by `AsyncClient.watch`.

    Iterating waits for changes and ends when the watch is closed. Loss of a node or of
    the leader is not noticed, but for a pause.
    """

    def __init__(self, watching: Watching[V]) -> None:
        self._watching = watching
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Connect; called by `AsyncClient.watch`."""
        self._watching.begin(time.monotonic())
        try:
            while not self._watching.is_started:
                if self._is_closed:
                    raise ConnectFailedError(CLOSED)
                await self._advance(time.monotonic() + 1.0)
            self._watching.check_accepted()
        except BaseException:
            self._disconnect()
            raise

    @property
    def revision(self) -> int:
        """Revision up to which all changes have been returned: go on from the next."""
        return self._watching.revision or 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change[V]:
        while not self._is_closed:
            change = await self.next_change(timeout_s=3600.0)
            if change is not None:
                return change
        raise StopAsyncIteration

    async def next_change(self, *, timeout_s: float) -> Change[V] | None:
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
            if not await self._advance(end_s) and time.monotonic() >= end_s:
                return self._watching.take()
        return None

    async def close(self) -> None:
        """End the watch."""
        self._is_closed = True
        writer = self._writer
        self._disconnect()
        if writer is not None:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _disconnect(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def _advance(self, end_s: float) -> bool:
        """Connect, or wait for bytes; whether anything arrived."""
        try:
            if self._reader is None:
                await self._connect()
            return await self._receive(end_s)
        except OSError as error:
            self._disconnect()
            if not self._is_closed:
                await asyncio.sleep(self._watching.failed(error, time.monotonic()))
            return False

    async def _connect(self) -> None:
        host, port = split_address(self._watching.choose())
        async with asyncio.timeout(CONNECT_S_MAX):
            reader, writer = await asyncio.open_connection(host, port)
        if self._is_closed:
            writer.transport.abort()
            raise ConnectionError("closed")
        self._reader, self._writer = reader, writer
        self._writer.write(self._watching.connected(time.monotonic()))

    async def _receive(self, end_s: float) -> bool:
        watching, reader, writer = self._watching, self._reader, self._writer
        if reader is None or writer is None:
            raise ConnectionError("closed")
        now_s = time.monotonic()
        wait_s = max(0.0, min(end_s - now_s, watching.wait_s(now_s)))
        data: bytes | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                data = await reader.read(_RECEIVE_BYTES)
        if data is not None:
            if not data:
                raise ConnectionError("closed by the server")
            watching.received(data, time.monotonic())
        elif request := watching.due(time.monotonic()):
            writer.write(request)
        if reason := watching.left():
            raise ConnectionError(reason)
        return data is not None

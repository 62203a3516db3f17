"""One connection to a node on an asyncio loop.

Owns a transport and the reader of its replies. Owns no retry and no choice of
node: it reports how an exchange ended. Bytes go out and come in independently,
so that a long pipeline cannot block against a server that waits for its
replies to be read.

Invariant: an exchange that is cancelled or too late leaves the connection
unusable, because its replies may still come; the user aborts it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import cast

from raftkv.client.policy import Exchanged, Fate
from raftkv.client.protocol import NOT_READY, ReplyReader, split_address
from raftkv.errors import ProtocolError


class AsyncConnection(asyncio.Protocol):
    """A connected transport that speaks requests and replies; made by `open_connection`.

    Attributes:
        address: `host:port` of the node.
        closed: Done when the connection has ended.
        is_leaving: It ends by itself as soon as all is sent.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_leaving = False
        self.closed = asyncio.get_running_loop().create_future()
        self._reader = ReplyReader()
        self._replies: list[object] = []
        self._reply_count = 0
        self._done: asyncio.Future[Fate] | None = None
        self._detail = "closed by the server"
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (called by the loop)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Collect replies (called by the loop)."""
        try:
            self._reader.feed(data)
            while (reply := self._reader.next_reply()) is not NOT_READY:
                self._replies.append(reply)
        except ProtocolError as error:
            self._detail = str(error)
            self.abort()
            return
        if self._done is None:
            self.abort()  # Nobody asked: the connection is out of step.
        elif len(self._replies) >= self._reply_count:
            self._finish(Fate.COMPLETE)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the waiting exchange and whoever waits for the end (called by the loop)."""
        if error is not None:
            self._detail = str(error) or "connection lost"
        self._finish(Fate.LOST)
        if not self.closed.done():
            self.closed.set_result(None)

    def _finish(self, fate: Fate) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(fate)

    def is_usable(self) -> bool:
        """Whether an idle connection is still open and has nothing unread.

        The loop may not have told yet that the server closed it, so the socket is
        asked: that keeps the next write from an unknown outcome.
        """
        if self._transport is None or self._transport.is_closing():
            return False
        watched = select.poll()
        watched.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not watched.poll(0)

    def send_and_close(self, payload: bytes) -> None:
        """Send a request of which no answer is awaited, and close behind it."""
        if self._transport is not None and not self._transport.is_closing():
            self.is_leaving = True
            self._transport.write(payload)
            self._transport.close()

    def abort(self) -> None:
        """Close at once; `closed` is done when the loop has done so."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, payload: bytes, reply_count: int, *, reply_s_max: float) -> Exchanged:
        """Send requests and collect their replies."""
        if self._transport is None or self._transport.is_closing():
            return Exchanged(Fate.UNREACHABLE, detail=f"{self.address}: {self._detail}")
        self._replies, self._reply_count = [], reply_count
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(payload)
        try:
            async with asyncio.timeout(reply_s_max):
                fate = await self._done
        except TimeoutError:
            return Exchanged(Fate.TIMED_OUT, self._replies, f"{self.address}: no reply in time")
        finally:
            self._done = None
        return Exchanged(fate, self._replies, f"{self.address}: {self._detail}")


async def open_connection(address: str, *, connect_s_max: float) -> AsyncConnection:
    """Connect to a node.

    Args:
        address: `host:port` of the node.
        connect_s_max: Seconds until the connection must stand.

    Raises:
        OSError: It cannot be reached; nothing was sent.
    """
    host, port = split_address(address)
    connection = AsyncConnection(address)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(connect_s_max):
            await loop.create_connection(lambda: connection, host, port)
    except BaseException:
        with contextlib.suppress(Exception):
            connection.abort()
        raise
    return connection

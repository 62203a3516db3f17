"""One blocking connection to a node.

Owns a socket and the reader of its replies. Owns no retry and no choice of
node: it reports how an exchange ended and is closed by its user when that was
anything but complete.

Invariant: sending and receiving overlap, so that a long pipeline cannot block
against a server that waits for its replies to be read.

Used by one thread at a time: client.sync_client lends it out.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from raftkv.client.policy import CONNECT_S_MAX, Exchanged, Fate
from raftkv.client.protocol import NOT_READY, ReplyReader, split_address, unreachable
from raftkv.errors import ProtocolError

_RECEIVE_BYTES = 256 * 1024


class SyncConnection:
    """A connected socket that speaks requests and replies.

    Args:
        address: `host:port` of a node.
        connect_s_max: Seconds until the connection must stand.

    Raises:
        OSError: It cannot be reached; nothing was sent.
    """

    def __init__(self, address: str, *, connect_s_max: float) -> None:
        self.address = address
        self._socket = socket.create_connection(
            split_address(address), max(0.001, min(connect_s_max, CONNECT_S_MAX))
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._reader = ReplyReader()

    def close(self) -> None:
        """Close the socket; the server drops what it has not answered."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def send_and_close(self, payload: bytes) -> None:
        """Send a request of which no answer is awaited, as far as that goes at once."""
        with contextlib.suppress(OSError):
            self._socket.send(payload)
        self.close()

    def is_usable(self) -> bool:
        """Whether an idle connection is still open and has nothing unread.

        A server closes its connections when it loses the leadership. Seeing that
        before sending keeps the next write from an unknown outcome.
        """
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exchange(self, payload: bytes, reply_count: int, *, reply_s_max: float) -> Exchanged:
        """Send requests and collect their replies."""
        end_s = time.monotonic() + reply_s_max
        replies: list[object] = []
        unsent = memoryview(payload)
        while len(replies) < reply_count:
            if unsent:
                try:
                    unsent = unsent[self._socket.send(unsent) :]
                except BlockingIOError:
                    pass
                except OSError as error:
                    if len(unsent) == len(payload):
                        return Exchanged(Fate.UNREACHABLE, detail=unreachable(self.address, error))
                    # The server may have said why before it closed.
                    unsent = unsent[:0]
            try:
                if not self._wait(sending=bool(unsent), end_s=end_s):
                    return Exchanged(Fate.TIMED_OUT, replies, f"{self.address}: no reply in time")
                self._receive(replies)
            except (OSError, ProtocolError) as error:
                return Exchanged(Fate.LOST, replies, unreachable(self.address, error))
        return Exchanged(Fate.COMPLETE, replies)

    def _wait(self, *, sending: bool, end_s: float) -> bool:
        """Wait until the socket can be used; False when the time is over."""
        wanted = select.POLLIN | (select.POLLOUT if sending else 0)
        self._poll.register(self._socket, wanted)
        remaining_ms = max(0.0, (end_s - time.monotonic()) * 1000)
        return bool(self._poll.poll(remaining_ms))

    def _receive(self, replies: list[object]) -> None:
        """Take what has arrived."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("closed by the server")
        self._reader.feed(data)
        while (reply := self._reader.next_reply()) is not NOT_READY:
            replies.append(reply)

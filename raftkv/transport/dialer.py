"""Keeps trying to reach one peer for as long as it is a member.

Owns the back-off between attempts. Does not own the link: the mesh makes it and
says when it is over. Invariants: at most one attempt at a time, and none while
a link is there; delays are jittered, so that nodes that lost each other together
do not come back together.

Who calls: `transport.mesh`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Final

from raftkv.config import split_address
from raftkv.transport.handshake import HandshakeState
from raftkv.transport.link import PeerLink

_TLS_HANDSHAKE_TIMEOUT_S: Final = 5.0
# A link that comes up and breaks sooner than this does not reset the back-off.
_GOOD_LINK_S: Final = 1.0


class Backoff:
    """Delays that double, with jitter, up to a bound.

    The bound is short where nobody answers, since a peer that restarts has to
    be found within a fraction of an election timeout, and long where a peer
    refuses, since that waits for a person.
    """

    FIRST_S: Final = 0.03
    UNREACHABLE_S_MAX: Final = 0.15
    REFUSED_S_MAX: Final = 5.0

    def __init__(self, random_source: random.Random) -> None:
        self._random = random_source
        self._delay_s = self.FIRST_S

    def succeeded(self) -> None:
        """Forget earlier failures."""
        self._delay_s = self.FIRST_S

    def next_delay_s(self, *, refused: bool) -> float:
        """Return how long to wait, in seconds: between half and all of the step."""
        bound = self.REFUSED_S_MAX if refused else self.UNREACHABLE_S_MAX
        delay = min(self._delay_s, bound)
        self._delay_s = min(self._delay_s * 2, self.REFUSED_S_MAX)
        return delay * (0.5 + 0.5 * self._random.random())


class Dialer:
    """Dials one address again and again.

    Attributes:
        address: `host:port` of the peer.
        failure: Words on the last failed attempt; empty after a success.
    """

    def __init__(
        self,
        address: str,
        make_link: Callable[[], PeerLink],
        random_source: random.Random,
        *,
        connect_timeout_s: float,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Start dialing at once, in a task of its own.

        Args:
            address: `host:port` of the peer.
            make_link: Makes the link for one attempt.
            random_source: For the jitter.
            connect_timeout_s: Longest wait for a TCP connection. Short, because
                a new attempt sends a new SYN while the kernel backs off.
            tls: Client-side context, or None for plain TCP.
        """
        self.address = address
        self.failure = ""
        self._make_link = make_link
        self._backoff = Backoff(random_source)
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._link: PeerLink | None = None
        self._up_since_s = 0.0
        self._over = asyncio.Event()
        self._stopped = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def link_up(self, link: PeerLink) -> None:
        """Learn that the attempt succeeded."""
        if link is self._link:
            self.failure = ""
            self._up_since_s = asyncio.get_running_loop().time()

    def link_closed(self, link: PeerLink) -> None:
        """Learn that the link is over, so that the next attempt may begin."""
        if link is self._link:
            self.failure = link.close_reason
            now_s = asyncio.get_running_loop().time()
            if self._up_since_s and now_s - self._up_since_s >= _GOOD_LINK_S:
                self._backoff.succeeded()
            self._up_since_s = 0.0
            self._over.set()

    def stop(self) -> None:
        """End all attempts. The link, if any, is the caller's to close."""
        self._stopped = True
        self._over.set()
        self._task.cancel()

    async def wait_stopped(self) -> None:
        """Return once the task has ended after `stop`."""
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while True:
            self._over.clear()
            self._link = link = self._make_link()
            try:
                # Why not `wait_for`: in Python 3.11 it swallows a cancellation that
                # arrives together with the connection.
                async with asyncio.timeout(self._connect_timeout_s):
                    await self._connect(link)
            except (TimeoutError, OSError, ValueError) as error:
                # ValueError: an address that is not host:port.
                link.close(str(error) or "no answer to the connection attempt")
            except asyncio.CancelledError:
                link.close("no longer wanted")
                raise
            await self._over.wait()
            if self._stopped:
                link.close("no longer wanted")
                return
            refused = link.handshake.state is HandshakeState.REFUSED
            await asyncio.sleep(self._backoff.next_delay_s(refused=refused))

    async def _connect(self, link: PeerLink) -> None:
        loop = asyncio.get_running_loop()
        host, port = split_address(self.address)
        if self._tls is None:
            await loop.create_connection(lambda: link, host, port)
        else:
            await loop.create_connection(
                lambda: link,
                host,
                port,
                ssl=self._tls,
                server_hostname=host,
                ssl_handshake_timeout=_TLS_HANDSHAKE_TIMEOUT_S,
            )

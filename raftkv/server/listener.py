"""The clients' server socket: accept, count, drain, close.

`ClientListener` is what the composition root builds. It puts together the
command table, the service and the forwarder, owns the socket and the one timer
of the front-end, and passes on what the peer links bring. Failures of accept()
are the event loop's to retry; they never close the listener.

Called only on the thread that owns the state.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import secrets

from raftkv.config import Config
from raftkv.errors import CommandError
from raftkv.seams import PEER_PUBLISH, SHUTTING_DOWN, Clock, Observer
from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import CommandTable
from raftkv.server.connection import ClientConnection
from raftkv.server.forwarding import Forwarder
from raftkv.server.ports import PeerLinks, Replica
from raftkv.server.publications import Publications
from raftkv.server.service import Service
from raftkv.server.statistics import Statistics
from raftkv.types import NodeId

TICK_S = 0.05
# Connections that may wait to be accepted, where the system's limit allows (Linux: 4096).
# With Redis' 511, of a thousand clients that come at once some try again after a second.
_BACKLOG = 4096


class ClientListener:
    """Listens for Redis clients on behalf of one replica.

    Attributes:
        service: What the connections share; the replica reports to it.
    """

    def __init__(
        self,
        replica: Replica,
        network: PeerLinks,
        config: Config,
        clock: Clock,
        observer: Observer,
        *,
        table: CommandTable | None = None,
    ) -> None:
        """Put the front-end together and set `replica.listener`; opens nothing yet."""
        self.service = Service(
            replica=replica,
            config=config,
            clock=clock,
            observer=observer,
            table=table or standard_commands(),
            run_id=secrets.token_hex(20),
        )
        self.service.forwarder = Forwarder(self.service, network)
        self.service.publications = Publications(self.service, network)
        replica.listener = self.service
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def statistics(self) -> Statistics:
        """Counters since the start."""
        return self.service.statistics

    def counters(self) -> dict[str, int]:
        """Counters and gauges of the front-end by name, for /metrics."""
        service = self.service
        return {
            **dataclasses.asdict(service.statistics),
            "connections": service.client_count,
            "connections_held": len(service.held),
            "watches": service.watches.count,
            "connections_blocked": len(service.blocked),
            "commands": sum(spec.calls for spec in service.table.all()),
        }

    @property
    def connection_count(self) -> int:
        """How many clients are connected, not counting those who have left."""
        return self.service.client_count

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Addresses that are listened on."""
        sockets = self._server.sockets if self._server is not None else ()
        return [socket.getsockname()[:2] for socket in sockets]

    async def start(self) -> None:
        """Listen on `listen.client`.

        Raises:
            OSError: The address cannot be bound.
        """
        host, _, port = self.service.config.listen.client.rpartition(":")
        loop = asyncio.get_running_loop()
        service = self.service
        self._server = await loop.create_server(
            lambda: ClientConnection(service), host.strip("[]") or None, int(port), backlog=_BACKLOG
        )
        service.port = self.addresses[0][1]
        service.call_soon = loop.call_soon
        service.call_later = loop.call_later
        self._timer = loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self.service.tick()

    async def drain(self, timeout_s: float) -> None:
        """Take no new work, answer what is on its way, close every client.

        Args:
            timeout_s: Seconds after which connections are cut off.
        """
        self.service.draining = True
        if self._server is not None:
            self._server.close()
        self.service.retry_held()
        self.service.blocked.end_all(SHUTTING_DOWN)
        for connection in list(self.service.connections.values()):
            if connection.blocked is not None:
                shutting_down = CommandError(f"NOTAPPLIED {SHUTTING_DOWN.reason}")
                self.service.blocked.end(connection.blocked, shutting_down)
            connection.finish()
        if self.service.connections:
            self.service.emptied = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.service.emptied.wait(), timeout_s)
        await self.stop()

    async def stop(self) -> None:
        """Close the socket and every connection at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self.service.connections.values()):
            connection.abort()
        if self._server is not None:
            self._server.close()
            self._server = None

    # ------------------------------------------------------------ from the peer links

    def received(self, node: NodeId, kind: int, body: bytes | memoryview) -> None:
        """Take a frame of a kind that is the server's; others are of a later version."""
        if kind == PEER_PUBLISH:
            self.service.publications.received(node, body)
            return
        self.service.forwarder.received(node, kind, body)

    def peer_up(self, node: NodeId) -> None:
        """A link was established."""
        self.service.peer_up(node)
        self.service.forwarder.peer_up(node)

    def peer_down(self, node: NodeId) -> None:
        """A link was lost."""
        self.service.peer_down(node)
        self.service.forwarder.peer_down(node)

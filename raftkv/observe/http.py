"""The admin port: health, metrics and status over HTTP.

Owns the HTTP server and the judgement whether a node is ready. Reads what it
shows through callables and changes nothing in the node. Invariants: an answer
is judged at the moment of the request; the number of connections is bounded,
and a new one takes the place of the oldest, so that idle ones cannot keep a
health check out.

    /livez        200 while the process works at all
    /readyz       200 while clients should be sent here, else 503 and the reasons
    /metrics      text format of Prometheus
    /api/status   JSON: everything a node says of itself

Who calls: `node` starts and stops it; probes, Prometheus and people ask it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from raftkv.observe.metrics import CONTENT_TYPE
from raftkv.seams import Observer
from raftkv.transport.listener import Listener
from raftkv.types import Status

# Limit: connections at once.
CONNECTIONS_MAX: Final = 128
# Limit: every request is a line, a few headers and no body.
_REQUEST_BODY_BYTES_MAX: Final = 1024
_HEADER_BYTES_MAX: Final = 8190
_KEEPALIVE_S: Final = 75.0
_SHUTDOWN_S: Final = 0.5
# A follower that is this far behind what it knows to be committed serves old data.
READY_LAG_ENTRIES_MAX: Final = 10_000

_PATHS: Final = ("/livez", "/readyz", "/metrics", "/api/status")


def unready_reasons(
    status: Status, *, draining: bool, lag_entries_max: int = READY_LAG_ENTRIES_MAX
) -> list[str]:
    """Return why clients should not be sent to a node; empty when it is ready.

    Args:
        status: Of the node, now.
        draining: It is stopping.
        lag_entries_max: Committed entries it may still have to apply.
    """
    reasons = []
    if draining:
        reasons.append("draining: this node is stopping")
    if not status.admitted:
        reasons.append("not admitted: the cluster does not count this node's disk yet")
    if status.waiting_for:
        reasons.append(f"founding: waiting for {', '.join(status.waiting_for)}")
    if status.leader_id is None:
        reasons.append("no leader: none is known")
    if status.lag_entries > lag_entries_max:
        reasons.append(f"behind: {status.lag_entries} committed entries are not applied yet")
    return reasons


def status_document(status: Status) -> dict[str, object]:
    """Return a status as plain JSON types, with what follows from it."""
    document: dict[str, object] = dataclasses.asdict(status)
    leader = status.leader
    document["leader_client"] = leader.client if leader is not None else None
    document["quorum"] = status.quorum
    document["apply_lag_entries"] = status.lag_entries
    return document


class AdminServer:
    """HTTP server of one node; see the module."""

    def __init__(
        self,
        *,
        address: str,
        version: str,
        status: Callable[[], Status],
        metrics: Callable[[], bytes],
        is_draining: Callable[[], bool],
        failure: Callable[[], str],
        observer: Observer,
        details: Callable[[], Mapping[str, object]] = dict,
        listener: Listener | None = None,
    ) -> None:
        """Prepare; nothing is bound before `start`.

        Args:
            address: `host:port` to bind.
            version: Of the package.
            status: As the replica gives it.
            metrics: Text of one scrape, as `NodeMetrics.text`.
            is_draining: Whether the node is stopping.
            failure: Why the node cannot go on; empty while it can.
            observer: Hears of failures of accept().
            details: Further JSON for `/api/status`, under `details`.
            listener: To be used instead of a new one; may be bound already.
        """
        self._version = version
        self._status = status
        self._metrics = metrics
        self._is_draining = is_draining
        self._failure = failure
        self._details = details
        application = web.Application(
            client_max_size=_REQUEST_BODY_BYTES_MAX, middlewares=[_errors_as_json]
        )
        application.on_response_prepare.append(_name_server)
        application.router.add_get("/", self._handle_index)
        application.router.add_get("/livez", self._handle_livez)
        application.router.add_get("/readyz", self._handle_readyz)
        application.router.add_get("/metrics", self._handle_metrics)
        application.router.add_get("/api/status", self._handle_status)
        self._runner = web.AppRunner(
            application,
            handle_signals=False,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_S,
            shutdown_timeout=_SHUTDOWN_S,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
        )
        if listener is None:
            listener = Listener(
                address, self._make_protocol, observer, failure_event="admin_accept_failed"
            )
        listener.make_protocol = self._make_protocol
        self._listener = listener

    async def start(self) -> None:
        """Bind the address and answer.

        Raises:
            OSError: The address is in use, or not one of this machine.
        """
        await self._runner.setup()
        try:
            await self._listener.start()
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Release the address and close every connection."""
        self._listener.stop()
        await self._runner.cleanup()

    def _make_protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        connections = server.connections
        if len(connections) >= CONNECTIONS_MAX:
            connections[0].force_close()
        return server()

    # ------------------------------------------------------------ handlers

    async def _handle_index(self, request: web.Request) -> web.Response:
        return web.Response(text="".join(f"{path}\n" for path in _PATHS))

    async def _handle_livez(self, request: web.Request) -> web.Response:
        failure = self._failure()
        document = {"live": not failure, "reasons": [failure] if failure else []}
        return _json(document, http_status=503 if failure else 200)

    async def _handle_readyz(self, request: web.Request) -> web.Response:
        status = self._status()
        failure = self._failure()
        reasons = [failure] if failure else []
        reasons += unready_reasons(status, draining=self._is_draining())
        document = {
            "ready": not reasons,
            "reasons": reasons,
            # A full disk stops writes, not reads: routing away would not help.
            "warnings": ["disk full: no writes are taken"] if status.disk_full else [],
            "node": status.node_id,
            "role": status.role.value,
            "leader": status.leader_id,
        }
        return _json(document, http_status=503 if reasons else 200)

    async def _handle_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def _handle_status(self, request: web.Request) -> web.Response:
        document = status_document(self._status())
        document["version"] = self._version
        document["draining"] = self._is_draining()
        document["details"] = dict(self._details())
        return _json(document)


@web.middleware
async def _errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer 404 and 405 in the form of everything else."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        response = _json({"error": error.reason, "paths": _PATHS}, http_status=error.status)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response


async def _name_server(request: web.Request, response: web.StreamResponse) -> None:
    """Keep versions of Python and aiohttp out of every answer."""
    response.headers["Server"] = "raftkv"


def _json(document: Mapping[str, object], *, http_status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(document, indent=2) + "\n",
        status=http_status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )

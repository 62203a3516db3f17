"""The admin port, asked by a real HTTP client on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import uvloop

from raftkv.observe.http import (
    CONNECTIONS_MAX,
    READY_LAG_ENTRIES_MAX,
    AdminServer,
    status_document,
    unready_reasons,
)
from raftkv.types import NodeId, Role, Status
from tests.unit.observe.statuses import LEADER, status


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


class RecordingObserver:
    def __init__(self) -> None:
        self.names: list[str] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.names.append(name)


class Admin:
    """A running admin server whose node the test can change."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.status: Status = LEADER
        self.draining = False
        self.failure = ""
        self.observer = RecordingObserver()
        self.server = AdminServer(
            address=f"127.0.0.1:{self.port}",
            version="1.2.3",
            status=lambda: self.status,
            metrics=lambda: b"raftkv_keys 5.0\n",
            is_draining=lambda: self.draining,
            failure=lambda: self.failure,
            observer=self.observer,
            details=lambda: {"wal_bytes": 7},
        )
        self.session: aiohttp.ClientSession | None = None

    async def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        assert self.session is not None
        async with self.session.request(method, f"http://127.0.0.1:{self.port}{path}") as response:
            assert response.headers["Server"] == "raftkv"
            return response.status, response.content_type, await response.text()

    async def get_json(self, path: str) -> tuple[int, dict]:
        code, content_type, text = await self.get(path)
        assert content_type == "application/json"
        return code, json.loads(text)


def run(scenario: Callable[[Admin], Awaitable[None]]) -> None:
    async def main() -> None:
        admin = Admin()
        await admin.server.start()
        try:
            async with aiohttp.ClientSession() as session:
                admin.session = session
                await asyncio.wait_for(scenario(admin), 20)
        finally:
            await admin.server.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_livez() -> None:
    async def scenario(admin: Admin) -> None:
        admin.status = status(leader_id=None, admitted=False)
        admin.draining = True
        assert await admin.get_json("/livez") == (200, {"live": True, "reasons": []})
        admin.failure = "the disk failed"
        assert await admin.get_json("/livez") == (
            503,
            {"live": False, "reasons": ["the disk failed"]},
        )

    run(scenario)


def test_readyz_follows_the_node() -> None:
    async def scenario(admin: Admin) -> None:
        code, document = await admin.get_json("/readyz")
        assert code == 200
        assert document == {
            "ready": True,
            "reasons": [],
            "warnings": [],
            "node": "n1",
            "role": "leader",
            "leader": "n1",
        }
        admin.status = status(role=Role.CANDIDATE, leader_id=None)
        code, document = await admin.get_json("/readyz")
        assert code == 503
        assert document["ready"] is False
        assert document["reasons"] == ["no leader: none is known"]
        admin.status = status(disk_full=True)
        code, document = await admin.get_json("/readyz")
        assert (code, document["warnings"]) == (200, ["disk full: no writes are taken"])
        admin.draining = True
        code, document = await admin.get_json("/readyz")
        assert (code, document["reasons"]) == (503, ["draining: this node is stopping"])
        admin.draining = False
        admin.failure = "the disk failed"
        code, document = await admin.get_json("/readyz")
        assert (code, document["reasons"]) == (503, ["the disk failed"])

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "draining", "words"),
    [
        ({}, False, []),
        ({}, True, ["draining"]),
        ({"admitted": False}, False, ["not admitted"]),
        ({"leader_id": None}, False, ["no leader"]),
        ({"commit_index": 90 + READY_LAG_ENTRIES_MAX}, False, []),
        ({"commit_index": 91 + READY_LAG_ENTRIES_MAX}, False, ["behind"]),
        ({"leader_commit_index": 91 + READY_LAG_ENTRIES_MAX}, False, ["behind"]),
        (
            {"leader_id": None, "waiting_for": (NodeId("n2"), NodeId("n3"))},
            False,
            ["founding: waiting for n2, n3", "no leader"],
        ),
    ],
)
def test_reasons_not_to_be_ready(changes: dict, draining: bool, words: list[str]) -> None:
    reasons = unready_reasons(status(**changes), draining=draining)
    assert len(reasons) == len(words)
    for reason, word in zip(reasons, words, strict=True):
        assert reason.startswith(word)


def test_metrics() -> None:
    async def scenario(admin: Admin) -> None:
        assert await admin.get("/metrics") == (200, "text/plain", "raftkv_keys 5.0\n")

    run(scenario)


def test_status() -> None:
    async def scenario(admin: Admin) -> None:
        code, document = await admin.get_json("/api/status")
        assert code == 200
        assert document["node_id"] == "n1"
        assert document["role"] == "leader"
        assert document["leader_client"] == "127.0.0.1:7001"
        assert document["quorum"] == 2
        assert document["apply_lag_entries"] == 10
        assert [each["id"] for each in document["configuration"]["members"]] == ["n1", "n2", "n3"]
        assert document["peers"][1]["connected"] is False
        assert (document["version"], document["draining"]) == ("1.2.3", False)
        assert document["details"] == {"wal_bytes": 7}

    run(scenario)


def test_a_status_document_holds_every_field() -> None:
    document = status_document(LEADER)
    assert set(Status.__dataclass_fields__) <= set(document)
    json.dumps(document)


def test_other_paths_and_methods_get_json_errors() -> None:
    async def scenario(admin: Admin) -> None:
        code, document = await admin.get_json("/nowhere")
        assert (code, document["error"]) == (404, "Not Found")
        assert "/readyz" in document["paths"]
        code, _, text = await admin.get("/livez", method="DELETE")
        assert (code, json.loads(text)["error"]) == (405, "Method Not Allowed")
        code, _, text = await admin.get("/")
        assert code == 200
        assert text.split() == document["paths"]

    run(scenario)


async def raw_reply(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"\x80\x05junk\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_bad_requests_disturb_nobody(request_bytes: bytes) -> None:
    async def scenario(admin: Admin) -> None:
        reply = await raw_reply(admin.port, request_bytes)
        assert reply == b"" or reply.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        assert (await admin.get("/livez"))[0] == 200

    run(scenario)


def test_idle_connections_do_not_keep_a_health_check_out() -> None:
    async def scenario(admin: Admin) -> None:
        idle = [
            await asyncio.open_connection("127.0.0.1", admin.port)
            for _ in range(CONNECTIONS_MAX + 20)
        ]
        assert (await admin.get("/livez"))[0] == 200
        server = admin.server._runner.server
        assert server is not None
        assert len(server.connections) <= CONNECTIONS_MAX
        for _, writer in idle:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    run(scenario)


def test_an_address_in_use_is_reported_and_left_alone() -> None:
    async def scenario(admin: Admin) -> None:
        with pytest.raises(OSError, match="in use"):
            await Admin(admin.port).server.start()
        assert (await admin.get("/livez"))[0] == 200

    run(scenario)


def test_the_port_is_free_after_stop() -> None:
    async def main() -> None:
        port = free_port()
        for _ in range(3):
            server = Admin(port).server
            await server.start()
            assert (await raw_reply(port, b"GET /livez HTTP/1.0\r\n\r\n")).startswith(
                b"HTTP/1.0 200"
            )
            await server.stop()
            assert server._listener.accepted_count == 1

    asyncio.run(main())

"""Watches of both clients over sockets: that they end with their client.

The other side is the real front-end and the real store, in a process without consensus.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from raftkv import AsyncClient, Client, ConnectFailedError
from raftkv.client import sync_client
from raftkv.client.sync_watch import Watch as SyncWatch
from raftkv.client.watching import Watching
from tests.unit.server.serving import serving

WAIT_S = 20.0


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as given:
        yield given


def test_a_watch_ends_with_its_client(address: str) -> None:
    client = Client(address)
    watch = client.watch("k")
    client.set("k", "v")
    told: list[object] = []
    first = threading.Event()

    def read() -> None:
        for change in watch:
            told.append(change)
            first.set()

    reading = threading.Thread(target=read)
    reading.start()
    assert first.wait(WAIT_S)
    client.within(5).close()
    reading.join(WAIT_S)
    assert not reading.is_alive()
    assert len(told) == 1
    with pytest.raises(ConnectFailedError, match="closed"):
        client.watch("k")


def test_an_asynchronous_watch_ends_with_its_client(address: str) -> None:
    async def work() -> None:
        client = AsyncClient(address)
        watch = await client.watch("k")
        await client.set("k", "w")
        assert await anext(watch)
        reading = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(StopAsyncIteration):
            await reading
        with pytest.raises(ConnectFailedError, match="closed"):
            await client.watch("k")

    asyncio.run(asyncio.wait_for(work(), WAIT_S))


def test_a_watch_that_begins_while_its_client_is_closed_does_not_live(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(address)
    begun: list[sync_client.Watch[bytes]] = []

    def begin(watching: Watching[bytes]) -> sync_client.Watch[bytes]:
        begun.append(SyncWatch(watching))
        client.close()
        return begun[0]

    monkeypatch.setattr(sync_client, "Watch", begin)
    with pytest.raises(ConnectFailedError, match="closed"):
        client.watch("k")
    assert begun[0].next_change(timeout_s=0) is None
    assert list(begun[0]) == []


def test_an_asynchronous_watch_that_is_not_accepted_yet_ends_with_its_client() -> None:
    async def work() -> None:
        connected, ended = asyncio.Event(), asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
            ended.set()

        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        host, port = silent.sockets[0].getsockname()[:2]
        client = AsyncClient(f"{host}:{port}", deadline_s=3600)
        beginning = asyncio.ensure_future(client.watch("k"))
        await connected.wait()
        silent.close()
        await client.close()
        with pytest.raises(ConnectFailedError, match="closed"):
            await beginning
        await ended.wait()

    asyncio.run(asyncio.wait_for(work(), WAIT_S))

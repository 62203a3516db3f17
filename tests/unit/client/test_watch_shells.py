"""Watches of both clients over sockets: that they end with their client.

The other side is the real front-end and the real store, in a process without consensus.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from raftkv import AsyncClient, Client, ConnectFailedError
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

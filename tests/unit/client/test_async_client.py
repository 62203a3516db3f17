"""What only the asyncio client has to promise: tasks share it and may be cancelled."""

from __future__ import annotations

import asyncio

import pytest

from raftkv.client.async_client import AsyncClient
from raftkv.errors import ConnectFailedError, ConnectionLostError
from tests.unit.client.fake_cluster import FakeCluster

pytestmark = pytest.mark.asyncio


async def test_tasks_share_a_client(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.addresses, connections_max=4) as client:
        numbers = await asyncio.gather(*[client.incr("n") for _ in range(100)])
    assert sorted(numbers) == list(range(1, 101))


async def test_a_cancelled_call_leaves_no_unread_reply(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.addresses[0], connections_max=1) as client:
        await client.set("a", "1")
        for turns in range(12):
            task = asyncio.create_task(client.get("a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await client.echo(f"turn {turns}") == f"turn {turns}".encode()


async def test_a_call_cancelled_while_it_waits_for_a_reply(cluster: FakeCluster) -> None:
    address = cluster.addresses[0]
    # A session would ask for the outcome, on a connection of its own.
    async with AsyncClient(address, connections_max=1, exactly_once=False) as client:
        await client.ping()
        cluster.nodes[0].acts.append("hang")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.incr("n")
        assert await client.incr("n") == 1
        assert cluster.nodes[0].connections == 2


async def test_cancelling_a_waiting_call_gives_its_place_to_the_next(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.addresses[0], connections_max=1) as client:
        await client.ping()
        cluster.nodes[0].acts.append("hang")
        holder = asyncio.create_task(client.incr("n"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(client.incr("n"))
        await asyncio.sleep(0)
        with pytest.raises(ConnectFailedError, match="free"):
            await client.within(0.03).incr("n")
        waiting.cancel()
        holder.cancel()
        await asyncio.gather(holder, waiting, return_exceptions=True)
        assert await client.incr("n") == 1


async def test_closing_ends_calls_under_way(cluster: FakeCluster) -> None:
    client = AsyncClient(cluster.addresses[0])
    await client.ping()
    cluster.nodes[0].acts.append("hang")
    task = asyncio.create_task(client.incr("n"))
    await asyncio.to_thread(cluster.hanging.wait, 5)
    await client.close()
    with pytest.raises(ConnectionLostError):
        await task

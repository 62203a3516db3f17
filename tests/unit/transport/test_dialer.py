"""How often an unreachable peer is tried."""

from __future__ import annotations

import asyncio
import random
import statistics

import pytest

from raftkv.transport.dialer import Backoff
from raftkv.transport.handshake import RefusalReason
from raftkv.types import NodeId
from tests.unit.transport.wiring import Cluster, Node, RawPeer, free_port, member, run, until


def delays(count: int, *, refused: bool, seed: int = 1) -> list[float]:
    backoff = Backoff(random.Random(seed))
    return [backoff.next_delay_s(refused=refused) for _ in range(count)]


def test_delays_grow_to_a_bound_and_stay_there() -> None:
    unreachable = delays(20, refused=False)
    assert unreachable[0] <= Backoff.FIRST_S
    assert unreachable[3] > unreachable[0]
    assert all(delay <= Backoff.UNREACHABLE_S_MAX for delay in unreachable)
    assert all(delay >= Backoff.UNREACHABLE_S_MAX / 2 for delay in unreachable[5:])


def test_who_is_refused_asks_rarely() -> None:
    refused = delays(20, refused=True)
    assert all(delay >= Backoff.REFUSED_S_MAX / 2 for delay in refused[10:])
    assert all(delay <= Backoff.REFUSED_S_MAX for delay in refused)


def test_nodes_do_not_try_in_step() -> None:
    last = [delays(10, refused=False, seed=seed)[-1] for seed in range(50)]
    assert statistics.stdev(last) > 0.1 * Backoff.UNREACHABLE_S_MAX


def test_success_starts_over() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(10):
        backoff.next_delay_s(refused=True)
    backoff.succeeded()
    assert backoff.next_delay_s(refused=True) <= Backoff.FIRST_S


def test_an_unreachable_peer_is_tried_until_it_is_there() -> None:
    async def scenario() -> None:
        port = free_port()
        dialing = Node("n2", free_port())
        async with Cluster(dialing, others=(member("n1", port),)):
            await until(lambda: "refused" in dialing.mesh.failure("n1").lower())  # type: ignore[arg-type]
            late = Node("n1", port)
            late.mesh.set_members([member("n1", port), member("n2", dialing.port)])
            await late.mesh.start()
            await until(lambda: dialing.linked() == {"n1"})
            assert dialing.mesh.failure("n1") == ""  # type: ignore[arg-type]
            await late.mesh.stop()

    run(scenario())


def test_only_one_attempt_at_a_time() -> None:
    """Whoever listens there but never answers holds one connection, not many."""

    async def scenario() -> None:

        connections: list[asyncio.StreamWriter] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(RawPeer(reader, writer).writer)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        dialing = Node("n2", free_port())
        async with Cluster(dialing, others=(member("n1", port),)):
            await until(lambda: connections)
            connections[0].transport.abort()
            await until(lambda: len(connections) == 2)
            connections[1].transport.abort()
            await until(lambda: len(connections) == 3)
            assert sum(not writer.transport.is_closing() for writer in connections) == 1
            assert not dialing.ups
        server.close()
        await server.wait_closed()

    run(scenario())


@pytest.mark.parametrize("peer_answers", [False, True])
def test_stop_ends_an_attempt_at_whatever_point_it_is(peer_answers: bool) -> None:
    """Also in the very turn in which the connection is made."""

    async def scenario() -> None:
        port = free_port()
        members = [member("n1", port), member("n2", free_port())]
        listening = Node("n1", port)
        listening.mesh.set_members(members if peer_answers else [])
        await listening.mesh.start()
        for turns in range(40):
            dialing = Node("n2", free_port())
            dialing.mesh.set_members(members)
            await dialing.mesh.start()
            for _ in range(turns):
                await asyncio.sleep(0)
            await asyncio.wait_for(dialing.mesh.stop(), 5)
            assert not dialing.linked()
            assert len(dialing.ups) == len(dialing.downs)
        await listening.mesh.stop()

    run(scenario())


def test_another_service_at_the_address_counts_as_a_refusal() -> None:
    async def scenario() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            RawPeer(reader, writer)
            writer.write(b"-ERR unknown command\r\n")

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        dialing = Node("n2", free_port())
        port = server.sockets[0].getsockname()[1]
        async with Cluster(dialing, others=(member("n1", port),)):
            await until(lambda: len(dialing.refusals) >= 3)
            assert dialing.refusals[0] == ("n1", (RefusalReason.MALFORMED, False, False))
            assert dialing.mesh.failure(NodeId("n1")) == "not a frame"
            refused = dialing.observer.named("peer_link_refused")[0]
            assert refused["address"] == f"127.0.0.1:{port}"
        server.close()
        await server.wait_closed()

    run(scenario())

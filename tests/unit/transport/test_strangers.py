"""Nodes that are no member here: refused, asked, or let in because they know more."""

from __future__ import annotations

import dataclasses

from raftkv.engine.ready import PeerHello
from raftkv.transport.handshake import RefusalReason
from raftkv.types import Member
from tests.unit.transport.wiring import TIMING, Cluster, Node, make_nodes, run, until

KNOCKING = dataclasses.replace(TIMING, tick_s=0.02, knock_ticks=5)


def without(cluster: Cluster, node: Node) -> list[Member]:
    return [each for each in cluster.members if each.id != node.id]


def test_who_is_dialed_by_nobody_any_more_asks_and_hears_why() -> None:
    """The lower id never dials, so a removed one would wait for ever."""

    async def scenario() -> None:
        first, second = make_nodes(2, timing=KNOCKING)
        cluster = Cluster(first, second)
        second_members = without(cluster, first)
        async with cluster:
            second.mesh.set_members(second_members)
            await until(lambda: first.refusals)
            peer, refusal = first.refusals[0]
            assert peer == second.id
            assert refusal.reason is RefusalReason.UNKNOWN_NODE
            assert refusal.by_peer
            assert refusal.proven

    run(scenario())


def test_who_knocks_at_a_member_is_told_to_wait_and_is_dialed() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2, timing=KNOCKING)
        async with Cluster(first, second) as cluster:
            second.mesh.set_members([dataclasses.replace(cluster.members[0], peer="127.0.0.1:1")])
            await until(lambda: first.refusals)
            assert first.refusals[0][1].reason is RefusalReason.WRONG_DIRECTION
            second.mesh.set_members(cluster.members)
            await cluster.linked()
            # The side that should not dial stops to do so.
            await until(lambda: not first.mesh._dialers)
            assert first.ups[0][0] == second.id

    run(scenario())


def knows_more(hello: PeerHello) -> bool:
    return hello.last_index > 5


def test_a_stranger_that_knows_more_is_let_in_from_either_side() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2, timing=KNOCKING)
        for node in (first, second):
            node.mesh._local = node.mesh._local._replace(is_news=knows_more)
        for stranger, host in ((second, first), (first, second)):
            cluster = Cluster(first, second)
            await first.mesh.start()
            await second.mesh.start()
            host.mesh.set_members(without(cluster, stranger))
            stranger.mesh.set_members(cluster.members)
            await cluster.linked()
            await first.mesh.stop()
            await second.mesh.stop()

    run(scenario())


def test_a_stranger_that_knows_no_more_is_refused() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        first.mesh._local = first.mesh._local._replace(is_news=lambda hello: hello.last_index > 9)
        cluster = Cluster(first, second)
        async with cluster:
            first.mesh.set_members(without(cluster, second))
            await until(lambda: second.refusals)
            assert second.refusals[0][1].reason is RefusalReason.UNKNOWN_NODE

    run(scenario())

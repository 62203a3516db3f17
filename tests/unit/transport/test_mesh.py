"""Links between well-behaved nodes on real loopback sockets."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from raftkv.config import Limits
from raftkv.errors import ConfigError
from raftkv.transport.handshake import RefusalReason
from raftkv.transport.mesh import MeshTiming
from tests.unit.transport.wiring import (
    HELLO,
    TIMING,
    BlackHole,
    Cluster,
    Node,
    free_port,
    make_nodes,
    member,
    numbers,
    run,
    until,
)


def test_three_nodes_link_once_each_and_learn_each_others_hello() -> None:
    async def scenario() -> None:
        async with Cluster(*make_nodes(3)) as cluster:
            await cluster.linked()
            for node in cluster.nodes:
                assert sorted(peer for peer, _ in node.ups) == sorted(node.linked())
                assert all(
                    hello == (HELLO.disk_id, HELLO.term, HELLO.last_index, False, True, 0)
                    for _, hello in node.ups
                )
                sides = {
                    fields["node"]: fields["side"] for fields in node.observer.named("peer_link_up")
                }
                assert all(
                    side == ("dialer" if node.id > peer else "acceptor")
                    for peer, side in sides.items()
                )
                assert not node.refusals

    run(scenario())


def test_frames_arrive_whole_and_in_order_in_both_directions() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            bodies = [b"", b"x", bytes(range(256)), b"L" * (3 << 20), *numbers(500)]
            for sender, receiver in ((first, second), (second, first)):
                for kind, body in enumerate(bodies):
                    sender.mesh.send(receiver.id, kind % 200, body)
                sender.mesh.flush()
                expected = [(kind % 200, body) for kind, body in enumerate(bodies)]
                await until(lambda: len(receiver.received(sender.id)) >= len(expected))  # noqa: B023
                assert receiver.received(sender.id) == expected
                # What one read brought is one call.
                assert len(receiver.batches) < len(expected)

    run(scenario())


def test_nothing_leaves_before_flush() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            first.mesh.send(second.id, 1, b"held")
            before = first.mesh.counters()["frames_sent_total"]
            second.send(first.id, 1, b"marker")
            await until(lambda: first.received(second.id))
            assert first.mesh.counters()["frames_sent_total"] == before
            assert not second.batches
            first.mesh.flush()
            await until(lambda: second.received(first.id) == [(1, b"held")])

    run(scenario())


def test_sending_to_nobody_is_silent() -> None:
    async def scenario() -> None:
        node = Node("n1", free_port())
        async with Cluster(node, others=(member("n2", free_port()),)):
            node.send("n2", 1, b"not up")
            node.send("n9", 1, b"unknown")
            node.send("n1", 1, b"itself")
            assert not node.linked()

    run(scenario())


@pytest.mark.parametrize("restarted", [0, 1], ids=["acceptor", "dialer"])
def test_a_restarted_node_is_linked_again(restarted: int) -> None:
    async def scenario() -> None:
        nodes = make_nodes(2)
        async with Cluster(*nodes) as cluster:
            await cluster.linked()
            old, stayed = nodes[restarted], nodes[1 - restarted]
            await old.mesh.stop()
            await until(lambda: stayed.downs == [old.id])
            assert old.downs == [stayed.id]
            new = Node(old.id, old.port)
            cluster.nodes[restarted] = new
            new.mesh.set_members(cluster.members)
            await new.mesh.start()
            await cluster.linked()
            assert [peer for peer, _ in stayed.ups] == [old.id, old.id]
            stayed.send(new.id, 1, b"again")
            await until(lambda: new.received(stayed.id) == [(1, b"again")])

    run(scenario())


def test_stop_delivers_what_was_sent_and_releases_the_port() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            for body in numbers(100):
                first.mesh.send(second.id, 1, body)
            await first.mesh.stop()
            assert first.downs == [second.id]
            await until(lambda: second.downs == [first.id])
            assert second.received(first.id) == [(1, body) for body in numbers(100)]
            other = Node("n1", first.port)
            await other.mesh.start()
            await other.mesh.stop()

    run(scenario())


def test_an_address_in_use_is_reported() -> None:
    async def scenario() -> None:
        node = Node("n1", free_port())
        async with Cluster(node):
            with pytest.raises(OSError, match="in use"):
                await Node("n2", node.port).mesh.start()

    run(scenario())


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "192.0.2.1", "[::]", "peer.example", "127.0.0.1", "[::1]", "localhost"]
)
def test_without_a_secret_only_loopback_is_served(host: str) -> None:
    if host in ("127.0.0.1", "[::1]", "localhost"):
        Node("n1", free_port(), host=host, secret=b"")
    else:
        Node("n1", free_port(), host=host)
        with pytest.raises(ConfigError, match="peer_secret_file"):
            Node("n1", free_port(), host=host, secret=b"")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"secret": b"another secret, also 32 bytes ok"}, RefusalReason.WRONG_SECRET),
        (
            {"hello": dataclasses.replace(HELLO, cluster_id="e" * 32)},
            RefusalReason.OTHER_CLUSTER,
        ),
    ],
)
def test_a_refusal_is_reported_on_both_sides(change, reason: RefusalReason) -> None:
    async def scenario() -> None:
        first = Node("n1", free_port())
        second = Node("n2", free_port(), **change)
        async with Cluster(first, second):
            await until(lambda: first.refusals and second.refusals)
            proven = reason is not RefusalReason.WRONG_SECRET
            assert first.refusals[0] == ("n2", (reason, False, proven))
            assert second.refusals[0] == ("n1", (reason, True, proven))
            assert second.mesh.failure(first.id) == reason.text
            assert not first.ups
            assert not second.ups
            refused = second.observer.named("peer_link_refused")[0]
            assert refused["reason"] == reason.text
            assert refused["address"] == f"127.0.0.1:{first.port}"

    run(scenario())


def test_a_removed_member_loses_its_link_and_is_told_so() -> None:
    async def scenario() -> None:
        first, second, third = make_nodes(3)
        async with Cluster(first, second, third) as cluster:
            await cluster.linked()
            first.in_call = True
            first.mesh.set_members([each for each in cluster.members if each.id != third.id])
            first.in_call = False
            await until(lambda: first.downs == [third.id] and third.downs == [first.id])
            await until(lambda: third.refusals)
            peer, refusal = third.refusals[0]
            assert peer == first.id
            assert refusal.reason is RefusalReason.UNKNOWN_NODE
            assert refusal.by_peer
            assert refusal.proven
            assert first.linked() == {second.id}
            assert not second.downs
            # And back in again.
            first.mesh.set_members(cluster.members)
            await cluster.linked()

    run(scenario())


def test_a_member_with_a_new_address_is_dialed_there() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            moved = Node("n1", free_port())
            moved.mesh.set_members(cluster.members)
            await moved.mesh.start()
            second.mesh.set_members([member("n1", moved.port), cluster.members[1]])
            await until(lambda: moved.linked() == {second.id})
            await until(lambda: first.downs == [second.id])
            assert second.linked() == {"n1"}
            await moved.mesh.stop()

    run(scenario())


def test_another_node_at_a_members_address_is_refused_by_name() -> None:
    async def scenario() -> None:
        first, second, third = make_nodes(3)
        swapped = [member("n1", second.port), member("n2", first.port), member("n3", third.port)]
        for node in (first, second, third):
            node.mesh.set_members(swapped)
            await node.mesh.start()
        await until(lambda: len(third.refusals) >= 2)
        assert {refusal.reason for _, refusal in third.refusals} == {RefusalReason.WRONG_TARGET}
        assert not third.ups
        for node in (first, second, third):
            await node.mesh.stop()

    run(scenario())


def test_idle_links_live_on_pings() -> None:
    async def scenario() -> None:
        timing = dataclasses.replace(TIMING, tick_s=0.02, ping_ticks=1, dead_ticks=50)
        first, second = make_nodes(2, timing=timing)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            # At most one ping a tick: this many take longer than the link would live unheard.
            await until(lambda: first.mesh.counters()["frames_received_total"] > 60)
            assert not first.downs
            assert not second.downs
            assert not first.batches

    run(scenario())


def test_a_stalled_loop_does_not_lose_healthy_links() -> None:
    async def scenario() -> None:
        import time

        timing = MeshTiming(tick_s=0.02, ping_ticks=1, dead_ticks=10)
        first, second = make_nodes(2, timing=timing)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            time.sleep(0.5)  # noqa: ASYNC251 - stalls the loop far beyond dead_ticks * tick_s
            first.send(second.id, 1, b"after")
            await until(lambda: second.received(first.id) == [(1, b"after")])
            assert not first.downs
            assert not second.downs

    run(scenario())


def test_links_come_back_after_a_silent_partition() -> None:
    """Nothing arrives and nothing is reset: only silence tells, on both sides."""

    async def scenario() -> None:
        timing = MeshTiming(tick_s=0.02, ping_ticks=2, dead_ticks=10, accept_ticks=20, dial_ticks=8)
        first, second = make_nodes(2, timing=timing)
        hole = BlackHole(first.port)
        await hole.start()
        for node in (first, second):
            node.mesh.set_members([member("n1", hole.port), member("n2", second.port)])
            await node.mesh.start()
        await until(lambda: first.linked() and second.linked())
        hole.is_open = True
        await until(lambda: first.downs == ["n2"] and second.downs == ["n1"])
        assert first.reasons_down() == second.reasons_down() == ["nothing heard for too long"]
        # New connections reach the hole and no further.
        await until(lambda: "handshake took too long" in second.mesh.failure(first.id))
        assert not first.linked()
        assert not second.linked()
        hole.is_open = False
        await until(lambda: first.linked() and second.linked())
        second.send("n1", 1, b"healed")
        await until(lambda: first.received("n2") == [(1, b"healed")])
        for node in (first, second):
            await node.mesh.stop()
        await hole.stop()

    run(scenario())


def test_asyncios_own_loop_serves_as_well() -> None:
    async def scenario() -> None:
        first, second = make_nodes(2)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            first.send(second.id, 1, b"x" * (1 << 20))
            await until(lambda: second.received(first.id) == [(1, b"x" * (1 << 20))])
            await second.mesh.stop()
            await until(lambda: first.downs == [second.id])

    asyncio.run(scenario())


def test_a_frame_over_the_limit_is_not_sent() -> None:
    async def scenario() -> None:
        limits = Limits(peer_frame_bytes_max=1 << 18)
        first, second = make_nodes(2, limits=limits)
        async with Cluster(first, second) as cluster:
            await cluster.linked()
            first.send(second.id, 1, bytes((1 << 18) + 1))
            first.send(second.id, 1, b"behind it: must not arrive on the same link")
            await until(lambda: first.downs == [second.id])
            assert not second.received(first.id)
            assert "limits.peer_frame_bytes_max" in str(first.reasons_down()[0])
            await until(lambda: len(first.ups) == 2 and first.linked() and second.linked())
            first.send(second.id, 1, bytes(1 << 18))
            await until(lambda: second.received(first.id) == [(1, bytes(1 << 18))])

    run(scenario())

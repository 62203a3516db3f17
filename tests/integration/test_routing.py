"""Any node may be asked: redirects, proxies, held requests, and what a change of leader does."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from raftkv.kv.slots import key_slot
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.proxied import proxied
from tests.integration.wire import ReplyError, Wire, encode, split_address

pytestmark = pytest.mark.slow

LEADER_WAIT_S = 2.0
# Common clients give up after 5 s, and some of them send again.
ANSWER_LIMIT_S = 4.9


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("routing")) as cluster:
        yield cluster


def test_a_follower_redirects_writes_and_reads_to_the_leader(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    assert leader.call("SET", "greeting", "hello") == b"OK"
    for follower in cluster.others(leader):
        with Wire(follower.client) as wire:
            slot = key_slot(b"greeting")
            for request in (("SET", "greeting", "x"), ("GET", "greeting"), ("del", "greeting")):
                assert str(wire.call(*request)) == f"MOVED {slot} {leader.client}"
            assert str(wire.call("DBSIZE")) == f"MOVED 0 {leader.client}"
            assert wire.call("PING") == b"PONG"
    assert leader.call("GET", "greeting") == b"hello"


def test_a_proxied_connection_works_on_every_node_in_the_order_sent(cluster: Cluster) -> None:
    for node in cluster.nodes:
        with proxied(node) as wire:
            key = f"proxy {node.id}"
            requests: list[tuple[str | int, ...]] = [("SET", key, 0)]
            expected: list[object] = [b"OK"]
            for number in range(1, 301):
                requests += [("INCR", key), ("GET", key), ("PING",)]
                expected += [number, str(number).encode(), b"PONG"]
            assert wire.pipeline(requests) == expected


def test_every_node_sees_a_write_as_soon_as_it_is_acknowledged(cluster: Cluster) -> None:
    wires = [proxied(node) for node in cluster.nodes]
    for number in range(150):
        writer, reader = wires[number % 3], wires[(number + 1) % 3]
        assert writer.call("SET", "newest", number) == b"OK"
        assert reader.call("GET", "newest") == str(number).encode()
    for wire in wires:
        wire.close()


def test_a_node_can_be_told_to_proxy_by_its_config(cluster: Cluster) -> None:
    follower = cluster.followers()[0]
    follower.stop()
    follower.start("writes.on_follower=proxy")
    cluster.wait_until_converged()
    assert follower.call("SET", "configured", "1") == b"OK"
    assert follower.call("RAFT", "ROUTING") == b"proxy"
    follower.stop()
    follower.start()


def test_readonly_and_stale_reads_are_served_by_the_follower_itself(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    leader.call("SET", "near", "by")
    cluster.wait_until_converged()
    follower = cluster.others(leader)[0]
    with Wire(follower.client) as wire:
        assert wire.call("READONLY") == b"OK"
        assert wire.call("GET", "near") == b"by"
        assert str(wire.call("SET", "near", "x")).startswith("MOVED")
        assert wire.call("READWRITE") == b"OK"
        assert str(wire.call("GET", "near")).startswith("MOVED")
        assert wire.call("RAFT", "READS", "stale") == b"OK"
        assert wire.call("GET", "near") == b"by"


def test_requests_held_while_nobody_leads_are_answered_by_the_next_leader(
    cluster: Cluster,
) -> None:
    leader = cluster.wait_until_settled()
    proxy, redirect = cluster.others(leader)
    with proxied(proxy) as through, Wire(redirect.client) as redirected:
        assert through.call("SET", "held", "0") == b"OK"
        leader.kill()
        # Sent again and again until the loss is noticed; from then on requests wait.
        deadline_s = time.monotonic() + 10
        while (reply := redirected.call("SET", "held", "r")) is None or leader.client in str(reply):
            assert time.monotonic() < deadline_s
        assert str(reply).startswith("MOVED") or reply == b"OK", reply
        new_leader = cluster.wait_for_leader(other_than=leader)
        if isinstance(reply, ReplyError):
            assert str(reply).split()[2] == new_leader.client
        reply = through.call("SET", "held", "1")
        assert reply == b"OK" or str(reply).startswith("UNKNOWN"), reply


def test_without_a_majority_every_request_is_answered_in_time(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    survivor, other = cluster.others(leader)
    leader.kill()
    other.kill()
    cluster.wait_until(
        lambda: (status := survivor.status()) is not None and not status["leader_id"],
        "the survivor knows no leader",
    )
    for routing in ("redirect", "proxy"):
        with Wire(survivor.client) as wire:
            wire.call("RAFT", "ROUTING", routing)
            for request in (("SET", "a", "1"), ("GET", "a")):
                started_s = time.monotonic()
                assert str(wire.call(*request)) == "CLUSTERDOWN no leader elected"
                waited_s = time.monotonic() - started_s
                assert LEADER_WAIT_S - 0.2 <= waited_s <= ANSWER_LIMIT_S
            # What needs no leader does not wait for one.
            started_s = time.monotonic()
            assert wire.call("PING") == b"PONG"
            assert wire.call("CLUSTER", "SLOTS"), "never empty"
            assert time.monotonic() - started_s < 1.0
    # A held request whose client went away is dropped.
    with Wire(survivor.client) as wire:
        wire.send(encode("SET", "dropped", "1"))
        time.sleep(0.1)
    other.start()
    cluster.wait_for_leader()
    leader.start()
    cluster.wait_until_converged()
    assert cluster.wait_for_leader().call("GET", "dropped") is None


def test_a_leader_without_followers_answers_in_time_and_never_wrongly(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    assert leader.call("SET", "alone", "before") == b"OK"
    followers = cluster.others(leader)
    for follower in followers:
        follower.pause()
    with Wire(leader.client) as reader, Wire(leader.client) as writer:
        started_s = time.monotonic()
        reader.send(encode("GET", "alone"))
        writer.send(encode("SET", "alone", "lost?"))
        # Definite for a read, unknown for a write; or the node noticed and closed them.
        for wire, words in ((reader, ("NOTAPPLIED", "CLUSTERDOWN")), (writer, ("UNKNOWN",))):
            try:
                reply = wire.read()
            except ConnectionError:
                reply = None
            assert reply is None or str(reply).startswith(words), reply
        assert time.monotonic() - started_s < ANSWER_LIMIT_S + 0.5
    for follower in followers:
        follower.resume()
    cluster.wait_until_converged()
    assert cluster.wait_for_leader().call("GET", "alone") in (b"before", b"lost?")


def test_a_leader_that_was_frozen_steps_down_and_serves_nothing_old(cluster: Cluster) -> None:
    old = cluster.wait_for_leader()
    assert old.call("SET", "frozen", "old") == b"OK"
    idle, asking = Wire(old.client), Wire(old.client)
    through = proxied(old)
    for wire in (idle, asking, through):
        assert wire.call("PING") == b"PONG"
    old.pause()
    # The request lies in the socket of the frozen process while others elect.
    asking.send(encode("GET", "frozen"))
    new = cluster.wait_for_leader(other_than=old)
    assert new.call("SET", "frozen", "new") == b"OK"
    old.resume()
    try:
        reply = asking.read()
    except ConnectionError:
        reply = b"new"
    assert reply == b"new" or str(reply).startswith(("MOVED", "NOTAPPLIED", "CLUSTERDOWN")), reply
    # Redirected clients are sent away, so that they look for the new leader.
    assert idle.read_to_end(10) == b""
    assert through.call("GET", "frozen") == b"new"
    for wire in (idle, asking, through):
        wire.close()
    cluster.wait_until_converged()


def test_pipelines_through_a_change_of_leader_are_answered_or_closed(cluster: Cluster) -> None:
    """Every client gets an answer for each request or the end of its connection."""
    leader = cluster.wait_for_leader()
    outcomes: list[str] = []

    def client(node: ClusterNode, routing: str) -> None:
        try:
            with Wire(node.client) as wire:
                wire.call("RAFT", "ROUTING", routing)
                for _ in range(40):
                    replies = wire.pipeline([("SET", f"{node.id}:{routing}", "x")] * 20)
                    words = ("MOVED", "NOTAPPLIED", "CLUSTERDOWN", "UNKNOWN")
                    assert all(
                        reply == b"OK" or str(reply).startswith(words) for reply in replies
                    ), replies
            outcomes.append("answered")
        except TimeoutError:
            outcomes.append("silence")
        except OSError:
            outcomes.append("closed")
        except AssertionError as error:
            outcomes.append(str(error))

    threads = [
        threading.Thread(target=client, args=(node, routing))
        for node in cluster.nodes
        for routing in ("redirect", "proxy")
    ]
    for thread in threads:
        thread.start()
    leader.kill()
    for thread in threads:
        thread.join()
    assert len(outcomes) == len(threads)
    assert set(outcomes) <= {"answered", "closed"}


def test_info_and_role_tell_the_same_story_on_every_node(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    for node in cluster.nodes:
        text = node.call("INFO", "raft").decode()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        assert fields["raft_node_id"] == node.id
        assert fields["raft_role"] == ("leader" if node is leader else "follower")
        assert fields["raft_leader_addr"] == leader.client
        assert (fields["raft_members"], fields["raft_quorum"]) == ("3", "2")
        role = node.call("ROLE")
        assert role[0] == (b"master" if node is leader else b"slave")
        slots = node.call("CLUSTER", "SLOTS")
        assert slots[0][:2] == [0, 16383]
        assert slots[0][2][1] == int(leader.client.rpartition(":")[2]), "the leader comes first"
        assert len(slots[0]) == 5
        assert len(node.call("RAFT", "MEMBERS")) == 3


def test_a_client_that_is_gone_leaves_nothing_behind(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    before = int(_clients(leader))
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            opened = stack.enter_context(socket.create_connection(split_address(leader.client)))
            # Else they are closed if it steps down meanwhile.
            opened.sendall(b"READONLY\r\n")
        cluster.wait_until(lambda: int(_clients(leader)) >= before + 50, "clients are counted")
    cluster.wait_until(lambda: int(_clients(leader)) <= before, "clients are forgotten")


def _clients(node: ClusterNode) -> str:
    text: str = node.call("INFO", "clients").decode()
    return next(
        line.split(":")[1] for line in text.splitlines() if line.startswith("connected_clients")
    )

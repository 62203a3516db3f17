"""One scenario, two shells: everything that both clients promise."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    DefiniteError,
    IndefiniteError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
    ProtocolError,
)
from tests.unit.client.fake_cluster import Failing, FakeCluster

Connect = Callable[..., Any]


def test_bytes_in_bytes_out_and_text_is_utf8(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    assert client.set("ключ", b"\xff\x00") is True
    assert client.get("ключ".encode()) == b"\xff\x00"
    assert client.get("missing") is None


def test_decode_gives_text_and_keeps_what_is_none(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses, decode=True)
    client.set(b"a", "é")
    client.set(b"b\xff", b"\xfe")
    assert client.get("a") == "é"
    assert client.mget("a", "none") == ["é", None]
    assert client.keys() == ["a", "b\udcff"]
    assert client.get(client.keys()[1]) == "\udcfe"
    assert client.execute("MGET", "a") == ["é"]
    assert client.type("a") == "string"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_any_single_node_is_enough(cluster: FakeCluster, connect: Connect, position: int) -> None:
    client = connect(cluster.addresses[position])
    client.set("a", "1")
    assert client.get("a") == b"1"
    assert {node for node, _ in cluster.executed} == {"n1"}


def test_moved_is_followed_where_members_are_not_announced(
    cluster: FakeCluster, connect: Connect
) -> None:
    cluster.announces_members = False
    client = connect(cluster.addresses[2])
    client.set("a", "1")
    assert cluster.executed == [("n1", (b"SET", b"a", b"1"))]
    assert cluster.nodes[0].address in client.addresses


def test_a_new_leader_is_found(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.set("a", "1")
    cluster.leader = cluster.nodes[1]
    client.set("a", "2")
    cluster.leader = cluster.nodes[2]
    assert client.get("a") == b"2"
    assert [node for node, _ in cluster.executed] == ["n1", "n2", "n3"]


def test_the_leader_dies_and_one_given_node_was_enough(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses[0])
    client.set("a", "1")
    cluster.leader = cluster.nodes[2]
    cluster.nodes[0].stop()
    client.set("a", "2")
    assert cluster.executed[-1] == ("n3", (b"SET", b"a", b"2"))


def test_a_connection_closed_while_idle_costs_nothing(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses)
    for round_number in range(20):
        client.incr("n")
        for node in cluster.nodes:
            node.drop_connections()
        # Let the end of the connection arrive: it is a loopback packet away.
        client.node(cluster.addresses[1]).ping()
        assert client.get("n") == b"%d" % (round_number + 1)


def test_waits_for_an_election(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    for node in cluster.nodes:
        node.acts.append("CLUSTERDOWN no leader elected")
    client.incr("n")
    assert cluster.names() == [b"INCR"]


def test_without_a_leader_the_deadline_ends_it_definitely(
    cluster: FakeCluster, connect: Connect
) -> None:
    cluster.leader = None
    client = connect(cluster.addresses, deadline_s=0.15)
    started_s = time.monotonic()
    with pytest.raises(NoLeaderError):
        client.set("a", "1")
    assert 0.1 < time.monotonic() - started_s < 2
    assert cluster.executed == []


def test_nobody_there(cluster: FakeCluster, connect: Connect) -> None:
    for node in cluster.nodes:
        node.stop()
    with pytest.raises(ConnectFailedError):
        connect(cluster.addresses, deadline_s=0.1).get("a")


def test_a_write_refused_for_now_runs_once(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.extend(["NOTAPPLIED overloaded", "TRYAGAIN", "LOADING"])
    assert client.incr("n") == 1
    assert cluster.names() == [b"INCR"]


def test_disk_full_is_said_at_once(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.append("NOTAPPLIED disk full")
    with pytest.raises(NotAppliedError, match="disk full"):
        client.incr("n")


def test_an_unknown_outcome_is_raised_and_not_repeated(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.append("UNKNOWN leadership lost")
    with pytest.raises(OutcomeUnknownError, match="leadership lost"):
        client.incr("n")
    assert cluster.executed == []


def test_a_write_whose_reply_is_lost_ran_once(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.append("drop after")
    with pytest.raises(ConnectionLostError):
        client.incr("n")
    assert cluster.names() == [b"INCR"]
    assert client.get("n") == b"1"


def test_a_write_whose_connection_ends_before_the_reply_is_unknown(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses)
    cluster.nodes[0].acts.append("drop before")
    with pytest.raises(IndefiniteError):
        client.incr("n")
    assert cluster.executed == []


def test_a_read_whose_reply_is_lost_is_asked_again(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.set("a", "1")
    cluster.nodes[0].acts.extend(["drop after", "drop before"])
    assert client.get("a") == b"1"


def test_a_slow_reply_to_a_write_is_unknown(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.ping()
    cluster.nodes[0].acts.append("hang")
    with pytest.raises(DeadlineExceededError):
        client.within(0.1).incr("n")
    cluster.released.set()
    assert client.incr("n") == 1


def test_errors_of_redis_are_definite(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.set("a", "x")
    with pytest.raises(CommandError, match="not an integer") as caught:
        client.incr("a")
    assert caught.value.code == "ERR"
    assert isinstance(caught.value, DefiniteError)


def test_a_reply_of_another_kind_is_said_so(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    cluster.canned[b"GET"] = 5
    with pytest.raises(ProtocolError):
        client.get("a")


def test_a_pipeline_keeps_order_and_hides_nothing(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses[1])
    pipeline = client.pipeline()
    pipeline.set("a", "1")
    pipeline.incr("a")
    pipeline.set("b", "x")
    pipeline.incr("b")
    pipeline.command("MGET", "a", "b")
    results = pipeline.execute(raise_first=False)
    assert results[:3] == [True, 2, True]
    assert isinstance(results[3], CommandError)
    assert results[4] == [b"2", b"x"]
    assert pipeline.execute() == []


def test_a_pipeline_raises_its_first_error(cluster: FakeCluster, connect: Connect) -> None:
    pipeline = connect(cluster.addresses).pipeline()
    pipeline.set("a", "x")
    pipeline.incr("a")
    with pytest.raises(CommandError):
        pipeline.execute()


def test_a_pipeline_longer_than_any_buffer(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    pipeline = client.pipeline()
    value = b"v" * 20_000
    for number in range(300):
        pipeline.set(f"k{number}", value)
        pipeline.get(f"k{number}")
    results = pipeline.execute()
    assert results == [True, value] * 300


def test_a_connection_lost_in_a_pipeline(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.ping()
    cluster.nodes[0].acts.extend(["", "drop after"])
    pipeline = client.pipeline()
    for _ in range(3):
        pipeline.incr("n")
    results = pipeline.execute(raise_first=False)
    assert results[0] == 1
    assert [type(result) for result in results[1:]] == [ConnectionLostError] * 2
    assert cluster.names() == [b"INCR"] * 2


def test_scan_turns_all_pages(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.mset({f"k{number:03}": "x" for number in range(50)})
    assert client.scan(0, count=3) == (3, [b"k000", b"k001", b"k002"])
    assert len(list(client.scan_iter(count=7))) == 50
    assert list(client.scan_iter(match="k00*", count=7)) == [b"k%03d" % n for n in range(10)]


def test_a_range_turns_all_pages_at_one_revision(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.mset({f"k{number:03}": "x" for number in range(50)})
    keys = list(client.range_iter("k", "k020", limit=7, keys_only=True))
    assert keys == [b"k%03d" % number for number in range(20)]
    pages = [request for _, request in cluster.executed if request[0] == b"KV"]
    assert [b"REV" in page for page in pages] == [False, True, True]


def test_one_node_can_be_asked_by_itself(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    with pytest.raises(NotLeaderError) as caught:
        client.node(cluster.addresses[2]).set("a", "1")
    assert caught.value.address == cluster.addresses[0]


def test_status_asks_every_node(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses[0])
    cluster.nodes[2].stop()
    first, second, third = client.status()
    assert (first.node_id, first.role, first.is_leader, first.term) == ("n1", "leader", True, 7)
    assert (second.node_id, second.applied_index) == ("n2", 38)
    assert third.address == cluster.addresses[2]
    assert third.error


def test_info_is_a_map(cluster: FakeCluster, connect: Connect) -> None:
    assert connect(cluster.addresses).info("raft") == {"raft_role": "leader", "raft_term": "7"}


def test_connections_are_used_again(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses[0])
    for _ in range(5):
        client.incr("n")
    assert cluster.nodes[0].connections == 1


def test_a_changed_connection_is_not_handed_on(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses[0])
    client.execute("CLIENT", "SETNAME", "x")
    client.incr("n")
    assert cluster.nodes[0].connections == 2

    keeping = connect(cluster.addresses[0], keep_state=True)
    keeping.execute("CLIENT", "SETNAME", "x")
    keeping.incr("n")
    assert cluster.nodes[0].connections == 3


def test_a_connection_with_an_unknown_outcome_is_not_handed_on(
    cluster: FakeCluster, connect: Connect
) -> None:
    client = connect(cluster.addresses[0])
    cluster.nodes[0].acts.append("UNKNOWN timeout")
    with pytest.raises(OutcomeUnknownError):
        client.incr("n")
    client.incr("n")
    assert cluster.nodes[0].connections == 2


def test_a_closed_client_sends_nothing(cluster: FakeCluster, connect: Connect) -> None:
    client = connect(cluster.addresses)
    client.incr("n")
    client.close()
    with pytest.raises(ConnectFailedError, match="closed"):
        client.incr("n")
    assert cluster.names() == [b"INCR"]


@pytest.mark.parametrize("call", [lambda c: c.mget(), lambda c: c.delete(), lambda c: c.execute()])
def test_a_command_without_its_keys_is_refused_before_sending(
    cluster: FakeCluster, connect: Connect, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(ValueError):
        call(connect(cluster.addresses))


def test_a_node_that_accepts_and_is_silent_is_not_the_end(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        client = connect(f"127.0.0.1:{mute.getsockname()[1]}", deadline_s=0.1)
        with pytest.raises(ConnectFailedError):
            client.incr("n")


def test_a_node_that_is_full_is_passed_over(cluster: FakeCluster, connect: Connect) -> None:
    cluster.canned[b"HELLO"] = Failing("ERR max number of clients reached")
    with pytest.raises(ConnectFailedError, match="max number of clients"):
        connect(cluster.addresses, deadline_s=0.5).incr("n")
    assert cluster.executed == []


def test_an_address_that_names_nobody(connect: Connect) -> None:
    with pytest.raises(ConnectFailedError):
        connect("nobody.invalid:7001", deadline_s=0.1).get("a")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_a_port_that_speaks_something_else(connect: Connect, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            client = connect(f"127.0.0.1:{server.getsockname()[1]}", deadline_s=0.2)
            with pytest.raises(ConnectFailedError):
                client.incr("n")
        finally:
            ended.set()
            thread.join(5)

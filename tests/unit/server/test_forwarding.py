"""Proxy routing: forwards between nodes, their order, limits and failures."""

from __future__ import annotations

import struct
from dataclasses import asdict, replace
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.seams import DISCARDED, NOT_LEADER, TIMEOUT
from raftkv.server.forwarding import PEER_FORWARD, PEER_FORWARD_REPLY
from raftkv.setting_rules import check_relations
from raftkv.types import NodeId
from tests.unit.server.harness import Cluster, encode, pipeline

N1, N2 = NodeId("n1"), NodeId("n2")


def proxied(**options: Any) -> Cluster:
    return Cluster(on_follower="proxy", **options)


class TestRelay:
    def test_any_node_takes_everything(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("SET a 1", "INCR a", "GET a", "KEYS *", "MGET a b", "DEL a"))
        cluster.turn()
        cluster.turn()
        cluster.turn()
        assert client.replies() == [b"OK", 2, b"2", [b"a"], [b"2", None], 1]
        assert client.transport.writes == 1

    def test_replies_use_the_clients_protocol_version(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("HELLO 3", "GET a"))
        cluster.turn()
        assert bytes(client.transport.written).endswith(b"_\r\n")

    def test_errors_are_relayed(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("SET a x", "INCR a"))
        cluster.turn()
        assert client.replies() == [b"OK", "ERR value is not an integer or out of range"]

    def test_own_commands_and_bad_input_are_answered_here_in_order(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("PING", "SET a 1", "PING", "GET", "GET a"))
        assert client.replies() == [b"PONG"]
        cluster.turn()
        assert client.replies() == [
            b"OK",
            b"PONG",
            "ERR wrong number of arguments for 'get' command",
        ]
        cluster.turn()
        assert client.replies() == [b"1"]

    def test_one_forward_at_a_time_keeps_the_order(self) -> None:
        cluster = proxied()
        cluster["n2"].network.is_holding = True
        client = cluster["n2"].client()
        client.send("SET a 1")
        client.send("INCR a")
        assert len(cluster["n2"].network.frames) == 1
        cluster["n2"].network.deliver()
        cluster.turn()
        assert client.replies() == [b"OK"]
        cluster["n2"].network.deliver()
        cluster.turn()
        assert client.replies() == [2]

    def test_long_pipelines_travel_in_bounded_forwards(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline(*["INCR n"] * 200))
        assert len(cluster["n1"].replica.asked[0][1]) == 64
        for _ in range(4):
            cluster.turn()
        assert client.replies() == list(range(1, 201))

    def test_large_requests_travel_alone(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        value = b"x" * 700_000
        client.send(encode("SET", "a", value) + encode("SET", "b", value))
        assert [len(commands) for _, commands in cluster["n1"].replica.asked] == [1]
        cluster.turn()
        cluster.turn()
        assert client.replies() == [b"OK", b"OK"]

    def test_large_replies_come_in_several_frames(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        value = bytes(range(256)) * 12_000
        client.send(encode("SET", "a", value))
        cluster.turn()
        client.send("GET a")
        cluster["n1"].network.is_holding = True
        cluster.turn()
        sizes = [len(body) for _, _, body in cluster["n1"].network.frames]
        assert len(sizes) == 3
        assert max(sizes) < 1_100_000
        cluster["n1"].network.deliver()
        assert client.replies() == [b"OK", value]

    def test_replies_over_the_limit_are_refused_truthfully(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(encode("SET", "a", b"x" * 4_000_000))
        cluster.turn()
        assert client.replies() == [b"OK"]
        client.send(encode("MGET", *["a"] * 5))
        cluster.turn()
        assert client.replies() == ["NOTAPPLIED reply too large to be proxied"]
        assert not client.transport.closed

    def test_readonly_reads_here_and_waits_for_what_was_forwarded(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("READONLY", "SET a 1", "GET a"))
        assert client.replies() == [b"OK"]
        cluster.turn()
        assert client.replies() == [b"OK", b"1"]
        assert len(cluster["n1"].replica.asked) == 1

    def test_the_stale_level_of_the_leaders_config_does_not_leak(self) -> None:
        cluster = proxied(level="stale")
        client = cluster["n2"].client()
        assert client.ask("RAFT READS linearizable") == b"OK"
        client.send("GET a")
        assert cluster["n1"].replica.asked == [("read", [(3, b"a")])]

    def test_counters(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send("GET a")
        cluster.turn()
        assert cluster["n2"].service.statistics.forwards_sent == 1
        assert cluster["n1"].service.statistics.forwards_received == 1
        assert cluster["n2"].service.forwarder.pending_bytes == {"n1": 0}


class TestRefused:
    def test_a_node_that_does_not_lead_refuses_and_the_request_is_routed_again(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        cluster["n1"].replica.lead("n3")
        cluster["n3"].replica.lead("n3")
        client.send("SET a 1")  # n2 still believes in n1.
        assert client.replies() == []
        assert cluster["n1"].replica.asked == []
        cluster["n2"].replica.lead("n3")
        cluster.turn()
        assert client.replies() == [b"OK"]

    def test_it_is_not_asked_again_at_once(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        cluster["n1"].replica.lead(None)
        client.send("SET a 1")
        assert cluster["n2"].service.statistics.forwards_sent == 1
        cluster["n2"].wait(50)
        assert cluster["n2"].service.statistics.forwards_sent == 2

    def test_a_request_whose_client_is_gone_is_not_held(self) -> None:
        cluster = proxied()
        cluster["n2"].network.is_holding = True
        client = cluster["n2"].client()
        client.send("SET a 1")
        client.lose()
        cluster["n1"].replica.lead(None)
        cluster["n2"].network.deliver()
        assert cluster["n2"].service.held == set()
        assert cluster["n2"].service.statistics.forwards_sent == 1

    def test_and_in_time_the_request_is_refused(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        cluster["n1"].replica.lead(None)
        client.send("SET a 1")
        for _ in range(41):
            cluster["n2"].wait(50)
        cluster["n2"].replica.lead(None)
        cluster["n2"].wait(50)
        assert client.replies() == ["CLUSTERDOWN no leader elected"]

    def test_a_leader_that_steps_down_before_proposing_refuses(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("SET a 1", "GET a"))
        cluster["n1"].replica.is_leader = False
        cluster["n1"].replica.fail_all(NOT_LEADER)
        assert client.replies() == []
        cluster.lead("n3")  # n3 hears of it last and refuses once more.
        cluster["n2"].wait(50)
        cluster.turn()
        assert client.replies() == [b"OK", b"1"]

    def test_leadership_lost_in_the_middle_is_told_command_by_command(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send(pipeline("SET a 1", "KEYS *", "SET b 1", "KEYS *", "GET b"))
        cluster["n1"].replica.turn()
        cluster["n1"].replica.turn()
        cluster["n1"].replica.is_leader = False
        cluster["n1"].replica.fail_all(NOT_LEADER)
        assert client.replies() == [b"OK", [b"a"], *["NOTAPPLIED not leader"] * 3]
        assert not client.transport.closed

    def test_each_forward_is_answered_once(self) -> None:
        cluster = proxied()
        cluster["n1"].network.is_holding = True
        client = cluster["n2"].client()
        cluster["n1"].replica.propose = (  # type: ignore[method-assign]
            lambda commands, slot: slot.fail(DISCARDED)
        )
        client.send("SET a 1")
        cluster["n1"].replica.end_turn()
        assert len(cluster["n1"].network.frames) == 1
        cluster["n1"].network.deliver()
        assert client.replies() == ["NOTAPPLIED entry discarded"]

    def test_held_while_nobody_leads_then_forwarded(self) -> None:
        cluster = proxied(leader=None)
        client = cluster["n2"].client()
        client.send("SET a 1")
        cluster.lead("n1")
        cluster.turn()
        assert client.replies() == [b"OK"]

    def test_no_client_is_closed_at_step_down(self) -> None:
        cluster = proxied()
        client = cluster["n1"].client()
        client.send("GET a")
        cluster.lead("n2")
        cluster["n1"].replica.fail_all(NOT_LEADER)
        cluster.turn()
        assert client.replies() == [None]
        assert not client.transport.closed


class TestDeadline:
    """`timing.request_timeout_ms` is all that a request gets, waiting for a leader included."""

    def test_of_a_forward_that_was_held_first(self) -> None:
        cluster = proxied(leader=None)
        node = cluster["n2"]
        node.network.is_holding = True
        client = node.client()
        client.send("SET a 1")
        node.wait(1900)
        cluster.lead("n1")
        node.wait(2099)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == ["UNKNOWN timeout"]

    def test_one_with_less_time_left_does_not_wait_for_earlier_ones(self) -> None:
        cluster = proxied(leader=None)
        node = cluster["n2"]
        node.network.is_holding = True
        first, held = node.client(), node.client()
        held.send("GET a")
        node.wait(1900)
        node.replica.leader = node.replica.configuration.member(N1)
        node.replica.has_leader = True
        first.send("GET a")
        node.wait(0)
        assert len(node.network.frames) == 2
        node.wait(2100)
        assert held.replies() == ["NOTAPPLIED timeout"]
        assert first.replies() == []
        node.wait(1900)
        assert first.replies() == ["NOTAPPLIED timeout"]

    def test_refusals_do_not_let_the_hold_begin_anew(self) -> None:
        cluster = proxied(leader=None)
        node = cluster["n2"]
        client = node.client()
        client.send("SET a 1")
        node.wait(1500)
        node.network.is_holding = True
        cluster["n1"].replica.lead(None)
        node.replica.lead("n1")
        node.wait(400)
        node.network.deliver()
        node.replica.lead(None)
        node.wait(99)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == ["CLUSTERDOWN no leader elected"]

    @pytest.mark.parametrize("by_index", [False, True])
    def test_a_leader_that_always_refuses_is_not_asked_for_ever(self, by_index: bool) -> None:
        cluster = proxied()
        node = cluster["n2"]
        cluster["n1"].replica.lead(None)
        node.replica.can_read_by_index = by_index
        client = node.client()
        client.send("GET a")
        for _ in range(80):
            assert client.replies() == []
            for _, slot in node.replica.indexed:
                slot.fail(NOT_LEADER)
            node.replica.indexed.clear()
            node.replica.end_turn()
            node.wait(50)
        assert client.replies() == ["CLUSTERDOWN no leader elected"]
        assert not client.transport.closed


def smallest_frame(**changes: int) -> Limits:
    """Return limits whose peer frames could not be a byte shorter."""
    given = Limits(
        request_bytes_max=70_000,
        key_bytes_max=1024,
        value_bytes_max=1024,
        batch_bytes_max=4096,
        append_bytes_max=4096,
        snapshot_chunk_bytes=4096,
    )
    given = replace(given, **changes)

    def is_allowed(size: int) -> bool:
        limits = replace(given, peer_frame_bytes_max=size)
        values = {f"limits.{key}": value for key, value in asdict(limits).items()}
        return not check_relations(values)

    low, high = 256 * 1024, given.peer_frame_bytes_max
    assert is_allowed(high)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_allowed(middle) else (middle + 1, high)
    return replace(given, peer_frame_bytes_max=low)


def forwards(cluster: Cluster, data: bytes) -> list[int]:
    """Return the sizes of the frames that go to the leader, one after the other, and back."""
    sizes = []
    client = cluster["n2"].client()
    cluster["n1"].network.is_holding = cluster["n2"].network.is_holding = True
    client.send(data)
    while frames := [*cluster["n2"].network.frames, *cluster["n1"].network.frames]:
        sizes += [len(body) for _, _, body in frames]
        for name in ("n2", "n1"):
            cluster[name].network.deliver()
        cluster.turn()
    assert client.replies()
    return sizes


class TestSmallestFrame:
    """No forward and no reply is longer than the shortest frame that settings may allow."""

    @pytest.mark.parametrize(
        ("count", "size"), [(49_999, 0), (49_999, 1), (6_000, 10), (690, 100), (69, 1000)]
    )
    def test_the_largest_request_fits(self, count: int, size: int) -> None:
        limits = smallest_frame(request_arguments_max=50_000)
        (sent, _) = forwards(proxied(limits=limits), encode("DEL", *[b"k" * size] * count))
        assert count * (size + 6) < sent <= limits.peer_frame_bytes_max

    def test_a_stretch_of_requests_fits(self) -> None:
        limits = smallest_frame(request_arguments_max=1000)
        requests = [encode("DEL", *[b""] * 990)] * 64
        sizes = forwards(proxied(limits=limits), b"".join(requests))
        assert sum(sizes) > limits.peer_frame_bytes_max >= max(sizes)

    def test_a_piece_of_the_replies_fits(self) -> None:
        limits = smallest_frame(request_arguments_max=1000)
        cluster = proxied(limits=limits)
        cluster["n2"].client().send(encode("SET", "a", b"v" * 1000))
        cluster.turn()
        sizes = forwards(cluster, encode("MGET", *["a"] * 900))
        assert sum(sizes) > limits.peer_frame_bytes_max >= max(sizes)


class TestLost:
    def test_timeout_is_unknown_for_writes_and_definite_for_reads(self) -> None:
        cluster = proxied()
        node = cluster["n2"]
        node.network.is_holding = True
        client, reader = node.client(), node.client()
        client.send(pipeline("GET a", "SET a 1", "GET a"))
        client.send("SET b 1")
        reader.send(pipeline("GET a"))
        node.wait(3999)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == [
            "NOTAPPLIED timeout",
            "UNKNOWN timeout",
            "NOTAPPLIED timeout",
            "NOTAPPLIED earlier command unknown",
        ]
        assert client.transport.closed
        assert reader.replies() == ["NOTAPPLIED timeout"]
        assert not reader.transport.closed

    def test_a_late_reply_is_dropped(self) -> None:
        cluster = proxied()
        node = cluster["n2"]
        cluster["n1"].network.is_holding = True
        client = node.client()
        client.send("GET a")
        cluster.turn()
        node.wait(4000)
        assert client.replies() == ["NOTAPPLIED timeout"]
        cluster["n1"].network.deliver()
        assert client.replies() == []

    def test_a_lost_link_answers_at_once_and_new_requests_are_held(self) -> None:
        cluster = proxied()
        node = cluster["n2"]
        node.network.is_holding = True
        writer, reader = node.client(), node.client()
        writer.send("SET a 1")
        reader.send("GET a")
        node.listener.peer_down(N1)
        assert writer.replies() == ["UNKNOWN link to the leader lost"]
        assert writer.transport.closed
        assert reader.replies() == ["NOTAPPLIED link to the leader lost"]
        node.network.frames.clear()
        node.network.is_holding = False
        reader.send("GET a")
        assert reader.replies() == []
        node.listener.peer_up(N1)
        node.wait(50)
        cluster.turn()
        assert reader.replies() == [None]

    def test_a_link_that_stays_down_is_definite(self) -> None:
        cluster = proxied()
        node = cluster["n2"]
        node.listener.peer_down(N1)
        client = node.client()
        client.send("SET a 1")
        node.wait(2000)
        assert client.replies() == ["NOTAPPLIED overloaded"]
        assert not client.transport.closed

    def test_unknown_on_the_leader_ends_the_clients_pipeline(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send("SET a 1")
        client.send("SET b 1")
        cluster["n1"].replica.fail_all(TIMEOUT)
        assert client.replies() == ["UNKNOWN timeout", "NOTAPPLIED earlier command unknown"]
        assert client.transport.closed

    def test_definite_failures_are_relayed(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send("SET a 1")
        cluster["n1"].replica.fail_all(DISCARDED)
        assert client.replies() == ["NOTAPPLIED entry discarded"]

    def test_forwards_on_their_way_are_bounded(self) -> None:
        limits = Limits(peer_queue_bytes_max=40_000_000)
        cluster = proxied(limits=limits)
        node = cluster["n2"]
        node.network.is_holding = True
        clients = [node.client() for _ in range(4)]
        for client in clients:
            client.send(encode("SET", "a", b"x" * 4_000_000))
        assert len(node.network.frames) == 2
        assert len(node.service.held) == 2
        node.network.is_holding = False
        node.network.deliver()
        cluster.turn()
        node.wait(50)
        cluster.turn()
        assert [client.replies() for client in clients] == [[b"OK"]] * 4

    def test_a_client_that_is_gone_gets_nothing(self) -> None:
        cluster = proxied()
        client = cluster["n2"].client()
        client.send("SET a 1")
        client.lose()
        cluster.turn()
        assert client.replies() == []
        assert cluster["n2"].service.forwarder.pending_bytes == {"n1": 0}


class TestFrames:
    """The bodies are those of docs/reference/forwards.md."""

    def test_layout(self) -> None:
        cluster = proxied()
        cluster["n2"].network.is_holding = cluster["n1"].network.is_holding = True
        client = cluster["n2"].client()
        client.send("GET a")
        (frame,) = cluster["n2"].network.frames
        assert frame == (
            "n1",
            PEER_FORWARD,
            bytes.fromhex("01020000 0100000000000000") + encode("GET", "a"),
        )
        cluster["n2"].network.deliver()
        cluster["n1"].replica.turn()
        assert cluster["n1"].network.frames == [
            ("n2", PEER_FORWARD_REPLY, bytes.fromhex("01000000 0100000000000000") + b"$-1\r\n")
        ]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\x01\x02",
            bytes.fromhex("02020000 0100000000000000") + encode("GET", "a"),
            bytes.fromhex("01090000 0100000000000000") + encode("GET", "a"),
            bytes.fromhex("01020000 0100000000000000") + b"*1\r\n:1\r\n",
            bytes.fromhex("01020000 0100000000000000") + b"*1\r\n$3\r\nG",
        ],
    )
    @pytest.mark.parametrize("kind", [PEER_FORWARD, PEER_FORWARD_REPLY])
    def test_malformed_ones_are_reported_and_change_nothing(self, kind: int, body: bytes) -> None:
        node = proxied()["n1"]
        node.listener.received(N2, kind, body)
        assert node.replica.asked == []
        known_reply = kind == PEER_FORWARD_REPLY and body[:1] == b"\x01" and len(body) >= 12
        assert [name for name, _ in node.observer.events] == (
            [] if known_reply else ["forward_malformed"]
        )

    def test_a_cancel_of_what_is_not_there_changes_nothing(self) -> None:
        node = proxied()["n1"]
        node.listener.received(N2, PEER_FORWARD, bytes.fromhex("01020000 0100000000000000"))
        assert (node.replica.asked, node.observer.events, node.network.frames) == ([], [], [])

    def test_own_commands_cannot_be_forwarded(self) -> None:
        node = proxied()["n1"]
        node.network.is_holding = True
        body = struct.pack("<BBxxQ", 1, 2, 7) + encode("CLIENT", "LIST") + encode("QUIT")
        node.listener.received(N2, PEER_FORWARD, body)
        (_, _, reply) = node.network.frames[0]
        assert reply[12:] == (
            b"-ERR 'client|list' cannot be proxied\r\n-ERR 'quit' cannot be proxied\r\n"
        )

    def test_a_reply_of_another_node_is_ignored(self) -> None:
        cluster = proxied()
        node = cluster["n2"]
        node.network.is_holding = True
        client = node.client()
        client.send("GET a")
        body = struct.pack("<BBBxQ", 1, 0, 0, 1) + b"$6\r\nforged\r\n"
        node.listener.received(NodeId("n3"), PEER_FORWARD_REPLY, body)
        assert client.replies() == []

"""Publish and subscribe: on one node, between nodes, beside replies, and too slow for it."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.seams import NOT_LEADER, PEER_PUBLISH, TIMEOUT
from raftkv.types import NodeId
from tests.unit.server.harness import Client, Cluster, Node, encode, pipeline

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def listening(node: Node, *lines: str) -> Client:
    """A client in RESP2 with subscriptions, their replies read."""
    client = node.client()
    client.send(pipeline(*lines))
    client.replies()
    return client


def settle(cluster: Cluster | Node) -> None:
    """Let everything that waits for the next pass of the event loop happen."""
    for node in cluster.nodes.values() if isinstance(cluster, Cluster) else [cluster]:
        node.service.publications.flush()
    for node in cluster.nodes.values() if isinstance(cluster, Cluster) else [cluster]:
        node.service.turn_ended()


def heard(client: Client) -> list[Any]:
    client.node.service.turn_ended()
    return client.replies()


class TestSubscriptions:
    def test_each_name_is_confirmed_with_the_number_of_subscriptions(self) -> None:
        client = Node().client()
        client.send(pipeline("SUBSCRIBE a b a", "PSUBSCRIBE x*", "SSUBSCRIBE a"))
        assert client.replies() == [
            [b"subscribe", b"a", 1],
            [b"subscribe", b"b", 2],
            [b"subscribe", b"a", 2],
            [b"psubscribe", b"x*", 3],
            [b"ssubscribe", b"a", 1],
        ]
        client.send(pipeline("UNSUBSCRIBE b z", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"))
        assert client.replies() == [
            [b"unsubscribe", b"b", 2],
            [b"unsubscribe", b"z", 2],
            [b"unsubscribe", b"a", 1],
            [b"punsubscribe", b"x*", 0],
            [b"sunsubscribe", b"a", 0],
        ]
        client.send(pipeline("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"))
        assert client.replies() == [
            [b"unsubscribe", None, 0],
            [b"punsubscribe", None, 0],
            [b"sunsubscribe", None, 0],
        ]

    def test_messages_reach_channels_and_patterns_and_are_counted(self) -> None:
        node = Node()
        first = listening(node, "SUBSCRIBE news", "PSUBSCRIBE n*")
        second = listening(node, "PSUBSCRIBE n?ws")
        publisher = node.client()
        assert publisher.ask("PUBLISH news hello") == 3
        assert publisher.ask("PUBLISH other hello") == 0
        assert heard(first) == [
            [b"message", b"news", b"hello"],
            [b"pmessage", b"n*", b"news", b"hello"],
        ]
        assert heard(second) == [[b"pmessage", b"n?ws", b"news", b"hello"]]

    def test_shard_channels_are_a_name_space_of_their_own(self) -> None:
        node = Node()
        plain, sharded = listening(node, "SUBSCRIBE a"), listening(node, "SSUBSCRIBE a")
        publisher = node.client()
        assert publisher.ask("SPUBLISH a 1") == 1
        assert publisher.ask("PUBLISH a 2") == 1
        assert heard(plain) == [[b"message", b"a", b"2"]]
        assert heard(sharded) == [[b"smessage", b"a", b"1"]]

    def test_pubsub_looks_at_this_node(self) -> None:
        node = Node()
        clients = [listening(node, "SUBSCRIBE a ab", "PSUBSCRIBE x y", "SSUBSCRIBE s")]
        clients.append(listening(node, "SUBSCRIBE a", "PSUBSCRIBE x"))
        asking = node.client()
        assert asking.ask("PUBSUB CHANNELS") == [b"a", b"ab"]
        assert asking.ask("PUBSUB CHANNELS ?b") == [b"ab"]
        assert asking.ask("PUBSUB NUMSUB a ab c") == [b"a", 2, b"ab", 1, b"c", 0]
        assert asking.ask("PUBSUB NUMSUB") == []
        assert asking.ask("PUBSUB NUMPAT") == 2
        assert asking.ask("PUBSUB SHARDCHANNELS") == [b"s"]
        assert asking.ask("PUBSUB SHARDNUMSUB s a") == [b"s", 1, b"a", 0]
        assert asking.ask("PUBSUB HELP")[0].startswith(b"PUBSUB")
        for client in clients:
            client.lose()
        assert asking.ask("PUBSUB CHANNELS") == []
        assert asking.ask("PUBSUB NUMPAT") == 0
        assert node.service.queued_bytes == 0

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("SUBSCRIBE", "ERR wrong number of arguments for 'subscribe' command"),
            ("PUBLISH a", "ERR wrong number of arguments for 'publish' command"),
            ("PUBLISH a b c", "ERR wrong number of arguments for 'publish' command"),
            ("PUBSUB", "ERR wrong number of arguments for 'pubsub' command"),
            ("PUBSUB NOPE", "ERR unknown subcommand 'NOPE'. Try PUBSUB HELP."),
            ("PUBSUB NUMPAT a", "ERR wrong number of arguments for 'pubsub|numpat' command"),
            (
                "PUBSUB CHANNELS a b",
                "ERR wrong number of arguments for 'pubsub|channels' command",
            ),
            ("PSUBSCRIBE a " + "x" * 1025, "ERR pattern exceeds 1024 bytes"),
            ("SUBSCRIBE " + "x" * 65537, "ERR channel exceeds limits.key_bytes_max (65536 bytes)"),
        ],
    )
    def test_bad_requests_change_nothing(self, line: str, error: str) -> None:
        client = Node().client()
        assert client.ask(line) == error
        assert not client.connection.is_subscribed

    def test_the_names_of_all_connections_have_one_limit(self) -> None:
        node = Node(limits=Limits(uncommitted_bytes_max=10 * 1024))
        client = node.client()
        client.send(encode("SUBSCRIBE", *[f"channel:{number}" for number in range(20)]))
        assert len(client.replies()) == 20
        other = node.client()
        many = [f"other:{number}" for number in range(30)]
        assert other.ask(encode("SUBSCRIBE", *many)) == "NOTAPPLIED overloaded"
        assert not other.connection.is_subscribed
        client.lose()
        other.send(encode("SUBSCRIBE", *many))
        assert len(other.replies()) == 30


class TestModes:
    def test_resp2_takes_only_what_changes_subscriptions(self) -> None:
        node = Node()
        client = listening(node, "SUBSCRIBE a")
        refused = (
            "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
            "RESET are allowed in this context"
        )
        assert client.ask("GET k") == refused
        assert client.ask("get k") == refused
        assert client.ask("PING") == [b"pong", b""]
        assert client.ask("PING hi") == [b"pong", b"hi"]
        assert client.ask("HELLO 3").startswith("ERR Can't execute 'hello'")
        assert client.ask("CLIENT ID").startswith("ERR Can't execute 'client|id'")
        client.send(pipeline("UNSUBSCRIBE", "GET k", "PING"))
        node.replica.turn()
        assert client.replies() == [[b"unsubscribe", b"a", 0], None, b"PONG"]

    def test_so_does_a_follower(self) -> None:
        client = listening(Node("n2"), "SUBSCRIBE a")
        assert client.ask("SET k v").startswith("ERR Can't execute 'set'")

    def test_resp3_takes_everything_and_pushes(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("HELLO 3", "SUBSCRIBE a"))
        assert bytes(client.transport.written).endswith(
            b">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n"
        )
        client.transport.written.clear()
        assert client.ask("SET k v") == b"OK"
        client.ask("PING")
        node.client().ask("PUBLISH a 1")
        node.service.turn_ended()
        assert bytes(client.transport.written) == (b">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n")

    def test_hello_2_restricts_a_subscriber(self) -> None:
        client = Node().client()
        client.send(pipeline("HELLO 3", "SUBSCRIBE a", "HELLO 2"))
        client.replies()
        assert client.ask("GET k").startswith("ERR Can't execute 'get'")

    def test_reset_ends_every_subscription(self) -> None:
        node = Node()
        client = listening(node, "SUBSCRIBE a", "PSUBSCRIBE b")
        assert client.ask("RESET") == b"RESET"
        assert node.client().ask("PUBLISH a 1") == 0
        assert client.ask("GET k") is None

    def test_quit_closes_and_multi_refuses(self) -> None:
        node = Node()
        client = listening(node, "SUBSCRIBE a")
        assert client.ask("QUIT") == b"OK"
        assert client.transport.closed
        other = node.client()
        other.send(pipeline("MULTI", "SUBSCRIBE a", "EXEC"))
        assert other.replies()[1:] == [
            "ERR Command not allowed inside a transaction",
            "EXECABORT Transaction discarded because of previous errors.",
        ]

    def test_client_list_shows_subscribers(self) -> None:
        node = Node()
        client = listening(node, "SUBSCRIBE a b", "PSUBSCRIBE c", "SSUBSCRIBE d")
        other = node.client()
        line = other.ask("CLIENT LIST TYPE pubsub").decode()
        assert " flags=P " in line
        assert " sub=2 psub=1 ssub=1 " in line
        assert "flags=P" not in other.ask("CLIENT LIST TYPE normal").decode()
        assert other.ask("CLIENT KILL TYPE pubsub") == 1
        assert client.transport.aborted

    def test_subscribers_are_closed_neither_for_silence_nor_for_a_change_of_leader(self) -> None:
        node = Node(limits=Limits(idle_seconds_max=1))
        client, idle = listening(node, "SUBSCRIBE a"), node.client()
        node.wait(10_000)
        assert (client.transport.closed, idle.transport.closed) == (False, True)
        redirected = node.client()
        node.replica.lead("n2")
        assert (client.transport.closed, redirected.transport.closed) == (False, True)


class TestOrder:
    def test_a_message_is_published_when_what_was_sent_before_is_answered(self) -> None:
        node = Node()
        listener, client = listening(node, "SUBSCRIBE a"), node.client()
        client.send(pipeline("SET k v", "PUBLISH a k"))
        assert heard(listener) == []
        node.replica.turn()
        assert client.replies() == [b"OK", 1]
        assert heard(listener) == [[b"message", b"a", b"k"]]

    def test_a_subscription_begins_behind_what_was_sent_before(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("GET k", "SUBSCRIBE a"))
        publisher = node.client()
        assert publisher.ask("PING") == b"PONG"
        node.replica.turn()
        assert client.replies() == [None, [b"subscribe", b"a", 1]]

    def test_messages_overtake_replies_that_are_waited_for(self) -> None:
        node = Node()
        client, publisher = node.client(), node.client()
        client.send(pipeline("HELLO 3", "SUBSCRIBE a"))
        client.replies()
        client.send("SET k v")
        publisher.send("PUBLISH a 1")
        node.service.turn_ended()
        assert bytes(client.transport.written).startswith(b">3\r\n$7\r\nmessage")
        client.replies()
        node.replica.turn()
        assert client.replies() == [b"OK"]

    def test_no_message_comes_inside_a_reply(self) -> None:
        node = Node()
        client, publisher = node.client(), node.client()
        for number in range(5000):
            node.shared.apply([(1, b"key:%d" % number, b"v")])
        client.send(pipeline("HELLO 3", "SUBSCRIBE a"))
        client.replies()
        client.send("KEYS *")
        node.replica.turn()
        publisher.send("PUBLISH a 1")
        for _ in range(10):
            node.service.turn_ended()
        replies = client.replies()
        assert len(replies[0]) == 5000
        assert replies[1:] == [[b"message", b"a", b"1"]]

    def test_ones_own_message_follows_its_reply(self) -> None:
        client = Node().client()
        client.send(pipeline("HELLO 3", "SUBSCRIBE a", "PUBLISH a 1", "PING"))
        assert client.replies()[2:] == [[b"message", b"a", b"1"], 1, b"PONG"]

    def test_nothing_follows_the_end_of_a_subscription(self) -> None:
        node = Node()
        client, publisher = listening(node, "SUBSCRIBE a"), node.client()
        publisher.send("PUBLISH a 1")
        client.send("UNSUBSCRIBE a")
        publisher.send("PUBLISH a 2")
        assert heard(client) == [[b"message", b"a", b"1"], [b"unsubscribe", b"a", 0]]


class TestSlowSubscribers:
    LIMITS = Limits(push_buffer_bytes_max=64 * 1024)

    def test_one_that_takes_nothing_is_told_and_closed(self) -> None:
        node = Node(limits=self.LIMITS)
        slow, quick = listening(node, "SUBSCRIBE a"), listening(node, "SUBSCRIBE a")
        publisher = node.client()
        slow.transport.narrow(slow.connection)
        counts = []
        for number in range(40):
            publisher.send(encode("PUBLISH", "a", b"%04d" % number * 1024))
            counts += publisher.replies()
            node.service.turn_ended()
        assert counts[0] == 2
        assert counts[-1] == 1
        messages = slow.replies()
        assert messages[-1] == "ERR client too slow: messages exceed limits.push_buffer_bytes_max"
        numbers = [int(message[2][:4]) for message in messages[:-1]]
        assert numbers == list(range(len(numbers)))
        assert 10 < len(numbers) < 40
        assert len(quick.replies()) == 40
        assert slow.transport.closed
        assert node.service.statistics.connections_closed_slow == 1
        assert ("subscriber_too_slow", {"client": "127.0.0.1:50000"}) in node.observer.events

    def test_one_that_never_reads_the_end_is_cut_off(self) -> None:
        node = Node(limits=self.LIMITS)
        slow, publisher = listening(node, "SUBSCRIBE a"), node.client()
        slow.transport.narrow(slow.connection)
        for _ in range(40):
            publisher.send(encode("PUBLISH", "a", bytes(4096)))
            node.service.turn_ended()
        assert not slow.transport.aborted
        for _ in range(8):
            node.wait(1000)
        assert slow.transport.aborted

    def test_one_that_takes_them_now_and_then_stays(self) -> None:
        node = Node(limits=self.LIMITS)
        slow, publisher = listening(node, "SUBSCRIBE a"), node.client()
        slow.transport.narrow(slow.connection)
        for number in range(100):
            publisher.send(encode("PUBLISH", "a", bytes(4096)))
            node.service.turn_ended()
            if number % 10 == 9:
                slow.transport.take_all()
                node.service.turn_ended()
        assert not slow.transport.closed
        assert len(slow.replies()) == 100

    def test_a_single_message_may_be_larger_than_the_limit(self) -> None:
        node = Node(limits=self.LIMITS)
        client, publisher = listening(node, "SUBSCRIBE a"), node.client()
        publisher.send(encode("PUBLISH", "a", bytes(200 * 1024)))
        assert len(heard(client)[0][2]) == 200 * 1024


class TestBetweenNodes:
    def test_every_node_hears_it_once_and_counts_its_own(self) -> None:
        cluster = Cluster()
        listeners = {name: listening(cluster[name], "SUBSCRIBE a") for name in cluster.nodes}
        publisher = cluster["n2"].client()
        assert publisher.ask("PUBLISH a 1") == 1
        assert publisher.ask("PUBLISH a 2") == 1
        settle(cluster)
        for client in listeners.values():
            assert heard(client) == [[b"message", b"a", b"1"], [b"message", b"a", b"2"]]
        assert cluster["n1"].service.statistics.messages_received == 2
        assert cluster["n2"].service.statistics.messages_published == 2

    def test_the_frame_byte_by_byte(self) -> None:
        cluster = Cluster()
        cluster["n2"].network.is_holding = True
        publisher = cluster["n2"].client()
        publisher.send(pipeline("PUBLISH ab xyz", "SPUBLISH c d"))
        settle(cluster)
        body = bytes.fromhex(
            "01000000 00000000 02000000 03000000 6162 78797a 01000000 01000000 01000000 63 64"
        )
        assert cluster["n2"].network.frames == [
            (N1, PEER_PUBLISH, body),
            (N3, PEER_PUBLISH, body),
        ]

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\x02\0\0\0",
            b"\x01\0\0\0\x00",
            struct.pack("<BxxxBxxxII", 1, 0, 1, 2**32 - 1) + b"a",
            struct.pack("<BxxxBxxxII", 1, 2, 1, 1) + b"ab",
        ],
    )
    def test_what_is_no_such_frame_is_reported_and_dropped(self, body: bytes) -> None:
        node = Node()
        client = listening(node, "PSUBSCRIBE *")
        node.listener.received(N2, PEER_PUBLISH, body)
        assert heard(client) == []
        assert node.observer.events[-1][0] == "publication_malformed"

    def test_a_link_that_is_down_or_full_loses_messages_and_counts_them(self) -> None:
        cluster = Cluster(limits=Limits(peer_queue_bytes_max=64 * 1024 * 1024))
        node = cluster["n1"]
        node.listener.peer_down(N2)
        node.network.is_holding = True
        publisher = node.client()
        for _ in range(3):
            publisher.send(encode("PUBLISH", "a", bytes(7 * 1024 * 1024)))
            settle(cluster)
        assert [target for target, _, _ in node.network.frames] == [N3, N3]
        assert node.service.statistics.messages_dropped == 3 + 1


class TestSentinelEvents:
    def test_a_new_leader_is_published_by_every_node(self) -> None:
        cluster = Cluster()
        clients = [
            listening(node, "PSUBSCRIBE +switch-master [-+]sdown +slave")
            for node in cluster.nodes.values()
        ]
        cluster.lead(None)
        cluster.lead("n2")
        for client in clients:
            assert [message[2:] for message in heard(client)] == [
                [b"+switch-master", b"raftkv 127.0.0.1 7001 127.0.0.1 7002"],
                [b"+slave", b"slave 127.0.0.1:7001 127.0.0.1 7001 @ raftkv 127.0.0.1 7002"],
                [b"+slave", b"slave 127.0.0.1:7003 127.0.0.1 7003 @ raftkv 127.0.0.1 7002"],
            ]
        cluster.lead("n2")
        assert heard(clients[0]) == []

    def test_so_is_a_member_that_goes_and_comes(self) -> None:
        node = Node()
        client = listening(node, "PSUBSCRIBE [-+]sdown")
        node.listener.peer_down(N2)
        node.listener.peer_up(N2)
        node.replica.lead("n2")
        node.listener.peer_down(N2)
        assert [message[2:] for message in heard(client)] == [
            [b"+sdown", b"slave 127.0.0.1:7002 127.0.0.1 7002 @ raftkv 127.0.0.1 7001"],
            [b"-sdown", b"slave 127.0.0.1:7002 127.0.0.1 7002 @ raftkv 127.0.0.1 7001"],
            [b"+sdown", b"master raftkv 127.0.0.1 7002"],
        ]


class TestInsideMulti:
    def test_it_is_published_when_the_transaction_was_executed(self) -> None:
        node = Node()
        listener, client = listening(node, "SUBSCRIBE a"), node.client()
        client.send(pipeline("MULTI", "PUBLISH a 0", "SET k v", "PUBLISH a 1", "GET k", "EXEC"))
        assert client.replies() == [b"OK", *[b"QUEUED"] * 4]
        assert heard(listener) == []
        node.replica.turn()
        assert client.replies() == [[1, b"OK", 1, b"v"]]
        assert heard(listener) == [[b"message", b"a", b"0"], [b"message", b"a", b"1"]]

    def test_nothing_but_messages(self) -> None:
        node = Node()
        listener, client = listening(node, "SUBSCRIBE a"), node.client()
        client.send(pipeline("MULTI", "PUBLISH a 0", "SPUBLISH b 1", "EXEC"))
        node.replica.turn()
        assert client.replies()[-1] == [1, 0]
        assert len(heard(listener)) == 1

    @pytest.mark.parametrize("ending", ["DISCARD", "GET", "WATCHED"])
    def test_not_when_it_was_not(self, ending: str) -> None:
        node = Node()
        listener, client, other = listening(node, "SUBSCRIBE a"), node.client(), node.client()
        if ending == "WATCHED":
            client.ask("WATCH k")
            other.ask("SET k changed")
        client.send(pipeline("MULTI", "SET k v", "PUBLISH a 0"))
        if ending != "WATCHED":
            client.send(ending)
        client.send("EXEC")
        node.replica.turn()
        client.replies()
        assert heard(listener) == []
        assert client.ask("GET k") == (b"changed" if ending == "WATCHED" else None)

    def test_not_when_the_outcome_is_unknown(self) -> None:
        node = Node()
        listener, client = listening(node, "SUBSCRIBE a"), node.client()
        client.send(pipeline("MULTI", "SET k v", "PUBLISH a 0", "EXEC"))
        node.replica.fail_all(TIMEOUT)
        assert client.replies()[-1] == "UNKNOWN timeout"
        assert heard(listener) == []

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_through_a_proxy_and_among_others(self, protocol: int) -> None:
        cluster = Cluster(on_follower="proxy")
        listener = listening(cluster["n3"], "SUBSCRIBE a")
        client = cluster["n2"].client()
        client.ask(f"HELLO {protocol}")
        client.send(
            pipeline("SET x 1", "MULTI", "SET k v", "PUBLISH a 0", "HGETALL h", "EXEC", "GET x")
        )
        for _ in range(5):
            cluster.turn()
        empty: Any = {} if protocol == 3 else []
        replies = client.replies()
        assert replies[0] == b"OK"
        assert replies[-2:] == [[b"OK", 0, empty], b"1"]
        settle(cluster)
        assert heard(listener) == [[b"message", b"a", b"0"]]

    def test_a_change_of_leader_sends_it_once(self) -> None:
        cluster = Cluster(on_follower="proxy")
        listener, client = listening(cluster["n2"], "SUBSCRIBE a"), cluster["n2"].client()
        client.send(pipeline("MULTI", "SET k v", "PUBLISH a 0", "EXEC"))
        cluster["n1"].replica.fail_all(NOT_LEADER)
        cluster.lead("n3")
        for _ in range(5):
            cluster.turn()
            for node in cluster.nodes.values():
                node.wait(50)
        assert client.replies()[-1] == [b"OK", 1]
        assert heard(listener) == [[b"message", b"a", b"0"]]

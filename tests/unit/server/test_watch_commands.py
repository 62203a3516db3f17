"""KV WATCH and keyspace notifications on client connections."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.kv.commands import Opcode
from raftkv.server.watches import WatchHub
from tests.unit.server.harness import Client, Cluster, Node, encode, pipeline


def resp3(node: Node) -> Client:
    client = node.client()
    client.ask("HELLO 3")
    return client


def settle(node: Node) -> None:
    """Take turns and passes until nothing more comes of them."""
    for _ in range(20):
        node.replica.turn()


def put(node: Node, *lines: str) -> None:
    writer = node.client()
    for line in lines:
        writer.ask(line)


def told_of(client: Client) -> list[Any]:
    settle(client.node)
    return client.replies()


def told(client: Client) -> list[Any]:
    """What has come, of which all is messages."""
    return [list(message) for message in told_of(client)]


class TestWatching:
    def test_changes_come_as_pushes_in_resp3(self) -> None:
        node = Node()
        client = resp3(node)
        assert client.ask("KV WATCH PREFIX user: PREV") == {b"watch": 1, b"revision": 0}
        put(node, "SET user:1 ada", "SET other x", "SET user:1 eve PX 5000", "DEL user:1")
        deadline_ms = node.clock.wall_ms() + 5000
        assert told(client) == [
            [b"kv-watch", 1, b"events", 1,
             [[b"put", b"user:1", b"string", b"ada", 0, 1, 1, None]]],
            [b"kv-watch", 1, b"events", 3,
             [[b"put", b"user:1", b"string", b"eve", deadline_ms, 1, 2, b"ada"]]],
            [b"kv-watch", 1, b"events", 4,
             [[b"delete", b"user:1", None, None, 0, 0, 0, b"eve"]]],
        ]  # fmt: skip

    def test_and_as_messages_in_resp2(self) -> None:
        node = Node()
        client = node.client()
        assert client.ask("KV WATCH KEY k") == [b"watch", 1, b"revision", 0]
        assert client.ask("GET k").startswith("ERR Can't execute 'get'")
        put(node, "RPUSH k a b")
        event = [b"put", b"k", b"list", None, 0, 1, 1, None]
        assert told(client) == [[b"message", b"kv-watch:1", [b"events", 1, [event]]]]
        assert client.ask("KV UNWATCH") == 1
        assert client.ask("GET nothing") is None

    def test_what_one_transaction_changes_is_one_message(self) -> None:
        node = Node()
        client = resp3(node)
        client.ask("KV WATCH PREFIX a")
        writer = node.client()
        writer.send(pipeline("MULTI", "SET a1 x", "SET b x", "SET a2 x", "SET a1 y", "EXEC"))
        settle(node)
        (message,) = told(client)
        assert message[3] == 1
        assert [(event[1], event[3]) for event in message[4]] == [(b"a1", b"y"), (b"a2", b"x")]

    def test_expiry_is_an_event_of_its_own(self) -> None:
        node = Node()
        client = resp3(node)
        client.ask("KV WATCH KEY k")
        put(node, "SET k v PX 100")
        node.wait(200)
        put(node, "SET other v")
        assert [message[4][0][0] for message in told(client)] == [b"put", b"expire"]

    def test_from_a_revision_of_the_past_on_any_node(self) -> None:
        cluster = Cluster()
        put(cluster["n1"], *[f"SET k {number}" for number in range(10)])
        client = resp3(cluster["n3"])
        client.send("KV WATCH KEY k FROM 4")
        reply, *messages = told_of(client)
        assert reply == {b"watch": 1, b"revision": 3}
        assert [message[3] for message in messages] == list(range(4, 11))
        assert messages[0][4][0][3] == b"3"

    def test_numbers_name_the_watches_of_a_connection(self) -> None:
        node = Node()
        client = resp3(node)
        for number, line in enumerate(("KEY a", "KEY a", "PREFIX b"), 1):
            assert client.ask(f"KV WATCH {line}")[b"watch"] == number
        assert client.ask("KV UNWATCH 1 3 3 9") == 2
        put(node, "SET a 1", "SET b 1")
        assert [message[1] for message in told(client)] == [2]
        assert client.ask("KV UNWATCH") == 1
        assert client.ask("KV UNWATCH") == 0
        assert client.ask("KV WATCH KEY a")[b"watch"] == 4

    def test_progress_comes_in_front_of_its_reply(self) -> None:
        node = Node()
        client = resp3(node)
        client.ask("KV WATCH KEY mine")
        client.ask("KV WATCH KEY other")
        put(node, "SET x 1", "SET x 2")
        settle(node)
        client.send("KV PROGRESS")
        assert client.replies() == [
            [b"kv-watch", 1, b"progress", 2],
            [b"kv-watch", 2, b"progress", 2],
            2,
        ]
        assert client.ask("KV PROGRESS 9") == 0

    def test_progress_comes_by_itself(self) -> None:
        node = Node()
        client = resp3(node)
        client.ask("KV WATCH KEY mine")
        put(node, "SET x 1")
        for _ in range(101):
            node.wait(50)
        assert told(client) == [[b"kv-watch", 1, b"progress", 1]]

    def test_a_watch_begins_behind_what_its_connection_wrote(self) -> None:
        node = Node()
        client = resp3(node)
        client.send(pipeline("SET k 1", "KV WATCH KEY k"))
        settle(node)
        assert client.replies() == [b"OK", {b"watch": 1, b"revision": 1}]

    def test_reset_and_the_end_of_the_connection_end_watches(self) -> None:
        node = Node()
        client, other = resp3(node), resp3(node)
        client.ask("KV WATCH KEY k")
        other.ask("KV WATCH KEY k")
        assert client.ask("RESET") == b"RESET"
        other.lose()
        assert node.service.watches.count == 0
        assert node.service.queued_bytes == 0

    @pytest.mark.parametrize(
        ("line", "error"),
        [
            ("KV WATCH KEY", "ERR wrong number of arguments for 'kv|watch' command"),
            ("KV WATCH NAME k", "ERR syntax error"),
            ("KV WATCH KEY k FROM", "ERR syntax error"),
            ("KV WATCH KEY k FROM 0", "ERR a revision is a number from 1"),
            ("KV WATCH KEY k FROM -1", "ERR a revision is a number from 1"),
            ("KV WATCH KEY k FROM x", "ERR a revision is a number from 1"),
            ("KV WATCH KEY k FROM 9999999999999999999", "ERR a revision is a number from 1"),
            ("KV WATCH KEY k FROM 1 FROM 1", "ERR syntax error"),
            ("KV WATCH KEY k PREV PREV", "ERR syntax error"),
            ("KV WATCH KEY k NOPE", "ERR syntax error"),
            ("KV UNWATCH x", "ERR a watch is named by its number"),
            ("KV PROGRESS -1", "ERR a watch is named by its number"),
            ("KV WATCH KEY " + "k" * 65537, "ERR key exceeds limits.key_bytes_max (65536 bytes)"),
        ],
    )
    def test_bad_requests(self, line: str, error: str) -> None:
        client = resp3(Node())
        assert client.ask(line) == error
        assert not client.connection.is_subscribed

    def test_the_memory_of_all_watches_has_a_limit(self) -> None:
        node = Node(limits=Limits(uncommitted_bytes_max=2000))
        client = resp3(node)
        replies = [client.ask("KV WATCH KEY k") for _ in range(4)]
        assert replies[3] == "NOTAPPLIED overloaded"
        assert node.service.watches.count == 3

    def test_no_watch_inside_multi(self) -> None:
        client = resp3(Node())
        client.send(pipeline("MULTI", "KV WATCH KEY k", "EXEC"))
        assert client.replies()[1] == "ERR Command not allowed inside a transaction"

    def test_a_defect_ends_the_connections_that_watch_and_no_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node()
        client, other = resp3(node), node.client()
        client.ask("KV WATCH KEY k")

        def fail(*_: object) -> None:
            raise KeyError("planted")

        with monkeypatch.context() as patch:
            patch.setattr(WatchHub, "_find", fail)
            assert other.ask("SET k 1") == b"OK"
        assert client.transport.aborted
        client.lose()
        assert node.observer.events[0] == ("watches_failed", {"error": "KeyError('planted')"})
        assert (node.service.watches.count, node.service.queued_bytes) == (0, 0)
        again = resp3(node)
        again.ask("KV WATCH KEY k")
        assert other.ask("SET k 2") == b"OK"
        assert [message[3] for message in told(again)] == [2]


class TestCompaction:
    def test_a_revision_that_is_gone_is_named(self) -> None:
        node = Node()
        client = resp3(node)
        put(node, *[f"SET k {number}" for number in range(5)])
        node.shared.store.history.compact(3)
        error = "ERR revision 3 is compacted; the oldest available is 4"
        assert client.ask("KV WATCH KEY k FROM 3") == error
        client.send("KV WATCH KEY k FROM 4")
        assert told_of(client)[0][b"revision"] == 3

    def test_a_slow_client_costs_no_memory_and_is_told_what_it_missed(self) -> None:
        node = Node()
        client, writer = resp3(node), node.client()
        client.ask("KV WATCH KEY k")
        client.transport.narrow(client.connection)
        for number in range(200):
            writer.ask(encode("SET", "k", b"%04d" % number * 512))
        assert client.transport.buffered < 256 * 1024
        behind = len(told(client))
        assert 10 < behind < 100
        node.shared.store.history.compact(150)
        client.transport.take_all()
        assert told(client) == [[b"kv-watch", 1, b"compacted", 151, behind]]
        assert not client.connection.is_subscribed
        assert not client.transport.closed

    def test_a_slow_client_goes_on_where_it_was(self) -> None:
        node = Node()
        client, writer = resp3(node), node.client()
        client.ask("KV WATCH KEY k")
        client.transport.narrow(client.connection)
        for number in range(200):
            writer.ask(encode("SET", "k", b"%04d" % number * 512))
        revisions: list[int] = []
        while len(revisions) < 200:
            messages = told(client)
            assert messages
            revisions += [message[3] for message in messages]
            client.transport.take_all()
        assert revisions == list(range(1, 201))

    def test_flushall_ends_what_has_not_seen_it(self) -> None:
        node = Node()
        client = resp3(node)
        client.ask("KV WATCH KEY k")
        put(node, "SET k 1", "FLUSHALL", "SET k 2")
        assert told(client)[-1] == [b"kv-watch", 1, b"compacted", 3, 1]


class TestKeyspaceNotifications:
    def test_off_unless_chosen(self) -> None:
        node = Node()
        client = node.client()
        assert client.ask("CONFIG GET notify-keyspace-events") == [b"notify-keyspace-events", b""]
        for flags, shown in (("KEA", b"AKE"), ("g$lshzxetdK", b"AK"), ("xE", b"xE"), ("n", b"n")):
            assert client.ask(f"CONFIG SET notify-keyspace-events {flags}") == b"OK"
            assert client.ask("CONFIG GET notify-keyspace-events")[1] == shown
        assert client.ask("CONFIG SET notify-keyspace-events Q").startswith(
            "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - "
        )

    def test_what_became_of_each_key(self) -> None:
        node = Node()
        admin, client = node.client(), node.client()
        admin.ask("CONFIG SET notify-keyspace-events KEAn")
        client.send(pipeline("PSUBSCRIBE __key*@0__:*"))
        client.replies()
        put(
            node,
            "SET s 1", "EXPIRE s 100", "PERSIST s", "SET s 2 EX 10", "HSET h a 1 b 2", "HDEL h a",
            "SADD t x", "SREM t x", "ZADD z 1 m", "RPUSH l a b", "LPOP l",
        )  # fmt: skip
        events = [
            (message[3], message[2].split(b":", 1)[1])
            for message in told(client)
            if message[2].startswith(b"__keyevent")
        ]
        assert events == [
            (b"s", b"new"), (b"s", b"set"), (b"s", b"expire"), (b"s", b"persist"),
            (b"s", b"set"), (b"s", b"expire"),
            (b"h", b"new"), (b"h", b"hset"), (b"h", b"hdel"),
            (b"t", b"new"), (b"t", b"sadd"), (b"t", b"del"),
            (b"z", b"new"), (b"z", b"zadd"),
            (b"l", b"new"), (b"l", b"rpush"), (b"l", b"lpop"),
        ]  # fmt: skip

    def test_flags_choose_channels_and_classes(self) -> None:
        node = Node("n2")
        admin, client = node.client(), node.client()
        admin.ask("CONFIG SET notify-keyspace-events Kx")
        client.send(pipeline("PSUBSCRIBE *"))
        client.replies()
        store = node.shared
        store.apply([(int(Opcode.SET), b"k", b"v")])
        settle(node)
        assert client.replies() == []
        admin.ask("CONFIG SET notify-keyspace-events KE$")
        store.apply([(int(Opcode.SET), b"j", b"v")])
        assert told(client) == [
            [b"pmessage", b"*", b"__keyspace@0__:j", b"set"],
            [b"pmessage", b"*", b"__keyevent@0__:set", b"j"],
        ]

    def test_nothing_old_is_told_when_it_is_switched_on(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("PSUBSCRIBE *"))
        client.replies()
        put(node, "SET a 1")
        node.client().ask("CONFIG SET notify-keyspace-events KEA")
        put(node, "SET b 1")
        assert {message[2] for message in told(client)} == {
            b"__keyspace@0__:b",
            b"__keyevent@0__:set",
        }

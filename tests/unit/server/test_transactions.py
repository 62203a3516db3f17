"""MULTI and WATCH on connections: what is queued, refused, redirected, forwarded and forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.seams import DISCARDED, NOT_LEADER, TIMEOUT
from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import ANSWERED_INSIDE, Kind
from raftkv.server.handlers_kv import _ANSWERS, prefix_end
from raftkv.server.transactions import ABORTED
from tests.unit.server.harness import Client, Cluster, Node, encode, pipeline

NOT_INSIDE = "ERR Command not allowed inside a transaction"
QUEUED = b"QUEUED"


def ask(client: Client, *lines: str, turns: int = 4) -> list[Any]:
    """Send lines in one chunk and return all replies."""
    client.send(pipeline(*lines))
    for _ in range(turns):
        client.node.replica.turn()
    return client.replies()


def settle(cluster: Cluster) -> None:
    for _ in range(4):
        cluster.turn()


class TestQueueing:
    def test_a_transaction_is_one_command_of_the_log(self) -> None:
        node = Node()
        client = node.client()
        assert ask(client, "MULTI", "SET a 1", "INCR a", "GET a", "EXEC") == [
            *(b"OK", QUEUED, QUEUED, QUEUED),
            [b"OK", 2, b"2"],
        ]
        assert node.shared.store.applied_index == 1
        assert node.shared.store.revision == 1

    def test_nothing_is_executed_before_exec(self) -> None:
        node = Node()
        client = node.client()
        assert ask(client, "MULTI", "SET a 1") == [b"OK", QUEUED]
        assert node.client().ask("GET a") is None
        assert ask(client, "DISCARD", "GET a") == [b"OK", None]

    @pytest.mark.parametrize("byte_by_byte", [False, True])
    def test_commands_before_and_behind_keep_their_order(self, byte_by_byte: bool) -> None:
        node = Node()
        client = node.client()
        lines = ("SET a 1", "MULTI", "INCR a", "EXEC", "INCR a", "GET a", "MULTI", "GET a", "EXEC")
        data = pipeline(*lines)
        for at in range(0, len(data), 1 if byte_by_byte else len(data)):
            client.send(data[at : at + (1 if byte_by_byte else len(data))])
        for _ in range(12):
            node.replica.turn()
        assert client.replies() == [*(b"OK", b"OK", QUEUED, [2], 3, b"3", b"OK", QUEUED, [b"3"])]

    def test_many_queued_commands_take_one_pass(self) -> None:
        node = Node()
        client = node.client()
        replies = ask(client, "MULTI", *["INCR n"] * 3000, "EXEC", turns=12)
        assert replies[-1] == list(range(1, 3001))

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("FOO a", "ERR unknown command 'FOO', with args beginning with: 'a' "),
            ("GET", "ERR wrong number of arguments for 'get' command"),
            ("CONFIG FOO x", "ERR unknown subcommand 'FOO'. Try CONFIG HELP."),
            ("KEYS *", NOT_INSIDE),
            ("SCAN 0", NOT_INSIDE),
            ("INFO", NOT_INSIDE),
            ("TIME", NOT_INSIDE),
            ("HELLO 3", NOT_INSIDE),
            ("CLIENT ID", NOT_INSIDE),
            ("READONLY", NOT_INSIDE),
            ("RAFT STATUS", NOT_INSIDE),
            ("KV EXEC 0 0", NOT_INSIDE),
            ("KV TXN 0 0 0", NOT_INSIDE),
        ],
    )
    def test_what_is_refused_at_once_aborts_exec(self, line: str, reply: str) -> None:
        node = Node()
        client = node.client()
        assert ask(client, "MULTI", "SET a 1", line, "SET b 1", "EXEC", "GET a") == [
            *(b"OK", QUEUED, reply, QUEUED, ABORTED, None)
        ]
        assert ask(client, "MULTI", "SET a 1", "EXEC") == [b"OK", QUEUED, [b"OK"]]
        assert node.service.queued_bytes == 0

    def test_other_errors_are_replies_among_the_others(self) -> None:
        client = Node().client()
        assert ask(client, "MULTI", "SET k v foo", "INCRBY k x", "SET k v", "INCR k", "EXEC") == [
            *(b"OK", QUEUED, QUEUED, QUEUED, QUEUED),
            [
                "ERR syntax error",
                "ERR value is not an integer or out of range",
                b"OK",
                "ERR value is not an integer or out of range",
            ],
        ]

    def test_errors_of_order(self) -> None:
        client = Node().client()
        assert ask(client, "EXEC", "DISCARD", "MULTI", "MULTI", "WATCH a", "SET a 1", "EXEC") == [
            "ERR EXEC without MULTI",
            "ERR DISCARD without MULTI",
            b"OK",
            "ERR MULTI calls can not be nested",
            "ERR WATCH inside MULTI is not allowed",
            QUEUED,
            [b"OK"],
        ]

    def test_a_malformed_exec_ends_the_transaction(self) -> None:
        client = Node().client()
        (_, _, refused, outside) = ask(client, "MULTI", "SET a 1", "EXEC x", "EXEC")
        assert refused.startswith("EXECABORT Transaction discarded because of: wrong number")
        assert outside == "ERR EXEC without MULTI"

    def test_an_empty_transaction(self) -> None:
        node = Node()
        assert ask(node.client(), "MULTI", "EXEC") == [b"OK", []]
        assert node.shared.store.applied_index == 0

    def test_own_commands_that_depend_on_nothing(self) -> None:
        client = Node().client()
        lines = ("PING", "PING x", "PING a b", "ECHO hi", "SELECT 0", "SELECT 1", "UNWATCH")
        *_, results = ask(client, "MULTI", *lines, "EXEC")
        assert results == [
            b"PONG",
            b"x",
            "ERR wrong number of arguments for 'ping' command",
            b"hi",
            b"OK",
            "ERR SELECT is not allowed in cluster mode",
            b"OK",
        ]

    def test_quit_and_reset_are_carried_out_at_once(self) -> None:
        node = Node()
        client = node.client()
        assert ask(client, "MULTI", "SET a 1", "RESET", "EXEC") == [
            *(b"OK", QUEUED, b"RESET", "ERR EXEC without MULTI")
        ]
        assert ask(client, "MULTI", "SET a 1", "QUIT", "EXEC") == [b"OK", QUEUED, b"OK"]
        assert client.transport.closed
        client.lose()
        assert node.service.queued_bytes == 0

    def test_every_command_of_the_store_but_those_on_many_keys_may_be_queued(self) -> None:
        assert set(_ANSWERS) == ANSWERED_INSIDE
        client = Node().client()
        client.send("MULTI")
        client.replies()
        for spec in standard_commands().all():
            if spec.kind in (Kind.READ, Kind.WRITE) and not spec.name.startswith("kv|"):
                words = spec.name.upper().split("|")
                client.send(encode(*words, *["1"] * (spec.low - len(words))))
                assert client.replies() == [QUEUED], spec.name

    def test_the_queue_is_shown_by_client_list(self) -> None:
        client = Node().client()
        watcher = client.node.client()
        ask(client, "MULTI", "SET a 1", "SET b 1")
        line = watcher.ask("CLIENT LIST").split(b"\n")[0]
        assert b" multi=2 multi-mem=" in line
        assert b" flags=x " in line
        assert b" multi-mem=0 " not in line

    def test_null_is_told_in_both_protocols(self) -> None:
        for hello, null in (("PING", b"*-1\r\n"), ("HELLO 3", b"_\r\n")):
            node = Node()
            client = node.client()
            ask(client, hello, "WATCH a")
            node.client().ask("SET a 1")
            client.send(pipeline("MULTI", "EXEC"))
            node.replica.turn()
            assert bytes(client.transport.written).endswith(null)


class TestLimits:
    def test_the_number_of_commands(self) -> None:
        client = Node(limits=Limits(batch_commands_max=3)).client()
        replies = ask(client, "MULTI", *["SET a 1"] * 4, "EXEC")
        assert replies[1:4] == [QUEUED] * 3
        assert replies[4] == "ERR transaction exceeds limits.batch_commands_max (3)"
        assert replies[5] == ABORTED

    def test_words_and_bytes_and_that_what_fits_can_be_forwarded(self) -> None:
        limits = Limits(request_arguments_max=40, request_bytes_max=1024, value_bytes_max=900)
        cluster = Cluster(on_follower="proxy", limits=limits)
        client = cluster["n2"].client()
        for line, name in (
            ("SET a 1", "request_arguments_max"),
            ("APPEND a " + "x" * 200, "request_bytes_max"),
        ):
            client.send("MULTI")
            client.replies()
            count = 0
            while True:
                client.send(line)
                (reply,) = client.replies()
                if reply != QUEUED:
                    break
                count += 1
            assert f"limits.{name}" in reply
            client.send(pipeline("EXEC", "MULTI", *[line] * count, "EXEC"))
            settle(cluster)
            *_, results = client.replies()
            assert len(results) == count

    def test_watched_keys(self) -> None:
        node = Node(limits=Limits(request_arguments_max=20))
        client = node.client()
        assert ask(client, "WATCH a b c", "WATCH a b c") == [b"OK", b"OK"]
        (refused,) = ask(client, "WATCH d e f g h i")
        assert refused == "ERR transaction exceeds limits.request_arguments_max (20)"
        assert ask(client, "UNWATCH", "WATCH d e f g h i") == [b"OK", b"OK"]

    def test_all_connections_together(self) -> None:
        limits = Limits(uncommitted_bytes_max=64 * 1024)
        node = Node(limits=limits)
        clients = [node.client() for _ in range(4)]
        for client in clients:
            ask(client, "MULTI", "SET a " + "x" * 20_000)
        assert node.service.queued_bytes <= limits.uncommitted_bytes_max
        (refused,) = ask(clients[0], "SET a " + "x" * 20_000)
        assert refused == "NOTAPPLIED overloaded"
        assert ask(clients[0], "EXEC") == [ABORTED]
        for client in clients:
            client.lose()
        assert node.service.queued_bytes == 0

    @pytest.mark.parametrize("name", ["n1", "n2"])
    def test_a_client_that_is_gone_before_its_watch_is_answered(self, name: str) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster[name].client()
        client.send("WATCH a b")
        client.lose()
        settle(cluster)
        assert client.connection.watched == {}
        assert cluster[name].service.queued_bytes == 0


class TestWatch:
    def test_a_change_by_another_client(self) -> None:
        node = Node()
        client, other = node.client(), node.client()
        assert ask(client, "WATCH a b", "GET a") == [b"OK", None]
        other.ask("SET b 1")
        assert ask(client, "MULTI", "SET a 1", "EXEC", "GET a") == [b"OK", QUEUED, None, None]
        assert ask(client, "MULTI", "SET a 1", "EXEC") == [b"OK", QUEUED, [b"OK"]]

    def test_a_change_of_its_own_counts_too(self) -> None:
        client = Node().client()
        assert ask(client, "WATCH a", "SET a 1", "MULTI", "EXEC", turns=8)[-1] is None

    def test_the_first_watch_of_a_key_counts(self) -> None:
        node = Node()
        client = node.client()
        ask(client, "WATCH a")
        node.client().ask("SET a 1")
        assert ask(client, "WATCH a", "MULTI", "EXEC")[-1] is None

    @pytest.mark.parametrize("ends", [("UNWATCH",), ("MULTI", "DISCARD"), ("RESET",)])
    def test_what_ends_watching(self, ends: tuple[str, ...]) -> None:
        node = Node()
        client = node.client()
        ask(client, "WATCH a")
        node.client().ask("SET a 1")
        assert ask(client, *ends, "MULTI", "GET a", "EXEC")[-1] == [b"1"]
        assert node.service.queued_bytes == 0

    def test_it_waits_for_writes_before_it_and_all_behind_waits_for_it(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "WATCH a", "MULTI", "INCR a", "EXEC"))
        for _ in range(6):
            node.replica.turn()
        assert client.replies() == [b"OK", b"OK", b"OK", QUEUED, [2]]

    def test_an_expired_key_has_changed(self) -> None:
        node = Node()
        client = node.client()
        ask(client, "SET a 1 PX 1000", "WATCH a")
        node.clock.ms += 1001
        assert ask(client, "MULTI", "SET b 1", "EXEC")[-1] is None

    def test_reads_between_are_linearizable_whatever_the_level(self) -> None:
        node = Node(level="stale")
        client = node.client()
        client.send("GET a")
        assert client.replies() == [None]
        ask(client, "WATCH a")
        client.send("GET a")
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [None]
        ask(client, "UNWATCH")
        client.send("GET a")
        assert client.replies() == [None]

    def test_a_failure_of_the_read_leaves_nothing_watched(self) -> None:
        node = Node()
        client = node.client()
        client.send("WATCH a")
        node.replica.fail_all(DISCARDED)
        assert client.connection.watched == {}


class TestFollower:
    def test_redirect_answers_moved_inside_multi_and_aborts(self) -> None:
        client = Node("n2").client()
        assert ask(client, "MULTI", "PING", "SET a 1", "GET a", "EXEC") == [
            b"OK",
            QUEUED,
            "MOVED 15495 127.0.0.1:7001",
            "MOVED 15495 127.0.0.1:7001",
            ABORTED,
        ]
        assert ask(client, "WATCH a") == ["MOVED 15495 127.0.0.1:7001"]

    def test_exec_is_redirected_when_the_leader_became_known_later(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        assert ask(client, "MULTI", "SET a 1") == [b"OK", QUEUED]
        node.replica.lead("n3")
        (reply,) = ask(client, "EXEC")
        assert reply == "MOVED 15495 127.0.0.1:7003"
        assert ask(client, "EXEC") == ["ERR EXEC without MULTI"]

    def test_without_a_leader_exec_is_held_with_what_is_behind_it(self) -> None:
        cluster = Cluster(leader=None, on_follower="proxy")
        client = cluster["n2"].client()
        client.send(pipeline("MULTI", "SET a 1", "EXEC", "GET a"))
        assert client.replies() == [b"OK", QUEUED]
        cluster.lead("n1")
        settle(cluster)
        assert client.replies() == [[b"OK"], b"1"]

    def test_without_a_leader_exec_is_refused_definitely_in_the_end(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send(pipeline("MULTI", "SET a 1", "EXEC"))
        node.wait(3000)
        assert client.replies() == [b"OK", QUEUED, "CLUSTERDOWN no leader elected"]
        assert node.service.queued_bytes == 0

    def test_proxy_forwards_the_whole_once(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send(pipeline("SET a 1", "MULTI", "INCR a", "GET a", "EXEC", "GET a"))
        settle(cluster)
        assert client.replies() == [b"OK", b"OK", QUEUED, QUEUED, [2, b"2"], b"2"]
        assert cluster["n2"].service.statistics.forwards_sent == 2

    @pytest.mark.parametrize("hello", ["PING", "HELLO 3"])
    @pytest.mark.parametrize("changes", [False, True])
    def test_watch_works_through_a_proxy(self, hello: str, changes: bool) -> None:
        cluster = Cluster(on_follower="proxy")
        client, other = cluster["n2"].client(), cluster["n3"].client()
        client.send(pipeline(hello, "SET a 1", "WATCH a b", "GET a"))
        settle(cluster)
        assert client.replies()[1:] == [b"OK", b"OK", b"1"]
        assert client.connection.watched == {b"a": 1, b"b": 0}
        if changes:
            other.send("SET b 1")
            settle(cluster)
        client.send(pipeline("MULTI", "INCR a", "EXEC"))
        settle(cluster)
        assert client.replies()[-1] == (None if changes else [2])

    def test_a_pipeline_with_watch_waits_for_what_it_finds(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send(pipeline("SET a 1", "WATCH a", "MULTI", "INCR a", "EXEC", "GET a"))
        settle(cluster)
        settle(cluster)
        assert client.replies() == [b"OK", b"OK", b"OK", QUEUED, [2], b"2"]

    def test_a_change_of_the_leader_between_watch_and_exec_does_no_harm(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send("WATCH a")
        settle(cluster)
        cluster.lead("n3")
        client.send(pipeline("MULTI", "SET a 1", "EXEC"))
        settle(cluster)
        assert client.replies() == [b"OK", b"OK", QUEUED, [b"OK"]]
        client.send("WATCH a")
        settle(cluster)
        cluster.lead("n2")
        client.send(pipeline("SET a 2", "MULTI", "SET a 3", "EXEC"))
        settle(cluster)
        assert client.replies() == [b"OK", b"OK", b"OK", QUEUED, None]

    def test_readonly_serves_no_reads_inside_multi_and_none_while_watching(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send(pipeline("READONLY", "GET a"))
        assert client.replies() == [b"OK", None]
        client.send("WATCH a")
        settle(cluster)
        client.send("GET a")
        assert client.replies() == [b"OK"]
        settle(cluster)
        assert client.replies() == [None]

    def test_a_lost_forward_is_unknown_and_ends_the_stream(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        cluster["n2"].network.is_holding = True
        client.send(pipeline("MULTI", "SET a 1", "EXEC", "GET a"))
        cluster["n2"].wait(5000)
        assert client.replies() == [
            *(b"OK", QUEUED, "UNKNOWN timeout", "NOTAPPLIED earlier command unknown")
        ]
        assert client.transport.closed

    def test_a_lost_watch_is_definite(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        cluster["n2"].network.is_holding = True
        client.send("WATCH a")
        cluster["n2"].wait(5000)
        assert client.replies() == ["NOTAPPLIED timeout"]
        assert not client.transport.closed
        assert client.connection.watched == {}


class TestOutcomes:
    def test_an_unknown_exec_ends_the_stream(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("MULTI", "SET a 1", "EXEC"))
        node.replica.fail_all(TIMEOUT)
        assert client.replies() == [b"OK", QUEUED, "UNKNOWN timeout"]
        assert client.transport.closed

    def test_an_exec_that_was_not_proposed_finds_its_way_anew(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n1"].client()
        client.send(pipeline("MULTI", "SET a 1", "EXEC"))
        cluster.lead("n3")
        cluster["n1"].replica.fail_all(NOT_LEADER)
        settle(cluster)
        assert client.replies() == [b"OK", QUEUED, [b"OK"]]
        assert cluster["n3"].client().ask("GET a") == b"1"

    def test_a_watch_that_was_not_read_finds_its_way_anew(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n1"].client()
        client.send(pipeline("WATCH a", "MULTI", "SET a 1", "EXEC"))
        cluster.lead("n3")
        cluster["n1"].replica.fail_all(NOT_LEADER)
        settle(cluster)
        settle(cluster)
        assert client.replies() == [b"OK", b"OK", QUEUED, [b"OK"]]


TXN_ERRORS = [
    ("KV TXN 0", "ERR wrong number of arguments for 'kv|txn' command"),
    ("KV TXN x 0 0", "ERR syntax error: word 3 has to be a count"),
    ("KV TXN -1 0 0", "ERR syntax error: word 3 has to be a count"),
    ("KV TXN 1 0 0", "ERR syntax error: more words are announced than given"),
    ("KV TXN 0 1 0", "ERR syntax error: a command without words"),
    ("KV TXN 0 1 2 GET", "ERR syntax error: more words are announced than given"),
    ("KV TXN 0 0 0 0", "ERR syntax error: more words are given than announced"),
    ("KV TXN 99999999999 0 0", "ERR transaction exceeds limits.request_arguments_max (65536)"),
    ("KV TXN 0 5000 0", "ERR transaction exceeds limits.batch_commands_max (4096)"),
    ("KV TXN 1 k NAME = v 0 0", "ERR a compare is of VALUE, EXISTS, CREATE, MODIFY or VERSION"),
    ("KV TXN 1 k VALUE == v 0 0", "ERR a compare is one of =, !=, < and >"),
    (
        "KV TXN 1 k VERSION = v 0 0",
        "ERR a revision, version or EXISTS is compared with a number from 0",
    ),
    ("KV TXN 0 1 1 GET 0", "ERR wrong number of arguments for 'get' command"),
    ("KV TXN 0 1 1 FOO 0", "ERR unknown command 'FOO', with args beginning with: "),
    ("KV TXN 0 1 2 KEYS * 0", NOT_INSIDE),
    ("KV TXN 0 1 5 KV TXN 0 0 0 0", NOT_INSIDE),
    ("KV TXN 0 1 1 MULTI 0", NOT_INSIDE),
    ("KV TXN 0 1 4 SET k v foo 0", "ERR syntax error"),
    ("KV TXN 0 1 1 PING 1 3 PING a b", "ERR wrong number of arguments for 'ping' command"),
    ("KV EXEC 1 k x 0", "ERR a revision, version or EXISTS is compared with a number from 0"),
    ("KV EXEC 0", "ERR wrong number of arguments for 'kv|exec' command"),
    ("KV EXEC 0 1 1 INFO", NOT_INSIDE),
    ("KV GET", "ERR wrong number of arguments for 'kv|get' command"),
    ("KV GET k REV", "ERR syntax error"),
    ("KV GET k FOO 1", "ERR syntax error"),
    ("KV GET k REV 1 2", "ERR syntax error"),
    ("KV GET k REV x", "ERR REV takes a revision, a number from 0"),
    ("KV GET k REV -1", "ERR REV takes a revision, a number from 0"),
    ("KV GET k REV 1", "ERR revision 1 is in the future; the newest is 0"),
    ("KV GET " + "k" * 70000, "ERR key exceeds limits.key_bytes_max (65536 bytes)"),
    ("KV RANGE", "ERR wrong number of arguments for 'kv|range' command"),
    ("KV RANGE a", "ERR wrong number of arguments for 'kv|range' command"),
    ("KV RANGE a b c", "ERR syntax error"),
    ("KV RANGE a b LIMIT", "ERR syntax error"),
    ("KV RANGE a b LIMIT 0", "ERR LIMIT takes a number from 1"),
    ("KV RANGE a b LIMIT x", "ERR LIMIT takes a number from 1"),
    ("KV RANGE PREFIX a REV", "ERR syntax error"),
    ("KV RANGE PREFIX a REV 1.5", "ERR REV takes a revision, a number from 0"),
    ("KV RANGE PREFIX a REV 1", "ERR revision 1 is in the future; the newest is 0"),
    ("KV RANGE a b COUNT REV 1", "ERR revision 1 is in the future; the newest is 0"),
    ("KV RANGE a b FROM", "ERR syntax error"),
    ("KV RANGE a " + "k" * 70000, "ERR key exceeds limits.key_bytes_max (65536 bytes)"),
    ("KV HISTORY x", "ERR wrong number of arguments for 'kv|history' command"),
    ("KV EXEC 0 1 3 KV RANGE a", "ERR wrong number of arguments for 'kv|range' command"),
    ("KV EXEC 0 1 4 KV RANGE a b", NOT_INSIDE),
    ("KV EXEC 0 1 5 KV GET a REV 1", NOT_INSIDE),
    ("KV REVISIONS", "ERR wrong number of arguments for 'kv|revisions' command"),
    ("KV FOO x", "ERR unknown subcommand 'FOO'. Try KV HELP."),
    ("KV", "ERR wrong number of arguments for 'kv' command"),
]


@pytest.mark.parametrize(("line", "reply"), TXN_ERRORS, ids=[line for line, _ in TXN_ERRORS])
def test_wrong_words_of_kv(line: str, reply: str) -> None:
    node = Node()
    assert node.client().ask(line) == reply
    assert node.shared.store.applied_index == 0


def test_kv_commands() -> None:
    client = Node().client()
    assert client.ask("KV TXN 1 lock EXISTS = 0 1 3 SET lock me 1 2 GET lock") == [1, [b"OK"], 1]
    assert client.ask("kv txn 1 lock exists = 0 1 3 SET lock me 1 2 GET lock") == [0, [b"me"], 1]
    assert client.ask("KV REVISIONS lock none") == [1, 0]
    assert client.ask("KV EXEC 1 lock 1 2 2 INCR n 4 SET lock v foo") == [1, "ERR syntax error"]
    assert client.ask("KV EXEC 1 lock 9 0") is None
    assert client.ask("KV GET lock") == [
        *(b"value", b"me", b"create_revision", 1, b"modify_revision", 1, b"version", 1),
        *(b"type", b"string"),
    ]
    assert client.ask("KV GET none") is None
    ask(client, "SADD s m")
    assert client.ask("KV GET s")[1] == [b"m"]


def test_kv_reads_of_the_past() -> None:
    client = Node().client()
    for line in ("SET a/1 x", "SET a/2 y", "SET b z", "DEL a/2"):
        ask(client, line)
    assert client.ask("KV GET a/2 REV 2")[1] == b"y"
    assert client.ask("kv get a/2 rev 4") is None
    assert client.ask("KV RANGE PREFIX a/ REV 3 KEYSONLY") == [
        *(b"revision", 3, b"more", 0, b"next", None, b"items", [b"a/1", b"a/2"])
    ]
    page = client.ask("KV RANGE a z LIMIT 1")
    assert page == [
        *(b"revision", 4, b"more", 1, b"next", b"b", b"items", [[b"a/1", b"x", 1, 1, 1]])
    ]
    assert client.ask("KV RANGE a z FROM b REV 4 KEYSONLY")[-1] == [b"b"]
    assert client.ask("kv range a z count rev 3") == 3
    assert client.ask("KV RANGE PREFIX a/ COUNT") == 1
    assert client.ask("KV HISTORY")[:6] == [b"newest", 4, b"oldest", 0, b"events", 4]
    assert "cmdstat_kv|get:calls=2" in client.ask("INFO commandstats").decode()


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b""), (b"", b""), (b"a\xfe", b"a\xff")],
)
def test_what_is_behind_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_a_transaction_that_grows_beyond_an_entry_is_refused() -> None:
    limits = Limits(
        request_bytes_max=4096, batch_bytes_max=4096, value_bytes_max=1024, key_bytes_max=256
    )
    client = Node(limits=limits).client()
    reply = client.ask("KV EXEC 0 400 " + "2 GET a " * 400)
    assert reply == "ERR transaction exceeds what a log entry holds (8192 bytes)"


def test_errors_without_text_of_utf8_do_not_leave_the_log_unreadable() -> None:
    node = Node()
    client = node.client()
    client.send(encode("KV", "EXEC", "0", "1", "3", "GETEX", b"k", b"\xff\xfe"))
    node.replica.turn()
    assert client.replies() == [["ERR syntax error"]]


SET_ERRORS = ["IFEQ", "IFEQ a IFEQ b", "IFEQ a IFNE b", "NX IFEQ a", "IFEQ a NX", "IFNE a XX"]


@pytest.mark.parametrize("options", [*SET_ERRORS, "IFEQ a EX", "IFEQ a foo"])
def test_wrong_options_of_conditional_set(options: str) -> None:
    assert Node().client().ask(f"SET k v {options}") == "ERR syntax error"


@pytest.mark.parametrize("options", ["IFEQ", "FOO a", "IFEQ a b", "IFEQ a IFNE b", "NX"])
def test_wrong_options_of_delex(options: str) -> None:
    assert Node().client().ask(f"DELEX k {options}") == "ERR syntax error"


def test_compare_and_set() -> None:
    client = Node().client()
    assert client.ask("SET k v IFEQ none") is None
    assert client.ask("SET k v IFNE v") == b"OK"
    assert client.ask("SET k w ifeq v GET EX 100") == b"v"
    assert client.ask("TTL k") == 100
    assert client.ask("SET k x IFEQ v GET") == b"w"
    assert client.ask("SET k x IFEQ w KEEPTTL") == b"OK"
    assert client.ask("TTL k") == 100
    assert client.ask("DELEX k IFNE x") == 0
    assert client.ask("DELEX k IFEQ x") == 1
    assert client.ask("DELEX k") == 0

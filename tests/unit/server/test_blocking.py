"""Blocking pops on connections: who is served, when, and how a wait ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.seams import LEADERSHIP_LOST, OVERLOADED, TIMEOUT
from tests.unit.server.harness import Client, Cluster, Node, encode, pipeline

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def wait(node: Node, line: str) -> Client:
    """Return a client that waits in a blocking pop."""
    client = node.client()
    client.send(line)
    settle(node)
    assert client.replies() == []
    assert client.connection.blocked is not None
    return client


def settle(*nodes: Node) -> None:
    for _ in range(4):
        for node in nodes:
            node.replica.turn()


def ask(node: Node, *lines: str) -> list[Any]:
    client = node.client()
    client.send(pipeline(*lines))
    settle(node)
    return client.replies()


class TestAtOnce:
    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("BLPOP none l 0", [b"l", b"a"]),
            ("BRPOP l 0", [b"l", b"c"]),
            ("BLMPOP 0 2 none l LEFT COUNT 2", [b"l", [b"a", b"b"]]),
            ("BLMOVE l m RIGHT LEFT 0", b"c"),
            ("BRPOPLPUSH l m 0", b"c"),
            ("BZPOPMIN none z 0", [b"z", b"x", b"1"]),
            ("BZPOPMAX z 0", [b"z", b"y", b"2"]),
            ("BZMPOP 0 1 z MAX COUNT 5", [b"z", [[b"y", b"2"], [b"x", b"1"]]]),
            ("BLPOP z 0", WRONG_TYPE),
            ("BZPOPMIN l 0", WRONG_TYPE),
            ("BLMOVE l z LEFT LEFT 0", WRONG_TYPE),
        ],
    )
    def test_what_is_there_is_popped_at_once(self, line: str, reply: object) -> None:
        node = Node()
        ask(node, "RPUSH l a b c", "ZADD z 1 x 2 y")
        assert ask(node, line) == [reply]

    def test_scores_are_doubles_in_resp3(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("HELLO 3", "ZADD z 1.5 x", "BZPOPMIN z 0"))
        settle(node)
        assert client.replies()[-1] == [b"z", b"x", 1.5]

    def test_inside_multi_nothing_waits(self) -> None:
        node = Node()
        lines = ("BLPOP l 0", "BRPOPLPUSH l m 0", "BZPOPMIN z 0", "BLMPOP 0 1 l LEFT", "SET a 1")
        replies = ask(node, "MULTI", *lines, "EXEC")
        assert replies[-1] == [None, None, None, None, b"OK"]
        assert len(node.service.blocked) == 0


class TestWaiting:
    @pytest.mark.parametrize(
        ("line", "push", "reply"),
        [
            ("BLPOP a l b 0", "RPUSH l x y", [b"l", b"x"]),
            ("BRPOP l 9", "RPUSH l x y", [b"l", b"y"]),
            ("BLMPOP 0 2 l b LEFT COUNT 9", "RPUSH l x y", [b"l", [b"x", b"y"]]),
            ("BLMOVE l m LEFT LEFT 0", "RPUSH l x y", b"x"),
            ("BRPOPLPUSH l m 0", "RPUSH l x y", b"y"),
            ("BZPOPMIN z 0", "ZADD z 2 x 1 y", [b"z", b"y", b"1"]),
            ("BZPOPMAX z 0", "ZADD z 2 x 1 y", [b"z", b"x", b"2"]),
            ("BZMPOP 0 1 z MIN", "ZADD z 2 x", [b"z", [[b"x", b"2"]]]),
            ("BLPOP l 0", "LMOVE src l LEFT LEFT", [b"l", b"s"]),
            ("BLPOP l 0", "RENAME src l", [b"l", b"s"]),
            ("BLPOP l 0", "COPY src l", [b"l", b"s"]),
            ("BZPOPMIN z 0", "ZUNIONSTORE z 1 zsrc", [b"z", b"m", b"3"]),
        ],
    )
    def test_whatever_makes_a_key_ready_serves_the_client(
        self, line: str, push: str, reply: object
    ) -> None:
        node = Node()
        ask(node, "RPUSH src s", "ZADD zsrc 3 m")
        client = wait(node, line)
        ask(node, push)
        assert client.replies() == [reply]
        assert client.connection.blocked is None
        assert len(node.service.blocked) == 0

    def test_a_wait_costs_the_log_one_entry_and_none_while_nothing_comes(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        before = node.shared.store.applied_index
        ask(node, "SET other 1", "LPUSH elsewhere 1")
        assert node.shared.store.applied_index == before + 1
        assert client.replies() == []

    def test_clients_are_served_in_the_order_in_which_they_came(self) -> None:
        node = Node()
        clients = [wait(node, f"BLPOP {key} 0") for key in ("l", "l x", "l")]
        ask(node, "RPUSH l 1 2")
        assert [client.replies() for client in clients] == [[[b"l", b"1"]], [[b"l", b"2"]], []]
        ask(node, "RPUSH x 3", "RPUSH l 4")
        assert [client.replies() for client in clients] == [[], [], [[b"l", b"4"]]]

    def test_a_newcomer_does_not_overtake_who_waits(self) -> None:
        node = Node()
        first = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1 2")
        newcomer = node.client()
        newcomer.send("BLPOP l 0")
        settle(node)
        assert first.replies() == [[b"l", b"1"]]
        assert newcomer.replies() == [[b"l", b"2"]]

    def test_a_newcomer_is_served_at_once_from_a_key_that_nobody_else_waits_for(self) -> None:
        node = Node()
        wait(node, "BLPOP l 0")
        ask(node, "RPUSH m 1", "ZADD z 1 x")
        assert ask(node, "BLPOP l m 0") == [[b"m", b"1"]]
        assert ask(node, "BLPOP l z 0") == [WRONG_TYPE]
        assert ask(node, "BZPOPMIN l z 0") == [[b"z", b"x", b"1"]]

    def test_one_push_is_one_turn_for_all_that_it_serves(self) -> None:
        node = Node()
        clients = [wait(node, "BLPOP l 0") for _ in range(50)]
        pusher = node.client()
        pusher.send(encode("RPUSH", "l", *map(str, range(50))))
        node.replica.turn()
        node.replica.turn()
        assert [client.replies() for client in clients] == [
            [[b"l", b"%d" % number]] for number in range(50)
        ]

    def test_what_is_gone_again_is_waited_for_in_the_same_place(self) -> None:
        node = Node()
        first = wait(node, "BLPOP l 0")
        pusher, thief = node.client(), node.client()
        pusher.send("RPUSH l 1")
        thief.send("LPOP l")
        settle(node)
        assert thief.replies() == [b"1"]
        second = wait(node, "BLPOP l 0")
        ask(node, "RPUSH l 2")
        assert (first.replies(), second.replies()) == ([[b"l", b"2"]], [])

    def test_a_push_behind_the_attempt_in_one_entry_is_not_missed(self) -> None:
        node = Node()
        client, pusher = node.client(), node.client()
        client.send("BLPOP l 0")
        pusher.send("RPUSH l 1")
        settle(node)
        assert client.replies() == [[b"l", b"1"]]

    def test_another_key_that_got_ready_during_an_attempt_is_not_missed(self) -> None:
        node = Node()
        client = wait(node, "BLPOP a b 0")
        node.client().send("RPUSH a 1")
        node.replica.turn()
        # The pop from `a` is proposed; these come in front of it in the log.
        taken = [([(181, b"a", 0, None)], NullSlot()), ([(180, b"b", 0, 0, b"2")], NullSlot())]
        node.replica.proposed[:0] = taken
        settle(node)
        assert client.replies() == [[b"b", b"2"]]

    def test_another_type_is_no_element(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l x 0")
        ask(node, "ZADD l 1 m", "SET l text")
        assert client.replies() == []
        ask(node, "RPUSH x 1")
        assert client.replies() == [[b"x", b"1"]]

    def test_a_key_whose_type_changed_behind_the_signal_is_waited_for(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        # The pop is proposed; this comes in front of it in the log.
        node.replica.proposed.insert(0, ([(1, b"l", b"text")], NullSlot()))
        settle(node)
        assert client.replies() == []
        ask(node, "DEL l", "RPUSH l 2")
        assert client.replies() == [[b"l", b"2"]]

    def test_a_move_to_a_key_of_another_type_is_an_error_and_keeps_the_element(self) -> None:
        node = Node()
        first, second = wait(node, "BLMOVE l t LEFT LEFT 0"), wait(node, "BLPOP l 0")
        ask(node, "SET t text", "RPUSH l 1")
        assert first.replies() == [WRONG_TYPE]
        assert second.replies() == [[b"l", b"1"]]

    def test_a_move_serves_the_next_one(self) -> None:
        node = Node()
        first, second = wait(node, "BLMOVE a b LEFT LEFT 0"), wait(node, "BLPOP b 0")
        ask(node, "RPUSH a 1")
        settle(node)
        assert (first.replies(), second.replies()) == ([b"1"], [[b"b", b"1"]])

    def test_what_is_behind_on_the_connection_waits_too(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "BLPOP l 0", "INCR a", "GET a"))
        settle(node)
        assert client.replies() == [b"OK"]
        client.send("PING")
        assert ask(node, "GET a", "RPUSH l x") == [b"1", 1]
        settle(node)
        assert client.replies() == [[b"l", b"x"], 2, b"2", b"PONG"]

    def test_an_own_push_in_front_is_seen(self) -> None:
        node = Node()
        assert ask(node, "RPUSH l 1", "BLPOP l 0", "BLPOP l 0.01")[:2] == [1, [b"l", b"1"]]

    def test_the_limit_of_keys(self) -> None:
        node = Node(limits=Limits(blocked_keys_max=3))
        wait(node, "BLPOP a b 0")
        assert ask(node, "BLPOP c d 0") == ["NOTAPPLIED overloaded"]
        wait(node, "BLPOP c 0")

    def test_it_is_listed(self) -> None:
        node = Node()
        wait(node, "BLPOP l 0")
        (listed,) = ask(node, "CLIENT LIST")
        assert b"flags=b" in listed
        (info,) = ask(node, "INFO clients")
        assert b"blocked_clients:1\r\n" in info


class TestEnd:
    @pytest.mark.parametrize(
        "line", ["BLPOP l 0.2", "BLMPOP 0.2 1 l LEFT", "BLMOVE l m LEFT LEFT 0.2", "BZPOPMIN z 0.2"]
    )
    def test_the_timeout_is_answered_with_nothing(self, line: str) -> None:
        node = Node()
        client = wait(node, line)
        node.wait(150)
        assert bytes(client.transport.written) == b""
        node.wait(50)
        assert bytes(client.transport.written) == b"*-1\r\n"
        assert ask(node, "RPUSH l 1") == [1]
        assert len(node.service.blocked) == 0

    def test_the_deadline_of_requests_does_not_end_a_wait(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.wait(1_000_000)
        ask(node, "RPUSH l 1")
        assert client.replies() == [[b"l", b"1"]]

    def test_an_element_that_is_on_its_way_at_the_deadline_counts(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0.1")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        node.wait(100)
        assert client.replies() == []
        settle(node)
        assert client.replies() == [[b"l", b"1"]]

    def test_an_attempt_that_finds_nothing_behind_the_deadline_is_the_last(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0.1")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        node.replica.proposed.insert(0, ([(181, b"l", 0, None)], NullSlot()))
        node.wait(100)
        settle(node)
        assert client.replies() == [None]

    def test_a_closed_connection_takes_nothing(self) -> None:
        node = Node()
        gone, there = wait(node, "BLPOP l 0"), wait(node, "BLPOP l 0")
        gone.lose()
        ask(node, "RPUSH l 1")
        assert there.replies() == [[b"l", b"1"]]

    def test_a_half_closed_connection_is_closed_without_a_reply(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        client.connection.eof_received()
        settle(node)
        assert client.transport.closed
        assert client.replies() == []
        assert ask(node, "RPUSH l 1", "LLEN l") == [1, 1]

    def test_an_element_on_its_way_to_a_closed_connection_is_gone(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        client.lose()
        settle(node)
        assert ask(node, "LLEN l") == [0]
        assert len(node.service.blocked) == 0

    def test_a_closed_connection_whose_attempt_finds_nothing_waits_no_longer(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        node.replica.proposed.insert(0, ([(181, b"l", 0, None)], NullSlot()))
        client.lose()
        settle(node)
        assert len(node.service.blocked) == 0

    def test_the_end_of_a_connection_is_noticed_while_requests_wait_behind(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("BLPOP l 0", "GET a"))
        settle(node)
        assert client.transport.reading
        client.send(encode("SET", "a", "x" * 300_000))
        assert not client.transport.reading
        ask(node, "RPUSH l 1")
        settle(node)
        assert client.replies() == [[b"l", b"1"], None, b"OK"]
        assert client.transport.reading

    @pytest.mark.parametrize(
        ("how", "reply"),
        [
            ("", None),
            ("TIMEOUT", None),
            ("error", "UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        ],
    )
    def test_client_unblock(self, how: str, reply: object) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        assert ask(node, f"CLIENT UNBLOCK {client.connection.number} {how}") == [1]
        node.wait(50)
        assert client.replies() == [reply]
        assert ask(node, f"CLIENT UNBLOCK {client.connection.number}") == [0]
        assert client.ask("PING") == b"PONG"

    @pytest.mark.parametrize(
        ("line", "reply"),
        [
            ("CLIENT UNBLOCK 999", 0),
            ("CLIENT UNBLOCK x", "ERR value is not an integer or out of range"),
            ("CLIENT UNBLOCK 5 foo", "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"),
            ("CLIENT UNBLOCK", "ERR wrong number of arguments for 'client|unblock' command"),
        ],
    )
    def test_client_unblock_refused(self, line: str, reply: object) -> None:
        assert ask(Node(), line) == [reply]

    def test_a_killed_client_takes_nothing(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        assert ask(node, f"CLIENT KILL ID {client.connection.number}") == [1]
        assert ask(node, "RPUSH l 1", "LLEN l") == [1, 1]

    def test_a_node_that_stops_refuses_definitely(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        asyncio.run(node.listener.drain(0.01))
        assert client.replies() == ["NOTAPPLIED shutting down"]
        assert client.transport.closed
        assert len(node.service.blocked) == 0


class TestLeadership:
    def test_who_waits_on_a_leader_that_steps_down_is_redirected_and_closed(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.replica.lead("n2")
        settle(node)
        assert client.replies() == ["MOVED 11562 127.0.0.1:7002"]
        assert client.transport.closed

    def test_without_a_new_leader_the_rest_of_the_wait_is_held(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 7.5")
        node.wait(500)
        node.replica.lead(None)
        settle(node)
        assert client.replies() == []
        assert client.connection.blocked is None
        assert client.connection._backlog == [[b"BLPOP", b"l", b"7.000"]]
        node.replica.lead("n3")
        settle(node)
        assert client.replies() == ["MOVED 11562 127.0.0.1:7003"]

    def test_an_attempt_whose_outcome_is_unknown_ends_the_connection(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        node.replica.fail_all(LEADERSHIP_LOST)
        assert client.replies() == ["UNKNOWN leadership lost"]
        assert client.transport.closed
        assert len(node.service.blocked) == 0

    def test_the_first_attempt_may_time_out_as_any_write(self) -> None:
        node = Node()
        client = node.client()
        client.send("BLPOP l 0")
        node.replica.fail_all(TIMEOUT)
        assert client.replies() == ["UNKNOWN timeout"]

    def test_an_attempt_that_is_refused_for_the_moment_is_tried_again(self) -> None:
        node = Node()
        client = wait(node, "BLPOP l 0")
        node.client().send("RPUSH l 1")
        node.replica.turn()
        node.replica.fail_all(OVERLOADED)
        assert client.replies() == []
        node.wait(50)
        settle(node)
        assert client.replies() == [[b"l", b"1"]]

    def test_on_a_follower_it_is_redirected_at_once(self) -> None:
        node = Node("n2", level="stale")
        for line in ("BLPOP l 0", "BLMPOP 0 1 l LEFT"):
            client = node.client()
            client.send(line)
            assert client.replies() == ["MOVED 11562 127.0.0.1:7001"]


class TestProxied:
    def cluster(self) -> tuple[Cluster, Client]:
        """Return a cluster, and a client of n2 that waits on n1."""
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send(pipeline("SET before 1", "BLPOP l 60"))
        for _ in range(4):
            cluster.turn()
        assert client.replies() == [b"OK"]
        assert len(cluster["n1"].service.blocked) == 1
        return cluster, client

    def test_it_waits_on_the_leader_beyond_the_deadline_of_requests(self) -> None:
        cluster, client = self.cluster()
        cluster["n2"].wait(30_000)
        client.send("GET before")
        ask(cluster["n1"], "RPUSH l 1")
        for _ in range(4):
            cluster.turn()
        assert client.replies() == [[b"l", b"1"], b"1"]

    def test_the_leader_answers_the_timeout(self) -> None:
        cluster, client = self.cluster()
        cluster["n1"].wait(60_000)
        cluster.turn()
        assert client.replies() == [None]

    def test_a_leader_that_says_nothing_is_given_up_behind_the_timeout(self) -> None:
        cluster, client = self.cluster()
        cluster["n2"].wait(63_999)
        assert client.replies() == []
        cluster["n2"].wait(1)
        assert client.replies() == ["UNKNOWN timeout"]

    def test_a_closed_connection_is_told_to_the_leader(self) -> None:
        cluster, client = self.cluster()
        client.lose()
        assert len(cluster["n1"].service.blocked) == 0
        assert ask(cluster["n1"], "RPUSH l 1", "LLEN l") == [1, 1]
        assert cluster["n2"].service.forwarder.pending_bytes == {"n1": 0}

    def test_a_half_closed_connection_is_closed(self) -> None:
        cluster, client = self.cluster()
        client.connection.eof_received()
        cluster.turn()
        assert client.transport.closed
        assert len(cluster["n1"].service.blocked) == 0

    def test_a_lost_link_ends_the_wait_on_both_sides(self) -> None:
        cluster, client = self.cluster()
        for node in cluster.nodes.values():
            node.network.is_holding = True
        cluster["n1"].listener.peer_down("n2")
        assert len(cluster["n1"].service.blocked) == 0
        cluster["n2"].listener.peer_down("n1")
        assert client.replies() == ["UNKNOWN link to the leader lost"]
        assert client.transport.closed

    def test_a_leader_that_steps_down_sends_the_rest_of_the_wait_to_the_next(self) -> None:
        cluster, client = self.cluster()
        cluster["n1"].clock.ms += 10_000
        cluster.lead("n3")
        for _ in range(4):
            cluster.turn()
        cluster["n2"].wait(50)
        for _ in range(4):
            cluster.turn()
        assert len(cluster["n1"].service.blocked) == 0
        assert len(cluster["n3"].service.blocked) == 1
        (run,) = cluster["n3"].service.blocked._waits
        assert run.pop.timeout_ms == 50_000
        ask(cluster["n3"], "RPUSH l 1")
        cluster.turn()
        assert client.replies() == [[b"l", b"1"]]

    @pytest.mark.parametrize("reason", ["TIMEOUT", "ERROR"])
    def test_client_unblock_reaches_the_leader(self, reason: str) -> None:
        cluster, client = self.cluster()
        (done,) = ask(cluster["n2"], f"CLIENT UNBLOCK {client.connection.number} {reason}")
        cluster.turn()
        expected = None if reason == "TIMEOUT" else "UNBLOCKED client unblocked via CLIENT UNBLOCK"
        assert (done, client.replies()) == (1, [expected])
        assert len(cluster["n1"].service.blocked) == 0


class NullSlot:
    """Takes what nobody asked for."""

    def resolve(self, results: object) -> None:
        """Nobody is told."""

    def fail(self, failure: object) -> None:
        """Nobody is told."""

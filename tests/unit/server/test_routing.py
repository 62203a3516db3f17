"""Requests on a node that does not lead: redirected, held, read here, closed at step-down."""

from __future__ import annotations

import pytest

from raftkv.kv.slots import key_slot
from raftkv.seams import LEADERSHIP_LOST, NOT_LEADER
from tests.unit.server.harness import Client, Node, encode, pipeline

CLUSTERDOWN = "CLUSTERDOWN no leader elected"


class TestRedirect:
    def test_moved_names_the_slot_and_the_advertised_address(self) -> None:
        client = Node("n2").client()
        client.send(pipeline("SET a 1", "GET {user}:1", "MGET b a", "DBSIZE", "SCAN 0", "FLUSHALL"))
        assert client.replies() == [
            f"MOVED {key_slot(b'a')} 127.0.0.1:7001",
            f"MOVED {key_slot(b'user')} 127.0.0.1:7001",
            f"MOVED {key_slot(b'b')} 127.0.0.1:7001",
            "MOVED 0 127.0.0.1:7001",
            "MOVED 0 127.0.0.1:7001",
            "MOVED 0 127.0.0.1:7001",
        ]

    def test_container_commands_name_the_slot_of_their_key(self) -> None:
        client = Node("n2").client()
        client.send("OBJECT ENCODING a")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7001"]

    def test_bad_input_is_refused_here_and_own_commands_answered_here(self) -> None:
        client = Node("n2").client()
        client.send(pipeline("PING", "GET", "SET a 1 NOPE", "NOPE x", "KEYS *"))
        assert client.replies() == [
            b"PONG",
            "ERR wrong number of arguments for 'get' command",
            "ERR syntax error",
            "ERR unknown command 'NOPE', with args beginning with: 'x' ",
            "MOVED 0 127.0.0.1:7001",
        ]

    def test_follows_the_leader(self) -> None:
        node = Node("n2")
        client = node.client()
        node.replica.lead("n3")
        client.send("GET a")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7003"]
        node.replica.lead("n2")
        assert client.ask("GET a") is None


class TestAfterALeaderChange:
    """Sentinel clients ask for the master again only when their connection ends."""

    def test_a_redirected_client_is_closed_behind_its_answers(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send(pipeline("SET a 1", "PING"))
        node.replica.lead("n1")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7001", b"PONG"]
        node.wait(150)
        assert client.transport.closed

    def test_one_that_comes_behind_the_change_is_closed_too(self) -> None:
        node = Node("n2")
        node.replica.lead("n3")
        client = node.client()
        client.send(pipeline("SET a 1", "GET a"))
        moved = f"MOVED {key_slot(b'a')} 127.0.0.1:7003"
        assert client.replies() == [moved, moved]
        node.wait(150)
        assert client.transport.closed

    def test_a_pipeline_that_arrives_in_pieces_is_answered_whole(self) -> None:
        node = Node("n2")
        node.replica.lead("n3")
        client = node.client()
        moved = f"MOVED {key_slot(b'a')} 127.0.0.1:7003"
        for _ in range(3):
            client.send(pipeline(*["SET a 1"] * 10))
            assert client.replies() == [moved] * 10
            node.wait(60)
            assert not client.transport.closed

    def test_one_that_goes_on_asking_is_closed_all_the_same(self) -> None:
        node = Node("n2")
        node.replica.lead("n3")
        client = node.client()
        for _ in range(20):
            if not client.transport.closed:
                client.send("SET a 1")
                node.wait(50)
        assert client.transport.closed
        assert node.service.parting == set()

    def test_one_that_reads_here_or_asks_this_node_alone_stays(self) -> None:
        node = Node("n2")
        node.replica.lead("n3")
        reader = node.client()
        reader.send(pipeline("READONLY", "GET a", "SET a 1"))
        asker = node.client()
        asker.send(pipeline("PING", "SENTINEL MASTERS"))
        assert not reader.transport.closed
        assert not asker.transport.closed

    def test_not_for_ever(self) -> None:
        node = Node("n2")
        node.replica.lead("n3")
        node.wait(10_000)
        client = node.client()
        client.send("SET a 1")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7003"]
        assert not client.transport.closed


class TestReadonly:
    def test_reads_are_answered_here_and_writes_redirected(self) -> None:
        node = Node("n2")
        node.shared.apply([(1, b"a", b"1")])
        client = node.client()
        client.send(pipeline("READONLY", "GET a", "SET a 2", "GET a", "READWRITE", "GET a"))
        moved = f"MOVED {key_slot(b'a')} 127.0.0.1:7001"
        assert client.replies() == [b"OK", b"1", moved, b"1", b"OK", moved]

    def test_sliced_reads_keep_their_place(self) -> None:
        node = Node("n2")
        node.shared.apply([(1, b"a", b"1")])
        client = node.client()
        client.send(pipeline("READONLY", "KEYS *", "GET a"))
        assert client.replies() == [b"OK"]
        assert node.replica.sliced[0][2] is False
        node.replica.turn()
        assert client.replies() == [[b"a"], b"1"]

    def test_works_without_a_leader(self) -> None:
        client = Node("n2", leader=None).client()
        client.send(pipeline("READONLY", "GET a"))
        assert client.replies() == [b"OK", None]

    def test_on_the_leader_reads_stay_linearizable(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("READONLY", "GET a"))
        assert node.replica.asked == [("read", [(3, b"a")])]

    def test_stale_level_reads_here(self) -> None:
        client = Node("n2", level="stale").client()
        client.send("GET a")
        assert client.replies() == [None]


class TestHold:
    def test_until_there_is_a_leader_elsewhere(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send(pipeline("SET a 1", "PING"))
        assert client.replies() == []
        node.wait(500)
        assert client.replies() == []
        node.replica.lead("n1")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7001", b"PONG"]
        assert not node.service.held

    def test_until_this_node_leads(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send(pipeline("SET a 1", "GET a"))
        node.replica.lead("n2")
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [b"OK", b"1"]

    def test_for_the_time_to_wait_then_definite(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send(pipeline("SET a 1", "PING"))
        node.wait(1000)
        client.send("GET a")
        node.wait(999)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == [CLUSTERDOWN, b"PONG", CLUSTERDOWN]
        assert node.replica.asked == []
        client.send("GET a")
        node.wait(1999)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == [CLUSTERDOWN]

    def test_dropped_when_the_client_is_gone(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send("SET a 1")
        client.lose()
        node.replica.lead("n2")
        node.replica.turn()
        assert node.replica.asked == []
        assert not node.service.held

    def test_dropped_when_the_client_half_closed(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send("SET a 1")
        client.connection.eof_received()
        node.replica.lead("n2")
        assert node.replica.asked == []

    def test_reading_goes_on_so_that_a_close_is_noticed_but_not_for_ever(self) -> None:
        node = Node("n2", leader=None)
        client = node.client()
        client.send("SET a 1")
        assert client.transport.reading
        client.send(encode("SET", "a", b"x" * 300_000))
        assert not client.transport.reading
        node.replica.lead("n2")
        node.replica.turn()
        assert client.replies() == [b"OK", b"OK"]
        assert client.transport.reading

    def test_own_commands_without_a_request_held_are_answered(self) -> None:
        client = Node("n2", leader=None).client()
        client.send(pipeline("PING", "CLUSTER MYID"))
        assert len(client.replies()) == 2

    def test_a_leader_that_is_known_to_be_gone_does_not_count(self) -> None:
        node = Node("n2")
        client = node.client()
        node.replica.lead(None)
        assert node.replica.leader is not None
        client.send("GET a")
        assert client.replies() == []


class TestDeadline:
    """`timing.request_timeout_ms` is all that a request gets, waiting for a leader included."""

    def held(self, request: str) -> tuple[Node, Client]:
        """A node that leads just before it would have refused what it held."""
        node = Node("n2", leader=None)
        client = node.client()
        client.send(request)
        node.wait(1900)
        node.replica.lead("n2")
        return node, client

    def test_of_a_write_that_was_held(self) -> None:
        node, client = self.held("SET a 1")
        node.wait(2099)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == ["UNKNOWN timeout"]
        assert client.transport.closed
        node.replica.turn()
        assert client.replies() == []
        assert node.shared.store.execute((3, b"a")) == b"1"

    @pytest.mark.parametrize("request_line", ["GET a", "KEYS *", "WATCH a", "LRANGE a 0 -1"])
    def test_of_a_read_that_was_held(self, request_line: str) -> None:
        node, client = self.held(request_line)
        node.wait(2099)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == ["NOTAPPLIED timeout"]
        node.replica.turn()
        assert client.replies() == []
        assert client.connection.watched == {}
        assert client.ask("SET a 1") == b"OK"

    def test_of_a_leased_read_and_one_by_index(self) -> None:
        node = Node("n2", leader=None, level="lease", on_follower="proxy")
        clients = [node.client(), node.client()]
        clients[0].send("GET a")
        node.wait(1900)
        node.replica.lead("n2")
        node.replica.lead(None)
        node.replica.can_read_by_index = True
        clients[1].send("GET a")
        node.wait(100)
        node.replica.lead("n1")
        node.wait(1999)
        assert [client.replies() for client in clients] == [[], []]
        node.wait(1)
        assert clients[0].replies() == ["NOTAPPLIED timeout"]
        assert clients[1].replies() == []
        node.wait(1900)
        assert clients[1].replies() == ["NOTAPPLIED timeout"]
        ((_, slot),) = node.replica.indexed
        slot.resolve([b"late"])
        node.replica.turn()
        assert [client.replies() for client in clients] == [[], []]

    def test_what_is_answered_in_time_is_forgotten(self) -> None:
        node, client = self.held("SET a 1")
        node.replica.turn()
        assert client.replies() == [b"OK"]
        node.wait(50)
        assert node.service.timed == []
        client.send("SET a 2")
        node.wait(5000)
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [b"OK"]

    def test_the_wait_before_a_refusal_counts(self) -> None:
        node = Node()
        client = node.client()
        client.send("GET a")
        node.wait(1500)
        node.replica.lead(None)
        node.replica.fail_all(NOT_LEADER)
        node.wait(499)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == [CLUSTERDOWN]

    def test_the_wait_before_a_refusal_counts_when_it_is_proposed_again(self) -> None:
        node = Node(on_follower="proxy")
        client = node.client()
        client.send("SET a 1")
        node.wait(1000)
        node.replica.lead(None)
        node.replica.fail_all(NOT_LEADER)
        node.wait(500)
        node.replica.lead("n1")
        node.wait(2499)
        assert client.replies() == []
        node.wait(1)
        assert client.replies() == ["UNKNOWN timeout"]


class TestNotLeaderFailure:
    """The replica refuses a run: it was certainly not proposed."""

    def test_is_redirected_when_the_new_leader_is_known(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "SET b 1"))
        node.replica.is_leader = False
        node.replica.leader = node.replica.configuration.member("n3")
        node.replica.fail_all(NOT_LEADER)
        assert client.replies() == [
            f"MOVED {key_slot(b'a')} 127.0.0.1:7003",
            f"MOVED {key_slot(b'b')} 127.0.0.1:7003",
        ]

    def test_is_held_when_no_leader_is_known(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        node.replica.is_leader = node.replica.has_leader = False
        node.replica.fail_all(NOT_LEADER)
        assert client.replies() == []
        node.replica.lead("n3")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7003"]

    def test_later_runs_of_the_pipeline_keep_their_order(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        client.send("SET a 2")
        node.replica.is_leader = node.replica.has_leader = False
        node.replica.fail_all(NOT_LEADER)
        node.replica.lead("n1")
        node.replica.turn()
        assert client.replies() == [b"OK", b"OK"]
        assert node.shared.store.execute((3, b"a")) == b"2"

    def test_is_refused_when_a_later_command_was_carried_out(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        client.send("SET a 2")
        (_, first), second = node.replica.proposed
        first.fail(NOT_LEADER)
        node.replica.end_turn()
        assert client.replies() == []
        node.replica.proposed = [second]
        node.replica.turn()
        assert client.replies() == ["NOTAPPLIED not leader", b"OK"]

    def test_is_refused_in_front_of_a_local_reply(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "PING"))
        node.replica.is_leader = node.replica.has_leader = False
        node.replica.fail_all(NOT_LEADER)
        assert client.replies() == ["NOTAPPLIED not leader", b"PONG"]

    def test_of_a_sliced_read(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("KEYS *", "GET a"))
        node.replica.is_leader = False
        node.replica.leader = node.replica.configuration.member("n3")
        node.replica.fail_all(NOT_LEADER)
        assert client.replies() == [
            "MOVED 0 127.0.0.1:7003",
            f"MOVED {key_slot(b'a')} 127.0.0.1:7003",
        ]


class TestStepDown:
    def test_redirected_clients_are_closed(self) -> None:
        node = Node()
        redirected, reading, proxied = node.client(), node.client(), node.client()
        reading.ask("READONLY")
        proxied.ask("RAFT ROUTING proxy")
        node.replica.lead("n2")
        assert redirected.transport.closed
        assert not reading.transport.closed
        assert not proxied.transport.closed

    def test_after_what_can_be_answered(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1"))
        node.replica.lead("n2")
        assert not client.transport.closed
        assert not client.transport.reading
        node.replica.fail_all(LEADERSHIP_LOST)
        assert client.replies() == ["UNKNOWN leadership lost"]
        assert client.transport.closed

    def test_a_held_read_is_redirected_first(self) -> None:
        node = Node()
        client = node.client()
        client.send("GET a")
        node.replica.lead(None)
        node.replica.fail_all(NOT_LEADER)
        assert not client.transport.closed
        node.replica.lead("n2")
        assert client.replies() == [f"MOVED {key_slot(b'a')} 127.0.0.1:7002"]
        assert client.transport.closed

    def test_a_held_read_is_refused_in_time(self) -> None:
        node = Node()
        client = node.client()
        client.send("GET a")
        node.replica.lead(None)
        node.replica.fail_all(NOT_LEADER)
        node.wait(2000)
        assert client.replies() == [CLUSTERDOWN]
        assert client.transport.closed

    def test_a_change_elsewhere_closes_nobody(self) -> None:
        node = Node("n2")
        client = node.client()
        node.replica.lead("n3")
        node.replica.lead(None)
        assert not client.transport.closed


@pytest.mark.parametrize("on_follower", ["redirect", "proxy"])
def test_routing_of_the_config_and_of_the_connection(on_follower: str) -> None:
    client = Node("n2", on_follower=on_follower).client()
    assert client.ask("RAFT ROUTING") == on_follower.encode()
    assert client.ask("RAFT ROUTING PROXY") == b"OK"
    assert client.ask("RAFT ROUTING") == b"proxy"
    assert client.ask("RAFT ROUTING x") == "ERR routing is one of redirect, proxy"
    assert client.ask("RESET") == b"RESET"
    assert client.ask("RAFT ROUTING") == on_follower.encode()

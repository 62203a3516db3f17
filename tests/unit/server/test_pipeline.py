"""Order, grouping and back-pressure of one client's requests on the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from raftkv.config import Limits
from raftkv.kv.commands import Opcode
from raftkv.resp.values import SLICE_ELEMENTS
from raftkv.seams import (
    DISCARDED,
    DISK_FULL,
    LEADERSHIP_LOST,
    NO_LEADER,
    OVERLOADED,
    READ_TIMEOUT,
    SHUTTING_DOWN,
    TIMEOUT,
    Failure,
)
from raftkv.server.connection import STALLED_MS
from raftkv.server.service import CLOSES_A_PASS, LEFT_MAX
from raftkv.server.statistics import MEANINGS
from tests.unit.server.harness import Client, Node, encode, pipeline


def wait(node: Node, duration_ms: int) -> None:
    """Let time pass, with the ticks of the front-end."""
    for _ in range(duration_ms // 1000):
        node.wait(1000)


def kinds(node: Node) -> list[tuple[str, int]]:
    """What the replica was asked: kind of call and number of commands."""
    return [(kind, len(commands)) for kind, commands in node.replica.asked]


class TestRuns:
    def test_consecutive_writes_are_one_run_and_one_write_to_the_socket(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "SET b 2", "INCR a", "DEL b"))
        assert kinds(node) == [("propose", 4)]
        assert client.transport.writes == 0
        node.replica.turn()
        assert client.replies() == [b"OK", b"OK", 2, 1]
        assert client.transport.writes == 1

    def test_a_run_of_plain_sets_ends_where_one_is_wrong_and_goes_on_behind_it(self) -> None:
        node = Node(limits=Limits(key_bytes_max=5))
        client = node.client()
        client.send(
            pipeline("SET a 1", "SET b 2", "set c 3", "SET longer 4", "SET d 5 EX 9", "SET e 6")
        )
        for _ in range(2):
            node.replica.turn()
        assert client.replies() == [
            b"OK",
            b"OK",
            b"OK",
            "ERR key exceeds limits.key_bytes_max (5 bytes)",
            b"OK",
            b"OK",
        ]
        spec = node.service.table.by_word[b"SET"]
        assert (spec.calls, spec.rejected) == (5, 1)
        assert node.shared.store.key_count == 5

    def test_a_run_of_plain_commands_is_no_longer_than_a_pipeline_may_be(self) -> None:
        node = Node(limits=Limits(pipeline_commands_max=3))
        client = node.client()
        client.send(pipeline(*["SET a 1"] * 4, *["GET a"] * 4))
        assert kinds(node) == [("propose", 3)]
        replies = []
        while answered := (node.replica.turn(), client.replies())[1]:
            replies += answered
        assert replies == [b"OK"] * 4 + [b"1"] * 4

    def test_consecutive_reads_are_one_run(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("GET a", "EXISTS a", "TTL a"))
        assert kinds(node) == [("read", 3)]
        node.replica.turn()
        assert client.replies() == [None, 0, -2]

    def test_a_read_behind_own_writes_of_the_chunk_goes_through_the_log(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "GET a", "SET a 2", "GET a"))
        assert kinds(node) == [("propose", 4)]
        node.replica.turn()
        assert client.replies() == [b"OK", b"1", b"OK", b"2"]

    def test_a_read_behind_own_unapplied_writes_goes_through_the_log(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        client.send("GET a")
        assert kinds(node) == [("propose", 1), ("propose", 1)]
        node.replica.turn()
        assert client.replies() == [b"OK", b"1"]
        client.send("GET a")
        assert kinds(node)[-1] == ("read", 1)

    def test_another_connection_reads_beside_the_log(self) -> None:
        node = Node()
        node.client().send("SET a 1")
        node.client().send("GET a")
        assert kinds(node) == [("propose", 1), ("read", 1)]

    def test_a_few_reads_before_a_write_of_the_chunk_join_its_run(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("GET a", "GET a", "SET a 1", "GET a"))
        assert kinds(node) == [("propose", 4)]
        node.replica.turn()
        assert client.replies() == [None, None, b"OK", b"1"]

    def test_many_reads_before_a_write_are_read_and_the_write_waits(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline(*["GET a"] * 65, "SET a 1", "GET a"))
        assert kinds(node) == [("read", 65)]
        assert not client.transport.reading
        node.replica.turn()
        assert client.replies() == [None] * 65
        assert kinds(node) == [("read", 65), ("propose", 2)]
        assert client.transport.reading
        node.replica.turn()
        assert client.replies() == [b"OK", b"1"]

    def test_a_write_behind_unanswered_reads_waits_for_them(self) -> None:
        node = Node()
        client = node.client()
        client.send("GET a")
        client.send("SET a 1")
        client.send("GET a")
        assert kinds(node) == [("read", 1)]
        node.replica.turn()
        assert kinds(node) == [("read", 1), ("propose", 2)]
        node.replica.turn()
        assert client.replies() == [None, b"OK", b"1"]

    def test_names_in_any_case(self) -> None:
        client = Node().client()
        assert client.ask("SeT a 1") == b"OK"
        assert client.ask("gEt a") == b"1"
        assert client.ask("oBJECT encoding a") == b"int"

    def test_counts_of_calls(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "set a 1", "Set a 1", "GET", "PING"))
        node.replica.turn()
        table = node.service.table
        assert table.by_word[b"set"].calls == 3
        assert (table.by_word[b"get"].calls, table.by_word[b"get"].rejected) == (0, 1)
        assert table.by_word[b"ping"].calls == 1


class TestLocalReplies:
    def test_take_their_place_in_order(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("PING", "SET a 1", "PING", "GET a", "NOPE", "ECHO x"))
        assert client.replies() == [b"PONG"]
        node.replica.turn()
        assert client.replies() == [
            b"OK",
            b"PONG",
            b"1",
            "ERR unknown command 'NOPE', with args beginning with: ",
            b"x",
        ]

    def test_wait_within_limits(self) -> None:
        node = Node(limits=Limits(pipeline_commands_max=10))
        client = node.client()
        client.send("SET a 1")
        client.send(pipeline(*["PING"] * 50))
        assert not client.transport.reading
        assert len(client.connection._fifo) == 10
        node.replica.turn()
        assert client.replies() == [b"OK", *[b"PONG"] * 50]
        assert client.transport.reading

    def test_wait_within_limits_of_bytes(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        big = b"x" * 400_000
        for _ in range(5):
            client.send(encode("ECHO", big))
        assert not client.transport.reading
        assert len(client.connection._fifo) < 6
        node.replica.turn()
        assert client.replies() == [b"OK", *[big] * 5]

    def test_errors_of_the_parsers_do_not_stop_the_pipeline(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "SET a 1 NOPE", "SET a 2", "INCRBY a x", "GET a"))
        node.replica.turn()
        assert client.replies() == [
            b"OK",
            "ERR syntax error",
            b"OK",
            "ERR value is not an integer or out of range",
            b"2",
        ]
        assert node.service.statistics.error_replies == 2


class TestProtocolVersions:
    def test_replies_use_the_version_at_the_time_of_the_request(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("GET a", "HELLO 3", "GET a", "HELLO 2", "GET a"))
        node.replica.turn()
        written = bytes(client.transport.written)
        assert written.startswith(b"$-1\r\n%7\r\n")
        assert b"_\r\n*14\r\n" in written
        assert written.endswith(b"$-1\r\n")


class TestSliced:
    def test_waits_for_what_is_before_and_holds_up_what_is_behind(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "KEYS *", "SET b 1", "GET b"))
        assert kinds(node) == [("propose", 1)]
        node.replica.turn()
        assert kinds(node) == [("propose", 1), ("sliced", 1)]
        node.replica.turn()
        assert kinds(node) == [("propose", 1), ("sliced", 1), ("propose", 2)]
        node.replica.turn()
        assert client.replies() == [b"OK", [b"a"], b"OK", b"1"]

    def test_many_in_a_row_with_answers_at_once_do_not_recurse(self) -> None:
        node = Node()
        client = node.client()
        replica = node.replica

        def answer_at_once(command, slot, *, linearizable):  # type: ignore[no-untyped-def]
            slot.resolve([[]])

        replica.read_sliced = answer_at_once  # type: ignore[method-assign]
        client.send(pipeline(*["KEYS *"] * 3000))
        assert client.replies() == [[]] * 3000

    def test_snapshot_holds_up_what_is_behind(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("RAFT SNAPSHOT", "PING"))
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [0, b"PONG"]


class TestStaleReads:
    def test_answer_at_once(self) -> None:
        node = Node(level="stale")
        client = node.client()
        client.send("GET a")
        assert client.replies() == [None]
        assert kinds(node) == []

    def test_see_own_writes(self) -> None:
        node = Node(level="stale")
        client = node.client()
        client.send(pipeline("SET a 1", "GET a"))
        client.send("GET a")
        node.replica.turn()
        assert client.replies() == [b"OK", b"1", b"1"]
        client.send("GET a")
        assert client.replies() == [b"1"]

    def test_are_chosen_for_a_connection(self) -> None:
        node = Node()
        client = node.client()
        assert client.ask("RAFT READS stale") == b"OK"
        client.send("GET a")
        assert client.replies() == [None]
        assert client.ask("RESET") == b"RESET"
        client.send("GET a")
        assert client.replies() == []
        node.replica.turn()
        assert client.replies() == [None]

    def test_sliced_ones_too(self) -> None:
        node = Node(level="stale")
        client = node.client()
        client.send("KEYS *")
        assert node.replica.sliced[0][2] is False


class TestBackPressure:
    def test_unanswered_commands_are_bounded(self) -> None:
        node = Node(limits=Limits(pipeline_commands_max=100))
        client = node.client()
        client.send(pipeline(*[f"SET k{number} v" for number in range(1000)]))
        assert kinds(node) == [("propose", 100)]
        assert not client.transport.reading
        for _ in range(10):
            node.replica.turn()
        assert client.replies() == [b"OK"] * 1000
        assert kinds(node) == [("propose", 100)] * 10
        assert client.transport.reading

    def test_ten_thousand_tiny_requests(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline(*["PING", "INCR n"] * 5000))
        while not client.transport.reading:
            node.replica.turn()
        node.replica.turn()
        replies = client.replies()
        assert len(replies) == 10_000
        assert replies[-2:] == [b"PONG", 5000]

    def test_a_replica_that_does_not_accept_stops_reading(self) -> None:
        node = Node()
        client = node.client()
        node.replica.accept(False)
        assert not client.transport.reading
        late = node.client()
        assert not late.transport.reading
        node.replica.accept(True)
        assert client.transport.reading
        assert late.transport.reading

    def test_a_slow_reader_is_not_read(self) -> None:
        node = Node()
        client = node.client()
        client.connection.pause_writing()
        assert not client.transport.reading
        client.connection.resume_writing()
        assert client.transport.reading

    def test_a_slow_reader_gets_no_more_of_its_backlog_carried_out(self) -> None:
        node = Node(limits=Limits(pipeline_commands_max=10))
        client = node.client()
        client.send(pipeline(*["INCR n"] * 20))
        client.connection.pause_writing()
        node.replica.turn()
        assert kinds(node) == [("propose", 10)]
        client.connection.resume_writing()
        assert kinds(node) == [("propose", 10), ("propose", 10)]

    def test_a_slow_reader_is_cut_off_at_the_limit(self) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=1_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 300_000))
        client.connection.pause_writing()
        client.transport.buffered = 900_000
        client.send("GET k")
        node.replica.turn()
        wait(node, STALLED_MS - 1000)
        assert not client.transport.aborted
        wait(node, 2000)
        assert client.transport.aborted
        assert node.service.statistics.connections_closed_slow == 1
        assert node.observer.events[0][0] == "client_too_slow"

    def test_a_slow_reader_below_the_limit_is_left_alone(self) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=1_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 300_000))
        client.connection.pause_writing()
        client.transport.buffered = 600_000
        client.send("GET k")
        node.replica.turn()
        wait(node, 10 * STALLED_MS)
        assert not client.transport.aborted

    def test_a_slow_reader_that_takes_a_little_is_left_alone(self) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=1_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 300_000))
        client.connection.pause_writing()
        client.transport.buffered = 900_000
        client.send("GET k")
        node.replica.turn()
        for _ in range(100):
            client.transport.buffered -= 1000
            wait(node, STALLED_MS // 2)
        assert not client.transport.aborted

    @pytest.mark.parametrize("at_once", [True, False], ids=["one run", "many runs"])
    def test_replies_beyond_the_limit_go_out_as_the_client_takes_them(self, at_once: bool) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=5_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 2_000_000))
        client.transport.narrow(client.connection)
        requests = [encode("GET", "k"), encode("INCR", "n")] * 20
        for request in [b"".join(requests)] if at_once else requests:
            client.send(request)
        most = 0
        replies: list[object] = []
        for _ in range(4 * len(requests)):
            node.replica.turn()
            most = max(most, client.transport.buffered)
            replies += client.replies()
            client.transport.take_all()
        assert replies == [one for n in range(1, 21) for one in (b"x" * 2_000_000, n)]
        assert most < 5_000_000
        assert node.service.statistics.connections_closed_slow == 0
        assert client.transport.reading
        assert client.ask("PING") == b"PONG"

    def test_a_connection_that_ends_hands_out_the_rest_first(self) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=5_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 2_000_000))
        client.transport.narrow(client.connection)
        client.send(encode("GET", "k") * 10 + encode("QUIT"))
        replies: list[object] = []
        for _ in range(11):
            node.replica.turn()
            assert not client.transport.aborted
            replies += client.replies()
            client.transport.take_all()
        assert replies[-1] == b"OK"
        assert client.transport.closed

    def test_one_answer_over_the_limit_cuts_off(self) -> None:
        node = Node(limits=Limits(output_buffer_bytes_max=1_000_000))
        client = node.client()
        client.ask(encode("SET", "k", b"x" * 300_000))
        client.send(encode("MGET", *["k"] * 4))
        node.replica.turn()
        assert client.transport.aborted


DEFINITE = {
    DISCARDED: "NOTAPPLIED entry discarded",
    DISK_FULL: "NOTAPPLIED disk full",
    OVERLOADED: "NOTAPPLIED overloaded",
    READ_TIMEOUT: "NOTAPPLIED timeout",
    SHUTTING_DOWN: "NOTAPPLIED shutting down",
    NO_LEADER: "CLUSTERDOWN no leader elected",
}


class TestFailures:
    @pytest.mark.parametrize(("failure", "text"), DEFINITE.items(), ids=DEFINITE.values())
    def test_definite_ones_go_on(self, failure: Failure, text: str) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "SET b 1"))
        node.replica.fail_all(failure)
        assert client.replies() == [text, text]
        assert client.ask("SET a 1") == b"OK"

    @pytest.mark.parametrize(
        ("failure", "text"),
        [(LEADERSHIP_LOST, "UNKNOWN leadership lost"), (TIMEOUT, "UNKNOWN timeout")],
    )
    def test_unknown_refuses_the_rest_and_closes(self, failure: Failure, text: str) -> None:
        node = Node(limits=Limits(pipeline_commands_max=2))
        client = node.client()
        client.send(pipeline("SET a 1", "SET b 1", "SET c 1", "PING"))
        node.replica.fail_all(failure)
        refused = "NOTAPPLIED earlier command unknown"
        assert client.replies() == [text, text, refused, refused]
        assert client.transport.closed
        assert node.shared.store.key_count == 0

    def test_runs_already_proposed_behind_an_unknown_one_get_their_own_outcome(self) -> None:
        node = Node()
        client = node.client()
        client.send("SET a 1")
        client.send("SET b 1")
        (_, first), second = node.replica.proposed
        first.fail(TIMEOUT)
        client.send("SET c 1")  # Already in the pipeline when the client learns of it.
        node.replica.proposed = [second]
        node.replica.turn()
        assert client.replies() == [
            "UNKNOWN timeout",
            b"OK",
            "NOTAPPLIED earlier command unknown",
        ]
        assert client.transport.closed

    def test_a_defect_closes_one_connection_and_is_reported(self) -> None:
        node = Node()
        client, other = node.client(), node.client()
        node.replica.read = None  # type: ignore[assignment,method-assign]
        client.send("GET a")
        assert client.transport.aborted
        assert node.observer.events[0][0] == "connection_failed"
        assert other.ask("SET a 1") == b"OK"

    def test_a_result_without_encoding_closes_one_connection(self) -> None:
        node = Node()
        client, other = node.client(), node.client()
        client.send("GET a")
        other.send("GET a")
        node.replica.reading[0][1].resolve([object()])
        del node.replica.reading[0]
        node.replica.turn()
        assert client.transport.aborted
        assert other.replies() == [None]

    def test_answers_for_a_connection_that_is_gone_are_dropped(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "KEYS *", "SET b 1"))
        client.lose()
        node.replica.turn()
        node.replica.turn()
        assert client.replies() == []
        assert kinds(node) == [("propose", 1)]
        assert not node.service.connections


class TestClosing:
    def test_quit_answers_what_is_before_and_drops_what_is_behind(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("SET a 1", "QUIT", "SET b 1"))
        client.send("SET c 1")
        assert not client.transport.closed
        node.replica.turn()
        assert client.replies() == [b"OK", b"OK"]
        assert client.transport.closed
        assert node.shared.store.key_count == 1

    def test_half_closed_is_answered_first(self) -> None:
        node = Node()
        client = node.client()
        client.send(pipeline("GET a", "SET a 1", *["GET a"] * 2))
        assert client.connection.eof_received() is True
        node.replica.turn()
        node.replica.turn()
        assert client.replies() == [None, b"OK", b"1", b"1"]
        assert client.transport.closed

    def test_half_closed_without_requests_is_closed(self) -> None:
        node = Node()
        client = node.client()
        client.connection.eof_received()
        node.wait(50)
        assert client.transport.closed

    def test_a_thousand_that_leave_at_once_are_closed_a_few_a_pass(self) -> None:
        node = Node()
        passes: list[Callable[[], None]] = []
        node.service.call_soon = lambda call: passes.append(call) or True
        clients = [node.client() for _ in range(1000)]
        for client in clients:
            client.connection.eof_received()
        left = 1000
        while left:
            assert len(passes) == 1
            passes.pop()()
            before, left = left, sum(not client.transport.closed for client in clients)
            assert 0 < before - left <= CLOSES_A_PASS

    def test_who_has_left_takes_no_place_while_it_waits_to_be_closed(self) -> None:
        node = Node(limits=Limits(clients_max=2))
        leaving, _ = node.client(), node.client()
        leaving.connection.eof_received()
        assert node.listener.connection_count == 1
        come = node.client()
        assert b"connected_clients:2\r\n" in come.ask("INFO clients")
        come.send("GET a")
        node.replica.turn()
        assert come.replies() == [None]
        assert node.client().replies() == ["ERR max number of clients reached"]
        # Lost before its turn to be closed, it makes no room twice.
        leaving.lose()
        assert node.client().replies() == ["ERR max number of clients reached"]

    def test_who_has_left_makes_no_room_without_end(self) -> None:
        node = Node(limits=Limits(clients_max=2))
        taken = 0
        while (client := node.client()).transport.closed is False:
            client.connection.eof_received()
            taken += 1
        assert taken == 2 + LEFT_MAX

    def test_protocol_error_is_answered_in_order_and_closes(self) -> None:
        node = Node()
        client = node.client()
        client.send(
            pipeline("SET a 1", "KEYS *", "GET a") + b"*1\r\n:1\r\n" + encode("SET", "b", "1")
        )
        assert not client.transport.reading
        node.replica.turn()
        assert client.replies() == [b"OK"]
        node.replica.turn()
        assert client.replies() == [[b"a"]]
        node.replica.turn()
        assert client.replies() == [b"1", "ERR Protocol error: expected '$', got ':'"]
        assert client.transport.closed
        assert node.service.statistics.protocol_errors == 1
        assert node.shared.store.key_count == 1

    def test_protocol_error_alone(self) -> None:
        client = Node().client()
        client.send(b"*1\r\n$-5\r\n")
        assert client.replies() == ["ERR Protocol error: invalid bulk length"]
        assert client.transport.closed

    def test_idle_connections_are_closed_when_asked_for(self) -> None:
        node = Node(limits=Limits(idle_seconds_max=10))
        idle, busy = node.client(), node.client()
        node.wait(6000)
        busy.send("PING")
        node.wait(6000)
        assert idle.transport.closed
        assert not busy.transport.closed
        assert node.service.statistics.connections_closed_idle == 1

    def test_too_many_clients(self) -> None:
        node = Node(limits=Limits(clients_max=2))
        clients = [node.client() for _ in range(3)]
        assert clients[2].replies() == ["ERR max number of clients reached"]
        assert clients[2].transport.closed
        clients[0].lose()
        assert node.client().ask("PING") == b"PONG"
        assert node.service.statistics.connections_refused == 1


def test_counters_for_metrics() -> None:
    node = Node()
    client = node.client()
    client.send(pipeline("SET a 1", "PING", "NOPE"))
    counters = node.listener.counters()
    assert counters["commands"] == 2
    assert counters["connections"] == counters["connections_accepted"] == 1
    assert counters["error_replies"] == 1
    assert counters["bytes_received"] > 0
    assert set(counters) == set(MEANINGS)


def test_opcodes_arrive_as_the_store_defines_them() -> None:
    node = Node()
    client: Client = node.client()
    client.send(pipeline("SET a 1", "GET a"))
    assert node.replica.asked == [("propose", [(Opcode.SET, b"a", b"1"), (Opcode.GET, b"a")])]


# -------------------------------------------------------- small requests, large replies


def test_replies_made_at_once_leave_a_piece_at_a_time() -> None:
    """A chunk of a few kilobytes may ask for gigabytes; others get their turn meanwhile."""
    node = Node()
    client, other = node.client(), node.client()
    client.send(pipeline(*["COMMAND DOCS"] * 1000))
    first = len(client.transport.written)
    assert 0 < first < 2 * 1024 * 1024
    assert not client.transport.reading
    other.send("PING")
    assert other.replies() == [b"PONG"]
    passes = 0
    while not client.transport.reading:
        before = len(client.transport.written)
        node.service.turn_ended()
        passes += 1
        assert len(client.transport.written) - before < 2 * 1024 * 1024
    assert passes > 5
    assert len(client.replies()) == 1000


def test_a_client_that_takes_nothing_gets_no_more_stale_values() -> None:
    node = Node("n2", level="stale")
    client = node.client()
    node.shared.apply([(int(Opcode.SET), b"k", bytes(1 << 16))])
    client.send(pipeline(*["GET k"] * 1000))
    client.connection.pause_writing()
    for _ in range(10):
        node.wait(50)
    assert len(client.transport.written) < 3 << 20
    client.connection.resume_writing()
    while not client.transport.reading:
        node.wait(50)
    assert len(client.transport.written) > 1000 << 16


@pytest.mark.parametrize("level", ["linearizable", "stale"])
def test_a_long_answer_is_encoded_a_slice_a_pass(level: str) -> None:
    """A million keys take half a second, in which nobody else was served."""
    count = 4 * SLICE_ELEMENTS + 1
    node = Node("n1" if level == "linearizable" else "n2", level=level)
    node.shared.apply([(int(Opcode.SET), b"%d" % number, b"v") for number in range(count)])
    client, other = node.client(), node.client()
    client.send(pipeline("KEYS *", "PING"))
    node.replica.turn()
    other.send("PING")
    assert other.replies() == [b"PONG"]
    passes = 0
    while b"+PONG" not in client.transport.written:
        before = len(client.transport.written)
        node.service.turn_ended()
        passes += 1
        assert len(client.transport.written) - before < 20 * SLICE_ELEMENTS
    assert passes >= 4
    keys, pong = client.replies()
    assert (set(keys), pong) == ({b"%d" % number for number in range(count)}, b"PONG")
    assert len(keys) == count


def test_messages_that_wait_behind_a_long_answer_do_not_hurry_it() -> None:
    count = 8 * SLICE_ELEMENTS
    node = Node()
    node.shared.apply([(int(Opcode.SET), b"%d" % number, b"v") for number in range(count)])
    client, other = node.client(), node.client()
    client.send(pipeline("HELLO 3", "SUBSCRIBE news"))
    client.replies()
    client.send("KEYS *")
    node.replica.turn()
    other.send("PUBLISH news flash")
    passes = 0
    while b"flash" not in client.transport.written:
        before = len(client.transport.written)
        node.service.publications.flush()
        node.service.turn_ended()
        passes += 1
        assert len(client.transport.written) - before < 20 * SLICE_ELEMENTS
    assert passes >= 7


@pytest.mark.asyncio
async def test_a_long_answer_gets_a_slice_a_pass_however_many_turns_there_are() -> None:
    """Each turn of a busy leader asked for a slice more in every pass that followed."""
    count = 20 * SLICE_ELEMENTS
    node = Node()
    loop = asyncio.get_running_loop()
    node.service.call_soon = loop.call_soon
    node.shared.apply([(int(Opcode.SET), b"%d" % number, b"v") for number in range(count)])
    client = node.client()
    client.send("KEYS *")
    node.replica.turn()
    for _ in range(10):
        node.service.turn_ended()
    before = len(client.transport.written)
    await asyncio.sleep(0)
    assert 0 < len(client.transport.written) - before < 20 * SLICE_ELEMENTS


def test_a_long_answer_waits_for_a_client_that_takes_nothing() -> None:
    node = Node()
    node.shared.apply([(int(Opcode.SET), b"%d" % number, b"v") for number in range(20_000)])
    client = node.client()
    client.send("KEYS *")
    client.connection.pause_writing()
    node.replica.turn()
    for _ in range(10):
        node.wait(50)
    assert not client.transport.written
    client.connection.resume_writing()
    for _ in range(20):
        node.service.turn_ended()
    assert len(client.replies()[0]) == 20_000


def test_many_cheap_requests_are_answered_in_passes() -> None:
    node = Node()
    client = node.client()
    client.send(pipeline(*["PING"] * 5000, "ECHO end"))
    replies = client.replies()
    assert len(replies) >= 1000
    for _ in range(10):
        node.wait(50)
    replies += client.replies()
    assert replies == [b"PONG"] * 5000 + [b"end"]
    assert client.transport.reading


def test_scans_are_read_one_at_a_time() -> None:
    """A run of them would hold the loop for seconds, and in the log that of every node."""
    node = Node()
    client = node.client()
    client.send(pipeline("SET k v", *["SCAN 0"] * 3, "GET k"))
    assert kinds(node) == [("propose", 1)]
    for count in range(1, 4):
        node.replica.turn()
        assert kinds(node) == [("propose", 1)] + [("read", 1)] * count
    node.replica.turn()
    node.replica.turn()
    assert client.replies() == [b"OK", *[[b"0", [b"k"]]] * 3, b"v"]
    assert client.transport.reading


def test_stale_scans_leave_room_for_others() -> None:
    node = Node("n2", level="stale")
    client = node.client()
    client.send(pipeline(*["SCAN 0"] * 5, "PING"))
    for count in range(1, 6):
        assert len(client.replies()) == 1, count
        node.wait(50)
    assert client.replies() == [b"PONG"]


def test_who_comes_while_the_node_stops_is_told_that_nothing_was_executed() -> None:
    node = Node()
    node.listener.service.draining = True
    client = Client(node)
    assert client.replies() == ["NOTAPPLIED shutting down"]
    assert client.transport.closed

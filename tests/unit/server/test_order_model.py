"""Any pipeline, cut anywhere, answered in any rhythm: the replies are those of one by one."""

from __future__ import annotations

import hiredis
from hypothesis import example, given
from hypothesis import strategies as st

from raftkv.config import Limits
from tests.unit.server.harness import Client, Cluster, Node, pipeline

LINES = st.sampled_from(
    [
        "SET a 1",
        "SET b 2",
        "INCR a",
        "INCR n",
        "APPEND b x",
        "DEL a",
        "GET a",
        "GET b",
        "MGET a b n",
        "EXISTS a n",
        "KEYS *",
        "DBSIZE",
        "PING",
        "ECHO hello",
        "CLUSTER KEYSLOT a",
        "NOPE",
        "GET",
        "INCR b",
        "SET a 1 NOPE",
        "oBJECT encoding a",
        "READWRITE",
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH a b",
        "UNWATCH",
    ]
)
# What happens between two chunks: nothing, or answers to some of what was asked.
STEPS = st.sampled_from(["", "", "writes", "reads", "turn"])
PROGRAMS = st.tuples(
    st.lists(LINES, min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(1, 120), STEPS), max_size=25),
    st.integers(1, 8),
)


def one_by_one(lines: list[str]) -> list[object]:
    client = Node().client()
    replies = []
    for line in lines:
        client.send(line)
        client.node.replica.turn()
        replies += client.replies()
    return replies


def feed(client: Client, lines: list[str], cuts: list[tuple[int, str]], leader: Node) -> None:
    data = pipeline(*lines)
    for size, step in cuts:
        if data[:size] and client.transport.reading:
            client.send(data[:size])
            data = data[size:]
        if step == "turn":
            leader.replica.turn()
        elif step:
            answer = leader.replica.answer_proposed if step == "writes" else None
            (answer or leader.replica.answer_reading)()
            leader.replica.end_turn()
    for _ in range(200):
        if data and client.transport.reading:
            client.send(data)
            data = b""
        leader.replica.turn()


def read_all(client: Client) -> list[object]:
    reader = hiredis.Reader(replyError=str)
    reader.feed(bytes(client.transport.written))
    replies = []
    while (reply := reader.gets()) is not False:
        replies.append(reply)
    return replies


def sorted_keys(replies: list[object]) -> list[object]:
    return [sorted(map(repr, reply)) if isinstance(reply, list) else reply for reply in replies]


@given(program=PROGRAMS)
@example(program=(["SET a 1", "GET a"], [(len(pipeline("SET a 1")), ""), (99, "reads")], 8))
@example(program=(["GET a", "SET a 1"], [(len(pipeline("GET a")), ""), (99, "writes")], 8))
@example(program=(["MULTI", *["INCR n"] * 30, "EXEC"], [(40, "turn")] * 9, 2))
def test_on_the_leader(program: tuple[list[str], list[tuple[int, str]], int]) -> None:
    lines, cuts, pipeline_max = program
    node = Node(limits=Limits(pipeline_commands_max=pipeline_max))
    client = node.client()
    feed(client, lines, cuts, node)
    assert sorted_keys(read_all(client)) == sorted_keys(one_by_one(lines))
    assert client.connection.is_idle
    assert client.connection._unanswered == client.connection._waiting_bytes == 0
    assert client.connection._reads_pending == client.connection._writes_pending == 0
    assert client.transport.reading
    client.lose()
    assert node.service.queued_bytes == 0


@given(program=PROGRAMS)
def test_through_a_proxy(program: tuple[list[str], list[tuple[int, str]], int]) -> None:
    lines, cuts, pipeline_max = program
    limits = Limits(pipeline_commands_max=pipeline_max)
    cluster = Cluster(on_follower="proxy", limits=limits)
    client = cluster["n2"].client()
    feed(client, lines, cuts, cluster["n1"])
    assert sorted_keys(read_all(client)) == sorted_keys(one_by_one(lines))
    assert client.connection.is_idle
    assert client.connection._unanswered == client.connection._waiting_bytes == 0
    assert client.transport.reading

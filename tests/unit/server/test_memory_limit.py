"""The memory limit on connections: what is refused, in front of the log and behind it."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.kv.commands import OUT_OF_MEMORY, Opcode
from tests.unit.server.harness import Cluster, Node, pipeline


def full_node(**options: Any) -> Node:
    node = Node(**options)
    ask(node, "SET key value", "RPUSH list element")
    node.shared.apply([(int(Opcode.LIMIT_DATASET), 5)])
    node.replica.asked.clear()
    return node


def ask(node: Node, *lines: str) -> list[Any]:
    client = node.client()
    client.send(pipeline(*lines))
    for _ in range(4):
        node.replica.turn()
    return client.replies()


@pytest.mark.parametrize(
    "line",
    ["SET a 1", "set a 1", "INCR n", "LPUSH l x", "BLMOVE list l LEFT LEFT 0", "BITOP NOT a key"],
)
def test_what_may_grow_is_refused_without_an_entry(line: str) -> None:
    node = full_node()
    assert ask(node, line) == [OUT_OF_MEMORY]
    assert node.replica.asked == []


def test_bad_words_are_said_first_as_far_as_they_are_seen() -> None:
    assert ask(full_node(), "SET a", "INCRBY a x") == [
        "ERR wrong number of arguments for 'set' command",
        "ERR value is not an integer or out of range",
    ]


def test_all_else_goes_on() -> None:
    node = full_node()
    lines = ("GET key", "EXPIRE key 100", "LPOP list", "BLPOP list 0.01", "PING", "DEL key")
    assert ask(node, *lines[:3]) == [b"value", 1, b"element"]
    assert ask(node, *lines[4:]) == [b"PONG", 1]


def test_behind_a_write_that_may_make_room_the_log_decides() -> None:
    node = full_node()
    assert ask(node, "DEL key list", "SET a 1", "SET b 1") == [2, b"OK", OUT_OF_MEMORY]


def test_replies_keep_their_order() -> None:
    node = full_node()
    replies = ask(node, "GET key", "SET a 1", "GET a", "SET b 1", "ECHO x")
    assert replies == [b"value", OUT_OF_MEMORY, None, OUT_OF_MEMORY, b"x"]


def test_in_multi_it_is_refused_when_queued_and_at_exec() -> None:
    node = full_node()
    replies = ask(node, "MULTI", "DEL key", "SET a 1", "EXEC")
    assert replies[2:] == [
        OUT_OF_MEMORY,
        "EXECABORT Transaction discarded because of previous errors.",
    ]
    assert ask(node, "MULTI", "DEL none", "EXEC")[-1] == [0]
    client = node.client()
    node.shared.apply([(int(Opcode.LIMIT_DATASET), 0)])
    client.send(pipeline("MULTI", "SET a 1"))
    node.shared.apply([(int(Opcode.LIMIT_DATASET), 5)])
    client.send("EXEC")
    for _ in range(4):
        node.replica.turn()
    assert client.replies()[-1] == (f"EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}")


def test_a_forwarded_request_is_refused_by_the_leader() -> None:
    cluster = Cluster(on_follower="proxy")
    ask(cluster["n1"], "SET key value")
    cluster["n1"].shared.apply([(int(Opcode.LIMIT_DATASET), 5)])
    client = cluster["n2"].client()
    client.send(pipeline("SET a 1", "GET key"))
    for _ in range(4):
        cluster.turn()
    assert client.replies() == [OUT_OF_MEMORY, b"value"]


def test_what_info_and_config_say() -> None:
    node = full_node()
    (info, config, usage) = ask(node, "INFO memory", "CONFIG GET maxmemory*", "MEMORY USAGE key")
    size = 3 + 5 + 290
    assert usage == size
    assert b"\r\nused_memory_dataset:%d\r\n" % (size + 4 + 7 + 42 + 290) in info
    assert b"\r\nmaxmemory:5\r\n" in info
    assert b"\r\nmaxmemory_policy:noeviction\r\n" in info
    assert config == [b"maxmemory", b"5", b"maxmemory-policy", b"noeviction"]


def test_a_client_that_waits_to_move_is_refused_when_its_turn_comes() -> None:
    node = Node()
    client = node.client()
    client.send("BLMOVE l m LEFT LEFT 0")
    node.replica.turn()
    ask(node, "RPUSH l x")[:0]
    assert client.replies() == [b"x"]
    waiting = node.client()
    waiting.send("BLMOVE l m LEFT LEFT 0")
    node.replica.turn()
    pusher = node.client()
    pusher.send("RPUSH l y")
    node.replica.turn()
    node.shared.apply([(int(Opcode.LIMIT_DATASET), 5)])
    for _ in range(4):
        node.replica.turn()
    assert waiting.replies() == [OUT_OF_MEMORY]
    assert ask(node, "LLEN l") == [1]

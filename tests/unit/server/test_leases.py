"""KV LEASE and KV SET as requests, and the scripts of redis-py's Lock beside a real Redis."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from redis.lock import Lock

from raftkv.config import Limits
from raftkv.server.handlers_scripts import NO_SCRIPT, REFUSED
from tests.differential.redis_process import Failed, RedisConnection, running_redis
from tests.unit.server.harness import Client, Cluster, Node, encode, pipeline

ID_RANGE = "ERR the id of a lease is a number from 1 to 9007199254740991"
TTL_RANGE = "ERR a lease lives for 100 to 31536000000 milliseconds"
WRONG = [
    ("KV LEASE", "ERR wrong number of arguments for 'kv|lease' command"),
    ("KV LEASE FOO", "ERR unknown subcommand 'FOO'. Try KV HELP."),
    ("KV LEASE GRANT", "ERR wrong number of arguments for 'kv|lease|grant' command"),
    ("KV LEASE GRANT x", TTL_RANGE),
    ("KV LEASE GRANT 99", TTL_RANGE),
    ("KV LEASE GRANT -1", TTL_RANGE),
    ("KV LEASE GRANT 31536000001", TTL_RANGE),
    ("KV LEASE GRANT 99999999999999999999", TTL_RANGE),
    ("KV LEASE GRANT 100 ID", "ERR syntax error"),
    ("KV LEASE GRANT 100 NAME 5", "ERR syntax error"),
    ("KV LEASE GRANT 100 ID 0", ID_RANGE),
    ("KV LEASE GRANT 100 ID x", ID_RANGE),
    ("KV LEASE GRANT 100 ID 9007199254740992", ID_RANGE),
    ("KV LEASE GRANT 100 ID 5 6", "ERR wrong number of arguments for 'kv|lease|grant' command"),
    ("KV LEASE KEEPALIVE", "ERR wrong number of arguments for 'kv|lease|keepalive' command"),
    ("KV LEASE KEEPALIVE 1 2", "ERR wrong number of arguments for 'kv|lease|keepalive' command"),
    ("KV LEASE KEEPALIVE -1", ID_RANGE),
    ("KV LEASE REVOKE", "ERR wrong number of arguments for 'kv|lease|revoke' command"),
    ("KV LEASE REVOKE 1.5", ID_RANGE),
    ("KV LEASE TTL", "ERR wrong number of arguments for 'kv|lease|ttl' command"),
    ("KV LEASE TTL 5 VALUES", "ERR syntax error"),
    ("KV LEASE TTL 0", ID_RANGE),
    ("KV LEASE LIST COUNT", "ERR syntax error"),
    ("KV LEASE LIST COUNT 0", "ERR COUNT is a number from 1"),
    ("KV LEASE LIST COUNT x", "ERR COUNT is a number from 1"),
    ("KV LEASE LIST AFTER x", ID_RANGE),
    ("KV LEASE LIST FROM 1", "ERR syntax error"),
    ("KV LEASE ATTACH 1", "ERR wrong number of arguments for 'kv|lease|attach' command"),
    ("KV LEASE ATTACH x k", ID_RANGE),
    ("KV LEASE ATTACH 1 longkey", "ERR key exceeds limits.key_bytes_max (6 bytes)"),
    ("KV LEASE DETACH", "ERR wrong number of arguments for 'kv|lease|detach' command"),
    ("KV LEASE DETACH longkey", "ERR key exceeds limits.key_bytes_max (6 bytes)"),
    ("KV SET k v", "ERR wrong number of arguments for 'kv|set' command"),
    ("KV SET k v LEASE", "ERR wrong number of arguments for 'kv|set' command"),
    ("KV SET k v EX 5 LEASE 1", "ERR syntax error"),
    ("KV SET k v LEASE x", ID_RANGE),
    ("KV SET k v LEASE 1 FOO", "ERR syntax error"),
    ("KV SET k v LEASE 1 NX XX", "ERR syntax error"),
    ("KV SET k v LEASE 1 EX 0", "ERR invalid expire time in 'set' command"),
    ("KV SET longkey v LEASE 1", "ERR key exceeds limits.key_bytes_max (6 bytes)"),
]  # fmt: skip


def ask(client: Client, *words: str) -> Any:
    return client.ask(encode(*words))


def ask_all(client: Client, *lines: str) -> Any:
    """Send requests together and return the last reply."""
    client.send(pipeline(*lines))
    client.node.replica.turn()
    return client.replies()[-1]


@pytest.mark.parametrize(("line", "reply"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_words(line: str, reply: str) -> None:
    node = Node(limits=Limits(key_bytes_max=6))
    assert node.client().ask(line) == reply
    assert node.shared.store.applied_index == 0


def test_the_life_of_a_lease() -> None:
    client = Node(limits=Limits(leases_max=2, lease_keys_max=2)).client()
    assert client.ask("kv lease grant 5000 id 7") == 7
    assert 0 < client.ask("KV LEASE GRANT 5000") < 2**53
    assert client.ask("KV LEASE GRANT 5000") == (
        "ERR there are too many leases (limits.leases_max)"
    )
    assert client.ask("KV SET a 1 LEASE 7") == b"OK"
    assert client.ask("KV SET a 2 LEASE 7 NX") is None
    assert client.ask("KV SET a 2 LEASE 7 GET PX 9000") == b"1"
    assert client.ask("KV SET a 3 lease 7 IFEQ 2 KEEPTTL") == b"OK"
    assert ask_all(client, "SET b 1", "SET c 1") == b"OK"
    assert client.ask("KV LEASE ATTACH 7 b nowhere") == 1
    assert (
        client.ask("KV LEASE ATTACH 7 c") == "ERR a lease has too many keys (limits.lease_keys_max)"
    )
    assert client.ask("HELLO 3")[b"proto"] == 3
    assert client.ask("KV LEASE TTL 7 KEYS") == {
        b"id": 7, b"ttl_ms": 5000, b"remaining_ms": 5000, b"key_count": 2, b"keys": [b"a", b"b"],
    }  # fmt: skip
    assert client.ask("KV LEASE TTL 8") is None
    assert client.ask("KV LEASE LIST COUNT 1") == [7]
    assert len(client.ask("KV LEASE LIST")) == 2
    assert client.ask("KV LEASE DETACH b b c") == 1
    assert client.ask("KV LEASE KEEPALIVE 7") == 5000
    assert client.ask("KV LEASE REVOKE 7") == 1
    assert client.ask("EXISTS a b") == 1
    assert client.ask("KV LEASE REVOKE 7") == "NOLEASE no such lease"
    assert client.ask("KV SET a 1 LEASE 7") == "NOLEASE no such lease"


def test_inside_of_transactions() -> None:
    client = Node().client()
    both = ask_all(client, "MULTI", "KV LEASE GRANT 5000 ID 7", "KV SET a 1 LEASE 7", "EXEC")
    assert both == [7, b"OK"]
    lock = "KV TXN 1 l CREATE = 0 2 6 KV LEASE GRANT 5000 ID 8 6 KV SET l me LEASE 8 1 3 KV GET l"
    assert client.ask(lock) == [1, [8, b"OK"], 2]
    holder = [b"value", b"me", b"create_revision", 2, b"modify_revision", 2, b"version", 1]
    assert client.ask(lock)[:2] == [0, [[*holder, b"type", b"string"]]]
    assert ask_all(client, "MULTI", "KV LEASE GRANT x", "KV LEASE TTL 9", "EXEC")[1] is None


def test_questions_about_leases_go_to_the_leader() -> None:
    client = Cluster()["n2"].client()
    assert client.ask("KV LEASE TTL 7").startswith("MOVED 0 ")
    assert client.ask("KV SET a 1 LEASE 7").startswith("MOVED 15495 ")


# ------------------------------------------------------------------------ scripts

SCRIPTS = {
    "release": Lock.LUA_RELEASE_SCRIPT,
    "extend": Lock.LUA_EXTEND_SCRIPT,
    "reacquire": Lock.LUA_REACQUIRE_SCRIPT,
}
CALLS: list[tuple[str, list[str]]] = [
    ("release", ["token"]),
    ("release", ["other"]),
    ("extend", ["token", "5000", "0"]),
    ("extend", ["token", "5000", "1"]),
    ("extend", ["token", "5000", ""]),
    ("extend", ["other", "5000", "1"]),
    ("extend", ["token", "-99999999", "1"]),
    ("extend", ["token", "0", "1"]),
    ("reacquire", ["token", "7000"]),
    ("reacquire", ["other", "7000"]),
    ("reacquire", ["token", "-5"]),
]  # fmt: skip
BEFORE = ["SET k token PX 60000", "SET k token", "SET k x", "DEL k", "HSET k f v"]


@pytest.fixture(scope="module")
def redis(redis_server: str) -> Iterator[RedisConnection]:
    with running_redis(redis_server) as connection:
        yield connection


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=str)
def test_the_scripts_of_a_lock_do_what_they_do_in_redis(
    name: str, arguments: list[str], before: str, redis: RedisConnection
) -> None:
    client = Node().client()
    digest = hashlib.sha1(SCRIPTS[name].encode()).hexdigest()
    redis.call(b"FLUSHALL")
    redis.call(b"SCRIPT", b"LOAD", SCRIPTS[name].encode())
    assert ask(client, "SCRIPT", "LOAD", SCRIPTS[name]) == digest.encode()
    told = []
    for words in (before.split(), ["EVALSHA", digest, "1", "k", *arguments], ["PTTL", "k"]):
        theirs = redis.call(*(word.encode() for word in words))
        told.append((theirs, ask(client, *words)))
    theirs, ours = told[1]
    if isinstance(theirs, Failed):
        assert theirs.text.startswith(str(ours))
    else:
        assert theirs == ours
    assert isinstance(told[2][1], int)
    assert abs(told[2][0] - told[2][1]) < 1000
    ask_all(client, "FLUSHALL", before)
    assert ask(client, "EVAL", SCRIPTS[name], "1", "k", *arguments) == ours


def test_any_other_script_is_refused() -> None:
    client = Node().client()
    changed = SCRIPTS["release"] + " "
    digest = hashlib.sha1(SCRIPTS["release"].encode()).hexdigest()
    assert ask(client, "EVALSHA", "a" * 40, "1", "k") == NO_SCRIPT
    assert ask(client, "EVAL", "return 1", "0") == REFUSED
    assert ask(client, "EVAL", changed, "1", "k", "token") == REFUSED
    assert ask(client, "SCRIPT", "LOAD", changed) == REFUSED
    assert ask(client, "SCRIPT", "EXISTS", digest, digest.upper(), "b" * 40) == [1, 1, 0]
    assert ask(client, "SCRIPT", "FLUSH", "ASYNC") == b"OK"
    assert ask(client, "SCRIPT", "EXISTS", digest) == [1]
    assert ask(client, "EVALSHA", digest, "0", "k", "token").startswith("ERR this script takes")
    assert ask(client, "EVALSHA", digest, "1", "k").startswith("ERR this script takes")
    assert ask(client, "EVALSHA", digest, "1", "k", "a", "b").startswith("ERR this script")


def test_a_script_is_redirected_by_its_key() -> None:
    client = Cluster()["n2"].client()
    digest = hashlib.sha1(SCRIPTS["release"].encode()).hexdigest()
    assert str(ask(client, "EVALSHA", digest, "1", "k", "token")).startswith("MOVED 7629 ")
    assert str(ask(client, "EVALSHA", digest, "0")).startswith(("ERR", "MOVED 0 "))
    assert ask(client, "COMMAND", "GETKEYS", "EVALSHA", digest, "1", "k", "token") == [b"k"]

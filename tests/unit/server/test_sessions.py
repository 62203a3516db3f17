"""KV SESSION, KV ONCE and KV OUTCOME at the front-end: words, ways, and bad input."""

from __future__ import annotations

import hashlib

import pytest
from redis.lock import Lock

from raftkv.kv.sessions import Session
from raftkv.kv.store import KvStore
from raftkv.seams import DISCARDED, NOT_LEADER, TIMEOUT
from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import Kind
from raftkv.server.handlers_scripts import REFUSED
from tests.unit.kv.driver import reload
from tests.unit.server.harness import Cluster, Node, encode, pipeline

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_ONCE = "ERR Command cannot be executed once"
FROM_ONE = "ERR numbers of writes begin with 1"
TTL_RANGE = "ERR TTL is from 1000 to 86400000 ms"
EXPIRED = "UNKNOWN session expired"


def arity(subcommand: str) -> str:
    return f"ERR wrong number of arguments for 'kv|{subcommand}' command"


BAD_INPUT = [
    ("KV ONCE", arity("once")),
    ("KV ONCE 1 1 1", arity("once")),
    ("KV ONCE x 1 1 INCR n", NOT_AN_INTEGER),
    ("KV ONCE 1 x 1 INCR n", NOT_AN_INTEGER),
    ("KV ONCE 1 1 x INCR n", NOT_AN_INTEGER),
    ("KV ONCE 1 01 1 INCR n", NOT_AN_INTEGER),
    ("KV ONCE 1 9223372036854775808 1 INCR n", NOT_AN_INTEGER),
    ("KV ONCE 1 0 0 INCR n", FROM_ONE),
    ("KV ONCE 1 1 -1 INCR n", FROM_ONE),
    (
        "KV ONCE 1 1 2 INCR n",
        "ERR the lowest unfinished number is above that of the command",
    ),
    ("KV ONCE 1 1 1 INCR", "ERR wrong number of arguments for 'incr' command"),
    ("KV ONCE 1 1 1 INCRBY n x", NOT_AN_INTEGER),
    ("KV ONCE 1 1 1 SET k v foo", "ERR syntax error"),
    ("KV ONCE 1 1 1 NOSUCH a", "ERR unknown command 'NOSUCH', with args beginning with: 'a' "),
    ("KV ONCE 1 1 1 GET n", NOT_ONCE),
    ("KV ONCE 1 1 1 KEYS *", NOT_ONCE),
    ("KV ONCE 1 1 1 SCAN 0", NOT_ONCE),
    ("KV ONCE 1 1 1 PING", NOT_ONCE),
    ("KV ONCE 1 1 1 MULTI", NOT_ONCE),
    ("KV ONCE 1 1 1 EXEC", NOT_ONCE),
    ("KV ONCE 1 1 1 WATCH n", NOT_ONCE),
    ("KV ONCE 1 1 1 RAFT STATUS", NOT_ONCE),
    ("KV ONCE 1 1 1 KV GET n", NOT_ONCE),
    ("KV ONCE 1 1 1 KV ONCE 1 2 1 INCR n", NOT_ONCE),
    ("KV ONCE 1 1 1 KV OUTCOME 1 2", NOT_ONCE),
    ("KV ONCE 1 1 1 KV SESSION OPEN", NOT_ONCE),
    ("KV ONCE 1 1 1 KV EXEC 0 1 1 INFO", "ERR Command not allowed inside a transaction"),
    ("KV ONCE 7 1 1 INCR n", EXPIRED),
    ("KV ONCE -1 1 1 INCR n", EXPIRED),
    ("KV OUTCOME", arity("outcome")),
    ("KV OUTCOME 1", arity("outcome")),
    ("KV OUTCOME 1 1 1", arity("outcome")),
    ("KV OUTCOME x 1", NOT_AN_INTEGER),
    ("KV OUTCOME 1 x", NOT_AN_INTEGER),
    ("KV OUTCOME 1 0", FROM_ONE),
    ("KV OUTCOME 7 1", EXPIRED),
    ("KV SESSION", arity("session")),
    ("KV SESSION NOSUCH", "ERR syntax error"),
    ("KV SESSION NOSUCH 1", "ERR syntax error"),
    ("KV SESSION OPEN TTL", "ERR syntax error"),
    ("KV SESSION OPEN 5000", "ERR syntax error"),
    ("KV SESSION OPEN FOO 5000", "ERR syntax error"),
    ("KV SESSION OPEN TTL 5000 6000", "ERR syntax error"),
    ("KV SESSION OPEN TTL x", NOT_AN_INTEGER),
    ("KV SESSION OPEN TTL 999", TTL_RANGE),
    ("KV SESSION OPEN TTL 86400001", TTL_RANGE),
    ("KV SESSION OPEN TTL -1", TTL_RANGE),
    ("KV SESSION KEEPALIVE", "ERR syntax error"),
    ("KV SESSION KEEPALIVE x", NOT_AN_INTEGER),
    ("KV SESSION KEEPALIVE 1 2", "ERR syntax error"),
    ("KV SESSION CLOSE", "ERR syntax error"),
    ("KV SESSION CLOSE x", NOT_AN_INTEGER),
    ("KV SESSION INFO", "ERR syntax error"),
    ("KV SESSION INFO x", NOT_AN_INTEGER),
    ("KV SESSION LIST 1", "ERR syntax error"),
]


@pytest.mark.parametrize(("line", "reply"), BAD_INPUT, ids=[line for line, _ in BAD_INPUT])
def test_bad_input_is_refused_and_changes_nothing(line: str, reply: str) -> None:
    node = Node()
    client = node.client()
    assert client.ask(line) == reply
    assert node.shared.store.revision == 0
    assert client.ask("KV SESSION OPEN") == 1
    if reply != EXPIRED:
        assert node.shared.store.applied_index == 1


FILLED = """
SET s abc | SET n 5 | SET f 1.5 | SET m v PX 100000 | HSET h a 1 b 2 c x | SADD t a b c d e
SADD u b c x | RPUSH l a b c d e f | RPUSH k x | ZADD z 1 a 2 b 3 c 4 d | ZADD y 2 b 9 q
KV LEASE GRANT 100000 ID 9 | KV SET held v LEASE 9
"""
# At least one of every write, on keys of its type, so that every kind of result is kept.
WRITES = """
SET s v | SET s v GET | SET s v NX | SET s v NX GET | SETNX s v | SETEX s 5 v | PSETEX s 5000 v
MSET a 1 b 2 | MSETNX a 1 s 2 | GETSET s v | GETDEL s | GETDEL none | GETEX s EX 5 | GETEX m PERSIST
APPEND s x | SETRANGE s 1 x | INCR n | DECR n | INCRBY n 3 | DECRBY n 3 | INCRBYFLOAT f 0.1
INCR s | SET s v IFEQ abc | DELEX s | DELEX s IFNE abc | DEL s n none | UNLINK s | EXPIRE s 9
PEXPIRE s 9000 | EXPIREAT s 9999999999 | PEXPIREAT s 9999999999999 | PERSIST m | RENAME s q
RENAME none q | RENAMENX s n | COPY s q | FLUSHDB | FLUSHALL
HSET h a 2 d 3 | HSETNX h a 5 | HMSET h a 5 | HDEL h a b | HINCRBY h a 5 | HINCRBYFLOAT h a 0.5
HINCRBY h c 1 | LPUSH l x y | RPUSH l x | LPUSHX none x | RPUSHX l x | LPOP l | LPOP l 2 | LPOP none
LPOP none 2 | RPOP l 2 | LMPOP 2 none l LEFT COUNT 2 | LMPOP 1 none LEFT | LSET l 0 x | LSET l 99 x
LINSERT l BEFORE b x | LREM l 0 a | LTRIM l 1 2 | LMOVE l k LEFT RIGHT | LMOVE none k LEFT RIGHT
RPOPLPUSH l k | SADD t x y | SREM t a | SPOP t | SPOP t 2 | SPOP none | SPOP none 2 | SMOVE t u a
SINTERSTORE q t u | SUNIONSTORE q t u | SDIFFSTORE q t u | ZADD z 5 e | ZADD z INCR 2 a
ZADD z NX INCR 2 a | ZADD z CH 7 a 8 b | ZINCRBY z 1.5 a | ZREM z a | ZPOPMIN z | ZPOPMIN z 2
ZPOPMAX z 2 | ZPOPMIN none | ZMPOP 2 none z MIN COUNT 2 | ZMPOP 1 none MIN | ZRANGESTORE q z 0 1
ZREMRANGEBYRANK z 0 1 | ZREMRANGEBYSCORE z 1 2 | ZREMRANGEBYLEX z - + | ZUNIONSTORE q 2 z y
ZINTERSTORE q 2 z y | ZDIFFSTORE q 2 z y | SETBIT s 7 1 | BITOP AND q s n
SORT l ALPHA STORE q | SORT none STORE q
BITFIELD s GET u8 0 SET i8 8 5 INCRBY u2 100 1 OVERFLOW FAIL INCRBY u2 102 9
KV EXEC 0 3 2 INCR n 2 HGETALL h 3 ZPOPMAX z 2 | KV EXEC 1 s 99 1 2 INCR n | KV EXEC 0 0
KV EXEC 0 4 2 SMEMBERS t 3 KV|GET s 1 PING 2 INCR s | KV TXN 1 s VALUE = abc 1 2 INCR n 0
KV TXN 0 1 4 ZRANGE z 0 -1 0
KV LEASE GRANT 5000 ID 7 | KV LEASE GRANT 5000 ID 9 | KV LEASE KEEPALIVE 9 | KV LEASE KEEPALIVE 1
KV LEASE REVOKE 9 | KV LEASE REVOKE 1 | KV LEASE TTL 9 KEYS | KV LEASE TTL 1 | KV LEASE LIST
KV LEASE ATTACH 9 s n none | KV LEASE DETACH held s | KV SET s w LEASE 9 | KV SET q w LEASE 1
KV SET s w LEASE 9 NX GET | KV TXN 0 2 6 KV|LEASE GRANT 5000 ID 7 6 KV|SET q w LEASE 7 0
"""


_SCRIPTS = {
    Lock.LUA_RELEASE_SCRIPT: [],
    Lock.LUA_EXTEND_SCRIPT: ["5000", "0"],
    Lock.LUA_REACQUIRE_SCRIPT: ["5000"],
}


def sessions_of(store: KvStore) -> dict[int, Session]:
    return store._keyspace.sessions.by_id


def requests(text: str) -> list[list[str]]:
    lines = text.strip().replace("\n", " | ").split(" | ")
    return [line.replace("KV|", "KV ").split() for line in lines]


def all_writes() -> list[list[str]]:
    """Return the words of those above, and of the scripts that are commands here."""
    writes = requests(WRITES)
    for script, words in _SCRIPTS.items():
        digest = hashlib.sha1(script.encode()).hexdigest()
        for token in ("1.5", "other"):
            writes.append(["EVALSHA", digest, "1", "f", token, *words])
        writes.append(["EVAL", script, "1", "f", "1.5", *words])
    return writes


@pytest.mark.parametrize("words", all_writes(), ids=lambda words: " ".join(words)[:60])
@pytest.mark.parametrize("protocol", ["2", "3"])
def test_a_write_has_the_same_result_with_a_number(words: list[str], protocol: str) -> None:
    replies: list[object] = []
    for head in ([], ["KV", "ONCE", "1", "1", "1"]):
        node = Node()
        client = node.client()
        client.ask(encode("HELLO", protocol))
        client.ask("KV SESSION OPEN")
        for request in requests(FILLED):
            client.ask(encode(*request))
        replies.append(client.ask(encode(*head, *words)))
        if head:
            assert client.ask(encode(*head, *words)) == replies[-1]
            assert client.ask("KV OUTCOME 1 1") == [b"applied", replies[-1]]
            answers = sessions_of(node.shared.store)[1].answers
            assert sessions_of(reload(node.shared.store))[1].answers == answers
    assert str(replies[0]) == str(replies[1])
    assert "internal error" not in str(replies[1])


def test_the_list_has_every_write() -> None:
    table = standard_commands()
    listed = {table.resolve([word.encode() for word in words]).name for words in all_writes()}
    ours = {"kv|once", "kv|outcome", "kv|session"}
    writes = [spec for spec in table.all() if spec.kind == Kind.WRITE and not spec.subcommands]
    assert listed == {spec.name for spec in writes} - ours


def test_the_commands() -> None:
    client = Node().client()
    assert client.ask("KV SESSION OPEN") == 1
    assert client.ask("kv session open ttl 5000") == 2
    assert client.ask("KV ONCE 1 1 1 INCR n") == 1
    assert client.ask("kv once 1 1 1 incr n") == 1
    assert client.ask("KV ONCE 1 2 2 KV EXEC 0 2 2 INCR n 2 GET n") == [2, b"2"]
    assert client.ask("KV ONCE 1 2 2 KV EXEC 0 2 2 INCR n 2 GET n") == [2, b"2"]
    assert client.ask("KV ONCE 1 3 3 LPUSH n a").startswith("WRONGTYPE")
    assert client.ask("KV ONCE 1 1 1 INCR n") == EXPIRED
    assert client.ask("KV OUTCOME 1 2") == EXPIRED
    applied, error = client.ask("KV OUTCOME 1 3")
    assert (applied, str(error)[:9]) == (b"applied", "WRONGTYPE")
    assert client.ask("KV OUTCOME 1 4") == [b"fenced"]
    assert client.ask("KV ONCE 1 4 3 INCR n") == "NOTAPPLIED fenced"
    assert client.ask("KV SESSION LIST") == [1, 2]
    assert client.ask("KV SESSION KEEPALIVE 2") == 1
    assert client.ask("KV SESSION CLOSE 2") == 1
    assert client.ask("KV SESSION KEEPALIVE 2") == 0
    assert client.ask("KV SESSION INFO 2") is None
    info = client.ask("KV SESSION INFO 1")
    assert dict(zip(info[::2], info[1::2], strict=True)) == {
        b"id": 1,
        b"ttl_ms": 60_000,
        b"remaining_ms": 60_000,
        b"lowest": 3,
        b"results": 1,
        b"fenced": 1,
        b"bytes": 193,
    }
    assert any("ONCE <session>" in str(line) for line in client.ask("KV HELP"))


def test_a_script_is_executed_once_by_its_text_and_by_its_digest() -> None:
    client = Node().client()
    client.ask("KV SESSION OPEN")
    client.ask("SET k token")
    script = ["EVAL", Lock.LUA_RELEASE_SCRIPT, "1", "k", "token"]
    for _ in range(2):
        assert client.ask(encode("KV", "ONCE", "1", "1", "1", *script)) == 1
    assert client.ask(encode("KV", "ONCE", "1", "2", "2", *script)) == 0
    refused = client.ask(encode("KV", "ONCE", "1", "3", "3", "EVAL", "return 1", "0"))
    assert refused == REFUSED
    assert client.ask("KV OUTCOME 1 3") == [b"fenced"]


def test_a_result_does_not_depend_on_the_protocol_of_the_copy_before() -> None:
    node = Node()
    old, new = node.client(), node.client()
    new.send("HELLO 3")
    new.replies()
    assert old.ask("KV SESSION OPEN") == 1
    old.ask("KV EXEC 0 1 6 HSET h a 1 b 2")
    once = "KV ONCE 1 1 1 KV EXEC 0 1 2 HGETALL h"
    assert old.ask(once) == [[b"a", b"1", b"b", b"2"]]
    assert new.ask(once) == [{b"a": b"1", b"b": b"2"}]
    assert new.ask("KV OUTCOME 1 1") == [b"applied", [{b"a": b"1", b"b": b"2"}]]


def test_they_are_not_queued_in_multi() -> None:
    client = Node().client()
    for line in ("KV SESSION LIST", "KV ONCE 1 1 1 INCR n", "KV OUTCOME 1 1"):
        assert client.ask("MULTI") == b"OK"
        assert client.ask(line) == "ERR Command not allowed inside a transaction"
        assert client.ask("EXEC").startswith("EXECABORT")
    reply = client.ask("KV EXEC 0 1 7 KV ONCE 1 1 1 INCR n")
    assert reply == "ERR Command not allowed inside a transaction"


def test_a_pipeline_of_them_is_one_run_of_the_log() -> None:
    node = Node()
    client = node.client()
    client.ask("KV SESSION OPEN")
    client.send(pipeline("KV ONCE 1 1 1 INCR n", "KV ONCE 1 2 1 INCR n", "GET n", "INCR n"))
    node.replica.turn()
    assert client.replies() == [1, 2, b"2", 3]
    assert [name for name, _ in node.replica.asked] == ["propose", "propose"]


class TestWays:
    def test_a_follower_redirects(self) -> None:
        client = Cluster()["n2"].client()
        for line in ("KV ONCE 1 1 1 INCR n", "KV OUTCOME 1 1", "KV SESSION OPEN"):
            client.send(line)
            assert client.replies() == ["MOVED 0 127.0.0.1:7001"]

    def test_a_follower_forwards_in_proxy_routing(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        for line, reply in (("KV SESSION OPEN", 1), ("KV ONCE 1 1 1 INCR n", 1)):
            client.send(line)
            cluster.turn()
            assert client.replies() == [reply]
        other = cluster["n3"].client()
        other.send(pipeline("KV ONCE 1 1 1 INCR n", "KV OUTCOME 1 1"))
        cluster.turn()
        assert other.replies() == [1, [b"applied", 1]]

    def test_a_lost_forward_is_unknown_and_can_be_asked_about(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n2"].client()
        client.send("KV SESSION OPEN")
        cluster.turn()
        assert client.replies() == [1]
        cluster["n2"].network.is_holding = True
        client.send(pipeline("KV ONCE 1 1 1 INCR n", "GET n"))
        cluster["n2"].wait(5000)
        assert client.replies() == ["UNKNOWN timeout", "NOTAPPLIED timeout"]
        leader = cluster["n1"].client()
        assert leader.ask("KV OUTCOME 1 1") == [b"fenced"]
        cluster["n2"].network.deliver()
        cluster.turn()
        assert leader.ask("GET n") is None

    @pytest.mark.parametrize("failure", [TIMEOUT, DISCARDED])
    def test_what_failed_is_told_as_of_any_write(self, failure: object) -> None:
        node = Node()
        client = node.client()
        client.send("KV ONCE 1 1 1 INCR n")
        node.replica.fail_all(failure)  # type: ignore[arg-type]
        (reply,) = client.replies()
        word = "NOTAPPLIED" if failure.definite else "UNKNOWN"  # type: ignore[attr-defined]
        assert reply == f"{word} {failure.reason}"  # type: ignore[attr-defined]

    def test_what_was_not_proposed_finds_its_way_anew(self) -> None:
        cluster = Cluster(on_follower="proxy")
        client = cluster["n1"].client()
        client.ask("KV SESSION OPEN")
        client.send("KV ONCE 1 1 1 INCR n")
        cluster.lead("n3")
        cluster["n1"].replica.fail_all(NOT_LEADER)
        cluster.turn()
        assert client.replies() == [1]

    def test_without_a_leader_they_are_held_and_refused_definitely(self) -> None:
        node = Node(leader=None)
        client = node.client()
        client.send("KV ONCE 1 1 1 INCR n")
        assert client.replies() == []
        node.wait(2001)
        assert client.replies() == ["CLUSTERDOWN no leader elected"]

    @pytest.mark.parametrize("level", ["stale", "lease", "bounded"])
    def test_read_levels_do_not_concern_them(self, level: str) -> None:
        client = Cluster(level=level)["n2"].client()
        client.send("KV SESSION LIST")
        assert client.replies() == ["MOVED 0 127.0.0.1:7001"]

"""What each builder sends and what it makes of a reply."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.client import collection_commands, commands, lease_commands, revision_commands
from raftkv.client.async_client import AsyncClient, AsyncPipeline
from raftkv.client.calls import Call
from raftkv.client.sync_client import Client, Pipeline
from raftkv.errors import CommandError, ProtocolError

b, c, d, r = commands, collection_commands, lease_commands, revision_commands
# Builder, what is sent, a reply, the result.
TABLE: list[tuple[Call[Any], str, Any, Any]] = [
    (b.build_execute("LCS", b"a", 1), "LCS a 1", b"x", b"x"),
    (c.build_hset("k", {"f": 1, b"g": b"2"}), "HSET k f 1 g 2", 2, 2),
    (c.build_hsetnx("k", "f", 1), "HSETNX k f 1", 0, False),
    (c.build_hget("k", "f"), "HGET k f", None, None),
    (c.build_hmget("k", "f", "g"), "HMGET k f g", [b"v", None], [b"v", None]),
    (c.build_hgetall("k"), "HGETALL k", {b"f": b"v"}, {b"f": b"v"}),
    (c.build_hgetall("k"), "HGETALL k", [b"f", b"v"], {b"f": b"v"}),
    (c.build_hdel("k", "f"), "HDEL k f", 1, 1),
    (c.build_hexists("k", "f"), "HEXISTS k f", 1, True),
    (c.build_hlen("k"), "HLEN k", 3, 3),
    (c.build_hkeys("k"), "HKEYS k", [b"f"], [b"f"]),
    (c.build_hvals("k"), "HVALS k", [b"v"], [b"v"]),
    (c.build_hincrby("k", "f", 2), "HINCRBY k f 2", 5, 5),
    (c.build_hincrbyfloat("k", "f", 0.5), "HINCRBYFLOAT k f 0.5", b"1.5", 1.5),
    (c.build_hscan("k", match="a*"), "HSCAN k 0 MATCH a*", [b"7", [b"f", b"v"]], (7, {b"f": b"v"})),
    (c.build_lpush("k", "a", 2), "LPUSH k a 2", 2, 2),
    (c.build_rpush("k", "a"), "RPUSH k a", 1, 1),
    (c.build_lpop("k"), "LPOP k", b"a", b"a"),
    (c.build_rpop("k"), "RPOP k", None, None),
    (c.build_llen("k"), "LLEN k", 2, 2),
    (c.build_lrange("k"), "LRANGE k 0 -1", [b"a"], [b"a"]),
    (c.build_lindex("k", -1), "LINDEX k -1", b"a", b"a"),
    (c.build_lset("k", 0, "b"), "LSET k 0 b", b"OK", None),
    (c.build_lrem("k", 0, "a"), "LREM k 0 a", 1, 1),
    (c.build_ltrim("k", 0, 9), "LTRIM k 0 9", b"OK", None),
    (c.build_lmove("k", "l"), "LMOVE k l LEFT RIGHT", b"a", b"a"),
    (c.build_lpos("k", "a"), "LPOS k a", None, None),
    (c.build_sadd("k", "a", "b"), "SADD k a b", 2, 2),
    (c.build_srem("k", "a"), "SREM k a", 1, 1),
    (c.build_sismember("k", "a"), "SISMEMBER k a", 1, True),
    (c.build_smismember("k", "a", "b"), "SMISMEMBER k a b", [1, 0], [True, False]),
    (c.build_smembers("k"), "SMEMBERS k", [b"a", b"b"], {b"a", b"b"}),
    (c.build_scard("k"), "SCARD k", 2, 2),
    (c.build_spop("k"), "SPOP k", b"a", b"a"),
    (c.build_srandmember("k"), "SRANDMEMBER k", None, None),
    (c.build_smove("k", "l", "a"), "SMOVE k l a", 1, True),
    (c.build_sinter("k", "l"), "SINTER k l", [b"a"], {b"a"}),
    (c.build_sunion("k"), "SUNION k", [], set()),
    (c.build_sdiff("k", "l"), "SDIFF k l", [b"a"], {b"a"}),
    (c.build_sscan("k", 3, count=9), "SSCAN k 3 COUNT 9", [b"0", [b"a"]], (0, [b"a"])),
    (c.build_zadd("k", {"a": 1.5}, nx=True, ch=True), "ZADD k NX CH 1.5 a", 1, 1),
    (c.build_zincrby("k", 2, "a"), "ZINCRBY k 2 a", 3.5, 3.5),
    (c.build_zrem("k", "a"), "ZREM k a", 1, 1),
    (c.build_zscore("k", "a"), "ZSCORE k a", b"1.5", 1.5),
    (c.build_zmscore("k", "a", "b"), "ZMSCORE k a b", [1.5, None], [1.5, None]),
    (c.build_zcard("k"), "ZCARD k", 2, 2),
    (c.build_zcount("k", 1, "(2"), "ZCOUNT k 1 (2", 1, 1),
    (c.build_zrank("k", "a"), "ZRANK k a", 0, 0),
    (c.build_zrange("k", 0, -1), "ZRANGE k 0 -1 WITHSCORES", [[b"a", 1.0]], [(b"a", 1.0)]),
    (
        c.build_zrange("k", 9, 1, by="BYSCORE", rev=True),
        "ZRANGE k 9 1 BYSCORE REV WITHSCORES",
        [b"a", b"1"],
        [(b"a", 1.0)],
    ),
    (c.build_blpop("k", "l", timeout_s=1), "BLPOP k l 1.000", [b"l", b"a"], (b"l", b"a")),
    (c.build_brpop("k", timeout_s=1e-9), "BRPOP k 0.001", None, None),
    (c.build_blmove("k", "l", timeout_s=2.5), "BLMOVE k l LEFT RIGHT 2.500", b"a", b"a"),
    (c.build_bzpopmin("k", timeout_s=1), "BZPOPMIN k 1.000", [b"k", b"a", 1], (b"k", b"a", 1.0)),
    (c.build_bzpopmax("k", timeout_s=1), "BZPOPMAX k 1.000", None, None),
    (c.build_zpopmin("k"), "ZPOPMIN k 1", [[b"a", 1.0]], [(b"a", 1.0)]),
    (c.build_zpopmax("k", 2), "ZPOPMAX k 2", [], []),
    (c.build_zremrangebyscore("k", 1, 2), "ZREMRANGEBYSCORE k 1 2", 1, 1),
    (c.build_zscan("k"), "ZSCAN k 0", [b"0", [b"a", b"1.5"]], (0, [(b"a", 1.5)])),
    (c.build_setbit("k", 7, 1), "SETBIT k 7 1", 0, 0),
    (c.build_getbit("k", 7), "GETBIT k 7", 1, 1),
    (c.build_bitcount("k"), "BITCOUNT k", 1, 1),
    (d.build_lease_grant(1000), "KV LEASE GRANT 1000", 7, 7),
    (d.build_lease_grant(1000, lease_id=7), "KV LEASE GRANT 1000 ID 7", 7, 7),
    (d.build_lease_keepalive(7), "KV LEASE KEEPALIVE 7", 1000, 1000),
    (d.build_lease_revoke(7), "KV LEASE REVOKE 7", 2, 2),
    (d.build_lease_ttl(7), "KV LEASE TTL 7", None, None),
    (d.build_lease_ttl(7), "KV LEASE TTL 7", [b"id", 7], {"id": 7}),
    (d.build_lease_ttl(7, keys=True), "KV LEASE TTL 7 KEYS", {b"keys": [b"k"]}, {"keys": [b"k"]}),
    (d.build_lease_list(), "KV LEASE LIST", [7], [7]),
    (d.build_lease_list(after=7, count=2), "KV LEASE LIST AFTER 7 COUNT 2", [], []),
    (d.build_lease_attach(7, "k", "l"), "KV LEASE ATTACH 7 k l", 2, 2),
    (d.build_lease_detach("k"), "KV LEASE DETACH k", 1, 1),
    (
        d.decide([("k", "CREATE", "=", 0)], [["GET", "k"]]),
        "KV TXN 1 k CREATE = 0 1 2 GET k 0",
        [1, [None], 5],
        d.Decided(holds=True, replies=[None], revision=5),
    ),
    (b.build_set("k", 1, lease=7, nx=True), "KV SET k 1 LEASE 7 NX", None, False),
    (b.build_set("k", 1), "SET k 1", b"OK", True),
    (b.build_set("k", 1.5, ex=9, nx=True), "SET k 1.5 EX 9 NX", None, False),
    (b.build_set("k", "v", px=9, xx=True), "SET k v PX 9 XX", b"OK", True),
    (b.build_set("k", "v", exat=9), "SET k v EXAT 9", b"OK", True),
    (b.build_set("k", "v", pxat=9, keepttl=True), "SET k v PXAT 9 KEEPTTL", b"OK", True),
    (b.build_set_get("k", "v", nx=True), "SET k v NX GET", b"old", b"old"),
    (b.build_get("k"), "GET k", None, None),
    (b.build_getdel("k"), "GETDEL k", b"v", b"v"),
    (b.build_getex("k", ex=1), "GETEX k EX 1", b"v", b"v"),
    (b.build_getex("k", persist=True), "GETEX k PERSIST", b"v", b"v"),
    (b.build_getset("k", "v"), "GETSET k v", None, None),
    (b.build_setnx("k", "v"), "SETNX k v", 1, True),
    (b.build_setex("k", 5, "v"), "SETEX k 5 v", b"OK", None),
    (b.build_psetex("k", 5, "v"), "PSETEX k 5 v", b"OK", None),
    (b.build_mget("k", "l"), "MGET k l", [b"v", None], [b"v", None]),
    (b.build_mset({"k": 1, b"l": b"2"}), "MSET k 1 l 2", b"OK", None),
    (b.build_msetnx({"k": 1}), "MSETNX k 1", 0, False),
    (b.build_strlen("k"), "STRLEN k", 3, 3),
    (b.build_append("k", "v"), "APPEND k v", 3, 3),
    (b.build_getrange("k", 0, -1), "GETRANGE k 0 -1", b"v", b"v"),
    (b.build_substr("k", 0, -1), "SUBSTR k 0 -1", b"v", b"v"),
    (b.build_setrange("k", 4, "v"), "SETRANGE k 4 v", 5, 5),
    (b.build_incr("k"), "INCR k", 1, 1),
    (b.build_incr("k", 5), "INCRBY k 5", 6, 6),
    (b.build_decr("k"), "DECR k", 0, 0),
    (b.build_decr("k", 5), "DECRBY k 5", -5, -5),
    (b.build_incrby("k", 5), "INCRBY k 5", 5, 5),
    (b.build_decrby("k", 5), "DECRBY k 5", 5, 5),
    (b.build_incrbyfloat("k", 0.5), "INCRBYFLOAT k 0.5", b"1.5", 1.5),
    (b.build_delete("k", "l"), "DEL k l", 2, 2),
    (b.build_set("k", "v", ifeq=1), "SET k v IFEQ 1", None, False),
    (b.build_set_get("k", "v", ifne="w", keepttl=True), "SET k v KEEPTTL IFNE w GET", b"o", b"o"),
    (b.build_delex("k"), "DELEX k", 1, True),
    (b.build_delex("k", ifne="v"), "DELEX k IFNE v", 0, False),
    (b.build_unlink("k"), "UNLINK k", 1, 1),
    (b.build_exists("k", "k"), "EXISTS k k", 2, 2),
    (b.build_touch("k"), "TOUCH k", 1, 1),
    (b.build_expire("k", 5), "EXPIRE k 5", 1, True),
    (b.build_expire("k", 5, nx=True), "EXPIRE k 5 NX", 0, False),
    (b.build_pexpire("k", 5, xx=True), "PEXPIRE k 5 XX", 1, True),
    (b.build_expireat("k", 5, gt=True), "EXPIREAT k 5 GT", 1, True),
    (b.build_pexpireat("k", 5, lt=True), "PEXPIREAT k 5 LT", 1, True),
    (b.build_ttl("k"), "TTL k", -1, -1),
    (b.build_pttl("k"), "PTTL k", 5, 5),
    (b.build_expiretime("k"), "EXPIRETIME k", -2, -2),
    (b.build_pexpiretime("k"), "PEXPIRETIME k", 5, 5),
    (b.build_persist("k"), "PERSIST k", 1, True),
    (b.build_type("k"), "TYPE k", b"string", "string"),
    (b.build_keys(), "KEYS *", [b"k"], [b"k"]),
    (b.build_scan(), "SCAN 0", [b"12", [b"k"]], (12, [b"k"])),
    (
        b.build_scan(3, match="k*", count=5, kind="string"),
        "SCAN 3 MATCH k* COUNT 5 TYPE string",
        [b"0", []],
        (0, []),
    ),
    (b.build_randomkey(), "RANDOMKEY", None, None),
    (r.build_get_revision("k"), "KV GET k", None, None),
    (
        r.build_get_revision("k", 7),
        "KV GET k REV 7",
        [b"value", b"v", b"create_revision", 1, b"type", b"string"],
        {"value": b"v", "create_revision": 1, "type": "string"},
    ),
    (
        r.build_range_page("a", "b", limit=2, resume=b"a2", revision=7, keys_only=True),
        "KV RANGE a b FROM a2 LIMIT 2 REV 7 KEYSONLY",
        {b"revision": 7, b"more": 1, b"next": b"a4", b"items": [b"a2", b"a3"]},
        {"revision": 7, "next": b"a4", "items": [b"a2", b"a3"]},
    ),
    (
        r.build_range_page(prefix="a"),
        "KV RANGE PREFIX a",
        [b"revision", 7, b"more", 0, b"next", None, b"items", [[b"a", b"v", 1, 2, 2]]],
        {
            "revision": 7,
            "next": None,
            "items": [
                {
                    "key": b"a",
                    "value": b"v",
                    "create_revision": 1,
                    "modify_revision": 2,
                    "version": 2,
                }
            ],
        },
    ),
    (r.build_range_count("Prefix", "q"), "KV RANGE  q FROM Prefix COUNT", 3, 3),
    (r.build_range_count(prefix="p", revision=3), "KV RANGE PREFIX p COUNT REV 3", 3, 3),
    (r.build_history(), "KV HISTORY", [b"newest", 4, b"oldest", 1], {"newest": 4, "oldest": 1}),
    (b.build_rename("k", "l"), "RENAME k l", b"OK", None),
    (b.build_renamenx("k", "l"), "RENAMENX k l", 1, True),
    (b.build_copy("k", "l"), "COPY k l", 1, True),
    (b.build_copy("k", "l", replace=True), "COPY k l REPLACE", 0, False),
    (b.build_dbsize(), "DBSIZE", 4, 4),
    (b.build_staleness(), "RAFT STALENESS", 12, 12),
    (b.build_staleness(), "RAFT STALENESS", None, None),
    (b.build_flushdb(), "FLUSHDB", b"OK", None),
    (b.build_flushall(), "FLUSHALL", b"OK", None),
    (b.build_ping(), "PING", b"PONG", b"PONG"),
    (b.build_ping("x"), "PING x", b"x", b"x"),
    (b.build_echo("x"), "ECHO x", b"x", b"x"),
    (b.build_time(), "TIME", [b"10", b"500000"], 10.5),
    (b.build_info(), "INFO", b"# A\r\na:1:2\r\n\r\nb:\r\n", {"a": "1:2", "b": ""}),
    (b.build_info("raft"), "INFO raft", b"", {}),
]
ALL_BUILDERS = {
    name.removeprefix("build_"): build
    for module in (commands, collection_commands, lease_commands, revision_commands)
    for name, build in vars(module).items()
    if name.startswith("build_")
}
BUILDERS = set(ALL_BUILDERS)


@pytest.mark.parametrize(
    ("call", "sent", "reply", "result"), TABLE, ids=lambda value: str(value)[:40]
)
def test_a_builder(call: Call[Any], sent: str, reply: Any, result: Any) -> None:
    assert b" ".join(call.request.arguments).decode() == sent
    assert call.result(reply) == result


def test_every_builder_is_in_the_table() -> None:
    sent = set()
    for call, *_ in TABLE:
        words = [word.decode().lower() for word in call.request.arguments]
        sent.add("_".join(words[1:3]) if words[:2] == ["kv", "lease"] else words[0])
    # Also an option of SET, and what recipes decide by.
    renamed = {"delete": "del", "set_get": "set", "execute": "lcs", "staleness": "raft"}
    renamed |= dict.fromkeys(("get_revision", "range_page", "range_count", "history"), "kv")
    assert {renamed.get(name, name) for name in BUILDERS} == sent


@pytest.mark.parametrize("shell", [Client, AsyncClient, Pipeline, AsyncPipeline])
def test_every_builder_is_a_documented_method_of_every_shell(shell: type) -> None:
    for name in BUILDERS - {"execute"}:
        method = getattr(shell, name)
        assert method.__name__ == name
        assert method.__doc__ == ALL_BUILDERS[name].__doc__


@pytest.mark.parametrize("name", ["SET", "INCR", "GETDEL", "UNHEARD", "RAFT", "FLUSHALL"])
def test_whatever_is_not_known_to_read_counts_as_a_write(name: str) -> None:
    assert not b.build_execute(name, "a").request.reads


def test_getex_reads_without_options_only() -> None:
    assert b.build_execute("GETEX", "a").request.reads
    assert not b.build_execute("GETEX", "a", "PERSIST").request.reads


@pytest.mark.parametrize(
    ("subcommand", "reads"),
    [
        ("get", True),
        ("range", True),
        ("HISTORY", True),
        ("REVISIONS", True),
        ("TXN", False),
        ("EXEC", False),
    ],
)
def test_what_of_kv_reads(subcommand: str, reads: bool) -> None:
    assert b.build_execute("kv", subcommand, "a").request.reads is reads


@pytest.mark.parametrize(
    ("words", "once", "repeats"),
    [
        ("lease grant 1000", True, False),
        ("LEASE REVOKE 7", True, False),
        ("LEASE ATTACH 7 k", True, False),
        ("LEASE DETACH k", True, False),
        ("LEASE KEEPALIVE 7", False, True),
        ("LEASE TTL 7", False, True),
        ("LEASE LIST", False, True),
        ("LEASE", False, False),
        ("SET k v LEASE 7", True, False),
    ],
)
def test_what_of_leases_is_executed_once_and_what_is_sent_again(
    words: str, once: bool, repeats: bool
) -> None:
    request = b.build_execute("KV", *words.split()).request
    assert (request.once, request.repeats, request.reads) == (once, repeats, False)


@pytest.mark.parametrize("name", ["get", "MGET", "Scan", "PING"])
def test_reads_are_known_in_any_case(name: str) -> None:
    assert b.build_execute(name, "a").request.reads


@pytest.mark.parametrize(
    ("call", "reply"),
    [
        (b.build_get("k"), 5), (b.build_incr("k"), b"x"), (b.build_keys(), b"x"),
        (b.build_mget("k"), 1), (b.build_scan(), []), (b.build_setnx("k", "v"), None),
    ],
)  # fmt: skip
def test_a_reply_of_another_kind_is_refused(call: Call[Any], reply: Any) -> None:
    with pytest.raises(ProtocolError):
        call.result(reply)


def test_an_error_is_raised_and_text_decoded_on_demand() -> None:
    with pytest.raises(CommandError):
        b.build_get("k").result(CommandError("ERR x"))
    nested = b.build_execute("X").result([b"a", {b"b": [b"\xff"]}, 1], decode=True)
    assert nested == ["a", {"b": ["\udcff"]}, 1]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (("BLPOP", "a", "b", "2.5"), 2.5),
        (("bzmpop", "3", "1", "k", "MIN"), 3.0),
        (("BLPOP", "a", "0"), 0.0),
        (("BLPOP", "a", "inf"), 0.0),
        (("BLPOP", "a", "text"), 0.0),
        (("BLPOP",), 0.0),
        (("LPOP", "a", "5"), 0.0),
    ],
)
def test_a_wait_comes_on_top_of_the_deadline(words: tuple[str, ...], seconds: float) -> None:
    assert b.build_execute(*words).request.waits_s == seconds


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_wait_without_an_end_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_s"):
        c.build_blpop("k", timeout_s=seconds)

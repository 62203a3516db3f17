"""What each builder sends and what it makes of a reply."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.client import commands
from raftkv.client.async_client import AsyncClient, AsyncPipeline
from raftkv.client.calls import Call
from raftkv.client.sync_client import Client, Pipeline
from raftkv.errors import CommandError, ProtocolError

b = commands
# Builder, what is sent, a reply, the result.
TABLE: list[tuple[Call[Any], str, Any, Any]] = [
    (b.build_execute("LCS", b"a", 1), "LCS a 1", b"x", b"x"),
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
    (b.build_rename("k", "l"), "RENAME k l", b"OK", None),
    (b.build_renamenx("k", "l"), "RENAMENX k l", 1, True),
    (b.build_copy("k", "l"), "COPY k l", 1, True),
    (b.build_copy("k", "l", replace=True), "COPY k l REPLACE", 0, False),
    (b.build_dbsize(), "DBSIZE", 4, 4),
    (b.build_flushdb(), "FLUSHDB", b"OK", None),
    (b.build_flushall(), "FLUSHALL", b"OK", None),
    (b.build_ping(), "PING", b"PONG", b"PONG"),
    (b.build_ping("x"), "PING x", b"x", b"x"),
    (b.build_echo("x"), "ECHO x", b"x", b"x"),
    (b.build_time(), "TIME", [b"10", b"500000"], 10.5),
    (b.build_info(), "INFO", b"# A\r\na:1:2\r\n\r\nb:\r\n", {"a": "1:2", "b": ""}),
    (b.build_info("raft"), "INFO raft", b"", {}),
]
BUILDERS = {name.removeprefix("build_") for name in vars(commands) if name.startswith("build_")}


@pytest.mark.parametrize(
    ("call", "sent", "reply", "result"), TABLE, ids=lambda value: str(value)[:40]
)
def test_a_builder(call: Call[Any], sent: str, reply: Any, result: Any) -> None:
    assert b" ".join(call.request.arguments).decode() == sent
    assert call.result(reply) == result


def test_every_builder_is_in_the_table() -> None:
    sent = {call.request.arguments[0].decode().lower() for call, *_ in TABLE}
    renamed = {"delete": "del", "set_get": "set", "execute": "lcs"}
    assert {renamed.get(name, name) for name in BUILDERS} == sent


@pytest.mark.parametrize("shell", [Client, AsyncClient, Pipeline, AsyncPipeline])
def test_every_builder_is_a_documented_method_of_every_shell(shell: type) -> None:
    for name in BUILDERS - {"execute"}:
        method = getattr(shell, name)
        assert method.__name__ == name
        assert method.__doc__ == getattr(commands, f"build_{name}").__doc__


@pytest.mark.parametrize("name", ["SET", "INCR", "GETEX", "GETDEL", "UNHEARD", "RAFT", "FLUSHALL"])
def test_whatever_is_not_known_to_read_counts_as_a_write(name: str) -> None:
    assert not b.build_execute(name, "a").request.reads


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

"""The command table against a real redis-server, and against the store's own lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import is_sliced, is_write
from raftkv.server.command_set import HANDLERS, PARSERS, standard_commands
from raftkv.server.command_table import CommandSpec, Kind
from tests.differential.redis_process import Failed, RedisConnection, running_redis
from tests.unit.server.harness import Node, encode

TABLE = standard_commands()
ALL = {spec.name: spec for spec in TABLE.all()}
# What a redis-server 7.0 outside of Sentinel mode does not have.
OURS = {name for name in ALL if name.split("|")[0] in ("raft", "sentinel", "kv")} | {
    "client|no-touch",
    "client|setinfo",
    "delex",
}


@pytest.fixture(scope="module")
def redis(redis_server: str) -> Iterator[RedisConnection]:
    with running_redis(redis_server) as connection:
        yield connection


def words(values: list[Any]) -> set[str]:
    return {getattr(value, "text", None) or value.decode() for value in values}


@pytest.mark.parametrize("name", sorted(set(ALL) - OURS))
def test_arity_flags_and_key_positions_are_those_of_redis(
    name: str, redis: RedisConnection
) -> None:
    (theirs,) = redis.call(b"COMMAND", b"INFO", name.encode())
    spec = ALL[name]
    assert theirs is not None
    assert spec.arity == theirs[1]
    assert set(spec.flags) == words(theirs[2])
    assert [spec.first_key, spec.last_key, spec.key_step] == theirs[3:6]
    if len(theirs[8]) == 1:
        specification = dict(zip(theirs[8][0][::2], theirs[8][0][1::2], strict=True))
        assert set(spec.key_flags) == words(specification[b"flags"])


REQUESTS = {
    "SET": ["SET k v", "SET k v EX 5 NX", "SET k v IFEQ w"],
    "GETEX": ["GETEX k", "GETEX k PERSIST"],
    "SCAN": ["SCAN 0", "SCAN 0 MATCH a* COUNT 5"],
    "COPY": ["COPY a b", "COPY a b REPLACE"],
    "FLUSHALL": ["FLUSHALL", "FLUSHALL ASYNC"],
    "FLUSHDB": ["FLUSHDB"],
    "MEMORY|USAGE": ["MEMORY USAGE k"],
    "EXPIRE": ["EXPIRE k 5 NX"],
    "HSET": ["HSET k f v", "HSET k f v g w"],
    "HMSET": ["HMSET k f v"],
    "SORT": ["SORT k", "SORT k BY w* LIMIT 0 5 GET # GET v* DESC ALPHA STORE t"],
    "SORT_RO": ["SORT_RO k", "SORT_RO k ALPHA"],
    "LMPOP": ["LMPOP 2 a b LEFT", "LMPOP 1 a RIGHT COUNT 2"],
    "LMOVE": ["LMOVE a b LEFT RIGHT"],
    # With timeouts that a test can wait for.
    **{name: [f"{name} a b 0.001"] for name in ("BLPOP", "BRPOP", "BZPOPMIN", "BZPOPMAX")},
    "BRPOPLPUSH": ["BRPOPLPUSH a b 1e-3"],
    "BLMPOP": ["BLMPOP 0.001 2 a b LEFT", "BLMPOP 0.001 1 a RIGHT COUNT 2"],
    "BLMOVE": ["BLMOVE a b LEFT RIGHT 0.001"],
    "BZMPOP": ["BZMPOP 0.001 2 a b MIN", "BZMPOP 0.001 1 a MAX COUNT 2"],
    "LINSERT": ["LINSERT k BEFORE a b"],
    "ZMPOP": ["ZMPOP 2 a b MIN", "ZMPOP 1 a MAX COUNT 2"],
    "ZRANGEBYLEX": ["ZRANGEBYLEX k - +"],
    "ZREVRANGEBYLEX": ["ZREVRANGEBYLEX k + -"],
    "ZLEXCOUNT": ["ZLEXCOUNT k - +"],
    "ZREMRANGEBYLEX": ["ZREMRANGEBYLEX k - +"],
    "ZADD": ["ZADD k 1 a", "ZADD k NX CH 1 a 2 b"],
    **{f"Z{name}": [f"Z{name} 2 a b"] for name in ("UNION", "INTER", "DIFF", "INTERCARD")},
    **{f"Z{name}STORE": [f"Z{name}STORE t 2 a b"] for name in ("UNION", "INTER", "DIFF")},
    "SETBIT": ["SETBIT k 7 1"],
    "BITPOS": ["BITPOS k 1"],
    "BITOP": ["BITOP AND t a b"],
    "BITFIELD": ["BITFIELD k GET u8 0 SET i8 #1 5"],
    "BITFIELD_RO": ["BITFIELD_RO k GET u8 0"],
    "DELEX": ["DELEX k", "DELEX k IFEQ v", "DELEX k IFNE v"],
    "KV|RANGE": ["KV RANGE a b", "KV RANGE PREFIX a LIMIT 5 REV 3 KEYSONLY"],
    "KV|EXEC": ["KV EXEC 0 0", "KV EXEC 1 k 7 2 3 SET k v 2 GET k"],
    "KV|TXN": ["KV TXN 0 0 0", "KV TXN 1 k VALUE = v 1 2 GET k 1 3 SET k v"],
    "KV|LEASE": ["KV LEASE GRANT 1000", "KV LEASE TTL 7 KEYS", "KV LEASE ATTACH 7 a b"],
    "KV|SET": ["KV SET k v LEASE 7", "KV SET k v LEASE 7 EX 5 NX", "KV SET k v LEASE 7 IFEQ w"],
    "EVAL": [],
    "EVALSHA": ["EVALSHA c3f8721cbb97f72bc19e972846bd7aaf91901658 1 k token"],
    "KV|ONCE": ["KV ONCE 1 2 1 SET k v", "kv once 1 2 2 kv exec 0 1 2 incr k"],
    "KV|OUTCOME": ["KV OUTCOME 1 2"],
    "KV|SESSION": ["KV SESSION OPEN", "KV SESSION OPEN TTL 5000", "KV SESSION KEEPALIVE 1"],
    "SINTERCARD": ["SINTERCARD 2 a b", "SINTERCARD 1 a LIMIT 3"],
}


def request_for(spec: CommandSpec) -> list[list[bytes]]:
    """Well-formed requests of a command; numbers where numbers may be wanted."""
    name = spec.name.upper()
    if name in REQUESTS:
        return [line.encode().split() for line in REQUESTS[name]]
    parts = name.encode().split(b"|")
    number = b"12"
    return [parts + [b"k"] * bool(spec.low > len(parts)) + [number] * (spec.low - len(parts) - 1)]


PARSED = [spec for spec in TABLE.all() if hasattr(spec, "parse") and not spec.subcommands]


@pytest.mark.parametrize("spec", PARSED, ids=lambda spec: spec.name)
def test_the_kind_of_a_command_fits_what_its_parser_makes(spec: CommandSpec) -> None:
    for request in request_for(spec):
        command = spec.parse(request, Limits())
        if is_write(command):
            assert spec.kind == (Kind.BLOCKING if "blocking" in spec.flags else Kind.WRITE)
        elif is_sliced(command):
            assert spec.kind == Kind.SLICED
        else:
            # Without options these only read, and may go through the log.
            expected = {
                "getex": Kind.WRITE, "sort": Kind.WRITE, "scan": Kind.ALONE, "watch": Kind.WATCH,
            }.get(spec.name, Kind.READ)  # fmt: skip
            assert spec.kind == expected


def test_every_parser_and_handler_is_in_the_table() -> None:
    parsed = {
        spec.name.split("|")[0].upper().encode() for spec in TABLE.all() if hasattr(spec, "parse")
    }
    assert parsed == {*PARSERS, b"KV"}
    assert {name for name, spec in ALL.items() if hasattr(spec, "handle")} == set(HANDLERS)


def test_every_row_can_be_carried_out() -> None:
    for spec in TABLE.all():
        assert hasattr(spec, "parse") or hasattr(spec, "handle") or spec.subcommands, spec.name


WRONG = [
    "GET",
    "GET a b",
    "SET a",
    "FOO a b",
    "FOO",
    "CLIENT",
    "CLIENT FOO",
    "CLIENT GETNAME x",
    "CLIENT SETNAME",
    "COMMAND FOO",
    "COMMAND COUNT x",
    "COMMAND GETKEYS GET",
    "COMMAND GETKEYS PING a",
    "COMMAND GETKEYS NOPE a",
    "COMMAND GETKEYS GET a b",
    "COMMAND LIST x",
    "CONFIG FOO x",
    "CONFIG GET",
    "CONFIG SET maxclients",
    "CONFIG SET foo 1",
    "CONFIG SET maxclients abc",
    "OBJECT",
    "OBJECT FOO",
    "OBJECT ENCODING",
    "OBJECT ENCODING a b",
    "MEMORY FOO",
    "CLUSTER",
    "CLUSTER FOO x y",
    "HELLO 4",
    "HELLO x",
    "HELLO 3 FOO",
    "HELLO 3 AUTH a",
    "HELLO 2 AUTH a b",
    "AUTH a",
    "AUTH a b",
    "AUTH a b c",
    "SELECT x",
    "CLIENT SETNAME a\x01b",
    "CLIENT NO-EVICT x",
    "CLIENT KILL nope",
    "CLIENT KILL 1.2.3.4:1",
    "CLIENT KILL ID x",
    "CLIENT KILL ID 0",
    "CLIENT KILL FOO 1",
    "CLIENT KILL ID 99 SKIPME x",
    "CLIENT KILL TYPE x",
    "CLIENT LIST ID x",
    "CLIENT LIST TYPE x",
    "CLIENT LIST FOO",
    "PING a b",
    "ECHO",
    "TIME x",
    "READONLY x",
    "ROLE x",
    "RESET x",
    "MULTI x",
    "EXEC x",
    "EXEC",
    "DISCARD",
    "DISCARD x",
    "WATCH",
    "UNWATCH x",
    "EVAL",
    "EVAL x",
    "EVAL x y",
    "EVAL x -1",
    "EVAL x 2 a",
    "EVALSHA abc 0",
    "EVALSHA abc x",
    "SCRIPT",
    "SCRIPT FOO",
    "SCRIPT LOAD",
    "SCRIPT EXISTS",
    "SCRIPT FLUSH x",
    "SCRIPT FLUSH SYNC x",
]


@pytest.mark.parametrize("line", WRONG)
def test_errors_are_those_of_redis(line: str, redis: RedisConnection) -> None:
    theirs = redis.call(*line.encode().split(b" "))
    assert isinstance(theirs, Failed)
    client = Node().client()
    client.send(encode(*line.split(" ")))
    assert client.replies() == [theirs.text]


UNKNOWN = [
    [b"x" * 200, b"y" * 200],
    [b"foo", b"a" * 100, b"b" * 100, b"c"],
    [b"foo", b"\x00\xff", b"b\r\n"],
    [b"foo\x00bar", b"x"],
    [b"caf\xc3\xa9", b"\xe2\x82\xac"],
    [b"", b"a"],
    [b"foo", *[b"a"] * 200],
    [b"client", b"a" * 200],
    [b"client", b"a\r\nb"],
]


@pytest.mark.parametrize("request_words", UNKNOWN, ids=range(len(UNKNOWN)))
def test_unknown_commands_are_shown_as_redis_shows_them(
    request_words: list[bytes], redis: RedisConnection, redis_socket_text: Any
) -> None:
    theirs = redis_socket_text(*request_words)
    client = Node().client()
    client.send(encode(*request_words))
    assert bytes(client.transport.written) == theirs


@pytest.fixture(scope="module")
def redis_socket_text(redis: RedisConnection) -> Any:
    """Ask redis-server and return the undecoded line of an error reply."""

    def call(*request_words: bytes) -> bytes:
        redis._socket.sendall(encode(*request_words))
        return redis._reader.readline()

    return call


def test_resolve_raises_only_command_errors() -> None:
    for request in ([b""], [b"\xff"], [b"GET"], [b"object"], [b"command"], [b"OBJECT", b"\xff"]):
        try:
            TABLE.resolve(request)
        except CommandError as error:
            assert error.message.startswith("ERR ")


def test_two_tables_do_not_share_counters() -> None:
    first, second = standard_commands(), standard_commands()
    first.by_word[b"get"].calls += 1
    assert second.by_word[b"get"].calls == 0
    first.reset_counters()
    assert first.by_word[b"get"].calls == 0

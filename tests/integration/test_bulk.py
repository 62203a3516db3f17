"""All keys out of a cluster and into another, with our commands and with redis-cli."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv.cli.bulk_format import PART_ELEMENTS, encode_command
from raftkv.client.sync_client import Client
from tests.integration.cluster import Cluster
from tests.integration.test_cli_cluster import raftkv
from tests.tools import require_tool

pytestmark = pytest.mark.slow

MANY = PART_ELEMENTS * 3 + 7


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("bulk")) as running:
        running.start()
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client[bytes]]:
    with Client(cluster.addresses, deadline_s=30) as client:
        client.flushall()
        yield client


def fill(client: Client[bytes]) -> None:
    """Write keys of every kind, small and large, mortal and not."""
    client.mset({b"k%d" % number: b"v%d" % number for number in range(1500)})
    client.set(b"\x00\xff\r\n", b"\xfe" * 3000, px=50_000_000)
    client.set("huge", b"x" * 3_000_000)
    client.hset("hash", {"field": "value", b"\xff": b"\xfe"})
    client.pexpire("hash", 40_000_000)
    client.rpush("list", "a", "b", "a")
    client.sadd("set", "a", b"\xff")
    client.zadd("zset", {"a": 1.5, "b": float("inf"), "c": float("-inf"), "d": 0.1 + 0.2})
    for first in range(0, MANY, 500):
        numbers = range(first, min(first + 500, MANY))
        client.rpush("long list", *[b"element %d" % number for number in numbers])
        client.sadd("large set", *[b"element %d" % number for number in numbers])
        client.hset("large hash", {b"field %d" % number: b"%d" % number for number in numbers})
        client.zadd("large zset", {b"element %d" % number: number / 7 for number in numbers})
    client.pexpire("long list", 40_000_000)
    client.rpush("list of large", *[b"%d" % number * 1000 for number in range(900)])


READS = {
    "string": ("GET",), "hash": ("HGETALL",), "set": ("SMEMBERS",),
    "list": ("LRANGE", 0, -1), "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
}  # fmt: skip


def whole(client: Client[bytes]) -> dict[bytes, Any]:
    """Return everything that is in the cluster, deadlines included."""
    keys = list(client.scan_iter(count=1000))
    pipeline = client.pipeline()
    for key in keys:
        pipeline.type(key).pexpiretime(key)
    facts = pipeline.execute()
    for key, kind in zip(keys, facts[::2], strict=True):
        name, *rest = READS[kind]
        pipeline.command(name, key, *rest)
    values = pipeline.execute()
    return {
        key: (kind, sorted(value) if kind == "set" else value, deadline)
        for key, kind, deadline, value in zip(keys, facts[::2], facts[1::2], values, strict=True)
    }


@pytest.mark.parametrize("ending", ["jsonl", "resp"])
def test_everything_comes_back(
    cluster: Cluster, client: Client[bytes], tmp_path: Path, ending: str
) -> None:
    fill(client)
    before = whole(client)
    nodes = ",".join(cluster.addresses)
    file = tmp_path / f"keys.{ending}"
    code, output, errors = raftkv("export", str(file), nodes=nodes)
    assert (code, output, errors) == (0, f"exported {len(before):,} keys\n", "")
    client.flushall()
    # Other things are in the way, of other types.
    client.rpush("k1", "in the way")
    client.set("long list", "in the way")
    for _ in range(2):  # it may be repeated
        code, output, errors = raftkv("import", str(file), nodes=nodes)
        assert code == 0, errors
        assert output.startswith("imported ")
        assert whole(client) == before


def test_redis_cli_takes_an_export(cluster: Cluster, client: Client[bytes], tmp_path: Path) -> None:
    redis_cli = require_tool("redis-cli")
    fill(client)
    before = whole(client)
    file = tmp_path / "keys.resp"
    assert raftkv("export", str(file), nodes=",".join(cluster.addresses))[0] == 0
    client.flushall()
    port = cluster.wait_for_leader().client.rpartition(":")[2]
    with file.open("rb") as stream:
        result = subprocess.run(
            [redis_cli, "-p", port, "--pipe"],
            stdin=stream, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "errors: 0" in result.stdout
    assert whole(client) == before


def test_existing_keys_can_be_kept(cluster: Cluster, client: Client[bytes], tmp_path: Path) -> None:
    nodes = ",".join(cluster.addresses)
    client.rpush("list", "old")
    client.set("string", "old")
    client.sadd("set", "old")
    file = tmp_path / "keys.jsonl"
    assert raftkv("export", str(file), nodes=nodes)[0] == 0
    client.delete("list", "string", "set")
    client.rpush("list", "new")
    client.set("string", "new")
    code, output, _ = raftkv("import", str(file), "--keep-existing", "--json", nodes=nodes)
    counts = {"done": 1, "kept": 2, "expired": 0, "empty": 0, "failed": 0}
    assert (code, json.loads(output)) == (0, counts)
    assert client.get("string") == b"new"
    assert client.lrange("list", 0, -1) == [b"new"]
    assert client.smembers("set") == {b"old"}
    assert client.dbsize() == 3


def test_a_key_whose_time_is_over_is_not_brought_back(
    cluster: Cluster, client: Client[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "keys.jsonl"
    file.write_text(
        '{"key": "s", "type": "string", "value": "x", "expires_at_ms": 1000}\n'
        '{"key": "l", "type": "list", "value": ["x"], "expires_at_ms": 1000}\n'
    )
    client.rpush("l", "older")
    client.set("s", "older")
    assert raftkv("import", str(file), nodes=",".join(cluster.addresses))[0] == 0
    assert client.keys() == []


def test_a_pipe_of_commands(cluster: Cluster, client: Client[bytes], tmp_path: Path) -> None:
    file = tmp_path / "counts.resp"
    file.write_bytes(
        encode_command((b"INCR", b"n")) * 2000 + encode_command((b"APPEND", b"t", b"x"))
    )
    code, output, _ = raftkv("import", str(file), nodes=",".join(cluster.addresses))
    assert (code, output) == (0, "imported 2,001 commands\n")
    assert client.get("n") == b"2000"


def test_commands_take_effect_once_when_the_leader_is_killed(
    cluster: Cluster, client: Client[bytes], tmp_path: Path
) -> None:
    count = 20_000
    file = tmp_path / "counts.resp"
    file.write_bytes(encode_command((b"INCR", b"n")) * count)
    nodes = ",".join(cluster.addresses)
    leader = cluster.wait_for_leader()
    program = [sys.executable, "-m", "raftkv", "import", str(file), "-n", nodes, "--deadline", "60"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        cluster.wait_until(lambda: int(client.get("n") or 0) > 1000, "nothing is imported")
        leader.kill()
        output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, f"imported {count:,} commands\n")
    assert client.get("n") == b"%d" % count
    leader.start()

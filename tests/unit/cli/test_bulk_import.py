"""`raftkv import` against the real front-end and store: what is in place, and what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftkv import Client
from raftkv.cli import main
from raftkv.cli.bulk_format import encode_command
from raftkv.config import Limits
from tests.unit.server.serving import serving

KEY_BYTES_MAX = Limits().key_bytes_max


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as given:
        yield given


@pytest.fixture
def client(address: str) -> Iterator[Client[bytes]]:
    with Client(address) as client:
        client.flushall()
        yield client


Line = dict[str, object]


def run_import(address: str, lines: list[Line], *words: str) -> Result:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    nodes = {"RAFTKV_NODES": address}
    return CliRunner().invoke(main.command, ["import", *words], input=text, env=nodes)


def line(kind: str, value: object, **rest: object) -> Line:
    return {"key": "k", "type": kind, "value": value, **rest}


DEAD_LIST = line("list", ["old"], expires_at_ms=1000)
DEAD_STRING = line("string", "old", expires_at_ms=1000)
LIST = line("list", ["new"])
STRING = line("string", "new")


@pytest.mark.parametrize("dead", [DEAD_LIST, DEAD_STRING])
@pytest.mark.parametrize("fresh", [LIST, STRING])
@pytest.mark.parametrize("words", [(), ("--keep-existing",)])
def test_a_fresh_line_behind_one_whose_time_is_over_counts(
    address: str, client: Client[bytes], dead: Line, fresh: Line, words: tuple[str, ...]
) -> None:
    result = run_import(address, [dead, fresh], *words)
    assert result.output == "imported 1 key, 1 expired\n"
    assert client.keys() == [b"k"]
    assert client.type("k") == fresh["type"]


@pytest.mark.parametrize("dead", [DEAD_LIST, DEAD_STRING])
@pytest.mark.parametrize("fresh", [LIST, STRING])
def test_a_line_whose_time_is_over_behind_a_fresh_one_counts(
    address: str, client: Client[bytes], dead: Line, fresh: Line
) -> None:
    assert run_import(address, [fresh, dead]).output == "imported 1 key, 1 expired\n"
    assert client.keys() == []
    kept = run_import(address, [fresh, dead], "--keep-existing")
    assert kept.output == "imported 1 key, 1 expired\n"
    assert client.keys() == [b"k"]


def test_a_key_that_began_anew_is_in_place(address: str, client: Client[bytes]) -> None:
    begun = line("list", ["a"], more=True)
    assert run_import(address, [begun, LIST, DEAD_LIST, begun, LIST]).exit_code == 0
    assert client.lrange("k", 0, -1) == [b"new"]


@pytest.mark.parametrize(
    "empty",
    [
        [line(kind, [], expires_at_ms=expires_at_ms)]
        for kind in ("list", "set", "hash", "zset")
        for expires_at_ms in (0, 1000, 1 << 45)
    ]
    + [[line("list", [], more=True), line("list", [], part=1)]],
)
def test_a_collection_without_elements_is_no_key_and_counted_as_such(
    address: str, client: Client[bytes], empty: list[Line]
) -> None:
    client.set("k", "older")
    assert run_import(address, empty, "--keep-existing").output == "imported 0 keys, 1 empty\n"
    assert client.get("k") == b"older"
    assert run_import(address, empty).output == "imported 0 keys, 1 empty\n"
    assert client.keys() == []
    counts = {"done": 0, "kept": 0, "expired": 0, "empty": 1, "failed": 0}
    assert json.loads(run_import(address, empty, "--json").output) == counts


def test_strings_and_collections_whose_time_is_over_are_counted_alike(
    address: str, client: Client[bytes]
) -> None:
    for dead in (DEAD_LIST, DEAD_STRING):
        client.set("k", "older")
        assert run_import(address, [dead]).output == "imported 0 keys, 1 expired\n"
        assert client.keys() == []


def test_a_string_with_a_deadline_is_set_and_keeps_it(address: str, client: Client[bytes]) -> None:
    mortal = line("string", "new", expires_at_ms=1 << 45)
    assert run_import(address, [mortal]).output == "imported 1 key\n"
    assert (client.keys(), client.pexpiretime("k")) == ([b"k"], 1 << 45)
    client.set("k", "older")
    assert run_import(address, [mortal], "--keep-existing").output == "imported 0 keys, 1 kept\n"
    assert (client.keys(), client.get("k")) == ([b"k"], b"older")


def test_a_command_whose_result_is_too_large_to_be_kept_fails_by_itself(
    address: str, client: Client[bytes], tmp_path: Path
) -> None:
    words = [(b"SET", b"k", b"x" * 1_500_000), (b"GETDEL", b"k"), (b"INCR", b"n")]
    file = tmp_path / "commands.resp"
    file.write_bytes(b"".join(map(encode_command, words)))
    result = CliRunner().invoke(main.command, ["import", str(file), "-n", address])
    assert (result.stdout, result.exit_code) == ("imported 2 commands, 1 failed\n", 1)
    assert "result exceeds" in result.stderr
    assert (client.strlen("k"), client.get("n")) == (1_500_000, b"1")


@pytest.mark.parametrize("kind", ["list", "set"])
def test_the_longest_key_is_imported_as_it_was_exported(
    address: str, client: Client[bytes], tmp_path: Path, kind: str
) -> None:
    key = b"k" * KEY_BYTES_MAX
    client.execute({"list": "RPUSH", "set": "SADD"}[kind], key, "a")
    file = tmp_path / "keys.jsonl"
    assert CliRunner().invoke(main.command, ["export", str(file), "-n", address]).exit_code == 0
    client.flushall()
    result = CliRunner().invoke(main.command, ["import", str(file), "-n", address])
    assert result.output == "imported 1 key\n"
    assert client.keys() == [key]

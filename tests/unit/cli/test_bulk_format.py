"""Both formats of keys: there and back, and what is no key."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.cli.bulk_format import (
    Part,
    encode_command,
    import_commands,
    line_of,
    part_of,
    read_command,
    replay_commands,
    staging_key,
)
from raftkv.errors import RaftKvError

texts = st.binary(max_size=12) | st.text(max_size=6).map(str.encode)
scores = st.floats(allow_nan=False).map(lambda score: repr(score).encode())
pairs = {
    "hash": st.lists(st.tuples(texts, texts), min_size=1, max_size=5),
    "zset": st.lists(st.tuples(texts, scores), min_size=1, max_size=5),
}


@st.composite
def parts(draw: st.DrawFn) -> Part:
    kind = draw(st.sampled_from(["string", "hash", "list", "set", "zset"]))
    if kind == "string":
        items = [draw(texts)]
    elif kind in pairs:
        items = [item for pair in draw(pairs[kind]) for item in pair]
    else:
        items = draw(st.lists(texts, min_size=1, max_size=6))
    number = 0 if kind == "string" else draw(st.integers(0, 9))
    more = kind != "string" and draw(st.booleans())
    return Part(draw(texts), kind, items, draw(st.integers(0, 1 << 45)), number, more)


@given(parts())
def test_a_line_is_read_back_as_it_was(part: Part) -> None:
    line = line_of(part)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert part_of(line) == part


def test_a_line_looks_as_the_page_says() -> None:
    part = Part(b"user:7", "hash", [b"name", b"ada", b"raw", b"\xff"], 1790000000000)
    assert json.loads(line_of(part)) == {
        "key": "user:7",
        "type": "hash",
        "value": [["name", "ada"], ["raw", {"base64": "/w=="}]],
        "expires_at_ms": 1790000000000,
    }
    scored = Part(b"z", "zset", [b"a", b"1.5", b"b", b"-inf"], number=2, more=True)
    assert json.loads(line_of(scored)) == {
        "key": "z", "type": "zset", "value": [["a", 1.5], ["b", "-inf"]], "part": 2, "more": True,
    }  # fmt: skip


WRONG_LINES = [
    (b"", "truncated"),
    (b"[]", "Expected `object`"),
    (b'{"key": "a", "type": "string"}', "missing required field `value`"),
    (b'{"key": 1, "type": "string", "value": "x"}', "$.key"),
    (b'{"key": "a", "type": "stream", "value": "x"}', "stream"),
    (b'{"key": "a", "type": "string", "value": "x", "ttl": 5}', "unknown field `ttl`"),
    (b'{"key": "a", "type": "string", "value": ["x"]}', "a text was expected"),
    (b'{"key": "a", "type": "list", "value": "x"}', "the value of a list is a list"),
    (b'{"key": "a", "type": "list", "value": [1.5]}', "got `float`"),
    (b'{"key": "a", "type": "list", "value": [["x"]]}', "a text was expected"),
    (b'{"key": "a", "type": "hash", "value": ["x"]}', "list of pairs"),
    (b'{"key": "a", "type": "hash", "value": [["x"]]}', "list of pairs"),
    (b'{"key": "a", "type": "hash", "value": [["x", 1.5]]}', "a text was expected"),
    (b'{"key": "a", "type": "zset", "value": [["x", "much"]]}', "a score is a number"),
    (b'{"key": {"base64": "*"}, "type": "string", "value": "x"}', "base64"),
    (b"\xff", "not a key"),
]


@pytest.mark.parametrize(
    ("line", "reason"), WRONG_LINES, ids=[str(line) for line, _ in WRONG_LINES]
)
def test_a_line_that_is_no_key_says_why(line: bytes, reason: str) -> None:
    with pytest.raises(RaftKvError, match="not a key") as caught:
        part_of(line)
    assert reason in str(caught.value)


@given(st.lists(st.lists(texts, min_size=1, max_size=4).map(tuple), max_size=4))
def test_commands_are_read_back_with_their_sizes(commands: list[tuple[bytes, ...]]) -> None:
    data = b"".join(map(encode_command, commands))
    stream = io.BytesIO(data)
    found = []
    size = 0
    while (read := read_command(stream)) is not None:
        found.append(read[0])
        size += read[1]
    assert found == commands
    assert size == len(data)


@pytest.mark.parametrize(
    "data",
    [b"PING\r\n", b"*1\n$1\r\na\r\n", b"*1\r\n$2\r\na\r\n", b"*1\r\n$1\r\na", b"*2\r\n$1\r\na\r\n",
     b"*0\r\n", b"*-1\r\n", b"*1\r\n:1\r\n", b"*1\r\n$99999999999\r\n", b"*" + b"1" * 100],
)  # fmt: skip
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(RaftKvError, match="not a command"):
        read_command(io.BytesIO(data))


def test_a_replay_replaces_a_key() -> None:
    assert replay_commands(Part(b"s", "string", [b"x"])) == [(b"SET", b"s", b"x")]
    assert replay_commands(Part(b"s", "string", [b"x"], 77)) == [
        (b"SET", b"s", b"x", b"PXAT", b"77")
    ]
    first = Part(b"z", "zset", [b"a", b"1.0"], more=True)
    last = Part(b"z", "zset", [b"b", b"2.0"], 77, 1)
    assert replay_commands(first) == [(b"DEL", b"z"), (b"ZADD", b"z", b"1.0", b"a")]
    assert replay_commands(last) == [(b"ZADD", b"z", b"2.0", b"b"), (b"PEXPIREAT", b"z", b"77")]


def test_a_collection_takes_its_place_at_one_moment() -> None:
    stage = staging_key(b"l")
    part = Part(b"l", "list", [b"a"], 77)
    assert import_commands(part, keep_existing=False) == [
        (b"DEL", stage), (b"RPUSH", stage, b"a"), (b"PEXPIREAT", stage, b"77"),
        (b"RENAME", stage, b"l"),
    ]  # fmt: skip
    assert import_commands(part, keep_existing=True)[-2:] == [
        (b"RENAMENX", stage, b"l"), (b"DEL", stage),
    ]  # fmt: skip
    string = Part(b"s", "string", [b"x"])
    assert import_commands(string, keep_existing=True) == [(b"SET", b"s", b"x", b"NX")]


def test_a_string_with_a_deadline_is_renamed_so_that_its_death_shows() -> None:
    stage = staging_key(b"s")
    string = Part(b"s", "string", [b"x"], 77)
    kept = [(b"SET", stage, b"x", b"PXAT", b"77"), (b"RENAMENX", stage, b"s"), (b"DEL", stage)]
    assert import_commands(string, keep_existing=True) == kept
    assert import_commands(string, keep_existing=False) == [kept[0], (b"RENAME", stage, b"s")]


def test_the_place_of_a_long_key_is_short_and_its_own() -> None:
    assert staging_key(b"k" * 63) == b"raftkv:import:" + b"k" * 63
    long = staging_key(b"k" * 64)
    assert len(long) == len(staging_key(b"k" * 65536)) == len(b"raftkv:import:") + 64
    assert long == staging_key(b"k" * 64)
    others = {staging_key(key) for key in (b"k" * 63, b"k" * 65, b"l" * 64, long[14:])}
    assert len(others - {long}) == 4

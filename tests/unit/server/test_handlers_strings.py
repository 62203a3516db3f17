"""Requests on strings: the commands they become, and what is refused before the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import Command, Opcode
from raftkv.server.handlers_strings import PARSERS, RUN_PARSERS
from tests.unit.kv.driver import words

LIMITS = Limits(key_bytes_max=10, value_bytes_max=20)
TOO_LONG = "ERR string exceeds maximum allowed size (limits.value_bytes_max)"
KEY_TOO_LONG = "ERR key exceeds limits.key_bytes_max (10 bytes)"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
LONG_KEY, LONG_VALUE = "k" * 11, "v" * 21


def parse(line: str) -> Command:
    arguments = words(line)
    return PARSERS[arguments[0].upper()](arguments, LIMITS)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("set k v", (1, b"k", b"v")),
        ("set k v nx", (2, b"k", b"v", 1, None, None, b"set")),
        ("SET k v XX GET", (2, b"k", b"v", 10, None, None, b"set")),
        ("set k v keepttl", (2, b"k", b"v", 4, None, None, b"set")),
        ("set k v ex 10", (2, b"k", b"v", 0, 10_000, None, b"set")),
        ("set k v px 10", (2, b"k", b"v", 0, 10, None, b"set")),
        ("set k v exat 10", (2, b"k", b"v", 0, None, 10_000, b"set")),
        ("set k v pxat 10", (2, b"k", b"v", 0, None, 10, b"set")),
        ("setnx k v", (2, b"k", b"v", 17, None, None, b"setnx")),
        ("setex k 7 v", (2, b"k", b"v", 0, 7000, None, b"setex")),
        ("psetex k 7 v", (2, b"k", b"v", 0, 7, None, b"psetex")),
        ("get k", (3, b"k")),
        ("mget a b", (4, b"a", b"b")),
        ("mset a 1 b 2", (5, b"a", b"1", b"b", b"2")),
        ("msetnx a 1", (6, b"a", b"1")),
        ("getset k v", (7, b"k", b"v")),
        ("getdel k", (8, b"k")),
        ("getex k", (3, b"k")),
        ("getex k persist", (9, b"k", 1, None, None, None)),
        ("getex k ex 3", (9, b"k", 0, 3000, None, None)),
        ("getex k pxat 3", (9, b"k", 0, None, 3, None)),
        ("getex k ex x", (9, b"k", 0, None, None, NOT_AN_INTEGER.encode())),
        ("strlen k", (10, b"k")),
        ("append k v", (11, b"k", b"v", 20)),
        ("getrange k 0 -1", (12, b"k", 0, -1)),
        ("substr k 0 -1", (12, b"k", 0, -1)),
        ("setrange k 3 v", (13, b"k", 3, b"v", 20)),
        ("incr k", (14, b"k", 1)),
        ("decr k", (14, b"k", -1)),
        ("incrby k 5", (14, b"k", 5)),
        ("decrby k 5", (14, b"k", -5)),
        ("incrbyfloat k 1.50", (15, b"k", b"1.50")),
    ],
)
def test_the_command_of_a_request(line: str, command: Command) -> None:
    assert parse(line) == command
    # What the log carries comes back as it was.
    assert decode_batch(encode_batch(0, 0, 0, [parse(line)])).commands == [command]
    assert all(type(field) in (int, bytes, type(None)) for field in parse(line))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"set {LONG_KEY} v", KEY_TOO_LONG),
        (f"set k {LONG_VALUE}", TOO_LONG),
        (f"set k {LONG_VALUE} nx", TOO_LONG),
        (f"setnx k {LONG_VALUE}", TOO_LONG),
        (f"setex k 1 {LONG_VALUE}", TOO_LONG),
        (f"get {LONG_KEY}", KEY_TOO_LONG),
        (f"mget a {LONG_KEY}", KEY_TOO_LONG),
        (f"mset a 1 {LONG_KEY} 2", KEY_TOO_LONG),
        (f"mset a 1 b {LONG_VALUE}", TOO_LONG),
        (f"getset k {LONG_VALUE}", TOO_LONG),
        (f"getdel {LONG_KEY}", KEY_TOO_LONG),
        (f"getex {LONG_KEY}", KEY_TOO_LONG),
        (f"append k {LONG_VALUE}", TOO_LONG),
        (f"append {LONG_KEY} v", KEY_TOO_LONG),
        (f"getrange {LONG_KEY} 0 1", KEY_TOO_LONG),
        (f"setrange {LONG_KEY} 0 v", KEY_TOO_LONG),
        (f"incr {LONG_KEY}", KEY_TOO_LONG),
        (f"incrby {LONG_KEY} 1", KEY_TOO_LONG),
        (f"decrby {LONG_KEY} 1", KEY_TOO_LONG),
        (f"incrbyfloat {LONG_KEY} 1", KEY_TOO_LONG),
        ("set k v nx xx", SYNTAX),
        ("set k v ex", SYNTAX),
        ("set k v ex 1 px 1", SYNTAX),
        ("set k v ex x", NOT_AN_INTEGER),
        ("set k v ex 0", "ERR invalid expire time in 'set' command"),
        ("setex k 0 v", "ERR invalid expire time in 'setex' command"),
        ("psetex k -1 v", "ERR invalid expire time in 'psetex' command"),
        ("mset a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("msetnx a 1 b", "ERR wrong number of arguments for 'msetnx' command"),
        ("getex k persist ex 1", SYNTAX),
        ("getrange k x 1", NOT_AN_INTEGER),
        ("setrange k -1 v", "ERR offset is out of range"),
        ("incrby k 1.5", NOT_AN_INTEGER),
        ("decrby k -9223372036854775808", "ERR decrement would overflow"),
    ],
)
def test_what_is_refused(line: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        parse(line)
    assert error.value.message == message


def test_limits_are_inclusive() -> None:
    assert parse(f"set {'k' * 10} {'v' * 20}") == (Opcode.SET, b"k" * 10, b"v" * 20)


sizes = st.integers(0, 22).map(bytes)
requests = st.one_of(
    st.builds(lambda *words: list(words), st.sampled_from([b"SET", b"set"]), sizes, sizes),
    st.builds(lambda *words: list(words), st.sampled_from([b"GET", b"get"]), sizes),
    st.just([b"SET", b"k", b"v", b"NX"]),
    st.just([b"GET"]),
)


@given(st.sampled_from([b"SET", b"GET"]), st.lists(requests, max_size=10), st.integers(0, 12))
def test_a_run_is_parsed_as_its_requests_one_by_one(
    word: bytes, chunk: list[list[bytes]], end: int
) -> None:
    chunk.insert(0, [word, b"k", b"v"][: 3 if word == b"SET" else 2])
    expected = []
    length = len(chunk[0])
    for arguments in chunk[:end]:
        if len(arguments) != length or arguments[0] != word:
            break
        try:
            expected.append(PARSERS[word](arguments, LIMITS))
        except CommandError:
            break
    assert RUN_PARSERS[word](chunk, 0, end, LIMITS) == expected

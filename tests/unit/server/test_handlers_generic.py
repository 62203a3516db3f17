"""Requests on keys and the whole store: the commands they become, and what is refused."""

from __future__ import annotations

import pytest

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import Command, Opcode
from raftkv.server import handlers_strings
from raftkv.server.handlers_generic import PARSERS
from tests.unit.kv.driver import words

LIMITS = Limits(key_bytes_max=10, value_bytes_max=20)
KEY_TOO_LONG = "ERR key exceeds limits.key_bytes_max (10 bytes)"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"
LONG_KEY = "k" * 11


def parse(line: str) -> Command:
    arguments = words(line)
    return PARSERS[arguments[0].upper()](arguments, LIMITS)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("del a b", (50, b"a", b"b")),
        ("unlink a", (50, b"a")),
        ("exists a a", (51, b"a", b"a")),
        ("touch a", (51, b"a")),
        ("type a", (52, b"a")),
        ("rename a b", (53, b"a", b"b")),
        ("renamenx a b", (54, b"a", b"b")),
        ("copy a b", (55, b"a", b"b", 0)),
        ("copy a b db 0 replace", (55, b"a", b"b", 1)),
        ("object encoding a", (56, b"a")),
        ("OBJECT Freq a", (57, b"a")),
        ("object idletime a", (58, b"a")),
        ("object refcount a", (59, b"a")),
        ("object help", (60,)),
        ("memory usage a", (61, b"a")),
        ("memory usage a samples 5", (61, b"a")),
        ("memory help", (62,)),
        ("expire k 10", (80, b"k", 10_000, None, 0, b"expire")),
        ("pexpire k -10 nx", (80, b"k", -10, None, 1, b"pexpire")),
        ("expireat k 10 xx gt", (80, b"k", None, 10_000, 6, b"expireat")),
        ("pexpireat k 10 LT", (80, b"k", None, 10, 8, b"pexpireat")),
        ("persist k", (81, b"k")),
        ("ttl k", (82, b"k")),
        ("pttl k", (83, b"k")),
        ("expiretime k", (84, b"k")),
        ("pexpiretime k", (85, b"k")),
        ("keys a*", (100, b"a*")),
        ("scan 0", (101, 0, None, 10, None)),
        ("scan 17 match a* count 5 type STRING", (101, 17, b"a*", 5, b"string")),
        ("scan -1", (101, 2**64 - 1, None, 10, None)),
        ("scan ''", (101, 0, None, 10, None)),
        ("dbsize", (103,)),
        ("flushall", (104,)),
        ("flushdb async", (104,)),
        ("flushall SYNC", (104,)),
    ],
)
def test_the_command_of_a_request(line: str, command: Command) -> None:
    assert parse(line) == command
    assert decode_batch(encode_batch(0, 0, 0, [parse(line)])).commands == [command]
    assert all(type(field) in (int, bytes, type(None)) for field in parse(line))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"del a {LONG_KEY}", KEY_TOO_LONG),
        (f"exists {LONG_KEY}", KEY_TOO_LONG),
        (f"type {LONG_KEY}", KEY_TOO_LONG),
        (f"rename a {LONG_KEY}", KEY_TOO_LONG),
        (f"rename {LONG_KEY} a", KEY_TOO_LONG),
        (f"copy a {LONG_KEY}", KEY_TOO_LONG),
        (f"expire {LONG_KEY} 1", KEY_TOO_LONG),
        (f"object encoding {LONG_KEY}", KEY_TOO_LONG),
        (f"memory usage {LONG_KEY}", KEY_TOO_LONG),
        ("copy a a", "ERR source and destination objects are the same"),
        ("copy a b db 1", "ERR DB index is out of range"),
        ("copy a b foo", SYNTAX),
        ("expire k x", NOT_AN_INTEGER),
        ("expire k 9223372036854775807", "ERR invalid expire time in 'expire' command"),
        ("expire k 1 foo", "ERR Unsupported option foo"),
        ("expire k 1 nx gt", "ERR NX and XX, GT or LT options at the same time are not compatible"),
        ("expire k 1 gt lt", "ERR GT and LT options at the same time are not compatible"),
        ("scan x", "ERR invalid cursor"),
        ("scan 18446744073709551616", "ERR invalid cursor"),
        ("scan 0 count", SYNTAX),
        ("scan 0 count 0", SYNTAX),
        ("scan 0 count x", NOT_AN_INTEGER),
        ("flushall now", SYNTAX),
        ("object foo", "ERR unknown subcommand 'foo'. Try OBJECT HELP."),
        ("object encoding", "ERR wrong number of arguments for 'object|encoding' command"),
        ("memory doctor", "ERR unknown subcommand 'doctor'. Try MEMORY HELP."),
        ("memory usage", "ERR wrong number of arguments for 'memory|usage' command"),
        ("memory usage k samples -1", SYNTAX),
    ],
)
def test_what_is_refused(line: str, message: str) -> None:
    with pytest.raises(CommandError) as error:
        parse(line)
    assert error.value.message == message


def test_bytes_that_are_no_text_are_echoed_as_text() -> None:
    with pytest.raises(CommandError) as error:
        PARSERS[b"EXPIRE"]([b"expire", b"k", b"1", b"\xff"], LIMITS)
    assert error.value.message == "ERR Unsupported option \udcff"
    with pytest.raises(CommandError) as error:
        PARSERS[b"OBJECT"]([b"object", b"\xff" * 500], LIMITS)
    assert error.value.message == f"ERR unknown subcommand '{'�' * 128}'. Try OBJECT HELP."


def test_every_random_key_has_a_seed_of_its_own() -> None:
    seeds = {parse("randomkey")[1] for _ in range(50)}
    assert len(seeds) == 50
    assert parse("randomkey")[0] == Opcode.RANDOMKEY


def test_each_command_has_one_parser() -> None:
    assert not PARSERS.keys() & handlers_strings.PARSERS.keys()

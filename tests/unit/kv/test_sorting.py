"""SORT: a total order on every node, other keys looked up, and nothing without a limit."""

from __future__ import annotations

import pytest

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, ErrorReply, Opcode, is_write
from raftkv.kv.sorting import NOT_A_SCORE, look_up
from raftkv.kv.store import KvStore
from raftkv.kv.values import TOO_MUCH_ASKED, WRONG_TYPE
from raftkv.server.command_set import standard_commands
from tests.unit.kv.driver import apply, check_invariants, reload, words

TABLE = standard_commands()


def parsed(line: str) -> Command:
    request = words(line)
    return TABLE.resolve(request).parse(request, Limits())


def answer(store: KvStore, line: str) -> object:
    (result,) = apply(store, [parsed(line)])
    return result


@pytest.fixture
def store() -> KvStore:
    store = KvStore()
    for line in (
        "RPUSH list 3 1 2", "SADD set b a", "ZADD zset 2 x 1 y", "HSET h1 f 9", "HSET h2 f 8",
        "MSET w1 30 w2 10 w3 20 v1 one v2 two", "SET text v",
    ):  # fmt: skip
        answer(store, line)
    return store


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("SORT list", [b"1", b"2", b"3"]),
        ("SORT_RO list DESC LIMIT 1 5", [b"2", b"1"]),
        ("SORT list LIMIT 1 0", []),
        ("SORT list LIMIT -5 -1", [b"1", b"2", b"3"]),
        ("SORT list LIMIT 7 1", []),
        ("SORT list BY w*", [b"2", b"3", b"1"]),
        ("SORT list BY nosort DESC", [b"2", b"1", b"3"]),
        ("SORT list BY v* ALPHA", [b"3", b"1", b"2"]),
        ("SORT list BY none*", [b"1", b"2", b"3"]),
        ("SORT list BY h*->f GET # GET v* GET h*->f",
         [b"3", None, None, b"2", b"two", b"8", b"1", b"one", b"9"]),
        ("SORT set ALPHA", [b"a", b"b"]),
        ("SORT zset BY nosort", [b"y", b"x"]),
        ("SORT none", []),
        ("SORT set", ErrorReply(NOT_A_SCORE)),
        ("SORT text", ErrorReply(WRONG_TYPE)),
        ("SORT list STORE list", 3),
        ("SORT list GET v* STORE target", 3),
    ],
)  # fmt: skip
def test_what_it_answers(store: KvStore, line: str, result: object) -> None:
    assert answer(store, line) == result
    check_invariants(store)


def test_what_leads_nowhere_is_stored_as_nothing(store: KvStore) -> None:
    answer(store, "SORT list GET v* STORE target")
    assert answer(store, "LRANGE target 0 -1") == [b"one", b"two", b""]
    revision = store.revision
    assert answer(store, "SORT none STORE target") == 0
    assert (answer(store, "EXISTS target"), store.revision) == (0, revision + 1)


def test_a_set_without_an_order_is_stored_in_one(store: KvStore) -> None:
    assert answer(store, "SORT set BY nosort STORE target") == 2
    assert answer(store, "LRANGE target 0 -1") == [b"a", b"b"]


def test_equal_weights_leave_one_order_on_every_node() -> None:
    first, second = KvStore(), KvStore()
    answer(first, "RPUSH k b a c")
    answer(second, "RPUSH k c b a")
    for line in ("SORT k BY x*", "SORT k BY x* ALPHA", "SORT k ALPHA"):
        assert answer(first, line) == answer(second, line) == [b"a", b"b", b"c"]
    assert answer(reload(first), "SORT k ALPHA DESC") == [b"c", b"b", b"a"]


def test_dead_keys_lead_nowhere(store: KvStore) -> None:
    apply(store, [parsed("PEXPIRE v1 10")], at_ms=100)
    (rows,) = apply(store, [parsed("SORT list GET v*")], at_ms=200)
    assert rows == [None, b"two", None]


def test_rows_are_limited() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.LIST_PUSH), b"k", 1, 0, *[b"1"] * 3000)])
    command = (int(Opcode.SORT), b"k", 0, None, 0, -1, *[b"#"] * 1000)
    assert apply(store, [command]) == [ErrorReply(TOO_MUCH_ASKED)]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (b"#", b"1"),
        (b"w*", b"30"),
        (b"*", None),
        (b"w1", None),
        (b"h*->f", b"9"),
        (b"h*->g", None),
        (b"h*", None),
        (b"w*->f", None),
        (b"h*->", None),
    ],
)
def test_what_a_pattern_leads_to(store: KvStore, pattern: bytes, found: bytes | None) -> None:
    assert look_up(store._keyspace, pattern, b"1") == found


@pytest.mark.parametrize(
    "line",
    [
        "SORT k FOO", "SORT k LIMIT 1", "SORT k LIMIT a 1", "SORT k BY", "SORT k GET",
        "SORT k STORE", "SORT_RO k STORE t", "SORT k ASC LIMIT",
        f"SORT k STORE {'x' * 70_000}", f"SORT {'x' * 70_000}",
    ],
)  # fmt: skip
def test_bad_words(line: str) -> None:
    with pytest.raises(CommandError, match=r"syntax error|not an integer|key_bytes_max"):
        parsed(line)


def test_only_what_stores_is_a_write() -> None:
    assert is_write(parsed("SORT k STORE t"))
    assert not is_write(parsed("SORT k"))
    assert not is_write(parsed("SORT_RO k"))

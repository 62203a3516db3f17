"""Leases: what they keep, what ends with them, and that nobody can tell how."""

from __future__ import annotations

import random
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from raftkv.errors import ProtocolError
from raftkv.kv import garbage
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import (
    OK,
    Command,
    CopyFlag,
    ErrorReply,
    Opcode,
    RangeReadFlag,
    SetFlag,
)
from raftkv.kv.history import DELETE, EXPIRE, PUT
from raftkv.kv.image import PIECE_HEADER, PIECE_KEYS_MAX, PIECE_LEASES
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.keyspace import bucket_of
from raftkv.kv.lease_commands import LEASE_EXISTS, NO_LEASE, TOO_MANY_KEYS, TOO_MANY_LEASES
from raftkv.kv.sessions import RESULT_BYTES_MAX
from raftkv.kv.store import EXPIRE_SLICE_KEYS, KvStore
from raftkv.types import NoList
from tests.unit.kv.driver import apply, check_invariants, reload

GOLDEN = Path(__file__).parents[2] / "golden" / "kv" / "image-2-leases.bin"
LEASES_MAX, KEYS_MAX = 1000, 2000
TTL_MS = 1000


def run(store: KvStore, *commands: Command, at_ms: int = 0) -> Any:
    """Apply one batch and return its result, or the list of its results."""
    plain = [(int(opcode), *arguments) for opcode, *arguments in commands]
    results = apply(store, plain, at_ms=at_ms)
    check_invariants(store)
    return results[0] if len(results) == 1 else results


def run_unchecked(store: KvStore, *commands: Command) -> None:
    """Apply one batch without looking at the store behind it."""
    apply(store, [(int(opcode), *arguments) for opcode, *arguments in commands])


def grant(lease_id: int | None = 7, ttl_ms: int = TTL_MS) -> Command:
    return (Opcode.LEASE_GRANT, ttl_ms, lease_id, LEASES_MAX)


def attach(lease_id: int, *keys: bytes, keys_max: int = KEYS_MAX) -> Command:
    return (Opcode.LEASE_ATTACH, lease_id, keys_max, *keys)


def leased_set(lease_id: int, key: bytes, value: bytes, flags: int = 0) -> Command:
    return (Opcode.LEASE_SET, lease_id, KEYS_MAX, 0, None, key, value, flags, None, None, b"set")


def set_(key: bytes, value: bytes = b"v") -> Command:
    return (Opcode.SET, key, value)


def get(key: bytes) -> Command:
    return (Opcode.GET, key)


def facts(store: KvStore, lease_id: int = 7) -> dict[bytes, Any]:
    reply = run(store, (Opcode.LEASE_TTL, lease_id, 1), at_ms=store.lease_time_ms)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def with_lease(*keys: bytes) -> KvStore:
    """A store in which lease 7 has these keys."""
    store = KvStore()
    run(store, grant(), *(leased_set(7, key, b"v") for key in keys))
    return store


def rest_of(steps: Generator[None, None, Any]) -> Any:
    """Run a sliced read to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def error(message: str) -> ErrorReply:
    return ErrorReply(message)


# ---------------------------------------------------------------- life of a lease


def test_a_lease_lives_for_its_time_and_is_renewed_by_it() -> None:
    store = with_lease(b"k")
    assert store.next_lease_deadline_ms == TTL_MS
    assert run(store, (Opcode.LEASE_KEEPALIVE, 7), at_ms=TTL_MS - 1) == TTL_MS
    assert run(store, get(b"k"), at_ms=2 * TTL_MS - 2) == b"v"
    assert run(store, get(b"k"), (Opcode.LEASE_KEEPALIVE, 7), at_ms=2 * TTL_MS - 1) == [
        None,
        error(NO_LEASE),
    ]
    assert store.lease_count == 0
    assert store.next_lease_deadline_ms is None


def test_lease_time_alone_ends_a_lease() -> None:
    store = with_lease(b"k")
    payload = encode_batch(10**9, TTL_MS - 1, 0, [(int(Opcode.GET), b"k")])
    assert store.apply(store.applied_index + 1, payload) == [b"v"]


def test_a_random_id_comes_from_the_seed_of_the_batch() -> None:
    def granted(seed: int) -> list[object]:
        command = (int(Opcode.LEASE_GRANT), TTL_MS, None, LEASES_MAX)
        return KvStore().apply(1, encode_batch(0, 0, seed, [command, command]))

    assert granted(5) == granted(5) != granted(6)
    first, second = granted(5)
    assert first != second
    assert all(isinstance(one, int) and 0 < one < 2**53 for one in granted(5))


def test_what_is_refused_and_changes_nothing() -> None:
    store = with_lease(b"k")
    revision = store.revision
    assert run(store, grant(7)) == error(LEASE_EXISTS)
    assert run(store, (Opcode.LEASE_GRANT, TTL_MS, 8, 1)) == error(TOO_MANY_LEASES)
    for command in (
        (Opcode.LEASE_KEEPALIVE, 8),
        (Opcode.LEASE_REVOKE, 8),
        attach(8, b"k"),
        leased_set(8, b"new", b"v"),
    ):
        assert run(store, command) == error(NO_LEASE)
    assert run(store, attach(7, b"k", b"l", keys_max=1)) == 1  # l does not exist
    run(store, set_(b"l"))
    assert run(store, attach(7, b"l", keys_max=1)) == error(TOO_MANY_KEYS)
    full = (Opcode.LEASE_SET, 7, 1, 0, None, b"m", b"v", 0, None, None, b"set")
    assert run(store, full) == error(TOO_MANY_KEYS)
    assert isinstance(run(store, (Opcode.LEASE_TTL, 8, 1)), NoList)
    assert facts(store)[b"keys"] == [b"k"]
    assert store.revision == revision + 1


def test_a_revoked_lease_takes_its_keys_at_once_and_removes_them_in_the_next_batch() -> None:
    store = with_lease(b"a", b"b")
    assert run(store, (Opcode.LEASE_REVOKE, 7), (Opcode.EXISTS, b"a", b"b"), get(b"a")) == [
        2,
        0,
        None,
    ]
    assert (store.key_count, store.is_expiring, store.next_lease_deadline_ms) == (0, True, 0)
    revision = store.revision
    run(store)
    assert (store.lease_count, store.revision) == (0, revision + 1)
    assert run(store, grant(7)) == 7


def test_the_facts_of_a_lease_and_the_list() -> None:
    store = with_lease(b"b", b"a")
    run(store, grant(3), grant(9, 50))
    assert facts(store) == {
        b"id": 7,
        b"ttl_ms": TTL_MS,
        b"remaining_ms": TTL_MS,
        b"key_count": 2,
        b"keys": [b"a", b"b"],
    }
    assert run(store, (Opcode.LEASE_LIST, 0, 10), at_ms=50) == [3, 7]
    assert run(store, (Opcode.LEASE_LIST, 3, 10), at_ms=50) == [7]
    assert run(store, (Opcode.LEASE_LIST, 0, 1), at_ms=50) == [3]


# -------------------------------------------------------------- which commands keep it

HASH: Command = (Opcode.HSET, b"h", 0, b"f", b"1")
KEEPS: list[tuple[list[Command], bytes]] = [
    ([(Opcode.APPEND, b"k", b"+", 100)], b"k"),
    ([(Opcode.SETRANGE, b"k", 0, b"+", 100)], b"k"),
    ([(Opcode.SETBIT, b"k", 7, 1)], b"k"),
    ([(Opcode.EXPIRE, b"k", 5000, None, 0, b"pexpire")], b"k"),
    ([(Opcode.EXPIRE, b"k", 5000, None, 0, b"pexpire"), (Opcode.PERSIST, b"k")], b"k"),
    ([(Opcode.GETEX, b"k", 0, 5000, None, None)], b"k"),
    ([(Opcode.SET_WITH, b"k", b"2", int(SetFlag.KEEPTTL), None, None, b"set")], b"k"),
    ([(Opcode.SET_WITH, b"k", b"2", int(SetFlag.NX), None, None, b"set")], b"k"),
    ([(Opcode.RENAME, b"k", b"other")], b"other"),
    ([(Opcode.RENAME, b"k", b"plain")], b"plain"),
    ([(Opcode.RENAME, b"k", b"k")], b"k"),
    ([(Opcode.COPY, b"k", b"plain", int(CopyFlag.REPLACE))], b"k"),
    ([(Opcode.COPY, b"plain", b"k", 0)], b"k"),
    ([(Opcode.LEASE_DETACH, b"k"), attach(7, b"k")], b"k"),
]
RELEASES: list[list[Command]] = [
    [set_(b"k")],
    [set_(b"x"), set_(b"k"), set_(b"y")],  # in a run
    [(Opcode.SET_WITH, b"k", b"2", 0, 5000, None, b"set")],
    [(Opcode.SET_IF, 1, b"v", b"k", b"2", 0, None, None, b"set")],
    [(Opcode.MSET, b"k", b"2")],
    [(Opcode.GETSET, b"k", b"2")],
    [(Opcode.DEL, b"k"), set_(b"k")],
    [(Opcode.GETDEL, b"k"), set_(b"k")],
    [(Opcode.RENAME, b"plain", b"k")],
    [(Opcode.COPY, b"plain", b"k", int(CopyFlag.REPLACE))],
    [(Opcode.BITOP, 0, b"k", b"plain")],
    [(Opcode.SADD, b"s", b"m"), (Opcode.SUNIONSTORE, b"k", b"s")],
    [(Opcode.LEASE_DETACH, b"k")],
    [(Opcode.FLUSH,), set_(b"k")],
]


def prepared() -> KvStore:
    store = with_lease(b"k")
    run(store, set_(b"plain"))
    return store


@pytest.mark.parametrize(("commands", "key"), KEEPS, ids=str)
def test_a_change_of_a_part_keeps_the_lease(commands: list[Command], key: bytes) -> None:
    store = prepared()
    run(store, *commands)
    assert facts(store)[b"keys"] == [key]
    assert run(store, (Opcode.EXISTS, key), at_ms=TTL_MS) == 0


@pytest.mark.parametrize("commands", RELEASES, ids=str)
def test_an_overwrite_of_the_whole_releases_it(commands: list[Command]) -> None:
    store = prepared()
    run(store, *commands)
    assert facts(store)[b"keys"] == []
    assert run(store, (Opcode.EXISTS, b"k"), at_ms=TTL_MS) == 1


def test_a_key_goes_from_one_lease_to_another() -> None:
    store = with_lease(b"k")
    run(store, grant(8), attach(8, b"k", b"k"))
    assert facts(store)[b"keys"] == []
    assert facts(store, 8)[b"keys"] == [b"k"]


def test_a_set_with_a_lease_that_does_not_set_binds_nothing() -> None:
    store = with_lease(b"k")
    run(store, set_(b"other"))
    assert run(store, leased_set(7, b"other", b"2", SetFlag.NX)) is None
    compared = (Opcode.LEASE_SET, 7, KEYS_MAX, 1, b"no", b"other", b"2", 0, None, None, b"set")
    assert run(store, compared) is None
    assert facts(store)[b"keys"] == [b"k"]
    assert run(store, leased_set(7, b"other", b"2", SetFlag.XX)) == OK
    assert facts(store)[b"keys"] == [b"k", b"other"]


def test_a_key_lost_with_its_lease_can_be_made_again_by_any_command() -> None:
    store = with_lease(b"k")
    created = store._keyspace.find(b"k")
    assert created is not None
    # More than a slice, so that k is not removed at the beginning of the batch.
    names = [b"a%d" % number for number in range(2 * EXPIRE_SLICE_KEYS)]
    run(store, *map(set_, names), attach(7, *names))
    results = run(store, set_(b"k", b"2"), get(b"k"), at_ms=TTL_MS)
    assert results == [OK, b"2"]
    entry = store._keyspace.find(b"k")
    assert entry is not None
    assert entry[2] > created[2]
    assert entry[4] == 1


# ----------------------------------------------------------------------- slices


def scanned(store: KvStore) -> list[bytes]:
    """Every key that SCAN tells, to the end."""
    found: list[bytes] = []
    cursor = 0
    while True:
        told, keys = cast(list[Any], store.execute((Opcode.SCAN, cursor, None, 10_000, None)))
        found += keys
        cursor = int(told)
        if cursor == 0:
            return found


def test_what_is_lost_is_seen_by_nobody_while_it_is_removed_in_slices() -> None:
    names = [b"a%d" % number for number in range(1500)]
    store = KvStore()
    run(store, grant(), *map(set_, names), set_(b"kept"), attach(7, *names))
    run(store, (Opcode.EXPIRE, b"a5", 10**6, None, 0, b"pexpire"))
    revision = store.revision
    seen = run(
        store,
        (Opcode.DBSIZE,),
        (Opcode.MGET, b"a1499", b"kept"),
        (Opcode.KEYS, b"*"),
        (Opcode.RANDOMKEY, 5),
        (Opcode.STRLEN, b"a1499"),
        at_ms=TTL_MS,
    )
    assert seen == [1, [None, b"v"], [b"kept"], b"kept", 0]
    assert scanned(store) == [b"kept"]
    assert store.expiring_count == 0
    assert store.revision == revision + 1  # one slice
    assert 0 < store._keyspace.entry_count() - 1 < 1500
    assert run(store, (Opcode.LEASE_KEEPALIVE, 7), grant(7), at_ms=TTL_MS) == [
        error(NO_LEASE),
        error(LEASE_EXISTS),
    ]
    while store.is_expiring:
        run(store, at_ms=TTL_MS)
    assert store._keyspace.entry_count() == 1
    assert store.lease_count == 0


def test_counting_keys_does_not_look_at_all_that_is_lost_again_and_again() -> None:
    keys = [b"%d" % number for number in range(KEYS_MAX)]
    # As many keys with a lease are overwritten, once while they live, once when they are lost.
    overwritten = [command for key in keys[:500] for command in (set_(key), (Opcode.DBSIZE,))]
    seconds = []
    for revoked in ([], [(Opcode.LEASE_REVOKE, number) for number in range(1, 11)]):
        store = KvStore()
        run_unchecked(store, *map(grant, range(1, 11)))
        for number in range(2, 11):
            others = [b"%d %s" % (number, key) for key in keys]
            run_unchecked(store, *map(set_, others), attach(number, *others))
        run_unchecked(store, *map(set_, keys), attach(1, *keys))
        began_s = time.process_time()
        run_unchecked(store, *revoked, *overwritten)
        seconds.append(time.process_time() - began_s)
        check_invariants(store)
    assert seconds[1] < 20 * seconds[0]


def test_a_slice_is_bounded_and_counts_leases() -> None:
    store = KvStore()
    for first in range(0, 2000, 500):
        run(store, *((Opcode.LEASE_GRANT, 100, first + one + 1, 5000) for one in range(500)))
    revision = store.revision
    run(store, at_ms=100)
    assert store.lease_count == 2000 - EXPIRE_SLICE_KEYS
    assert store.revision == revision  # a lease without keys is no change of any key


def test_the_order_does_not_depend_on_how_keys_were_bound() -> None:
    names = [b"a%d" % number for number in range(1000)]
    stores = []
    for order in (names, names[::-1]):
        store = KvStore()
        run(store, grant(), *map(set_, names), attach(7, *order))
        stores.append(store)
    stores.append(reload(stores[0]))
    for store in stores:
        run(store, at_ms=TTL_MS)
    left = [{key for key in names if key in store._keyspace.buckets[bucket_of(key)]}
            for store in stores]  # fmt: skip
    assert left[0] == left[1] == left[2]


# ------------------------------------------------------------------ transactions


def transaction(*commands: Command) -> Command:
    words: list[Any] = [Opcode.EXEC, 0, len(commands)]
    for opcode, *arguments in commands:
        words += (1 + len(arguments), int(opcode), *arguments)
    return tuple(words)


def test_a_transaction_grants_and_binds_in_one_step() -> None:
    store = KvStore()
    assert run(store, transaction(grant(), leased_set(7, b"k", b"v"), get(b"k"))) == [7, OK, b"v"]
    assert facts(store)[b"keys"] == [b"k"]
    assert store.revision == 1


def test_a_transaction_revokes_and_makes_again_under_one_revision() -> None:
    store = with_lease(b"k")
    before = store.revision
    commands = transaction(set_(b"a"), (Opcode.LEASE_REVOKE, 7), get(b"k"), set_(b"k", b"2"))
    assert run(store, commands) == [OK, 1, None, OK]
    assert store.revision == before + 1
    entry = store._keyspace.find(b"k")
    assert entry == (b"2", 0, before + 1, before + 1, 1)


def test_all_that_a_transaction_revokes_goes_under_its_revision() -> None:
    store = with_lease(b"k")
    run(store, leased_set(7, b"l", b"v"), leased_set(7, b"m", b"v"))
    before = store.revision
    named = transaction((Opcode.LEASE_REVOKE, 7), (Opcode.EXISTS, b"l", b"k"), set_(b"k"))
    assert run(store, named) == [3, 0, OK]
    changes = [change[:3] for change in store.history.stretch(before, 100)]
    assert changes == [(before + 1, PUT, b"k"), (before + 1, DELETE, b"l")]
    run(store)
    assert [change[1:3] for change in store.history.stretch(before + 1, 100)] == [(EXPIRE, b"m")]


def test_many_revocations_in_a_transaction_cost_no_more_each_than_alone() -> None:
    revocations = [(int(Opcode.LEASE_REVOKE), number) for number in range(1, 301)]
    seconds = []
    for commands in ([transaction(*revocations)], revocations):
        store = KvStore()
        for number in range(1, 301):
            keys = [b"%d %d" % (number, one) for one in range(100)]
            run_unchecked(store, grant(number), *map(set_, keys), attach(number, *keys))
        began_s = time.process_time()
        run_unchecked(store, *commands)
        seconds.append(time.process_time() - began_s)
    assert seconds[0] < 20 * seconds[1]


def test_a_range_at_present_leaves_out_what_a_lease_lost_and_the_past_does_not() -> None:
    store = with_lease(b"b")
    run(store, set_(b"a"), set_(b"c"))
    before = store.revision
    keys_only, count = int(RangeReadFlag.KEYS_ONLY), int(RangeReadFlag.COUNT)
    apply(store, [(int(Opcode.LEASE_REVOKE), 7)])
    present = store.execute((int(Opcode.KV_RANGE), b"", b"", 100, None, keys_only))
    assert isinstance(present, list)
    assert present[-1] == [b"a", b"c"]
    assert store.execute((int(Opcode.KV_RANGE), b"", b"", 100, None, count)) == 2
    # A read that began before the removal goes on to leave it out.
    steps = store.sliced((int(Opcode.KV_RANGE), b"", b"", 100, None, keys_only))
    run(store)
    assert rest_of(steps)[-1] == [b"a", b"c"]
    past = store.execute((int(Opcode.KV_RANGE), b"", b"", 100, before, keys_only))
    assert isinstance(past, list)
    assert past[-1] == [b"a", b"b", b"c"]


def test_a_grant_that_is_sent_twice_is_one_lease() -> None:
    store = KvStore()
    session = run(store, (Opcode.SESSION_OPEN, 10_000))
    once = (Opcode.ONCE, session, 1, 1, int(Opcode.LEASE_GRANT), TTL_MS, None, LEASES_MAX)
    lease_id = run(store, once)
    assert run(store, once) == lease_id
    assert store.lease_count == 1


def test_a_result_too_large_for_a_session_takes_back_bindings_too() -> None:
    store = with_lease(b"k")
    session = run(store, (Opcode.SESSION_OPEN, 10_000))
    run(store, set_(b"large", b"v" * RESULT_BYTES_MAX))
    wrapped = transaction(
        (Opcode.LEASE_DETACH, b"k"), (Opcode.GET, b"large"), (Opcode.GET, b"large")
    )
    result = run(store, (Opcode.ONCE, session, 1, 1, *wrapped))
    assert isinstance(result, ErrorReply)
    assert facts(store)[b"keys"] == [b"k"]


def test_a_full_dataset_takes_no_more_values_but_keeps_its_leases() -> None:
    store = with_lease(b"k")
    run(store, (Opcode.LIMIT_DATASET, 1))
    assert isinstance(run(store, leased_set(7, b"l", b"v")), ErrorReply)
    assert run(store, (Opcode.LEASE_KEEPALIVE, 7)) == TTL_MS
    assert run(store, (Opcode.LEASE_REVOKE, 7)) == 1


def test_the_next_deadline_in_lease_time_is_the_earlier_of_leases_and_sessions() -> None:
    store = KvStore()
    run(store, (Opcode.SESSION_OPEN, 5000))
    assert store.next_lease_deadline_ms == 5000
    run(store, grant(7, 1000))
    assert store.next_lease_deadline_ms == 1000
    run(store, (Opcode.LEASE_REVOKE, 7))
    assert store.next_lease_deadline_ms == 0


def test_a_failure_takes_everything_back() -> None:
    store, twin = with_lease(b"k"), with_lease(b"k")
    wrong = transaction(
        grant(8), attach(8, b"k"), (Opcode.LEASE_REVOKE, 7), (Opcode.LEASE_KEEPALIVE, 8),
        (Opcode.FLUSH,), leased_set(8, b"new", b"v"), (Opcode.SET, b"k", 5),
    )  # fmt: skip
    for one in (store, twin):
        assert isinstance(run(one, wrong), ErrorReply)
    fresh = with_lease(b"k")
    run(fresh)
    assert store.state_hash == twin.state_hash
    assert store.alarms
    assert facts(store)[b"keys"] == [b"k"]
    assert store.lease_count == 1
    assert store._keyspace.buckets == fresh._keyspace.buckets


# ----------------------------------------------------------------------- images


def golden_store() -> KvStore:
    """The store whose image is kept in the golden file; must not change."""
    store = KvStore()
    run(store, grant(7, 60_000), grant(2**53 - 1, 500), set_(b"free"), at_ms=1_000_000)
    run(store, leased_set(7, b"b", b"1"), leased_set(7, b"a", b"2"), at_ms=1_000_100)
    run(store, grant(9, 1000), leased_set(9, b"lost", b"3"), (Opcode.LEASE_REVOKE, 9),
        at_ms=1_000_200)  # fmt: skip
    return store


def image_of(store: KvStore) -> bytes:
    return b"".join(store.start_image().slices())


def test_the_bytes_are_those_of_the_golden_file() -> None:
    golden = GOLDEN.read_bytes()
    assert image_of(golden_store()) == golden
    loader = ImageLoader()
    loader.feed(golden)
    store = loader.finish()
    check_invariants(store)
    assert list(store._keyspace.leases.held.items()) == [
        (7, (60_000, 1_060_000)),
        (9, (1000, 0)),
        (2**53 - 1, (500, 1_000_500)),
    ]
    assert store.key_count == 3
    assert image_of(store) == golden


def test_a_lease_larger_than_a_piece_is_cut() -> None:
    names = [b"a%d" % number for number in range(2 * PIECE_KEYS_MAX)]
    store = KvStore()
    run(store, *map(set_, names))
    run(store, *(grant(one) for one in range(1, 900)), attach(7, *names, keys_max=10**6))
    pieces = list(store.start_image().slices())
    kinds = [PIECE_HEADER.unpack_from(piece)[1] for piece in pieces]
    assert kinds.count(PIECE_LEASES) == 3
    again = reload(store)
    check_invariants(again)
    assert again._keyspace.leases.bindings == store._keyspace.leases.bindings
    assert image_of(again) == image_of(store)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([(7, 60_000, 5, [])], "out of order"),
        ([(8, 0, 5, [])], "out of order or wrong"),
        ([(8, 5, -1, [])], "out of order or wrong"),
        ([(8, 5, 5, [b"nowhere"])], "of nobody"),
        ([(8, 5, 5, [b"a"])], "or of another"),
        ([(8, 5, 5, [7])], "not readable"),
        (7, "not readable"),
    ],
)
def test_a_wrong_piece_of_leases_is_refused(rows: Any, reason: str) -> None:
    store = KvStore()
    run(store, grant(7, 60_000), leased_set(7, b"a", b"1"))
    *pieces, last = store.start_image().slices()
    body = msgspec.msgpack.encode(rows)
    loader = ImageLoader()
    for piece in pieces:
        loader.feed(piece)
    with pytest.raises(ProtocolError, match=reason):
        loader.feed(PIECE_HEADER.pack(len(body), PIECE_LEASES) + body + last)


def random_commands(chooser: random.Random) -> list[Command]:
    commands: list[Command] = []
    for _ in range(12):
        key, lease_id = b"k%d" % chooser.randrange(300), chooser.randrange(1, 12)
        commands.append(
            chooser.choice(
                [
                    set_(key, b"%d" % chooser.randrange(100)),
                    leased_set(lease_id, key, b"leased"),
                    leased_set(lease_id, key, b"leased"),
                    attach(lease_id, key, b"k%d" % chooser.randrange(300)),
                    (Opcode.LEASE_DETACH, key),
                    grant(lease_id, chooser.randrange(100, 900)),
                    (Opcode.LEASE_KEEPALIVE, lease_id),
                    (Opcode.DEL, key),
                    (Opcode.RENAME, key, b"k%d" % chooser.randrange(300)),
                    (Opcode.APPEND, key, b"+", 10**6),
                    (Opcode.EXPIRE, key, chooser.randrange(1, 900), None, 0, b"pexpire"),
                    (Opcode.MGET, key, b"k1"),
                    (Opcode.DBSIZE,),
                ]
            )
        )
    if chooser.random() < 0.1:
        commands.append((Opcode.LEASE_REVOKE, chooser.randrange(1, 12)))
    if chooser.random() < 0.01:
        commands.append((Opcode.FLUSH,))
    return commands


@pytest.mark.parametrize("seed", range(4))
def test_an_image_shows_its_moment_while_leases_change(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "FREE_SLICE_KEYS", 50)
    chooser = random.Random(seed)
    store, twin = KvStore(), KvStore()
    open_images: list[tuple[Any, list[bytes], bytes]] = []
    for step in range(160):
        commands = random_commands(chooser)
        assert run(store, *commands, at_ms=10 * step) == run(twin, *commands, at_ms=10 * step)
        assert store.state_hash == twin.state_hash
        store.free_slice()
        if chooser.random() < 0.1:
            twin = reload(twin)
        if step % 40 == 20:
            open_images.append((store.start_image().slices(), [], image_of(store)))
        if open_images and chooser.random() < 0.3:
            slices, pieces, _ = chooser.choice(open_images)
            pieces.extend(piece for piece in [next(slices, None)] if piece is not None)
    assert image_of(store) == image_of(twin)
    for slices, pieces, moment in open_images:
        pieces.extend(slices)
        assert b"".join(pieces) == moment
    assert store._keyspace.leases.views == []
    while store.free_slice():
        pass


names = st.sampled_from([b"a", b"b", b"c", b"1619"])
lease_ids = st.integers(1, 3)


class LeaseMachine(RuleBasedStateMachine):
    """Drives a store and a model: dicts of keys and leases, of which the dead go at once."""

    def __init__(self) -> None:
        super().__init__()
        self.store = KvStore()
        self.owners: dict[bytes, int] = {}  # key -> id of its lease, or 0
        self.deadlines: dict[int, int] = {}
        self.now_ms = 0

    def run(self, *command: Any) -> Any:
        return run(self.store, command, at_ms=self.now_ms)

    def end(self, lease_id: int) -> None:
        self.deadlines.pop(lease_id, None)
        self.owners = {key: one for key, one in self.owners.items() if one != lease_id}

    @rule(passed_ms=st.sampled_from([1, 60, 200]))
    def wait(self, passed_ms: int) -> None:
        self.now_ms += passed_ms
        for lease_id in [one for one, ms in self.deadlines.items() if ms <= self.now_ms]:
            self.end(lease_id)
        run(self.store, at_ms=self.now_ms)

    @rule(lease_id=lease_ids)
    def grant(self, lease_id: int) -> None:
        exists = lease_id in self.deadlines
        assert self.run(*grant(lease_id, 100)) == (error(LEASE_EXISTS) if exists else lease_id)
        self.deadlines.setdefault(lease_id, self.now_ms + 100)

    def is_refused(self, lease_id: int, told: object) -> bool:
        is_there = lease_id in self.deadlines
        assert (told == error(NO_LEASE)) is not is_there
        return not is_there

    @rule(lease_id=lease_ids)
    def keep_alive(self, lease_id: int) -> None:
        if not self.is_refused(lease_id, self.run(Opcode.LEASE_KEEPALIVE, lease_id)):
            self.deadlines[lease_id] = self.now_ms + 100

    @rule(lease_id=lease_ids)
    def revoke(self, lease_id: int) -> None:
        told = self.run(Opcode.LEASE_REVOKE, lease_id)
        if not self.is_refused(lease_id, told):
            assert told == list(self.owners.values()).count(lease_id)
            self.end(lease_id)

    @rule(key=names)
    def set(self, key: bytes) -> None:
        self.run(*set_(key))
        self.owners[key] = 0

    @rule(key=names, lease_id=lease_ids)
    def leased_set(self, key: bytes, lease_id: int) -> None:
        if not self.is_refused(lease_id, self.run(*leased_set(lease_id, key, b"v"))):
            self.owners[key] = lease_id

    @rule(key=names, lease_id=lease_ids)
    def attach(self, key: bytes, lease_id: int) -> None:
        told = self.run(*attach(lease_id, key))
        if not self.is_refused(lease_id, told):
            assert told == int(key in self.owners)
            if told:
                self.owners[key] = lease_id

    @rule(key=names)
    def detach(self, key: bytes) -> None:
        assert self.run(Opcode.LEASE_DETACH, key) == bool(self.owners.get(key))
        if key in self.owners:
            self.owners[key] = 0

    @rule(key=names)
    def delete(self, key: bytes) -> None:
        assert self.run(Opcode.DEL, key) == int(key in self.owners)
        self.owners.pop(key, None)

    @rule()
    def reload(self) -> None:
        self.store = reload(self.store)

    @invariant()
    def keys_are_those_of_the_model(self) -> None:
        found: Any = self.store.execute((int(Opcode.KEYS), b"*"))
        assert sorted(found) == sorted(self.owners)
        assert self.store.key_count == len(self.owners)


TestLeaseMachine = LeaseMachine.TestCase

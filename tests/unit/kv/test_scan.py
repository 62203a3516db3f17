"""SCAN and the other commands on the whole store."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from raftkv.kv.commands import OK, Command, Opcode
from raftkv.kv.keyspace import bucket_of
from raftkv.kv.scan import SCAN_HASHED_KEYS_MAX, SCAN_KEYS_MAX, SCAN_ORDERS_MAX
from raftkv.kv.slots import key_slot
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply, check_invariants, reload

SET, DEL, SCAN = int(Opcode.SET), int(Opcode.DEL), int(Opcode.SCAN)


def filled(keys: Sequence[bytes]) -> KvStore:
    store = KvStore()
    apply(store, [(SET, key, b"v") for key in keys])
    return store


def page(store: KvStore, cursor: int, **options: Any) -> tuple[int, list[bytes]]:
    result = store.execute(
        (SCAN, cursor, options.get("match"), options.get("count", 10), options.get("type"))
    )
    assert isinstance(result, list)
    return int(result[0]), result[1]


def scan_all(store: KvStore, **options: Any) -> list[bytes]:
    cursor, found = page(store, 0, **options)
    while cursor:
        before = cursor
        cursor, keys = page(store, cursor, **options)
        assert cursor > before or cursor == 0, "the scan does not get on"
        found += keys
    return found


@pytest.mark.parametrize("count", [1, 2, 10, 1000, 10**9])
def test_a_scan_returns_every_key_once(count: int) -> None:
    keys = [b"key:%d" % n for n in range(3000)]
    assert sorted(scan_all(filled(keys), count=count)) == sorted(keys)


def test_a_page_has_the_size_that_was_asked_for() -> None:
    store = filled([b"key:%d" % n for n in range(3000)])
    cursor, keys = page(store, 0, count=7)
    assert len(keys) == 7
    assert len(page(store, cursor, count=100)[1]) == 100


def test_an_empty_store_is_scanned_at_once() -> None:
    assert page(KvStore(), 0) == (0, [])


@pytest.mark.parametrize("cursor", [2**42, 2**63, 2**64 - 1])
def test_a_cursor_behind_the_end_ends_the_scan(cursor: int) -> None:
    assert page(filled([b"a", b"b"]), cursor) == (0, [])


def test_cursors_are_exact_as_floating_point_numbers() -> None:
    store = filled([b"key:%d" % n for n in range(500)])
    cursor, cursors = page(store, 0, count=1)[0], []
    while cursor:
        cursors.append(cursor)
        cursor, _ = page(store, cursor, count=1)
    assert len(cursors) >= 490
    assert max(cursors) < 2**42
    assert cursors == sorted(set(cursors))


def test_match_and_type_filter_what_is_returned() -> None:
    store = filled([b"a1", b"a2", b"b1"])
    assert sorted(scan_all(store, match=b"a*")) == [b"a1", b"a2"]
    assert sorted(scan_all(store, match=b"*1", type=b"string")) == [b"a1", b"b1"]
    assert scan_all(store, type=b"list") == []


@pytest.mark.parametrize("seed", range(10))
def test_keys_present_throughout_are_returned_under_writes_on_changing_nodes(seed: int) -> None:
    chooser = random.Random(seed)
    lasting = [b"stays:%d" % n for n in range(1000)]
    store = filled([*lasting, *(b"goes:%d" % n for n in range(1000))])
    cursor, found = page(store, 0, count=50)
    while cursor:
        number = chooser.randrange(2000)
        apply(store, [(DEL, b"goes:%d" % n) for n in range(number, number + 5)])
        apply(store, [(SET, b"comes:%d" % chooser.randrange(10**6), b"v")])
        apply(store, [(SET, chooser.choice(lasting), b"changed")])
        if chooser.random() < 0.3:
            store = reload(store)
        cursor, keys = page(store, cursor, count=chooser.choice([1, 10, 200]))
        found += keys
    assert set(lasting) <= set(found)
    # Those that were there throughout appear exactly once: their position is fixed.
    assert len([key for key in found if key.startswith(b"stays")]) == len(lasting)
    check_invariants(store)


@pytest.mark.parametrize(
    "command",
    [
        (SET, b"NEW", b"v"),
        (int(Opcode.SET_WITH), b"NEW", b"v", 0, 5000, None, b"set"),
        (int(Opcode.COPY), b"OLD", b"NEW", 0),
        (int(Opcode.RENAME), b"OLD", b"NEW"),
        (DEL, b"OLD"),
        (int(Opcode.EXPIRE), b"OLD", -1, None, 0, b"expire"),
    ],
)
def test_a_key_that_comes_or_goes_is_seen_by_the_next_page(command: Command) -> None:
    first, second, third = [key for n in range(6000) if bucket_of(key := b"%d" % n) == 7][:3]
    names = {b"OLD": first, b"NEW": third}
    store = filled([first, second])
    assert sorted(page(store, 0)[1]) == sorted([first, second])
    apply(store, [tuple(names.get(field, field) for field in command)])
    expected = {first, second, third} & {
        key for bucket in store._keyspace.buckets for key in bucket
    }
    assert expected != {first, second}
    assert sorted(page(store, 0)[1]) == sorted(expected)
    check_invariants(store)


def test_keys_of_equal_position_are_not_parted() -> None:
    # Six bytes that leave both checksums, the bucket's and the position's, as they are.
    twins = equal_position_twins()
    store = filled(twins)
    assert sorted(scan_all(store, count=1)) == sorted(twins)
    assert sorted(page(store, 0, count=1)[1]) == sorted(twins)


def equal_position_twins() -> list[bytes]:
    """Two keys of equal CRC-16 and CRC-32, found by elimination over single bits."""
    import zlib
    from binascii import crc_hqx

    size = 8

    def checksum(key: bytes) -> int:
        return zlib.crc32(key) << 16 | crc_hqx(key, 0)

    base = bytes(size)
    rows: dict[int, tuple[int, int]] = {}
    for bit in range(size * 8):
        key = 1 << bit
        # Both checksums are linear: equal ones differ by a combination of bits that cancels.
        difference = checksum(key.to_bytes(size, "big")) ^ checksum(base)
        while difference:
            top = difference.bit_length()
            if top not in rows:
                rows[top] = (difference, key)
                break
            difference ^= rows[top][0]
            key ^= rows[top][1]
        else:
            twin = key.to_bytes(size, "big")
            assert checksum(twin) == checksum(base)
            return [base, twin]
    raise AssertionError("no twins")


def test_the_work_of_one_page_is_bounded() -> None:
    store = KvStore()
    for first in range(0, 60_000, 4000):
        apply(store, [(SET, b"%d" % n, b"v") for n in range(first, first + 4000)])
    _, keys = page(store, 0, count=10**9)
    largest = max(map(len, store._keyspace.buckets))
    assert len(keys) <= SCAN_HASHED_KEYS_MAX + largest
    assert len(keys) <= SCAN_KEYS_MAX
    scan_all(store, count=500)
    assert len(store._keyspace.orders) <= SCAN_ORDERS_MAX


# ------------------------------------------------------------- sliced reads


def finish(steps: Generator[None, None, Any]) -> Any:
    """Run a sliced read to its end."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def run(store: KvStore, command: Command, between: list[Command]) -> tuple[object, int]:
    """Run a sliced read with a write behind each step."""
    steps = store.sliced(command)
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value, count
        count += 1
        apply(store, between)


def test_keys_are_those_of_the_call() -> None:
    keys = [b"%d" % n for n in range(8000)]
    store = filled(keys)
    between = [(SET, b"new", b"v"), (DEL, *keys[::7]), (SET, keys[3], b"changed")]
    found, count = run(store, (int(Opcode.KEYS), b"*"), between)
    assert sorted(found) == sorted(keys)  # type: ignore[call-overload]
    assert count >= 4
    assert store._keyspace.views == []
    flushed, _ = run(store, (int(Opcode.KEYS), b"*5*"), [(int(Opcode.FLUSH),)])
    alive = {*keys, b"new"} - set(keys[::7])
    assert sorted(flushed) == sorted(key for key in alive if b"5" in key)  # type: ignore


def test_a_read_is_not_disturbed_by_what_comes_before_its_first_step() -> None:
    keys = [b"%d" % n for n in range(100)]
    store = filled(keys)
    reads = [store.sliced((int(Opcode.KEYS), b"*")) for _ in range(2)]
    apply(store, [(SET, b"new", b"v"), (DEL, keys[0])])
    store.retire()
    while store.free_slice():
        pass
    for steps in reads:
        assert sorted(finish(steps)) == sorted(keys)


def test_a_read_that_never_ran_lets_go_of_its_view() -> None:
    store = filled([b"a"])
    steps = store.sliced((int(Opcode.COUNTKEYSINSLOT), 0))
    assert len(store._keyspace.views) == 1
    steps.close()
    assert store._keyspace.views == []


def test_an_abandoned_read_lets_go_of_its_view() -> None:
    store = filled([b"%d" % n for n in range(5000)])
    steps = store.sliced((int(Opcode.KEYS), b"*"))
    next(steps)
    assert len(store._keyspace.views) == 1
    steps.close()
    assert store._keyspace.views == []


def test_keys_in_a_slot_honour_hash_tags() -> None:
    tagged = [b"%d{user}" % n for n in range(50)]
    plain = [b"%d" % n for n in range(2000)]
    store = filled([*tagged, *plain, b"user"])
    slot = key_slot(b"user")
    expected = sum(key_slot(key) == slot for key in [*tagged, *plain, b"user"])
    assert expected >= 51
    assert store.execute((int(Opcode.COUNTKEYSINSLOT), slot)) == expected
    total = sum(
        store.execute((int(Opcode.COUNTKEYSINSLOT), key_slot(key)))  # type: ignore[misc]
        for key in {key_slot(key): key for key in plain[:40]}.values()
    )
    slots = {key_slot(key) for key in plain[:40]}
    assert total == sum(key_slot(key) in slots for key in [*tagged, *plain, b"user"])


# ---------------------------------------------------------------- the others


def test_random_keys_follow_their_seed_alone() -> None:
    keys = [b"%d" % n for n in range(100)]
    store = filled(keys)
    draws = [store.execute((int(Opcode.RANDOMKEY), seed)) for seed in range(2000)]
    assert set(draws) == set(keys)
    assert max(map(draws.count, keys)) < 60
    again = reload(store)
    assert draws == [again.execute((int(Opcode.RANDOMKEY), seed)) for seed in range(2000)]


def test_no_random_key_of_an_empty_store() -> None:
    assert KvStore().execute((int(Opcode.RANDOMKEY), 1)) is None


def test_the_one_live_key_among_many_dead_is_found() -> None:
    store = KvStore()
    dead = [(int(Opcode.SET_WITH), b"dead %d" % n, b"v", 0, None, 500, b"set") for n in range(4000)]
    apply(store, [*dead, (SET, b"live", b"v")])
    store._keyspace.log_time_ms = 1000
    assert {store.execute((int(Opcode.RANDOMKEY), seed)) for seed in range(20)} == {b"live"}


def test_a_flush_empties_the_store() -> None:
    store = filled([b"%d" % n for n in range(100)])
    scan_all(store)
    assert apply(store, [(int(Opcode.FLUSH),), (int(Opcode.DBSIZE),)]) == [OK, 0]
    assert scan_all(store) == []
    revision = store.revision
    apply(store, [(int(Opcode.FLUSH),)])
    assert store.revision == revision


def test_buckets_spread_evenly() -> None:
    counts = [0] * 1024
    for n in range(100_000):
        counts[bucket_of(b"key:%012d" % n)] += 1
    assert min(counts) > 30
    assert max(counts) < 250

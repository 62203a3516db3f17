"""Runs of plain commands against the general path: the same results, state and hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import OK, Command, Opcode
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import check_invariants

# The last three share a bucket, which is the first of all.
KEYS = [b"a", b"b", b"", b"c" * 40, b"axh", b"ccg", b"d4s"]
keys = st.sampled_from(KEYS)
values = st.sampled_from([b"", b"1", b"-5", b"text", bytes(600)])
sets = st.tuples(st.just(1), keys, values)
gets = st.tuples(st.just(3), keys)
unusual = st.one_of(
    st.tuples(st.just(2), keys, values, st.just(0), st.integers(1, 30), st.none(), st.just(b"set")),
    st.tuples(st.just(14), keys, st.just(7)),
    st.tuples(st.just(50), keys, keys),
    st.tuples(st.just(120), keys, st.just(0), st.just(b"field"), values),
    st.tuples(st.just(5), keys, values, keys, values),
    st.tuples(st.just(4), keys, keys),
    st.just((104,)),
    # What only a faulty leader puts into the log.
    st.sampled_from([(1,), (1, b"a"), (1, b"a", 5), (1, None, b"v"), (1, 7, b"v"), (3,), (3, 7)]),
    st.sampled_from([(1, b"a", None), (1, b"a", b"v", b"w"), (3, b"a", b"b"), (3, None)]),
)
commands = st.lists(st.one_of(sets, sets, gets, unusual), max_size=12)
batches = st.lists(st.tuples(st.integers(0, 20), commands), max_size=6)


class OneByOne(KvStore):
    """A store that never sees a run."""

    def _run(self, index: int, commands: Sequence[Command]) -> list[object]:
        return [result for command in commands for result in KvStore._run(self, index, [command])]

    def execute_all(self, commands: Sequence[Command]) -> list[object]:
        return [result for command in commands for result in KvStore.execute_all(self, [command])]


def contents(store: KvStore) -> list[dict[bytes, Any]]:
    return [shown(bucket) for bucket in store._keyspace.buckets]


def shown(bucket: dict[bytes, Any]) -> dict[bytes, Any]:
    """The entries, with the number of elements in place of a collection."""
    return {
        key: entry if type(entry[0]) is bytes else (entry[0].size, *entry[1:])
        for key, entry in bucket.items()
    }


@given(batches, st.lists(gets, max_size=8), st.integers(0, 7), st.integers(0, 1024))
def test_runs_do_what_single_commands_do(
    history: list[tuple[int, list[Command]]], reads: list[Command], view_at: int, read: int
) -> None:
    stores = [KvStore(), OneByOne()]
    views = []
    frozen: list[list[dict[bytes, Any]]] = []
    now_ms = 1
    for number, (later_ms, batch) in enumerate(history):
        if number == view_at:
            for store in stores:
                view = store._keyspace.view()
                frozen.append(contents(store))
                assert [shown(view.take_next()) for _ in range(read)] == frozen[-1][:read]
                views.append(view)
        for store in stores:
            # The order of a bucket, which has to be given up when a key comes.
            store.execute((101, 0, None, 10, None))
        now_ms += later_ms
        payload = encode_batch(now_ms, now_ms, 9, batch)
        results = [store.apply(number + 1, payload) for store in stores]
        assert results[0] == results[1]
        assert stores[0].state_hash == stores[1].state_hash
        assert stores[0].revision == stores[1].revision
        assert [alarm[:2] for alarm in stores[0].alarms] == [a[:2] for a in stores[1].alarms]
        assert contents(stores[0]) == contents(stores[1])
        check_invariants(stores[0])
    assert stores[0].execute_all(reads) == stores[1].execute_all(reads)
    for view, before in zip(views, frozen, strict=True):
        assert [shown(view.take_next()) for _ in range(1024 - read)] == before[read:]


def test_a_run_goes_on_behind_what_is_not_plain() -> None:
    store = KvStore()
    store.apply(1, encode_batch(5, 5, 0, [(2, b"b", b"1", 0, 3, None, b"set")]))
    batch = [(1, b"a", b"1"), (1, b"b", b"2"), (1, b"c", b"3"), (1, b"c", 4), (1, b"d", b"5")]
    results = store.apply(2, encode_batch(9, 9, 0, batch))
    assert results[:3] == [OK, OK, OK]
    assert results[4] == OK
    assert len(store.alarms) == 1
    assert store.execute_all([(int(Opcode.GET), key) for key in (b"a", b"b", b"c", b"d")]) == [
        b"1",
        b"2",
        b"3",
        b"5",
    ]


def test_a_run_takes_away_a_deadline() -> None:
    store = KvStore()
    store.apply(1, encode_batch(5, 5, 0, [(2, b"b", b"1", 0, 30, None, b"set")]))
    store.apply(2, encode_batch(6, 6, 0, [(1, b"a", b"1"), (1, b"b", b"2"), (1, b"c", b"3")]))
    check_invariants(store)
    assert store.next_deadline_ms is None
    store.apply(3, encode_batch(90, 90, 0, []))
    assert store.execute_all([(3, b"b"), (3, b"c")]) == [b"2", b"3"]


def test_a_run_of_gets_does_not_see_the_dead() -> None:
    store = KvStore()
    dead = [(2, b"key:%d" % number, b"1", 0, 5, None, b"set") for number in range(1500)]
    store.apply(1, encode_batch(5, 5, 0, dead))
    # More have died than two batches remove, the last of all in the order of keys among them.
    store.apply(2, encode_batch(90, 90, 0, []))
    assert store._keyspace.entry_count() > 0
    gets_of_all = [(3, command[1]) for command in dead]
    assert store.execute_all(gets_of_all) == [None] * 1500
    assert store.apply(3, encode_batch(90, 90, 0, [(5, b"key:999", b"2", b"new", b"3")])) == [OK]
    assert store._keyspace.find(b"key:999")[4] == 1


@pytest.mark.parametrize("read", [0, 1, 5])
def test_a_run_notes_for_a_view_what_it_has_yet_to_read(read: int) -> None:
    names = [b"key:%d" % number for number in range(4000)]
    store = KvStore()
    store.apply(1, encode_batch(5, 5, 0, [(1, name, b"old") for name in names]))
    view = store._keyspace.view()
    before = contents(store)
    for number in range(read):
        assert view.take_next() == before[number]
    store.apply(2, encode_batch(6, 6, 0, [(1, name, b"new") for name in names]))
    assert [view.take_next() for _ in range(1024 - read)] == before[read:]

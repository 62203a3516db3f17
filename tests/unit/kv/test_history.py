"""The history: what counts as a change, how it is read, bounded and freed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import INTERNAL_ERROR, Command, Opcode
from raftkv.kv.history import (
    BYTES_KEPT,
    CHANGE_BYTES,
    CHUNK_CHANGES,
    HARD_BOUND_FACTOR,
    HARD_BOUND_REVISIONS,
    REVISIONS_KEPT,
    ChangeKind,
    CompactedError,
    Event,
    History,
)
from raftkv.kv.store import EXPIRE_SLICE_KEYS, KvStore
from tests.unit.kv.driver import apply, check_invariants

GOLDEN = Path(__file__).parents[2] / "golden" / "kv"
SET = int(Opcode.SET)
PUT, DELETE, EXPIRE = map(int, ChangeKind)


def set_with(key: bytes, ttl_ms: int) -> Command:
    return (int(Opcode.SET_WITH), key, b"v", 0, ttl_ms, None, b"set")


def exec_of(*commands: Command) -> Command:
    flat = [field for command in commands for field in (len(command), *command)]
    return (int(Opcode.EXEC), 0, len(commands), *flat)


def seen(store: KvStore, after: int = 0) -> list[tuple[int, int, int, int, bytes]]:
    """Return events without their entries."""
    return [event[:5] for event in store.history.events(after, 10**6)]


def values(events: list[Event]) -> list[tuple[object, object]]:
    """Return the values after and before each event."""
    return [
        (event.entry and event.entry[0], event.previous and event.previous[0]) for event in events
    ]


def test_each_set_of_a_run_is_an_event_with_both_entries() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1"), (SET, b"b", b"2"), (SET, b"a", b"3")])
    assert seen(store) == [(1, 1, 1, PUT, b"a"), (2, 1, 1, PUT, b"b"), (3, 1, 1, PUT, b"a")]
    events = store.history.events(0, 10)
    assert values(events) == [(b"1", None), (b"2", None), (b"3", b"1")]
    assert events[2].entry == (b"3", 0, 1, 3, 2)


def test_a_command_on_several_keys_is_one_revision() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.MSET), b"a", b"1", b"b", b"2", b"a", b"3")])
    assert seen(store) == [(1, 1, 2, PUT, b"a"), (1, 2, 2, PUT, b"b")]
    apply(store, [(int(Opcode.RENAME), b"a", b"b")])
    assert seen(store, 1) == [(2, 1, 2, DELETE, b"a"), (2, 2, 2, PUT, b"b")]
    assert values(store.history.events(1, 10)) == [(None, b"3"), (b"3", b"2")]


def test_a_command_without_effect_leaves_no_event() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.DEL), b"a"), (int(Opcode.FLUSH),)])
    assert (store.revision, store.history.revision, seen(store)) == (0, 0, [])


def test_what_happens_several_times_to_a_key_in_a_transaction_is_one_event() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"0")])
    apply(
        store,
        [
            exec_of(
                (SET, b"a", b"1"),
                (SET, b"new", b"x"),
                (int(Opcode.DEL), b"a"),
                (SET, b"a", b"2"),
                (int(Opcode.DEL), b"new"),
                (SET, b"b", b"3"),
            )
        ],
    )
    assert seen(store, 1) == [(2, 1, 2, PUT, b"a"), (2, 2, 2, PUT, b"b")]
    assert values(store.history.events(1, 10)) == [(b"2", b"0"), (b"3", None)]


def test_a_transaction_whose_effects_cancel_takes_a_revision_without_events() -> None:
    store = KvStore()
    apply(store, [exec_of((SET, b"a", b"1"), (int(Opcode.DEL), b"a"))])
    assert (store.history.revision, seen(store)) == (store.revision, [])


def test_expiry_has_revisions_of_its_own_before_the_command() -> None:
    store = KvStore()
    apply(store, [set_with(b"a", 10), set_with(b"b", 10), set_with(b"c", 99), (SET, b"d", b"v")])
    apply(store, [(SET, b"a", b"new")], at_ms=20)
    assert seen(store, 4) == [
        (5, 1, 2, EXPIRE, b"a"),
        (5, 2, 2, EXPIRE, b"b"),
        (6, 1, 1, PUT, b"a"),
    ]
    assert values(store.history.events(5, 10)) == [(b"new", None)]


def test_dead_keys_met_by_a_command_go_before_it() -> None:
    store = KvStore()
    apply(store, [set_with(b"%d" % n, 10) for n in range(EXPIRE_SLICE_KEYS + 1)])
    apply(store, [(SET, b"a", b"1"), set_with(b"b", 11)])
    before = store.revision
    assert apply(store, [(int(Opcode.DEL), b"a", b"b")], at_ms=20) == [1]
    assert seen(store, before + 1) == [
        (before + 2, 1, 1, EXPIRE, b"b"),
        (before + 3, 1, 1, DELETE, b"a"),
    ]


def test_what_is_undone_leaves_no_event() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1")])
    results = apply(store, [exec_of((SET, b"a", b"2"), (SET, b"x", None))])
    assert results == [INTERNAL_ERROR]
    assert (store.revision, seen(store, 1)) == (1, [])
    check_invariants(store)


def test_a_flush_ends_the_history() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1"), (SET, b"b", b"1")])
    apply(store, [exec_of((SET, b"a", b"2"), (int(Opcode.FLUSH),), (SET, b"c", b"3"))])
    history = store.history
    assert (history.compacted, history.revision, history.change_count) == (3, 3, 0)
    assert history.byte_count == 0
    with pytest.raises(CompactedError) as raised:
        history.events(2, 10)
    assert raised.value.oldest == 3
    assert history.events(3, 10) == []
    apply(store, [(SET, b"c", b"4")])
    assert values(history.events(3, 10)) == [(b"4", b"3")]


def test_events_come_in_whole_revisions() -> None:
    store = KvStore()
    pairs = [word for n in range(5) for word in (b"k%d" % n, b"v")]
    apply(store, [(SET, b"a", b"1"), (int(Opcode.MSET), *pairs), (SET, b"b", b"1")])
    history = store.history
    assert [event.revision for event in history.events(0, 1)] == [1]
    assert [event.revision for event in history.events(0, 2)] == [1, *[2] * 5]
    assert [event.revision for event in history.events(1, 1)] == [2] * 5
    assert [event.position for event in history.events(1, 1)] == [1, 2, 3, 4, 5]
    assert history.events(3, 1) == []
    assert history.events(99, 1) == []


def filled(revisions: int, size: int = 10) -> KvStore:
    """Return a store with many changes of few keys, some in revisions of several."""
    store = KvStore()
    chooser = random.Random(revisions)
    while store.revision < revisions:
        batch: list[Command] = []
        for _ in range(min(100, revisions - store.revision)):
            key = b"k%d" % chooser.randrange(20)
            if chooser.random() < 0.1:
                batch.append((int(Opcode.MSET), key, bytes(size), b"other", b"1"))
            elif chooser.random() < 0.1:
                batch.append((int(Opcode.DEL), key))
            else:
                batch.append((SET, key, bytes(chooser.randrange(size))))
        apply(store, batch)
    return store


def test_compaction_drops_exactly_what_it_says() -> None:
    store = filled(3000)
    history = store.history
    everything = history.events(0, 10**6)
    for revision in (0, 1, 511, 513, 1024, 1999, 2000, 2999, store.revision, store.revision + 5):
        history.compact(revision)
        revision = min(revision, store.revision)
        assert history.compacted == revision
        assert history.events(revision, 10**6) == [e for e in everything if e[0] > revision]
        check_invariants(store)
        if revision:
            with pytest.raises(CompactedError):
                history.events(revision - 1, 1)
    history.compact(5)
    assert history.compacted == store.revision


def test_the_target_keeps_the_bounds_and_not_less() -> None:
    history = filled(2000).history
    counts = Counter(event.revision for event in history.events(0, 10**6))
    assert history.target(100, 10**9) == history.revision - 100
    for kept in (0, 1, CHANGE_BYTES * 3, history.byte_count // 3, history.byte_count):
        target = history.target(10**6, kept)
        probe = filled(2000).history
        probe.compact(target)
        assert probe.byte_count <= kept
        if target:
            # The newest of the revisions that go would have been too much.
            probe = filled(2000).history
            last = max(revision for revision in counts if revision <= target)
            probe.compact(last - 1)
            assert probe.byte_count > kept


def test_a_history_that_nobody_compacts_is_cut() -> None:
    store = KvStore()
    store.history.bound(10, BYTES_KEPT)
    most = 10 * HARD_BOUND_FACTOR + HARD_BOUND_REVISIONS
    while store.history.compacted == 0:
        assert store.revision <= most
        apply(store, [(SET, b"a", b"1")] * 64)
    assert store.revision > most
    assert store.history.compacted == store.revision - 10
    large = KvStore()
    large.history.bound(REVISIONS_KEPT, 1000)
    for _ in range(20):
        apply(large, [(SET, b"a", bytes(900))])
        assert large.history.byte_count <= HARD_BOUND_FACTOR * 1000


def test_chunks_show_nowhere() -> None:
    one, other = History(), History()
    for revision in range(1, 2 * CHUNK_CHANGES):
        change = (revision, PUT, b"k", None, (b"v", 0, 1, revision, 1))
        one.add(change)
        other.add(change)
        if revision % 7 == 0:
            other.freeze()
    kept = one.byte_count - 9 * CHANGE_BYTES
    assert one.target(10**6, kept) == other.target(10**6, kept) > 0
    one.compact(CHUNK_CHANGES + 3)
    other.compact(CHUNK_CHANGES + 3)
    assert (one.byte_count, one.change_count) == (other.byte_count, other.change_count)
    assert one.events(CHUNK_CHANGES + 3, 10**6) == other.events(CHUNK_CHANGES + 3, 10**6)


def test_a_frozen_history_does_not_change() -> None:
    store = filled(1300)
    frozen = store.history.freeze()
    before = [list(chunk) for chunk in frozen]
    store.history.compact(700)
    apply(store, [(SET, b"k1", b"new"), (int(Opcode.FLUSH),)])
    while store.free_slice():
        pass
    assert frozen == before


def test_old_values_are_freed_in_slices() -> None:
    store = KvStore()
    fields = [word for n in range(40_000) for word in (b"f%d" % n, b"v")]
    for first in range(0, len(fields), 20_000):
        apply(store, [(int(Opcode.HSET), b"h", 0, *fields[first : first + 20_000])])
    apply(store, [(int(Opcode.HSET), b"h", 0, b"f1", b"w"), (int(Opcode.DEL), b"h")])
    # The history holds what was deleted, so that nothing is there to be freed.
    for _ in range(5):
        store.free_slice()
    events = store.history.events(store.revision - 1, 1)
    assert events[0].previous is not None
    assert events[0].previous[0].size == 40_000
    del events
    store.history.compact(store.revision)
    steps = 0
    while store.free_slice():
        steps += 1
    assert steps > 40_000 // 8192
    assert not store._keyspace.garbage.husks


def test_batches_from_before_there_was_a_history_leave_none() -> None:
    applied, restored = KvStore(), KvStore()
    old = [
        (GOLDEN / "batch-1.bin").read_bytes(),
        (GOLDEN / "batch-1-transactions.bin").read_bytes(),
    ]
    for store in (applied, restored):
        store.apply(1, old[0])
        assert (store.history.change_count, store.history.compacted) == (0, store.revision)
    restored._keyspace.history = History(restored.revision)
    for payload in (old[1], encode_batch(1, 1, 1, [(SET, b"a", b"1"), exec_of((SET, b"b", b"2"))])):
        for store in (applied, restored):
            store.apply(store.applied_index + 1, payload)
    images = [list(store.start_image().slices()) for store in (applied, restored)]
    assert images[0] == images[1]
    assert [event[4] for event in seen(applied, applied.revision - 2)] == [b"a", b"b"]

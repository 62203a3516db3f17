"""What is gone from the store leaves the memory in slices, whatever held it."""

from __future__ import annotations

import pytest

from raftkv.kv import garbage, history
from raftkv.kv.commands import Opcode
from raftkv.kv.history import CHUNK_CHANGES
from raftkv.kv.keyspace import bucket_of
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply, check_invariants

SET = int(Opcode.SET)
HSET = int(Opcode.HSET)
DEL = int(Opcode.DEL)
# Slices that may be; in the tests they end by themselves far below.
SLICES_MAX = 100_000
ELEMENTS = 20_000
SLICE_KEYS = 200


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that free about 200 elements."""
    monkeypatch.setattr(garbage, "FREE_SLICE_KEYS", SLICE_KEYS)


def free_all(store: KvStore) -> int:
    """Free to the end; returns the number of slices."""
    for count in range(1, SLICES_MAX):
        if not store.free_slice():
            return count
    raise AssertionError("it does not end")


def fields(count: int, value: bytes = b"v") -> list[bytes]:
    return [word for number in range(count) for word in (b"field%d" % number, value)]


def forget_history(store: KvStore) -> None:
    store.history.compact(store.revision)


def test_old_values_are_freed_while_an_image_is_open_but_large_collections() -> None:
    """An image of a million keys takes seconds, in which a store under load forgets much."""
    store = KvStore()
    apply(store, [(HSET, b"large", 0, *fields(200)), (HSET, b"small", 0, *fields(20))])
    image = store.start_image()
    for _ in range(4):
        apply(store, [(SET, b"key", b"value")] * CHUNK_CHANGES)
    apply(store, [(DEL, b"large"), (DEL, b"small")])
    forget_history(store)
    free_all(store)
    held = store._keyspace.garbage
    for left in (store.history.dropped, store.history.dropped_plain, held.small):
        assert not left
    assert [change[2] for change in held.withheld] == [b"large"]
    list(image.slices())
    free_all(store)
    assert not held.withheld
    assert not held.husks


def test_only_chunks_without_collections_are_dropped_without_a_look() -> None:
    store = KvStore()
    apply(store, [(SET, b"key%d" % (n % 9), b"v") for n in range(CHUNK_CHANGES)])
    apply(store, [(HSET, b"h", 0, *fields(2)), (DEL, b"h")])
    apply(store, [(SET, b"key%d" % (n % 9), b"v") for n in range(CHUNK_CHANGES)])
    check_invariants(store)
    kept = store.history
    kept.compact(CHUNK_CHANGES)
    assert len(kept.dropped_plain) == 1
    assert not kept.dropped
    # Through the middle of a chunk with a collection.
    kept.compact(CHUNK_CHANGES + 20)
    assert [len(chunk) for chunk in kept.dropped] == [20]
    assert len(kept.dropped_plain) == 1


@pytest.mark.usefixtures("small_slices")
def test_an_image_that_is_given_up_leaves_its_history_in_slices() -> None:
    store = KvStore()
    writes = [(SET, b"key%d" % (n % 100), b"v") for n in range(CHUNK_CHANGES)]
    for _ in range(20):
        apply(store, writes)
    image = store.start_image()
    slices = image.slices()
    next(slices)
    forget_history(store)
    free_all(store)
    image.close()
    unread = store._keyspace.garbage.unread
    assert len(unread) == 20
    store.free_slice()
    assert 10 <= len(unread) < 20
    free_all(store)
    assert not unread


@pytest.mark.usefixtures("small_slices")
def test_small_collections_count_for_their_elements() -> None:
    store = KvStore()
    for _ in range(CHUNK_CHANGES // 2):
        apply(store, [(HSET, b"h", 0, *fields(50)), (DEL, b"h")])
    forget_history(store)
    slices = free_all(store)
    assert slices >= CHUNK_CHANGES // 2 * (1 + 50 / 8) / SLICE_KEYS


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("in_history", [False, True])
def test_a_flush_frees_a_large_collection_in_slices(*, in_history: bool) -> None:
    store = KvStore()
    apply(store, [(HSET, b"h", 0, *fields(ELEMENTS))])
    if not in_history:
        forget_history(store)
        free_all(store)
    apply(store, [(int(Opcode.FLUSH),)])
    assert free_all(store) >= ELEMENTS / SLICE_KEYS / 4


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("is_viewed", [False, True])
def test_versions_of_a_large_collection_are_freed_in_slices(
    *, is_viewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "CHUNK_CHANGES", 4)
    store = KvStore()
    apply(store, [(HSET, b"h", 0, *fields(ELEMENTS))])
    image = store.start_image()
    for number in range(12):
        apply(store, [(HSET, b"h", 0, b"field%d" % number, b"w%d" % number)])
    apply(store, [(DEL, b"h")])
    forget_history(store)
    if is_viewed:
        free_all(store)
    for _ in image.slices():
        pass
    slices = free_all(store)
    assert slices >= ELEMENTS / SLICE_KEYS / 4
    assert not store._keyspace.garbage.husks


@pytest.mark.parametrize("elements", [10, 60, 200, 3000])
def test_what_busy_collections_leave_behind_goes_as_fast_as_it_comes(elements: int) -> None:
    """A slice a batch, and batches as a leader makes them under load."""
    store = KvStore()
    keys = [b"h%d" % number for number in range(10)]
    apply(store, [(HSET, key, 0, *fields(elements)) for key in keys])
    held = store._keyspace.garbage
    most = 0
    for batch in range(40):
        writes = [
            (HSET, keys[n % 10], 0, b"field%d" % (n * 7919 % elements), b"value %d" % n)
            for n in range(batch * 400, batch * 400 + 400)
        ]
        apply(store, writes)
        store.history.compact(store.revision - 100)
        store.free_slice()
        most = max(most, len(held.small) + len(held.withheld) + len(held.husks))
    assert most < 5000


@pytest.mark.parametrize("size", [400, 1500, 4000])
def test_a_flushed_store_is_freed_under_writes_and_the_history_of_strings_as_it_comes(
    size: int,
) -> None:
    store = KvStore()
    for first in range(0, 20_000, 1000):
        apply(store, [(SET, b"old%d" % n, b"v") for n in range(first, first + 1000)])
    apply(store, [(int(Opcode.FLUSH),)])
    waiting = []
    for _ in range(300):
        apply(store, [(SET, b"key%d" % (n % 900), b"value") for n in range(size)])
        store.history.compact(store.revision - 100)
        store.free_slice()
        waiting.append(sum(map(len, store.history.dropped_plain)))
    assert not store._keyspace.garbage.flushed
    # What the flush dropped of the history came in one piece.
    assert max(waiting) < 4 * size + 20_000
    assert max(waiting[100:]) < 3 * size + 1000


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("way", ["flush", "retire"])
def test_changes_that_leave_at_once_do_not_make_slices_longer(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They made slices fourteen times as long, 10 ms each, which is for a load that goes on."""
    monkeypatch.setattr(history, "CHUNK_CHANGES", 64)
    monkeypatch.setattr(garbage, "CHUNK_CHANGES", 64)
    store = KvStore()
    changes = 9000
    for first in range(0, changes, 300):
        apply(store, [(SET, b"key%d" % n, b"v") for n in range(first, first + 300)])
    free_all(store)
    if way == "flush":
        apply(store, [(int(Opcode.FLUSH),)])
    else:
        store.retire()

    def waiting() -> int:
        return sum(map(len, store.history.dropped + store.history.dropped_plain))

    assert waiting() >= changes
    assert store.free_slice()
    # Not in the turn of the flush, which takes long enough.
    assert waiting() >= changes
    assert free_all(store) >= changes / SLICE_KEYS


def test_a_flush_in_every_turn_does_not_put_off_what_earlier_ones_left() -> None:
    store = KvStore()
    for _ in range(20):
        apply(store, [(SET, b"key", b"v"), (int(Opcode.FLUSH),)])
        for _ in range(3):
            store.free_slice()
    assert len(store._keyspace.garbage.flushed) < 5


def test_the_turn_of_every_flush_in_a_row_frees_but_the_first() -> None:
    store = KvStore()
    held = store._keyspace.garbage
    left = []
    for _ in range(3):
        apply(store, [*((SET, b"key%d" % n, b"v") for n in range(3000)), (int(Opcode.FLUSH),)])
        before = sum(len(buckets) for buckets, *_ in held.flushed)
        store.free_slice()
        left.append(before - sum(len(buckets) for buckets, *_ in held.flushed))
    assert left[0] == 0
    assert min(left[1:]) > 0


def test_flushes_of_a_nearly_empty_store_leave_nearly_nothing() -> None:
    """A client that sends thousands of them at once must not fill the memory with empty dicts."""
    store = KvStore()
    apply(store, [(SET, b"key", b"v"), (int(Opcode.FLUSH),)] * 100)
    assert sum(len(buckets) for buckets, *_ in store._keyspace.garbage.flushed) == 100
    image = store.start_image()
    apply(store, [(SET, b"key", b"v"), (int(Opcode.FLUSH),)])
    image.close()
    assert sum(len(buckets) for buckets, *_ in store._keyspace.garbage.flushed) <= 102


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("is_viewed", [False, True])
def test_the_last_bucket_of_a_flush_is_freed_entry_by_entry(*, is_viewed: bool) -> None:
    """With it go the last objects of all arenas; in one piece, that took 20 ms of a million."""
    names = [key for n in range(400_000) if bucket_of(key := b"key%d" % n) == 0]
    store = KvStore()
    apply(store, [(SET, key, b"v") for key in names])
    forget_history(store)
    free_all(store)
    image = store.start_image() if is_viewed else None
    apply(store, [(int(Opcode.FLUSH),)])
    slices = free_all(store)
    if image is None:
        assert slices >= len(names) / 10
    else:
        assert slices < 10
        assert sum(b"key" in piece for piece in image.slices())


def test_what_a_view_held_of_a_flushed_store_is_freed_in_slices() -> None:
    store = KvStore()
    for first in range(0, 20_000, 1000):
        apply(store, [(SET, b"key%d" % n, b"v") for n in range(first, first + 1000)])
    forget_history(store)
    free_all(store)
    image = store.start_image()
    apply(store, [(int(Opcode.FLUSH),)])
    free_all(store)
    image.close()
    assert free_all(store) >= 10

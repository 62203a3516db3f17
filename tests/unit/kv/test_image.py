"""Images: what they hold, under writes, in pieces, and back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import ProtocolError
from raftkv.kv import keyspace
from raftkv.kv.commands import Opcode
from raftkv.kv.history import Change, History
from raftkv.kv.image import (
    PIECE_BYTES_MAX,
    PIECE_END,
    PIECE_HEADER,
    PIECE_HISTORY,
    PIECE_KEYS,
    PIECE_KEYS_MAX,
    PIECE_META,
)
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.keyspace import Keyspace, bucket_of
from raftkv.kv.sessions import Sessions
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply, check_invariants, reload

SET = int(Opcode.SET)
HSET = int(Opcode.HSET)
GOLDEN_DIRECTORY = Path(__file__).parents[2] / "golden" / "kv"
GOLDEN = GOLDEN_DIRECTORY / "image-2.bin"

# What `reload` brings back from the image, and what follows from the rest.
STORE_IN_IMAGE = {"_keyspace", "applied_index", "state_hash"}
STORE_DERIVED = {
    "_failed",  # a failed store hands out no image
    "_handlers",  # the program
    "_readers",  # the program
    "alarms",  # what this process saw; not replicated
}
KEYSPACE_IN_IMAGE = {
    *("buckets", "dataset_bytes", "dataset_bytes_max", "history"),
    *("lease_time_ms", "leases", "log_time_ms", "revision", "sessions"),
}
KEYSPACE_DERIVED = {
    "at_checkpoint",  # begins again with each batch
    "awaited",  # by clients of this process
    "copied_bytes",  # begins again with each batch
    "dataset_bound",  # from the limit
    "deadlines",  # from the entries
    "expired",  # empty between batches
    "garbage",  # memory to be freed
    "key_order",  # a cache
    "orders",  # a cache
    "random_state",  # begins again with each batch
    "ready",  # for clients of this process
    "undo",  # empty between batches
    "views",  # of this process
}

SESSIONS_IN_IMAGE = {"by_id", "last_id"}
SESSIONS_DERIVED = {
    "_due",  # from the sessions
    "_garbage",  # memory to be freed
    "expired",  # empty between batches
    "size_bytes",  # from the sessions
    "views",  # of this process
}


HISTORY_IN_IMAGE = {
    *("_chunks", "recent"),  # all changes; where chunks end shows nowhere
    *("byte_count", "bytes_kept", "change_count", "compacted", "revision", "revisions_kept"),
}
HISTORY_DERIVED = {
    "_chunk_bytes",  # from the changes
    "_recent_bytes",  # from the changes
    "_chunk_is_plain",  # from the changes
    "_recent_is_plain",  # from the changes
    *("dropped", "dropped_plain"),  # memory to be freed
}


def changes_of(store: KvStore) -> list[Change]:
    return [change for chunk in store.history.freeze() for change in chunk]


def golden_store() -> KvStore:
    """The store whose image is kept in the golden file; must not change."""
    store = KvStore()
    apply(store, [(SET, b"key", b"value"), (SET, b"", b"\x00\xff"), (SET, b"key", b"value 2")])
    store.skip(2)
    apply(
        store,
        [(int(Opcode.SET_WITH), b"mortal", b"7", 0, 60_000, None, b"set")],
        at_ms=1_700_000_000_000,
    )
    return store


def big_store(keys: int = 5000, seed: int = 1) -> KvStore:
    store = KvStore()
    chooser = random.Random(seed)
    for first in range(0, keys, 500):
        commands = [
            (int(Opcode.SET_WITH), b"key:%d" % n, b"v%d" % chooser.randrange(10**6), 0, None,
             chooser.choice([None, None, 10**9 + n]), b"set")
            for n in range(first, first + 500)
        ]  # fmt: skip
        apply(store, commands, at_ms=first)
    return store


def kinds(pieces: list[bytes]) -> list[int]:
    return [PIECE_HEADER.unpack_from(piece)[1] for piece in pieces]


def test_every_attribute_is_in_the_image_or_derived() -> None:
    assert set(KvStore.__slots__) == STORE_IN_IMAGE | STORE_DERIVED
    assert set(Keyspace.__slots__) == KEYSPACE_IN_IMAGE | KEYSPACE_DERIVED
    store = big_store()
    restored = reload(store)
    for name in ("applied_index", "state_hash", "key_count", "next_deadline_ms"):
        assert getattr(store, name) == getattr(restored, name)
    for name in (*(KEYSPACE_IN_IMAGE - {"history", "leases", "sessions"}), "deadlines"):
        assert getattr(store._keyspace, name) == getattr(restored._keyspace, name)
    assert set(History.__slots__) == HISTORY_IN_IMAGE | HISTORY_DERIVED
    for name in HISTORY_IN_IMAGE - {"_chunks", "recent"}:
        assert getattr(store.history, name) == getattr(restored.history, name)
    assert changes_of(store) == changes_of(restored)
    check_invariants(restored)
    assert set(Sessions.__slots__) == SESSIONS_IN_IMAGE | SESSIONS_DERIVED


def test_the_meta_tells_what_the_image_stands_for() -> None:
    store = golden_store()
    meta = store.start_image().meta
    assert (meta.format, meta.applied_index, meta.revision, meta.key_count) == (2, 3, 4, 3)
    assert (meta.log_time_ms, meta.lease_time_ms) == (store.log_time_ms, store.lease_time_ms)
    assert meta.state_hash == store.state_hash


def test_an_image_of_version_1_is_read_and_differs_in_its_number_only() -> None:
    golden = GOLDEN.read_bytes()
    assert b"".join(golden_store().start_image().slices()) == golden
    store = loaded(golden)
    assert store.state_hash == golden_store().state_hash
    assert store.history.events(0, 100) == golden_store().history.events(0, 100)


def loaded(golden: bytes) -> KvStore:
    """Return what a golden image stands for, having checked its keys."""
    loader = ImageLoader()
    loader.feed(golden)
    store = loader.finish()
    assert store._keyspace.find(b"key") == (b"value 2", 0, 1, 3, 2)
    assert store._keyspace.find(b"mortal") == (b"7", 1_700_000_060_000, 4, 4, 1)
    # Version 1 did not say these; they follow from the keys, or there was no limit.
    assert store.dataset_bytes == golden_store().dataset_bytes
    assert store.dataset_bytes_max == 0
    check_invariants(store)
    return store


def test_an_image_of_the_version_without_history_is_read() -> None:
    store = loaded((GOLDEN_DIRECTORY / "image-1.bin").read_bytes())
    assert store.state_hash.hex() == "b0ec8e39c0e41d8527e7589aa81a35b4"
    history = store.history
    assert (history.compacted, history.revision, history.change_count) == (4, 4, 0)
    assert history.events(4, 1) == []


def test_an_empty_store_has_an_image() -> None:
    image = KvStore().start_image()
    pieces = list(image.slices())
    assert kinds(pieces) == [PIECE_META, PIECE_END]
    assert reload(KvStore()).applied_index == 0


def test_the_same_store_has_the_same_image_however_it_came_about() -> None:
    first, second = KvStore(), KvStore()
    numbers = list(range(3000))
    for n in numbers:
        apply(first, [(SET, b"%d" % n, b"v")])
        apply(second, [(SET, b"%d" % n, b"v")])
    # Moves keys within their dicts, but not in the state.
    for bucket in second._keyspace.buckets:
        for key in sorted(bucket, reverse=True):
            bucket[key] = bucket.pop(key)
    images = [store.start_image() for store in (first, second, reload(first))]
    pieces = [list(image.slices()) for image in images]
    assert pieces[0] == pieces[1] == pieces[2]
    assert images[0].image_hash == images[1].image_hash == images[2].image_hash


def test_a_piece_is_bounded() -> None:
    store = big_store(20_000)
    apply(store, [(SET, b"big %d" % n, bytes(100_000)) for n in range(30)])
    pieces = list(store.start_image().slices())
    history = store.history
    assert history.change_count > 10_000
    parts = len(pieces) - 2
    of_history = kinds(pieces).count(PIECE_HISTORY)
    expected = [*[PIECE_KEYS] * (parts - of_history), *[PIECE_HISTORY] * of_history]
    assert kinds(pieces) == [PIECE_META, *expected, PIECE_END]
    assert parts - of_history >= 20_000 // PIECE_KEYS_MAX
    assert of_history >= history.change_count // PIECE_KEYS_MAX
    assert max(map(len, pieces)) < PIECE_BYTES_MAX + 100_000 + 10_000


def test_a_bucket_larger_than_a_piece_is_cut() -> None:
    store = KvStore()
    keys = [key for n in range(60_000) if bucket_of(key := b"%d" % n) == 5]
    apply(store, [(SET, key, bytes(20_000)) for key in keys])
    assert len(keys) * 20_000 > 2 * PIECE_BYTES_MAX
    pieces = list(store.start_image().slices())
    assert kinds(pieces).count(PIECE_KEYS) >= 3
    assert reload(store)._keyspace.buckets == store._keyspace.buckets


def test_the_hash_is_known_after_the_last_piece_and_that_of_the_loader() -> None:
    image = big_store().start_image()
    loader = ImageLoader()
    for piece in image.slices():
        loader.feed(piece)
    assert image.image_hash is not None
    assert loader.image_hash == image.image_hash


@given(st.data())
def test_the_bytes_may_come_in_any_cut(data: st.DataObject) -> None:
    store = golden_store()
    content = b"".join(store.start_image().slices())
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=6).map(sorted))
    whole, loader = ImageLoader(), ImageLoader()
    whole.feed(content)
    for first, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        loader.feed(memoryview(content)[first:end])
    assert loader.image_hash == whole.image_hash
    assert loader.finish().state_hash == store.state_hash


# ------------------------------------------------------------- under writes


def random_batch(chooser: random.Random) -> list[tuple[object, ...]]:
    commands: list[tuple[object, ...]] = []
    for _ in range(20):
        key = b"key:%d" % chooser.randrange(6000)
        commands.append(
            chooser.choice(
                [
                    (SET, key, b"new"),
                    (int(Opcode.DEL), key),
                    (int(Opcode.EXPIRE), key, chooser.randrange(1, 5000), None, 0, b"pexpire"),
                    (int(Opcode.PERSIST), key),
                    (int(Opcode.RENAME), key, b"key:%d" % chooser.randrange(6000)),
                    (int(Opcode.APPEND), key, b"+", 10**6),
                ]
            )
        )
    if chooser.random() < 0.01:
        commands.append((int(Opcode.FLUSH),))
    return commands


@pytest.mark.parametrize("seed", range(8))
def test_an_image_shows_its_moment_while_writes_go_on(seed: int) -> None:
    chooser = random.Random(seed)
    store = big_store()
    expected = list(store.start_image().slices())
    open_images = [(store.start_image().slices(), [], expected)]
    for step in range(400):
        apply(store, random_batch(chooser), at_ms=5000 + 10 * step)
        store.free_slice()
        if step % 130 == 50:
            # Several images of different moments are open at once.
            moment = list(store.start_image().slices())
            open_images.append((store.start_image().slices(), [], moment))
        if chooser.random() < 0.3:
            slices, pieces, _ = chooser.choice(open_images)
            pieces.extend(piece for piece in [next(slices, None)] if piece is not None)
    for slices, pieces, moment in open_images:
        pieces.extend(slices)
        assert pieces == moment
    assert store._keyspace.views == []
    check_invariants(store)


def test_an_image_knows_how_much_it_holds_beside_the_store() -> None:
    store = KvStore()
    apply(store, [(SET, b"key%d" % n, b"old") for n in range(3000)])
    image = store.start_image()
    for _ in range(2):
        apply(store, [(SET, b"key%d" % n, b"new") for n in range(2000)])
    apply(store, [(SET, b"another%d" % n, b"new") for n in range(5)])
    assert image._view.noted == 2005
    assert not image.is_pressed
    slices = image.slices()
    next(slices)
    next(slices)
    assert 0 < image._view.noted < 2005
    for _ in slices:
        pass
    assert image._view.noted == image._view.noted_bytes == 0


def test_an_image_is_pressed_by_entries_by_bytes_and_by_collections_until_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyspace, "NOTED_ENTRIES_MAX", 20)
    monkeypatch.setattr(keyspace, "NOTED_BYTES_MAX", 100_000)
    monkeypatch.setattr(keyspace, "WITHHELD_CHANGES_MAX", 50)
    keys = [b"key%d" % n for n in range(25)]
    store = KvStore()
    apply(store, [(SET, key, b"old") for key in keys] + [(HSET, b"hash", 0, b"f", b"v")])
    apply(store, [(SET, b"large", bytes(100_000))])

    image = store.start_image()
    apply(store, [(SET, key, b"new") for key in keys[:19]])
    assert not image.is_pressed
    apply(store, [(SET, key, b"new") for key in keys[19:]])
    assert image.is_pressed
    image.close()
    assert not image.is_pressed

    image = store.start_image()
    apply(store, [(SET, keys[0], b"newer")])
    large = [word for n in range(9000) for word in (b"field %d" % n, b"value")]
    apply(store, [(HSET, b"many", 0, *large), (HSET, b"many", 0, b"f", b"v")])
    # What a collection holds is in its next version, too.
    assert not image.is_pressed
    apply(store, [(SET, b"large", b"small")])
    assert image.is_pressed
    assert image._view.noted == 3
    image.close()

    image = store.start_image()
    # Of few elements, they would be freed at once.
    fields = [word for n in range(100) for word in (b"f%d" % n, b"v")]
    for number in range(60):
        apply(store, [(HSET, b"hash", 0, *fields, b"f", b"v%d" % number)])
    assert not image.is_pressed
    store.history.compact(store.revision - 5)
    while store.free_slice():
        pass
    assert image._view.noted == 1
    assert image.is_pressed
    image.close()
    assert not image.is_pressed


def test_a_closed_image_is_let_go() -> None:
    store = big_store()
    image = store.start_image()
    slices = image.slices()
    next(slices)
    next(slices)
    image.close()
    image.close()
    assert store._keyspace.views == []
    other = store.start_image().slices()
    next(other)
    del other
    assert store._keyspace.views == []


# ----------------------------------------------------------------- refusals


def pieces_of_golden() -> list[bytes]:
    return list(golden_store().start_image().slices())


def load(pieces: list[bytes]) -> KvStore:
    loader = ImageLoader()
    for piece in pieces:
        loader.feed(piece)
    return loader.finish()


def test_an_image_that_ends_early_is_refused() -> None:
    content = b"".join(pieces_of_golden())
    for size in range(len(content)):
        loader = ImageLoader()
        loader.feed(content[:size])
        with pytest.raises(ProtocolError, match="ends too early"):
            loader.finish()


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 0, 1, 2), (0, 2, 1), (0, 1, 2, 2), (0, 1, 1, 2)])
def test_pieces_out_of_order_are_refused(order: tuple[int, ...]) -> None:
    pieces = pieces_of_golden()
    pieces = [pieces[0], pieces[1], pieces[-1]]
    with pytest.raises(ProtocolError):
        load([pieces[number] for number in order])


def replaced(piece: bytes, old: bytes, new: bytes) -> bytes:
    assert piece.count(old) == 1
    assert len(old) == len(new)
    return piece.replace(old, new)


@pytest.mark.parametrize(
    ("number", "old", "new", "reason"),
    [
        (0, b"\xa6format\x02", b"\xa6format\x03", "image format 3 is not known"),
        (0, b"\xa9key_count\x03", b"\xa9key_count\x02", "number of live keys"),
        (0, b"\xa9key_count\x03", b"\xa9key_cound\x03", "not readable"),
        (0, b"\xaastate_hash\xc4\x10", b"\xaastate_hash\xc4\x0f", "not readable"),
        (0, b"\xa6format\x02", b"\xa6format\x01", "does not say what its keys count for"),
        (1, b"mortal", b"mortel", "wrong bucket"),
        (3, b"\x91\x03", b"\x91\x04", "number of keys"),
        (3, b"\x91\x03", b"\x92\x03", "not readable"),
        (3, b"\x03\x00\x00\x00\x91", b"\x09\x00\x00\x00\x91", "piece kind 9"),
        (0, b"\xa9compacted\x00", b"\xa9compacted\x01", "other revisions than it says"),
        (0, b"\xacchange_count\x04", b"\xacchange_count\x05", "number of changes"),
        (2, b"\x95\x04\x00\xc4", b"\x95\x05\x00\xc4", "does not fit"),
        (2, b"\x95\x04\x00\xc4", b"\x95\x02\x00\xc4", "does not fit"),
        (2, b"\x95\x04\x00\xc4", b"\x95\x04\x01\xc4", "does not fit"),
        (2, b"\x95\x04\x00\xc4", b"\x95\x04\x07\xc4", "does not fit"),
        (2, b"\x05value\x00\x01", b"\x05value\x00\xc0", "not readable"),
    ],
)
def test_a_changed_image_is_refused(number: int, old: bytes, new: bytes, reason: str) -> None:
    pieces = pieces_of_golden()
    pieces[number] = replaced(pieces[number], old, new)
    with pytest.raises(ProtocolError, match=reason):
        load(pieces)


def test_random_damage_is_refused_or_changes_the_hash() -> None:
    content = b"".join(pieces_of_golden())
    intact = ImageLoader()
    intact.feed(content)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        loader = ImageLoader()
        try:
            loader.feed(bytes(damaged))
            loader.finish()
        except ProtocolError:
            continue
        assert loader.image_hash != intact.image_hash

"""Ranges: order, pages, former revisions, and writes between the slices."""

from __future__ import annotations

import random
from typing import Any

import pytest

from raftkv.kv import key_order, ranges
from raftkv.kv.commands import Command, ErrorReply, Opcode, RangeReadFlag
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply, check_invariants

SET = int(Opcode.SET)
RANGE = int(Opcode.KV_RANGE)
KEYS = int(RangeReadFlag.KEYS_ONLY)
COUNT = int(RangeReadFlag.COUNT)


def command(
    start: bytes = b"",
    end: bytes = b"",
    limit: int = 10**6,
    revision: int | None = None,
    flags: int = KEYS,
) -> Command:
    return (RANGE, start, end, limit, revision, flags)


def read(store: KvStore, *arguments: Any, **named: Any) -> Any:
    answer = store.execute(command(*arguments, **named))
    return dict(zip(answer[::2], answer[1::2], strict=True)) if isinstance(answer, list) else answer


def test_keys_are_in_order_and_between_the_bounds() -> None:
    store = KvStore()
    names = [b"b", b"a", b"\xff\xff", b"", b"ab", b"c", b"\x00"]
    apply(store, [(SET, name, b"v") for name in names])
    assert read(store)[b"items"] == sorted(names)
    assert read(store, b"a", b"b")[b"items"] == [b"a", b"ab"]
    assert read(store, b"ab")[b"items"] == [b"ab", b"b", b"c", b"\xff\xff"]
    assert read(store, b"", b"\x00")[b"items"] == [b""]
    assert read(store, b"b", b"a")[b"items"] == []
    assert read(store, b"a", b"c", flags=COUNT) == 3
    assert read(store, flags=COUNT) == 7


def test_items_have_values_and_revisions() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1"), (SET, b"a", b"2"), (int(Opcode.SADD), b"b", b"m")])
    assert read(store, flags=0) == {
        b"revision": 3,
        b"more": 0,
        b"next": None,
        b"items": [[b"a", b"2", 1, 2, 2], [b"b", [b"m"], 3, 3, 1]],
    }


def test_pages_go_on_where_the_last_one_ended() -> None:
    store = KvStore()
    apply(store, [(SET, b"%03d" % n, b"v") for n in range(100)])
    page = read(store, b"010", b"020", 4)
    assert (page[b"items"], page[b"more"], page[b"next"]) == (
        [b"010", b"011", b"012", b"013"], 1, b"014",
    )  # fmt: skip
    apply(store, [(SET, b"0145", b"new"), (int(Opcode.DEL), b"016"), (SET, b"017", b"new")])
    page = read(store, page[b"next"], b"020", 4, page[b"revision"], 0)
    assert [item[0] for item in page[b"items"]] == [b"014", b"015", b"016", b"017"]
    assert page[b"items"][3][1] == b"v"
    page = read(store, page[b"next"], b"020", 4, page[b"revision"])
    assert (page[b"items"], page[b"more"], page[b"next"]) == ([b"018", b"019"], 0, None)


def test_a_page_ends_at_its_bytes_and_its_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    store = KvStore()
    apply(store, [(SET, b"%03d" % n, bytes(400_000)) for n in range(9)])
    page = read(store, flags=0)
    assert [item[0] for item in page[b"items"]] == [b"000", b"001", b"002"]
    assert (page[b"more"], page[b"next"]) == (1, b"003")
    monkeypatch.setattr(ranges, "RANGE_KEYS_MAX", 2)
    assert read(store)[b"next"] == b"002"


def test_dead_keys_are_not_there_at_present() -> None:
    store = KvStore()
    mortal = [(int(Opcode.SET_WITH), b"%05d" % n, b"v", 0, 10, None, b"set") for n in range(6000)]
    for first in range(0, 6000, 2000):
        apply(store, mortal[first : first + 2000], at_ms=1)
    apply(store, [(SET, b"00000a", b"v")], at_ms=1)
    before = store.revision
    apply(store, [], at_ms=20)
    # They wait for their removal, under later revisions.
    assert store._keyspace.entry_count() > ranges.DEAD_KEYS_MAX
    assert read(store)[b"items"] == [b"00000a"]
    assert read(store, flags=COUNT) == 1
    assert read(store, revision=before, flags=COUNT) == 6001
    while store._keyspace.entry_count() > 10:
        apply(store, [], at_ms=20)
        assert read(store, flags=COUNT) == 1
    assert read(store, revision=before, flags=COUNT) == 6001


def test_revisions_that_are_not_there_are_refused() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1"), (int(Opcode.FLUSH),), (SET, b"b", b"1")])
    for flags in (0, KEYS, COUNT):
        assert read(store, revision=1, flags=flags) == ErrorReply(
            "ERR revision 1 is compacted; the oldest available is 2"
        )
        assert isinstance(read(store, revision=4, flags=flags), ErrorReply)
    assert read(store, revision=2)[b"items"] == []


def random_batch(chooser: random.Random, keys: int) -> list[Command]:
    commands: list[Command] = []
    for _ in range(chooser.randrange(1, 40)):
        key = b"%x" % chooser.randrange(keys)
        kind = chooser.random()
        if kind < 0.5:
            commands.append((SET, key, b"%d" % chooser.randrange(1000)))
        elif kind < 0.7:
            commands.append((int(Opcode.DEL), key, b"%x" % chooser.randrange(keys)))
        elif kind < 0.8:
            commands.append((int(Opcode.RENAME), key, b"%x" % chooser.randrange(keys)))
        elif kind < 0.9:
            commands.append((int(Opcode.MSET), key, b"a", b"%x" % chooser.randrange(keys), b"b"))
        elif kind < 0.91 and chooser.random() < 0.1:
            commands.append((int(Opcode.FLUSH),))
        else:
            commands.append((int(Opcode.SADD), key, b"m"))
    return commands


def state(store: KvStore) -> dict[bytes, Any]:
    return {key: entry for bucket in store._keyspace.buckets for key, entry in bucket.items()}


@pytest.mark.parametrize("seed", range(3))
def test_any_range_under_writes_is_that_of_its_revision(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser = random.Random(seed)
    for module, name in (
        (ranges, "SLICE_KEYS"),
        (ranges, "SLICE_CHANGES"),
        (key_order, "SORTED_SLICE_KEYS"),
        (key_order, "FOLLOWED_SLICE_KEYS"),
    ):
        monkeypatch.setattr(module, name, chooser.choice([3, 17, 200]))
    store = KvStore()
    past: dict[int, dict[bytes, Any]] = {}
    checked = 0
    for _ in range(80):
        apply(store, random_batch(chooser, chooser.choice([30, 400])))
        past[store.revision] = state(store)
        if chooser.random() < 0.2:
            store._keyspace.key_order = None
        if chooser.random() < 0.1:
            apply(store, [(int(Opcode.COMPACT), store.revision - 100, 1000, 10**6)])
        if chooser.random() < 0.2:
            store.free_slice()
        wanted = chooser.choice([None, *[one for one in past if one >= store.history.compacted]])
        start, end = (chooser.choice([b"", b"3", b"7f", b"c"]) for _ in range(2))
        limit, flags = chooser.choice([1, 7, 1000]), chooser.choice([0, KEYS, COUNT])
        steps = store.sliced(command(start, end, limit, wanted, flags))
        began = store.revision
        between = 0
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                answer = stop.value
                break
            # Not for ever: where slices are this small, writes outrun them.
            if between < 15 and chooser.random() < 0.5:
                between += 1
                apply(store, random_batch(chooser, 100))
                past[store.revision] = state(store)
        if isinstance(answer, ErrorReply):
            assert "compacted" in answer.message
            continue
        checked += 1

        def chosen(revision: int, start: bytes = start, end: bytes = end) -> list[bytes]:
            return sorted(key for key in past[revision] if key >= start and (not end or key < end))

        if flags == COUNT:
            revisions = [wanted] if wanted is not None else [one for one in past if one >= began]
            assert answer in [len(chosen(revision)) for revision in revisions]
            continue
        page = dict(zip(answer[::2], answer[1::2], strict=True))
        revision = page[b"revision"]
        assert revision == wanted or (wanted is None and revision >= began)
        keys = chosen(revision)
        assert page[b"next"] == (keys[limit] if len(keys) > limit else None)
        assert page[b"more"] == (len(keys) > limit)
        if flags == KEYS:
            assert page[b"items"] == keys[:limit]
        else:
            entries = [past[revision][key] for key in keys[:limit]]
            assert [item[0] for item in page[b"items"]] == keys[:limit]
            assert [tuple(item[2:]) for item in page[b"items"]] == [one[2:] for one in entries]
        check_invariants(store)
    assert checked > 20
    assert not store._keyspace.views


def test_an_order_that_cannot_be_followed_is_given_back() -> None:
    store = KvStore()
    apply(store, [(SET, b"%d" % n, b"v") for n in range(2000)])
    assert read(store, flags=COUNT) == 2000
    apply(store, [(SET, b"1", b"v"), (int(Opcode.COMPACT), 2000, 0, 10**6)])
    assert store._keyspace.key_order is not None
    apply(store, [(SET, b"1", b"v"), (int(Opcode.COMPACT), 2002, 0, 10**6)])
    while store.free_slice():
        pass
    assert store._keyspace.key_order is None
    assert not store._keyspace.garbage.husks
    assert read(store, flags=COUNT) == 2000

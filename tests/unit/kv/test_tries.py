"""Immutable maps: contents, order, sharing and cost, against plain dicts."""

from __future__ import annotations

import random
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.kv import tries


def build(entries: dict[bytes, int]) -> tries.Node:
    return tries.updated({}, entries)


def check(node: tries.Node, expected: dict[bytes, int], shift: int = 28) -> None:
    """Check contents, sizes and that a part is a dict exactly when it is small."""
    assert dict(tries.items(node)) == expected
    assert tries.size_of(node) == len(expected)
    assert tries.keys(node) == [key for key, _ in tries.items(node)]
    _check_shape(node, shift)


def _check_shape(node: tries.Node, shift: int) -> None:
    if isinstance(node, tries.Branch):
        assert node.size > tries.LEAF_MAX
        for number, child in enumerate(node.children):
            assert all(crc32(key) >> shift & 15 == number for key, _ in tries.items(child))
            _check_shape(child, shift - 4)
    else:
        assert len(node) <= tries.LEAF_MAX or shift < 0


@pytest.mark.parametrize("seed", range(4))
def test_a_map_is_what_a_dict_is(seed: int) -> None:
    chooser = random.Random(seed)
    model: dict[bytes, int] = {}
    node: tries.Node = {}
    for step in range(300):
        names = [b"%d" % chooser.randrange(3000) for _ in range(chooser.choice([1, 1, 3, 60]))]
        before, held = node, dict(model)
        if chooser.random() < (0.7 if step < 200 else 0.3):
            entries = {name: chooser.randrange(100) for name in names}
            node = tries.updated(node, entries)
            model.update(entries)
        else:
            present = {name for name in names if name in model}
            node = tries.without(node, present)
            for name in present:
                del model[name]
        check(node, model)
        check(before, held)
        for name in names:
            assert tries.leaf_of(node, name).get(name) == model.get(name)


def test_a_small_map_keeps_the_order_of_arrival() -> None:
    names = [b"%d" % (n * 7919 % 256) for n in range(256)]
    node: tries.Node = {}
    for name in names:
        node = tries.updated(node, {name: 0})
    assert tries.keys(node) == names


def test_the_order_survives_being_written_out_and_read() -> None:
    chooser = random.Random(1)
    node: tries.Node = {}
    for _ in range(2000):
        name = b"%d" % chooser.randrange(700)
        if tries.leaf_of(node, name).get(name) is not None and chooser.random() < 0.5:
            node = tries.without(node, [name])
        else:
            node = tries.updated(node, {name: 1})
        again: tries.Node = {}
        for first in range(0, tries.size_of(node), 50):
            again = tries.grown(again, dict.fromkeys(tries.keys(node)[first : first + 50], 1))
        assert tries.keys(again) == tries.keys(node)
    check(again, dict.fromkeys(tries.keys(node), 1))


def test_the_longest_way_down_ends_in_a_dict_of_any_size() -> None:
    # All these have one hash: CRC-32 is linear, so two colliding blocks give any number.
    first, second = b"plumless", b"buckeroo"
    assert crc32(first) == crc32(second)
    names = {
        b"".join(second if number >> bit & 1 else first for bit in range(9)): number
        for number in range(512)
    }
    assert len({crc32(name) for name in names}) == 1
    node = build(names)
    assert dict(tries.items(node)) == names
    assert tries.size_of(tries.without(node, list(names)[:300])) == 212
    cursor, page = tries.page(node, 0, 10)
    assert (cursor, len(page)) == (0, 512)


def test_a_change_shares_all_but_the_way_to_it() -> None:
    node = build({b"%d" % n: n for n in range(20_000)})
    changed = tries.updated(node, {b"5": -1})
    assert isinstance(node, tries.Branch)
    assert isinstance(changed, tries.Branch)
    pairs = zip(node.children, changed.children, strict=True)
    assert sum(one is not other for one, other in pairs) == 1


@given(st.data())
def test_pages_have_everything_that_stays(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([10, 256, 257, 1000, 5000]))
    node = build({b"%d" % n: n for n in range(size)})
    count = data.draw(st.sampled_from([1, 7, 100, 10_000]))
    chooser = random.Random(size)
    cursor, seen, gone, calls = 0, set(), set(), 0
    while True:
        cursor, page = tries.page(node, cursor, count)
        seen.update(page)
        calls += 1
        if not cursor:
            break
        name = b"%d" % chooser.randrange(size)
        if name not in gone and chooser.random() < 0.3:
            node = tries.without(node, [name])
            gone.add(name)
        node = tries.updated(node, {b"new %d" % calls: 0})
    assert {b"%d" % n for n in range(size)} - gone <= seen
    assert cursor == 0


def test_keys_at_positions() -> None:
    for size in (1, 200, 5000):
        node = build({b"%d" % n: n for n in range(size)})
        ordered = tries.keys(node)
        positions = [0, size - 1, size // 2, 0]
        assert tries.keys_at(node, positions) == [ordered[position] for position in positions]

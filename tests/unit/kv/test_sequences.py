"""Immutable sequences: contents, shape and sharing, against plain lists."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import Any

import pytest

from raftkv.kv import sequences
from raftkv.kv.sequences import FAN_MAX, LEAF_MAX, Branch


def build(elements: list[Any]) -> sequences.Node:
    return sequences.replaced([], 0, 0, elements)


def check(node: sequences.Node, expected: list[Any]) -> None:
    """Check contents, and that parts are counted, not empty, and of equal height."""
    assert [one for leaf in sequences.leaves(node) for one in leaf] == expected
    assert sequences.size_of(node) == len(expected)
    if isinstance(node, Branch):
        assert len(node.children) > 1
        _check_shape(node)


def _check_shape(node: sequences.Node) -> int:
    """Return the height."""
    if not isinstance(node, Branch):
        assert 0 < len(node) <= LEAF_MAX
        return 0
    assert 0 < len(node.children) <= FAN_MAX
    heights = {_check_shape(child) for child in node.children}
    assert len(heights) == 1
    assert node.ends[-1] == sum(map(sequences.size_of, node.children))
    return heights.pop() + 1


@pytest.mark.parametrize("seed", range(6))
def test_a_sequence_is_what_a_list_is(seed: int) -> None:
    chooser = random.Random(seed)
    model: list[int] = []
    node: sequences.Node = []
    for step in range(300):
        before, held = node, model.copy()
        first = chooser.randint(0, len(model))
        end = min(len(model), first + chooser.choice([0, 0, 1, 3, 300, 5000]))
        if step > 200 and chooser.random() < 0.3:
            first, end = chooser.choice([(0, len(model) // 2), (len(model) // 2, len(model))])
        count = chooser.choice([0, 1, 1, 2, 40, 900] + [20_000] * (step == 5))
        elements = [chooser.randrange(1000) for _ in range(count)]
        node = sequences.replaced(node, first, end, elements)
        model[first:end] = elements
        check(node, model)
        check(before, held)
        for _ in range(min(5, len(model))):
            position = chooser.randrange(len(model))
            assert sequences.element_at(node, position) == model[position]
        first, end = sorted(chooser.choices(range(len(model) + 1), k=2))
        if first < end:
            assert sequences.part(node, first, end) == model[first:end]


@pytest.mark.slow
def test_growing_at_the_ends_keeps_the_parts_full() -> None:
    for place in ("left", "right"):
        node: sequences.Node = []
        for number in range(20_000):
            position = 0 if place == "left" else number
            node = sequences.replaced(node, position, position, [number])
        parts = sum(1 for _ in sequences.leaves(node))
        assert parts <= 20_000 / LEAF_MAX * 2.5
        for _ in range(19_990):
            position = 0 if place == "right" else sequences.size_of(node) - 1
            node = sequences.replaced(node, position, position + 1, [])
        assert sequences.size_of(node) == 10
        assert not isinstance(node, Branch)


def test_a_change_shares_all_but_the_way_to_it() -> None:
    node = build(list(range(50_000)))
    changed = sequences.replaced(node, 25_000, 25_001, [-1])
    old = {id(leaf) for leaf in sequences.leaves(node)}
    assert sum(id(leaf) not in old for leaf in sequences.leaves(changed)) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_ascending_sequence_stays_so(seed: int) -> None:
    chooser = random.Random(seed)
    model: list[tuple[int, bytes]] = []
    node: sequences.Node = []
    for step in range(60):
        gone = chooser.sample(model, min(len(model), chooser.choice([0, 1, 1, 5, 200])))
        count = chooser.choice([0, 1, 1, 4, 300] + [3000] * (step == 3))
        drawn = {(chooser.randrange(500), b"%d" % chooser.randrange(10**6)) for _ in range(count)}
        added = sorted(drawn - set(model))
        node = sequences.updated(node, gone, added)
        model = sorted((set(model) - set(gone)) | set(added))
        check(node, model)
        for _ in range(5):
            bound = (chooser.randrange(-1, 501),)
            assert sequences.rank_of(node, bound) == bisect_left(model, bound)
        names = build([(0, name) for _, name in sorted(model, key=lambda one: one[1])])
        wanted = b"%d" % chooser.randrange(10**6)
        rank = sequences.rank_of(names, wanted, key=lambda one: one[1])
        assert rank == bisect_left(sorted(name for _, name in model), wanted)

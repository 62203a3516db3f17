"""Every fuzz target under hypothesis: its seeds, changed seeds, and anything.

Coverage guidance finds more and takes longer: `python -m tests.fuzz.guided`.
What it found stays here as examples in tests/fuzz/found.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.engine.messages import Message
from tests.fuzz.core_target import core_messages
from tests.fuzz.targets import TARGETS
from tests.fuzz.wire_targets import raft_messages

FOUND = Path(__file__).with_name("found")
# What any target may hold besides a multiple of its input; zlib packs 1000 to 1.
MEMORY_BYTES_MAX = 8 * 1024 * 1024
MEMORY_PER_BYTE_MAX = 1100

# Numbers that sizes, counts, kinds and positions do not expect.
_EDGES = [b"\0", b"\xff", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 3, b"\0\0\0\x80"]


def edit(data: bytes, position: int, size: int, piece: bytes) -> bytes:
    return data[:position] + piece + data[position + size :]


@st.composite
def inputs(draw: st.DrawFn, name: str) -> bytes:
    """Anything, or a seed with a few changes."""
    data = draw(st.sampled_from([*_seeds(name), b""]))
    if not data:
        return draw(st.binary(max_size=300))
    for _ in range(draw(st.integers(0, 4))):
        position, first = draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))
        own = data[first : first + draw(st.integers(0, 40))]
        piece = draw(st.binary(max_size=8) | st.sampled_from([own, *_EDGES]))
        size = draw(st.sampled_from((0, len(piece), 1, len(data))))
        data = edit(data, position, size, piece)
    return data


_SEEDS: dict[str, list[bytes]] = {}


def _seeds(name: str) -> list[bytes]:
    if name not in _SEEDS:
        _SEEDS[name] = TARGETS[name].seeds()
    return _SEEDS[name]


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_was_found(name: str) -> None:
    found = sorted((FOUND / name).glob("*"))
    for data in [*_seeds(name), *(path.read_bytes() for path in found)]:
        TARGETS[name].run(data)


@pytest.mark.parametrize("seeds", [core_messages, raft_messages])
def test_every_type_of_message_is_a_seed(seeds: Callable[[], list[Message]]) -> None:
    assert {type(message) for message in seeds()} == set(get_args(Message))


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_any_input(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(inputs(name)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=15)
@given(data=st.data())
def test_memory_is_bounded_by_the_input(name: str, data: st.DataObject) -> None:
    content = data.draw(inputs(name))
    tracemalloc.start()
    try:
        TARGETS[name].run(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= MEMORY_BYTES_MAX + MEMORY_PER_BYTE_MAX * len(content)

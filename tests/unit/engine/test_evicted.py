"""Terms and sizes of entries that are on the disk only, against a plain list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.evicted import SAMPLE_BYTES, EvictedEntries
from raftkv.engine.ready import LogEntry


def entries(terms: list[int], *, first: int = 1, size: int = 10) -> list[LogEntry]:
    return [(bytes(size), first + position, term) for position, term in enumerate(terms)]


def test_nothing_but_a_base_knows_the_term_of_the_base() -> None:
    one = EvictedEntries(7, 3)
    assert [one.term_at(index) for index in (6, 7, 8)] == [None, 3, None]
    assert (one.base_term, one.last_term, one.last_index) == (3, 3, 7)
    assert one.first_within(7, 1 << 20) == 8


def test_terms_are_known_at_and_beside_each_change() -> None:
    one = EvictedEntries(0, 0)
    one.add(entries([1, 1, 2]))
    one.add(entries([2, 5], first=4))
    assert [one.term_at(index) for index in range(7)] == [0, 1, 1, 2, 2, 5, None]


def test_a_million_entries_of_one_term_cost_a_handful_of_numbers() -> None:
    one = EvictedEntries(0, 0)
    one.add(entries([4] * 1_000_000, size=1))
    assert len(one._run_firsts) == 2
    assert len(one._sample_bytes) == 1 + 1_000_000 // SAMPLE_BYTES


@pytest.mark.parametrize("size", [1000, SAMPLE_BYTES, 3 * SAMPLE_BYTES])
def test_what_is_kept_is_counted_in_bytes(size: int) -> None:
    one = EvictedEntries(0, 0)
    one.add(entries([1] * 100, size=size))
    for last in (100, 61):
        for bytes_max in (0, size - 1, size, 10 * size, 100 * size, 1 << 40):
            first = one.first_within(last, bytes_max)
            kept = last - (first - 1)
            assert kept * size <= bytes_max
            assert kept == last or (kept + 1) * size + 2 * SAMPLE_BYTES > bytes_max


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 5), st.integers(0, 40_000)),
        st.tuples(st.just("term"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 12), st.just(0)),
    ),
    max_size=40,
)


@given(st.integers(0, 50), steps)
def test_against_a_list(base: int, actions: list[tuple[str, int, int]]) -> None:
    term = 1
    one = EvictedEntries(base, term)
    model: list[tuple[int, int, int]] = [(base, term, 0)]
    for verb, number, size in actions:
        if verb == "term":
            term += number
        elif verb == "add":
            first = model[-1][0] + 1
            new = entries([term] * number, first=first, size=size)
            one.add(new)
            model += [(index, entry_term, size) for _, index, entry_term in new]
        elif number < len(model):
            one.forget(model[number][0])
            del model[:number]
        assert (one.base_index, one.base_term) == model[0][:2]
        assert (one.last_index, one.last_term) == model[-1][:2]
        assert one.term_at(model[0][0] - 1) is None
        assert one.term_at(model[-1][0] + 1) is None
        for index, known, _ in model:
            assert one.term_at(index) == known
        last = model[len(model) // 2][0]
        for bytes_max in (0, 20_000, 100_000, 1 << 30):
            first = one.first_within(last, bytes_max)
            assert model[0][0] < first <= last + 1
            kept = [entry_size for index, _, entry_size in model[1:] if first <= index <= last]
            assert sum(kept) <= bytes_max
        assert one.first_within(last, 1 << 30) == model[0][0] + 1

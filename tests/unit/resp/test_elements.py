"""Encoded values are taken apart where they end, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import ProtocolError
from raftkv.resp.elements import join_array, split_array, split_values
from raftkv.resp.values import NULL_ARRAY, Verbatim, encode

VALUES: Any = st.recursive(
    st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.binary(max_size=12),
        st.sampled_from(["OK", "QUEUED", b"\r\n", b"*1\r\n:1\r\n"]),
        st.booleans(),
        st.floats(allow_nan=False),
        st.just(Verbatim(b"text")),
        st.just(NULL_ARRAY),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=3), inner),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([2, 3]))
def test_what_was_put_together_is_taken_apart(values: list[Any], protocol: int) -> None:
    encoded = [encode(value, protocol) for value in values]
    assert split_values(b"".join(encoded)) == encoded
    assert split_array(join_array(encoded)) == encoded


@pytest.mark.parametrize(
    "data",
    [b"", b"+OK\r\n", b"*1\r\n", b"*2\r\n:1\r\n", b"*1\r\n:1\r\n:2\r\n", b"*1\r\n$5\r\nab\r\n",
     b"*x\r\n", b"*1\r\n?\r\n", b"*1"],
)  # fmt: skip
def test_what_is_no_array(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        split_array(data)

"""Values in both protocol versions, byte by byte, and read back by hiredis."""

from __future__ import annotations

import tracemalloc

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import CommandError
from raftkv.kv.commands import ErrorReply
from raftkv.resp.values import (
    LARGE_BYTES,
    NULL_ARRAY,
    SLICE_ELEMENTS,
    Push,
    Verbatim,
    encode,
    encode_bulk,
    encode_error,
    encode_results,
    encode_slices,
)
from raftkv.types import Couples, Members, NoList, Pairs

CASES = [
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    ("OK", b"+OK\r\n", b"+OK\r\n"),
    ("PONG", b"+PONG\r\n", b"+PONG\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (b"OK", b"$2\r\nOK\r\n", b"$2\r\nOK\r\n"),
    (b"a\r\nb", b"$4\r\na\r\nb\r\n", b"$4\r\na\r\nb\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-(2**63), b":-9223372036854775808\r\n", b":-9223372036854775808\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (0.1, b"$19\r\n0.10000000000000001\r\n", b",0.10000000000000001\r\n"),
    (1e21, b"$5\r\n1e+21\r\n", b",1e+21\r\n"),
    (-0.0, b"$2\r\n-0\r\n", b",-0\r\n"),
    (3.0, b"$1\r\n3\r\n", b",3\r\n"),
    (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
    (float("-inf"), b"$4\r\n-inf\r\n", b",-inf\r\n"),
    (float("nan"), b"$3\r\nnan\r\n", b",nan\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ([b"a", None, 1], b"*3\r\n$1\r\na\r\n$-1\r\n:1\r\n", b"*3\r\n$1\r\na\r\n_\r\n:1\r\n"),
    ((b"a",), b"*1\r\n$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"),
    ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    (frozenset((b"a",)), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    (Pairs([b"a", 1]), b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    (Couples([b"a", 1]), b"*2\r\n$1\r\na\r\n:1\r\n", b"*1\r\n*2\r\n$1\r\na\r\n:1\r\n"),
    (Members([b"a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    (NoList(), b"*-1\r\n", b"_\r\n"),
    (Push([b"a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"),
    (Verbatim(b"hi"), b"$2\r\nhi\r\n", b"=6\r\ntxt:hi\r\n"),
    (ErrorReply("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    (CommandError("ERR no"), b"-ERR no\r\n", b"-ERR no\r\n"),
]


@pytest.mark.parametrize(("value", "resp2", "resp3"), CASES, ids=lambda case: repr(case)[:30])
def test_bytes(value: object, resp2: bytes, resp3: bytes) -> None:
    for protocol, expected in ((2, resp2), (3, resp3)):
        assert encode(value, protocol) == expected
        parts: list[bytes] = []
        encode_results([value, 7], protocol, parts)
        assert b"".join(parts) == expected + b":7\r\n"


def test_an_error_stays_on_one_line() -> None:
    assert encode_error("ERR a\r\nb\nc") == b"-ERR a  b c\r\n"
    assert encode_error("ERR \udcff") == b"-ERR \xff\r\n"


def test_a_large_value_is_passed_on_without_a_copy() -> None:
    value = b"x" * LARGE_BYTES
    for encoder in (lambda parts: encode_results([value], 2, parts),):
        parts: list[bytes] = []
        encoder(parts)
        assert any(part is value for part in parts)
        assert b"".join(parts) == encode_bulk(value)
    assert encode([value], 3) == b"*1\r\n" + encode_bulk(value)


def test_a_type_without_encoding_is_a_defect() -> None:
    with pytest.raises(TypeError, match="object"):
        encode(object(), 2)


values = st.recursive(
    st.none() | st.binary(max_size=20) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(results=st.lists(values, max_size=6), protocol=st.sampled_from([2, 3]))
def test_hiredis_reads_back_what_was_written(results: list[object], protocol: int) -> None:
    parts: list[bytes] = []
    encode_results(results, protocol, parts)
    reader = hiredis.Reader()
    reader.feed(b"".join(parts))
    assert [reader.gets() for _ in results] == results


@given(
    results=st.lists(st.sampled_from(["OK", "QUEUED", b"v", b"x" * 3000, 7, None]), max_size=6),
    protocol=st.sampled_from([2, 3]),
)
def test_replies_of_a_run_are_those_of_single_commands(
    results: list[object], protocol: int
) -> None:
    parts: list[bytes] = []
    assert encode_results(results, protocol, parts)[0] == len(results)
    assert b"".join(parts) == b"".join(encode(result, protocol) for result in results)


def test_large_results_are_encoded_as_far_as_there_is_room() -> None:
    large, results = b"x" * 5000, [b"small", 7, b"x" * 5000, None, [b"y" * 3000, b"z"], "OK", b"e"]
    parts: list[bytes] = []
    assert encode_results(results, 2, parts, 20_000)[0] == len(results)
    whole = b"".join(parts)
    parts = []
    done = []
    while sum(done) < len(results):
        count, room = encode_results(results[sum(done) :], 2, parts, len(large))
        assert room <= 0 or sum(done) + count == len(results)
        done.append(count)
    assert done == [3, 4]
    assert b"".join(parts) == whole
    parts = []
    assert encode_results(results[4:], 2, parts, 3000) == (1, parts and 3000 - sum(map(len, parts)))
    assert encode_results([], 2, parts, 1) == (0, 1)


@pytest.mark.parametrize("count", [0, 1, SLICE_ELEMENTS, 3 * SLICE_ELEMENTS + 7])
def test_slices_of_an_array_are_the_array(count: int) -> None:
    elements: list[object] = [b"%d" % number if number % 3 else None for number in range(count)]
    whole = encode(list(elements), 3)
    pieces = list(encode_slices(elements, 3))
    assert b"".join(pieces) == whole
    assert len(pieces) == 1 + -(-count // SLICE_ELEMENTS)
    assert not elements


def test_a_value_repeated_as_often_as_a_request_may_is_not_copied_into_gigabytes() -> None:
    value = bytes(15_000)
    tracemalloc.start()
    try:
        parts: list[bytes] = []
        encode_results([[value] * 10_000], 2, parts)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert sum(map(len, parts)) > 150_000_000

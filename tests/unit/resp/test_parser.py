"""The request parser: one table of cases, each driven in several ways.

Whole, byte by byte, split at every position, and with a request behind it: the
outcome must be the same, whichever of the two paths inside takes the bytes.
"""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftkv.resp.parser import LINE_BYTES_MAX, RequestParser


def parser(bytes_max: int = 1000, arguments_max: int = 100) -> RequestParser:
    return RequestParser(request_bytes_max=bytes_max, request_arguments_max=arguments_max)


def encode(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def feed(chunks: list[bytes], **limits: int) -> tuple[list[list[bytes]], str | None]:
    subject = parser(**limits)
    requests: list[list[bytes]] = []
    for chunk in chunks:
        if chunk:
            requests += subject.parse(chunk)
    return requests, subject.error


GET = encode(b"GET", b"k")

# Bytes, requests, error: what Redis 7 makes of them, except for our lower limits.
CASES: dict[str, tuple[bytes, list[list[bytes]], str | None]] = {
    "one": (GET, [[b"GET", b"k"]], None),
    "pipeline": (GET * 3, [[b"GET", b"k"]] * 3, None),
    "empty words": (encode(b"SET", b"", b""), [[b"SET", b"", b""]], None),
    "any bytes": (
        encode(b"SET", b"\r\n$3\r\n*2\r\n", bytes(range(256))),
        [[b"SET", b"\r\n$3\r\n*2\r\n", bytes(range(256))]],
        None,
    ),
    "value like a huge header": (
        encode(b"SET", b"k", b"*99999999\r\n"),
        [[b"SET", b"k", b"*99999999\r\n"]],
        None,
    ),
    "asterisks": (encode(b"KEYS", b"*1*2*"), [[b"KEYS", b"*1*2*"]], None),
    "inline": (b"PING\r\n", [[b"PING"]], None),
    "inline without return": (b"SET a b\n", [[b"SET", b"a", b"b"]], None),
    "inline quotes": (b"SET 'a b' \"c\\x41\\n\"\r\n", [[b"SET", b"a b", b"cA\n"]], None),
    "inline then array": (b"PING\r\n" + GET, [[b"PING"], [b"GET", b"k"]], None),
    "array then inline": (GET + b"PING\r\n", [[b"GET", b"k"], [b"PING"]], None),
    "empty lines": (b"\r\n\n  \r\nPING\r\n", [[b"PING"]], None),
    "empty array": (b"*0\r\n" + GET, [[b"GET", b"k"]], None),
    "empty array between": (GET + b"*0\r\n" + GET, [[b"GET", b"k"]] * 2, None),
    "null array": (b"*-1\r\n" + GET, [[b"GET", b"k"]], None),
    "negative array": (b"*-7\r\n" + GET, [[b"GET", b"k"]], None),
    "line end behind a value is not looked at": (
        b"*2\r\n$3\r\nGETxx$1\r\nk..",
        [[b"GET", b"k"]],
        None,
    ),
    "unbalanced": (b'SET "a\r\n', [], "unbalanced quotes in request"),
    "closing quote touches": (b"SET 'a'b\r\n", [], "unbalanced quotes in request"),
    "count is no number": (b"*abc\r\n", [], "invalid multibulk length"),
    "no count": (b"*\r\n", [], "invalid multibulk length"),
    "count with plus": (b"*+1\r\n", [], "invalid multibulk length"),
    "count with zero": (b"*01\r\n$1\r\na\r\n", [], "invalid multibulk length"),
    "count with space": (b"* 1\r\n", [], "invalid multibulk length"),
    "count over the limit": (b"*101\r\n", [], "invalid multibulk length"),
    "count of 32 bits": (b"*2147483648\r\n", [], "invalid multibulk length"),
    "count of 80 bits": (b"*999999999999999999999999\r\n", [], "invalid multibulk length"),
    "good then bad": (GET + b"*abc\r\n" + GET, [[b"GET", b"k"]], "invalid multibulk length"),
    "nested": (b"*1\r\n*1\r\n$1\r\na\r\n", [], "expected '$', got '*'"),
    "deeply nested": (b"*1\r\n" * 400, [], "expected '$', got '*'"),
    "nested later": (b"*2\r\n$1\r\na\r\n*1\r\n", [], "expected '$', got '*'"),
    "simple string": (b"*1\r\n+PING\r\n", [], "expected '$', got '+'"),
    "simple string later": (b"*2\r\n$3\r\nGET\r\n:5\r\n", [], "expected '$', got ':'"),
    "binary word": (b"*1\r\n\xff\r\n", [], "expected '$', got '\xff'"),
    "null word": (b"*1\r\n$-1\r\n", [], "invalid bulk length"),
    "negative word": (b"*1\r\n$-9\r\n", [], "invalid bulk length"),
    "word with zero": (b"*1\r\n$01\r\na\r\n", [], "invalid bulk length"),
    "word without length": (b"*1\r\n$\r\n", [], "invalid bulk length"),
    "word over the limit": (b"*1\r\n$1001\r\n", [], "invalid bulk length"),
    "huge word": (b"*2\r\n$3\r\nGET\r\n$99999999999\r\n", [], "invalid bulk length"),
    "request over the limit": (
        b"*3\r\n$3\r\nSET\r\n$600\r\n" + b"x" * 600 + b"\r\n$600\r\n",
        [],
        "request exceeds limits.request_bytes_max",
    ),
    "at the limit": (
        encode(b"SET", b"x" * 997),
        [[b"SET", b"x" * 997]],
        None,
    ),
    "at the limit of words": (encode(*[b"a"] * 100), [[b"a"] * 100], None),
    "endless inline": (
        b"x" * (LINE_BYTES_MAX + 1),
        [],
        "too big inline request",
    ),
    "endless count": (b"*" + b"1" * LINE_BYTES_MAX, [], "too big mbulk count string"),
    "endless length": (
        b"*1\r\n$" + b"1" * LINE_BYTES_MAX,
        [],
        "too big bulk count string",
    ),
}

SHORT_CASES = {name: case for name, case in CASES.items() if len(case[0]) < 2500}


@pytest.mark.parametrize("name", CASES)
def test_whole(name: str) -> None:
    data, requests, error = CASES[name]
    assert feed([data]) == (requests, error and f"Protocol error: {error}")


@pytest.mark.parametrize("name", SHORT_CASES)
def test_byte_by_byte(name: str) -> None:
    data, requests, error = CASES[name]
    chunks = [data[position : position + 1] for position in range(len(data))]
    assert feed(chunks) == (requests, error and f"Protocol error: {error}")


@pytest.mark.parametrize("name", SHORT_CASES)
def test_split_anywhere(name: str) -> None:
    data, requests, error = CASES[name]
    expected = (requests, error and f"Protocol error: {error}")
    for position in range(1, len(data)):
        assert feed([data[:position], data[position:]]) == expected, position


@pytest.mark.parametrize("name", SHORT_CASES)
def test_with_trailing_requests(name: str) -> None:
    data, requests, error = CASES[name]
    expected = requests if error else [*requests, [b"GET", b"k"], [b"PING"]]
    assert feed([data + GET + b"PING\r\n"])[0] == expected
    assert feed([data, GET, b"PING\r\n"])[0] == expected


@pytest.mark.parametrize("name", SHORT_CASES)
def test_behind_a_request_that_was_cut(name: str) -> None:
    data, requests, error = CASES[name]
    expected = ([[b"GET", b"k"], *requests], error and f"Protocol error: {error}")
    for position in range(1, len(GET)):
        assert feed([GET[:position], GET[position:] + data]) == expected, position


words = st.binary(max_size=30) | st.sampled_from([b"*1\r\n", b"$3\r\n", b"*0\r\n", b"\r\n", b"*"])
requests_strategy = st.lists(st.lists(words, min_size=1, max_size=5), max_size=8)


@given(requests=requests_strategy, cuts=st.lists(st.integers(0, 500), max_size=6))
@example(requests=[[b"GET", b"*0"]], cuts=[17])
def test_any_requests_in_any_chunks(requests: list[list[bytes]], cuts: list[int]) -> None:
    data = b"".join(encode(*request) for request in requests)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    chunks = [data[first:end] for first, end in itertools.pairwise(edges)]
    assert feed(chunks) == (requests, None)


@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", GET, b"*2\r\n$3\r\nGET\r\n"]))
def test_junk_gives_words_or_an_error_and_the_same_in_pieces(data: bytes, prefix: bytes) -> None:
    whole = feed([prefix + data] if prefix + data else [])
    pieces = feed([bytes([byte]) for byte in prefix + data])
    # Other types of strings and arrays are taken for words where hiredis sees them.
    if not set(b"+=(~>|") & set(data):
        assert whole == pieces
    assert all(isinstance(word, bytes) for request in whole[0] for word in request)


def test_top_level_types_behind_a_request_are_inline_words() -> None:
    for junk in (b"$-1\r\n", b":0\r\n", b"%0\r\n", b"$0\r\n"):
        assert feed([GET + junk + GET]) == ([[b"GET", b"k"], [junk[:-2]], [b"GET", b"k"]], None)


@pytest.mark.parametrize("element", [b":1\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"-ERR x\r\n"])
def test_other_types_never_become_words(element: bytes) -> None:
    requests, error = feed([GET + b"*2\r\n$3\r\nGET\r\n" + element])
    assert requests == [[b"GET", b"k"]]
    assert error is not None
    assert error.startswith("Protocol error: expected '$'")


def test_nothing_after_an_error() -> None:
    subject = parser()
    assert subject.parse(b"*x\r\n") == []
    assert subject.parse(GET) == []
    assert subject.error == "Protocol error: invalid multibulk length"


def test_ten_thousand_tiny_requests_in_one_chunk() -> None:
    requests, error = feed([b"PING\r\n" * 10_000])
    assert (len(requests), error) == (10_000, None)
    requests, error = feed([encode(b"PING") * 10_000], bytes_max=1_000_000)
    assert (len(requests), error) == (10_000, None)


def test_large_value_in_pieces() -> None:
    value = bytes(range(256)) * 4096
    data = encode(b"SET", b"k", value) + GET
    chunks = [data[position : position + 65_536] for position in range(0, len(data), 65_536)]
    requests, error = feed(chunks, bytes_max=2_000_000)
    assert error is None
    assert requests == [[b"SET", b"k", value], [b"GET", b"k"]]


@pytest.mark.parametrize(
    "data",
    [
        b"*2147483647\r\n",
        b"*99999999\r\n$3\r\n",
        b"*1\r\n$536870912\r\n",
        GET + b"*99999999\r\n",
        b"*90000\r\n" * 1000,
        b"*2\r\n$1\r\na\r\n*99999999\r\n",
    ],
)
def test_declared_sizes_take_no_memory(data: bytes) -> None:
    subject = RequestParser(request_bytes_max=8 << 20, request_arguments_max=65_536)
    tracemalloc.start()
    try:
        subject.parse(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert subject.error is not None
    assert peak < 200_000


def test_a_declared_value_within_the_limit_takes_only_what_came() -> None:
    subject = RequestParser(request_bytes_max=8 << 20, request_arguments_max=65_536)
    tracemalloc.start()
    try:
        subject.parse(b"*2\r\n$3\r\nGET\r\n$8000000\r\nabc")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert subject.error is None
    assert peak < 200_000


def test_values_of_random_bytes_do_not_look_like_headers() -> None:
    doubt = parser(arguments_max=1_000_000)._doubt
    assert doubt(b"*2\r\n$3\r\nGET\r\n$7\r\na*1*0*-\r\n") is None
    for header in (b"*0\r\n", b"*-1\r\n", b"*1\r\n+PING\r\n", b"*1\r\n*1\r\n$1\r\na\r\n"):
        assert doubt(header) is not None
        assert doubt(GET + header) is not None
    # Behind a bulk string without its line end, hiredis would read on.
    assert doubt(b"*1\r\n$4\r\nPING??*1048576\r\n") is not None

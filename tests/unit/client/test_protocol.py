from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.client import protocol
from raftkv.client.protocol import NOT_READY, ReplyReader
from raftkv.errors import (
    CommandError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
    ProtocolError,
)

REPLIES = [
    (b"+OK\r\n", b"OK"),
    (b":-12\r\n", -12),
    (b"$5\r\na\r\nb\n\r\n", b"a\r\nb\n"),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"_\r\n", None),
    (b",1.5\r\n", 1.5),
    (b"#t\r\n", True),
    (b"*2\r\n:1\r\n*1\r\n+x\r\n", [1, [b"x"]]),
    (b"%1\r\n$1\r\na\r\n:1\r\n", {b"a": 1}),
    (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
]


def read_all(reader: ReplyReader) -> list[object]:
    replies = []
    while (reply := reader.next_reply()) is not NOT_READY:
        replies.append(reply)
    return replies


@pytest.mark.parametrize(("data", "reply"), REPLIES)
def test_a_reply_is_read_whole_and_byte_by_byte_and_with_a_tail(data: bytes, reply: object) -> None:
    whole = ReplyReader()
    whole.feed(data)
    assert read_all(whole) == [reply]

    slow = ReplyReader()
    for position in range(len(data)):
        assert slow.next_reply() is NOT_READY
        slow.feed(data[position : position + 1])
    assert read_all(slow) == [reply]

    trailed = ReplyReader()
    trailed.feed(data + b"$4\r\nre")
    assert read_all(trailed) == [reply]
    trailed.feed(b"st\r\n")
    assert read_all(trailed) == [b"rest"]


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("MOVED 12 10.0.0.1:7001", NotLeaderError, "10.0.0.1:7001"),
        ("MOVED nonsense", CommandError, "MOVED nonsense"),
        ("CLUSTERDOWN no leader elected", NoLeaderError, "no leader elected"),
        ("NOTAPPLIED overloaded", NotAppliedError, "overloaded"),
        ("UNKNOWN timeout", OutcomeUnknownError, "timeout"),
        ("WRONGTYPE Operation against", CommandError, "WRONGTYPE Operation against"),
        ("ERR unknown command 'x'", CommandError, "ERR unknown command 'x'"),
    ],
)
def test_the_first_word_of_an_error_decides_its_type(text: str, kind: type, words: str) -> None:
    reader = ReplyReader()
    reader.feed(f"-{text}\r\n".encode())
    (error,) = read_all(reader)
    assert type(error) is kind
    assert words in str(error)


def test_an_error_inside_a_list_stays_a_value() -> None:
    reader = ReplyReader()
    reader.feed(b"*2\r\n-ERR x\r\n:1\r\n")
    ((first, second),) = read_all(reader)
    assert isinstance(first, CommandError)
    assert second == 1


def test_an_error_text_that_is_no_utf8_is_still_an_error() -> None:
    reader = ReplyReader()
    reader.feed(b"-ERR unknown command '\xff\xfe'\r\n")
    (error,) = read_all(reader)
    assert isinstance(error, CommandError)


def test_pushed_messages_answer_nothing() -> None:
    reader = ReplyReader()
    reader.feed(b">2\r\n+message\r\n+x\r\n:5\r\n")
    assert read_all(reader) == [5]


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n", b"%1\r\n*1\r\n:1\r\n:2\r\n"])
def test_bytes_that_are_no_reply_are_refused(data: bytes) -> None:
    reader = ReplyReader()
    reader.feed(data)
    with pytest.raises(ProtocolError):
        reader.next_reply()


@given(st.binary())
def test_text_and_bytes_convert_back_and_forth(data: bytes) -> None:
    assert protocol.encode_text(protocol.decode_text(data)) == data


@given(st.lists(st.binary(), min_size=1))
def test_a_request_is_an_array_of_bulk_strings(arguments: list[bytes]) -> None:
    reader = ReplyReader()
    reader.feed(protocol.encode_request(arguments))
    assert read_all(reader) == [arguments]


def test_arguments_become_bytes() -> None:
    encoded = protocol.encode_arguments(["é", b"\xff", 7, 1.5, bytearray(b"a"), memoryview(b"b")])
    assert encoded == ("é".encode(), b"\xff", b"7", b"1.5", b"a", b"b")


@pytest.mark.parametrize("value", [True, None, [], object()])
def test_what_has_no_obvious_bytes_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        protocol.encode_argument(value)  # type: ignore[arg-type]


def test_addresses() -> None:
    assert protocol.split_address("[::1]:7001") == ("::1", 7001)
    assert protocol.parse_addresses("a:1, b:2,a:1,") == ("a:1", "b:2")
    assert protocol.parse_addresses(["a:1"]) == ("a:1",)


@pytest.mark.parametrize("bad", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:1,b"])
def test_addresses_that_are_none(bad: str) -> None:
    with pytest.raises(ValueError):
        protocol.parse_addresses(bad)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "a:1: no answer in time"),
        (ConnectionRefusedError(111, "Connection refused"), "a:1: Connection refused"),
        (ConnectionError("max number of clients"), "a:1: max number of clients"),
    ],
)
def test_a_failed_connection_always_has_a_reason(error: Exception, text: str) -> None:
    assert protocol.unreachable("a:1", error) == text

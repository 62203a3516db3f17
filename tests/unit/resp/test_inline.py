"""Inline commands: the words and quotes of sdssplitargs()."""

from __future__ import annotations

import pytest

from raftkv.resp.inline import UnbalancedQuotesError, split_inline


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"   \t ", []),
        (b"PING", [b"PING"]),
        (b"PING\r", [b"PING"]),
        (b" SET  a\tb ", [b"SET", b"a", b"b"]),
        (b'SET a ""', [b"SET", b"a", b""]),
        (b"SET a ''", [b"SET", b"a", b""]),
        (b'SET "a b" c', [b"SET", b"a b", b"c"]),
        (b"SET 'a \"b' c", [b"SET", b'a "b', b"c"]),
        (b'"\\n\\r\\t\\b\\a\\\\\\"\\q"', [b'\n\r\t\b\a\\"q']),
        (b'"\\x00\\xfF\\xg1"', [b"\x00\xffxg1"]),
        (b"'it\\'s' 'a\\b'", [b"it's", b"a\\b"]),
        (b'a"b"', [b"ab"]),
        (b"caf\xc3\xa9 \xff", [b"caf\xc3\xa9", b"\xff"]),
    ],
)
def test_words(line: bytes, words: list[bytes]) -> None:
    assert split_inline(line) == words


@pytest.mark.parametrize("line", [b'"', b"'", b'a "b', b"'a'b", b'"a"b', b'"\\', b"'\\'"])
def test_unbalanced(line: bytes) -> None:
    with pytest.raises(UnbalancedQuotesError):
        split_inline(line)

"""Glob patterns (the differential tests compare thousands of random ones)."""

from __future__ import annotations

import time

import pytest

from raftkv.errors import CommandError
from raftkv.kv.patterns import PATTERN_BYTES_MAX, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        (b"*", [b"", b"a", b"\n", b"a\nb"], []),
        (b"**", [b"a", b"ab"], [b""]),
        (b"", [b""], [b"a"]),
        (b"a*", [b"a", b"ab", b"a\n"], [b"", b"ba"]),
        (b"*a", [b"a", b"ba", b"aa"], [b"", b"ab"]),
        (b"a*b*c", [b"abc", b"aXbXc", b"abcbc"], [b"ab", b"acb", b"abcd"]),
        (b"?", [b"a", b"\xff", b"\n"], [b"", b"ab"]),
        (b"h[ae]llo", [b"hallo", b"hello"], [b"hillo", b"hllo"]),
        (b"h[^e]llo", [b"hallo", b"h^llo"], [b"hello", b"hllo"]),
        (b"[a-c]", [b"a", b"b", b"c"], [b"d", b"-"]),
        (b"[c-a]", [b"a", b"b", b"c"], [b"d"]),
        # A range up to the bracket, as in Redis; the class is never closed.
        (b"[a-]", [b"a", b"]", b"^"], [b"-", b"b"]),
        (b"[-a]", [b"a", b"-"], [b"b"]),
        (b"[]", [], [b"", b"]", b"["]),
        (b"[^]", [b"a", b"]"], [b""]),
        (b"[\\]]", [b"]"], [b"\\", b"[\\]"]),
        (b"[ab", [b"a", b"b"], [b"[ab", b"c"]),
        (b"\\*", [b"*"], [b"a", b"\\*"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"a.b", [b"a.b"], [b"axb"]),
        (b"[\x00-\xff]", [b"\x00", b"\xff", b"-"], [b""]),
    ],
)
def test_what_matches(pattern: bytes, matching: list[bytes], others: list[bytes]) -> None:
    matches = compile_pattern(pattern)
    assert [key for key in matching if not matches(key)] == []
    assert [key for key in others if matches(key)] == []


def test_many_stars_do_not_take_exponential_time() -> None:
    matches = compile_pattern(b"a*" * 100 + b"b")
    started = time.process_time()
    assert not matches(b"a" * 2000)
    # Going back behind the stars would take longer than the universe is old.
    assert time.process_time() - started < 2


def test_a_pattern_has_a_greatest_length() -> None:
    compile_pattern(b"a" * PATTERN_BYTES_MAX)
    with pytest.raises(CommandError, match=r"^ERR pattern exceeds 1024 bytes$"):
        compile_pattern(b"a" * (PATTERN_BYTES_MAX + 1))

from __future__ import annotations

from typing import Any

import pytest

from raftkv.cli.replies import coloured, quote, render, uncoloured
from raftkv.errors import CommandError, NotLeaderError, OutcomeUnknownError

TABLE: list[tuple[Any, str, str]] = [
    (None, "GET", "(nil)"),
    (b"OK", "SET", "OK"),
    (b"OK", "GET", '"OK"'),
    (b"string", "TYPE", "string"),
    (b"v", "get", '"v"'),
    (7, "INCR", "(integer) 7"),
    (True, "X", "(true)"),
    (1.5, "X", "(double) 1.5"),
    ([], "KEYS", "(empty array)"),
    ({}, "X", "(empty map)"),
    ([b"a", None, 3], "X", '1) "a"\n2) (nil)\n3) (integer) 3'),
    ([[b"a", b"b"], [b"c"]], "X", '1) 1) "a"\n   2) "b"\n2) 1) "c"'),
    ({b"k": 1, b"l": [b"a", b"b"]}, "X", '1# "k" => (integer) 1\n2# "l" =>\n   1) "a"\n   2) "b"'),
    (b"# A\r\nb:1\r\n", "INFO", "# A\nb:1"),
    (CommandError("ERR no"), "X", "(error) ERR no"),
    (NotLeaderError("a:1"), "X", "(error) MOVED a:1"),
    (OutcomeUnknownError("timeout"), "X", "(error) OutcomeUnknown: timeout"),
    ([1] * 10, "X", "\n".join(f"{n:>2}) (integer) 1" for n in range(1, 11))),
]


@pytest.mark.parametrize(("reply", "command", "text"), TABLE)
def test_replies_look_as_in_redis_cli(reply: Any, command: str, text: str) -> None:
    assert render(reply, command=command, paint=uncoloured) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'a "b" \\', r'"a \"b\" \\"'),
        (b"\n\r\t\a\b\x01\x7f", r'"\n\r\t\a\b\x01\x7f"'),
        ("é€".encode(), '"é€"'),
        (b"\xff\xc3a", r'"\xff\xc3a"'),
        ("\u202e".encode(), r'"\xe2\x80\xae"'),
    ],
)
def test_bytes_are_quoted_so_that_they_cannot_control_a_terminal(value: bytes, text: str) -> None:
    assert quote(value) == text


def test_colours_surround_the_same_text() -> None:
    assert coloured("(nil)", "nil") == "\x1b[2m(nil)\x1b[0m"

"""What a terminal gets that a pipe does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftkv.cli import terminal
from raftkv.errors import CommandError

Printed = Callable[[], str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    monkeypatch.setattr(terminal, "is_terminal", lambda: True)
    return lambda: capsys.readouterr().out


def test_bytes_cannot_control_the_terminal(printed: Printed) -> None:
    terminal.echo_value(b"a\x1b[2J\x07\xff\xc3\xa9\n\tb")
    assert printed() == "a\\x1b[2J\\x07\\xffé\n\tb\n"


def test_a_missing_value_is_shown(printed: Printed) -> None:
    terminal.echo_value([None, b"x", 3, True, CommandError("ERR no")])
    assert printed() == "(nil)\nx\n3\n1\n(error) ERR no\n"


def test_a_table_has_a_frame_and_numbers_on_the_right(printed: Printed) -> None:
    terminal.echo_table(("name", "size"), [["a", "5"], [("longer", "red"), "12345"]])
    text = printed()
    assert "│ longer │ 12345 │" in text
    assert "│ a      │     5 │" in text


def test_a_plain_table_is_aligned_and_has_no_trailing_spaces() -> None:
    table = terminal.plain_table(("name", "size"), [[("longer", "red"), "5"], ["a", ""]])
    assert table == "name    size\nlonger  5\na"


def test_numbers_stand_to_the_right() -> None:
    table = terminal.rich_table(
        ("rate", "ms", "name"), [["1,234", "-0.50", "n1"], ["7", "-", "2a"]]
    )
    assert [column.justify for column in table.columns] == ["right", "right", "left"]

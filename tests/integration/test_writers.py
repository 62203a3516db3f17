"""The judge of the writers is judged: what it must refuse, and what it must let pass."""

from __future__ import annotations

import random

import pytest

from tests.integration.wire import ReplyError
from tests.integration.writers import BrokenPromiseError, KeyHistory, Writer


@pytest.fixture
def writer() -> Writer:
    """A writer that sent 1 (acknowledged), 2 (refused), 3 (unknown) to one key."""
    writer = Writer("w", ["127.0.0.1:1"], random.Random(1))
    writer._note("k", 1, b"OK")
    writer._note("k", 2, ReplyError("MOVED 1 127.0.0.1:2"))
    writer._note("k", 3, None)
    return writer


@pytest.mark.parametrize("number", [1, 3])
def test_the_last_acknowledged_and_later_unknown_writes_are_allowed(
    writer: Writer, number: int
) -> None:
    assert writer.check_value("k", b"%d:xxx" % number, "n1") == number


@pytest.mark.parametrize("value", [None, b"2:x", b"4:x"])
def test_a_lost_a_refused_and_an_unsent_write_are_broken_promises(
    writer: Writer, value: bytes | None
) -> None:
    with pytest.raises(BrokenPromiseError, match=r"k on n1 .* allowed: \[1, 3\]"):
        writer.check_value("k", value, "n1")


def test_an_acknowledgement_forgets_what_came_before(writer: Writer) -> None:
    writer._note("k", 4, b"OK")
    assert writer.histories["k"] == KeyHistory(acknowledged=4, unknown=[])
    with pytest.raises(BrokenPromiseError):
        writer.check_value("k", b"3:x", "n1")


def test_a_key_without_acknowledged_write_may_be_absent() -> None:
    writer = Writer("w", ["127.0.0.1:1"], random.Random(1))
    writer._note("k", 1, ReplyError("UNKNOWN timeout"))
    assert writer.check_value("k", None, "n1") == 0
    assert writer.check_value("k", b"1:", "n1") == 1


def test_a_counter_is_bounded_on_both_sides(writer: Writer) -> None:
    writer._note("w:counter", 5, 1)
    writer._note("w:counter", 6, None)
    for value in (1, 2):
        writer._check_counter(value)
    for value in (0, 3):
        with pytest.raises(BrokenPromiseError):
            writer._check_counter(value)


def test_the_replies_of_a_counter_grow() -> None:
    writer = Writer("w", ["127.0.0.1:1"], random.Random(1))
    writer._note("w:counter", 1, None)
    writer._note("w:counter", 2, 2)
    with pytest.raises(BrokenPromiseError, match="answered 2 after 2"):
        writer._note("w:counter", 3, 2)


def test_an_error_that_is_neither_definite_nor_unknown_is_a_broken_promise(writer: Writer) -> None:
    with pytest.raises(BrokenPromiseError, match="ERR internal error"):
        writer._note("k", 5, ReplyError("ERR internal error"))

"""What can be recorded, and when a key is left alone."""

from __future__ import annotations

import pytest

from tests.linearizability.history import (
    HistoryError,
    Operation,
    Outcome,
    Recorder,
    value_of,
    value_text,
)
from tests.linearizability.retirement import KeyRetirement


def test_what_was_begun_and_never_ended_is_unknown() -> None:
    recorder = Recorder()
    first = recorder.begin("a", "set", ["x"], ["1"], 10)
    second = recorder.begin("b", "get", ["x"], [], 11)
    recorder.begin("c", "set", ["x"], ["2"], 12)
    recorder.end(second, Outcome.OK, 20, "1")
    recorder.end(first, Outcome.REFUSED, 21)
    told = [(one.client, one.outcome, one.returned_us, one.result) for one in recorder.operations()]
    assert told == [
        ("a", Outcome.REFUSED, 21, None),
        ("b", Outcome.OK, 20, "1"),
        ("c", Outcome.UNKNOWN, None, None),
    ]
    with pytest.raises(HistoryError, match="ended before"):
        recorder.end(second, Outcome.OK, 30, "1")


@pytest.mark.parametrize(
    ("keys", "called_us", "returned_us"), [((), 0, 1), (("x",), 0, None), (("x",), 2, 1)]
)
def test_an_operation_that_cannot_be(
    keys: tuple[str, ...], called_us: int, returned_us: int | None
) -> None:
    with pytest.raises(HistoryError):
        Operation(client="a", kind="get", keys=keys, called_us=called_us, returned_us=returned_us)


def test_replies_become_values() -> None:
    assert value_of([b"a\xff", 1, None, True, [b""]]) == ("a\xff", 1, None, 1, ("",))
    with pytest.raises(HistoryError):
        value_of(1.5)


def test_values_are_said_without_doubt() -> None:
    assert [value_text(one) for one in ("a", "", "a b", None, 7, ("x", None))] == [
        "a", '""', '"a b"', "nil", "7", "[x, nil]",
    ]  # fmt: skip


def test_a_key_is_retired_after_its_operations() -> None:
    retirement = KeyRetirement("k", operations_max=3)
    assert [retirement.begin(0) for _ in range(4)] == ["k:0:0"] * 3 + ["k:0:1"]
    assert retirement.begin(1) == "k:1:0"
    assert retirement.keys() == ("k:0:0", "k:0:1", "k:1:0")


def test_a_key_is_retired_after_its_unknowns() -> None:
    retirement = KeyRetirement("k", unknowns_max=2)
    keys = [retirement.begin(0) for _ in range(4)]
    retirement.end(keys[0], Outcome.UNKNOWN)
    retirement.end(keys[1], Outcome.OK)
    retirement.end(keys[1], Outcome.REFUSED)
    assert retirement.key(0) == "k:0:0"
    retirement.end(keys[2], Outcome.UNKNOWN)
    assert retirement.key(0) == "k:0:1"
    # One that was in flight ends on the old key and does not retire the new one.
    retirement.end(keys[3], Outcome.UNKNOWN)
    assert retirement.key(0) == "k:0:1"

"""The order of those who wait: per key, with attempts on their way, deadlines and a limit."""

from __future__ import annotations

from raftkv.server.waiting import WaitList


class FakeWaiter:
    """Waits, and is nothing else."""

    def __init__(self, *keys: bytes, type_name: str = "list", deadline_ms: int = 0) -> None:
        self.keys = keys
        self.type_name = type_name
        self.deadline_ms = deadline_ms
        self.number = 0
        self.tried: bytes | None = None


def list_of(*waiters: FakeWaiter, keys_max: int = 100) -> WaitList[FakeWaiter]:
    waits: WaitList[FakeWaiter] = WaitList(keys_max)
    for waiter in waiters:
        assert waits.add(waiter)
    return waits


def test_those_who_came_first_are_first_at_every_key() -> None:
    first, second, third = FakeWaiter(b"a", b"b"), FakeWaiter(b"b"), FakeWaiter(b"a")
    waits = list_of(first, second, third)
    assert waits.first(b"a", "list", 9) == [first, third]
    assert waits.first(b"b", "list", 9) == [first, second]
    assert waits.first(b"b", "list", 1) == [first]
    assert waits.first(b"c", "list", 1) == []
    assert list(waits) == [first, second, third]


def test_an_attempt_on_its_way_counts_as_an_element_of_its_key_and_of_no_other() -> None:
    first, second = FakeWaiter(b"a", b"b"), FakeWaiter(b"a", b"b")
    waits = list_of(first, second)
    first.tried = b"a"
    assert waits.first(b"a", "list", 1) == []
    assert waits.first(b"a", "list", 2) == [second]
    assert waits.first(b"b", "list", 1) == [second]
    first.tried = None
    assert waits.first(b"a", "list", 1) == [first]


def test_only_those_who_want_that_type_may_try() -> None:
    for_list, for_set = FakeWaiter(b"a"), FakeWaiter(b"a", type_name="zset")
    waits = list_of(for_list, for_set)
    assert waits.first(b"a", "zset", 5) == [for_set]


def test_whether_anybody_waits_for_a_type_at_a_key() -> None:
    waits = list_of(FakeWaiter(b"a"), FakeWaiter(b"b", type_name="zset"))
    assert waits.await_any((b"x", b"a"), "list")
    assert waits.await_any((b"b",), "zset")
    assert not waits.await_any((b"b", b"c"), "list")


def test_one_that_is_added_again_keeps_its_place() -> None:
    first, second = FakeWaiter(b"a"), FakeWaiter(b"a")
    waits = list_of(first, second)
    assert waits.add(first)
    assert waits.first(b"a", "list", 1) == [first]
    waits.remove(first)
    waits.remove(first)
    assert waits.add(first)
    assert waits.first(b"a", "list", 1) == [second]


def test_deadlines_come_in_order_and_only_once() -> None:
    late, early, never = (
        FakeWaiter(b"a", deadline_ms=30),
        FakeWaiter(b"a", deadline_ms=10),
        FakeWaiter(b"a"),
    )
    waits = list_of(late, early, never)
    assert waits.due(9) == []
    assert waits.due(10) == [early]
    assert waits.due(99) == [early, late]
    waits.remove(early)
    assert waits.due(99) == [late]


def test_the_keys_of_all_are_limited_and_nothing_is_left_of_those_that_went() -> None:
    waits = list_of(FakeWaiter(b"a", b"a", b"b"), keys_max=3)
    second, third = FakeWaiter(b"c", b"d"), FakeWaiter(b"c")
    assert not waits.add(second)
    assert second.number == 0
    assert waits.add(third)
    assert b"c" in waits.keys
    waits.remove(third)
    assert b"c" not in waits.keys
    assert waits.add(FakeWaiter(b"e"))
    assert len(waits) == 2

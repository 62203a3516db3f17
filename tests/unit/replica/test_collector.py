"""The garbage collector comes often, for little, and never for everything."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from raftkv.replica.collector import SECOND_LOOK_PASSES, CollectorTimer


class FakeHandle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Calls back when told."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None
        self.handle = FakeHandle()

    def call_later(self, _delay_s: float, callback: Callable[[], None]) -> FakeHandle:
        self.callback = callback
        self.handle = FakeHandle()
        return self.handle

    def run(self, passes: int) -> None:
        for _ in range(passes):
            assert self.callback is not None
            self.callback()


class Knot:
    """Something that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def loop() -> Iterator[FakeLoop]:
    loop = FakeLoop()
    timer = CollectorTimer(cast(asyncio.AbstractEventLoop, loop))
    timer.start()
    try:
        yield loop
    finally:
        timer.stop()
        assert loop.handle.cancelled
        assert gc.isenabled()
        gc.unfreeze()


def test_it_comes_by_the_timer_only(loop: FakeLoop) -> None:
    assert not gc.isenabled()
    knot = weakref.ref(Knot())
    assert knot() is not None
    loop.run(1)
    assert knot() is None


def test_what_survived_a_pass_is_looked_at_once_more(loop: FakeLoop) -> None:
    knot: Any = Knot()
    found = weakref.ref(knot)
    loop.run(1)
    del knot
    loop.run(SECOND_LOOK_PASSES)
    assert found() is None


def test_entries_leave_its_books_with_the_first_pass(loop: FakeLoop) -> None:
    entries = {b"%d" % number: (b"value", 0, number, number, 1) for number in range(1000)}
    assert all(map(gc.is_tracked, entries.values()))
    loop.run(1)
    assert not any(map(gc.is_tracked, entries.values()))


def test_the_keys_are_not_walked_again(loop: FakeLoop) -> None:
    entries = [[number] for number in range(50_000)]
    loop.run(2 * SECOND_LOOK_PASSES)
    looked_at: list[int] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            looked_at.append(len(gc.get_objects(0)) + len(gc.get_objects(1)))

    gc.callbacks.append(note)
    try:
        loop.run(SECOND_LOOK_PASSES)
    finally:
        gc.callbacks.remove(note)
    assert len(looked_at) == SECOND_LOOK_PASSES
    assert max(looked_at) < len(entries) / 10

"""The garbage collector comes often, for little, and never for everything."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from raftkv.kv.commands import Opcode
from raftkv.replica.collector import SECOND_LOOK_PASSES, CollectorTimer
from raftkv.replica.replica import BULK_BYTES_MIN
from tests.sim.cluster import Cluster, SimSlot


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
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def timer(loop: FakeLoop) -> Iterator[CollectorTimer]:
    timer = CollectorTimer(cast(asyncio.AbstractEventLoop, loop))
    timer.start()
    try:
        yield timer
    finally:
        timer.stop()
        assert loop.handle.cancelled
        assert gc.isenabled()
        gc.unfreeze()


@pytest.mark.usefixtures("timer")
def test_it_comes_by_the_timer_only(loop: FakeLoop) -> None:
    assert not gc.isenabled()
    knot = weakref.ref(Knot())
    assert knot() is not None
    loop.run(1)
    assert knot() is None


@pytest.mark.usefixtures("timer")
def test_what_survived_a_pass_is_looked_at_once_more(loop: FakeLoop) -> None:
    knot: Any = Knot()
    found = weakref.ref(knot)
    loop.run(1)
    del knot
    loop.run(SECOND_LOOK_PASSES)
    assert found() is None


@pytest.mark.usefixtures("timer")
def test_entries_leave_its_books_with_the_first_pass(loop: FakeLoop) -> None:
    entries = {b"%d" % number: (b"value", 0, number, number, 1) for number in range(1000)}
    assert all(map(gc.is_tracked, entries.values()))
    loop.run(1)
    assert not any(map(gc.is_tracked, entries.values()))


def objects_looked_at(loop: FakeLoop) -> list[int]:
    """Return how many objects each of the next passes finds in the collector's books."""
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
    return looked_at


@pytest.mark.usefixtures("timer")
def test_the_keys_are_not_walked_again(loop: FakeLoop) -> None:
    entries = [[number] for number in range(50_000)]
    loop.run(2 * SECOND_LOOK_PASSES)
    assert max(objects_looked_at(loop)) < len(entries) / 10


def test_what_a_large_batch_made_is_not_looked_at(loop: FakeLoop, timer: CollectorTimer) -> None:
    timer.before_bulk()
    entries = [[number] for number in range(50_000)]
    timer.after_bulk()
    assert max(objects_looked_at(loop)) < len(entries) / 10


def test_knots_from_before_a_large_batch_are_freed(timer: CollectorTimer) -> None:
    knot = weakref.ref(Knot())
    timer.before_bulk()
    timer.after_bulk()
    assert knot() is None


class NotingCollector:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_bulk(self) -> None:
        self.heard.append("before")

    def after_bulk(self) -> None:
        self.heard.append("after")


def test_a_replica_tells_of_large_batches() -> None:
    cluster = Cluster(5, size=3)
    cluster.start()
    cluster.run_until(lambda: cluster.converged() and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    collectors = [NotingCollector() for _ in cluster.nodes]
    for node, collector in zip(cluster.nodes.values(), collectors, strict=True):
        node.replica._collector = collector

    def write(count: int) -> None:
        done: list[Any] = []
        slot = SimSlot(lambda results, failure: done.append(results or failure))
        value = bytes(100)
        leader.replica.propose(
            [(int(Opcode.SET), b"key%d" % number, value) for number in range(count)], slot
        )
        cluster.run_until(lambda: bool(done) and cluster.converged())
        assert isinstance(done[0], list)

    write(1)
    assert not any(collector.heard for collector in collectors)
    write(BULK_BYTES_MIN // 100)
    assert all(collector.heard == ["before", "after"] for collector in collectors)

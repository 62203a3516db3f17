"""The state `full` begins with the first write that has no room, and ends with new space only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.errors import DiskFullError
from raftkv.replica.disk_space import RETRY_MS, DiskSpaceGuard

SEGMENT_BYTES = 1000


class FakeWal:
    """A log with some room, on a disk with or without space for one more segment."""

    def __init__(self) -> None:
        self.room = 0
        self.disk_has_space = True
        self.prepared = False

    def room_bytes(self) -> int:
        return self.room + SEGMENT_BYTES * self.prepared

    def can_take_segment(self, needed_bytes: int) -> bool:
        return self.disk_has_space

    def needs_segment(self) -> bool:
        return not self.prepared

    def prepare_segment(self, needed_bytes: int = 0) -> None:
        if not self.disk_has_space:
            raise DiskFullError("no space")
        self.prepared = True


class Clock:
    now = 0

    def now_ms(self) -> int:
        return self.now


class Worker:
    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        raise AssertionError("not used here")


class BusyWorker:
    """Has other work to do first."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], Any], Callable[[Any], None]]] = []

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((job, done))

    def run(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job, done in jobs:
            try:
                done(job())
            except DiskFullError as error:
                done(error)


class Observer:
    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, name: str, **fields: object) -> None:
        self.events.append(name)


def test_the_state_does_not_come_and_go_with_the_size_of_a_write() -> None:
    wal, clock, observer = FakeWal(), Clock(), Observer()
    guard = DiskSpaceGuard(
        wal=wal, background=Worker(), observer=observer, clock=clock, fail=lambda error: None
    )  # type: ignore[arg-type]  # fmt: skip
    wal.room, wal.disk_has_space = 100, False
    assert not guard.check(50)
    assert not guard.full
    assert guard.check(200)
    for needed_bytes in (0, 50, 200, 10):
        assert not guard.check(needed_bytes)
        assert guard.full
    # Space returned, but it is not asked for again at once.
    wal.disk_has_space = True
    assert not guard.check(10)
    clock.now = RETRY_MS
    assert guard.check(10)
    assert not guard.full
    assert observer.events == ["disk_full", "disk_space_returned"]


def test_a_disk_that_fills_up_while_the_worker_is_busy_is_seen_before_a_write() -> None:
    """A rotation that finds no space stops the node, and this is no failure of the disk."""
    wal, clock, observer, worker = FakeWal(), Clock(), Observer(), BusyWorker()
    guard = DiskSpaceGuard(
        wal=wal, background=worker, observer=observer, clock=clock, fail=lambda error: None
    )  # type: ignore[arg-type]  # fmt: skip
    wal.room = 100
    guard.prepare()
    assert not guard.check(200)
    assert not guard.full
    wal.disk_has_space = False
    assert guard.check(200)
    assert guard.full
    worker.run()
    assert not guard.check(200)
    wal.disk_has_space = True
    clock.now = RETRY_MS
    assert guard.check(200)
    assert not guard.full

"""A segment is kept at hand, and a disk without space is a state that ends by itself."""

from __future__ import annotations

from raftkv.errors import DiskFailedError, DiskFullError
from raftkv.replica.disk_space import RETRY_MS, DiskSpaceGuard
from tests.unit.replica.fakes import FakeClock, FakeObserver, StepWorker

SEGMENT = 1000


class FakeWal:
    def __init__(self, room: int = SEGMENT) -> None:
        self.room = room
        self.prepared = False
        self.error: Exception | None = None

    def room_bytes(self) -> int:
        return self.room + (SEGMENT if self.prepared else 0)

    def needs_segment(self) -> bool:
        return not self.prepared

    def prepare_segment(self, _needed_bytes: int = 0) -> None:
        if self.error is not None:
            raise self.error
        self.prepared = True


class Setting:
    def __init__(self, room: int = SEGMENT) -> None:
        self.wal, self.worker = FakeWal(room), StepWorker()
        self.clock, self.observer = FakeClock(), FakeObserver()
        self.failures: list[BaseException] = []
        self.guard = DiskSpaceGuard(
            wal=self.wal,  # type: ignore[arg-type]
            background=self.worker,
            observer=self.observer,
            clock=self.clock,
            fail=self.failures.append,
        )


def test_the_worker_takes_the_next_segment_ahead_of_need_and_only_once() -> None:
    one = Setting()
    one.guard.prepare()
    one.guard.prepare()
    assert len(one.worker.jobs) == 1
    one.worker.run_all()
    one.guard.prepare()
    assert not one.worker.jobs
    assert one.wal.prepared


def test_without_space_the_state_is_full_and_reported_once() -> None:
    one = Setting(room=10)
    one.wal.error = DiskFullError("none")
    assert one.guard.check(100)
    assert one.guard.full
    assert not one.guard.check(100)
    assert one.observer.names() == ["disk_full"]


def test_space_is_looked_for_again_after_a_while_and_the_state_ends() -> None:
    one = Setting(room=10)
    one.wal.error = DiskFullError("none")
    one.guard.check(100)
    one.wal.error = None
    assert not one.guard.check(100), "too early"
    assert one.guard.retry_ms() == RETRY_MS
    one.clock.advance(RETRY_MS)
    assert one.guard.check(100)
    assert not one.guard.full
    assert one.observer.names() == ["disk_full", "disk_space_returned"]


def test_a_worker_that_finds_no_space_does_not_make_the_state_while_there_is_room() -> None:
    one = Setting(room=SEGMENT)
    one.wal.error = DiskFullError("none")
    one.guard.prepare()
    one.worker.run_all()
    assert not one.guard.check(100)
    assert not one.guard.full
    assert one.failures == []
    one.guard.prepare()
    assert not one.worker.jobs, "not before the time to look again"


def test_a_disk_that_fails_stops_the_node() -> None:
    one = Setting()
    one.wal.error = DiskFailedError("broken")
    one.guard.prepare()
    one.worker.run_all()
    assert [type(error) for error in one.failures] == [DiskFailedError]

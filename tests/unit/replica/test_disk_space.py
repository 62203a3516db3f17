"""A segment is kept at hand, and a disk without space is a state that ends by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.messages import Append, encode
from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    PeerMessage,
    Proposal,
    TruncateRecord,
    WalRecord,
)
from raftkv.errors import DiskFailedError, DiskFullError
from raftkv.replica.disk_space import RETRY_MS, DiskSpaceGuard, needed_bytes
from raftkv.types import Index, NodeId, Term
from tests.unit.replica.fakes import FakeClock, FakeObserver, StepWorker
from tests.unit.storage.crashing_disk import CrashingDisk
from tests.unit.storage.wal_steps import recover

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


sizes = st.lists(
    st.integers(0, 300) | st.integers(0, 5).map(lambda step: 4**step * 40), max_size=40
)


@given(appended=st.lists(sizes, max_size=4), proposed=sizes, copies=st.integers(1, 200))
def test_what_a_step_writes_is_never_more_than_was_asked_for(
    appended: list[list[int]], proposed: list[int], copies: int
) -> None:
    """Thousands of small entries cost more for their heads than for themselves."""
    wal, _ = recover(CrashingDisk())
    records: list[WalRecord] = [
        HardStateRecord(Term(1 << 60), NodeId("n" * 63)),
        TruncateRecord(Index(1)),
    ]
    inbox = []
    for group in appended:
        commands = [(1, bytes(1 + size)) for size in group] * copies
        message = Append(1, 1, 1, 1, 1, False, commands)
        inbox.append(PeerMessage(NodeId("B"), encode(message)))
        records += [EntryRecord(Index(1), Term(1), command) for _, command in commands]
    proposals = [Proposal(bytes(size), None) for size in proposed]
    records += [EntryRecord(Index(1), Term(1), bytes(1 + size)) for size in proposed]
    written = wal.frame_bytes(records)
    assert written <= needed_bytes(inbox, proposals) <= 1.3 * written + 2 * 64 * 1024

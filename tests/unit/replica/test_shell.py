"""One turn a pass of the loop, timers that are not late, and a thread that reports back."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.replica.shell import SyncWorker, SystemClock, ThreadWorker, TurnScheduler


class FakeReplica:
    """Counts turns; says when the next one is due."""

    def __init__(self, clock: SystemClock, due_in_ms: int = 10_000) -> None:
        self._clock = clock
        self.due_in_ms = due_in_ms
        self.stopped: object = None
        self.due_ms = clock.now_ms() + due_in_ms
        self.turns: list[int] = []
        self.turned = asyncio.Event()
        self.passes_to_wait = 0

    def awaits_more(self) -> bool:
        self.passes_to_wait -= 1
        return self.passes_to_wait >= 0

    def turn(self) -> None:
        self.turns.append(self._clock.now_ms())
        self.due_ms = self._clock.now_ms() + self.due_in_ms
        self.turned.set()

    def next_deadline_ms(self) -> int:
        return self.due_ms


async def until_turn(replica: FakeReplica) -> None:
    replica.turned.clear()
    await asyncio.wait_for(replica.turned.wait(), 5)


def scheduler(due_in_ms: int = 10_000) -> tuple[TurnScheduler, FakeReplica]:
    clock = SystemClock()
    replica = FakeReplica(clock, due_in_ms)
    return TurnScheduler(asyncio.get_running_loop(), clock), replica


@pytest.mark.asyncio
async def test_many_wakes_of_a_pass_are_one_turn() -> None:
    one, replica = scheduler()
    one.start(replica)  # type: ignore[arg-type]
    for _ in range(10):
        one.wake()
    await until_turn(replica)
    await asyncio.sleep(0)
    assert len(replica.turns) == 1
    one.stop()


@pytest.mark.asyncio
async def test_a_turn_waits_for_passes_that_bring_more() -> None:
    one, replica = scheduler()
    replica.passes_to_wait = 3
    one.start(replica)  # type: ignore[arg-type]
    await until_turn(replica)
    assert replica.passes_to_wait == -1
    assert len(replica.turns) == 1
    one.stop()


@pytest.mark.asyncio
async def test_a_deadline_brings_a_turn_without_a_wake() -> None:
    one, replica = scheduler(due_in_ms=5)
    one.start(replica)  # type: ignore[arg-type]
    await until_turn(replica)
    await until_turn(replica)
    assert replica.turns[1] - replica.turns[0] >= 4
    one.stop()


@pytest.mark.asyncio
async def test_a_deadline_that_moved_away_brings_no_turn() -> None:
    one, replica = scheduler(due_in_ms=5)
    one.start(replica)  # type: ignore[arg-type]
    await until_turn(replica)
    begin_ms = replica.turns[0]
    replica.due_ms = begin_ms + 200
    await until_turn(replica)
    assert replica.turns[1] - begin_ms >= 200
    one.stop()


@pytest.mark.asyncio
async def test_after_stop_there_are_no_more_turns() -> None:
    one, replica = scheduler(due_in_ms=1)
    one.start(replica)  # type: ignore[arg-type]
    await until_turn(replica)
    one.stop()
    one.wake()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(replica.turns) == 1


@pytest.mark.asyncio
async def test_jobs_run_in_order_on_another_thread_and_report_on_this_one() -> None:
    worker = ThreadWorker(asyncio.get_running_loop(), "test-worker")
    done: list[tuple[Any, int]] = []
    finished = asyncio.Event()
    here = threading.get_ident()

    def note(outcome: Any) -> None:
        done.append((outcome, threading.get_ident()))
        if len(done) == 3:
            finished.set()

    worker.submit(threading.get_ident, note)
    worker.submit(lambda: 1 // 0, note)
    worker.submit(lambda: "third", note)
    await asyncio.wait_for(finished.wait(), 5)
    assert done[0][0] != here
    assert isinstance(done[1][0], ZeroDivisionError)
    assert done[2][0] == "third"
    assert {thread for _, thread in done} == {here}
    worker.stop()


@pytest.mark.asyncio
async def test_a_worker_tidies_up_once_when_no_job_follows() -> None:
    loop = asyncio.get_running_loop()
    course: list[tuple[str, int]] = []
    tidied = asyncio.Event()

    def note(what: str) -> None:
        course.append((what, threading.get_ident()))

    def tidy() -> None:
        note("tidy")
        loop.call_soon_threadsafe(tidied.set)

    worker = ThreadWorker(loop, "test-worker", when_idle=tidy, idle_s=0.0)
    await asyncio.wait_for(tidied.wait(), 5)
    for _ in range(3):
        tidied.clear()
        worker.submit(lambda: note("job"), lambda _: None)
        await asyncio.wait_for(tidied.wait(), 5)
    worker.stop()
    assert [what for what, _ in course] == ["tidy", *["job", "tidy"] * 3]
    (thread,) = {thread for _, thread in course}
    assert thread != threading.get_ident()


@pytest.mark.asyncio
async def test_a_worker_holds_nothing_of_a_job_that_is_done() -> None:
    class Outcome:
        pass

    worker = ThreadWorker(asyncio.get_running_loop(), "test-worker")
    outcomes: list[Any] = []
    done = asyncio.Event()
    worker.submit(Outcome, lambda outcome: (outcomes.append(weakref.ref(outcome)), done.set()))
    await asyncio.wait_for(done.wait(), 5)
    # One more turn of this loop lets go of the call that reported.
    await asyncio.sleep(0)
    deadline = time.monotonic() + 5
    while outcomes[0]() is not None and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    assert outcomes[0]() is None
    worker.stop()


@pytest.mark.asyncio
async def test_stopping_finishes_what_was_submitted() -> None:
    worker = ThreadWorker(asyncio.get_running_loop(), "test-worker")
    ran: list[int] = []
    for number in range(20):
        worker.submit(lambda number=number: ran.append(number), lambda _: None)  # type: ignore[misc]
    worker.stop()
    assert ran == list(range(20))


class Syncs:
    """Submits syncs, one after the other, and notes where each ran."""

    def __init__(self, worker: SyncWorker) -> None:
        self.worker = worker
        self.on_the_loop: list[bool] = []

    async def run(self, job: Callable[[], object] = lambda: None) -> Any:
        done = asyncio.Event()
        outcomes: list[Any] = []

        def act() -> object:
            self.on_the_loop.append(threading.current_thread() is threading.main_thread())
            return job()

        def note(outcome: Any) -> None:
            outcomes.append(outcome)
            done.set()

        self.worker.submit(act, note)
        await asyncio.wait_for(done.wait(), 5)
        return outcomes[0]


def sync_worker(*, others_busy: Callable[[], bool] = lambda: False) -> SyncWorker:
    loop = asyncio.get_running_loop()
    # Slow is what takes a second here: the machine may be busy with other work.
    return SyncWorker(loop, "test-sync", others_busy=others_busy, fast_s=1.0, slow_s=1.0)


@pytest.mark.asyncio
async def test_a_fast_sync_is_waited_for_on_the_loop() -> None:
    worker = sync_worker()
    syncs = Syncs(worker)
    assert await syncs.run(lambda: "done") == "done"
    assert syncs.on_the_loop == [True]
    worker.stop()


@pytest.mark.asyncio
async def test_an_error_of_a_sync_on_the_loop_is_a_value() -> None:
    worker = sync_worker()
    assert isinstance(await Syncs(worker).run(lambda: 1 // 0), ZeroDivisionError)
    worker.stop()


@pytest.mark.asyncio
async def test_after_a_slow_sync_the_next_ones_go_to_the_thread_for_a_while() -> None:
    loop = asyncio.get_running_loop()
    worker = SyncWorker(loop, "test-sync", others_busy=lambda: False, fast_s=1.0, slow_s=0.0)
    syncs = Syncs(worker)
    for _ in range(34):
        await syncs.run()
    assert syncs.on_the_loop == [True] + [False] * 32 + [True]
    worker.stop()


@pytest.mark.asyncio
async def test_while_the_fastest_sync_of_the_thread_is_slow_none_is_tried_on_the_loop() -> None:
    loop = asyncio.get_running_loop()
    worker = SyncWorker(loop, "test-sync", others_busy=lambda: False, fast_s=0.0, slow_s=0.0)
    syncs = Syncs(worker)
    for _ in range(100):
        await syncs.run()
    assert syncs.on_the_loop == [True] + [False] * 99
    worker.stop()


@pytest.mark.asyncio
async def test_syncs_go_to_the_thread_while_other_work_is_on_the_disk() -> None:
    busy = [True, False]
    worker = sync_worker(others_busy=lambda: busy[0])
    syncs = Syncs(worker)
    await syncs.run()
    busy.reverse()
    await syncs.run()
    assert syncs.on_the_loop == [False, True]
    worker.stop()


@pytest.mark.asyncio
async def test_a_worker_is_busy_until_the_report() -> None:
    worker = ThreadWorker(asyncio.get_running_loop(), "test-worker")
    seen = [worker.busy]
    done = asyncio.Event()
    worker.submit(lambda: None, lambda _: done.set())
    seen.append(worker.busy)
    await asyncio.wait_for(done.wait(), 5)
    assert [*seen, worker.busy] == [False, True, False]
    worker.stop()


def test_the_boot_clock_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.now_ms() for _ in range(1000)]
    assert readings == sorted(readings)
    assert clock.wall_ms() > 1_600_000_000_000

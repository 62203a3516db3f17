"""Slots, clocks, networks and workers that do what a test says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from raftkv.seams import Failure
from raftkv.types import NodeId


class TestSlot:
    """Keeps its answer, and refuses a second one."""

    __test__ = False

    def __init__(self) -> None:
        self.answers: list[Any] = []

    def resolve(self, results: Sequence[object]) -> None:
        assert not self.answers, "answered twice"
        self.answers.append(list(results))

    def fail(self, failure: Failure) -> None:
        assert not self.answers, "answered twice"
        self.answers.append(failure)

    @property
    def answer(self) -> Any:
        assert len(self.answers) == 1, f"{len(self.answers)} answers"
        return self.answers[0]


class FakeClock:
    def __init__(self, now: int = 0, wall: int = 1_000_000) -> None:
        self.now = now
        self.wall = wall

    def now_ms(self) -> int:
        return self.now

    def wall_ms(self) -> int:
        return self.wall

    def advance(self, duration_ms: int) -> None:
        self.now += duration_ms
        self.wall += duration_ms


class FakeNetwork:
    def __init__(self) -> None:
        self.sent: list[tuple[NodeId, int, bytes]] = []
        self.flushes = 0

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self.sent.append((node, kind, body))

    def flush(self) -> None:
        self.flushes += 1


class FakeObserver:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, /, **fields: object) -> None:
        self.events.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class StepWorker:
    """Runs a job when told to."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Callable[[], Any], Callable[[Any], None]]] = deque()

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        self.jobs.append((job, done))

    def run_one(self) -> None:
        job, done = self.jobs.popleft()
        outcome: Any
        try:
            outcome = job()
        except Exception as error:
            outcome = error
        done(outcome)

    def run_all(self) -> None:
        while self.jobs:
            self.run_one()

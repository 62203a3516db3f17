"""What a report raises goes to whoever stops the node; all else is the worker's."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.replica.guarded_worker import GuardedWorker
from tests.unit.replica.fakes import StepWorker


def guarded() -> tuple[GuardedWorker, StepWorker, list[BaseException]]:
    worker = StepWorker()
    failures: list[BaseException] = []
    return GuardedWorker(worker, failures.append), worker, failures


def test_a_job_and_its_report_are_handed_on() -> None:
    one, worker, failures = guarded()
    outcomes: list[Any] = []
    one.submit(lambda: "done", outcomes.append)
    assert outcomes == []
    worker.run_all()
    assert (outcomes, failures) == (["done"], [])


def test_an_error_of_a_job_is_a_value() -> None:
    one, worker, failures = guarded()
    outcomes: list[Any] = []
    one.submit(lambda: 1 // 0, outcomes.append)
    worker.run_all()
    assert isinstance(outcomes[0], ZeroDivisionError)
    assert failures == []


@pytest.mark.parametrize("error", [MemoryError("none left"), OSError(12, "x"), KeyError("x")])
def test_an_error_of_a_report_stops_the_node(error: Exception) -> None:
    one, worker, failures = guarded()

    def done(_: object) -> None:
        raise error

    one.submit(lambda: None, done)
    worker.run_all()
    assert failures == [error]


def test_what_ends_the_process_is_no_failure_of_the_node() -> None:
    one, worker, failures = guarded()

    def done(_: object) -> None:
        raise SystemExit

    one.submit(lambda: None, done)
    with pytest.raises(SystemExit):
        worker.run_all()
    assert failures == []

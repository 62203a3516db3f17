"""From what clients recorded to a verdict and a report, for every script.

A report is a folder: `history.jsonl`, `course.html` (what was done when, what was
acknowledged in each second) and, of an illegal history, `timeline.html` with its
smallest failing part.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import hiredis

from tests.chaos import course
from tests.chaos.load import Load, now_us, request
from tests.chaos.script import Script
from tests.integration.cluster import Cluster
from tests.integration.wire import Wire
from tests.linearizability import timeline
from tests.linearizability.checker import CheckResult, check
from tests.linearizability.history import History, Outcome, value_of

_READ_AT_ONCE = 200


def add_report_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--report",
        type=Path,
        default=None,
        metavar="DIR",
        help="where figures, history and timeline go; else only on failure",
    )


def report_directory(script: Script) -> Path:
    """Return where the report goes; it goes away with the data of a run that succeeds."""
    directory: Path | None = script.arguments.report
    return directory or script.directory / "report"


def read_everything(cluster: Cluster, load: Load) -> None:
    """Record one more read of every key, of a cluster that nobody hurts."""
    keys = list(load.keys.keys())
    leader = cluster.wait_for_leader()
    with Wire(leader.client) as wire:
        for first in range(0, len(keys), _READ_AT_ONCE):
            part = keys[first : first + _READ_AT_ONCE]
            called_us = now_us()
            wire.send(b"".join(request("get", key, ()) for key in part))
            for key in part:
                reply = wire.read()
                if isinstance(reply, hiredis.ReplyError):
                    raise AssertionError(f"a read of an idle cluster failed: {reply}")
                load.recorder.add("final", "get", key, (), called_us, Outcome.OK, value_of(reply))


def history_of(script: Script, load: Load) -> History:
    return History(
        operations=tuple(load.recorder.operations), model="store", comment=script.title
    )  # fmt: skip


def write_course(script: Script, load: Load, blows: Sequence[course.Blow], summary: str) -> None:
    """Write the history, and draw what was done and what was acknowledged meanwhile."""
    directory = report_directory(script)
    directory.mkdir(parents=True, exist_ok=True)
    recorder = load.recorder
    course.write(
        directory / "course.html", title=script.title, summary=summary,
        span_us=(load.started_us, load.ended_us), blows=blows,
        returned_us=[one.returned_us or 0 for one in recorder.operations
                     if one.outcome is Outcome.OK],
        written_us=recorder.acknowledged_us,
    )  # fmt: skip
    history_of(script, load).save(directory / "history.jsonl")


def judge(script: Script, load: Load) -> tuple[CheckResult, str]:
    """Check the history; draw the smallest part that fails.

    Returns:
        The result and a line about it.
    """
    started_s = time.monotonic()
    result = check(history_of(script, load))
    if result.failing is not None:
        html = report_directory(script) / "timeline.html"
        timeline.write(html, [result.failing], comment=script.title)
    line = str(result).splitlines()[0]
    return result, f"history {line}, judged in {time.monotonic() - started_s:.0f} s"


def require_ok(script: Script, result: CheckResult, summary: str) -> None:
    """Fail a run whose history is illegal or was not decided."""
    if not result.is_ok:
        raise AssertionError(
            f"the history is {result.verdict}: {' '.join(str(result).splitlines()[1:])} "
            f"(report: {report_directory(script)}); {summary}"
        )


class Witnesses:
    """A few recording clients beside the load of a script, as a context manager.

    Args:
        script: Parsed, with `--report`.
        cluster: Started.
        clients: How many.
    """

    def __init__(self, script: Script, cluster: Cluster, *, clients: int = 5) -> None:
        self._script = script
        self._cluster = cluster
        self._blows: list[course.Blow] = []
        self._load = Load(
            cluster.addresses, clients=clients, dice=random.Random(script.random.getrandbits(64)),
            think_s=0.01,
        )  # fmt: skip

    def __enter__(self) -> Witnesses:
        self._load.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._load.__exit__(kind, error, trace)
        finally:
            write_course(self._script, self._load, self._blows, "not judged")

    @contextlib.contextmanager
    def watching(self, name: str) -> Iterator[None]:
        """Show in the course what the script does meanwhile; fail with what a client met."""
        began_us = now_us()
        try:
            yield
        finally:
            self._blows.append(course.Blow(name, began_us, now_us()))
        self._load.check()

    def judge(self) -> str:
        """Read everything once more, write the report, judge.

        Raises:
            AssertionError: The history is not linearizable, or was not decided.
        """
        read_everything(self._cluster, self._load)
        result, verdict = judge(self._script, self._load)
        write_course(self._script, self._load, self._blows, verdict)
        require_ok(self._script, result, verdict)
        return verdict

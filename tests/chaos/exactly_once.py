#!/usr/bin/env python3
"""INCR from many threads of one client while leaders are killed: each counts once.

    python tests/chaos/exactly_once.py --duration 60 --calls 20000 --kills 15 --seed 1

Threads share one client of the library and increment one counter. The process of the
leader is killed again and again, with calls in flight, and started again. Each call has
30 seconds. A call that raises an indefinite error is asked about in the end. Then the
counter must be the number of calls that returned, and of those that raised and were
applied; the numbers that came back must be 1, 2, 3, ... without a gap and none twice.

Exit code 0: all promises held. 1: one was broken; data and logs are kept.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from raftkv import Client, DefiniteError, IndefiniteError, RequestError
from tests.chaos.script import Script
from tests.integration.cluster import Cluster

DEADLINE_S = 30.0
KEY = "counter"
# A thousandth of the calls may raise.
RAISED_SHARE_MAX = 0.001
# A kill comes only when calls return again, so that each one finds some in flight.
FLOWING_CALLS = 100
# What was raised is asked about for this long.
ASKED_S_MAX = 60.0


class Incrementers:
    """Threads that increment, and what became of their calls.

    Attributes:
        returned: What the calls returned.
        definite: Calls that raised a definite error.
        indefinite: Errors of the others.
    """

    def __init__(self, client: Client[bytes], threads: int) -> None:
        self.returned: list[int] = []
        self.definite: list[DefiniteError] = []
        self.indefinite: list[IndefiniteError] = []
        self.slowest_s = 0.0
        self._client = client
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"incrementer-{number}")
            for number in range(threads)
        ]

    @property
    def calls(self) -> int:
        return len(self.returned) + len(self.definite) + len(self.indefinite)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads, after their last calls."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE_S)
            assert not thread.is_alive()
        self.check_alive()

    def check_alive(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                began_s = time.monotonic()
                try:
                    self.returned.append(self._client.incr(KEY))
                except DefiniteError as error:
                    self.definite.append(error)
                except IndefiniteError as error:
                    self.indefinite.append(error)
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
        except BaseException as error:
            self._failure = error


def kill_leader(script: Script, cluster: Cluster, work: Incrementers) -> None:
    """Let calls return, kill the leader at a random moment, bring it back."""
    goal = work.calls + FLOWING_CALLS

    def flowing() -> bool:
        work.check_alive()
        return work.calls >= goal

    cluster.wait_until(flowing, "calls return")
    time.sleep(script.random.uniform(0.0, 1.0))
    victim = cluster.wait_for_leader()
    victim.kill()
    cluster.wait_for_leader(other_than=victim)
    time.sleep(script.random.uniform(0.0, 0.5))
    victim.spawn()
    victim.wait_until_serving()


def ask(client: Client[bytes], error: IndefiniteError) -> int | None:
    """Return what a call that raised was answered, None if it was not executed."""
    end_s = time.monotonic() + ASKED_S_MAX
    while True:
        try:
            outcome = client.outcome(error)
        except RequestError as unanswered:
            assert "expired" not in str(unanswered), f"nobody knows any more: {error!r}"
            assert time.monotonic() < end_s, f"no outcome of {error!r}: {unanswered!r}"
            continue
        return int(outcome.result) if outcome.applied else None


def check(work: Incrementers, applied: list[int], counter: int) -> None:
    """Compare what callers were told with what is there."""
    seen = work.returned + applied
    twice = [number for number, count in Counter(seen).items() if count > 1]
    assert not twice, f"two calls got the same number: {twice[:5]}"
    assert counter == len(seen), f"the counter is {counter}, {len(seen)} calls count"
    assert sorted(seen) == list(range(1, counter + 1)), "the numbers have gaps"
    raised = len(work.definite) + len(work.indefinite)
    assert raised <= work.calls * RAISED_SHARE_MAX, f"{raised} of {work.calls} calls raised"


def run(script: Script) -> str:
    """Increment, kill, count; return the summary."""
    arguments = script.arguments
    settings = ("limits.snapshot_log_bytes=1048576", "limits.snapshot_keep_log_bytes=0")
    with script.cluster(*settings) as cluster:
        cluster.start()
        cluster.wait_until_settled()
        with Client(cluster.addresses, deadline_s=DEADLINE_S) as client:
            work = Incrementers(client, arguments.threads)
            started_s, kills = time.monotonic(), 0
            work.start()
            try:
                while not script.is_over or kills < arguments.kills or work.calls < arguments.calls:
                    if kills < arguments.kills or not script.is_over:
                        kill_leader(script, cluster, work)
                        kills += 1
                        script.say(f"kill {kills}: {work.calls} calls")
                    work.check_alive()
                    time.sleep(0.05)
            finally:
                work.stop()
            took_s = time.monotonic() - started_s
            answers = [ask(client, error) for error in work.indefinite]
            applied = [answer for answer in answers if answer is not None]
            counter = int(client.get(KEY) or 0)
            check(work, applied, counter)
        cluster.heal()
        cluster.wait_until_converged()
        cluster.check_hashes()
        return (
            f"{work.calls} calls of {arguments.threads} threads in {took_s:.0f} s, {kills} leaders "
            f"killed: {len(work.returned)} returned, {len(work.definite)} raised a definite error, "
            f"{len(work.indefinite)} an indefinite one, of which {len(applied)} were applied; the "
            f"counter is {counter}, none counted twice; slowest call {work.slowest_s:.1f} s"
        )


def main(arguments: list[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=60.0)
    script.parser.add_argument(
        "--calls", type=int, default=20_000, metavar="N", help="at least so many calls (20000)"
    )
    script.parser.add_argument(
        "--kills", type=int, default=15, metavar="N", help="at least so many kills (15)"
    )
    script.parser.add_argument(
        "--threads", type=int, default=8, metavar="N", help="threads of the client (8)"
    )
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Lock holders that are suspended beyond their lease, and leaders that are killed.

    python tests/chaos/locks.py --duration 600 --seed 1

Several processes compete for one lock of our client and write to a resource in another
process, which refuses any token lower than the highest it has seen. Meanwhile holders
are stopped (SIGSTOP) for longer than their lease lives and go on where they were, or are
killed; leaders are killed, stopped, and started again.

Judged is what all of them wrote down, on the clock that the processes of a host share:
the periods in which two holders believed to have the lock never overlap; each holder's
token is higher than all before it; the resource accepted no write of an older holder
after one of a newer. With --plant belief the holders are said to believe for the whole
time to live after their last look, and the verdict must be wrong.

Exit code 0: all promises held. 1: one was broken; logs are kept.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.script import Script
from tests.integration.cluster import Cluster, node_environment

HERE = Path(__file__).resolve().parent
LOCK = "lock:chaos"
TTL_S = 1.5


class Period(NamedTuple):
    """A time in which one holder believed to have the lock."""

    from_s: float
    until_s: float
    token: int
    holder: str


class Write(NamedTuple):
    """What the resource was asked."""

    at_s: float
    token: int
    holder: str
    accepted: bool


class Holders:
    """Processes that compete for the lock.

    Attributes:
        strikes: What was done, by name.
    """

    def __init__(self, script: Script, cluster: Cluster, directory: Path, count: int) -> None:
        self._script = script
        self._cluster = cluster
        self._directory = directory
        self._resource = directory / "resource.sock"
        self._logs: list[Path] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self.strikes: Counter[str] = Counter()
        for _ in range(count):
            self._processes.append(self._start())

    def _start(self) -> subprocess.Popen[bytes]:
        log = self._directory / f"holder{len(self._logs)}.jsonl"
        log.touch()
        self._logs.append(log)
        words = [",".join(self._cluster.addresses), LOCK, str(TTL_S), str(self._resource), str(log)]
        program = [sys.executable, str(HERE / "lock_holder.py"), *words]
        return subprocess.Popen(program, env=node_environment())

    def _of_the_lock(self) -> int:
        """Return the number of who holds the lock, as the logs tell; or of anybody."""
        last: list[tuple[float, int]] = []
        for number, process in enumerate(self._processes):
            log = self._logs[number]
            events = list(_events_of(log))
            if process.poll() is None and events and events[-1]["event"] != "leaves":
                last.append((events[-1]["at_s"], number))
        if last and self._script.random.random() < 0.8:
            return max(last)[1]
        return self._script.random.randrange(len(self._processes))

    def suspend(self) -> None:
        """Stop a holder for longer than its lease lives, and let it go on."""
        process = self._processes[self._of_the_lock()]
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(self._script.random.uniform(1.1, 2.5) * TTL_S)
        finally:
            process.send_signal(signal.SIGCONT)
        self.strikes["suspended"] += 1

    def kill(self) -> None:
        """Kill a holder; another one takes its place."""
        number = self._of_the_lock()
        self._processes[number].kill()
        self._processes[number].wait()
        log = self._logs[number]
        self._processes[number] = self._start()
        # The new one's log belongs to its number, the old one is kept at the end.
        self._logs[number], self._logs[-1] = self._logs[-1], log
        self.strikes["holder killed"] += 1

    def kill_leader(self) -> None:
        """Kill the leader and start it again."""
        leader = self._cluster.wait_for_leader()
        leader.kill()
        time.sleep(self._script.random.uniform(0.0, 2 * TTL_S))
        leader.spawn()
        leader.wait_until_serving()
        self.strikes["leader killed"] += 1

    def pause_leader(self) -> None:
        """Stop the leader for a while, long or short."""
        leader = self._cluster.wait_for_leader()
        leader.pause()
        try:
            time.sleep(self._script.random.choice((0.2, 1.0, 2.0)))
        finally:
            leader.resume()
        self.strikes["leader stopped"] += 1

    def stop(self) -> None:
        """Let all of them end."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait(60)

    def close(self) -> None:
        """End what is left."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def periods(self, *, believed_s: float | None = None) -> list[Period]:
        """Return what all of them believed, in order of time.

        Args:
            believed_s: Lie: they believed so long after their last look.
        """
        found = []
        for log in self._logs:
            periods: dict[int, Period] = {}
            for event in _events_of(log):
                token, at_s = event["token"], event["at_s"]
                period = periods.get(token)
                if event["event"] in ("held", "believes"):
                    until_s = event["until_s"] if believed_s is None else at_s + believed_s
                    from_s = at_s if period is None else period.from_s
                    periods[token] = Period(from_s, until_s, token, log.stem)
                elif event["event"] == "leaves" and period is not None and believed_s is None:
                    periods[token] = period._replace(until_s=min(period.until_s, at_s))
            found += periods.values()
        return sorted(found)


def _events_of(log: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # The last line of a process that was killed, or is about to write more.


def judge(periods: Sequence[Period], writes: Sequence[Write]) -> None:
    """Check what was promised.

    Raises:
        AssertionError: It was not kept.
    """
    tokens = Counter(period.token for period in periods)
    assert max(tokens.values(), default=1) == 1, f"two holders have one token: {tokens}"
    for before, after in pairwise(periods):
        overlap_s = before.until_s - after.from_s
        assert overlap_s <= 0, f"two believe to hold for {overlap_s:.3f} s: {before}, {after}"
        assert before.token < after.token, f"a token does not grow: {before}, {after}"
    holders = {period.token: period.holder for period in periods}
    highest = 0
    for write in writes:
        if write.accepted:
            assert write.token >= highest, f"an older holder's write was accepted: {write}"
            owner = holders.get(write.token)
            assert owner == Path(write.holder).stem, f"a token of another holder: {write}, {owner}"
        highest = max(highest, write.token)


def writes_of(log: Path) -> list[Write]:
    """Return what the resource wrote down."""
    writes = []
    for line in log.read_text(encoding="utf-8").splitlines():
        at_s, token, holder, accepted = line.split()
        writes.append(Write(float(at_s), int(token), holder, accepted == "1"))
    return writes


@contextmanager
def fenced_resource(directory: Path) -> Iterator[Path]:
    """Run the resource; gives its log."""
    log = directory / "resource.log"
    program = [sys.executable, str(HERE / "fenced_resource.py")]
    process = subprocess.Popen(
        [*program, str(directory / "resource.sock"), str(log)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield log
    finally:
        process.kill()
        process.communicate()


def run(script: Script) -> str:
    """Let them compete, hurt them, judge; returns the summary."""
    directory = script.directory
    with script.cluster() as cluster, fenced_resource(directory) as resource_log:
        cluster.start()
        cluster.wait_for_leader()
        holders = Holders(script, cluster, directory, script.arguments.holders)
        strikes = (
            *[holders.suspend] * 5, *[holders.kill_leader] * 2, holders.kill, holders.pause_leader
        )  # fmt: skip
        try:
            bag = list(strikes)
            while not script.is_over or len(bag) == len(strikes):
                script.random.shuffle(bag)
                bag.pop()()
                bag = bag or list(strikes)
                time.sleep(script.random.uniform(0.2, 1.5))
            cluster.heal()
            holders.stop()
        finally:
            holders.close()
        planted = script.arguments.plant == "belief"
        periods = holders.periods(believed_s=2 * TTL_S if planted else None)
    writes = writes_of(resource_log)
    judge(periods, writes)
    refused = sum(not write.accepted for write in writes)
    assert len(periods) >= script.elapsed_s / 10, f"only {len(periods)} periods"
    done = ", ".join(f"{count} x {name}" for name, count in sorted(holders.strikes.items()))
    return (
        f"{len(periods)} periods of {script.arguments.holders} holders, none of which overlap; "
        f"{len(writes)} writes, of which {refused} of older holders were refused; {done}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=60.0)
    script.parser.add_argument(
        "--holders", type=int, default=4, metavar="N", help="processes that compete (4)"
    )
    script.parser.add_argument(
        "--plant", choices=("belief",), default=None, help="tell this lie; must be found"
    )
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

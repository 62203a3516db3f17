"""A client that asks at fixed times, and remembers how long each answer took from then on.

    python -m tests.bench.latency_probe HOST:PORT [--rate 250]

SET and GET of one key by turns, over connections which take turns too, until its standard
input ends. It prints a line when it begins, and at the end JSON: `samples`, each [due in
seconds of the monotonic clock, latency in ms], and `errors`. Nothing waits for the answer
before it (an open loop), and a latency counts from the time at which the request was due.
"""

from __future__ import annotations

import argparse
import itertools
import json
import select
import subprocess
import sys
import time
from collections import deque
from types import TracebackType
from typing import Any

from tests.integration.cluster import ROOT
from tests.integration.wire import ReplyError, Wire, encode

RATE = 250.0
CONNECTIONS = 16
KEY = "latency probe"


class LatencyProbe:
    """The process of such a client, from enter to exit.

    Attributes:
        samples: (due in seconds of the monotonic clock, latency in ms), after the exit.
        errors: Replies that were none, after the exit.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.samples: list[tuple[float, float]] = []
        self.errors: list[str] = []

    def __enter__(self) -> LatencyProbe:
        command = [sys.executable, "-m", "tests.bench.latency_probe", self._address]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            output, _ = self._process.communicate("", timeout=60)
        finally:
            self._process.kill()
        if kind is None:
            said = json.loads(output)
            self.samples = [(due_s, latency_ms) for due_s, latency_ms in said["samples"]]
            self.errors = said["errors"]


class _Asking:
    """One connection, and when each request without an answer was due."""

    def __init__(self, address: str) -> None:
        self.wire = Wire(address)
        # A leader that moves meanwhile shall not end the run.
        self.wire.call("RAFT", "ROUTING", "proxy")
        self.due: deque[float] = deque()


def ask(address: str, rate: float) -> dict[str, Any]:
    """Ask until standard input ends."""
    samples: list[tuple[float, float]] = []
    errors: list[str] = []
    requests = itertools.cycle((encode("SET", KEY, "1"), encode("GET", KEY)))
    connections = [_Asking(address) for _ in range(CONNECTIONS)]
    print("asks", flush=True)
    due_s = time.monotonic() + 1 / rate
    number = 0
    while True:
        waiting = {one.wire.socket: one for one in connections if one.due}
        pause_s = max(0.0, due_s - time.monotonic())
        readable, _, _ = select.select([sys.stdin, *waiting], [], [], pause_s)
        if sys.stdin in readable:
            break
        for found in readable:
            _take_answer(connections, waiting[found], samples, errors)
        if time.monotonic() >= due_s:
            one = connections[number % CONNECTIONS]
            one.wire.send(next(requests))
            one.due.append(due_s)
            number += 1
            due_s += 1 / rate
    now_s = time.monotonic()
    # Who still waits has waited for so long.
    samples += [(due, (now_s - due) * 1000) for one in connections for due in one.due]
    return {"samples": sorted(samples), "errors": errors}


def _take_answer(
    connections: list[_Asking], one: _Asking,
    samples: list[tuple[float, float]], errors: list[str],
) -> None:  # fmt: skip
    try:
        reply = one.wire.read()
    except OSError as error:
        reply = ReplyError(str(error))
    now_s = time.monotonic()
    due_s = one.due.popleft()
    samples.append((due_s, (now_s - due_s) * 1000))
    if isinstance(reply, ReplyError):
        # Behind some errors the node closes: what was asked is lost, and was waited for.
        errors.append(str(reply))
        samples += [(due, (now_s - due) * 1000) for due in one.due]
        one.wire.close()
        connections[connections.index(one)] = _Asking(one.wire.address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("--rate", type=float, default=RATE)
    options = parser.parse_args()
    print(json.dumps(ask(options.address, options.rate)))


if __name__ == "__main__":
    main()

"""What is asked of the contenders, and how each is made to answer.

Owns the workloads and the way to a number for each kind of contender: redis-benchmark
for closed loops over RESP (a C program that costs little), `raftkv bench` in a process of
its own for mixes and open loops over RESP, the Go program for etcd, the library itself
for PySyncObj. A measurement ends after a given time, not count, so that fast and slow
contenders have equal turns; redis-benchmark, which counts, is given what the contender did
in its last turn.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bench.contenders import Contender, Etcd, RawSyncObj, RedisWithWait
from tests.integration.cluster import ROOT

KEYS = 100_000
VALUE_BYTES = 100
TIMEOUT_S = 300
ATTEMPTS_MAX = 3
# As redis-benchmark names its keys; twelve digits follow.
KEY_PREFIX = "key:"
# Of the first turn, from which the count of the next one is taken.
PROBE_S = 0.5
PROBE_REQUESTS = 2_000


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One line of a table.

    Attributes:
        kind: `set`, `get` or `mixed` (nine reads to a write).
        rate: Requests a second of an open loop; None for a closed loop.
    """

    name: str
    kind: str = "set"
    clients: int = 50
    pipeline: int = 1
    value_bytes: int = VALUE_BYTES
    keys: int = KEYS
    rate: float | None = None


@dataclass
class Measurement:
    """One turn of one contender: requests a second, milliseconds.

    Attributes:
        succeeded: Requests with a result, where the program counts them.
        details: Everything else that the load program told; the timeline among it.
    """

    contender: str
    workload: str
    round: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    p99_9_ms: float | None = None
    failed: int = 0
    succeeded: int = 0
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class CannotAskError(Exception):
    """This contender has no such workload."""


def run_program(command: list[str]) -> str:
    """Run a load program to its end and return what it printed.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout


class Loader:
    """Loads contenders, and remembers how fast they were.

    Args:
        seconds: Length of one turn.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._rates: dict[tuple[str, str], float] = {}

    def measure(self, contender: Contender, workload: Workload, number: int) -> Measurement:
        """Load one contender for one turn.

        A leader may move in the middle when the machine is busy with something else;
        redis-benchmark ends at the first error, so such a turn is made again.

        Raises:
            CannotAskError: It has no such workload.
            RuntimeError: No attempt came to its end.
        """
        last: Exception | None = None
        for _ in range(ATTEMPTS_MAX):
            try:
                return self._measure(contender, workload, number)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                last = error
                reason = str(error).strip().splitlines()[-1][:200]
                print(f"{contender.name}, {workload.name}, again: {reason}", file=sys.stderr)
        raise RuntimeError(f"{contender.name}, {workload.name}: {last}")

    def _measure(self, contender: Contender, workload: Workload, number: int) -> Measurement:
        if isinstance(contender, Etcd):
            return self._of_etcd(contender, workload, number)
        if isinstance(contender, RawSyncObj):
            return self._of_library(contender, workload, number)
        if isinstance(contender, RedisWithWait) and workload.kind == "set":
            return self._of_waiting(contender, workload, number)
        if workload.rate is not None or workload.kind == "mixed":
            return self.of_bench(contender, workload, number)
        return self._of_redis_benchmark(contender, workload, number)

    # --------------------------------------------------------------------- RESP

    def _of_redis_benchmark(
        self, contender: Contender, workload: Workload, number: int
    ) -> Measurement:
        known = self._rates.get((contender.name, workload.name))
        if known is None:
            probe = redis_benchmark(contender, workload, PROBE_REQUESTS * workload.pipeline)
            known = probe["rate"]
            if self.seconds > PROBE_S:
                count = max(PROBE_REQUESTS, int(known * PROBE_S))
                known = redis_benchmark(contender, workload, count)["rate"]
        said = redis_benchmark(
            contender,
            workload,
            max(workload.clients * workload.pipeline, int(known * self.seconds)),
        )
        self._rates[contender.name, workload.name] = said["rate"]
        return Measurement(contender.name, workload.name, number, **said)

    def of_bench(
        self, contender: Contender, workload: Workload, number: int, *more: str
    ) -> Measurement:
        """Load by `raftkv bench`, which keeps a timeline and knows open loops.

        Args:
            more: Further options for it.
        """
        options = [*(["--rate", str(workload.rate)] if workload.rate else []), *more]
        return self._from_bench(
            contender, workload, number,
            "raftkv", "bench", workload.kind, "--json", "--nodes", contender.address, *options,
        )  # fmt: skip

    def _of_waiting(self, contender: Contender, workload: Workload, number: int) -> Measurement:
        if workload.rate is not None:
            raise CannotAskError("WAIT blocks its connection; an open loop would measure that")
        return self._from_bench(
            contender, workload, number, "tests.bench.wait_load", "--address", contender.address
        )

    def _from_bench(
        self, contender: Contender, workload: Workload, number: int, *command: str
    ) -> Measurement:
        said = json.loads(run_program([
            sys.executable, "-m", *command,
            "--clients", str(workload.clients), "--pipeline", str(workload.pipeline),
            "--keys", str(workload.keys), "--value-size", str(workload.value_bytes),
            "--duration", str(self.seconds), "--seed", str(number + 1), "--prefix", KEY_PREFIX,
        ]))  # fmt: skip
        latency = said["latency_ms"]
        return Measurement(
            contender.name, workload.name, number, rate=said["rate"],
            p50_ms=latency["p50"], p95_ms=latency["p95"], p99_ms=latency["p99"],
            p99_9_ms=latency["p99_9"], max_ms=latency["max"], failed=said["failed"],
            succeeded=said["succeeded"],
            details={
                name: said[name] for name in ("timeline", "stalls", "errors", "generator")
            },
        )  # fmt: skip

    # ------------------------------------------------------------------- others

    def _of_etcd(self, contender: Etcd, workload: Workload, number: int) -> Measurement:
        if workload.pipeline != 1 or workload.kind == "mixed":
            raise CannotAskError("etcd's client has no pipelines, and this load no mix")
        operation = "put" if workload.kind == "set" else "range"
        return _from_said(contender, workload, number, etcd_load(
            contender, operation, "-clients", str(workload.clients),
            "-seconds", str(self.seconds), "-keys", str(workload.keys),
            "-value-bytes", str(workload.value_bytes), "-rate", str(workload.rate or 0),
        ))  # fmt: skip

    def _of_library(self, contender: RawSyncObj, workload: Workload, number: int) -> Measurement:
        if workload.kind != "set" or workload.pipeline != 1 or workload.rate is not None:
            raise CannotAskError("a ReplDict reads locally and has no connections")
        said = json.loads(run_program([
            sys.executable, "-m", "tests.bench.syncobj_load",
            "--base-port", str(contender.base_port), "--seconds", str(self.seconds),
            "--in-flight", str(workload.clients), "--keys", str(workload.keys),
            "--value-bytes", str(workload.value_bytes), *(["--tuned"] if contender.tuned else []),
        ]))  # fmt: skip
        return _from_said(contender, workload, number, said)


def _from_said(
    contender: Contender, workload: Workload, number: int, said: dict[str, Any]
) -> Measurement:
    latency = said["latency_ms"]
    return Measurement(
        contender.name, workload.name, number, rate=said["rate"],
        p50_ms=latency["p50"], p95_ms=latency["p95"], p99_ms=latency["p99"],
        p99_9_ms=latency["p99_9"], max_ms=latency["max"], failed=said["failed"],
            succeeded=said["succeeded"],
        details={"timeline": said["timeline"]} if "timeline" in said else {},
    )  # fmt: skip


def redis_benchmark(contender: Contender, workload: Workload, requests: int) -> dict[str, float]:
    """Run redis-benchmark once; returns rate and latencies.

    Raises:
        RuntimeError: It did not come to its end.
    """
    host, _, port = contender.address.rpartition(":")
    output = run_program([
        "redis-benchmark", "-h", host, "-p", port, "-t", workload.kind, "-n", str(requests),
        "-c", str(workload.clients), "-P", str(workload.pipeline), "-r", str(workload.keys),
        "-d", str(workload.value_bytes), "--csv",
    ])  # fmt: skip
    # "test","rps","avg","min","p50","p95","p99","max"
    wanted = f'"{workload.kind}"'.upper()
    line = next((one for one in output.splitlines() if one.upper().startswith(wanted)), None)
    if line is None:
        raise RuntimeError(f"redis-benchmark: {output[-500:]}")
    words = [float(word.strip('"')) for word in line.split(",")[1:]]
    return {
        "rate": words[0], "p50_ms": words[3], "p95_ms": words[4], "p99_ms": words[5],
        "max_ms": words[6],
    }  # fmt: skip


def etcd_load(contender: Etcd, operation: str, *options: str) -> dict[str, Any]:
    """Run the load program for etcd once."""
    said: dict[str, Any] = json.loads(run_program(
        [str(contender.load_program), "-endpoints", contender.address, "-op", operation, *options]
    ))  # fmt: skip
    return said


def fill(contender: Contender, keys: int = KEYS, value_bytes: int = VALUE_BYTES) -> None:
    """Write every key once, so that reads find them and stores have their size."""
    if isinstance(contender, Etcd):
        etcd_load(contender, "fill", "-keys", str(keys), "-value-bytes", str(value_bytes))
    elif contender.speaks == "resp":
        run_program([
            sys.executable, "-m", "raftkv", "bench", "set", "--json", "--in-order",
            "--nodes", contender.address, "--clients", "16", "--pipeline", "32",
            "--keys", str(keys), "--requests", str(keys), "--value-size", str(value_bytes),
            "--prefix", KEY_PREFIX,
        ])  # fmt: skip

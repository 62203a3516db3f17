"""Throughput and latency beside one unreplicated Redis that syncs every write.

Starts three raftkv nodes and one `redis-server --appendonly yes --appendfsync
always` on loopback, and lets redis-benchmark load the raftkv leader and Redis
in turn, several rounds of each workload. Machines are noisy, so what counts is
the ratio within a round; the median of the rounds is printed with its spread.

    python -m tests.bench.against_redis [--rounds 5] [--json FILE]

About half a minute a round. Everything shares the machine: three nodes, Redis
and the load generator.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.integration.cluster import Cluster

KEYS = 100_000
VALUE_BYTES = 100
ATTEMPTS_MAX = 3
FILL_REQUESTS = 2 * KEYS


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes:
        command: `set` or `get`.
        clients: Connections.
        pipeline: Commands in flight on each.
        requests: Of one measurement.
        goal: Share of Redis' throughput that is aimed at, or None.
    """

    name: str
    command: str
    clients: int
    pipeline: int
    requests: int
    goal: float | None


WORKLOADS = (
    Workload("SET, 50 clients", "set", 50, 1, 60_000, 0.5),
    Workload("SET, 50 clients, pipeline 16", "set", 50, 16, 300_000, 0.45),
    Workload("GET, 50 clients", "get", 50, 1, 100_000, 0.6),
    Workload("GET, 50 clients, pipeline 16", "get", 50, 16, 500_000, 0.65),
    Workload("SET, 1 client", "set", 1, 1, 3_000, None),
)


@dataclass(frozen=True)
class Measurement:
    """What redis-benchmark reports: operations a second, milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def measure(port: int, workload: Workload) -> Measurement:
    """Run redis-benchmark once against one server.

    Raises:
        RuntimeError: It did not run to its end.
    """
    command = [
        "redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", workload.command,
        "-n", str(workload.requests), "-c", str(workload.clients), "-P", str(workload.pipeline),
        "-r", str(KEYS), "-d", str(VALUE_BYTES), "--csv",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    lines = [line for line in done.stdout.splitlines() if line.upper().startswith('"SET"')]
    lines += [line for line in done.stdout.splitlines() if line.upper().startswith('"GET"')]
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"redis-benchmark failed: {done.stdout}{done.stderr}")
    # "test","rps","avg","min","p50","p95","p99","max"
    fields = [float(field.strip('"')) for field in lines[0].split(",")[1:]]
    return Measurement(rate=fields[0], p50_ms=fields[3], p99_ms=fields[5])


def measure_leader(cluster: Cluster, workload: Workload) -> Measurement:
    """Measure the leader; once more where leadership moved in the middle.

    redis-benchmark ends at the first error, and a machine that is busy with
    something else may pause a leader for an election timeout.
    """
    for attempt in range(ATTEMPTS_MAX):
        port = int(cluster.wait_for_leader().client.rpartition(":")[2])
        try:
            return measure(port, workload)
        except RuntimeError as error:
            print(f"{workload.name}: attempt {attempt + 1}: {error}", file=sys.stderr)
    raise RuntimeError(f"{workload.name} did not run to its end in {ATTEMPTS_MAX} attempts")


def start_redis(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start the Redis to compare with; returns its process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory),
        "--save", "", "--appendonly", "yes", "--appendfsync", "always",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return process, port
        except OSError:
            time.sleep(0.05)
    process.terminate()
    raise RuntimeError("redis-server does not listen")


def run(rounds: int) -> list[dict[str, object]]:
    """Measure every workload in interleaved rounds; one row each."""
    pairs: dict[Workload, list[tuple[Measurement, Measurement]]] = {w: [] for w in WORKLOADS}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "redis").mkdir()
        redis, redis_port = start_redis(directory / "redis")
        try:
            with Cluster(directory / "raftkv") as cluster:
                cluster.start()
                # Keys for the GET workloads to find.
                filling = Workload("fill", "set", 50, 16, FILL_REQUESTS, None)
                measure_leader(cluster, filling)
                measure(redis_port, filling)
                for number in range(rounds):
                    for workload in WORKLOADS:
                        pairs[workload].append(
                            (measure_leader(cluster, workload), measure(redis_port, workload))
                        )
                    print(f"round {number + 1} of {rounds}", file=sys.stderr)
        finally:
            redis.terminate()
            redis.wait(10)
    return [_row(workload, pairs[workload]) for workload in WORKLOADS]


def _row(workload: Workload, pairs: list[tuple[Measurement, Measurement]]) -> dict[str, object]:
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    return {
        "workload": workload.name,
        "raftkv_rate": statistics.median(ours.rate for ours, _ in pairs),
        "raftkv_p50_ms": statistics.median(ours.p50_ms for ours, _ in pairs),
        "raftkv_p99_ms": statistics.median(ours.p99_ms for ours, _ in pairs),
        "redis_rate": statistics.median(theirs.rate for _, theirs in pairs),
        "redis_p50_ms": statistics.median(theirs.p50_ms for _, theirs in pairs),
        "redis_p99_ms": statistics.median(theirs.p99_ms for _, theirs in pairs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "goal": workload.goal,
    }


def print_table(rows: list[dict[str, object]]) -> None:
    """Print the rows as a Markdown table."""
    print(f"{os.cpu_count()} cores shared by all; 3 nodes, sync = always; values of 100 B\n")
    print("| workload | raftkv/s (p50, p99 ms) | Redis/s (p50, p99 ms) | ratio (spread) | goal |")
    print("|---|---|---|---|---|")
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:.2f}"
        print(
            f"| {row['workload']} "
            f"| {row['raftkv_rate']:,.0f} ({row['raftkv_p50_ms']:.2f}, {row['raftkv_p99_ms']:.2f}) "
            f"| {row['redis_rate']:,.0f} ({row['redis_p50_ms']:.2f}, {row['redis_p99_ms']:.2f}) "
            f"| {row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f}) | {goal} |"
        )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    rows = run(options.rounds)
    print_table(rows)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

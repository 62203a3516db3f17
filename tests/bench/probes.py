"""What the machine itself takes: a synced write, and a round trip on loopback.

    python -m tests.bench.probes [--seconds 2] [--directory DIR]

Three processes write and fdatasync at the same time, since three nodes share the disk
of the machine under measurement as well. Each overwrites a file whose space was taken
before, as a write-ahead log with preallocated segments does, so that this is the least
a synced write can take here. A round trip is a message of 200 B and its answer between
two processes with blocking sockets.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from raftkv.cli.bench_samples import Histogram, Samples, merge, percentile_ms
from tests.integration.cluster import ROOT

WRITERS = 3
WRITE_BYTES = 200
FILE_BYTES = 16 * 1024 * 1024
ROUND_TRIP_BYTES = 200


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Milliseconds."""

    fdatasync_p50_ms: float
    fdatasync_p99_ms: float
    round_trip_p50_ms: float
    round_trip_p99_ms: float


def measure_syncs(path: Path, seconds: float) -> Histogram:
    """Write and sync one small record after the other."""
    record = os.urandom(WRITE_BYTES)
    samples = Samples(0.0)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(file, bytes(FILE_BYTES))
        os.fsync(file)
        position = 0
        end_s = time.perf_counter() + seconds
        while (begin_s := time.perf_counter()) < end_s:
            os.pwrite(file, record, position)
            os.fdatasync(file)
            samples.add(begin_s, time.perf_counter(), 1)
            position = (position + WRITE_BYTES) % (FILE_BYTES - WRITE_BYTES)
    finally:
        os.close(file)
        path.unlink()
    return samples.histogram


def measure_round_trips(seconds: float) -> Histogram:
    """Exchange one message after the other with another process."""
    message = bytes(ROUND_TRIP_BYTES)
    samples = Samples(0.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        answering = subprocess.Popen(_probe_command("--answer", str(port)), cwd=ROOT)
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end_s = time.perf_counter() + seconds
            while (begin_s := time.perf_counter()) < end_s:
                connection.sendall(message)
                connection.recv(ROUND_TRIP_BYTES, socket.MSG_WAITALL)
                samples.add(begin_s, time.perf_counter(), 1)
        answering.wait(10)
    return samples.histogram


def answer(port: int) -> None:
    """Send back what comes, until the other side closes."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while message := connection.recv(ROUND_TRIP_BYTES, socket.MSG_WAITALL):
            connection.sendall(message)


def _probe_command(*options: str) -> list[str]:
    return [sys.executable, "-m", "tests.bench.probes", *options]


def probe(directory: Path, seconds: float) -> Probe:
    """Measure both, one after the other, with the files on the disk of `directory`."""
    writers = [
        subprocess.Popen(
            _probe_command("--write", str(directory / f"probe{number}"), "--seconds", str(seconds)),
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for number in range(WRITERS)
    ]  # fmt: skip
    found: list[Histogram] = []
    for writer in writers:
        output, _ = writer.communicate(timeout=seconds + 60)
        found.append({int(bucket): count for bucket, count in json.loads(output).items()})
    syncs = merge(found)
    trips = measure_round_trips(seconds / 2)
    return Probe(
        fdatasync_p50_ms=percentile_ms(syncs, 50),
        fdatasync_p99_ms=percentile_ms(syncs, 99),
        round_trip_p50_ms=percentile_ms(trips, 50),
        round_trip_p99_ms=percentile_ms(trips, 99),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer is not None:
        answer(options.answer)
    elif options.write is not None:
        print(json.dumps(measure_syncs(options.write, options.seconds)))
    else:
        with tempfile.TemporaryDirectory(dir=options.directory) as name:
            print(probe(Path(name), options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())

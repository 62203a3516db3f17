"""Loads a replicated Redis with SETs and a WAIT 1 behind each batch of them.

    python -m tests.bench.wait_load --address 127.0.0.1:6379 [--clients 50] [--pipeline 1] ...

So a write counts once a replica has received it (not synced it). The pipeline is the
number of SETs before each WAIT. Prints one line of JSON, as `raftkv bench --json` does,
in which the rate is that of the SETs.
"""

from __future__ import annotations

import argparse
import json
import sys

from raftkv.cli.bench import report
from raftkv.cli.bench_load import Load, Requests, run_load

_WAIT = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", required=True)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-size", type=int, default=100)
    parser.add_argument("--duration", type=float, default=3.0)
    parser.add_argument("--prefix", default="bench:")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    load = Load(
        clients=options.clients, pipeline=options.pipeline + 1, keys=options.keys,
        value_bytes=options.value_size, duration_s=options.duration, seed=options.seed,
        prefix=options.prefix.encode(),
    )  # fmt: skip
    requests = Requests(load)

    def make(count: int) -> bytes:
        return requests.make(count - 1) + _WAIT

    result = run_load(load, [options.address], make)
    said = report("set", load, result)
    share = options.pipeline / (options.pipeline + 1)
    print(json.dumps(said | {"rate": said["rate"] * share, "pipeline": options.pipeline}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

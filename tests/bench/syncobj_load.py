"""Raw PySyncObj under load: three processes with a ReplDict each, as its users run it.

    python -m tests.bench.syncobj_load --base-port 34500 --seconds 3 [--tuned]

Nothing of raftkv is in the way: no fsync, no TCP clients, no mends. The leader sets keys
from its own process with a number of calls in flight, which is the fastest way to use it.
Prints one line of JSON. `--setting name=value` changes one setting of its SyncObjConf.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from typing import Any

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf
from pysyncobj.batteries import ReplDict

from raftkv.cli.bench_samples import Samples

# The best of a search over tick, append period and batching; see docs/performance.md.
TUNED = {
    "appendEntriesPeriod": 0.0001,
    "appendEntriesUseBatch": True,
    "autoTickPeriod": 0.001,
    "logCompactionMinEntries": 1_000_000,
}
# It sometimes finds no leader for minutes; then the caller starts it again.
READY_S = 15.0


def make_node(position: int, options: argparse.Namespace) -> tuple[SyncObj, ReplDict]:
    """Start one of the three nodes in this process."""
    addresses = [f"127.0.0.1:{options.base_port + number}" for number in range(3)]
    own = addresses.pop(position)
    dictionary = ReplDict()
    settings: dict[str, Any] = dict(TUNED) if options.tuned else {}
    for text in options.setting:
        name, _, value = text.partition("=")
        settings[name] = json.loads(value)
    node = SyncObj(own, addresses, consumers=[dictionary], conf=SyncObjConf(**settings))
    return node, dictionary


class Load:
    """Calls in flight on the leader; the next one is made when one has its answer."""

    def __init__(self, dictionary: ReplDict, options: argparse.Namespace) -> None:
        self._dictionary = dictionary
        self._keys = options.keys
        self._value = b"x" * options.value_bytes
        self._random = random.Random(1)
        self._in_flight = options.in_flight
        self._end_s = 0.0
        self._open = threading.Semaphore(0)
        self.samples = Samples(0.0)

    def _ask(self) -> None:
        asked_s = time.perf_counter()
        if asked_s >= self._end_s:
            self._open.release()
            return

        def answered(result: Any, error: int) -> None:
            if error == FAIL_REASON.SUCCESS:
                self.samples.add(asked_s, time.perf_counter(), 1)
            else:
                self.samples.add_error(str(error))
            self._ask()

        key = f"bench:{self._random.randrange(self._keys):012d}"
        self._dictionary.set(key, self._value, callback=answered)

    def run(self, seconds: float) -> float:
        begin_s = time.perf_counter()
        self.samples.begin_s = begin_s
        self._end_s = begin_s + seconds
        for _ in range(self._in_flight):
            self._ask()
        for _ in range(self._in_flight):
            self._open.acquire(timeout=seconds + READY_S)
        return time.perf_counter() - begin_s


def wait_for(node: SyncObj, dictionary: ReplDict) -> str:
    """Return the address of the leader, once it serves."""
    end_s = time.monotonic() + READY_S
    while time.monotonic() < end_s:
        status = node.getStatus()
        if node.isReady() and status["leader"] is not None:
            with contextlib.suppress(Exception):
                dictionary.set("ready", 1, sync=True, timeout=5.0)
                return str(node.getStatus()["leader"])
        time.sleep(0.02)
    raise RuntimeError(f"no leader within {READY_S} s: {node.getStatus()}")


def serve(options: argparse.Namespace) -> None:
    """Run one node; load it when told to on standard input."""
    node, dictionary = make_node(options.node, options)
    own = f"127.0.0.1:{options.base_port + options.node}"
    leads = wait_for(node, dictionary) == own
    print(json.dumps({"leads": leads}), flush=True)
    for _ in sys.stdin:
        load = Load(dictionary, options)
        took_s = load.run(options.seconds)
        samples = load.samples
        said = {
            "succeeded": samples.succeeded,
            "failed": sum(samples.errors.values()),
            "seconds": took_s,
            "rate": samples.succeeded / took_s,
            "latency_ms": samples.latency_ms(),
            "timeline": samples.timeline(),
        }
        print(json.dumps(said), flush=True)
    node.destroy()


def drive() -> str:
    """Start the three, let the leader load itself, and end them; returns its JSON."""
    command = [sys.executable, "-m", "tests.bench.syncobj_load", *sys.argv[1:], "--node"]
    nodes = [
        subprocess.Popen(
            [*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for number in range(3)
    ]
    try:
        leader = None
        for node in nodes:
            assert node.stdout is not None
            if json.loads(node.stdout.readline())["leads"]:
                leader = node
        if leader is None or leader.stdin is None or leader.stdout is None:
            raise RuntimeError("no process says that it leads")
        leader.stdin.write("load\n")
        leader.stdin.flush()
        return leader.stdout.readline()
    finally:
        for node in nodes:
            node.kill()
            node.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-port", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--in-flight", type=int, default=50)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--value-bytes", type=int, default=100)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--node", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node is not None:
        serve(options)
    else:
        print(drive().strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())

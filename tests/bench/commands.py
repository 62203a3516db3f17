"""What a command costs by stage, without sockets, syncs and consensus.

Fifty connections send sixteen commands each, which become one batch as in a turn of
a leader; a second store applies the batch as a follower does. Each stage is timed in
processor time of the thread; what counts is the fastest fifth of the batches, so
that other work on the machine shows less. Compare only what one machine measured side by side.

    python -m tests.bench.commands [set get mset incr] [--keys 100000] [--batches 100]
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections import defaultdict

from raftkv.kv.codec import encode_batch
from raftkv.kv.store import KvStore
from tests.unit.server.harness import Node, encode

CLIENTS = 50
DEPTH = 16
VALUE_BYTES = 100
KEYS_OF_MSET = 10
FILL_COMMANDS = 1000
GC_THRESHOLD = 50_000
WORKLOADS = ("set", "get", "mset", "incr")


class Stages:
    """Processor time of each stage of each batch."""

    def __init__(self) -> None:
        self._times: dict[str, list[int]] = defaultdict(list)
        self._started = 0

    def begin(self) -> None:
        """Start to measure a stage."""
        self._started = time.thread_time_ns()

    def end(self, stage: str) -> None:
        """Note what has passed since `begin`."""
        self._times[stage].append(time.thread_time_ns() - self._started)

    def microseconds(self, commands: int) -> dict[str, float]:
        """Return the time of each stage a command; four fifths of the batches took longer."""
        return {
            stage: sorted(times)[len(times) // 5] / commands / 1000
            for stage, times in self._times.items()
        }


def key_of(number: int) -> bytes:
    return b"key:%012d" % number


def request(workload: str, keys: int, chance: random.Random) -> bytes:
    """Return one request with random keys and values."""
    key = key_of(chance.randrange(keys))
    if workload == "get":
        return encode("GET", key)
    if workload == "incr":
        return encode("INCR", b"counter:" + key)
    if workload == "set":
        return encode("SET", key, chance.randbytes(VALUE_BYTES))
    words: list[bytes] = []
    for _ in range(KEYS_OF_MSET):
        words += (key_of(chance.randrange(keys)), chance.randbytes(VALUE_BYTES))
    return encode("MSET", *words)


def fill(stores: list[KvStore], keys: int, chance: random.Random) -> None:
    """Write every key once."""
    for first in range(0, keys, FILL_COMMANDS):
        numbers = range(first, min(first + FILL_COMMANDS, keys))
        commands = [(1, key_of(number), chance.randbytes(VALUE_BYTES)) for number in numbers]
        payload = encode_batch(1, 1, 1, commands)
        for store in stores:
            store.apply(store.applied_index + 1, payload)


def measure(workload: str, keys: int, batches: int) -> dict[str, float]:
    """Return microseconds a command by stage."""
    chance = random.Random(1)
    node = Node()
    clients = [node.client() for _ in range(CLIENTS)]
    leader, follower, replica = node.shared.store, KvStore(), node.replica
    fill([leader, follower], keys, chance)
    stages = Stages()
    for _ in range(batches):
        chunks = [b"".join(request(workload, keys, chance) for _ in range(DEPTH)) for _ in clients]
        stages.begin()
        for client, chunk in zip(clients, chunks, strict=True):
            client.connection.data_received(chunk)
        stages.end("parse and gather")
        runs = replica.proposed + replica.reading
        replica.proposed, replica.reading = [], []
        replica.asked.clear()
        commands = [command for run, _ in runs for command in run]
        if workload == "get":
            stages.begin()
            results = leader.execute_all(commands)
            stages.end("read")
        else:
            stages.begin()
            payload = encode_batch(1, 1, 1, commands)
            stages.end("encode")
            index = leader.applied_index + 1
            stages.begin()
            results = leader.apply(index, payload, commands)
            stages.end("apply, leader")
            stages.begin()
            follower.apply(index, payload)
            stages.end("apply, follower")
        stages.begin()
        position = 0
        for run, slot in runs:
            slot.resolve(results[position : position + len(run)])
            position += len(run)
        node.service.turn_ended()
        stages.end("reply")
        for client in clients:
            client.transport.written.clear()
    return stages.microseconds(CLIENTS * DEPTH)


def main() -> int:
    """Measure and print."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", choices=WORKLOADS, default=WORKLOADS)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--batches", type=int, default=100)
    options = parser.parse_args()
    # As a node sets it.
    gc.set_threshold(GC_THRESHOLD, 50, 50)
    print("| command | stage | us |\n|---|---|---|")
    for workload in options.workloads:
        for stage, cost in measure(workload, options.keys, options.batches).items():
            print(f"| {workload.upper()} | {stage} | {cost:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

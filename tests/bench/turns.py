"""What the turns of a batch cost in processor time, without sockets, syncs and clients.

Three replicas in one process, each with its real engine, WAL and store, hand their
messages to each other in memory, and a sync job counts as done at once. What remains
is the work for a batch and for its commands, free of the noise of scheduling: good for
telling whether a change of the turn helps, and for a profile of it.

    python -m tests.bench.turns [--commands 25] [--reads] [--rounds 7] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from raftkv.cluster_files import write_cluster
from raftkv.kv.commands import Opcode
from raftkv.replica.recovery import recover
from raftkv.replica.replica import Replica
from raftkv.replica.shell import SystemClock
from raftkv.seams import Failure
from raftkv.settings import load_config
from raftkv.storage.disk import RealDisk
from raftkv.types import NodeId

T = TypeVar("T")

BATCHES = 400
KEYS = 10_000
VALUE = b"v" * 100
DEADLINE_S = 20.0


class InstantWorker:
    """Syncs take no time; anything else is done at once."""

    def __init__(self, *, syncs: bool) -> None:
        self._syncs = syncs

    def submit(self, job: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        done(None if self._syncs else job())  # type: ignore[arg-type]


class Quiet:
    """An observer that hears nothing."""

    def event(self, name: str, /, **fields: object) -> None:
        pass


class Answers:
    """Counts what was answered; the slot of every run."""

    def __init__(self) -> None:
        self.count = 0

    def resolve(self, results: Sequence[object]) -> None:
        self.count += len(results)

    def fail(self, failure: Failure) -> None:
        raise AssertionError(failure)


class Wires:
    """Links of one node: frames go into the other's replica at the next flush."""

    def __init__(self, group: Group, node: NodeId) -> None:
        self._group = group
        self._node = node
        self._queued: list[tuple[NodeId, int, bytes]] = []

    def send(self, node: NodeId, kind: int, body: bytes) -> None:
        self._queued.append((node, kind, body))

    def flush(self) -> None:
        queued, self._queued = self._queued, []
        for node, kind, body in queued:
            self._group.replicas[node].receive(self._node, kind, body)


class Group:
    """Three replicas that take turns, each when it was woken."""

    def __init__(self, directory: Path) -> None:
        self.replicas: dict[NodeId, Replica] = {}
        self._awake: dict[NodeId, None] = {}
        files = write_cluster(directory, nodes=3, base_port=7001)
        clock = SystemClock()
        for number, path in enumerate(files.configs):
            override = f"node.data_dir={directory / str(number)}"
            config = load_config(path, overrides=[override]).config
            node = config.node.id
            source = random.Random(number)
            disk = RealDisk(config.node.data_dir)
            recovered = recover(config, disk, clock=clock, observer=Quiet(), random=source)
            self.replicas[node] = Replica(
                config=config,
                recovered=recovered,
                clock=clock,
                network=Wires(self, node),
                syncer=InstantWorker(syncs=True),
                background=InstantWorker(syncs=False),
                observer=Quiet(),
                random=source,
                wake=lambda node=node: self._awake.update({node: None}),
                on_stop=lambda stopped: sys.exit(stopped.reason),
                on_configuration=lambda _: None,
            )
        for node, replica in self.replicas.items():
            for peer, other in self.replicas.items():
                if peer != node:
                    replica.peer_up(peer, other.hello())

    def run(self, done: Callable[[], bool]) -> None:
        """Take turns until `done`."""
        deadline_s = time.monotonic() + DEADLINE_S
        while not done():
            awake, self._awake = self._awake, {}
            if not awake:
                if time.monotonic() > deadline_s:
                    raise AssertionError("nothing moves")
                time.sleep(0.001)
                awake = dict.fromkeys(self.replicas)
            for node in awake:
                self.replicas[node].turn()

    def leader(self) -> Replica:
        """Wait for one that serves, and return it."""
        self.run(lambda: any(replica.is_leader for replica in self.replicas.values()))
        return next(replica for replica in self.replicas.values() if replica.is_leader)


def load(group: Group, leader: Replica, commands: int, *, reads: bool) -> float:
    """Carry out many batches, one after the other; return microseconds a batch."""
    answers = Answers()
    keys = [b"key:%012d" % random.randrange(KEYS) for _ in range(BATCHES * commands)]
    begin_s = time.process_time()
    for batch in range(BATCHES):
        for key in keys[batch * commands : (batch + 1) * commands]:
            if reads:
                leader.read([(Opcode.GET, key)], answers)
            else:
                leader.propose([(Opcode.SET, key, VALUE)], answers)
        wanted = (batch + 1) * commands
        group.run(lambda wanted=wanted: answers.count >= wanted)
    return (time.process_time() - begin_s) / BATCHES * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commands", type=int, default=25, help="of a batch")
    parser.add_argument("--reads", action="store_true", help="GET rather than SET")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="functions by their own time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        group = Group(Path(name))
        leader = group.leader()
        load(group, leader, options.commands, reads=False)
        if options.profile:
            with cProfile.Profile() as profile:
                load(group, leader, options.commands, reads=options.reads)
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            return 0
        found = [
            load(group, leader, options.commands, reads=options.reads)
            for _ in range(options.rounds)
        ]
    command = "GET" if options.reads else "SET"
    print(
        f"{options.commands} {command} a batch: {min(found):.0f} us a batch on three nodes, "
        f"median {statistics.median(found):.0f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Watches from revision 1 on, while leaders are killed and a node is fed by a snapshot.

    python tests/chaos/watch_marathon.py --events 100000 --kills 5 --seed 1

Clients write all the time. One watch sees everything from the beginning on, whichever node
it finds itself at: every revision must come, once and in order. Between the kills one
follower is down until it needs a snapshot; as soon as it has installed it, a watch from
revision 1 and one from the middle go on at that very node, and must be told the same. In
the end the history is cut, and who asks below the oldest revision must be told which it is.

Exit code 0: all promises held. 1: one was broken; data and logs are kept.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from raftkv import Change, Client, CompactedError, RequestError
from tests.chaos.script import Script
from tests.integration.cluster import SMALL_SEGMENTS, Cluster, ClusterNode

HISTORY = ("limits.history_revisions=200000", "limits.history_bytes_max=268435456")
PIPELINE = 50
WRITERS = 2
WAIT_S = 600.0


class Writers:
    """Clients that set keys, one revision each, until they are stopped."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,), daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive(), "a writer hangs"

    def _write(self, number: int) -> None:
        count = 0
        with Client(self._addresses, deadline_s=WAIT_S) as client:
            while not self._ended.is_set():
                pipeline = client.pipeline()
                for _ in range(PIPELINE):
                    count += 1
                    pipeline.set(f"writer:{number}:{count % 1000}", f"{number}:{count}")
                # What a killed leader did with some of them shows in the revisions.
                pipeline.execute(raise_first=False)


class Spectator:
    """One watch in a thread of its own, and all that it saw.

    Attributes:
        seen: Of each revision, key and value of its events.
        last: Revision of the newest change.
        defect: Why it ended early.
    """

    def __init__(self, client: Client[bytes], first: int) -> None:
        self.first = first
        self.seen: list[list[tuple[bytes, bytes | None]]] = []
        self.last = first - 1
        self.defect = ""
        self._watch = client.watch(prefix="", from_revision=first)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            for change in self._watch:
                self._note(change)
        except (AssertionError, RequestError) as error:
            self.defect = str(error)

    def _note(self, change: Change[bytes]) -> None:
        assert change.revision == self.last + 1, f"{change.revision} came behind {self.last}"
        self.seen.append([(event.key, event.value) for event in change.events])
        self.last = change.revision

    def stop(self) -> None:
        self._watch.close()
        self._thread.join(WAIT_S)


class Marathon:
    """One run on one cluster.

    Attributes:
        kills: Leaders killed.
        spectators: By where they watch.
    """

    def __init__(self, script: Script, cluster: Cluster) -> None:
        self.kills = 0
        self.spectators: dict[str, Spectator] = {}
        self._script = script
        self._cluster = cluster
        self._client = Client(cluster.addresses, deadline_s=WAIT_S)

    def watch(self, name: str, first: int, node: ClusterNode | None = None) -> None:
        client = self._client if node is None else self._client.node(node.client)
        self.spectators[name] = Spectator(client, first)

    def wait_for(self, name: str, revision: int) -> None:
        """Wait until a watch has come so far."""

        def come() -> bool:
            spectator = self.spectators[name]
            assert not spectator.defect, f"{name}: {spectator.defect}"
            return spectator.last >= revision

        self._cluster.wait_until(come, f"{name} sees revision {revision}", WAIT_S)

    def kill_leader(self) -> None:
        leader = self._cluster.wait_for_leader()
        leader.kill()
        self.kills += 1
        self._cluster.wait_for_leader(other_than=leader)
        leader.start()

    def feed_by_snapshot(self) -> ClusterNode:
        """Keep a follower down until the others have dropped the log that it needs."""
        fed = self._cluster.followers()[0]
        status = self._cluster.wait_until(fed.status, f"{fed.id} answers")
        fed.kill()

        def dropped() -> bool:
            statuses = [node.status() for node in self._cluster.running]
            return all(one is not None and one["first_index"] > index for one in statuses)

        index = status["last_index"]
        self._cluster.wait_until(dropped, f"the log behind index {index} is dropped", WAIT_S)
        before = fed.log_text().count("snapshot_installed")
        fed.start()

        def installed() -> bool:
            return fed.log_text().count("snapshot_installed") > before

        self._cluster.wait_until(installed, f"{fed.id} installs a snapshot", WAIT_S)
        return fed

    def check_equal(self) -> None:
        """Every watch must have been told what the first one was."""
        everything = self.spectators["anywhere"]
        for name, spectator in self.spectators.items():
            assert not spectator.defect, f"{name}: {spectator.defect}"
            part = everything.seen[spectator.first - 1 :]
            assert spectator.seen == part, f"{name} was told something else"

    def check_compacted(self) -> int:
        """Cut the history, and ask below its end on every node."""
        self._client.flushall()
        self._client.set("behind", "the cut")
        (oldest,) = self._client.execute("KV", "REVISIONS", "behind")
        for node in self._cluster.nodes:
            self._cluster.wait_until_caught_up(node)
            for first in (1, oldest - 1):
                try:
                    self._client.node(node.client).watch(prefix="", from_revision=first)
                except CompactedError as error:
                    assert error.oldest == oldest, f"{node.id} names {error.oldest}"
                else:
                    raise AssertionError(f"{node.id} watches from {first}; {oldest} is the oldest")
        return int(oldest)

    def close(self) -> None:
        """End all watches, and the client."""
        for spectator in self.spectators.values():
            spectator.stop()
        self._client.close()


def run(script: Script) -> str:
    """Run it and return the summary."""
    goal: int = script.arguments.events
    # A snapshot holds the whole history, so that there are to be a few, not hundreds.
    log = (f"limits.snapshot_log_bytes={max(65536, 10 * goal)}", "limits.snapshot_keep_log_bytes=0")
    with script.cluster(*HISTORY, *log, *SMALL_SEGMENTS) as cluster:
        cluster.start()
        with contextlib.closing(Marathon(script, cluster)) as marathon:
            return _race(script, cluster, marathon)


def _race(script: Script, cluster: Cluster, marathon: Marathon) -> str:
    goal: int = script.arguments.events
    kills: int = script.arguments.kills
    writers = Writers(cluster.addresses)
    started_s = time.monotonic()
    marathon.watch("anywhere", 1)
    for number in range(1, kills + 1):
        marathon.wait_for("anywhere", goal * number // (kills + 2))
        marathon.kill_leader()
        script.say(f"kill {number}: revision {marathon.spectators['anywhere'].last}")
    fed = marathon.feed_by_snapshot()
    middle = marathon.spectators["anywhere"].last // 2
    marathon.watch("fed node, from 1", 1, fed)
    marathon.watch("fed node, from the middle", middle, fed)
    script.say(f"{fed.id} is fed by a snapshot, and watched from 1 and {middle}")
    marathon.wait_for("anywhere", goal)
    writers.stop()
    took_s = time.monotonic() - started_s
    cluster.wait_until_converged()
    newest = revision_of(cluster)
    for name in marathon.spectators:
        marathon.wait_for(name, newest)
    for spectator in marathon.spectators.values():
        spectator.stop()
    marathon.check_equal()
    oldest = marathon.check_compacted()
    return (
        f"{newest} revisions in {took_s:.0f} s, {marathon.kills} leaders killed; each seen "
        f"once and in order, from 1 and from {middle} on {fed.id} behind its snapshot, too; "
        f"below {oldest} every node names it"
    )


def revision_of(cluster: Cluster) -> int:
    """Return the newest revision of the cluster."""
    reply = cluster.wait_for_leader().call("KV", "HISTORY")
    return int(dict(zip(reply[::2], reply[1::2], strict=True))[b"newest"])


def main(arguments: list[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=0.0)
    script.parser.add_argument(
        "--events", type=int, default=100_000, metavar="N", help="changes at least (100000)"
    )
    script.parser.add_argument(
        "--kills", type=int, default=5, metavar="N", help="leaders that are killed (5)"
    )
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

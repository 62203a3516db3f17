#!/usr/bin/env python3
"""A follower is down until it needs a snapshot, and is refilled while everything is hurt.

    python tests/chaos/snapshot_catchup.py --duration 60 --seed 1

Nodes take snapshots all the time and keep as little log as they may. In each round one
follower is killed, in some its directory is deleted; the others write until the log that
it needs is gone; then it comes back under load. While it is refilled, it is killed again,
or the leader which sends the snapshot is, at a random moment. At the end of the round it
must have what the others have. In the end every key must hold its last acknowledged write
or a later one whose outcome was unknown, on all nodes, with equal state hashes. What a few
clients recorded of everything that they asked must be linearizable.

Exit code 0: all promises held. 1: one was broken; data and logs are kept.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.judgement import Witnesses, add_report_option
from tests.chaos.script import Script
from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.writers import Load, fill

DISTURBANCES = ("nothing", "follower killed", "leader killed", "directory deleted")
# So that a transfer takes several pieces and is caught in its middle.
SMALL_CHUNKS = ("limits.snapshot_chunk_bytes=16384",)


class CatchUp:
    """One run on one cluster.

    Attributes:
        rounds: By disturbance.
        catch_up_s: From the last start of the follower until it has caught up.
    """

    def __init__(self, script: Script, cluster: Cluster, load: Load) -> None:
        self.rounds: Counter[str] = Counter()
        self.catch_up_s: list[float] = []
        self.installed = 0
        self.bulk_bytes = 0
        self._script = script
        self._random = script.random
        self._cluster = cluster
        self._load = load

    def round(self, disturbance: str) -> None:
        leader = self._cluster.wait_for_leader()
        follower = self._random.choice(self._cluster.others(leader))
        status = self._cluster.wait_until(follower.status, f"{follower.id} answers")
        follower.kill()
        if disturbance == "directory deleted":
            shutil.rmtree(follower.data_dir)
        self._write_until_dropped(status["last_index"] + 1)
        log_before = follower.log_text().count("snapshot_installed")
        started_s = time.monotonic()
        follower.spawn()
        if disturbance == "follower killed":
            follower.wait_until_serving()
            time.sleep(self._random.uniform(0.0, 0.3))
            follower.kill()
            time.sleep(self._random.uniform(0.0, 0.3))
            follower.spawn()
        elif disturbance == "leader killed":
            self._kill_leader_at_random(follower)
        self._cluster.wait_until_caught_up(follower)
        self.catch_up_s.append(time.monotonic() - started_s)
        self.installed += follower.log_text().count("snapshot_installed") - log_before
        self.rounds[disturbance] += 1
        self._load.check_alive()
        self._script.say(
            f"round {self.rounds.total()}: {disturbance}; {follower.id} has caught up in "
            f"{self.catch_up_s[-1]:.1f} s"
        )

    def _write_until_dropped(self, index: int) -> None:
        """Write bulk until no running node has the log from `index` on."""

        def dropped() -> bool:
            self._load.check_alive()
            leader = self._cluster.wait_for_leader()
            count, value_bytes = 300, 1000
            # The same keys each time: the cluster grows in log, not in data.
            fill(leader.client, prefix="bulk", count=count, value_bytes=value_bytes)
            self.bulk_bytes += count * value_bytes
            statuses = [node.status() for node in self._cluster.running]
            return all(status is not None and status["first_index"] > index for status in statuses)

        self._cluster.wait_until(dropped, f"the log before index {index} is dropped")

    def _kill_leader_at_random(self, follower: ClusterNode) -> None:
        """Kill the leader while it sends, and bring it back."""
        follower.wait_until_serving()
        time.sleep(self._random.uniform(0.0, 0.3))
        leader = self._cluster.leader()
        if leader is None or leader is follower:
            return
        leader.kill()
        time.sleep(self._random.uniform(0.0, 0.3))
        leader.start()


def run(script: Script) -> str:
    """Run rounds until the time is over and return the summary."""
    with script.cluster(*SMALL_LOG, *SMALL_SEGMENTS, *SMALL_CHUNKS) as cluster:
        cluster.start()
        load = Load(
            cluster.addresses, writers=script.arguments.clients, random_source=script.random,
            think_s=0.02,
        )  # fmt: skip
        catch_up = CatchUp(script, cluster, load)
        witnesses = Witnesses(script, cluster)
        with load, witnesses:
            while catch_up.rounds.total() < len(DISTURBANCES) or not script.is_over:
                disturbance = DISTURBANCES[catch_up.rounds.total() % len(DISTURBANCES)]
                with witnesses.watching(disturbance):
                    catch_up.round(disturbance)
        cluster.heal()
        status = cluster.wait_until_converged()
        load.check(cluster.addresses)
        verdict = witnesses.judge()
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(catch_up.rounds.items()))
        times = catch_up.catch_up_s
        return (
            f"{catch_up.rounds.total()} rounds ({kinds}), {catch_up.installed} snapshots "
            f"installed, {catch_up.bulk_bytes / 1e6:.0f} MB of bulk; caught up in "
            f"{statistics.median(times):.1f} s, at most {max(times):.1f} s; {load.totals()}; "
            f"every key right on all nodes, equal state hash at index {status['applied_index']}; "
            f"{verdict}"
        )


def main(arguments: list[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=60.0)
    add_report_option(script.parser)
    script.parser.add_argument(
        "--clients", type=int, default=3, metavar="N", help="writing clients (3)"
    )
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""kill -9 of one, of some, of all nodes, again and again, under writing clients.

    python tests/chaos/kill_storm.py --duration 60 --rounds 12 --seed 1

Clients write all the time, half of their writes over and over to the same keys. At
random moments, with writes in flight, processes are killed: all at once, a majority,
the leader, or one after the other; and started again. In the end the writers stop,
and on every node the value of every key must be its last acknowledged write or a
later one whose outcome was unknown, with equal state hashes at equal index. Beside them
a few clients record everything they ask and are told, and that history must be
linearizable. What the seed decides is what is written and killed, not how the processes
are scheduled.

Exit code 0: all promises held. 1: one was broken; data and logs are kept.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.judgement import Witnesses, add_report_option
from tests.chaos.script import Script
from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.writers import Load

MODES = ("all at once", "majority", "leader", "in turn")
# A round begins only when writes flow again, so that each one finds some in flight.
FLOWING_WRITES = 50


class Storm:
    """One run on one cluster.

    Attributes:
        kills: Killed processes.
        in_flight: For each kill, how many clients waited for replies.
    """

    def __init__(self, script: Script, cluster: Cluster, load: Load) -> None:
        self.kills = 0
        self.in_flight: list[int] = []
        self.rounds: Counter[str] = Counter()
        self._script = script
        self._random = script.random
        self._cluster = cluster
        self._load = load

    def round(self, mode: str) -> None:
        """Let writes flow, kill at a random moment, bring everything back."""
        self._let_writes_flow()
        time.sleep(self._random.uniform(0.0, 1.5))
        if mode == "in turn":
            for node in self._random.sample(self._cluster.nodes, len(self._cluster.nodes)):
                self._kill([node])
                self._bring_back([node])
                self._let_writes_flow()
        else:
            victims = self._victims(mode)
            self._kill(victims)
            time.sleep(self._random.uniform(0.0, 1.0))
            self._bring_back(victims)
        self.rounds[mode] += 1
        self._load.check_alive()
        self._script.say(f"round {self.rounds.total()}: {mode}; {self._load.acknowledged} writes")

    def _victims(self, mode: str) -> list[ClusterNode]:
        nodes = self._cluster.nodes
        if mode == "leader":
            return [self._cluster.wait_for_leader()]
        count = len(nodes) if mode == "all at once" else len(nodes) // 2 + 1
        return self._random.sample(nodes, count)

    def _kill(self, victims: list[ClusterNode]) -> None:
        self.in_flight.append(self._load.in_flight)
        for node in victims:
            assert node.process is not None
            node.process.kill()
        for node in victims:
            node.kill()
        self.kills += len(victims)

    def _bring_back(self, victims: list[ClusterNode]) -> None:
        for node in self._random.sample(victims, len(victims)):
            time.sleep(self._random.uniform(0.0, 0.3))
            node.spawn()
        for node in victims:
            node.wait_until_serving()

    def _let_writes_flow(self) -> None:
        goal = self._load.acknowledged + FLOWING_WRITES

        def flowing() -> bool:
            self._load.check_alive()
            return self._load.acknowledged >= goal

        self._cluster.wait_until(flowing, "writes are acknowledged again")


def run(script: Script) -> str:
    """Run the storm and return its summary."""
    rounds: int = script.arguments.rounds
    settings = (*SMALL_LOG, *SMALL_SEGMENTS) if script.arguments.small_log else ()
    with script.cluster(*settings) as cluster:
        cluster.start()
        load = Load(
            cluster.addresses, writers=script.arguments.clients, random_source=script.random
        )
        storm = Storm(script, cluster, load)
        started_s = time.monotonic()
        end_s = started_s + script.arguments.duration
        witnesses = Witnesses(script, cluster)
        with load, witnesses:
            modes: list[str] = []
            while storm.rounds.total() < rounds or time.monotonic() < end_s:
                modes = modes or script.random.sample(MODES, len(MODES))
                mode = modes.pop()
                with witnesses.watching(mode):
                    storm.round(mode)
            load_s = time.monotonic() - started_s
        cluster.heal()
        status = cluster.wait_until_converged()
        load.check(cluster.addresses)
        verdict = witnesses.judge()
        kinds = ", ".join(f"{count} x {mode}" for mode, count in sorted(storm.rounds.items()))
        waiting = storm.in_flight
        return (
            f"{load_s:.0f} s of load from {len(load.writers)} clients, "
            f"{storm.rounds.total()} rounds ({kinds}), {storm.kills} processes killed, "
            f"{sum(one > 0 for one in waiting)} of {len(waiting)} times with writes in flight "
            f"(mean {sum(waiting) / len(waiting):.1f} clients); {load.totals()}; every key right "
            f"on all {len(cluster.nodes)} nodes, equal state hash {status['state_hash']} "
            f"at index {status['applied_index']}; {verdict}"
        )


def main(arguments: list[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=60.0)
    add_report_option(script.parser)
    script.parser.add_argument(
        "--rounds", type=int, default=12, metavar="N", help="at least so many rounds (12)"
    )
    script.parser.add_argument(
        "--clients", type=int, default=8, metavar="N", help="writing clients (8)"
    )
    script.parser.add_argument(
        "--small-log", action="store_true", help="snapshots all the time, and little log behind"
    )
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

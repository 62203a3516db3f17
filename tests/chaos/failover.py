#!/usr/bin/env python3
"""How long nothing is acknowledged when the leader is killed under load.

    python tests/chaos/failover.py --kills 20 --seed 1

Real processes with the timings, the disk and the network they have by default. Clients
write all the time; the leader is killed (kill -9) at a random moment with writes in
flight, and started again when the others go on. The gap of a kill is the longest time
between two acknowledged writes of anybody, from the last one before it until they flow. Every
operation is recorded and the history judged.

On a busy machine the gaps say more about the machine: see the load in the summary.

Exit code 0: all promises held, and the gaps are within --median-max and --gap-max. 1: not.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos import course
from tests.chaos.judgement import add_report_option, judge, require_ok, write_course
from tests.chaos.load import Load, now_us
from tests.chaos.script import Script
from tests.integration.cluster import Cluster

# Acknowledged writes before the kill and behind it that count as a steady flow.
_FLOWING_WRITES = 50


def gap_ms(acknowledged_us: Sequence[int], killed_us: int, end_us: int) -> float:
    """Return the longest time without an acknowledged write that ended behind a kill."""
    first = max(0, bisect_left(acknowledged_us, killed_us) - 1)
    last = bisect_left(acknowledged_us, end_us)
    moments = [*acknowledged_us[first:last], end_us]
    return max(b - a for a, b in pairwise(moments)) / 1000


def wait_for_writes(cluster: Cluster, load: Load) -> None:
    goal = load.acknowledged + _FLOWING_WRITES

    def flowing() -> bool:
        load.check()
        return load.acknowledged >= goal

    cluster.wait_until(flowing, "writes are acknowledged")


def kill_leader(script: Script, cluster: Cluster, load: Load) -> tuple[float, course.Blow]:
    """Kill the leader once; returns the gap in milliseconds, and what to draw."""
    leader = cluster.wait_for_leader()
    wait_for_writes(cluster, load)
    time.sleep(script.random.uniform(0.2, 0.7))
    in_flight = load.wait_for_flight()
    killed_us = now_us()
    leader.kill()
    wait_for_writes(cluster, load)
    end_us = now_us()
    gap = gap_ms(load.recorder.acknowledged_us, killed_us, end_us)
    script.say(f"{leader.id} killed with {in_flight} operations in flight: {gap:.0f} ms")
    leader.start()
    cluster.wait_until_caught_up(leader)
    return gap, course.Blow("kill -9", killed_us, end_us)


def run(script: Script) -> str:
    """Kill, measure, judge; returns the summary."""
    arguments = script.arguments
    with script.cluster() as cluster:
        cluster.start()
        load = Load(
            cluster.addresses, clients=arguments.clients, dice=script.random,
            think_s=arguments.think_ms / 1000,
        )  # fmt: skip
        kills: list[tuple[float, course.Blow]] = []
        with load:
            while len(kills) < arguments.kills or not script.is_over:
                kills.append(kill_leader(script, cluster, load))
        status = cluster.wait_until_converged()
    result, verdict = judge(script, load)
    write_course(script, load, [blow for _, blow in kills], verdict)
    require_ok(script, result, verdict)
    gaps = [gap for gap, _ in kills]
    median_s, most_s = statistics.median(gaps) / 1000, max(gaps) / 1000
    summary = (
        f"{len(gaps)} times kill -9 of the leader under {arguments.clients} clients: gap without "
        f"an acknowledged write median {median_s:.2f} s, max {most_s:.2f} s, min "
        f"{min(gaps) / 1000:.2f} s; {load.acknowledged} writes acknowledged; load average "
        f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors; equal state hash at index "
        f"{status['applied_index']}; {verdict}"
    )
    too_slow = f"too slow: {summary}"
    assert median_s <= arguments.median_max, too_slow
    assert most_s <= arguments.gap_max, too_slow
    return summary


def main(arguments: Sequence[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=0.0)
    parser = script.parser
    add_report_option(parser)
    parser.set_defaults(seed=random.SystemRandom().getrandbits(32))
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="at least (20)")
    parser.add_argument("--clients", type=int, default=8, metavar="N", help="clients (8)")
    parser.add_argument("--think-ms", type=float, default=2.0, metavar="MS",
                        help="pause of a client after an operation (2)")  # fmt: skip
    parser.add_argument("--median-max", type=float, default=0.7, metavar="S",
                        help="the median gap may be, in seconds (0.7)")  # fmt: skip
    parser.add_argument("--gap-max", type=float, default=1.5, metavar="S",
                        help="each gap may be, in seconds (1.5)")  # fmt: skip
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""One seed, from the command line: `python -m tests.sim.run --seed 7 --verbose`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from raftkv.engine.core import RaftCore
from raftkv.replica.compaction import PATIENCE_MS
from raftkv.types import ChangeKind
from tests.linearizability.history import Outcome
from tests.sim import disk, hardware, network
from tests.sim.cluster import Cluster, Violation
from tests.sim.hardware import HardwareNemesis
from tests.sim.membership import MembershipNemesis
from tests.sim.mix import draw
from tests.sim.nemesis import Nemesis
from tests.sim.node import EFFECTS
from tests.sim.past_reads import PastReaders
from tests.sim.read_levels import Readers
from tests.sim.sessions import SessionClients
from tests.sim.watches import Watchers
from tests.sim.workload import Workload

# Of simulated time under faults; the healing comes on top.
DURATION_MS = 60_000
OPERATIONS_MIN = 300
# Of the nemeses' last undoings: rests of rotten disks, late restarts.
SETTLE_MS = 1_500
# Bounds of a cluster without faults. Requests end after 4 s.
ELECT_MS = 10_000
CONVERGE_MS = 30_000
ANSWER_MS = 6_000
# A snapshot of a node that nobody has added waits for nodes that would confirm it; one that
# is asked for meanwhile comes behind it, and waits for as long.
SNAPSHOT_ANSWER_MS = ANSWER_MS + 2 * PATIENCE_MS


@dataclass
class Report:
    """What one run did."""

    seed: int
    steps: int
    simulated_ms: float
    cpu_s: float
    operations: int
    acknowledged: int
    refused: int
    unknown: int
    elections: int
    crashes: int
    membership_changes: int
    heal_ms: float
    parts_checked: int
    faults: Counter[str]
    events: dict[str, int]
    trace_hash: int
    checks: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)


def fault_kinds() -> list[str]:
    """Return the names of all faults of the default mix."""
    kinds = [fault.__name__.removeprefix("_") for fault in Nemesis(Cluster(0))._faults]
    kinds += [f"member_{kind}" for kind in ChangeKind]
    kinds += [*hardware.KINDS, *network.KINDS, disk.TORN_WRITE, "memory_limit"]
    return kinds + [f"crash_before_{kind}" for kind in EFFECTS]


def replay_command(seed: int, duration_ms: float) -> str:
    """Return what runs one seed again."""
    return f"python -m tests.sim.run --seed {seed} --duration-ms {duration_ms:.0f} --verbose"


def run_seed(
    seed: int,
    *,
    duration_ms: float = DURATION_MS,
    verbose: bool = False,
    core_class: type[RaftCore] = RaftCore,
    history: Path | None = None,
) -> Report:
    """Run one cluster under faults and judge it.

    Args:
        seed: Decides everything.
        duration_ms: Of simulated time under faults.
        verbose: Print every event of every node.
        core_class: Of the nodes; a mutant, perhaps.
        history: Where to save what the clients saw, if the run comes to its end.

    Raises:
        Violation: A promise was broken; the message names the seed.
    """
    mix = draw(seed)
    cluster = Cluster(
        seed,
        size=mix.size,
        spares=2,
        limits=mix.limits,
        core_class=core_class,
        verbose=verbose,
        # Fewer heartbeats leave more of a run to what matters; some runs have the default.
        heartbeat_ms=50 if seed % 5 == 0 else 90,
    )
    try:
        return _run(cluster, seed, duration_ms, history)
    except Violation as error:
        raise Violation(
            f"{error.detail} (replay: {replay_command(seed, duration_ms)})",
            invariant=error.invariant,
        ) from error


def _run(cluster: Cluster, seed: int, duration_ms: float, history: Path | None) -> Report:
    started_s = time.process_time()
    cluster.start()
    cluster.run_until(
        lambda: cluster.leader() is not None, ELECT_MS, invariant="a_healed_cluster_elects"
    )
    workload = Workload(cluster)
    nemesis = Nemesis(cluster)
    changes = MembershipNemesis(cluster, pause_ms=nemesis.mix.changes_pause_ms)
    machines = HardwareNemesis(cluster)
    readers = Readers(cluster)
    watchers = Watchers(cluster)
    past_readers = PastReaders(cluster)
    sessions = SessionClients(cluster, workload)
    cluster.run(duration_ms)
    while duration_ms >= DURATION_MS and workload.count() < OPERATIONS_MIN:
        cluster.run(1000)
    changes.stop()
    for _ in range(2):
        machines.stop()
        nemesis.stop()
        readers.stop()
        past_readers.stop()
        sessions.stop()
        cluster.run(SETTLE_MS)
        # A change that nobody could answer may have been committed meanwhile.
        cluster.join_missing()
    heal_ms = _heal(cluster, workload)
    unexpected = [(name, stop) for name, stop in cluster.stops if "simulated: " not in stop.reason]
    if unexpected:
        raise Violation(
            f"nodes stopped by themselves: {unexpected}", invariant="healthy_nodes_do_not_stop"
        )
    cluster.run_until(
        lambda: not sessions.under_way, ANSWER_MS, invariant="every_number_has_an_outcome"
    )
    workload.read_everything()
    watchers.finish()
    cluster.run_until(cluster.converged, CONVERGE_MS, invariant="a_healed_cluster_converges")
    if history is not None:
        workload.history().save(history)
    result = workload.judge()
    faults = nemesis.fired + changes.fired + machines.fired + cluster.noted + readers.counts
    faults += watchers.counts
    faults += past_readers.counts
    faults += sessions.counts
    faults["memory_limit"] = workload.refused_for_memory()
    return Report(
        seed=seed,
        steps=cluster.world.steps,
        simulated_ms=cluster.world.now_ms,
        cpu_s=time.process_time() - started_s,
        operations=workload.count(),
        acknowledged=workload.count(Outcome.OK),
        refused=workload.count(Outcome.REFUSED),
        unknown=workload.count(Outcome.UNKNOWN),
        elections=cluster.elections,
        crashes=cluster.crashes,
        membership_changes=sum(faults[f"member_{kind}_ok"] for kind in ChangeKind),
        heal_ms=heal_ms,
        parts_checked=len(result.parts),
        checks=cluster.invariants.checks,
        commands=workload.kinds(),
        faults=faults,
        events=dict(cluster.events),
        trace_hash=cluster.world.trace_hash,
    )


def _heal(cluster: Cluster, workload: Workload) -> float:
    """Wait until a cluster without faults agrees; return how long that took."""
    workload.running = False
    began_ms = cluster.world.now_ms
    cluster.run_until(
        lambda: cluster.leader() is not None, ELECT_MS, invariant="a_healed_cluster_elects"
    )

    def is_whole() -> bool:
        # The last leader may have committed an addition that nobody could answer.
        cluster.join_missing()
        return cluster.converged()

    cluster.run_until(is_whole, CONVERGE_MS, invariant="a_healed_cluster_converges")
    took_ms = cluster.world.now_ms - began_ms
    cluster.run_until(workload.is_answered, ANSWER_MS, invariant="every_proposal_is_answered")
    cluster.run_until(
        cluster.owes_nothing, SNAPSHOT_ANSWER_MS, invariant="every_request_is_answered"
    )
    return took_ms


def main() -> int:
    """Run seeds and print what they did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="replay one seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--duration-ms", type=float, default=DURATION_MS)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument(
        "--history", type=Path, metavar="FILE.jsonl",
        help="with --seed: save what the clients saw, for tests.linearizability.check",
    )  # fmt: skip
    options = parser.parse_args()
    if options.history and options.seed is None:
        parser.error("--history needs --seed")
    if options.seed is not None:
        seeds = [options.seed]
    else:
        seeds = list(range(options.first, options.first + options.seeds))
    failures = 0
    totals: Counter[str] = Counter()
    started = time.monotonic()
    for seed in seeds:
        try:
            report = run_seed(
                seed,
                duration_ms=options.duration_ms,
                verbose=options.verbose,
                history=options.history,
            )
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failures += 1
            print(f"seed {seed}: {type(error).__name__}: {error}")
            if options.verbose or not isinstance(error, Violation):
                traceback.print_exc()
            continue
        totals["operations"] += report.operations
        totals["acknowledged"] += report.acknowledged
        totals["unknown"] += report.unknown
        totals["elections"] += report.elections
        totals["crashes"] += report.crashes
        for name, count in report.faults.items():
            totals[f"fault {name}"] += count
        for name, count in report.events.items():
            totals[f"event {name}"] += count
    for name in sorted(totals):
        print(f"{totals[name]:8d}  {name}")
    seconds = time.monotonic() - started
    print(f"{len(seeds)} seeds, {failures} violations, {seconds:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

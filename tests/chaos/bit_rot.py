#!/usr/bin/env python3
"""Flips single bits in the data of a stopped node: it must refuse to start, and say why.

    python tests/chaos/bit_rot.py --flips 100 --snapshot-flips 30 --seed 1

One node of a cluster under load is stopped, a second time killed. In copies of its
directory one random bit is flipped before the last sync mark of the WAL, in the newest
snapshot, in the identity, and the node is started with each copy: every time it must
end with exit code 3, name file, position and what to do, and change nothing. The other
nodes serve all the time, and what a few clients record must be linearizable. For some
flips the advice is followed: the directory is deleted, the node started, refilled and
counted again.

With a longer --duration, all flips are made again at other positions until it is over.
Exit code 0: every flip was noticed. 1: one was not; data and logs are kept.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.chaos.judgement import Witnesses, add_report_option
from tests.chaos.script import Script
from tests.integration.cluster import SMALL_SEGMENTS, Cluster, ClusterNode
from tests.integration.damage import (
    Place,
    covered_by_sync,
    digest_of,
    flip_bit,
    parse_report,
    snapshots,
    wait_for_snapshots,
)
from tests.integration.writers import Load, fill

EXIT_DAMAGED = 3
SAY_EVERY = 20
# Several segments, a snapshot, and log behind it.
SETTINGS = (
    *SMALL_SEGMENTS,
    "limits.snapshot_log_bytes=2097152",
    "limits.snapshot_keep_log_bytes=1048576",
)

Choose = Callable[[Path, random.Random], Place]


def in_wal(data_dir: Path, source: random.Random) -> Place:
    return covered_by_sync(data_dir).choose(source)


def in_snapshot(data_dir: Path, source: random.Random) -> Place:
    newest = snapshots(data_dir)[-1]
    return Place(newest, source.randrange(newest.stat().st_size))


def in_identity(data_dir: Path, source: random.Random) -> Place:
    path = data_dir / "identity"
    return Place(path, source.randrange(path.stat().st_size))


class BitRot:
    """One run on one cluster.

    Attributes:
        noticed: Flips that stopped the node, by where they were.
        starts_s: How long each refused start took.
    """

    def __init__(self, script: Script, cluster: Cluster, load: Load) -> None:
        self.noticed: Counter[str] = Counter()
        self.exact = 0
        self.starts_s: list[float] = []
        self.refills_s: list[float] = []
        self._script = script
        self._random = script.random
        self._cluster = cluster
        self._load = load

    def flips(self, victim: ClusterNode, where: str, choose: Choose, count: int) -> None:
        """Flip and start, again and again, in a copy of the directory."""
        aside = victim.data_dir.with_name("aside")
        victim.data_dir.rename(aside)
        shutil.copytree(aside, victim.data_dir)
        whole = digest_of(victim.data_dir)
        for _ in range(count):
            place, bit = choose(victim.data_dir, self._random), self._random.randrange(8)
            self._flip_and_start(victim, place, bit, where)
            flip_bit(place, bit)
            assert digest_of(victim.data_dir) == whole, f"a refused start changed data: {place}"
            self.noticed[where] += 1
            if self.noticed.total() % SAY_EVERY == 0:
                self._script.say(f"{self.noticed.total()} flips, all noticed")
                self._load.check_alive()
        shutil.rmtree(victim.data_dir)
        aside.rename(victim.data_dir)

    def _flip_and_start(self, victim: ClusterNode, place: Place, bit: int, where: str) -> None:
        flip_bit(place, bit)
        started_s = time.monotonic()
        code, output = victim.run_to_exit()
        self.starts_s.append(time.monotonic() - started_s)
        assert code == EXIT_DAMAGED, f"{where}, {place}, bit {bit}: exit code {code}\n{output}"
        report = parse_report(output, victim.data_dir)
        assert report.has_advice, f"{where}, {place}, bit {bit}: no advice in {output}"
        self.exact += report.file == place.path and report.position <= place.position

    def follow_the_advice(self, victim: ClusterNode, where: str, choose: Choose) -> None:
        """Damage the directory itself, be refused, delete it, and be refilled."""
        self._flip_and_start(
            victim, choose(victim.data_dir, self._random), self._random.randrange(8), where
        )
        self.noticed[where] += 1
        shutil.rmtree(victim.data_dir)
        started_s = time.monotonic()
        victim.start()
        self._cluster.wait_until_caught_up(victim)
        self.refills_s.append(time.monotonic() - started_s)
        self._script.say(f"{where}: the advice brought {victim.id} back")


def _flip_everywhere(
    script: Script,
    cluster: Cluster,
    rot: BitRot,
    places: list[tuple[str, Choose, int]],
    ending: str,
) -> None:
    """End one node in one way, and make half of all flips in its data."""
    victim = script.random.choice(cluster.followers())
    if ending == "stop":
        assert victim.stop() == 0
    else:
        victim.kill()
    covered = covered_by_sync(victim.data_dir)
    script.say(
        f"{victim.id} after {ending}: {covered.byte_count} bytes in {len(covered.ranges)} "
        f"segments before the last sync mark, {len(snapshots(victim.data_dir))} snapshots"
    )
    for where, choose, count in places:
        share = count - count // 2 if ending == "stop" else count // 2
        rot.flips(victim, f"{where} after {ending}", choose, share)
    victim.start()


def run(script: Script) -> str:
    """Flip every bit and return the summary."""
    arguments = script.arguments
    places: list[tuple[str, Choose, int]] = [
        ("WAL", in_wal, arguments.flips),
        ("snapshot", in_snapshot, arguments.snapshot_flips),
        ("identity", in_identity, arguments.identity_flips),
    ]
    with script.cluster(*SETTINGS) as cluster:
        cluster.start()
        fill(cluster.wait_for_leader().client, prefix="base", count=6000, value_bytes=500)
        wait_for_snapshots(cluster)
        load = Load(cluster.addresses, writers=2, random_source=script.random, think_s=0.05)
        rot = BitRot(script, cluster, load)
        witnesses = Witnesses(script, cluster)
        with load, witnesses:
            while not rot.noticed or not script.is_over:
                for ending in ("stop", "kill"):
                    with witnesses.watching(f"flips after {ending}"):
                        _flip_everywhere(script, cluster, rot, places, ending)
            for number in range(arguments.repairs):
                victim = script.random.choice(cluster.followers())
                victim.stop()
                where, choose, _ = places[number % len(places)]
                with witnesses.watching(f"advice, {where}"):
                    rot.follow_the_advice(victim, where, choose)
            acknowledged = load.acknowledged
        status = cluster.wait_until_converged()
        load.check(cluster.addresses)
        verdict = witnesses.judge()
        kinds = ", ".join(f"{count} in {where}" for where, count in sorted(rot.noticed.items()))
        total = rot.noticed.total()
        return (
            f"{total} of {total} flips noticed with exit code 3 and advice ({kinds}), "
            f"{rot.exact} with the very file and a position at or before the bit; "
            f"a refused start took {statistics.median(rot.starts_s):.2f} s, "
            f"at most {max(rot.starts_s):.2f} s; the advice brought {len(rot.refills_s)} nodes "
            f"back in {', '.join(f'{one:.1f}' for one in rot.refills_s)} s; meanwhile the others "
            f"acknowledged {acknowledged} writes, longest gap {load.totals().longest_gap_s:.2f} s; "
            f"every key right on all nodes, equal state hash at index {status['applied_index']}; "
            f"{verdict}"
        )


def main(arguments: list[str] | None = None) -> int:
    script = Script(__doc__, default_duration_s=0.0)
    add_report_option(script.parser)
    script.parser.add_argument("--flips", type=int, default=100, metavar="N",
                               help="bits before the last sync mark of a WAL (100)")  # fmt: skip
    script.parser.add_argument("--snapshot-flips", type=int, default=30, metavar="N",
                               help="bits in a snapshot (30)")  # fmt: skip
    script.parser.add_argument("--identity-flips", type=int, default=6, metavar="N",
                               help="bits in the identity (6)")  # fmt: skip
    script.parser.add_argument("--repairs", type=int, default=6, metavar="N",
                               help="how often the advice is followed to its end (6)")  # fmt: skip
    return script.main(run, arguments)


if __name__ == "__main__":
    sys.exit(main())

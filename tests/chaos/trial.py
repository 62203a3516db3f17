"""One run of nemeses against a cluster under recorded load, its judgement and its report.

The run is: start, load, one nemesis after the other (now and then two at once), each
followed by a bounded wait for writes to flow again; then heal, let all nodes agree,
read every key once more, compare the state hashes, and judge the history.

It fails when a part of the history is not linearizable or was not decided, when state
hashes differ, when a node ended in a way that nobody caused, or when a healed cluster
acknowledges nothing for 30 seconds.
"""

from __future__ import annotations

import contextlib
import gc
import json
import random
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos import course
from tests.chaos.field import EXIT_REFUSED, Field
from tests.chaos.hurt_cluster import HurtCluster
from tests.chaos.judgement import (
    add_report_option,
    judge,
    read_everything,
    report_directory,
    require_ok,
    write_course,
)
from tests.chaos.load import PLANTS, Load, is_read, now_us
from tests.chaos.nemeses import NEMESES
from tests.chaos.script import Script
from tests.integration.cluster import SMALL_LOG, SMALL_SEGMENTS
from tests.integration.wire import Wire
from tests.linearizability.checker import CheckResult
from tests.linearizability.history import Outcome

# A healed cluster elects within a second or two; the machine may be busy.
FLOW_LIMIT_S = 30.0
# A disk that takes no time hides what may happen while a sync is in flight.
SYNC_DELAY_US = 500
WRITERS_A_KEY_MIN = 5
# So that the transfer of a snapshot takes several pieces and is caught in its middle.
SMALL_CHUNKS = ("limits.snapshot_chunk_bytes=16384",)
_BULK_VALUE_BYTES = 1000


@dataclass
class Figures:
    """What a run is measured by.

    Attributes:
        gap_s: Longest time without an acknowledged write.
        progress: Share of the seconds of load with an acknowledged write.
        writers_a_key: Median of the different clients that wrote to a full key.
    """

    seconds: float = 0.0
    operations: int = 0
    acknowledged: int = 0
    acknowledged_writes: int = 0
    unknown: int = 0
    refused: int = 0
    keys: int = 0
    writers_a_key: float = 0.0
    progress: float = 0.0
    gap_s: float = 0.0
    strikes: dict[str, int] = field(default_factory=dict)
    strikes_in_flight: dict[str, int] = field(default_factory=dict)
    facts: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    planted: int = 0
    state_hash: str = ""
    index: int = 0
    verdict: str = ""

    def measure(self, load: Load) -> None:
        """Take what the clients recorded."""
        recorder = load.recorder
        counts = Counter(one.outcome for one in recorder.operations)
        self.operations = len(recorder.operations)
        self.acknowledged = counts[Outcome.OK]
        self.unknown = counts[Outcome.UNKNOWN]
        self.refused = counts[Outcome.REFUSED]
        self.refusals = dict(recorder.refusals.most_common())
        self.planted = load.planted
        self._measure_time(load)
        writers: dict[str, set[str]] = {}
        operations: Counter[str] = Counter()
        for one in recorder.operations:
            operations[one.keys[0]] += 1
            if not is_read(one) and one.outcome is Outcome.OK:
                writers.setdefault(one.keys[0], set()).add(one.client)
        self.keys = len(operations)
        full = [len(writers.get(key, ())) for key, count in operations.items() if count >= 100]
        self.writers_a_key = statistics.median(full) if full else 0.0

    def _measure_time(self, load: Load) -> None:
        times_us = load.recorder.acknowledged_us
        self.acknowledged_writes = len(times_us)
        self.seconds = (load.ended_us - load.started_us) / 1e6
        whole = max(1, int(self.seconds))
        live = {(one - load.started_us) // 1_000_000 for one in times_us}
        self.progress = len([second for second in live if second < whole]) / whole
        moments = [load.started_us, *times_us, load.ended_us]
        self.gap_s = max(b - a for a, b in pairwise(moments)) / 1e6

    def __str__(self) -> str:
        strikes = ", ".join(
            f"{count} x {name} ({self.strikes_in_flight.get(name, 0)} in flight)"
            for name, count in sorted(self.strikes.items())
        )
        facts = "".join(f", {count} {name}" for name, count in sorted(self.facts.items()))
        return (
            f"{self.seconds:.0f} s of load, {self.operations} operations, {self.acknowledged} "
            f"acknowledged ({self.acknowledged_writes} writes), {self.unknown} unknown, "
            f"{self.refused} refused; progress in {100 * self.progress:.0f} % of the seconds, "
            f"longest gap {self.gap_s:.2f} s; {self.keys} keys, {self.writers_a_key:g} writers a "
            f"key; {strikes}{facts}; state hash {self.state_hash or '?'} at index {self.index} on "
            f"all nodes; {self.verdict}"
        )


def add_options(script: Script, *, clients: int = 10, think_ms: float = 10.0) -> None:
    """Add the options of every trial."""
    parser = script.parser
    parser.add_argument("--clients", type=int, default=clients, metavar="N",
                        help=f"clients at once ({clients})")  # fmt: skip
    parser.add_argument("--think-ms", type=float, default=think_ms, metavar="MS",
                        help=f"pause of a client after an operation ({think_ms:g})")  # fmt: skip
    parser.add_argument("--bulk", type=int, default=100_000, metavar="BYTES",
                        help="data that stays, for snapshots of some size (100000)")  # fmt: skip
    parser.add_argument("--overlap", type=float, default=0.2, metavar="SHARE",
                        help="share of the rounds with two nemeses at once (0.2)")  # fmt: skip
    parser.add_argument("--hold", type=float, nargs=2, default=(0.7, 2.0), metavar="S",
                        help="how long a nemesis lasts, in seconds (0.7 2.0)")  # fmt: skip
    parser.add_argument(
        "--plant",
        choices=PLANTS,
        default=None,
        help="let the clients tell this lie; the verdict must be illegal",
    )
    add_report_option(parser)
    parser.add_argument("--set", dest="overrides", action="append", default=[],
                        metavar="SECTION.KEY=VALUE", help="a setting of every node")  # fmt: skip


class Trial:
    """One run.

    Args:
        script: Parsed.
        names: Nemeses to choose from; every one comes up before one comes up again.
    """

    def __init__(self, script: Script, names: Sequence[str]) -> None:
        self._script = script
        self._names = list(names)
        self._bag: list[str] = []
        self._facts: Counter[str] = Counter()
        self._blows: list[course.Blow] = []
        self.figures = Figures()
        self.result: CheckResult | None = None

    def run(self) -> str:
        """Run, judge, report; returns the summary.

        Raises:
            AssertionError: See the module.
        """
        # The history only grows: the collector would walk it again and again.
        gc.freeze()
        gc.set_threshold(200_000, 50, 1000)
        script = self._script
        arguments = script.arguments
        directory = script.directory
        overrides = (*SMALL_LOG, *SMALL_SEGMENTS, *SMALL_CHUNKS, *arguments.overrides)
        with HurtCluster(directory, size=arguments.nodes, overrides=overrides) as cluster:
            self._set_sync_delay(cluster)
            cluster.start()
            self._write_bulk(cluster)
            load = Load(
                cluster.addresses, clients=arguments.clients, dice=script.random,
                think_s=arguments.think_ms / 1000, plant=arguments.plant,
            )  # fmt: skip
            field = Field(cluster, load, script.random, script.say)
            try:
                self._hurt(cluster, load, field)
                self._agree(cluster, load)
            except BaseException:
                cluster.keep_data(directory / "kept")
                raise
            finally:
                load.stop()
                self._measure(load, field)
                self._report(load)
        self._judge(load)
        return str(self.figures)

    def _set_sync_delay(self, cluster: HurtCluster) -> None:
        for node in cluster.nodes:
            node.faults.sync_delay_us = SYNC_DELAY_US

    def _write_bulk(self, cluster: HurtCluster) -> None:
        """Write values that cannot be compressed and stay, for snapshots of some size."""
        count = self._script.arguments.bulk // _BULK_VALUE_BYTES
        leader = cluster.wait_for_leader()
        with Wire(leader.client) as wire:
            for number in range(count):
                value = self._script.random.randbytes(_BULK_VALUE_BYTES)
                assert wire.call("SET", f"bulk:{number}", value) == b"OK"

    # --------------------------------------------------------------------- hurting

    def _hurt(self, cluster: HurtCluster, load: Load, field: Field) -> None:
        started_s = time.monotonic()
        end_s = started_s + self._script.arguments.duration
        with load:
            self._wait_for_flow(cluster, load)
            rounds = 0
            while time.monotonic() < end_s:
                rounds += 1
                self._round(field)
                load.check()
                self._restore(cluster, load)
            self._wait_for_flow(cluster, load)

    def _round(self, field: Field) -> None:
        arguments = self._script.arguments
        with self._struck(field, ""):
            field.pause(*arguments.hold)
            if self._script.random.random() < arguments.overlap and len(self._names) > 1:
                with self._struck(field, "  with "):
                    field.pause(*arguments.hold)

    @contextlib.contextmanager
    def _struck(self, field: Field, prefix: str) -> Iterator[None]:
        """Let the next nemesis hurt for as long as this lasts."""
        name = self._next_name()
        field.say(f"{prefix}{name}")
        field.name = name
        strikes = field.strikes_by_name[name]
        began_us = now_us()
        try:
            with NEMESES[name](field):
                if field.strikes_by_name[name] == strikes:
                    # It could not: its turn comes again, after the others.
                    self._bag.insert(0, name)
                yield
        finally:
            self._blows.append(course.Blow(name, began_us, now_us()))

    def _next_name(self) -> str:
        self._bag = self._bag or self._script.random.sample(self._names, len(self._names))
        return self._bag.pop()

    def _restore(self, cluster: HurtCluster, load: Load) -> None:
        """Take every fault away, wait until writes are acknowledged and every node votes."""
        cluster.relieve()
        self._set_sync_delay(cluster)
        self._wait_for_flow(cluster, load)
        self._make_all_voters(cluster)

    def _wait_for_flow(self, cluster: HurtCluster, load: Load) -> None:
        started_s = time.monotonic()
        goal = load.acknowledged + 10

        def flowing() -> bool:
            load.check()
            self._keep_running(cluster)
            return load.acknowledged >= goal

        cluster.wait_until(flowing, "writes are acknowledged again", FLOW_LIMIT_S)
        waited_s = time.monotonic() - started_s
        if waited_s > 3:
            self._script.say(f"  writes flow again after {waited_s:.1f} s")

    def _make_all_voters(self, cluster: HurtCluster) -> None:
        """Add and promote until every node is a voter, as an administrator would."""
        started_s = time.monotonic()

        def complete() -> bool:
            self._keep_running(cluster)
            leader = cluster.leader()
            try:
                return leader is not None and self._missing_voters(cluster, leader.client) == 0
            except OSError:
                return False

        cluster.wait_until(complete, "every node votes again", FLOW_LIMIT_S)
        for node in cluster.nodes:
            # Who votes now has not been removed, or has come back since; unless it was
            # killed before it had ended, found once more that it was removed when it started
            # again, and was added while it came to its end.
            if " removed reason=" not in node.log_since_start():
                node.expected_exits = tuple(
                    code for code in node.expected_exits if code != EXIT_REFUSED
                )
        waited_s = time.monotonic() - started_s
        if waited_s > 3:
            self._script.say(f"  every node votes again after {waited_s:.1f} s")

    @staticmethod
    def _missing_voters(cluster: HurtCluster, leader: str) -> int:
        """Ask for the next step of every node that does not vote; returns how many there are."""
        with Wire(leader, timeout_s=5.0, connect_timeout_s=1.0) as wire:
            members = {}
            for fields in wire.call("RAFT", "MEMBERS"):
                facts = dict(zip(fields[::2], fields[1::2], strict=True))
                members[facts[b"id"].decode()] = facts[b"voter"]
            missing = [node for node in cluster.nodes if not members.get(node.id)]
            for node in missing:
                if node.id in members:
                    wire.call("RAFT", "MEMBER", "PROMOTE", node.id)
                else:
                    wire.call("RAFT", "MEMBER", "ADD", node.id, node.client, node.peer)
            return len(missing)

    def _keep_running(self, cluster: HurtCluster) -> None:
        """Start who is down; an end that nobody caused fails the run."""
        for node in cluster.nodes:
            if node.is_running:
                continue
            code = node.process.returncode if node.process is not None else None
            if code in node.expected_exits:
                self._facts["nodes that ended when removed"] += 1
                node.wipe()
                node.expected_exits = ()
            elif code != -9:
                raise AssertionError(
                    f"{node.id} ended with {code}, which nobody caused:\n"
                    f"{node.log_since_start()[-3000:]}"
                )
            node.spawn()

    # --------------------------------------------------------------------- the end

    def _agree(self, cluster: HurtCluster, load: Load) -> None:
        """Heal, compare state hashes, read every key once more."""
        cluster.relieve()

        def agreed() -> bool:
            self._keep_running(cluster)
            cluster.check_hashes()
            return len(cluster.running) == len(cluster.nodes) and bool(cluster.converged_status())

        cluster.wait_until(agreed, "all nodes agree", 60.0)
        status = cluster.converged_status() or {}
        self.figures.state_hash = str(status.get("state_hash"))
        self.figures.index = int(status.get("applied_index", 0))
        read_everything(cluster, load)

    def _measure(self, load: Load, field: Field) -> None:
        self.figures.measure(load)
        self.figures.strikes = dict(field.strikes_by_name)
        self.figures.strikes_in_flight = dict(field.in_flight_by_name)
        self.figures.facts = dict(field.facts + self._facts)

    def _judge(self, load: Load) -> None:
        self.result, self.figures.verdict = judge(self._script, load)
        self._report(load)
        require_ok(self._script, self.result, str(self.figures))

    def _report(self, load: Load) -> None:
        """Write figures, course and history; the timeline comes with the judgement."""
        directory = report_directory(self._script)
        directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(vars(self.figures), indent=2)
        (directory / "figures.json").write_text(text + "\n", encoding="utf-8")
        (directory / "summary.txt").write_text(f"{self.figures}\n", encoding="utf-8")
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(self._script.directory / "shaper.log", directory)
        write_course(self._script, load, self._blows, str(self.figures))


def trial_main(
    description: str | None,
    names: Sequence[str],
    arguments: Sequence[str] | None = None,
    *,
    duration_s: float = 60.0,
    nodes: int = 3,
) -> int:
    """Be the `main` of a script of these nemeses."""
    script = Script(description, default_duration_s=duration_s)
    seed = random.SystemRandom().getrandbits(32)
    script.parser.set_defaults(nodes=nodes, seed=seed)
    add_options(script)
    script.parser.add_argument(
        "--only", action="append", choices=list(names), default=None, metavar="NAME",
        help=f"only this nemesis; may be given again: {', '.join(names)}",
    )  # fmt: skip

    def run(script: Script) -> str:
        return Trial(script, script.arguments.only or names).run()

    run.__module__ = "__main__"
    return script.main(run, arguments)

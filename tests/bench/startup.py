"""How long commands and nodes take to start.

    python -m tests.bench.startup --out DIR [--rounds 10] [--keys 100000,1000000] [--quick]

Commands: from the start of the process to its end, against a live cluster. Nodes: a
follower of a live cluster is killed (kill -9) and started again; the time runs from the
start of the process to its answer to a linearizable read, which it hands to the leader
(`RAFT ROUTING proxy`). Writes startup.json and startup.md to DIR; the exit code is 1 when
a limit is not kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.contenders import RaftKv, running
from tests.bench.goals import Goal
from tests.bench.loads import fill
from tests.bench.ports import Ports
from tests.bench.report import Spread
from tests.integration.cluster import ROOT, ClusterNode, node_environment
from tests.integration.wire import Wire

COMMAND_MS_MAX = 150.0
# Keys -> seconds until the first answer.
RESTART_S_MAX = {100_000: 0.5, 1_000_000: 3.0}
COMMANDS = (("--version",), ("set", "startup", "1"), ("get", "startup"), ("ping",), ("status",))
POLL_S = 0.002
LIMIT_S = 120.0
KEY = "key:000000000001"


def keep_bytecode(directory: Path) -> None:
    """Let the processes of this run find compiled modules, as those of an installed package do.

    An environment that forbids to write them makes every start compile them anew.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(directory / "bytecode")


def time_command(arguments: Sequence[str], *, module: bool = True) -> tuple[float, float]:
    """Run one command to its end; returns milliseconds, and those of processor time."""
    begin_s, busy_s = time.perf_counter(), _children_s()
    subprocess.run(
        [sys.executable, *(["-m", "raftkv"] if module else []), *arguments],
        cwd=ROOT, env=node_environment(), stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60, check=True,
    )  # fmt: skip
    return (time.perf_counter() - begin_s) * 1000, (_children_s() - busy_s) * 1000


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask_through(node: ClusterNode) -> bool:
    """Whether a node answers a linearizable read that it hands to the leader."""
    try:
        with Wire(node.client, timeout_s=LIMIT_S, connect_timeout_s=1.0) as wire:
            wire.call("RAFT", "ROUTING", "proxy")
            return isinstance(wire.call("GET", KEY), bytes)
    except OSError:
        return False


def time_restart(node: ClusterNode, answers: Callable[[ClusterNode], bool] = ask_through) -> float:
    """Kill a node and start it again; returns the seconds until it answers.

    Raises:
        RuntimeError: It does not.
    """
    node.kill()
    begin_s = time.perf_counter()
    node.spawn()
    while not answers(node):
        if time.perf_counter() - begin_s > LIMIT_S or not node.is_running:
            raise RuntimeError(f"{node.id} does not answer: {node.log_since_start()[-1000:]}")
        time.sleep(POLL_S)
    return time.perf_counter() - begin_s


def command_goals(ours: RaftKv, rounds: int) -> list[Goal]:
    """Time the commands, in turn; the first turn warms the file cache."""
    nodes = ",".join(ours.cluster.addresses)
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {one: [] for one in COMMANDS}
    bare: list[float] = []
    for number in range(rounds + 1):
        empty, _ = time_command(["-c", "pass"], module=False)
        if number:
            bare.append(empty)
        for command, times in found.items():
            target = [] if command == ("--version",) else ["--nodes", nodes]
            taken = time_command([*command, *target])
            if number:
                times.append(taken)
    empty = Spread.of(bare).median
    return [
        Goal(f"`raftkv {' '.join(command)}` in ms",
             f"processor time {Spread.of([busy for _, busy in times]).median:.0f} ms; "
             f"an empty Python process: {empty:.0f} ms",
             Spread.of([taken for taken, _ in times]), COMMAND_MS_MAX, at_most=True)
        for command, times in found.items()
    ]  # fmt: skip


def restart_goal(ours: RaftKv, keys: int, rounds: int) -> Goal:
    """Restart followers of a cluster that holds so many keys."""
    times, busy = [], []
    for _ in range(rounds):
        node = ours.cluster.followers()[0]
        times.append(time_restart(node))
        busy.append(processor_s(node.pid))
        ours.cluster.wait_until_caught_up(node)
    return Goal(
        f"restart with {keys:,} keys to the first linearizable read in s",
        f"{rounds} restarts; processor time {Spread.of(busy).median:.2f} s",
        Spread.of(times), RESTART_S_MAX.get(keys, 3.0 * keys / 1_000_000 + 0.5), at_most=True,
    )  # fmt: skip


def run(options: argparse.Namespace) -> bool:
    """Measure, judge, write; returns whether every limit is kept."""
    options.out.mkdir(parents=True, exist_ok=True)
    goals: list[Goal] = []
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name:
        directory = Path(name)
        keep_bytecode(directory)
        facts: dict[str, Any] = {"machine": report.machine(directory), "rounds": options.rounds}
        ours = RaftKv(3)
        with running([ours], directory, Ports()):
            goals += command_goals(ours, options.rounds)
            for keys in options.keys:
                fill(ours, keys)
                ours.cluster.wait_until_converged()
                goals.append(restart_goal(ours, keys, min(5, options.rounds)))
    facts["goals"] = [dataclasses.asdict(one) | {"met": one.is_met} for one in goals]
    page = "\n".join([
        "# Start-up\n", report.machine_line(facts["machine"]) + "\n",
        report.table(["what", "beside", "median (spread)", "limit", ""],
                     [one.row() for one in goals]),
    ])  # fmt: skip
    report.save(options.out, "startup", facts, page)
    return all(one.is_met for one in goals)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=None, help="default 10; 1 with --quick")
    parser.add_argument("--keys", default=None, help="with commas; default 100000,1000000")
    parser.add_argument("--quick", action="store_true", help="try everything, judge nothing")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 10)
    wanted = options.keys or ("1000" if options.quick else "100000,1000000")
    options.keys = [int(text) for text in wanted.split(",")]
    return 0 if run(options) or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())

"""What grows with what: cost against keys, sizes, clients, depth, nodes and log length.

    python -m tests.bench.growth --out DIR [--only keys,values,...] [--seconds 2] [--quick]

Each part has a fresh cluster of its own: keys, values, clients, pipeline, nodes, log.
Writes growth.json, growth.md and growth.png to DIR. About eight minutes, most of them
for a million keys; --quick takes the smallest two sizes of everything. Nothing is judged:
the plots show lines that should be straight and no steeper than the dashed ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import plots, report
from tests.bench.contenders import RaftKv, running
from tests.bench.goals import snapshot_indexes, take_snapshots
from tests.bench.loads import ATTEMPTS_MAX, KEYS, Loader, Measurement, Workload, fill
from tests.bench.ports import Ports
from tests.bench.startup import keep_bytecode, time_restart

KEY_COUNTS = (1_000, 10_000, 100_000, 1_000_000)
VALUE_SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
CLIENT_COUNTS = (1, 10, 100, 1_000)
DEPTHS = (1, 4, 16, 64, 256)
NODE_COUNTS = (1, 3, 5, 7)
LOG_WRITES = (1_000, 10_000, 100_000, 300_000)
# All values of a run together, so that nothing is pushed out of memory.
VALUES_BYTES_MAX = 64 * 1024 * 1024
# No snapshot shortens the log while its length is measured.
LONG_LOG = ("limits.snapshot_log_bytes=1073741824",)

Point = tuple[float, float]
Series = dict[str, Any]


class Part:
    """One thing that grows: a cluster of its own, and the lines it gives."""

    def __init__(self, directory: Path, ports: Ports, seconds: float, count: int | None) -> None:
        self.directory = directory
        self.ports = ports
        self.loader = Loader(seconds)
        self.count = count
        self.failures: list[str] = []

    def sizes(self, all_sizes: Sequence[int]) -> Sequence[int]:
        """Return the sizes to measure, from the smallest."""
        return all_sizes[: self.count]

    def load(self, ours: RaftKv, workload: Workload) -> Measurement | None:
        """Load by `raftkv bench`, which keeps up with every size; None where it failed."""
        for _ in range(ATTEMPTS_MAX):
            try:
                measured = self.loader.of_bench(ours, workload, 1)
            except RuntimeError as error:
                self.failures.append(f"{workload.name}: {error}"[:400])
                print(self.failures[-1], file=sys.stderr, flush=True)
                continue
            print(f"{workload.name}: {measured.rate:,.0f}/s", file=sys.stderr, flush=True)
            return measured
        return None


def series(title: str, across: str, up: str, lines: dict[str, list[Point]],
           *, linear: bool = False) -> Series:  # fmt: skip
    return {"title": title, "across": across, "up": up, "lines": lines, "linear": linear}


def time_snapshot(ours: RaftKv) -> float:
    """Return the seconds until every node has a new snapshot."""
    # Something new, or there is nothing to take.
    fill(ours, 1)
    before = snapshot_indexes(ours.cluster)
    begin_s = time.perf_counter()
    take_snapshots(ours.cluster)

    def taken() -> bool:
        return all(b > a for a, b in zip(before, snapshot_indexes(ours.cluster), strict=True))

    ours.cluster.wait_until(taken, "a snapshot of every node", 300)
    return time.perf_counter() - begin_s


def grow_keys(part: Part) -> list[Series]:
    """Speed, memory, snapshot and restart against the number of keys."""
    ours = RaftKv(3)
    sets: list[Point] = []
    gets: list[Point] = []
    memory: list[Point] = []
    snapshots: list[Point] = []
    restarts: list[Point] = []
    with running([ours], part.directory, part.ports):
        nodes = ours.cluster.nodes
        time.sleep(1)
        empty = [node.memory_bytes() for node in nodes]
        for keys in part.sizes(KEY_COUNTS):
            fill(ours, keys)
            over = max(
                node.memory_bytes() - before for node, before in zip(nodes, empty, strict=True)
            )
            memory.append((keys, max(over, 1) / keys))
            for kind, line in (("set", sets), ("get", gets)):
                workload = Workload(name=f"{kind}, {keys:,} keys", kind=kind, keys=keys)
                if measured := part.load(ours, workload):
                    line.append((keys, measured.rate))
            snapshots.append((keys, time_snapshot(ours)))
            node = ours.cluster.followers()[0]
            restarts.append((keys, time_restart(node)))
            ours.cluster.wait_until_caught_up(node)
            # Its memory begins anew.
            empty[nodes.index(node)] = node.memory_bytes()
    return [
        series("Throughput by keys", "keys", "requests a second", {"SET": sets, "GET": gets}),
        series("Memory of the largest node, a key", "keys", "bytes a key", {"node": memory}),
        series("Snapshot of every node", "keys", "seconds", {"snapshot": snapshots}, linear=True),
        series("Restart to the first read", "keys", "seconds", {"restart": restarts}, linear=True),
    ]


def grow_values(part: Part) -> list[Series]:
    """Throughput in bytes against the size of a value."""
    ours = RaftKv(3)
    lines: dict[str, list[Point]] = {"SET": [], "GET": []}
    with running([ours], part.directory, part.ports):
        for size in part.sizes(VALUE_SIZES):
            keys = max(10, min(10_000, VALUES_BYTES_MAX // size))
            fill_big(ours, keys, size)
            for kind in ("set", "get"):
                workload = Workload(
                    name=f"{kind} of {size:,} B", kind=kind, keys=keys, value_bytes=size, clients=10
                )
                if measured := part.load(ours, workload):
                    lines[kind.upper()].append((size, measured.rate * size / 1e6))
    return [series("Data by size of value, 10 clients", "bytes a value", "MB a second", lines)]


def fill_big(ours: RaftKv, keys: int, size: int) -> None:
    """Write every key once with few bytes in flight."""
    Loader(600).of_bench(
        ours, Workload(name="fill", keys=keys, value_bytes=size, clients=4), 0, "--in-order",
        "--requests", str(keys),
    )  # fmt: skip


def grow_clients(part: Part) -> list[Series]:
    """Throughput and p99 against the number of connections."""
    ours = RaftKv(3)
    rates: dict[str, list[Point]] = {"SET": [], "GET": []}
    slow: dict[str, list[Point]] = {"SET": [], "GET": []}
    with running([ours], part.directory, part.ports):
        fill(ours, KEYS)
        for clients in part.sizes(CLIENT_COUNTS):
            for kind in ("set", "get"):
                workload = Workload(name=f"{kind}, {clients} clients", kind=kind, clients=clients)
                if measured := part.load(ours, workload):
                    rates[kind.upper()].append((clients, measured.rate))
                    slow[kind.upper()].append((clients, measured.p99_ms))
    return [
        series("Throughput by clients", "connections", "requests a second", rates),
        series("p99 by clients", "connections", "ms", slow),
    ]


def grow_depth(part: Part) -> list[Series]:
    """Throughput against the depth of pipelines."""
    ours = RaftKv(3)
    rates: dict[str, list[Point]] = {"SET": [], "GET": []}
    with running([ours], part.directory, part.ports):
        fill(ours, KEYS)
        for depth in part.sizes(DEPTHS):
            for kind in ("set", "get"):
                workload = Workload(name=f"{kind}, pipeline {depth}", kind=kind, pipeline=depth)
                if measured := part.load(ours, workload):
                    rates[kind.upper()].append((depth, measured.rate))
    return [series("Throughput by pipeline, 50 clients", "pipeline", "requests a second", rates)]


def grow_nodes(part: Part) -> list[Series]:
    """Throughput against the number of nodes."""
    rates: dict[str, list[Point]] = {"SET": [], "SET, pipeline 16": [], "GET": []}
    for nodes in part.sizes(NODE_COUNTS):
        ours = RaftKv(nodes)
        with running([ours], part.directory, part.ports):
            fill(ours, KEYS if part.count is None else 1_000)
            for name, kind, depth in (
                ("SET", "set", 1), ("SET, pipeline 16", "set", 16), ("GET", "get", 1),
            ):  # fmt: skip
                workload = Workload(name=f"{name}, {nodes} nodes", kind=kind, pipeline=depth)
                if measured := part.load(ours, workload):
                    rates[name].append((nodes, measured.rate))
    return [series("Throughput by nodes, 50 clients", "nodes", "requests a second", rates)]


def grow_log(part: Part) -> list[Series]:
    """Restart against the writes in the log behind the snapshot, the keys being few."""
    ours = RaftKv(3, LONG_LOG)
    restarts: list[Point] = []
    with running([ours], part.directory, part.ports):
        written = 0
        for writes in part.sizes(LOG_WRITES):
            Loader(600).of_bench(
                ours, Workload(name="fill", keys=1_000, clients=1, pipeline=16), 0,
                "--requests", str(writes - written),
            )  # fmt: skip
            written = writes
            node = ours.cluster.followers()[0]
            fill(ours, 1_000)
            restarts.append((writes, time_restart(node)))
            ours.cluster.wait_until_caught_up(node)
    return [series("Restart by length of the log", "writes in the log", "seconds",
                   {"restart": restarts}, linear=True)]  # fmt: skip


PARTS: dict[str, Callable[[Part], list[Series]]] = {
    "keys": grow_keys,
    "values": grow_values,
    "clients": grow_clients,
    "pipeline": grow_depth,
    "nodes": grow_nodes,
    "log": grow_log,
}


def make_page(facts: dict[str, Any]) -> str:
    """Return the Markdown page."""
    lines = ["# Growth\n", report.machine_line(facts["machine"]) + "\n"]
    for one in facts["series"]:
        places = sorted({point[0] for points in one["lines"].values() for point in points})
        rows = [
            [f"{place:,}", *[
                report.number(dict(points).get(place), 2) for points in one["lines"].values()
            ]]
            for place in places
        ]  # fmt: skip
        columns = [one["across"], *[f"{label}, {one['up']}" for label in one["lines"]]]
        lines += [f"## {one['title']}\n", report.table(columns, rows)]
    if facts["failures"]:
        lines += ["## Failed turns\n", *[f"* {text}" for text in facts["failures"]], ""]
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Measure and write."""
    options.out.mkdir(parents=True, exist_ok=True)
    found: list[Series] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name:
        facts: dict[str, Any] = {"machine": report.machine(Path(name))}
        ports = Ports()
        keep_bytecode(Path(name))
        for part in options.only:
            print(f"== {part}", file=sys.stderr, flush=True)
            count = 2 if options.quick else None
            made = Part(Path(name) / part, ports, options.seconds, count)
            found += PARTS[part](made)
            failures += made.failures
    facts |= {"series": found, "failures": failures}
    report.save(options.out, "growth", facts, make_page(facts))
    plots.plot_growth(found, options.out / "growth.png")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...")
    parser.add_argument("--seconds", type=float, default=None, help="a turn; default 2, or 0.5")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.5 if options.quick else 2.0)
    options.only = options.only.split(",")
    unknown = [part for part in options.only if part not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}")
    run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Flame graphs of a leader and of a follower under load.

    python -m tests.bench.profiles --out DIR [--seconds 8] [--only set,get-16,...]

Starts a cluster of three nodes with 100,000 keys, loads it by redis-benchmark, and lets
py-spy look at the leader, and then at a follower, 250 times a second while each works. A
follower is left out where only the leader has work. Writes an SVG for each to DIR: every
box is a function, as wide as its share of the samples; a browser shows names and shares,
and lets one zoom. Only samples in which a thread has the interpreter count, so that idle
threads do not; the loop's own system calls hold it, a sync lets go of it.

Needs py-spy (extra `bench`) and redis-benchmark; on Linux mostly root, too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.bench.contenders import RaftKv, running
from tests.bench.loads import Loader, Workload, fill
from tests.bench.ports import Ports

SAMPLES_A_SECOND = 250
# The load begins before the profile, and ends behind it.
MARGIN_S = 1.5
WORKLOADS = {
    "set": Workload(name="SET, 50 clients"),
    "set-16": Workload(name="SET, 50 clients, pipeline 16", pipeline=16),
    "get": Workload(name="GET, 50 clients", kind="get"),
    "get-16": Workload(name="GET, 50 clients, pipeline 16", kind="get", pipeline=16),
    "set-1": Workload(name="SET, 1 client", clients=1),
}


def _program(name: str) -> str:
    """Return where a program is: beside this Python, or on the path."""
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return shutil.which(name, path=beside) or ""


def record(pid: int, title: str, seconds: float, path: Path) -> None:
    """Let py-spy look at a process and draw what it saw.

    Raises:
        RuntimeError: It cannot, with its reason.
    """
    done = subprocess.run(
        [_program("py-spy"), "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))),
         "--gil", "--rate", str(SAMPLES_A_SECOND), "--format", "flamegraph", "--output", str(path)],
        capture_output=True, text=True, timeout=seconds + 60, check=False,
    )  # fmt: skip
    if done.returncode != 0 or not path.exists():
        raise RuntimeError(f"py-spy: {(done.stderr or done.stdout).strip()[-400:]}")
    drawing = path.read_text(encoding="utf-8")
    path.write_text(cleaned(drawing, title), encoding="utf-8")


def cleaned(drawing: str, title: str) -> str:
    """Give a drawing its title, and take out where this machine keeps its files."""
    drawing = re.sub(
        r'(<text id="title"[^>]*>)[^<]*', lambda found: found.group(1) + title, drawing
    )
    return re.sub(r"\((?:/[^/:)<]+)+/((?:raftkv|[^/:)<]+)/[^/:)<]+)", r"(\1", drawing)


def profile(ours: RaftKv, key: str, part: str, seconds: float, path: Path) -> None:
    """Load the cluster and look at one of its processes meanwhile."""
    workload = WORKLOADS[key]
    pid = next(pid for name, pid in ours.processes().items() if name.startswith(part))
    loader = Loader(seconds + 2 * MARGIN_S)
    failures: list[BaseException] = []

    def look() -> None:
        try:
            record(pid, f"{workload.name}: {part}", seconds, path)
        except Exception as error:
            failures.append(error)

    # Twice: the first turn only finds out how many requests fill the time.
    loader.measure(ours, workload, 0)
    timer = threading.Timer(MARGIN_S, look)
    timer.start()
    try:
        loader.measure(ours, workload, 1)
    finally:
        timer.join()
    if failures:
        raise failures[0]
    print(f"{workload.name}, {part}: {path}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each profile")
    parser.add_argument("--only", default=",".join(WORKLOADS), metavar="NAME,...")
    parser.add_argument("--keys", type=int, default=100_000)
    options = parser.parse_args()
    chosen = options.only.split(",")
    for key in chosen:
        if key not in WORKLOADS:
            parser.error(f"no workload {key}: {', '.join(WORKLOADS)}")
    for program in ("py-spy", "redis-benchmark"):
        if not _program(program):
            print(f"not installed: {program}", file=sys.stderr)
            return 1
    options.out.mkdir(parents=True, exist_ok=True)
    ours = RaftKv(3)
    with (
        tempfile.TemporaryDirectory(prefix="data-", dir=options.out) as name,
        running([ours], Path(name), Ports()),
    ):
        fill(ours, options.keys)
        for key in chosen:
            parts = ("leader", "follower") if WORKLOADS[key].kind == "set" else ("leader",)
            for part in parts:
                profile(ours, key, part, options.seconds, options.out / f"{key}-{part}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())

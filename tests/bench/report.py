"""What the benchmarks write: one JSON file, one Markdown page, and where they were run.

Owns medians and spreads. Every claim is a ratio of two contenders in the same round,
since the machine is different every minute: `ratio` gives the median of the ratios of
the rounds, with the smallest and the largest.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.loads import Measurement

FAST_FILE_SYSTEMS = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of some rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 2) -> str:
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


def of_rounds(
    measurements: Sequence[Measurement], contender: str, workload: str
) -> dict[int, Measurement]:
    """Return the turns of one contender by round."""
    return {
        one.round: one
        for one in measurements
        if (one.contender, one.workload) == (contender, workload)
    }


def ratio(
    measurements: Sequence[Measurement], workload: str, ours: str, theirs: str
) -> Spread | None:
    """Return our rate as a multiple of theirs, round by round; None without common rounds."""
    left = of_rounds(measurements, ours, workload)
    right = of_rounds(measurements, theirs, workload)
    common = sorted(left.keys() & right.keys())
    if not common:
        return None
    return Spread.of([left[number].rate / right[number].rate for number in common])


def median_of(measurements: Sequence[Measurement], name: str) -> float | None:
    """Return the median of one number over the rounds; None where it is unknown."""
    known = [value for one in measurements if (value := getattr(one, name)) is not None]
    return statistics.median(known) if known else None


# ------------------------------------------------------------------ the machine


def machine(directory: Path) -> dict[str, Any]:
    """Return where and with what a run was made."""
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processors": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file_system": file_system(directory),
        "load_average": os.getloadavg()[0],
        "commit": _first_line("git", "rev-parse", "--short", "HEAD"),
        "redis": _first_line("redis-server", "--version"),
        "etcd": _first_line("etcd", "--version"),
        "go": _first_line("go", "version"),
        "packages": {
            name: metadata.version(name) for name in ("pysyncobj", "uvloop", "hiredis", "msgspec")
        },
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout or done.stderr).splitlines()[0] if done.returncode == 0 else None


def file_system(directory: Path) -> str:
    """Return the kind of file system that holds a directory."""
    found = ("", "unknown")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split(" ")
        if directory.resolve().is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, kind)
    return found[1]


def machine_line(facts: dict[str, Any]) -> str:
    """Return one sentence about the machine, for the head of a page."""
    warning = (
        " **The data is in memory: nothing here says what a sync costs.**"
        if facts["file_system"] in FAST_FILE_SYSTEMS else ""
    )  # fmt: skip
    return (
        f"{facts['when']}, commit {facts['commit']}. {facts['processors']} processors "
        f"({facts['processor']}) shared by servers and load, {facts['system']}, "
        f"{facts['file_system']}, Python {facts['python']}; load average before: "
        f"{facts['load_average']:.1f}.{warning}"
    )


# -------------------------------------------------------------------- the files


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number for a table; a dash for an unknown one."""
    return "-" if value is None else f"{value:,.{digits}f}"


def save(directory: Path, name: str, facts: dict[str, Any], page: str) -> None:
    """Write `name`.json and `name`.md, and print the page."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (directory / f"{name}.json").write_text(text, encoding="utf-8")
    (directory / f"{name}.md").write_text(page, encoding="utf-8")
    print(page)
    print(f"written: {directory}/{name}.json, {name}.md", flush=True)

"""The scripts that judge a history, each for a short time; run them as scripts for longer.

They run in processes of their own, because they move into namespaces of their own.
Where these cannot be made the tests are skipped, and say why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import failover, world
from tests.chaos.load import PLANTS

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
DIRECTORY = Path(__file__).resolve().parent
LIMIT_S = 180


@pytest.fixture(autouse=True)
def _network() -> None:
    problem = world.why_impossible()
    if problem:
        pytest.skip(problem)


def run(name: str, tmp_path: Path, *options: str) -> tuple[int, str]:
    """Run a script; returns its exit code and its last line."""
    command = [sys.executable, str(DIRECTORY / f"{name}.py"), "--dir", str(tmp_path), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT_S, check=False,
        env={key: value for key, value in os.environ.items() if not key.startswith("RAFTKV_")},
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    return done.returncode, lines[-1] if lines else done.stderr


@pytest.mark.parametrize(
    ("name", "duration_s"),
    [
        ("partitions", 9),
        ("pauses", 6),
        ("disk_faults", 9),
        ("power_cut", 4),
        ("clock_jumps", 4),
        ("floods", 3),
        ("restarts", 8),
        ("membership", 8),
        ("snapshots", 8),
    ],
)
def test_promises_hold(name: str, duration_s: int, tmp_path: Path) -> None:
    code, last = run(name, tmp_path, "--duration", str(duration_s))
    assert code == 0, last
    assert last.startswith(f"ok {name}")


def test_all_at_once(tmp_path: Path) -> None:
    report = tmp_path / "report"
    # The machine may be busy: how much is judged when the script runs for long.
    thresholds = "--progress-min 0.1 --acknowledged-min 100"
    options = f"--duration 15 --report {report} {thresholds}".split()
    code, last = run("mixed", tmp_path, *options)
    assert code == 0, last
    figures = json.loads((report / "figures.json").read_text())
    assert figures["acknowledged"] > 100
    assert "<svg" in (report / "course.html").read_text()
    assert sum(figures["strikes_in_flight"].values()) > 0


@pytest.mark.parametrize("plant", PLANTS)
def test_a_lie_is_found(plant: str, tmp_path: Path) -> None:
    report = tmp_path / "report"
    options = f"--duration 3 --nodes 3 --only bridge --plant {plant} --report {report}".split()
    code, last = run("mixed", tmp_path, *options)
    assert code == 1, last
    assert "the history is illegal" in last
    assert "<svg" in (report / "timeline.html").read_text()


def test_failover(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The machine may be busy: the gaps are measured here, and judged when asked for.
    options = f"--dir {tmp_path} --kills 3 --median-max 30 --gap-max 30"
    code = failover.main(options.split())
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert code == 0, last
    assert "3 times kill -9" in last


def test_a_power_cut_finds_what_a_weaker_sync_loses(tmp_path: Path) -> None:
    """Acknowledged before it is synced, a write is lost: the history or a node says so."""
    weaker = ("durability.sync=interval", "durability.sync_interval_ms=150")
    settings = [word for setting in weaker for word in ("--set", setting)]
    options = ["--duration", "10", "--only", "power-cut-all", "--clients", "5", "--seed", "5"]
    code, last = run("power_cut", tmp_path, *options, "--think-ms", "40", *settings)
    assert code == 1, last
    assert "the history is illegal" in last or "which nobody caused" in last

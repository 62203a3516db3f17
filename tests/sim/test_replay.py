"""One seed is one run: in any process, on any Python, whatever salt it gives its hashes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.sim.cluster import Cluster

ROOT = Path(__file__).parents[2]
# The newest first, so that what is left out for want of time is the oldest.
VERSIONS = tuple(f"3.{minor}" for minor in range(19, 10, -1))
SEEDS = (1, 4)
PROGRAM = """
import sys
from tests.sim.run import run_seed
for seed in map(int, sys.argv[1:]):
    report = run_seed(seed, duration_ms=8000)
    print(report.trace_hash, report.steps, report.operations, report.crashes)
"""


def traces(python: str, salt: str) -> str:
    """Run the seeds in a process of their own; each has to do something."""
    result = subprocess.run(
        [python, "-c", PROGRAM, *map(str, SEEDS)],
        env=os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert all(int(line.split()[2]) > 0 for line in result.stdout.splitlines())
    return result.stdout


@pytest.mark.slow
def test_a_seed_gives_one_trace_whatever_the_salt() -> None:
    assert len({traces(sys.executable, salt) for salt in ("0", "1", "4711")}) == 1


def other_interpreters() -> dict[str, str]:
    """Return the `python3.1x` on PATH that run, by version, without this one's."""
    found = {}
    for version in VERSIONS:
        path = shutil.which(f"python{version}")
        if path is None or version == f"{sys.version_info[0]}.{sys.version_info[1]}":
            continue
        # pyenv puts stubs on PATH; the interpreter behind one may not be the chosen one.
        behind = sorted(Path(path).parents[1].glob(f"versions/{version}*/bin/python{version}"))
        for candidate in (path, *map(str, behind)):
            asked = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
            if asked.returncode == 0:
                found[version] = candidate
                break
    return found


def equipped(python: str, directory: Path) -> str:
    """Return an interpreter of that version which has what raftkv needs.

    Raises:
        OSError: It cannot be had, for the reason given.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    steps = (
        [python, "-m", "venv", str(directory)],
        [str(directory / "bin/python"), "-m", "pip", "install", "--quiet",
         "--disable-pip-version-check", *project["dependencies"]],
    )  # fmt: skip
    for step in steps:
        result = subprocess.run(step, capture_output=True, text=True, check=False, timeout=180)
        if result.returncode != 0:
            raise OSError((result.stderr or result.stdout).strip().splitlines()[-1])
    return str(directory / "bin/python")


@pytest.mark.slow
def test_a_seed_gives_one_trace_on_every_python(tmp_path: Path) -> None:
    """On every `python3.1x` of PATH; one of them alone would show nothing."""
    here = traces(sys.executable, "0")
    compared, left_out = [], []
    for version, python in other_interpreters().items():
        try:
            environment = equipped(python, tmp_path / version)
        except (OSError, subprocess.TimeoutExpired) as error:
            left_out.append(f"python{version}: {error}")
            continue
        assert traces(environment, "7") == here, f"python{version} runs another run"
        compared.append(version)
    if left_out or not compared:
        pytest.skip(
            f"compared with {', '.join(compared) or 'no other interpreter'}"
            f"; left out: {'; '.join(left_out) or 'nothing'}"
        )


def test_the_trace_tells_messages_apart() -> None:
    """It covers what is sent and written, not only when something happened."""

    def first_second(payload: bytes) -> int:
        cluster = Cluster(1)
        cluster.start()
        cluster.run(1000)
        cluster.world.note(payload)
        return cluster.world.trace_hash

    assert first_second(b"one") == first_second(b"one")
    assert first_second(b"one") != first_second(b"two")


def test_two_seeds_are_two_runs() -> None:
    hashes = set()
    for seed in (1, 2):
        cluster = Cluster(seed)
        cluster.start()
        cluster.run(500)
        hashes.add(cluster.world.trace_hash)
    assert len(hashes) == 2

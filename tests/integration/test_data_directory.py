"""Data directories that cannot be: a node says so in a line and ends, before it listens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import raftkv
from raftkv.cluster_files import write_cluster

pytestmark = pytest.mark.slow

DISK_FAILED = 6


@pytest.mark.parametrize("blocked", ["data/n1", "data/n1/wal", "data/n1/identity", "data/n1/lock"])
def test_something_else_in_the_place_of_a_file_or_directory_is_6(
    tmp_path: Path, blocked: str
) -> None:
    files = write_cluster(tmp_path, base_port=26701, data_directory=str(tmp_path / "data"))
    place = tmp_path / blocked
    place.parent.mkdir(parents=True, exist_ok=True)
    if blocked.endswith(("identity", "lock")):
        place.mkdir()
    else:
        place.write_bytes(b"")
    ended = subprocess.run(
        [sys.executable, "-m", "raftkv", "start", "--config", str(files.configs[0])],
        cwd=Path(raftkv.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == DISK_FAILED, ended.stderr
    assert str(place) in ended.stderr
    assert "Traceback" not in ended.stderr

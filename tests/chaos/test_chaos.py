"""The chaos scripts, each for a short time; run them as scripts for longer.

`python -m pytest -m chaos` runs only these. What each does, and its options:
`python tests/chaos/<name>.py --help`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import bit_rot, exactly_once, kill_storm, locks, snapshot_catchup, watch_marathon

pytestmark = [pytest.mark.chaos, pytest.mark.slow]


def assert_ok(code: int, output: str) -> None:
    last = output.strip().splitlines()[-1]
    assert code == 0, last
    assert last.startswith("ok ")


def test_kill_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = kill_storm.main(f"--dir {tmp_path} --duration 10 --rounds 4".split())
    assert_ok(code, capsys.readouterr().out)


def test_kill_storm_of_five_nodes_that_take_snapshots(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = kill_storm.main(
        f"--dir {tmp_path} --duration 8 --rounds 3 --nodes 5 --small-log --clients 4".split()
    )
    assert_ok(code, capsys.readouterr().out)


def test_bit_rot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = bit_rot.main(
        f"--dir {tmp_path} --flips 6 --snapshot-flips 2 --identity-flips 0 --repairs 1".split()
    )
    assert_ok(code, capsys.readouterr().out)


def test_exactly_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # So few calls that none may raise.
    code = exactly_once.main(f"--dir {tmp_path} --duration 8 --calls 500 --kills 3".split())
    assert_ok(code, capsys.readouterr().out)


def test_snapshot_catchup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = snapshot_catchup.main(f"--dir {tmp_path} --duration 8".split())
    assert_ok(code, capsys.readouterr().out)


def test_watch_marathon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = watch_marathon.main(f"--dir {tmp_path} --events 6000 --kills 2".split())
    assert_ok(code, capsys.readouterr().out)


def test_locks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = locks.main(f"--dir {tmp_path} --duration 12 --seed 5".split())
    assert_ok(code, capsys.readouterr().out)


def test_locks_finds_a_holder_that_believes_too_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = locks.main(f"--dir {tmp_path} --duration 8 --seed 5 --plant belief".split())
    assert code == 1
    assert "two believe to hold" in capsys.readouterr().out

"""`raftkv lab` as a user runs it: what it says, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv.cli.processes import load_record

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120


class Lab:
    """A running lab and its events."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory),
            # Neither an address nor a setting of a real cluster may matter.
            "RAFTKV_NODES": "127.0.0.1:1", "RAFTKV_NODE_DATA_DIR": str(directory / "precious"),
        }  # fmt: skip
        self.directory = directory
        self.errors = (directory / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "raftkv", "lab", "--json", *arguments],
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        self._watchdog = threading.Timer(LIMIT_S, self.process.kill)
        self._watchdog.start()

    def events(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def wait_for(self, event: str) -> None:
        assert any(one["event"] == event for one in self.events()), f"no {event}"

    def end(self) -> tuple[int, list[dict[str, Any]]]:
        """Wait for the end; return the exit code and the events that were left."""
        left = list(self.events())
        return self.process.wait(), left

    @property
    def directories(self) -> list[Path]:
        return list(self.directory.glob("raftkv-lab-*"))

    def records(self) -> list[Path]:
        return [path for one in self.directories for path in one.glob("n*.pid")]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._watchdog.cancel()
        self.errors.close()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for path in self.records():
            record = load_record(path)
            if record is not None:
                record.kill()


@contextlib.contextmanager
def a_lab(directory: Path, *arguments: str) -> Iterator[Lab]:
    lab = Lab(directory, *arguments)
    try:
        yield lab
    finally:
        lab.close()


def test_a_leader_is_killed_and_every_promise_is_kept(tmp_path: Path) -> None:
    with a_lab(tmp_path, "kill-leader", "partition", "--hold", "0.5", "--seed", "1") as lab:
        code, events = lab.end()
        assert code == 0, (events[-5:], (tmp_path / "errors.txt").read_text())
        kinds = [one["event"] for one in events]
        assert kinds.count("leader") >= 3
        results = [one for one in events if one["event"] == "result"]
        assert [one["scenario"] for one in results] == ["kill-leader", "partition"]
        for one in results:
            assert one["acknowledged"] > 0
            assert one["terms"][1] > one["terms"][0]
        promises = [one for one in events if one["event"] == "promise"]
        assert len(promises) == 4
        assert all(one["kept"] for one in promises)
        assert events[-1]["ok"] is True
        assert not lab.directories
        assert not (tmp_path / "precious").exists()


def test_a_node_that_ends_by_itself_fails_the_lab_and_keeps_its_data(tmp_path: Path) -> None:
    with a_lab(tmp_path, "slow-links", "--hold", "30") as lab:
        lab.wait_for("scenario")
        record = load_record(lab.records()[0])
        assert record is not None
        record.kill()
        code, events = lab.end()
        assert code == 1
        assert "ended by itself with exit code -9" in events[-1]["text"]
        assert str(lab.directories[0]) in events[-1]["text"]
        assert all(not load_record(path).is_alive() for path in lab.records())  # type: ignore[union-attr]


def test_ctrl_c_heals_and_judges(tmp_path: Path) -> None:
    with a_lab(tmp_path, "partition", "--hold", "60") as lab:
        lab.wait_for("flow")
        lab.process.send_signal(signal.SIGINT)
        code, events = lab.end()
        assert code == 0, events[-5:]
        assert len([one for one in events if one["event"] == "promise"]) == 4
        assert not lab.directories


def test_sigterm_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with a_lab(tmp_path, "slow-links", "--hold", "60") as lab:
        lab.wait_for("load")
        records = [load_record(path) for path in lab.records()]
        lab.process.terminate()
        code, _ = lab.end()
        assert code == 1
        assert not lab.directories
        assert not any(one.is_alive() for one in records if one is not None)
        assert (tmp_path / "errors.txt").read_text() == ""


def test_what_a_killed_lab_leaves_the_next_one_cleans_up(tmp_path: Path) -> None:
    with a_lab(tmp_path, "slow-links", "--hold", "60") as lab:
        lab.wait_for("start")
        lab.wait_for("start")
        records = [load_record(path) for path in lab.records()]
        (left,) = lab.directories
        lab.process.kill()
        lab.process.wait()
        assert any(one.is_alive() for one in records if one is not None)
        with a_lab(tmp_path, "flood") as following:
            following.wait_for("start")
            assert not left.exists()
            assert not any(one.is_alive() for one in records if one is not None)
            following.process.terminate()
            following.end()

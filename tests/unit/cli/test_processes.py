from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftkv.cli import processes
from raftkv.cli.processes import ProcessRecord, identity_of, load_record, save_record


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_a_process_is_recognised(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    record = ProcessRecord(child.pid, identity_of(child.pid))
    save_record(tmp_path / "n1.pid", record)
    assert load_record(tmp_path / "n1.pid") == record
    assert record.is_alive()
    assert record.terminate()
    child.wait(10)
    assert not record.is_alive()
    assert not record.terminate()


def test_a_stranger_with_the_same_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    stranger = ProcessRecord(child.pid, identity_of(os.getpid()))
    assert not stranger.is_alive()
    assert not stranger.terminate()
    assert not stranger.kill()
    assert child.poll() is None


def test_a_process_that_ended_but_was_not_reaped_is_dead(child: subprocess.Popen[bytes]) -> None:
    record = ProcessRecord(child.pid, identity_of(child.pid))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not record.is_alive()


def test_without_proc_the_start_time_of_ps_is_taken(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not Path("/bin/ps").exists():
        pytest.skip("ps is not installed")
    monkeypatch.setattr(processes, "_BOOT_ID", tmp_path / "none")
    identity = identity_of(child.pid)
    assert identity
    assert identity == identity_of(child.pid)
    assert identity_of(2**22 + 1) == ""


@pytest.mark.parametrize("text", ["", "12", "{}", '{"pid": "x", "identity": ""}', "[1]"])
def test_a_pid_file_that_makes_no_sense_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "n1.pid"
    path.write_text(text)
    assert load_record(path) is None
    assert load_record(tmp_path / "none.pid") is None


def test_a_record_without_identity_is_never_alive() -> None:
    assert not ProcessRecord(os.getpid(), "").is_alive()

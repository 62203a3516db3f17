"""`raftkv lease` and `raftkv lock`, against the real front-end and store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftkv import Client
from raftkv.cli import main
from raftkv.client.recipes.sync_recipes import Lock
from tests.unit.server.serving import serving


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as given:
        yield given


def run(address: str, *words: str) -> Result:
    return CliRunner().invoke(main.command, words, env={"RAFTKV_NODES": address})


def test_a_lease_by_hand(address: str) -> None:
    assert run(address, "lease", "grant", "60000", "--id", "7").output == "7\n"
    assert run(address, "lease", "keepalive", "7").output == "60000\n"
    assert run(address, "exec", "KV", "SET", "k", "v", "LEASE", "7").exit_code == 0
    facts = json.loads(run(address, "lease", "ttl", "7", "--keys", "--json").output)
    assert (facts["id"], facts["keys"]) == (7, ["k"])
    assert run(address, "lease", "list").output == "7\n"
    assert run(address, "lease", "revoke", "7").output == "1\n"
    assert run(address, "lease", "list", "--json").output == "[]\n"
    refused = run(address, "lease", "revoke", "7")
    assert refused.exit_code == 1
    assert "NOLEASE" in refused.output
    assert run(address, "lease", "grant", "5").exit_code == 1


def test_a_command_runs_under_a_lock(address: str) -> None:
    program = ("sh", "-c", "test $RAFTKV_LOCK_TOKEN -gt 0 && exit 3")
    assert run(address, "lock", "l", "--", *program).exit_code == 3
    assert run(address, "lock", "l", "--", "true").exit_code == 0
    assert run(address, "exists", "l").output == "0\n"


def test_a_lock_that_others_hold_is_waited_for(address: str) -> None:
    with Client(address) as client, client.lock("l"):
        refused = run(address, "lock", "l", "--wait", "0", "--", "true")
    assert refused.exit_code == 1
    assert "held by others" in refused.output


def test_a_command_whose_lock_is_lost_is_ended(address: str) -> None:
    raftkv = f"{sys.executable} -m raftkv lease"
    steal = f"{raftkv} revoke $({raftkv} list -n {address}) -n {address}; exec sleep 60"
    lost = run(address, "lock", "l", "--ttl", "0.5", "--", "sh", "-c", steal)
    assert lost.exit_code == 5
    assert "lost" in lost.output


@contextlib.contextmanager
def locking(
    address: str, script: str, *, before: str = ""
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run `raftkv lock l` with a script; yield its process, and the number of the script's."""
    # Under nohup they would be ignored in there, too; what is handled here is not.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    words = [sys.executable, "-m", "raftkv", "lock", "l", "-n", address, "--", "sh", "-c", script]
    with subprocess.Popen(
        ["sh", "-c", f'{before} exec "$@"', "sh", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_command_and_releases_the_lock(
    address: str, number: signal.Signals
) -> None:
    with locking(address, "echo $$; exec sleep 60") as (process, command):
        assert run(address, "exists", "l").output == "1\n"
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(command, 0)
    assert run(address, "exists", "l").output == "0\n"


@pytest.mark.slow
def test_a_command_that_heeds_no_signal_is_killed(address: str) -> None:
    with locking(address, "trap '' TERM; echo $$; exec sleep 60") as (process, command):
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(command, 0)
    assert run(address, "exists", "l").output == "0\n"


def test_a_signal_that_is_ignored_ends_nothing(address: str) -> None:
    with locking(address, "echo $$; exec cat", before="trap '' HUP;") as (process, _):
        process.send_signal(signal.SIGHUP)
        assert process.communicate("still here", timeout=30)[0] == "still here"
        assert process.returncode == 0


def test_a_signal_ends_the_waiting_for_a_lock(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_until_a_signal_comes(*_: object, **__: object) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return False

    monkeypatch.setattr(Lock, "acquire", wait_until_a_signal_comes)
    before = signal.getsignal(signal.SIGTERM)
    assert run(address, "lock", "l", "--", "true").exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_command_that_a_signal_ended_gives_its_number_as_in_shells(address: str) -> None:
    killed = run(address, "lock", "l", "--", "sh", "-c", "kill -9 $$")
    assert killed.exit_code == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [("no-such-program", 127, "No such file"), ("not-executable", 126, "Permission denied"),
     ("of-no-format", 126, "Exec format error")],
)  # fmt: skip
def test_a_command_that_cannot_be_started_releases_the_lock(
    address: str, tmp_path: Path, program: str, code: int, reason: str
) -> None:
    (tmp_path / "not-executable").touch()
    (tmp_path / "of-no-format").touch(mode=0o755)
    path = str(tmp_path / program)
    failed = run(address, "lock", "l", "--", path)
    assert failed.exit_code == code
    assert failed.output == f"error: {path}: {failed.output.rpartition(': ')[2]}"
    assert reason in failed.output
    assert run(address, "exists", "l").output == "0\n"
    as_json = json.loads(run(address, "lock", "l", "--json", "--", path).output)
    assert reason in as_json["error"]

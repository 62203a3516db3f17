"""`raftkv lease` and `raftkv lock`, against the real front-end and store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from raftkv import Client
from raftkv.cli import main
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

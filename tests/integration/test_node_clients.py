"""ioredis and node-redis against a real cluster, through the death of its leader.

They are found where Node.js finds them, or in the directory `NODE_MODULES_OF_TESTS`:

    npm install --prefix /somewhere ioredis redis
    export NODE_MODULES_OF_TESTS=/somewhere/node_modules
    python -m pytest tests/integration/test_node_clients.py

Nothing is installed here, so where they are absent the tests are skipped by name; where
tools are required (`tests/tools.py`) their absence is a failure.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster
from tests.tools import report_absence

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("node_clients.js")
PROGRAM_LIMIT_S = 60
KILL_BEHIND = 30


@pytest.fixture(scope="module")
def running(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for name in ("ioredis", "redis"):
        require_package(node, name)
    with Cluster(tmp_path_factory.mktemp("node")) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    running.heal()
    return running


def environment(**variables: str) -> dict[str, str]:
    modules = os.environ.get("NODE_MODULES_OF_TESTS")
    return {**os.environ, **({"NODE_PATH": modules} if modules else {}), **variables}


def require_package(node: str, name: str) -> None:
    found = subprocess.run(
        [node, "-e", f"require.resolve('{name}')"], cwd=PROGRAM.parent, env=environment(),
        capture_output=True, check=False,
    )  # fmt: skip
    if found.returncode != 0:
        report_absence(f"the package {name} of Node.js")


@pytest.mark.parametrize(
    "kind", ["ioredis cluster", "ioredis sentinel", "node-redis cluster", "node-redis"]
)
def test_clients_of_node_find_the_next_leader(cluster: Cluster, node: str, kind: str) -> None:
    leader = cluster.wait_for_leader()
    addresses = cluster.addresses
    if kind == "node-redis":
        # A plain client knows one node only, which carries its requests to whoever leads.
        asked = cluster.others(leader)[0]
        asked.stop()
        asked.start("writes.on_follower=proxy")
        cluster.wait_until_converged()
        leader = cluster.wait_for_leader()
        addresses = [asked.client]
    masters = leader.call("SENTINEL", "MASTERS")
    name = dict(zip(masters[0][::2], masters[0][1::2], strict=True))[b"name"].decode()
    process = subprocess.Popen(
        [node, str(PROGRAM), kind, *addresses], env=environment(SENTINEL_NAME=name), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    watchdog = threading.Timer(PROGRAM_LIMIT_S, process.kill)
    watchdog.start()
    lines: list[str] = []
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            lines.append(line.strip())
            if lines[-1] == str(KILL_BEHIND):
                leader.kill()
        errors = process.stderr.read()
    watchdog.cancel()
    assert process.returncode == 0, (lines[-5:], errors)
    assert lines[-1] == "value 99"
    assert [line for line in lines if line.isdigit()] == [str(number) for number in range(100)]
    for one in cluster.nodes:
        if one.is_running and kind == "node-redis":
            one.stop()

"""Clients of Redis that know nothing of raftkv, through the loss of a leader under load.

All clients of one routing live through one run together; each has a test of its own that
judges what it met. Which clients there are is in python_clients.py and node_clients.js.

ioredis and node-redis are found where Node.js finds them, or in the directory
`NODE_MODULES_OF_TESTS`; valkey-py and coredis where Python finds them:

    pip install valkey coredis
    npm install --prefix /somewhere ioredis redis
    export NODE_MODULES_OF_TESTS=/somewhere/node_modules

What is absent is skipped by name; where tools are required (`tests/tools.py`) its absence
is a failure.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.failover import (
    PATIENT,
    PROXIED,
    PROXY,
    REDIRECTED,
    Run,
    finished_run,
)
from tests.tools import report_absence

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redirected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with finished_run(tmp_path_factory.mktemp("redirected"), REDIRECTED, PATIENT) as run:
        yield run


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with finished_run(tmp_path_factory.mktemp("proxied"), PROXIED, (*PATIENT, *PROXY)) as run:
        yield run


def judge(run: Run, kind: str) -> None:
    if kind not in run.diaries:
        report_absence(f"the library of {kind}")
    run.check(kind)


@pytest.mark.parametrize("kind", REDIRECTED)
def test_a_redirected_client_finds_each_new_leader_and_loses_nothing(
    redirected: Run, kind: str
) -> None:
    judge(redirected, kind)


@pytest.mark.parametrize("kind", PROXIED)
def test_a_proxied_client_is_carried_to_each_new_leader_and_loses_nothing(
    proxied: Run, kind: str
) -> None:
    judge(proxied, kind)

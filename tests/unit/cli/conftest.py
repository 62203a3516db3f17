from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftkv.cli.main import command
from tests.unit.client.fake_cluster import FakeCluster

Run = Callable[..., Result]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as fake:
        yield fake


@pytest.fixture
def run(cluster: FakeCluster) -> Run:
    """Run a command line against the fake cluster, which it finds by RAFTKV_NODES."""

    def invoke(*arguments: str, stdin: Any = None) -> Result:
        environment = {"RAFTKV_NODES": ",".join(cluster.addresses)}
        return CliRunner().invoke(
            command, list(arguments), input=stdin, env=environment, prog_name="raftkv"
        )

    return invoke

"""What tests on real processes share.

Where the tests of a module share a cluster, it has a fixture `running`, with the settings
that they need; each of them gets that as `cluster`. Beside a failure stand the logs of
the nodes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.integration.cluster import Cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        values = getattr(item, "funcargs", {}).values()
        for cluster in {id(value): value for value in values}.values():
            if isinstance(cluster, Cluster):
                for node in cluster.nodes:
                    report.sections.append((f"last lines of {node.log}", node.log_tail()))
    return report


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """Three nodes which agree, whatever the test before did to them."""
    running.heal()
    return running

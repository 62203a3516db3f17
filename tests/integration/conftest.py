"""What tests on real processes share: the logs of the nodes beside a failure."""

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

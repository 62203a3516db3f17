from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.client import drives
from tests.unit.client.fake_cluster import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as fake:
        yield fake


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Make a client of either kind; it is closed at the end."""
    closers: list[Callable[[], object]] = []
    if request.param == "sync":
        yield drives.open_sync(closers)
        for close in closers:
            close()
    else:
        with asyncio.Runner() as runner:
            yield drives.open_async(closers, runner)
            for close in closers:
                close()

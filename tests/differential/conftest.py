"""One redis-server for all comparisons, and a clean pair for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.pair import Pair
from tests.differential.redis_process import RedisConnection, running_redis


@pytest.fixture(scope="session")
def redis_connection(redis_server: str) -> Iterator[RedisConnection]:
    """A connection to a running server; skips where there is no redis-server."""
    with running_redis(redis_server) as connection:
        yield connection


@pytest.fixture
def pair(redis_connection: RedisConnection) -> Pair:
    """Redis and a store of ours, both empty."""
    redis_connection.call(b"FLUSHALL")
    return Pair(redis_connection)

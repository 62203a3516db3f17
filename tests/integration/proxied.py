"""Connections to any node that works for them: what it may not answer, it has answered."""

from __future__ import annotations

from typing import Any

import redis

from tests.integration.cluster import ClusterNode
from tests.integration.wire import Wire, split_address


def proxied(node: ClusterNode) -> Wire:
    """Connect a client that hides nothing."""
    wire = Wire(node.client)
    assert wire.call("RAFT", "ROUTING", "proxy") == b"OK"
    return wire


def proxied_redis(node: ClusterNode, *, protocol: int = 2, **settings: Any) -> redis.Redis:
    """Return a client of redis-py, with settings of its own, whose every connection is proxied."""

    def set_up(connection: redis.Connection) -> None:
        connection.on_connect()
        connection.send_command("RAFT", "ROUTING", "proxy")
        connection.read_response()

    host, port = split_address(node.client)
    return redis.Redis(host, port, protocol=protocol, redis_connect_func=set_up, **settings)

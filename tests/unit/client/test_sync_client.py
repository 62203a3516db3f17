"""What only the blocking client has to promise: threads may share it."""

from __future__ import annotations

import threading

import pytest

from raftkv.client.sync_client import Client
from raftkv.errors import ConnectFailedError, ConnectionLostError
from tests.unit.client.fake_cluster import FakeCluster


def test_threads_share_a_client(cluster: FakeCluster) -> None:
    results: list[int] = []
    with Client(cluster.addresses, connections_max=4) as client:

        def work() -> None:
            for _ in range(25):
                results.append(client.incr("n"))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert sorted(results) == list(range(1, 201))
    assert cluster.nodes[0].connections <= 4 + 8  # the first calls race for the leader


def test_waiting_for_a_connection_ends_at_the_deadline(cluster: FakeCluster) -> None:
    cluster.nodes[0].acts.append("hang")
    with Client(
        cluster.addresses[0], connections_max=1, deadline_s=5, exactly_once=False
    ) as client:

        def hold() -> None:
            with pytest.raises(ConnectionLostError):
                client.incr("n")

        holder = threading.Thread(target=hold)
        holder.start()
        assert cluster.hanging.wait(5)
        with pytest.raises(ConnectFailedError, match="free"):
            client.within(0.05).incr("n")
        cluster.released.set()
        holder.join(10)
        assert not holder.is_alive()


def test_leaving_the_block_closes_the_client(cluster: FakeCluster) -> None:
    with Client(cluster.addresses) as client:
        client.incr("n")
    with pytest.raises(ConnectFailedError):
        client.incr("n")

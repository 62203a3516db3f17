"""Read levels, tokens and sessions on real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftkv import Client, RequestError
from tests.integration.cluster import Cluster, ClusterNode
from tests.integration.wire import Wire

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("levels")) as cluster:
        yield cluster


def test_a_leased_read_sees_what_was_acknowledged(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    with Wire(leader.client) as wire, Wire(leader.client) as other:
        assert wire.call("RAFT", "READS", "lease") == b"OK"
        for number in range(200):
            assert other.call("SET", "newest", number) == b"OK"
            assert wire.call("GET", "newest") == str(number).encode()


def test_every_node_states_how_old_it_is_at_most_and_reads_within_bounds(cluster: Cluster) -> None:
    cluster.wait_until_settled()

    def known(node: ClusterNode) -> bool:
        staleness_ms = node.call("RAFT", "STALENESS")
        return isinstance(staleness_ms, int) and staleness_ms < 60_000

    for node in cluster.nodes:
        cluster.wait_until(lambda node=node: known(node), "a proof of freshness")
        with Wire(node.client) as wire:
            assert wire.call("RAFT", "READS", "bounded", 3_600_000) == b"OK"
            assert wire.call("EXISTS", "missing") == 0
            assert wire.call("RAFT", "READS") == b"bounded 3600000"


def test_a_store_grows_old_when_its_node_is_alone(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    alone, *others = cluster.followers()
    for node in (leader, *others):
        node.pause()
    try:
        with Wire(alone.client) as wire:
            assert wire.call("RAFT", "READS", "bounded", 200) == b"OK"
            cluster.wait_until(
                lambda: str(wire.call("GET", "x")).startswith("NOTAPPLIED stale "), "a refusal"
            )
    finally:
        for node in (leader, *others):
            node.resume()


def test_a_token_makes_a_write_visible_on_every_node(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    with Wire(leader.client) as writer:
        readers = [Wire(node.client) for node in cluster.nodes]
        for reader in readers:
            assert reader.call("RAFT", "READS", "stale") == b"OK"
        for number in range(50):
            assert writer.call("SET", "mine", number) == b"OK"
            token = writer.call("RAFT", "TOKEN")
            for reader in readers:
                replies = reader.pipeline([("RAFT", "AFTER", token), ("GET", "mine")])
                assert replies == [b"OK", str(number).encode()]
        for reader in readers:
            reader.close()


def test_a_follower_answers_linearizable_reads_itself(cluster: Cluster) -> None:
    leader = cluster.wait_until_settled()
    follower = cluster.followers()[0]
    with Wire(leader.client) as writer, Wire(follower.client) as reader:
        assert reader.call("RAFT", "ROUTING", "proxy") == b"OK"
        for number in range(100):
            assert writer.call("SET", "newest", number) == b"OK"
            assert reader.call("GET", "newest") == str(number).encode()
        assert reader.call("INCR", "count") == 1
        assert reader.call("GET", "count") == b"1"


def test_a_session_reads_its_own_writes_from_any_node(cluster: Cluster) -> None:
    cluster.wait_until_settled()
    with Client(cluster.addresses) as client:
        session = client.session()
        for number in range(100):
            session.set("own", str(number))
            assert session.get("own") == str(number).encode()
        assert client.reading("lease").get("own") == b"99"
        assert client.reading("bounded", bound_ms=60_000).get("own") is not None


def test_reads_of_the_client_are_never_weaker_than_asked_for(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    overrides = ("reads.level=stale",)
    with Cluster(tmp_path_factory.mktemp("weak"), overrides=overrides) as cluster:
        cluster.start()
        leader = cluster.wait_until_settled()
        with Client([node.client for node in cluster.nodes], deadline_s=3) as client:
            client.set("k", "v")
            bounded = client.reading("bounded", bound_ms=500)
            assert client.reading("linearizable").get("k") == b"v"
            followers = cluster.followers()
            for node in followers:
                node.pause()
            try:
                cluster.wait_until(
                    lambda: leader.call("RAFT", "STALENESS") > 500, "the leader has grown old"
                )
                # As the nodes are set to.
                assert client.node(leader.client).get("k") == b"v"
                for reading in (bounded, client.reading("lease"), client.reading("linearizable")):
                    with pytest.raises(RequestError):
                        reading.get("k")
            finally:
                for node in followers:
                    node.resume()

            def is_told() -> bool:
                staleness_ms, value = bounded.pipeline().staleness().get("k").execute()
                return value == b"v" and staleness_ms is not None and staleness_ms <= 500

            cluster.wait_until(is_told, "a read within the bound")

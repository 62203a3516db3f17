"""The admin port of real nodes: probes, metrics and status tell what is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.cluster import Cluster
from tests.integration.writers import fill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("admin")) as cluster:
        yield cluster


def test_every_node_is_live_and_ready(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    for node in cluster.nodes:
        code, text = node.http("/livez")
        assert (code, json.loads(text)["live"]) == (200, True)
        code, text = node.http("/readyz")
        document = json.loads(text)
        assert (code, document["ready"], document["reasons"]) == (200, True, [])
        assert (document["node"], document["leader"]) == (node.id, leader.id)
        assert document["role"] == ("leader" if node is leader else "follower")


def test_without_a_leader_a_node_is_live_but_not_ready(cluster: Cluster) -> None:
    survivor, *others = cluster.followers()
    for node in cluster.others(survivor):
        node.kill()
    cluster.wait_until(lambda: survivor.http("/readyz")[0] == 503, "not ready")
    assert "no leader" in survivor.http("/readyz")[1]
    assert survivor.http("/livez")[0] == 200
    others[0].start()
    cluster.wait_until(lambda: survivor.http("/readyz")[0] == 200, "ready again")


def metrics(text: str) -> dict[str, float]:
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, value in rows}


def test_metrics_count_what_happens(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    code, text = leader.http("/metrics")
    assert code == 200
    before = metrics(text)
    fill(leader.client, prefix="metrics", count=100, value_bytes=10)
    after = metrics(leader.http("/metrics")[1])
    assert after["raftkv_keys"] == before["raftkv_keys"] + 100
    assert after["raftkv_commit_index"] > before["raftkv_commit_index"]
    assert after['raftkv_role{role="leader"}'] == 1


def test_the_status_is_that_of_the_redis_port(cluster: Cluster) -> None:
    cluster.wait_until_converged()
    for node in cluster.nodes:
        code, text = node.http("/api/status")
        document = json.loads(text)
        status = node.status()
        assert code == 200
        assert status is not None
        for name in ("node_id", "role", "term", "applied_index", "state_hash", "leader_id"):
            assert document[name] == status[name]
        links = document.get("links", {})
        assert set(links.values()) <= {"up"}


@pytest.mark.parametrize("path", ["/nosuch", "/../etc/passwd", "/api/status/x", "/%00"])
def test_what_is_not_there_is_404(cluster: Cluster, path: str) -> None:
    code, text = cluster.nodes[0].http(path)
    assert code == 404
    assert "error" in json.loads(text)

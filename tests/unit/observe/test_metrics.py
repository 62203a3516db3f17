"""Every number reaches Prometheus under its name, and costs nothing between scrapes."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from raftkv.observe.metrics import (
    LABELLED_METRICS,
    STATUS_METRICS,
    MetricGroup,
    NodeMetrics,
)
from raftkv.transport.totals import PEER_METRICS
from raftkv.types import Role
from tests.unit.observe.statuses import LEADER, status

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(metrics: NodeMetrics) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def node_metrics(shown=LEADER, events=None, groups=()) -> NodeMetrics:
    return NodeMetrics(
        version="1.2.3", status=lambda: shown, events=lambda: events or {}, groups=groups
    )


def test_numbers_of_a_status() -> None:
    shown = status(
        disk_full=True, log_memory_bytes=4096, log_memory_entries=8, dataset_bytes=700,
        dataset_bytes_max=900, leases=6,
    )  # fmt: skip
    samples = scrape(node_metrics(shown))
    expected = {
        "raftkv_admitted": 1,
        "raftkv_applied_index": 90,
        "raftkv_apply_lag_entries": 10,
        "raftkv_commit_index": 100,
        "raftkv_disk_full": 1,
        "raftkv_first_index": 11,
        "raftkv_dataset_bytes": 700,
        "raftkv_dataset_bytes_max": 900,
        "raftkv_has_leader": 1,
        "raftkv_history_bytes": 4321,
        "raftkv_history_events": 21,
        "raftkv_history_oldest_revision": 60,
        "raftkv_keys": 5,
        "raftkv_last_index": 120,
        "raftkv_leases": 6,
        "raftkv_log_memory_bytes": 4096,
        "raftkv_log_memory_entries": 8,
        "raftkv_log_time_seconds": 1_700_000_000.5,
        "raftkv_members": 3,
        "raftkv_quorum": 2,
        "raftkv_revision": 77,
        "raftkv_snapshot_index": 10,
        "raftkv_term": 4,
        "raftkv_voters": 2,
    }
    assert expected.keys() == STATUS_METRICS.keys()
    for name, value in expected.items():
        assert samples[name, ()] == value, name


def test_labelled_numbers() -> None:
    samples = scrape(node_metrics(events={"disk_full": 2}))
    assert samples["raftkv_events_total", (("event", "disk_full"),)] == 2
    assert (
        samples["raftkv_info", (("cluster", "c" * 32), ("node", "n1"), ("version", "1.2.3"))] == 1
    )
    assert {
        labels: value for (name, labels), value in samples.items() if name == "raftkv_role"
    } == {(("role", role.value),): float(role is Role.LEADER) for role in Role}
    n2, n3 = (("peer", "n2"),), (("peer", "n3"),)
    assert (samples["raftkv_peer_connected", n2], samples["raftkv_peer_connected", n3]) == (1, 0)
    assert samples["raftkv_peer_match_index", n2] == 118
    assert samples["raftkv_peer_lag_entries", n2] == 2
    shown = {name for name, _ in samples}
    assert LABELLED_METRICS.keys() <= shown


def test_a_follower_does_not_guess_what_its_peers_have() -> None:
    samples = scrape(node_metrics(status(role=Role.FOLLOWER, leader_id=None)))
    assert samples["raftkv_has_leader", ()] == 0
    assert samples["raftkv_peer_connected", (("peer", "n2"),)] == 1
    assert ("raftkv_peer_match_index", (("peer", "n2"),)) not in samples


def test_groups_are_read_at_each_scrape_and_typed_by_their_names() -> None:
    numbers = {"bytes_sent_total": 1, "links": 2, "without a meaning": 3}
    metrics = node_metrics(groups=(MetricGroup("peer", lambda: numbers, PEER_METRICS),))
    assert scrape(metrics)["raftkv_peer_bytes_sent_total", ()] == 1
    numbers["bytes_sent_total"] = 5
    samples = scrape(metrics)
    assert samples["raftkv_peer_bytes_sent_total", ()] == 5
    assert samples["raftkv_peer_links", ()] == 2
    text = metrics.text().decode()
    assert "# TYPE raftkv_peer_bytes_sent_total counter" in text
    assert "# TYPE raftkv_peer_links gauge" in text
    assert "without a meaning" not in text
    assert "raftkv_peer_queued_bytes" not in text


def test_the_process_is_shown_too() -> None:
    text = node_metrics().text()
    assert b"process_resident_memory_bytes" in text
    assert b"python_gc_objects_collected_total" in text


def test_two_nodes_in_one_process_do_not_share_numbers() -> None:
    first, second = node_metrics(status(keys=1)), node_metrics(status(keys=2))
    assert scrape(first)["raftkv_keys", ()] == 1
    assert scrape(second)["raftkv_keys", ()] == 2


def test_the_page_lists_every_metric_with_its_meaning() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "reference" / "metrics.md"
    rows = [line.strip("| ").split(" | ") for line in page.read_text().splitlines()]
    listed = {row[0].strip("`"): row[-1] for row in rows if row[0].startswith("`raftkv_")}
    assert listed == {
        **{name: meaning for name, (meaning, _) in STATUS_METRICS.items()},
        **{name: meaning for name, (meaning, _) in LABELLED_METRICS.items()},
        **{f"raftkv_peer_{name}": meaning for name, meaning in PEER_METRICS.items()},
    }

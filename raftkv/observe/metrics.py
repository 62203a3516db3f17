"""Numbers of one node in the text format of Prometheus.

Owns the names and meanings of the metrics that come from `Status`, and how the
plain integers of lower layers become samples. Nothing is counted here: a scrape
reads what the layers count anyway, so a metric costs nothing between scrapes.
The only module that imports prometheus_client.

Naming: `raftkv_<group>_<name>`; a name that ends in `_total` only grows, every
other is of this moment.

Who calls: `observe.http` for each scrape; `node` adds the groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from raftkv.types import Role, Status

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Name -> (meaning, how to read it). Docs: docs/reference/metrics.md.
STATUS_METRICS: Final[Mapping[str, tuple[str, Callable[[Status], float]]]] = {
    "raftkv_admitted": (
        "1 when this node counts as a member with its present disk",
        lambda status: status.admitted,
    ),
    "raftkv_applied_index": ("Last log index applied", lambda status: status.applied_index),
    "raftkv_apply_lag_entries": (
        "Entries committed and not yet applied",
        lambda status: status.lag_entries,
    ),
    "raftkv_commit_index": ("Last log index known committed", lambda status: status.commit_index),
    "raftkv_dataset_bytes": (
        "What all keys and values count for",
        lambda status: status.dataset_bytes,
    ),
    "raftkv_dataset_bytes_max": (
        "Limit of it, above which writes that may grow it are refused; 0 for none",
        lambda status: status.dataset_bytes_max,
    ),
    "raftkv_disk_full": ("1 while no entries can be taken", lambda status: status.disk_full),
    "raftkv_first_index": ("First log index still kept", lambda status: status.first_index),
    "raftkv_has_leader": ("1 when a leader is known", lambda status: status.leader_id is not None),
    "raftkv_history_bytes": (
        "Keys and replaced values that the history holds, as its bound counts them",
        lambda status: status.history_bytes,
    ),
    "raftkv_history_events": (
        "Changes that the history holds",
        lambda status: status.history_events,
    ),
    "raftkv_history_oldest_revision": (
        "Oldest revision that can be read",
        lambda status: status.history_oldest_revision,
    ),
    "raftkv_keys": ("Live keys", lambda status: status.keys),
    "raftkv_last_index": ("Last log index", lambda status: status.last_index),
    "raftkv_leases": ("Leases", lambda status: status.leases),
    "raftkv_log_memory_bytes": (
        "Memory that the newest part of the log takes",
        lambda status: status.log_memory_bytes,
    ),
    "raftkv_log_memory_entries": (
        "Log entries in memory; older ones are on the disk only",
        lambda status: status.log_memory_entries,
    ),
    "raftkv_log_time_seconds": (
        "Replicated time that expiry is judged by, since the Unix epoch",
        lambda status: status.log_time_ms / 1000,
    ),
    "raftkv_members": ("Members", lambda status: len(status.configuration.members)),
    "raftkv_quorum": ("Voters that decide", lambda status: status.quorum),
    "raftkv_revision": ("Changes since the cluster was made", lambda status: status.revision),
    "raftkv_snapshot_index": ("Index of the newest snapshot", lambda status: status.snapshot_index),
    "raftkv_term": ("Current term", lambda status: status.term),
    "raftkv_voters": ("Members that vote", lambda status: len(status.configuration.voters)),
}

# Name -> (meaning, label). One sample each peer, role, event or node.
LABELLED_METRICS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "raftkv_events_total": ("Rare events, as named in the log", ("event",)),
    "raftkv_info": ("Always 1; the labels say who this is", ("node", "cluster", "version")),
    "raftkv_peer_connected": ("1 while a link to the peer is up", ("peer",)),
    "raftkv_peer_lag_entries": ("Entries the peer has not acknowledged (leader only)", ("peer",)),
    "raftkv_peer_match_index": ("Last index the peer acknowledged (leader only)", ("peer",)),
    "raftkv_role": ("1 for the role of this node", ("role",)),
}


class MetricGroup(NamedTuple):
    """Numbers of one layer.

    Attributes:
        name: Goes between `raftkv_` and the name of each number.
        read: Returns the numbers; called once a scrape on the owning thread.
        meanings: What each number is; a number without one is not shown.
    """

    name: str
    read: Callable[[], Mapping[str, float]]
    meanings: Mapping[str, str]


class NodeMetrics:
    """All metrics of one node."""

    def __init__(
        self,
        *,
        version: str,
        status: Callable[[], Status],
        events: Callable[[], Mapping[str, int]],
        groups: tuple[MetricGroup, ...] = (),
    ) -> None:
        """Prepare.

        Args:
            version: Of the package.
            status: As the replica gives it.
            events: Count of each event so far, as `LogObserver.counts`.
            groups: Further numbers.
        """
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_NodeCollector(version, status, events, groups))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def text(self) -> bytes:
        """Return one scrape."""
        return generate_latest(self._registry)


class _NodeCollector(Collector):
    """Turns plain numbers into samples, at a scrape and at no other time."""

    def __init__(
        self,
        version: str,
        status: Callable[[], Status],
        events: Callable[[], Mapping[str, int]],
        groups: tuple[MetricGroup, ...],
    ) -> None:
        self._version = version
        self._status = status
        self._events = events
        self._groups = groups

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family. Called by the registry."""
        status = self._status()
        for name, (meaning, read) in STATUS_METRICS.items():
            yield GaugeMetricFamily(name, meaning, value=float(read(status)))
        info = _labelled("raftkv_info")
        info.add_metric([status.node_id, status.configuration.cluster_id, self._version], 1.0)
        yield info
        role = _labelled("raftkv_role")
        for each in Role:
            role.add_metric([each.value], float(each is status.role))
        yield role
        yield from _peer_families(status)
        yield self._event_family()
        for group in self._groups:
            yield from _group_families(group)

    def _event_family(self) -> CounterMetricFamily:
        meaning, labels = LABELLED_METRICS["raftkv_events_total"]
        family = CounterMetricFamily("raftkv_events", meaning, labels=labels)
        # A copy: a worker may report the first event of its kind meanwhile.
        for name, count in sorted(dict(self._events()).items()):
            family.add_metric([name], float(count))
        return family


def _labelled(name: str) -> GaugeMetricFamily:
    meaning, labels = LABELLED_METRICS[name]
    return GaugeMetricFamily(name, meaning, labels=labels)


def _peer_families(status: Status) -> Iterator[Metric]:
    connected = _labelled("raftkv_peer_connected")
    match = _labelled("raftkv_peer_match_index")
    lag = _labelled("raftkv_peer_lag_entries")
    for peer in status.peers:
        connected.add_metric([peer.id], float(peer.connected))
        if status.role is Role.LEADER:
            match.add_metric([peer.id], float(peer.match_index))
            lag.add_metric([peer.id], float(max(0, status.last_index - peer.match_index)))
    yield connected
    yield match
    yield lag


def _group_families(group: MetricGroup) -> Iterator[Metric]:
    numbers = group.read()
    for name, meaning in group.meanings.items():
        if name not in numbers:
            continue
        full_name = f"raftkv_{group.name}_{name}"
        value = float(numbers[name])
        if name.endswith("_total"):
            yield CounterMetricFamily(full_name.removesuffix("_total"), meaning, value=value)
        else:
            yield GaugeMetricFamily(full_name, meaning, value=value)

"""The frozen view of a node that INFO, health checks and the CLI show.

Pure assembly; owns nothing. Who calls: replica.replica.
"""

from __future__ import annotations

from raftkv.engine.core import RaftCore
from raftkv.kv.store import KvStore
from raftkv.types import Index, NodeId, Status


def build_status(
    *,
    node_id: NodeId,
    core: RaftCore,
    store: KvStore,
    snapshot_index: Index,
    disk_full: bool,
    leader_commit_index: int,
) -> Status:
    """Return what a node knows of itself and of the others at this moment."""
    log = core.log
    return Status(
        node_id=node_id,
        role=core.role,
        term=core.term,
        leader_id=core.leader_id,
        commit_index=core.commit_index,
        applied_index=Index(store.applied_index),
        first_index=Index(log.base_index + 1),
        last_index=log.last_index,
        snapshot_index=snapshot_index,
        configuration=core.configuration,
        state_hash=store.state_hash.hex(),
        state_hash_index=Index(store.applied_index),
        keys=store.key_count,
        keys_expiring=store.expiring_count,
        leases=store.lease_count,
        log_time_ms=store.log_time_ms,
        revision=store.revision,
        history_oldest_revision=store.history.compacted,
        history_events=store.history.change_count,
        history_bytes=store.history.byte_count,
        dataset_bytes=store.dataset_bytes,
        dataset_bytes_max=store.dataset_bytes_max,
        disk_full=disk_full,
        leader_commit_index=Index(leader_commit_index),
        admitted=core.admitted,
        waiting_for=core.waiting_for,
        peers=core.peer_statuses(),
        log_memory_bytes=log.memory_bytes,
        log_memory_entries=log.memory_count,
    )

"""Snapshots and the log: adopting a newer one, dropping what one covers.

* SN: a snapshot never installs backwards, and is acknowledged with its own
  index, whatever tail the log keeps.
* N2: a log that covers the snapshot keeps its tail.
* D: the library's dump files and its loading are never used; the replica hands
  over a snapshot only once it is verified and durable.

Tests: tests/unit/engine/test_snapshot.py.
"""

from __future__ import annotations

from typing import NoReturn

from raftkv.engine.messages import AppendReply
from raftkv.engine.syncobj_apply import ApplyMends
from raftkv.engine.syncobj_state import SafetyViolationError
from raftkv.types import Index, NodeId, SnapshotMeta


class SnapshotMends(ApplyMends):
    """What a durable snapshot means for the log."""

    install: SnapshotMeta | None = None

    def on_snapshot_taken(self, keep_from: Index) -> None:
        """Drop entries below `keep_from`; never more than what is applied."""
        index = Index(min(keep_from - 1, self.applied_index))
        self.log.compact(index)
        self.configurations.compact(index)

    def on_snapshot_received(self, node_id: NodeId, meta: SnapshotMeta) -> None:
        """Adopt a verified, durable snapshot if it is newer than what is applied."""
        if meta.index > self.commit_index:
            if self.log.term_at(meta.index) != meta.term:
                self.log.restart(meta.index, meta.term)
                self.configurations.reset(meta.index, meta.configuration)
            else:
                self.log.compact(meta.index)
                self.configurations.compact(meta.index)
            self.set_commit(meta.index)
            self._SyncObj__raftLastApplied = meta.index
            self.answer_covered_proposals(meta.index)
            self.install = meta
            self.refresh_members()
        if node_id in self.peers:
            # Why this index and not the log's last: a kept tail is unverified.
            self.send(
                node_id,
                AppendReply(
                    term=self.term, round=0, success=True, index=meta.index, full=self.disk_full
                ),
                self.log.acknowledgement_depends(meta.index),
            )

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> NoReturn:  # noqa: N802, N803
        """Unreachable: the library would unpickle here."""
        raise SafetyViolationError("the library tried to load a dump file")

    def _SyncObj__tryLogCompaction(self) -> NoReturn:  # noqa: N802
        """Unreachable: the replica decides when to take a snapshot."""
        raise SafetyViolationError("the library tried to compact the log")

    def _onTick(self, timeToWait: float = 0.0) -> NoReturn:  # noqa: N802, N803
        """Replaced as a whole by RaftCore.step."""
        raise SafetyViolationError("the library tried to tick by itself")

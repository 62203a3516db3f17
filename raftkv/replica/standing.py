"""Whom this directory belongs to and whether its word counts, kept on the disk.

Owns changes of the file `identity` while the node runs: the cluster id, once a
first configuration is committed, and the admission of this disk, durable before
any vote of it leaves and after the log that it rests on: a disk that counts
itself must not have forgotten the term. An identity that contradicts what the cluster has
committed stops the node.

Owner: replica.replica. Tests: tests/unit/replica/test_standing.py.
"""

from __future__ import annotations

from dataclasses import replace

from raftkv.errors import DiskFullError, IdentityRefusedError
from raftkv.seams import Disk, Observer
from raftkv.storage.identity import Identity, save_identity
from raftkv.storage.wal import Wal
from raftkv.types import Configuration, Member, WriteSequence


class Standing:
    """The identity of this directory.

    Attributes:
        identity: As it is on the disk.
    """

    def __init__(self, disk: Disk, identity: Identity, wal: Wal, observer: Observer) -> None:
        self._disk = disk
        self._wal = wal
        self._observer = observer
        self._admitted_with: WriteSequence | None = None
        self.identity = identity

    def note_admission(
        self, admitted: bool, committed: Member | None, sequence: WriteSequence
    ) -> None:
        """Take note of whether this disk counts; `note_durable` saves that it does.

        Args:
            admitted: What the engine says.
            committed: This node in the newest committed configuration.
            sequence: The write of the step that decided it.

        Raises:
            IdentityRefusedError: The cluster has committed another disk for
                this node.
        """
        self._admitted_with = None
        if admitted == self.identity.admitted:
            return
        if admitted:
            self._admitted_with = sequence
        elif committed is not None and committed.disk_id != self.identity.disk_id:
            raise IdentityRefusedError(
                f"the cluster counts disk {committed.disk_id} as {self.identity.node_id}; "
                f"the one here is {self.identity.disk_id}"
            )

    def note_durable(self, synced: WriteSequence) -> None:
        """Save an admission once the write of its step is durable."""
        if self._admitted_with is not None and self._admitted_with <= synced:
            if self._save(replace(self.identity, admitted=True)):
                self._admitted_with = None
                self._observer.event("admitted", disk_id=self.identity.disk_id)

    def note_committed(self, configuration: Configuration) -> None:
        """Remember which cluster this directory belongs to.

        Raises:
            IdentityRefusedError: It belonged to another one.
        """
        cluster_id = configuration.cluster_id
        if self.identity.cluster_id == cluster_id:
            return
        if self.identity.cluster_id:
            raise IdentityRefusedError(
                f"this directory belongs to cluster {self.identity.cluster_id}, "
                f"the log to cluster {cluster_id}"
            )
        self._wal.set_cluster_id(cluster_id)
        if self._save(replace(self.identity, cluster_id=cluster_id)):
            self._observer.event("cluster_joined", cluster_id=cluster_id)

    def _save(self, identity: Identity) -> bool:
        """Replace the file; False where there is no space for it at present.

        What is missing from it then is found again in the log at the next start:
        until a committed configuration names this disk it does not vote.
        """
        try:
            save_identity(self._disk, identity)
        except DiskFullError:
            return False
        self.identity = identity
        return True

"""What a replica lets others see of it: who leads, who belongs to the cluster, who it is.

Reads only; everything here is answered at once from what the replica owns.

Base of replica.replica.Replica. Tests: tests/unit/replica, tests/sim.
"""

from __future__ import annotations

from raftkv.config import Config
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import PeerHello
from raftkv.kv.history import History
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import Agreement
from raftkv.replica.batches import Batches
from raftkv.replica.compaction import Compactor
from raftkv.replica.disk_space import DiskSpaceGuard
from raftkv.replica.durability import Durability
from raftkv.replica.handover import Handover
from raftkv.replica.standing import Standing
from raftkv.replica.status import build_status
from raftkv.types import Configuration, Member, NodeId, Status


class ReplicaViews:
    """Names for what the core and the identity hold."""

    _config: Config
    _core: RaftCore
    _standing: Standing
    _agreement: Agreement
    _batches: Batches
    _compactor: Compactor
    _durability: Durability
    _handover: Handover
    _space: DiskSpaceGuard
    store: KvStore
    _last_leader: NodeId | None = None

    @property
    def node_id(self) -> NodeId:
        """Name of this node."""
        return self._config.node.id

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        return self._core.is_leader

    @property
    def history(self) -> History:
        """The last changes that are applied here; another one once a snapshot was installed."""
        return self.store.history

    @property
    def accepting(self) -> bool:
        """False while more input would only pile up: stop reading from clients."""
        limit = self._config.limits.uncommitted_bytes_max // 2
        return self._batches.uncommitted_bytes < limit and not self._handover.pending

    @property
    def dataset_is_full(self) -> bool:
        """Whether commands that may make the dataset larger would be refused now."""
        return self.store.dataset_is_full

    @property
    def busy(self) -> bool:
        """Whether a proposed batch waits for its fate or a write for its sync."""
        return self._batches.pending or not self._durability.is_idle

    @property
    def has_leader(self) -> bool:
        """Whether a leader is known."""
        return self._core.leader_id is not None

    @property
    def leader(self) -> Member | None:
        """The last known leader, which may be gone."""
        leader_id = self._core.leader_id or self._last_leader
        return self.configuration.member(leader_id) if leader_id else None

    @property
    def configuration(self) -> Configuration:
        """Members in force."""
        return self._core.configuration

    @property
    def contacts(self) -> tuple[Member, ...]:
        """Every node to have a link with: members, and some that were or may become it."""
        return self._core.contacts

    @property
    def cluster_id(self) -> str:
        """Name of the cluster, once a first configuration is committed."""
        return self._standing.identity.cluster_id

    @property
    def disk_id(self) -> str:
        """Name of this node's data directory."""
        return self._standing.identity.disk_id

    def hello(self) -> PeerHello:
        """What to tell a peer when a link comes up."""
        return self._core.hello()

    def is_news(self, hello: PeerHello) -> bool:
        """Whether a node that is not known here may be a member that this node missed."""
        return self._core.is_news(hello)

    def status(self) -> Status:
        """Frozen view of this node."""
        return build_status(
            node_id=self.node_id,
            core=self._core,
            store=self.store,
            snapshot_index=self._compactor.snapshot_index,
            disk_full=self._space.full,
            leader_commit_index=self._agreement.commit_index_of(self._core.leader_id),
        )

"""Words that every layer shares: identifiers, roles, membership and status.

Owns nothing that changes: all values here are immutable. No module below this
one exists, so nothing is imported from the package.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple, NewType

NodeId = NewType("NodeId", str)
Term = NewType("Term", int)
Index = NewType("Index", int)
# Number of one write to the WAL, from 1, never reused. Durability is tracked by
# it and never by an index: a truncation reuses indexes.
WriteSequence = NewType("WriteSequence", int)


class Pairs(list[object]):
    """Keys and values in turn: a map in RESP3, one flat array in RESP2."""

    __slots__ = ()


class Couples(list[object]):
    """First and second parts in turn: arrays of two in RESP3, one flat array in RESP2."""

    __slots__ = ()


class Members(list[object]):
    """Elements that are all different: a set in RESP3, an array in RESP2."""

    __slots__ = ()


class NoList(list[object]):
    """No list where one could be: null, and a null array in RESP2. Always empty."""

    __slots__ = ()


class Role(enum.StrEnum):
    """What a node is in its term."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"
    LEARNER = "learner"


class HardState(NamedTuple):
    """What must be durable before any message that shows it leaves (Raft, figure 2)."""

    term: Term
    vote: NodeId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node as the cluster's configuration names it.

    Attributes:
        id: Unique name, as in the node's config file.
        client: Advertised `host:port` of the Redis protocol.
        peer: Advertised `host:port` of the Raft protocol.
        disk_id: 32 hex digits naming the data directory whose votes and
            acknowledgements count, or empty while the cluster is being founded.
        voter: False for a learner, which receives the log but does not vote.
    """

    id: NodeId
    client: str
    peer: str
    disk_id: str = ""
    voter: bool = True


@dataclass(frozen=True, slots=True)
class Configuration:
    """All members of a cluster at one point of the log.

    Attributes:
        cluster_id: 32 hex digits, made by the first leader; empty before.
        members: Ordered by id.
    """

    cluster_id: str
    members: tuple[Member, ...]

    def member(self, node_id: str) -> Member | None:
        """Return the member of that name, or None."""
        for member in self.members:
            if member.id == node_id:
                return member
        return None

    @property
    def voters(self) -> tuple[Member, ...]:
        """Members whose votes and acknowledgements count."""
        return tuple(member for member in self.members if member.voter)

    @property
    def quorum(self) -> int:
        """How many voters decide: more than half."""
        return len(self.voters) // 2 + 1


class ChangeKind(enum.StrEnum):
    """What a change of the membership does to its one member."""

    ADD = "add"
    PROMOTE = "promote"
    DEMOTE = "demote"
    REMOVE = "remove"
    MOVE = "move"


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipChange:
    """One change of the membership, as an operator asks for it.

    Attributes:
        kind: A new member starts as a learner; only a promoted one votes.
        node: The member that is added, promoted, demoted, removed or moved.
        client: Its advertised client address, for `ADD` and `MOVE`.
        peer: Its advertised peer address, for `ADD` and `MOVE`.
    """

    kind: ChangeKind
    node: NodeId
    client: str = ""
    peer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotMeta:
    """What a snapshot stands for; the first frame of its file.

    Attributes:
        index: Last log index whose effects are inside.
        term: Term of the entry at `index`.
        configuration: In force at `index`.
        state_hash: Rolling state hash after applying `index` (16 bytes).
        image_hash: Digest over the image, recomputed when it is loaded (16 bytes).
        log_time_ms: Log time after applying `index`.
        lease_time_ms: Lease time after applying `index`.
        revision: Cluster-wide revision after applying `index`.
        keys: Number of keys in the image.
    """

    index: Index
    term: Term
    configuration: Configuration
    state_hash: bytes
    image_hash: bytes
    log_time_ms: int
    lease_time_ms: int
    revision: int
    keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """What the leader knows of one other member."""

    id: NodeId
    connected: bool
    match_index: Index
    voter: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Frozen view of a node, for INFO, RAFT STATUS, health checks and the CLI.

    Attributes:
        commit_index: Last index that this node knows to be committed.
        leader_commit_index: The same of the leader, as it said about a second ago;
            0 if it has said nothing. A node that waits for a snapshot learns of
            commits in no other way.
        keys_expiring: How many of the keys have a deadline.
        history_oldest_revision: Oldest revision at which the store can be read.
        history_events: Changes held.
        history_bytes: What they count for; see `raftkv.kv.history`.
        dataset_bytes: What all keys count for, as `kv.dataset` says.
        dataset_bytes_max: The limit of it that is in force; 0 for none.
        leases: How many there are, those being removed included.
    """

    node_id: NodeId
    role: Role
    term: Term
    leader_id: NodeId | None
    commit_index: Index
    applied_index: Index
    first_index: Index
    last_index: Index
    snapshot_index: Index
    configuration: Configuration
    state_hash: str
    state_hash_index: Index
    keys: int
    log_time_ms: int
    revision: int
    disk_full: bool
    admitted: bool
    leader_commit_index: Index = Index(0)
    waiting_for: tuple[NodeId, ...] = ()
    peers: tuple[PeerStatus, ...] = field(default=())
    log_memory_bytes: int = 0
    log_memory_entries: int = 0
    keys_expiring: int = 0
    history_oldest_revision: int = 0
    history_events: int = 0
    history_bytes: int = 0
    dataset_bytes: int = 0
    dataset_bytes_max: int = 0
    leases: int = 0

    @property
    def leader(self) -> Member | None:
        """The member that is believed to lead, if it is known."""
        return self.configuration.member(self.leader_id) if self.leader_id else None

    @property
    def lag_entries(self) -> int:
        """Entries known to be committed anywhere and not applied here."""
        return max(0, max(self.commit_index, self.leader_commit_index) - self.applied_index)

    @property
    def quorum(self) -> int:
        """How many voters decide."""
        return self.configuration.quorum

"""What goes into one step of consensus and what comes out of it.

`RaftCore.step` computes; `Replica` acts. A `Ready` is the whole conversation
between the two, so the safety of the system is the order in which the replica
honours it:

1. records go to the WAL in one write under `Ready.sequence`;
2. each message carries the write sequence it needs synced, and the outbox
   releases it then (a leader's appends need not wait for the entries they
   carry);
3. committed entries are applied to the store, in order;
4. outcomes and reads are answered.

A vote or an acknowledgement that left this node must survive its crash:
messages may be lost, doubled or late; records may not.

Nothing here does I/O, reads a clock, or knows what a payload means.
Tests: tests/unit/engine/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from raftkv.engine.evicted import EvictedEntries
from raftkv.types import (
    Configuration,
    HardState,
    Index,
    Member,
    MembershipChange,
    NodeId,
    SnapshotMeta,
    Term,
    WriteSequence,
)

# ---------------------------------------------------------------- log entries

# First byte of every entry. 0 and 1 are PySyncObj's REGULAR and NO_OP, whose
# meaning we keep; its 2 (MEMBERSHIP) and 3 (VERSION) are unpickled by the
# library and therefore refused wherever they come from.
KIND_COMMANDS = 0
KIND_NOOP = 1
KIND_CONFIGURATION = 4
KINDS = frozenset((KIND_COMMANDS, KIND_NOOP, KIND_CONFIGURATION))

# An entry as PySyncObj keeps it: (kind byte + payload, index, term).
LogEntry = tuple[bytes, int, int]

# ---------------------------------------------------------------- WAL records


class EntryRecord(NamedTuple):
    """Append one entry; its index is one above the log's last."""

    index: Index  # type: ignore[assignment]  # hides tuple.index
    term: Term
    command: bytes  # kind byte + payload


class HardStateRecord(NamedTuple):
    """Term and vote from now on."""

    term: Term
    vote: NodeId | None


class TruncateRecord(NamedTuple):
    """Drop every entry at `first` and above: they conflict with the leader's."""

    first: Index


class SnapshotRecord(NamedTuple):
    """The log restarts behind a durable snapshot; no earlier entry counts any more."""

    index: Index  # type: ignore[assignment]  # hides tuple.index
    term: Term


WalRecord = EntryRecord | HardStateRecord | TruncateRecord | SnapshotRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredLog:
    """What the WAL held when the node started.

    Attributes:
        hard_state: Newest term and vote.
        base_index: Index before the first entry; 0, or that of a snapshot.
        base_term: Term at `base_index`.
        entries: Continuous, up to the last; from `base_index + 1`, or from behind
            the evicted ones.
        commit_hint: A lower bound of what was committed, to be clamped.
        sequence: Highest write sequence seen; new ones are above.
        evicted: Those from `base_index + 1` on that were not kept in memory; all
            of them are committed, and applied before the engine starts.
        configurations: Configuration entries among those that were applied so.
    """

    hard_state: HardState
    base_index: Index
    base_term: Term
    entries: list[LogEntry]
    commit_hint: Index
    sequence: WriteSequence
    evicted: EvictedEntries | None = None
    configurations: tuple[LogEntry, ...] = ()

    def term_at(self, index: int) -> int | None:
        """Return the term at `index`, the base included; None outside the log."""
        first = self.entries[0][1] if self.entries else None
        if first is not None and index >= first:
            position = index - first
            return self.entries[position][2] if position < len(self.entries) else None
        if self.evicted is not None:
            return self.evicted.term_at(index)
        return self.base_term if index == self.base_index else None


# ---------------------------------------------------------------- step input


class PeerHello(NamedTuple):
    """What a peer said of itself when the link came up.

    Attributes:
        disk_id: Names its data directory.
        term: Its term at that moment.
        last_index: Last index of its log at that moment.
        founding: Its log holds nothing beyond the first configuration.
        admitted: It counts as a member with this disk (false while it is new
            or wiped and waits to be let in).
        refusal_ms: How long it votes for nobody else after it has heard a leader,
            and after its start; 0 where it does not know the messages for reads
            (version 1 of the peer protocol).
    """

    disk_id: str
    term: int
    last_index: int
    founding: bool
    admitted: bool
    refusal_ms: int = 0


class PeerUp(NamedTuple):
    """A link was established."""

    node: NodeId
    hello: PeerHello


class PeerDown(NamedTuple):
    """A link was lost."""

    node: NodeId


class PeerMessage(NamedTuple):
    """One message from an authenticated member, still encoded."""

    node: NodeId
    body: bytes


class Synced(NamedTuple):
    """Every WAL write up to `sequence` is durable."""

    sequence: WriteSequence


class DiskSpace(NamedTuple):
    """Whether entries can be taken."""

    full: bool


class SnapshotTaken(NamedTuple):
    """A durable snapshot covers the log up to `meta.index`; drop up to `keep_from - 1`."""

    meta: SnapshotMeta
    keep_from: Index


class SnapshotReceived(NamedTuple):
    """A snapshot from the leader is verified and durable; adopt it if it is newer."""

    node: NodeId
    meta: SnapshotMeta


class EntriesRead(NamedTuple):
    """What `Ready.wanted` asked for.

    Attributes:
        first: As it was asked for.
        entries: From `first` on, without a gap; empty where compaction has
            removed them meanwhile.
    """

    first: Index
    entries: list[LogEntry]


Inbound = (
    PeerUp
    | PeerDown
    | PeerMessage
    | Synced
    | DiskSpace
    | SnapshotTaken
    | SnapshotReceived
    | EntriesRead
)


class Proposal(NamedTuple):
    """Ask for one entry.

    Attributes:
        payload: Opaque; without the kind byte.
        token: Comes back in exactly one of `CommittedEntry` and `Outcome`.
    """

    payload: bytes
    token: object


class ChangeRequest(NamedTuple):
    """Ask for one configuration entry.

    Attributes:
        change: What shall become of which member.
        token: Comes back in exactly one of `CommittedEntry` and `Outcome`.
    """

    change: MembershipChange
    token: object


# ---------------------------------------------------------------- step output


class CommittedEntry(NamedTuple):
    """An entry to be applied now, exactly once, in index order.

    Attributes:
        token: That of the local proposal which became this entry, else None.
    """

    index: Index  # type: ignore[assignment]  # hides tuple.index
    term: Term
    kind: int
    payload: memoryview
    token: object | None


class Outcome(NamedTuple):
    """The fate of a proposal that did not become a committed entry here.

    Attributes:
        token: That of the proposal.
        definite: Certainly not executed, now or later.
        reason: For people.
        lasting: Asking again does not help.
    """

    token: object
    definite: bool
    reason: str
    lasting: bool = False


class OutgoingMessage(NamedTuple):
    """An encoded message and the write sequence that must be synced before it leaves."""

    node: NodeId
    body: bytes
    depends: WriteSequence


class ReadsReady(NamedTuple):
    """Reads with a ticket up to this one may be served once applied >= index."""

    ticket: int
    index: Index  # type: ignore[assignment]  # hides tuple.index


class Wanted(NamedTuple):
    """Entries to read back from the disk for a follower; answered by `EntriesRead`.

    Attributes:
        last: The last one that could be of use.
        bytes_max: Of commands; a larger first entry comes nevertheless.
    """

    first: Index
    last: Index
    bytes_max: int


class Regress(NamedTuple):
    """A peer whose log has become shorter than what it had acknowledged.

    Attributes:
        acknowledged: Up to where it had said that its log is durable.
        last_index: Where its log ends now.
    """

    node: NodeId
    acknowledged: Index
    last_index: Index


@dataclass(slots=True)
class Ready:
    """Everything one step asks for, in the order of effects."""

    sequence: WriteSequence
    records: list[WalRecord] = field(default_factory=list)
    commit_hint: Index = Index(0)
    messages: list[OutgoingMessage] = field(default_factory=list)
    install: SnapshotMeta | None = None
    committed: list[CommittedEntry] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    read_ticket: int = 0
    reads: ReadsReady | None = None
    reads_failed: bool = False
    # Of reads that wait for the leader's read index: their ticket, or 0 where there is
    # nobody to ask; the leader's answers; whether none will come any more.
    asked: int = 0
    index_answers: list[ReadsReady] = field(default_factory=list)
    asks_failed: bool = False
    wanted: tuple[Wanted, ...] = ()
    snapshot_peers: tuple[NodeId, ...] = ()
    configuration: Configuration | None = None
    # Every node to have a link with, when it changed: see `RaftCore.contacts`.
    contacts: tuple[Member, ...] | None = None
    leader_changed: bool = False
    admission_changed: bool = False
    violators: list[tuple[NodeId, str]] = field(default_factory=list)
    regresses: tuple[Regress, ...] = ()

"""What the server needs from the replica, and what the replica tells the server.

Types only. The real replica is in `raftkv.replica`, a fake one for tests and
benchmarks in tests/unit/server/fake_replica.py. All calls happen on the thread
that owns the state; a slot may be resolved or failed from within the call that
took it or at any later time, exactly once.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Protocol

from raftkv.kv.history import History
from raftkv.seams import Network, Slot
from raftkv.types import Configuration, Index, Member, MembershipChange, NodeId, Status, Term

# A command of the store, as kv.commands defines it: (opcode, *arguments).
Command = tuple[Any, ...]


class PeerLinks(Network, Protocol):
    """Links to the other members, as the server needs them."""

    def queued_bytes(self, node: NodeId) -> int:
        """Bytes sent to that node which the operating system has not taken."""
        ...


class ReplicaListener(Protocol):
    """What a replica reports, from the thread that owns the state."""

    def leader_changed(self) -> None:
        """The role of this node or the known leader is another one."""
        ...

    def accepting_changed(self) -> None:
        """`Replica.accepting` changed: stop or resume reading from clients."""
        ...

    def turn_ended(self) -> None:
        """Every slot of this turn is filled: write each connection's answers once."""
        ...


class Replica(Protocol):
    """The replicated store as one node's clients see it."""

    listener: ReplicaListener | None

    @property
    def node_id(self) -> NodeId:
        """Name of this node."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this node leads."""
        ...

    @property
    def has_leader(self) -> bool:
        """Whether a leader is known and believed to be alive."""
        ...

    @property
    def leader(self) -> Member | None:
        """The last known leader, which may be gone."""
        ...

    @property
    def accepting(self) -> bool:
        """False while more input would only pile up."""
        ...

    @property
    def dataset_is_full(self) -> bool:
        """Whether commands that may make the dataset larger would be refused now."""
        ...

    @property
    def configuration(self) -> Configuration:
        """Members in force."""
        ...

    @property
    def history(self) -> History:
        """The last changes that this node has applied; another one behind a snapshot."""
        ...

    def propose(self, commands: Sequence[Command], slot: Slot) -> None:
        """Ask that one run of commands (reads too) take effect through the log."""
        ...

    def read(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads on the leader, linearizably."""
        ...

    def read_stale(self, command: Command) -> object:
        """Evaluate one read on this node's store, at once."""
        ...

    def read_leased(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads on the leader, linearizably, at once where a lease allows it."""
        ...

    @property
    def can_read_by_index(self) -> bool:
        """Whether `read_by_index` is worth trying."""
        ...

    def read_by_index(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads linearizably on a node that does not lead."""
        ...

    def read_local(self, command: Command, bound_ms: int | None, floor_index: Index) -> object:
        """Evaluate one read on this node's store, or return an `ErrorReply`."""
        ...

    def local_refusal(self, bound_ms: int | None, floor_index: Index) -> object:
        """Return the error of a store too old for a read, or None."""
        ...

    def staleness_ms(self) -> int | None:
        """Return how old this node's store is at most; None if unknown."""
        ...

    def take_token(self, slot: Slot, *, ask: bool) -> None:
        """Resolve with a token of everything answered so far."""
        ...

    def await_token(self, term: Term, index: Index, slot: Slot) -> None:
        """Resolve once what a token names is applied."""
        ...

    def read_sliced(self, command: Command, slot: Slot, *, linearizable: bool) -> None:
        """Evaluate a read of the whole store in slices; resolves with one result."""
        ...

    def await_keys(self, keys: Container[bytes]) -> None:
        """Note from now on which of these keys get something that can be popped."""
        ...

    def take_ready(self) -> Iterable[bytes]:
        """Return the keys that were noted since the last call."""
        ...

    def take_snapshot(self, slot: Slot) -> None:
        """Write a snapshot; resolves with its index."""
        ...

    def transfer_leadership(self, target: NodeId | None, slot: Slot) -> None:
        """Hand leadership over; resolves with the id of who leads then."""
        ...

    def change_membership(self, change: MembershipChange, slot: Slot) -> None:
        """Change one member; resolves with one result when that is committed."""
        ...

    def status(self) -> Status:
        """Frozen view of this node."""
        ...

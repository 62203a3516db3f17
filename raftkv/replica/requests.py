"""What clients ask of a replica: to write, to read, to change what the cluster is.

Takes requests, and answers at once what can be refused at once; everything else
waits for the turn that carries it out (`replica.replica`).

Base of replica.replica.Replica. Tests: tests/unit/replica, tests/sim.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from raftkv.kv.commands import Opcode
from raftkv.replica.batches import Batches
from raftkv.replica.gathering import Gathering
from raftkv.replica.handover import Handover
from raftkv.replica.membership import Membership
from raftkv.replica.ports import Stopped
from raftkv.replica.reads import Read, Reads
from raftkv.replica.slices import Slices
from raftkv.replica.views import ReplicaViews
from raftkv.seams import NOT_LEADER, OVERLOADED, SHUTTING_DOWN, Slot
from raftkv.types import MembershipChange, NodeId

Command = tuple[Any, ...]
_GET = int(Opcode.GET)


class ReplicaRequests(ReplicaViews):
    """The side of a replica that clients see."""

    _batches: Batches
    _reads: Reads
    _batch_gathering: Gathering
    _read_gathering: Gathering
    _handover: Handover
    _membership: Membership
    _slices: Slices
    _wake: Callable[[], None]
    _draining: bool
    _awaited: Container[bytes] = ()
    stopped: Stopped | None

    def propose(self, commands: Sequence[Command], slot: Slot) -> None:
        """Ask that one run of commands take effect through the log, in order.

        Reads among them are evaluated at their place. The slot is answered
        exactly once; `NOT_LEADER`, `OVERLOADED` and `SHUTTING_DOWN` come at
        once and mean that nothing was proposed.
        """
        if not self._core.is_leader:
            slot.fail(NOT_LEADER)
        elif self._draining or self.stopped is not None:
            slot.fail(SHUTTING_DOWN)
        elif self._batches.uncommitted_bytes > self._config.limits.uncommitted_bytes_max:
            slot.fail(OVERLOADED)
        else:
            self._batches.add(list(commands), slot)
            if not self._batch_gathering.active:
                self._wake()

    def read(self, commands: Sequence[Command], slot: Slot) -> None:
        """Evaluate reads linearizably; this node must lead, and `commands` stay as they are."""
        self._add_read(Read(commands, slot, False))  # by name it takes twice as long

    def read_sliced(self, command: Command, slot: Slot, *, linearizable: bool) -> None:
        """Evaluate a read of the whole store in slices; resolves with one result."""
        read = Read([command], slot, sliced=True)
        if linearizable:
            self._add_read(read)
        else:
            self._execute_one(read)

    def read_stale(self, command: Command) -> object:
        """Evaluate one read on this node's store, at once."""
        return self.store.execute(command)

    def await_keys(self, keys: Container[bytes]) -> None:
        """Note from now on which of these keys get something that can be popped."""
        self._awaited = keys
        self.store.await_keys(keys)

    def take_ready(self) -> Iterable[bytes]:
        """Return the keys that were noted since the last call."""
        return self.store.take_ready()

    def take_snapshot(self, slot: Slot) -> None:
        """Write a snapshot of this node's store; resolves with its index."""
        if self.stopped is not None:
            slot.fail(SHUTTING_DOWN)
            return
        self._compactor.request(slot)
        self._wake()

    def transfer_leadership(self, target: NodeId | None, slot: Slot) -> None:
        """Hand leadership to another voter; resolves with the id of who leads then.

        Proposals wait meanwhile and are neither lost nor unknown because of it.
        """
        self._handover.begin(target, slot)
        self._wake()

    def change_membership(self, change: MembershipChange, slot: Slot) -> None:
        """Change one member; resolves with `["OK"]` when the change is committed.

        What makes no sense resolves with an `ErrorReply`; what cannot be done yet
        fails definitely.
        """
        if self._draining or self.stopped is not None:
            slot.fail(SHUTTING_DOWN)
            return
        self._membership.add(change, slot)
        self._wake()

    def _add_read(self, read: Read) -> None:
        if not self._core.is_leader:
            read.slot.fail(NOT_LEADER)
        elif self.stopped is not None:
            read.slot.fail(SHUTTING_DOWN)
        else:
            self._reads.add(read)
            if not self._read_gathering.active:
                self._wake()

    def _execute(self, reads: Sequence[Read]) -> None:
        """Evaluate the reads of a round; one that asks for one key has no call for itself."""
        gets: list[Command] = []
        slots: list[Slot] = []
        others: list[Read] = []
        for read in reads:
            commands, slot, _ = read
            if len(commands) == 1 and commands[0][0] == _GET:
                gets.append(commands[0])
                slots.append(slot)
            else:
                others.append(read)
        for slot, result in zip(slots, self.store.execute_all(gets), strict=True):
            slot.resolve([result])
        for read in others:
            self._execute_one(read)

    def _execute_one(self, read: Read) -> None:
        if read.sliced:
            self._slices.add(self.store.sliced(read.commands[0]), read.slot)
            self._wake()
        else:
            read.slot.resolve(self.store.execute_all(read.commands))

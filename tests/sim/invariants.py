"""What must hold at every moment, judged by what the simulator alone can see.

Each rule is a method with the name under which it is reported. They look only at
what a step has changed: the records that it wrote, the messages that leave, the
entries that it applied. Nothing here believes a node: what is durable is asked of
the disk, and what a message promises is read from the message.

`DiskRecord` is the history of one data directory, kept by its disk id, so that a
copy on a wiped disk is not mistaken for one on its successor.
"""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from raftkv.engine import messages
from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    Ready,
    SnapshotRecord,
    TruncateRecord,
)
from raftkv.seams import PEER_RAFT
from raftkv.types import NodeId, Term
from tests.sim.histories import Histories

if TYPE_CHECKING:
    from raftkv.kv.store import KvStore
    from tests.sim.disk import SimDisk
    from tests.sim.node import SimNode


class Violation(BaseException):
    """The simulated cluster broke a promise.

    Nothing in the product may contain it, as it contains exceptions of its own: so it
    is none.

    Attributes:
        invariant: Which one.
        detail: How.
    """

    def __init__(self, detail: str, *, invariant: str = "scenario") -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail


class _Cell(NamedTuple):
    """One entry on one disk: what it is and the write that carries it."""

    term: int
    digest: int
    sequence: int


class DiskRecord:
    """What was written to one data directory, and how much of it is durable."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._writes: deque[tuple[int, int]] = deque()
        self._durable_sequence = 0
        self._terms: deque[tuple[int, int, NodeId | None]] = deque()
        self.term = 0
        self.vote: NodeId | None = None
        self._durable_term: tuple[int, NodeId | None] = (0, None)
        self.cells: dict[int, _Cell] = {}
        self.base_index = 0
        self.base_term = 0
        self.last_index = 0
        self.is_lost = False

    def restarted(self, core: Any) -> None:
        """Take over what recovery found, all of which must be durable."""
        log = core.log
        self._writes.clear()
        self._terms.clear()
        self._durable_sequence = log.synced
        self.term, self.vote = log.hard_state
        self._durable_term = (self.term, self.vote)
        # A long log is not held in memory as a whole: what was known of the rest stays.
        indexes = range(log.base_index + 1, log.last_index + 1)
        cells = {index: self.cells[index] for index in indexes if index in self.cells}
        for index in indexes:
            entry = log.entry_at(index)
            if entry is not None:
                cells[index] = _Cell(entry[2], zlib.crc32(entry[0]), 0)
        self.cells = {index: cells[index]._replace(sequence=0) for index in sorted(cells)}
        self.base_index, self.base_term = log.base_index, log.base_term
        self.last_index = log.last_index

    def crashed(self) -> None:
        """What is not durable by now may be gone."""
        self.refresh()
        self._writes.clear()
        self._terms.clear()

    def wrote(self, sequence: int, number: int) -> None:
        """The frame of a sequence is the disk's write of this number."""
        self._writes.append((sequence, number))

    def add(self, index: int, cell: _Cell) -> None:
        self.cells[index] = cell
        self.last_index = index

    def truncate(self, first: int) -> None:
        for index in range(first, self.last_index + 1):
            self.cells.pop(index, None)
        self.last_index = first - 1

    def restart_behind(self, index: int, term: int) -> None:
        """A snapshot replaces the log."""
        self.cells.clear()
        self.base_index, self.base_term, self.last_index = index, term, index

    def set_hard_state(self, sequence: int, term: int, vote: NodeId | None) -> None:
        self.term, self.vote = term, vote
        self._terms.append((sequence, term, vote))

    def refresh(self) -> None:
        """Ask the disk what is durable by now; of a lost disk, what was."""
        if self.is_lost:
            return
        number, writes = self._disk.wal_durable_to, self._writes
        while writes and writes[0][1] <= number:
            self._durable_sequence = writes.popleft()[0]
        terms = self._terms
        while terms and terms[0][0] <= self._durable_sequence:
            _, term, vote = terms.popleft()
            self._durable_term = (term, vote)

    @property
    def durable_term(self) -> tuple[int, NodeId | None]:
        """Term and vote that a power cut now would leave."""
        self.refresh()
        return self._durable_term

    def holds(self, index: int, term: int | None = None) -> bool:
        """Whether the entry is here and durable; of that term, if one is given."""
        self.refresh()
        if index <= self.base_index:
            return True
        cell = self.cells.get(index)
        return (
            cell is not None
            and cell.sequence <= self._durable_sequence
            and term in (None, cell.term)
        )

    def last_durable(self) -> int:
        """Highest index that is here and durable."""
        self.refresh()
        for index in range(self.last_index, self.base_index, -1):
            if self.cells[index].sequence <= self._durable_sequence:
                return index
        return self.base_index


class Invariants:
    """Everything that the nodes of one cluster have shown so far.

    Attributes:
        checks: How often each rule was looked at.
        leaders: Who led each term.
    """

    def __init__(self, *, check_hashes: bool = True) -> None:
        self.checks: Counter[str] = Counter()
        self.leaders: dict[int, str] = {}
        self.message_listeners: list[Callable[[SimNode, NodeId, messages.Message], None]] = []
        self.apply_listeners: list[Callable[[KvStore], None]] = []
        self._check_hashes = check_hashes
        self._disks: dict[str, DiskRecord] = {}
        self._records: dict[str, DiskRecord] = {}
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}
        self._committed: dict[int, tuple[int, int]] = {}
        # In which term of whoever first knew it.
        self._committed_in: dict[int, int] = {}
        self._committed_to = 0
        self._commits: dict[str, int] = {}
        self._applied: dict[str, int] = {}
        self._hashes: dict[int, tuple[tuple[bytes, int], str]] = {}
        self._histories = Histories()

    def _broken(self, invariant: str, node: SimNode, detail: str) -> Violation:
        return Violation(f"{node.name} {detail}", invariant=invariant)

    # ------------------------------------------------------------- what happened

    def restarted(self, node: SimNode) -> None:
        """A node has recovered from its disk."""
        core, disk_id = node.replica._core, node.replica.disk_id
        before = self._disks.get(disk_id)
        if before is None:
            self._disks[disk_id] = DiskRecord(node.disk)
        else:
            self.restart_keeps_what_was_durable(node, before)
        self.what_was_recovered_is_durable(node)
        record = self._records[node.name] = self._disks[disk_id]
        record.restarted(core)
        for index, cell in record.cells.items():
            self.log_matching(node, record, index, cell)
        self._commits[node.name] = core.log.base_index
        self.a_restart_commits_nothing(node)
        self._note_commit(node, record)
        self._applied[node.name] = node.replica.store.applied_index
        self.applied_sequences_are_equal(
            node, node.replica.store.applied_index, node.replica.store.state_hash
        )
        self.histories_are_equal(node, whole=True)

    def crashed(self, node: SimNode) -> None:
        """A process has ended, and its disk keeps at least what is durable now."""
        self._records[node.name].crashed()

    def disk_lost(self, node: SimNode) -> None:
        """A data directory is gone; what was on it still counts as having been there."""
        record = self._records.pop(node.name, None)
        if record is not None:
            record.is_lost = True

    def stepped(self, node: SimNode, ready: Ready) -> None:
        """The engine has made a step, and nothing of it is carried out yet."""
        record = self._records[node.name]
        for one in ready.records:
            if type(one) is EntryRecord:
                cell = _Cell(one.term, zlib.crc32(one.command), ready.sequence)
                record.add(one.index, cell)
                self.log_matching(node, record, one.index, cell)
            elif type(one) is TruncateRecord:
                self.committed_entries_stay(node, one.first)
                record.truncate(one.first)
            elif type(one) is HardStateRecord:
                self.hard_state_never_goes_back(node, record, one.term, one.vote)
                record.set_hard_state(ready.sequence, one.term, one.vote)
            elif type(one) is SnapshotRecord:
                record.restart_behind(one.index, one.term)
        self._note_commit(node, record)
        if ready.install is not None:
            self._applied[node.name] = ready.install.index

    def _note_commit(self, node: SimNode, record: DiskRecord) -> None:
        core = node.replica._core
        commit, before = core.commit_index, self._commits[node.name]
        if commit == before:
            return
        self.commit_index_never_goes_back(node, before, commit)
        for index in range(max(before, record.base_index) + 1, commit + 1):
            self.committed_entries_never_change(node, record, index)
        if commit > self._committed_to:
            self.only_leaders_commit_first(node, commit)
        if core.is_leader:
            self.committed_means_durable_on_a_quorum(node, commit)
        self._commits[node.name] = commit
        self._committed_to = max(self._committed_to, commit)

    def wrote(self, node: SimNode, sequence: int) -> None:
        """A frame of the WAL was written, and not synced."""
        self._records[node.name].wrote(sequence, node.disk.number)

    def sent(self, node: SimNode, target: NodeId, kind: int, body: bytes) -> None:
        """A frame is about to leave a node."""
        self.nothing_leaves_a_stopped_node(node)
        if kind == PEER_RAFT:
            message = messages.decode(body)
            self.no_message_before_its_write(node, target, message)
            for listener in self.message_listeners:
                listener(node, target, message)

    def answered(self, node: SimNode) -> None:
        """An answer is about to leave a node."""
        self.nothing_leaves_a_stopped_node(node)

    def applied(self, node: SimNode, index: int, state_hash: bytes) -> None:
        """An entry was applied."""
        self.only_committed_entries_are_applied_in_order(node, index)
        self.applied_sequences_are_equal(node, index, state_hash)
        self.histories_are_equal(node, whole=False)
        self._applied[node.name] = index
        self.seen_applied(node.replica.store)

    def seen_applied(self, store: KvStore) -> None:
        """Show listeners a store to which an entry was just applied, by a turn or by recovery."""
        for listener in self.apply_listeners:
            listener(store)

    def turned(self, node: SimNode) -> None:
        """A turn of a node is over, and it lives."""
        replica = node.replica
        self.a_failed_disk_stops_the_node(node)
        if replica.is_leader:
            term = replica._core.term
            if self.leaders.get(term) != node.name:
                self.one_leader_a_term(node, term)
                self.leader_completeness(node, term)
        if node.has_other_store():
            # A snapshot was installed.
            self.applied_sequences_are_equal(
                node, replica.store.applied_index, replica.store.state_hash
            )
            self.histories_are_equal(node, whole=True)

    # --------------------------------------------------------------------- rules

    def one_leader_a_term(self, node: SimNode, term: int) -> None:
        self.checks["one_leader_a_term"] += 1
        leader = self.leaders.setdefault(term, node.name)
        if leader != node.name:
            raise self._broken("one_leader_a_term", node, f"leads term {term}, as {leader} does")

    def log_matching(self, node: SimNode, record: DiskRecord, index: int, cell: _Cell) -> None:
        """Index and term tell the entry and, by induction, all entries before it."""
        self.checks["log_matching"] += 1
        before = record.cells.get(index - 1)
        if before is not None:
            previous_term = before.term
        elif index - 1 == record.base_index:
            previous_term = record.base_term
        else:
            raise self._broken("log_matching", node, f"has entry {index} behind a gap")
        mine = (cell.digest, previous_term)
        if self._entries.setdefault((index, cell.term), mine) != mine:
            raise self._broken(
                "log_matching", node, f"has another entry {index} of term {cell.term}, or history"
            )

    def leader_completeness(self, node: SimNode, term: int) -> None:
        """Who leads has every entry that was committed before."""
        self.checks["leader_completeness"] += 1
        record = self._records[node.name]
        for index in range(record.base_index + 1, self._committed_to + 1):
            known = self._committed.get(index)
            cell = record.cells.get(index)
            # Who wakes up to votes of long ago leads a term that is over.
            if self._committed_in.get(index, 0) > term:
                break
            if known is not None and (cell is None or cell[:2] != known):
                raise self._broken(
                    "leader_completeness", node, f"leads term {term} without committed {index}"
                )

    def committed_entries_stay(self, node: SimNode, first: int) -> None:
        self.checks["committed_entries_stay"] += 1
        if first <= self._commits[node.name]:
            raise self._broken(
                "committed_entries_stay",
                node,
                f"drops entries from {first} on; it knew {self._commits[node.name]} as committed",
            )

    def committed_term(self, index: int) -> Term | None:
        """Return the term of a committed entry, if there is such a one."""
        known = self._committed.get(index)
        return None if known is None else Term(known[0])

    def committed_entries_never_change(self, node: SimNode, record: DiskRecord, index: int) -> None:
        self.checks["committed_entries_never_change"] += 1
        cell = record.cells.get(index)
        if cell is None:
            raise self._broken(
                "committed_entries_never_change", node, f"commits {index}, which it does not have"
            )
        known = self._committed.setdefault(index, cell[:2])
        self._committed_in.setdefault(index, node.replica._core.term)
        if known != cell[:2]:
            raise self._broken(
                "committed_entries_never_change",
                node,
                f"commits another entry {index}, of term {cell.term} and not {known[0]}",
            )

    def commit_index_never_goes_back(self, node: SimNode, before: int, now: int) -> None:
        self.checks["commit_index_never_goes_back"] += 1
        if now < before:
            raise self._broken("commit_index_never_goes_back", node, f"from {before} to {now}")

    def a_restart_commits_nothing(self, node: SimNode) -> None:
        """What a node believes to be committed when it wakes was so before."""
        self.checks["a_restart_commits_nothing"] += 1
        commit = node.replica._core.commit_index
        if commit > self._committed_to:
            raise self._broken(
                "a_restart_commits_nothing",
                node,
                f"wakes with commit index {commit}; nobody had more than {self._committed_to}",
            )

    def only_leaders_commit_first(self, node: SimNode, index: int) -> None:
        self.checks["only_leaders_commit_first"] += 1
        core = node.replica._core
        if not core.is_leader and self.leaders.get(core.term) != node.name:
            raise self._broken(
                "only_leaders_commit_first",
                node,
                f"follows and commits {index}; nobody had more than {self._committed_to}",
            )

    def committed_means_durable_on_a_quorum(self, node: SimNode, index: int) -> None:
        """A leader counts copies; the disks say whether they are there."""
        self.checks["committed_means_durable_on_a_quorum"] += 1
        configuration = node.replica._core.configuration
        term = self._committed[index][0] if index in self._committed else None
        holders = []
        for voter in configuration.voters:
            record = self._disks.get(voter.disk_id) or self._records.get(voter.id)
            if record is not None and record.holds(index, term):
                holders.append(voter.id)
        if len(holders) < configuration.quorum:
            raise self._broken(
                "committed_means_durable_on_a_quorum",
                node,
                f"commits {index}, durable on {holders} of {len(configuration.voters)} voters",
            )

    def hard_state_never_goes_back(
        self, node: SimNode, record: DiskRecord, term: int, vote: NodeId | None
    ) -> None:
        self.checks["hard_state_never_goes_back"] += 1
        if term < record.term or (term == record.term and record.vote not in (None, vote)):
            raise self._broken(
                "hard_state_never_goes_back",
                node,
                f"goes from term {record.term}, vote {record.vote}, to {term}, {vote}",
            )

    def restart_keeps_what_was_durable(self, node: SimNode, record: DiskRecord) -> None:
        """Neither term and vote nor entries are lost that a sync had covered."""
        self.checks["restart_keeps_what_was_durable"] += 1
        log = node.replica._core.log
        term, vote = record.durable_term
        now = log.hard_state
        if now.term < term or (now.term == term and vote not in (None, now.vote)):
            raise self._broken(
                "restart_keeps_what_was_durable",
                node,
                f"had term {term}, vote {vote}, and wakes with {now.term}, {now.vote}",
            )
        index = record.last_durable()
        base = record.cells.get(log.base_index)
        if base is not None and base.term != log.base_term:
            # A snapshot was durable that contradicts it, and the log not yet restarted.
            return
        if index > max(record.base_index, log.base_index):
            if log.term_at(index) != record.cells[index].term:
                raise self._broken(
                    "restart_keeps_what_was_durable",
                    node,
                    f"had entry {index} of term {record.cells[index].term} and wakes without",
                )

    def what_was_recovered_is_durable(self, node: SimNode) -> None:
        """A node speaks by what it recovered, so the next power cut must not take it."""
        self.checks["what_was_recovered_is_durable"] += 1
        if not node.disk.is_all_durable("wal"):
            raise self._broken(
                "what_was_recovered_is_durable", node, "relies on bytes that are in no sync"
            )

    def nothing_leaves_a_stopped_node(self, node: SimNode) -> None:
        self.checks["nothing_leaves_a_stopped_node"] += 1
        stopped = node.replica.stopped
        if node.disk.failed or (stopped is not None and not node.retired):
            raise self._broken("nothing_leaves_a_stopped_node", node, "speaks after its end")

    def a_failed_disk_stops_the_node(self, node: SimNode) -> None:
        self.checks["a_failed_disk_stops_the_node"] += 1
        if node.disk.failed and node.replica.stopped is None:
            raise self._broken("a_failed_disk_stops_the_node", node, "goes on")

    def no_message_before_its_write(
        self, node: SimNode, target: NodeId, message: messages.Message
    ) -> None:
        """A message promises a term, a vote or entries: they must be durable."""
        self.checks["no_message_before_its_write"] += 1
        record = self._records[node.name]
        kind = type(message)
        vote: NodeId | None = None
        if type(message) is messages.VoteRequest:
            if message.pre:
                return
            vote = NodeId(node.name)
        elif type(message) is messages.VoteReply:
            if message.pre and message.granted:
                return
            vote = target if message.granted else None
        term, durable_vote = record.durable_term
        if term < message.term or (term == message.term and vote not in (None, durable_vote)):
            raise self._broken(
                "no_message_before_its_write",
                node,
                f"sends {kind.__name__} of term {message.term}, vote {vote}; "
                f"durable are {term}, {durable_vote}",
            )
        if type(message) is messages.AppendReply and message.success:
            # An answer of an older term is worth nothing to anybody.
            if message.term == record.term and message.index <= record.last_index:
                if not record.holds(message.index):
                    raise self._broken(
                        "no_message_before_its_write",
                        node,
                        f"acknowledges entry {message.index} before it is durable",
                    )

    def only_committed_entries_are_applied_in_order(self, node: SimNode, index: int) -> None:
        self.checks["only_committed_entries_are_applied_in_order"] += 1
        expected = self._applied[node.name] + 1
        if index != expected or index > self._committed_to:
            raise self._broken(
                "only_committed_entries_are_applied_in_order",
                node,
                f"applies {index}; next is {expected}, committed is {self._committed_to}",
            )

    def applied_sequences_are_equal(self, node: SimNode, index: int, state_hash: bytes) -> None:
        """One state for each index: the hash covers everything applied before.

        What all keys count for is no part of the hash, but decides what is refused.
        """
        if not self._check_hashes:
            return
        self.checks["applied_sequences_are_equal"] += 1
        shown = (state_hash, node.replica.store.dataset_bytes)
        known, first = self._hashes.setdefault(index, (shown, node.name))
        if known != shown:
            raise self._broken(
                "applied_sequences_are_equal", node, f"differs from {first} after index {index}"
            )

    def histories_are_equal(self, node: SimNode, *, whole: bool) -> None:
        """Every node tells the same of each revision, and has dropped the same."""
        if not self._check_hashes:
            return
        self.checks["histories_are_equal"] += 1
        difference = self._histories.difference(node.name, node.replica.store, whole=whole)
        if difference:
            raise self._broken("histories_are_equal", node, difference)

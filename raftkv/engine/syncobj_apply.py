"""Handing out committed entries exactly once, and answering every proposal once.

* AP: PySyncObj applies inside its loop; a command that raises wedges every
  node, a callback that raises applies twice, an unknown version repeats the
  entry before it. Here the applied index advances first, the entry is handed
  out as a value, and what the store does with it cannot reach this loop. An
  entry of an unknown kind stops the node.
* G: a proposal's token leaves in exactly one of `CommittedEntry` and `Outcome`.

The waiting table (index -> term and token) is PySyncObj's own.

Tests: tests/unit/engine/test_apply.py.
"""

from __future__ import annotations

from typing import NoReturn

from raftkv.engine.ready import (
    KIND_COMMANDS,
    KINDS,
    CommittedEntry,
    Outcome,
    Proposal,
)
from raftkv.engine.syncobj_changes import ChangeMends
from raftkv.engine.syncobj_state import SafetyViolationError
from raftkv.types import Index, Term

# What an entry counts for besides its command: the shortest may remove hundreds of dead
# keys, which is known only behind the first of them.
APPLY_OVERHEAD_BYTES = 16 * 1024
_COMMANDS_PREFIX = bytes((KIND_COMMANDS,))


class ApplyMends(ChangeMends):
    """Proposals on their way in, committed entries on their way out."""

    def propose(self, proposal: Proposal) -> None:
        """Append one proposal, or refuse it definitely."""
        if not self.is_leader:
            self.outcomes.append(Outcome(proposal.token, True, "not leader"))
            return
        if not self.quorum_takes_entries():
            self.outcomes.append(Outcome(proposal.token, True, "disk full"))
            return
        index = self.log.last_index + 1
        self.log.add(_COMMANDS_PREFIX + proposal.payload, index, self.term)
        self._SyncObj__commandsWaitingCommit[index].append((self.term, proposal.token))

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Hand out what is committed, one entry and as many more as one step may apply."""
        size = 0
        size_max = 0 if self.applies_slowly else self.settings.apply_bytes_max
        waiting = self._SyncObj__commandsWaitingCommit
        while self.applied_index < self.commit_index:
            index = Index(self.applied_index + 1)
            entry = self.log.entry_at(index)
            if entry is None:
                raise SafetyViolationError(f"committed entry {index} is not in the log")
            command, _, term = entry
            if command[0] not in KINDS:
                raise SafetyViolationError(f"entry {index} is of unknown kind {command[0]}")
            size += len(command) + APPLY_OVERHEAD_BYTES
            if size > size_max and self.committed:
                break
            self._SyncObj__raftLastApplied = index
            token = None
            for proposed_term, proposed in waiting.pop(index, ()):
                if proposed_term == term:
                    token = proposed
                else:
                    self.outcomes.append(Outcome(proposed, True, "entry discarded"))
            self.committed.append(
                CommittedEntry(index, Term(term), command[0], memoryview(command)[1:], token)
            )
        self.apply_backlog = self.applied_index < self.commit_index
        return False

    def answer_lost_proposals(self) -> None:
        """After leaving office: nobody will report on what is still waiting."""
        waiting = self._SyncObj__commandsWaitingCommit
        for index in sorted(waiting):
            # No term where a snapshot covers the index: it may hold the proposal.
            held = self.log.term_at(index) if index <= self.commit_index else None
            kept = []
            for term, token in waiting[index]:
                if held is None:
                    self.outcomes.append(Outcome(token, False, "leadership lost"))
                elif held != term:
                    self.outcomes.append(Outcome(token, True, "entry discarded"))
                else:
                    kept.append((term, token))
            if kept:
                waiting[index] = kept
            else:
                del waiting[index]

    def answer_covered_proposals(self, index: Index) -> None:
        """After a snapshot was adopted: what it covers is not handed out any more."""
        waiting = self._SyncObj__commandsWaitingCommit
        for covered in sorted(waiting):
            if covered <= index:
                for _, token in waiting.pop(covered):
                    self.outcomes.append(Outcome(token, False, "leadership lost"))

    def _SyncObj__doApplyCommand(self, command: bytes) -> NoReturn:  # noqa: N802
        """Unreachable: the library would unpickle here."""
        raise SafetyViolationError("the library tried to apply a command itself")

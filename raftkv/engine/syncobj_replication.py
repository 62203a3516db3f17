"""Appending, acknowledging, committing: the mends of log replication.

* A: a reply carries term and round; one of another term changes nothing.
* B: a follower skips the prefix that it already holds, truncates only from the
  first real conflict, never below its commit index, and commits no further
  than the message proved.
* N1: a message that verified nothing about the log commits nothing.
* N4: one rewind per burst; rejections of older rounds are late.
* The leader counts itself only up to its durable index, and an acknowledgement
  carries the write sequence it depends on.

PySyncObj's append_entries handler runs on what is left after these guards; its
handler for acknowledgements and its sending are replaced: the former moves the
next index back over entries in flight, the latter loops until a clock moves.

Tests: tests/unit/engine/test_replication.py, tests/unit/engine/test_findings.py.
"""

from __future__ import annotations

from raftkv.engine.configuration import decode_configuration
from raftkv.engine.messages import Append, AppendReply, Heartbeat, RoundReply
from raftkv.engine.ready import KIND_COMMANDS, KIND_CONFIGURATION, EntriesRead, LogEntry
from raftkv.engine.syncobj_library import FOLLOWER, SyncObj
from raftkv.engine.syncobj_reads import ReadMends
from raftkv.engine.syncobj_state import PeerState, SafetyViolationError
from raftkv.types import Index, NodeId, WriteSequence


class ReplicationMends(ReadMends):
    """Both ends of AppendEntries, and the commit rule."""

    # ---------------------------------------------------------------- follower

    def on_heartbeat(self, node_id: NodeId, message: Heartbeat) -> None:
        """Follow the leader of this term; prove nothing else."""
        if message.term < self.term:
            self._refuse_stale_leader(node_id, message.round)
            return
        self._follow(node_id, message.term)
        self.note_heard(message.round)
        self.send(node_id, RoundReply(term=self.term, round=message.round))

    def on_append(self, node_id: NodeId, message: Append) -> None:
        """Take the entries that are new, and say what is durable."""
        if message.term < self.term:
            self._refuse_stale_leader(node_id, message.round)
            return
        entries = _numbered(message)
        for command, _, _ in entries:
            if command[0] == KIND_CONFIGURATION:
                decode_configuration(memoryview(command)[1:])
        self._follow(node_id, message.term)
        self.note_heard(message.round)
        verified = message.prev_index + len(entries)
        if verified <= self.log.base_index:
            # The snapshot under the log covers all of it, hence it is committed.
            self._acknowledge(node_id, message, Index(verified))
            return
        previous, previous_term, entries = self._skip_base(message, entries)
        held_term = self.log.term_at(previous)
        if held_term is None or held_term != previous_term:
            self._reject(node_id, message.round, self._next_hint(previous, held_term))
            return
        entries, previous, previous_term = self._skip_held(entries, previous, previous_term)
        if self.disk_full and any(command[0] == KIND_COMMANDS for command, _, _ in entries):
            self._reject(node_id, message.round, previous + 1, full=True)
            return
        commit = max(self.commit_index, min(message.commit, verified))
        if entries:
            self._add(node_id, message, entries, previous, previous_term)
        self._SyncObj__leaderCommitIndex = message.commit
        if commit > self.commit_index:
            self.set_commit(Index(commit))
            self.refresh_admission()
        self._acknowledge(node_id, message, Index(verified))

    def _follow(self, node_id: NodeId, term: int) -> None:
        """Run the library's own handler without a log part: leader, timer, state."""
        if self.is_leader:
            raise SafetyViolationError(f"{node_id} also leads term {term}")
        if self.role == FOLLOWER and term == self.term and self.leader_id == node_id:
            # Nothing changes but the timer.
            self.postpone_election()
            self.leader_contact_ms = self.now_ms
            self.prevotes = None
            return
        commit = self.commit_index
        SyncObj._SyncObj__onMessageReceived(
            self,
            self.peers[node_id].node,
            {"type": "append_entries", "term": term, "commit_index": commit},
        )
        self.leader_contact_ms = self.now_ms
        self.prevotes = None

    def _skip_base(
        self, message: Append, entries: list[LogEntry]
    ) -> tuple[int, int, list[LogEntry]]:
        """Leave out what the snapshot under the log covers: it is committed."""
        base = self.log.base_index
        if message.prev_index >= base:
            return message.prev_index, message.prev_term, entries
        return base, self.log.base_term, [entry for entry in entries if entry[1] > base]

    def _skip_held(
        self, entries: list[LogEntry], previous: int, previous_term: int
    ) -> tuple[list[LogEntry], int, int]:
        count = 0
        for _, index, term in entries:
            held = self.log.term_at(index)
            if held != term:
                break
            previous, previous_term = index, term
            count += 1
        return entries[count:], previous, previous_term

    def _add(
        self,
        node_id: NodeId,
        message: Append,
        entries: list[LogEntry],
        previous: int,
        previous_term: int,
    ) -> None:
        if previous < self.commit_index:
            raise SafetyViolationError(
                f"{node_id} contradicts entry {previous + 1}, committed up to {self.commit_index}"
            )
        SyncObj._SyncObj__onMessageReceived(
            self,
            self.peers[node_id].node,
            {
                "type": "append_entries",
                "term": message.term,
                "commit_index": self.commit_index,
                "prevLogIdx": previous,
                "prevLogTerm": previous_term,
                "entries": entries,
            },
        )
        self.note_entries(entries)

    def _acknowledge(self, node_id: NodeId, message: Append, index: Index) -> None:
        depends = self.log.acknowledgement_depends(index)
        if message.answer and depends > self.log.synced:
            self.send(node_id, RoundReply(term=self.term, round=message.round))
        self._reply(
            node_id,
            message.round,
            success=True,
            index=index,
            full=self.disk_full,
            depends=depends,
        )

    def _next_hint(self, previous: int, held_term: int | None) -> int:
        """Return where the logs may agree: the whole conflicting term is skipped."""
        if held_term is None:
            return self.log.last_index + 1
        index = previous
        while index - 1 > self.commit_index and self.log.term_at(index - 1) == held_term:
            index -= 1
        return index

    def _reject(self, node_id: NodeId, round_: int, index: int, *, full: bool = False) -> None:
        self._reply(node_id, round_, success=False, index=Index(index), full=full)

    def _refuse_stale_leader(self, node_id: NodeId, round_: int) -> None:
        """Show the newer term, so that a deposed leader learns of it at once."""
        self._reply(node_id, round_, success=False, index=Index(0))

    def _reply(
        self,
        node_id: NodeId,
        round_: int,
        *,
        success: bool,
        index: Index,
        full: bool = False,
        depends: WriteSequence | None = None,
    ) -> None:
        reply = AppendReply(term=self.term, round=round_, success=success, index=index, full=full)
        self.send(node_id, reply, depends)

    def _SyncObj__sendNextNodeIdx(  # noqa: N802
        self,
        node: object,
        reset: bool = False,
        nextNodeIdx: int | None = None,  # noqa: N803
        success: bool = False,
    ) -> None:
        """The library's reply, without term or round; `_acknowledge` sends ours."""
        if not success:
            raise SafetyViolationError("the library rejected entries that were verified")

    # ------------------------------------------------------------------ leader

    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        """Note what a follower holds, or where to try again."""
        state = self.peers[node_id]
        if not self.is_leader or message.term != self.term:
            return
        self._note_round(state, message.round)
        state.full = message.full
        match = self.match_indexes[state.node]
        if message.success:
            if message.index > self.log.last_index:
                raise SafetyViolationError(
                    f"{node_id} acknowledges {message.index}, not in our log"
                )
            self.match_indexes[state.node] = max(match, message.index)
            self.next_indexes[state.node] = max(self.next_indexes[state.node], message.index + 1)
            while state.inflight and state.inflight[0][0] <= message.index:
                state.inflight_bytes -= state.inflight.popleft()[1]
        elif message.round > state.rewind_round:
            self.rewind(state, max(match + 1, min(message.index, self.log.last_index + 1)))

    def on_round_reply(self, node_id: NodeId, message: RoundReply) -> None:
        """Note that a follower still followed when the round arrived."""
        if self.is_leader and message.term == self.term:
            self._note_round(self.peers[node_id], message.round)

    def _note_round(self, state: PeerState, round_: int) -> None:
        if round_ > self.round:
            raise SafetyViolationError("answer to a round that was never begun")
        state.confirmed_round = max(state.confirmed_round, round_)
        self._SyncObj__lastResponseTime[state.node] = self.now_ms / 1000

    def rewind(self, state: PeerState, next_index: int) -> None:
        """Send from `next_index` again; answers to earlier messages are late now."""
        self.next_indexes[state.node] = next_index
        state.rewind_round = self.round
        state.forget_inflight()

    def advance_commit(self) -> None:
        """Commit what a quorum holds durably, if it is of this term (Raft, 5.4.2)."""
        matches = [self.match_indexes[state.node] for state in self.counted_peers()]
        candidate = self.quorum_value(matches, self.log.durable_index())
        if candidate > self.commit_index and self.log.term_at(candidate) == self.term:
            self.set_commit(Index(candidate))
            self._SyncObj__leaderCommitIndex = candidate
            self.refresh_admission()

    def quorum_takes_entries(self) -> bool:
        """Whether enough disks have space."""
        if self.disk_full:
            return False
        peers, own, quorum, _ = self.counting()
        return own + sum(not state.full for state in peers) >= quorum

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        """The library asks for a broadcast; the step makes one at its end."""
        self.broadcast_requested = True

    def broadcast(self) -> None:
        """Send each peer at most one message: entries, or a sign of life if one is due."""
        due = (
            self.now_ms >= self.heartbeat_due_ms or self.round_requested or self.broadcast_requested
        )
        self.round += 1
        self.note_round_begun()
        if due:
            if self.now_ms >= self.proof_due_ms:
                self.prove_freshness()
            self.heartbeat_due_ms = self.now_ms + self.settings.heartbeat_ms
        for node_id, state in self.peers.items():
            if state.connected and state.reached:
                self._send_to(node_id, state, due=due)
        self.round_requested = False
        self.broadcast_requested = False

    def _send_to(self, node_id: NodeId, state: PeerState, *, due: bool) -> None:
        next_index = self.next_indexes[state.node]
        state.wants_snapshot = next_index <= self.log.base_index
        if state.wants_snapshot:
            if due:
                self.send(node_id, Heartbeat(term=self.term, round=self.round))
            return
        entries: list[LogEntry] = []
        if (
            next_index <= self.log.last_index
            and state.inflight_bytes < self.settings.inflight_bytes_max
            and (due or not state.full)
        ):
            if next_index > self.log.evicted_index:
                entries = self.log.entries_from(next_index, self.settings.append_bytes_max)
            else:
                entries = self._from_disk(state, next_index)
        if not entries and not due:
            return
        previous_term = self.log.term_at(next_index - 1)
        if previous_term is None:
            raise SafetyViolationError(f"no entry {next_index - 1} to send after")
        self.send(
            node_id,
            Append(
                term=self.term,
                round=self.round,
                commit=self.commit_index,
                prev_index=next_index - 1,
                prev_term=previous_term,
                answer=self.round_requested,
                entries=[(term, command) for command, _, term in entries],
            ),
        )
        if entries:
            last = entries[-1][1]
            size = sum(len(command) for command, _, _ in entries)
            self.next_indexes[state.node] = last + 1
            state.inflight.append((last, size))
            state.inflight_bytes += size
            if last < self.log.evicted_index:
                self._want(state, last + 1)

    # ------------------------------------------------------------ long logs

    def _from_disk(self, state: PeerState, next_index: int) -> list[LogEntry]:
        """Return what to send next, if it was read for this step; else have it read."""
        for entries in self.loaded:
            position = next_index - entries[0][1]
            if 0 <= position < len(entries):
                return entries[position:]
        self._want(state, next_index)
        return []

    def _want(self, state: PeerState, first: int) -> None:
        """Ask for entries that are not in memory: one read a peer at a time."""
        if state.reading or state.full:
            return
        if state.inflight_bytes >= self.settings.inflight_bytes_max:
            return
        if all(other.reading != first for other in self.peers.values()):
            self.wanted.append(Index(first))
        state.reading = first

    def on_entries_read(self, item: EntriesRead) -> None:
        """Take what was read from the disk; `broadcast` sends it to whom it fits.

        It was asked for some time ago. This node may lead no more, and a snapshot
        may cover a part of it; it cannot have been truncated, for only what is
        applied leaves the memory.
        """
        for state in self.peers.values():
            if state.reading == item.first:
                state.reading = 0
        for position, (_, index, term) in enumerate(item.entries):
            held = self.log.term_at(index)
            if index != item.first + position or held not in (None, term):
                raise SafetyViolationError(
                    f"entry {index} of term {term} was read back, where entry "
                    f"{item.first + position} of term {held} is known"
                )
        entries = item.entries[max(0, self.log.base_index + 1 - item.first) :]
        if entries and self.is_leader:
            self.loaded.append(entries)

    def evict(self) -> None:
        """Let the oldest entries leave the memory, so that it keeps to the budget."""
        budget = self.settings.log_memory_bytes_max
        # A little more than needed, so that it is not done at every step.
        self.log.evict(self.applied_index, budget - budget // 8)

    def has_backlog(self) -> bool:
        """Whether a connected peer could be sent more entries at once."""
        return any(
            state.connected
            and state.reached
            and not state.full
            and state.inflight_bytes < self.settings.inflight_bytes_max
            and self.log.evicted_index < self.next_indexes[state.node] <= self.log.last_index
            for state in self.peers.values()
        )


def _numbered(message: Append) -> list[LogEntry]:
    first = message.prev_index + 1
    return [
        (command, first + position, term)
        for position, (term, command) in enumerate(message.entries)
    ]

"""Who counts: configuration in force, disks, founding, letting a new disk in.

Mends finding K (after a restart PySyncObj's configuration entries count only
once applied) and replaces the library's membership commands, which carry
pickles: the configuration in force is read from the log, also at the start,
and rolled back with it.

A vote or an acknowledgement counts only if it comes from the disk that the
configuration names, because a node whose directory was wiped has forgotten
what it promised:

* founding: a node with an empty log may vote once *every* initial member has
  answered and none holds anything either;
* a wiped node follows the log without being counted, until a configuration that
  names its new disk is committed by a quorum without it (ADR 13).

Tests: tests/unit/engine/test_membership.py, tests/sim.
"""

from __future__ import annotations

from dataclasses import replace

from raftkv.engine.configuration import decode_configuration, encode_configuration
from raftkv.engine.ready import KIND_CONFIGURATION, LogEntry, PeerHello
from raftkv.engine.syncobj_state import Counting, EngineState, PeerNode, PeerState
from raftkv.types import Configuration, Index, Member, NodeId


class MembershipMends(EngineState):
    """Configuration in force and the question whose word counts."""

    def refresh_members(self) -> None:
        """Make PySyncObj's tables and the peer states follow the configuration in force."""
        self.members_changed()
        configuration = self.configurations.in_force
        others = [member for member in configuration.members if member.id != self.node_id]
        kept = {member.id for member in others}
        for node_id in [node_id for node_id in self.peers if node_id not in kept]:
            self.forget_stranger(node_id)
        for member in others:
            self.farewells.pop(member.id, None)
            self.ensure_peer(member.id).reached = True
        self.peers = {node_id: self.peers[node_id] for node_id in sorted(self.peers)}
        self._SyncObj__otherNodes = {
            self.peers[member.id].node for member in others if member.voter
        }
        self.refresh_admission()

    def ensure_peer(self, node_id: NodeId) -> PeerState:
        """Return what is known of a node, whether the configuration names it or not."""
        state = self.peers.get(node_id)
        if state is None:
            self.members_changed()
            state = PeerState(PeerNode(node_id), reached=False)
            self.peers[node_id] = state
            self.next_indexes[state.node] = self.log.last_index + 1
            self.match_indexes[state.node] = 0
            self._SyncObj__lastResponseTime[state.node] = self.now_ms / 1000
        return state

    def forget_stranger(self, node_id: NodeId) -> None:
        """Drop a node that is no member; one that is still linked is only sent nothing.

        Why keep that: a leader may be a member by an entry that this node does
        not have yet, and nobody else would send it (Raft thesis, 4.1).
        """
        self.members_changed()
        state = self.peers[node_id]
        state.reached = node_id in self.farewells
        state.wants_snapshot = state.wants_snapshot and state.reached
        if state.connected:
            return
        del self.peers[node_id]
        self.next_indexes.pop(state.node, None)
        self.match_indexes.pop(state.node, None)
        self._SyncObj__lastResponseTime.pop(state.node, None)

    def refresh_admission(self) -> None:
        """Decide whether this node's own word counts."""
        mine = self.member
        if mine is None or not mine.disk_id:
            return
        # A configuration in force that names another disk revokes at once; one
        # that names this disk must be committed before it admits.
        if mine.disk_id != self.disk_id:
            self._set_admitted(False)
        elif not self.admitted:
            committed = self.configurations.at(self.commit_index).member(self.node_id)
            if committed is not None and committed.disk_id == self.disk_id:
                self._set_admitted(True)

    def _set_admitted(self, admitted: bool) -> None:
        if self.admitted != admitted:
            self.admitted = admitted
            self.admission_changed = True
            self.members_changed()

    # ---------------------------------------------------------------- counting

    @property
    def may_vote(self) -> bool:
        """Whether this node may vote, campaign and count itself."""
        mine = self.member
        return self.admitted and mine is not None and mine.voter

    def is_named(self, node_id: NodeId, state: PeerState) -> bool:
        """Whether the configuration in force counts the disk that a peer has.

        That is enough for a vote: a disk that is not admitted gives none.
        """
        member = self.configurations.in_force.member(node_id)
        if member is None or not member.voter or state.hello is None:
            return False
        return member.disk_id in ("", state.hello.disk_id)

    def is_other_disk(self, node_id: NodeId, state: PeerState) -> bool:
        """Whether the configuration in force names another disk than a peer has."""
        member = self.configurations.in_force.member(node_id)
        if member is None or not member.disk_id or state.hello is None:
            return False
        return member.disk_id != state.hello.disk_id

    def counts(self, node_id: NodeId, state: PeerState) -> bool:
        """Whether a peer's acknowledgements and answers to rounds count."""
        # Why the configuration in force does not suffice: a candidate may hold the
        # vote of the lost disk in a newer term, and win once its requests reach a
        # node that this configuration has not reached. So it must be committed by
        # the others first. Proof: tests/unit/engine/test_membership.py.
        if not self.is_named(node_id, state):
            return False
        if not state.admitted and state.hello is not None:
            committed = self.configurations.at(self.commit_index).member(node_id)
            state.admitted = committed is not None and committed.disk_id == state.hello.disk_id
        return state.admitted

    def counting(self) -> Counting:
        """Return whose word counts; worked out once between two rare events."""
        counting = self.known_counting
        if counting is None:
            counting = self.known_counting = Counting(
                [state for node_id, state in self.peers.items() if self.counts(node_id, state)],
                self.may_vote,
                self.configurations.in_force.quorum,
                self._is_settled(),
            )
        return counting

    def counted_peers(self) -> list[PeerState]:
        """Peers whose word counts, connected or not; the list is not to be changed."""
        return self.counting().peers

    def _is_settled(self) -> bool:
        """Whether no member is a learner, and none waits with a new disk."""
        for member in self.configurations.in_force.members:
            state = self.peers.get(member.id)
            if not member.voter or not member.disk_id:
                return False
            if state is not None and self.is_other_disk(member.id, state):
                return False
        return True

    # ---------------------------------------------------------------- founding

    @property
    def is_blank(self) -> bool:
        """Whether the log has never held anything."""
        return self.log.last_index == 0

    def waiting_for(self) -> tuple[NodeId, ...]:
        """Members whose answer is missing before this node may take part in founding."""
        if self.admitted or not self.is_blank or self.configurations.last_index > 0:
            return ()
        return tuple(
            node_id
            for node_id, state in self.peers.items()
            if state.reached and not state.connected
        )

    def try_found(self) -> None:
        """Take part in the very first election once every member is known to be blank."""
        if self.admitted or not self.is_blank or self.member is None:
            return
        hellos: list[PeerHello] = []
        for state in self.peers.values():
            if state.reached:
                if not state.connected or state.hello is None or not state.hello.founding:
                    return
                hellos.append(state.hello)
        # Why not simply vote: this node may have voted and then lost its disk.
        # Every vote it gave is known to the candidate that asked, hence to the
        # highest term among the others; that term counts as used.
        term = max([self.term, *(hello.term for hello in hellos)])
        voted = term == self.term and self.log.hard_state.vote is not None
        if term > 0 and not voted:
            self._SyncObj__setCurrentTerm(term, self.node_id)
        self._set_admitted(True)

    # ----------------------------------------------------- configuration entries

    def note_entries(self, entries: list[LogEntry]) -> None:
        """Put configurations among newly added entries in force at once."""
        for command, index, _ in entries:
            if command[0] == KIND_CONFIGURATION:
                self.configurations.append(
                    Index(index), decode_configuration(memoryview(command)[1:])
                )
                self.refresh_members()

    def _SyncObj__deleteEntriesFrom(self, fromIDx: int) -> None:  # noqa: N802, N803
        """Truncate, and roll the configuration in force back with the log."""
        EngineState._SyncObj__deleteEntriesFrom(self, fromIDx)
        if self.configurations.truncate(Index(fromIDx)):
            self.refresh_members()

    def propose_configuration(self, configuration: Configuration) -> bool:
        """Append a configuration entry; one change at a time, none before the own no-op.

        Returns:
            False when it must not be done now; nothing was changed.
        """
        if not self.is_leader or self.commit_index < self.noop_index:
            return False
        if self.configurations.last_index > self.commit_index:
            return False
        self._append_configuration(configuration)
        return True

    def _append_configuration(self, configuration: Configuration) -> None:
        command = bytes((KIND_CONFIGURATION,)) + encode_configuration(configuration)
        index = self.log.last_index + 1
        self.log.add(command, index, self.term)
        self.note_entries([(command, index, self.term)])
        self.broadcast_requested = True

    def found_cluster(self, cluster_id: str) -> None:
        """Write the first configuration, naming the cluster and every disk."""
        configuration = self.configurations.in_force
        if configuration.cluster_id:
            return
        members = tuple(
            replace(member, disk_id=self._disk_of(member)) for member in configuration.members
        )
        self._append_configuration(Configuration(cluster_id, members))

    def _disk_of(self, member: Member) -> str:
        if member.id == self.node_id:
            return self.disk_id
        hello = self.peers[member.id].hello
        return member.disk_id if hello is None else hello.disk_id

    def let_in_new_disk(self) -> None:
        """Propose the new disk of a wiped member that has caught up.

        The entry is committed without that disk (see `counts`), and everybody
        who gets it forgets the old one.
        """
        for node_id, state in self.peers.items():
            member = self.configurations.in_force.member(node_id)
            if member is None or state.hello is None or not state.connected:
                continue
            if member.disk_id in ("", state.hello.disk_id) or state.hello.admitted:
                continue
            if self.match_indexes[state.node] < self.commit_index:
                continue
            self.propose_configuration(
                with_disk(self.configurations.in_force, node_id, state.hello.disk_id)
            )
            return

    def confirmed_round(self) -> int:
        """Return the newest round of this term that a quorum has answered."""
        rounds = [state.confirmed_round for state in self.counted_peers()]
        return self.quorum_value(rounds, self.round)

    def quorum_value(self, values: list[int], own: int) -> int:
        """Return the highest value that a quorum has reached.

        Args:
            values: Of the counted peers.
            own: Of this node, taken only if it counts itself.
        """
        _, own_counts, quorum, _ = self.counting()
        if own_counts:
            values.append(own)
        if len(values) < quorum:
            return 0
        values.sort(reverse=True)
        return values[quorum - 1]


def with_disk(configuration: Configuration, node_id: NodeId, disk_id: str) -> Configuration:
    """Return the configuration with one member's disk named."""
    return Configuration(
        configuration.cluster_id,
        tuple(
            replace(member, disk_id=disk_id) if member.id == node_id else member
            for member in configuration.members
        ),
    )

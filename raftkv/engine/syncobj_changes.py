"""Membership changes at run time: one at a time, learners first, a leader that may leave.

* N3: PySyncObj's guard against two changes at once is dead code, so two adds
  split the brain. Here a change is refused while a configuration entry is not
  committed, and before this term's own no-op is.
* A new member is a learner: it gets log and snapshots and is not counted. The
  leader writes the learner's disk into a configuration of its own, so that the
  disk is committed before it can count; it is promoted only once it keeps up.
* A leader that removes or demotes itself does not count itself for that entry;
  when it is committed it hands leadership over, or just steps down.
* A removed node is told: the leader sends to it until the entry is committed
  and for a bounded time after.

The configuration entry holds all members; a truncation rolls it back (see
`syncobj_membership`). PySyncObj's own membership commands are never used.

Source: Raft thesis, chapter 4. Tests: tests/unit/engine/test_membership_changes.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from raftkv.engine.ready import ChangeRequest, Outcome
from raftkv.engine.syncobj_membership import with_disk
from raftkv.engine.syncobj_transfer import TransferMends
from raftkv.types import ChangeKind, Configuration, Member, MembershipChange, NodeId

# How long a removed node is still told so after its removal is committed.
FAREWELL_MS = 10_000


@dataclass(slots=True)
class _Lap:
    """A learner's race to where the leader's log ended a moment ago.

    Attributes:
        goal: Index to reach.
        since_ms: When it was set.
        kept_up: The lap before this one took less than an election timeout.
    """

    goal: int
    since_ms: int
    kept_up: bool = False


class ChangeMends(TransferMends):
    """What a leader checks before a change, and what it owes after it."""

    _laps_term = -1
    _leave_term = -1

    # ---------------------------------------------------------------- requests

    def propose_change(self, request: ChangeRequest) -> None:
        """Append the resulting configuration, or refuse the change definitely."""
        change = request.change
        lasting = self.lasting_refusal(change) if self.is_leader else ""
        refusal = lasting or self.passing_refusal(change)
        if refusal:
            self.outcomes.append(Outcome(request.token, True, refusal, bool(lasting)))
            return
        self._append_configuration(changed(self.configurations.in_force, change))
        waiting = self._SyncObj__commandsWaitingCommit
        waiting[self.log.last_index].append((self.term, request.token))

    def lasting_refusal(self, change: MembershipChange) -> str:
        """Say why a change makes no sense with the members in force; empty if it does."""
        configuration = self.configurations.in_force
        member = configuration.member(change.node)
        if change.kind is ChangeKind.ADD:
            if member is not None:
                return f"{change.node} is a member already"
            return _address_refusal(configuration, change)
        if member is None:
            return f"{change.node} is not a member"
        if change.kind is ChangeKind.MOVE:
            return _address_refusal(configuration, change)
        if change.kind is ChangeKind.PROMOTE and member.voter:
            return f"{change.node} votes already"
        if change.kind is ChangeKind.DEMOTE and not member.voter:
            return f"{change.node} is a learner already"
        return "" if changed(configuration, change).voters else "it would leave no voter"

    def passing_refusal(self, change: MembershipChange) -> str:
        """Say why a change cannot be made yet; empty if it can."""
        if not self.is_leader:
            return "not leader"
        if self.transfer_target is not None:
            return f"leadership is being handed over to {self.transfer_target}"
        if not self.quorum_takes_entries():
            return "disk full"
        if self.commit_index < self.noop_index:
            return "the leader is new and has not committed anything yet"
        if self.configurations.last_index > self.commit_index:
            return "another membership change is not committed yet"
        if change.kind is ChangeKind.PROMOTE:
            refusal = self._promotion_refusal(change.node)
            if refusal:
                return refusal
        return self._quorum_refusal(change)

    def _promotion_refusal(self, node_id: NodeId) -> str:
        member = self.configurations.in_force.member(node_id)
        state = self.peers.get(node_id)
        if member is None or state is None or not state.connected or state.hello is None:
            return f"{node_id} is not connected"
        # What is in force here is committed, so this disk is, too.
        if member.disk_id != state.hello.disk_id:
            return f"{node_id} has not been let in with its disk yet"
        lap = self._laps.get(node_id)
        if lap is None or not lap.kept_up:
            behind = self.log.last_index - self.match_indexes[state.node]
            return f"{node_id} has not caught up yet: {behind} entries to go"
        return ""

    def _quorum_refusal(self, change: MembershipChange) -> str:
        """Refuse what would leave no quorum that answers."""
        configuration = changed(self.configurations.in_force, change)
        voters = configuration.voters
        if len(voters) == len(self.configurations.in_force.voters):
            return ""
        silent = [voter.id for voter in voters if not self._answers(voter.id, change.node)]
        if len(voters) - len(silent) >= configuration.quorum:
            return ""
        return f"no quorum would be left while {', '.join(silent)} does not answer"

    def _answers(self, node_id: NodeId, changing: NodeId) -> bool:
        if node_id == self.node_id:
            return True
        state = self.peers.get(node_id)
        if state is None or not state.connected:
            return False
        return node_id == changing or self.counts(node_id, state)

    # ---------------------------------------------------------------- learners

    @property
    def _laps(self) -> dict[NodeId, _Lap]:
        """Laps of this term's learners."""
        if self._laps_term != self.term:
            self._laps_term = self.term
            self._laps_of_term: dict[NodeId, _Lap] = {}
        return self._laps_of_term

    def measure_learners(self) -> None:
        """See which learners reach the end of the log within an election timeout."""
        laps = self._laps
        for member in self.configurations.in_force.members:
            if member.voter or member.id == self.node_id:
                continue
            state = self.peers[member.id]
            if not state.connected:
                laps.pop(member.id, None)
                continue
            lap = laps.setdefault(member.id, _Lap(self.log.last_index, self.now_ms))
            in_time = self.now_ms - lap.since_ms <= self.settings.election_timeout_max_ms
            if self.match_indexes[state.node] >= lap.goal:
                laps[member.id] = _Lap(self.log.last_index, self.now_ms, kept_up=in_time)
            elif not in_time:
                lap.kept_up = False

    def name_learner(self) -> None:
        """Write the disk of a new learner into the configuration, once it is linked."""
        configuration = self.configurations.in_force
        for member in configuration.members:
            if member.voter or member.disk_id or member.id == self.node_id:
                continue
            state = self.peers[member.id]
            if state.connected and state.hello is not None:
                self.propose_configuration(with_disk(configuration, member.id, state.hello.disk_id))
                return

    # ---------------------------------------------------------------- farewell

    def say_farewell(self) -> None:
        """Keep sending to nodes whose removal they may not have heard of."""
        if not self.farewells and self.configurations.last_index <= self.commit_index:
            return
        if not self.is_leader:
            self._end_farewells(list(self.farewells))
            return
        if self.configurations.last_index > self.commit_index:
            in_force = self.configurations.in_force
            for member in self.configurations.at(self.commit_index).members:
                if in_force.member(member.id) is None and member.id != self.node_id:
                    self.farewells[member.id] = (member, self.now_ms + FAREWELL_MS)
                    self.members_changed()
                    if member.id in self.peers:
                        self.peers[member.id].reached = True
        self._end_farewells(
            [node for node, (_, until_ms) in self.farewells.items() if until_ms < self.now_ms]
        )

    def _end_farewells(self, nodes: list[NodeId]) -> None:
        for node_id in nodes:
            self.members_changed()
            del self.farewells[node_id]
            if node_id in self.peers:
                self.forget_stranger(node_id)

    # ----------------------------------------------------------------- leaving

    def leave_office(self) -> None:
        """Hand over and step down once the entry that ends this leader's vote is committed."""
        if self.counting().own or not self.is_leader:
            return
        if self.configurations.last_index > self.commit_index:
            return
        mine = self.member
        if mine is not None and mine.voter:
            return
        if self._leave_term != self.term and not self.transfer_refusal(None):
            self._leave_term = self.term
            self.begin_transfer(None)
            return
        target = self.transfer_target
        # `tick_transfer` tells a target that holds the whole log to campaign. It
        # will not ask this node for a vote, so nothing more is to be heard here.
        if target is None or self.match_indexes[self.peers[target].node] == self.log.last_index:
            self.step_down()

    @property
    def is_removed(self) -> bool:
        """Whether the cluster is known to go on without this node.

        Only a node that counted can be removed: one that has not been added yet
        reads a history in which it does not occur. And only what is in force at
        the leader tells, not an old entry on the way to a later one.
        """
        if self.is_leader or not self.admitted or self.counting().own:
            return False
        if (self._SyncObj__leaderCommitIndex or 0) > self.commit_index:
            return False
        committed = self.configurations.at(self.commit_index)
        return (
            bool(committed.cluster_id)
            and committed.member(self.node_id) is None
            and self.member is None
        )


def changed(configuration: Configuration, change: MembershipChange) -> Configuration:
    """Return the configuration that a change leads to."""
    members = {member.id: member for member in configuration.members}
    if change.kind is ChangeKind.ADD:
        members[change.node] = Member(
            id=change.node, client=change.client, peer=change.peer, voter=False
        )
    elif change.kind is ChangeKind.REMOVE:
        del members[change.node]
    elif change.kind is ChangeKind.MOVE:
        members[change.node] = replace(members[change.node], client=change.client, peer=change.peer)
    else:
        voter = change.kind is ChangeKind.PROMOTE
        members[change.node] = replace(members[change.node], voter=voter)
    return Configuration(
        configuration.cluster_id, tuple(members[node_id] for node_id in sorted(members))
    )


def _address_refusal(configuration: Configuration, change: MembershipChange) -> str:
    for member in configuration.members:
        if member.id == change.node:
            if (member.client, member.peer) == (change.client, change.peer):
                return f"{change.node} has these addresses already"
        elif {member.client, member.peer} & {change.client, change.peer}:
            return f"{member.id} has one of these addresses"
    return ""

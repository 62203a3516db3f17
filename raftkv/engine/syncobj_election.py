"""Who leads: pre-vote, stickiness and check-quorum over PySyncObj's elections.

The three work only together (finding E): pre-vote keeps a node that cannot win
from raising the term, stickiness keeps a healthy leader from being deposed, and
check-quorum makes a leader that lost its quorum stop by itself, without which
stickiness would keep a dead leader in office.

* V: votes are a set of distinct members per term whose disks the configuration
  names; PySyncObj counts messages.
* A leader whose loop or disk stalled for an election timeout steps down when it
  wakes, before it serves anything.

PySyncObj's vote handlers and its way into office run unchanged behind these
guards; its timers are replaced.

Source: Raft thesis, sections 4.2.3 and 9.6.
Tests: tests/unit/engine/test_election.py.
"""

from __future__ import annotations

from raftkv.engine.messages import VoteReply, VoteRequest
from raftkv.engine.syncobj_library import CANDIDATE, SyncObj
from raftkv.engine.syncobj_replication import ReplicationMends
from raftkv.types import Index, NodeId


class ElectionMends(ReplicationMends):
    """Both sides of a vote, and the ways out of office."""

    # ------------------------------------------------------------------- voter

    def is_sticky(self) -> bool:
        """Whether a leader was heard, or this node started, too recently to vote."""
        if self.is_leader:
            return True
        timeout = self.settings.election_timeout_min_ms
        return (
            self.now_ms - self.leader_contact_ms < timeout
            or self.now_ms - self.started_ms < self.start_refusal_ms
        )

    def on_vote_request(self, node_id: NodeId, message: VoteRequest) -> None:
        """Give the vote of this term, or say whether it would be given."""
        state = self.peers[node_id]
        if not self._may_answer(message):
            if not self._is_up_to_date(message):
                self.counted_ms = self.now_ms
            return
        if self.is_other_disk(node_id, state) and not self._is_ahead(message):
            return
        # Only an admitted disk asks, or answers.
        state.admitted = True
        self.members_changed()
        if message.term < self.term or (message.pre and message.term == self.term):
            self.send_vote_reply(node_id, self.term, granted=False, pre=message.pre)
            return
        if self.is_sticky() and not message.transfer:
            return
        if message.pre:
            if self._is_up_to_date(message):
                self.send_vote_reply(node_id, message.term, granted=True, pre=True)
            return
        SyncObj._SyncObj__onMessageReceived(
            self,
            state.node,
            {
                "type": "request_vote",
                "term": message.term,
                "last_log_index": message.last_index,
                "last_log_term": message.last_term,
            },
        )

    def _may_answer(self, message: VoteRequest) -> bool:
        """Whether this node has a vote in an election by that candidate's configuration.

        A candidate asks those whom its configuration names as voters. One whose
        log goes on beyond this node's may know of a change that this node does
        not, and may need its vote because of it (Raft thesis, 4.2).
        """
        return self.may_vote or (self.admitted and self._is_ahead(message))

    def _is_ahead(self, message: VoteRequest) -> bool:
        """Whether the candidate's log goes on beyond this node's.

        Then it may hold the entry that names its new disk, which this node missed,
        and the cluster may depend on this vote. A lost disk that is attached again
        is never ahead of a node that holds that entry (ADR 0013).
        """
        mine = (self.log.last_term, self.log.last_index)
        return (message.last_term, message.last_index) > mine

    def _is_up_to_date(self, message: VoteRequest) -> bool:
        """Compare logs as Raft, section 5.4.1."""
        mine = (self.log.last_term, self.log.last_index)
        return (message.last_term, message.last_index) >= mine

    # --------------------------------------------------------------- candidate

    def on_vote_reply(self, node_id: NodeId, message: VoteReply) -> None:
        """Count one vote of one member of this term."""
        state = self.peers[node_id]
        if not self.is_named(node_id, state) or not message.granted:
            return
        state.admitted = True
        self.members_changed()
        if message.pre:
            self._count_prevote(node_id, message)
            return
        if self.role != CANDIDATE or message.term != self.term or node_id in self.voters_heard:
            return
        self.voters_heard.add(node_id)
        self.voter_walls_ms.append(message.wall_ms)
        if not self.may_vote:
            # The library counts with a candidate that votes for itself.
            if len(self.voters_heard) >= self.configurations.in_force.quorum:
                self._SyncObj__onBecomeLeader()
            return
        SyncObj._SyncObj__onMessageReceived(
            self, state.node, {"type": "response_vote", "term": message.term}
        )

    def _count_prevote(self, node_id: NodeId, message: VoteReply) -> None:
        if self.prevotes is None or message.term != self.term + 1:
            return
        self.prevotes.add(node_id)
        if len(self.prevotes) >= self.configurations.in_force.quorum:
            self.campaign()

    def _ask_for_prevotes(self) -> None:
        self.postpone_election()
        self._SyncObj__raftLeader = None
        self.prevotes = self._own_vote()
        if len(self.prevotes) >= self.configurations.in_force.quorum:
            self.campaign()
            return
        self._request_votes(pre=True)

    @property
    def may_campaign(self) -> bool:
        """Whether this node may stand for election.

        A leader that crashed with the entry that removes or demotes it may be the
        only one to have that entry, and then nobody else can win. Nor can anybody
        where a candidate counts on the vote of a learner, by an entry that the learner
        lacks, whose log is ahead of that candidate's. The votes it needs are those of its
        own configuration, without its own; in office it hands over (`leave_office`).
        """
        if self.counting().own:
            return True
        if self.counted_ms > self.leader_contact_ms and self.admitted and self.member is not None:
            return True
        history = self.configurations
        if not self.admitted or history.last_index <= self.commit_index:
            return False
        before = history.at(Index(history.last_index - 1)).member(self.node_id)
        return before is not None and before.voter

    def _own_vote(self) -> set[NodeId]:
        return {self.node_id} if self.may_vote else set()

    def campaign(self, *, transfer: bool = False) -> None:
        """Enter a new term and ask for its votes."""
        self.prevotes = None
        self.voters_heard = self._own_vote()
        self.voter_walls_ms = [self.wall_ms]
        self.postpone_election()
        self._SyncObj__raftLeader = None
        self._SyncObj__setState(CANDIDATE)
        self._SyncObj__setCurrentTerm(self.term + 1, self.node_id)
        self._SyncObj__votesCount = 1
        if len(self.voters_heard) >= self.configurations.in_force.quorum:
            self._SyncObj__onBecomeLeader()
            return
        self._request_votes(pre=False, transfer=transfer)

    def _request_votes(self, *, pre: bool, transfer: bool = False) -> None:
        request = VoteRequest(
            term=self.term + 1 if pre else self.term,
            last_index=self.log.last_index,
            last_term=self.log.last_term,
            pre=pre,
            transfer=transfer,
        )
        for node_id, state in self.peers.items():
            if state.connected and self.is_named(node_id, state):
                self.send(node_id, request)

    def _SyncObj__onBecomeLeader(self) -> None:  # noqa: N802
        """Take office: nothing heard in earlier terms counts (finding A)."""
        SyncObj._SyncObj__onBecomeLeader(self)
        for state in self.peers.values():
            self.next_indexes[state.node] = self.noop_index
            self.match_indexes[state.node] = 0
            self._SyncObj__lastResponseTime[state.node] = self.now_ms / 1000
            state.confirmed_round = 0
            state.rewind_round = self.round
            state.full = False
            state.forget_inflight()
        self.sync_progress_ms = self.now_ms

    def quorum_wall_ms(self) -> int:
        """Return the median wall clock of the quorum that elected this leader.

        Of two the lower: expiring late is the smaller harm.
        """
        walls = sorted(self.voter_walls_ms)
        return walls[(len(walls) - 1) // 2]

    # ------------------------------------------------------------------ timers

    def tick(self) -> None:
        """Campaign when no leader is heard; leave office when no quorum is."""
        if self.is_leader:
            if not self._hears_quorum() or self._disk_stalled():
                self.step_down()
        elif self.now_ms >= self.election_due_ms() and self.may_campaign:
            self._ask_for_prevotes()

    def step_down_if_stalled(self) -> None:
        """Leave office if the loop slept for an election timeout: another may lead."""
        asleep_ms = self.now_ms - self.last_step_ms
        if asleep_ms <= self.settings.election_timeout_max_ms or not self.is_leader:
            return
        # Alone there is nobody else who could have been elected.
        if self.configurations.in_force.quorum == 1 and self.may_vote:
            return
        self.step_down()

    def _hears_quorum(self) -> bool:
        oldest = (self.now_ms - self.settings.election_timeout_max_ms) / 1000
        heard = self._SyncObj__lastResponseTime
        peers, own, quorum, _ = self.counting()
        count: int = sum(heard[state.node] > oldest for state in peers)
        return count + own >= quorum

    def _disk_stalled(self) -> bool:
        if self.log.synced >= self.log.last_sequence:
            self.sync_progress_ms = self.now_ms
        return self.now_ms - self.sync_progress_ms > self.settings.election_timeout_max_ms

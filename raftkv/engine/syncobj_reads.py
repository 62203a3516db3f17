"""What may be read without asking the log: proofs that rounds of messages give.

A round is one broadcast of a leader; its answers show, of the moment at which the
round began, who led, and of the moment at which it arrived, whom a node follows.
From that follow the three proofs that are weaker than a read's own round:

* *lease*: who answered a round votes for nobody else for a while, counted from the
  moment at which the round began. It ends when the first of a quorum may vote again.
* *read index of a follower*: the leader confirms a round that began after the
  follower had asked, and says what was committed when it was asked.
* *freshness*: a round that a quorum confirmed shows that everything acknowledged
  before it began is within the commit index of that moment. A follower does not
  know that moment on its own clock, but it knows when it heard an earlier round,
  whose answer the leader had before this one began. No two clocks are compared.

Source: Raft thesis, sections 6.4 and 6.4.1; docs/adr/0023-read-levels.md.
Tests: tests/unit/engine/test_reads.py, tests/sim/read_levels.py.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from raftkv.engine.messages import Freshness, ReadIndexReply, ReadIndexRequest
from raftkv.engine.ready import ReadsReady
from raftkv.engine.syncobj_membership import MembershipMends
from raftkv.engine.syncobj_state import PeerState
from raftkv.types import Index, NodeId, Term

# What a node refuses at least after its start, and reports at most.
# Why one number for both: a node that comes back with shorter timeouts has forgotten
# what it promised before, so no leader may count on more than any start keeps.
REFUSAL_MS = 300
# Clocks of two nodes may run at rates that differ by a tenth.
_LEASE_TENTHS = 9
_FOREVER_MS = 1 << 62
# More tickets than a millisecond can use, below the time at which the node started.
_TICKET_BITS = 16
# Limit: rounds of which a leader knows when they began; a power of two.
_ROUNDS_KEPT = 1024
# Limit: rounds of which a follower knows when it heard them, and how far apart.
_HEARD_KEPT = 256
_HEARD_EVERY_MS = 8
# Limit: proofs of freshness that wait for the store; the oldest goes first.
_PROOFS_KEPT = 16


class _Heard(NamedTuple):
    """When a follower heard a round; no later one before that."""

    round: int
    at_ms: int


class _Proof(NamedTuple):
    """Everything acknowledged before `since_ms` is at or below `index`."""

    since_ms: int
    index: int  # type: ignore[assignment]  # hides tuple.index


class _ProofBegun(NamedTuple):
    """A round that, once confirmed, proves something to each peer.

    Attributes:
        answered: By peer, the newest of its answers that was heard before it began.
    """

    term: Term
    round: int
    proof: _Proof
    answered: dict[NodeId, int]


class ReadMends(MembershipMends):
    """Lease, freshness and the read index that followers ask for."""

    transfer_target: NodeId | None = None
    # In this term somebody was told to campaign at once, and may still do it.
    transfer_told_term = 0

    def __init__(self, **arguments: Any) -> None:
        # Before the library's own: see `EngineState`.
        self.round_begun_ms: list[int] = [0] * _ROUNDS_KEPT
        # Of this term; those of others are worth nothing.
        self._heard: deque[_Heard] = deque(maxlen=_HEARD_KEPT)
        self._heard_term = Term(0)
        self._heard_highest = 0
        self._proofs: deque[_Proof] = deque(maxlen=_PROOFS_KEPT)
        self._proof_begun: _ProofBegun | None = None
        # Beside the heartbeat's: rounds of reads put that off.
        self.proof_due_ms = 0
        # Above those of earlier processes, whose answers may still come.
        self._first_ticket: int = arguments["now_ms"] << _TICKET_BITS
        self._asked: int = self._first_ticket
        self.index_answers: list[ReadsReady] = []
        self.asks_failed = False
        # Requests of peers: new ones, and those whose round is under way.
        self.index_requests: list[tuple[NodeId, int]] = []
        self._index_rounds: deque[tuple[int, Index, list[tuple[NodeId, int]]]] = deque()
        super().__init__(**arguments)

    # -------------------------------------------------------------------- lease

    @property
    def refusal_ms(self) -> int:
        """How long others may count on this node's refusal to vote, restarts included."""
        return min(REFUSAL_MS, self.settings.election_timeout_min_ms)

    @property
    def start_refusal_ms(self) -> int:
        """How long this node votes for nobody after its start."""
        return max(REFUSAL_MS, self.settings.election_timeout_min_ms)

    def election_due_ms(self) -> int:
        """Return when this node may stand; one that has just started not even for itself."""
        deadline_ms = int(self._SyncObj__raftElectionDeadline * 1000) + 1
        return max(deadline_ms, self.started_ms + self.start_refusal_ms)

    def lease_end_ms(self) -> int:
        """Return until when a quorum votes for nobody else; 0 while that is not known.

        A transfer ends it at once: its target may be voted for whomever one has
        heard. Once told to campaign it may do so late, so that no lease is counted
        any more in this term.
        """
        if not self.is_leader or self.transfer_target is not None:
            return 0
        if self.transfer_told_term == self.term:
            return 0
        ends = [self._refuses_until_ms(state) for state in self.counted_peers()]
        end_ms: int = self.quorum_value(ends, _FOREVER_MS)
        return end_ms

    def _refuses_until_ms(self, state: PeerState) -> int:
        round_ = state.confirmed_round
        if round_ == 0 or self.round - round_ >= _ROUNDS_KEPT or state.hello is None:
            return 0
        begun_ms: int = self.round_begun_ms[round_ % _ROUNDS_KEPT]
        return begun_ms + min(state.hello.refusal_ms, REFUSAL_MS) * _LEASE_TENTHS // 10

    def note_round_begun(self) -> None:
        """Remember when this round began: before any of its messages left."""
        self.round_begun_ms[self.round % _ROUNDS_KEPT] = self.now_ms

    # --------------------------------------------------- read index of followers

    def leader_to_ask(self) -> NodeId | None:
        """Return the leader, another node, if it is linked and knows what a read index is."""
        leader = self.leader_id
        state = None if leader is None else self.peers.get(leader)
        return leader if state is not None and state.connected and _speaks(state) else None

    def ask_read_index(self) -> int:
        """Ask the leader what must be applied for a read that arrived before.

        Returns:
            A ticket, which `index_answers` repeats; 0 when there is nobody to ask.
        """
        leader = self.leader_to_ask()
        if leader is None:
            return 0
        self._asked += 1
        self.send(leader, ReadIndexRequest(term=self.term, ticket=self._asked))
        return self._asked

    def on_read_index_request(self, node_id: NodeId, message: ReadIndexRequest) -> None:
        """Let a follower's reads share the round of this step."""
        if self.is_leader and message.term == self.term:
            self.index_requests.append((node_id, message.ticket))
        else:
            self.send(node_id, ReadIndexReply(term=self.term, ticket=message.ticket, index=0))

    def begin_index_round(self, round_: int, index: Index) -> None:
        """Answer the requests of this step when `round_` is confirmed."""
        if self.index_requests:
            self._index_rounds.append((round_, index, self.index_requests))
            self.index_requests = []

    def answer_index_requests(self, confirmed_round: int) -> None:
        """Tell followers what to apply before they read."""
        while self._index_rounds and self._index_rounds[0][0] <= confirmed_round:
            _, index, requests = self._index_rounds.popleft()
            for node_id, ticket in requests:
                if node_id in self.peers:
                    reply = ReadIndexReply(term=self.term, ticket=ticket, index=index)
                    self.send(node_id, reply)

    def drop_index_requests(self) -> None:
        """Answer nobody any more: followers learn that this node leads no longer."""
        self.index_requests = []
        self._index_rounds.clear()

    def on_read_index_reply(self, node_id: NodeId, message: ReadIndexReply) -> None:
        """Take the leader's answer, or learn that it does not lead."""
        if message.term != self.term or self.leader_id != node_id:
            return
        if message.index == 0:
            self.asks_failed = True
        elif self._first_ticket < message.ticket <= self._asked:
            self.index_answers.append(ReadsReady(message.ticket, Index(message.index)))

    # ---------------------------------------------------------------- freshness

    def note_heard(self, round_: int) -> None:
        """Remember when a round of the leader was heard first, one in a few milliseconds."""
        heard = self._heard
        if self.term != self._heard_term:
            self._heard_term = self.term
            heard.clear()
        elif round_ <= self._heard_highest:
            # Late, or a copy: later rounds were answered before this moment.
            return
        self._heard_highest = round_
        if not heard or self.now_ms - heard[-1].at_ms >= _HEARD_EVERY_MS:
            heard.append(_Heard(round_, self.now_ms))

    def prove_freshness(self) -> None:
        """Tell everybody what the last proof shows once it is confirmed, and begin another."""
        self.proof_due_ms = self.now_ms + self.settings.heartbeat_ms
        begun = self._proof_begun
        if begun is not None and begun.term == self.term:
            if self.confirmed_round() < begun.round:
                return
            self._add_proof(begun.proof)
            for node_id, round_ in begun.answered.items():
                state = self.peers.get(node_id)
                if round_ and state is not None and state.connected and _speaks(state):
                    message = Freshness(term=self.term, round=round_, index=begun.proof.index)
                    self.send(node_id, message)
        index = max(self.commit_index, self.noop_index)
        answered = {
            node_id: state.confirmed_round for node_id, state in self.peers.items() if state.reached
        }
        self._proof_begun = _ProofBegun(self.term, self.round, _Proof(self.now_ms, index), answered)

    def on_freshness(self, node_id: NodeId, message: Freshness) -> None:
        """Place what the leader proved on this node's own clock."""
        if message.term != self.term or self.leader_id != node_id:
            return
        for heard in reversed(self._heard):
            # Whatever was answered up to that round was answered later.
            if self._heard_term == message.term and heard.round <= message.round:
                self._add_proof(_Proof(heard.at_ms, message.index))
                return

    def _add_proof(self, proof: _Proof) -> None:
        proofs = self._proofs
        if not proofs or proofs[-1].since_ms < proof.since_ms:
            proofs.append(proof)

    def staleness_ms(self, now_ms: int, applied_index: int) -> int | None:
        """Return how old the store is at most, or None while nothing is proven.

        Everything that was acknowledged so long ago, or earlier, is in it.
        """
        proofs = self._proofs
        while len(proofs) > 1 and proofs[1].index <= applied_index:
            proofs.popleft()
        if not proofs or proofs[0].index > applied_index:
            return None
        return max(0, now_ms - proofs[0].since_ms)


def _speaks(state: PeerState) -> bool:
    """Whether a peer knows the messages of this module."""
    return state.hello is not None and state.hello.refusal_ms > 0

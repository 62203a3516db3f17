"""What a run is about to break, seen before it needs one more unlucky event.

A broken rule of consensus seldom does harm by itself: an acknowledgement too many
loses a write only if just the right nodes then fail in just the right order. So
these rules are about what *could* happen next, which is wrong already:

* a committed entry could be lost: some node without it would win an election;
* a leader believes that a follower holds what it does not hold;
* a node votes twice in a term, also with another disk; a leader lacks votes;
* a node goes by another configuration than the last one in its log;
* two changes of the membership are under way at once;
* a leader that is well and heard by all is deposed; one that hears no quorum stays;
* a follower that is well does not catch up.

As in `tests.sim.invariants`, which keeps what is on each disk, no node is believed
about its own durability. Owner: tests.sim.cluster.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raftkv.engine.messages import Message, VoteReply, VoteRequest
from raftkv.engine.ready import KIND_CONFIGURATION
from raftkv.types import NodeId
from tests.sim.disk import PLENTY_BYTES
from tests.sim.invariants import DiskRecord, Violation
from tests.sim.workers import ON_LOOP_MS

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster
    from tests.sim.node import SimNode

SAMPLE_MS = 50.0
# So long all must have been well before anything is expected of it.
SETTLED_MS = 700.0
# A leader that hears no quorum leaves after an election timeout, on its next turn.
DEAF_MS = 600.0 + 250.0
# Who campaigned before a leader took office may be as late, on a slow disk.
OFFICE_MS = 2000.0
# From the end of a sleep to the first turn.
WAKE_MS = 5.0
# The longest that a sync takes on a disk that is not slow.
SYNC_MS = 4.2
# A follower that is well has this long to take one more entry.
STUCK_MS = 8000.0


@dataclass
class _Tenure:
    """A leader's time in office.

    Attributes:
        contested: Somebody had entered a later term while it was not firm: with
            the consent of a quorum, which it may have lost only since.
    """

    name: str
    term: int
    since_ms: float
    contested: bool = False


@dataclass
class _Seat:
    """A leader that nothing ails."""

    name: str
    term: int
    core: frozenset[str]


class Foresight:
    """Rules about what could happen next, checked after every turn."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._checks: Counter[str] = cluster.invariants.checks
        self._configurations: dict[int, set[int]] = {}
        self._commits: dict[tuple[str, int], int] = {}
        self._matches: dict[tuple[str, int, str], int] = {}
        self._votes: dict[tuple[int, str], str] = {}
        self._elected: set[int] = set()
        self._well_since: dict[str, float] = {}
        self._lives: dict[str, int] = {}
        self._slow_until: dict[str, float] = {}
        self._heard_since: dict[tuple[str, str], float] = {}
        self._progress: dict[tuple[str, str], tuple[int, int, float]] = {}
        self._leads_since: dict[str, tuple[int, float]] = {}
        self._seat: _Seat | None = None
        self._tenure = _Tenure("", 0, 0.0)
        self._frozen_until: dict[str, float] = {}
        # When leadership was last on its way to somebody else on purpose.
        self.handed_over_ms = -1e9
        cluster.invariants.message_listeners.append(self._hear)
        cluster.world.after(SAMPLE_MS, self._sample)

    def _broken(self, invariant: str, detail: str) -> Violation:
        return Violation(detail, invariant=invariant)

    def turned(self, node: SimNode) -> None:
        """A turn of a node is over, and it lives."""
        core = node.replica._core
        self._note_configurations(node)
        self.the_last_configuration_is_in_force(node)
        if not core.is_leader:
            return
        if core.term not in self._elected:
            self._elected.add(core.term)
            self.a_leader_has_votes_of_a_quorum(node)
        self.one_membership_change_at_a_time(node)
        self.acknowledged_means_held(node)
        place = (node.name, core.term)
        if core.commit_index > self._commits.get(place, 0):
            self._commits[place] = core.commit_index
            self.committed_cannot_be_lost(node, core.commit_index)

    # ----------------------------------------------------------- configurations

    def _note_configurations(self, node: SimNode) -> None:
        """Remember which entries are configurations: leaders write them, in their term."""
        core = node.replica._core
        history: Any = core._engine.configurations
        known = self._configurations
        if core.is_leader:
            for index, _ in reversed(history._stack):
                if core.log.term_at(index) != core.term:
                    break
                known.setdefault(index, set()).add(core.term)
        # One that ended in the turn in which it wrote the entry was not seen.
        entry = core.log.entry_at(history.last_index)
        if entry is not None and entry[0][0] == KIND_CONFIGURATION:
            known.setdefault(entry[1], set()).add(entry[2])

    def the_last_configuration_is_in_force(self, node: SimNode) -> None:
        """Committed or not; else that of the snapshot or, before any, of the file."""
        self._checks["the_last_configuration_is_in_force"] += 1
        core = node.replica._core
        history: Any = core._engine.configurations
        # A snapshot stands for all configurations up to its index.
        last = floor = history._stack[0][0]
        for index in sorted(self._configurations, reverse=True):
            if index <= floor:
                break
            if core.log.term_at(index) in self._configurations[index]:
                last = index
                break
        if history.last_index != last:
            raise self._broken(
                "the_last_configuration_is_in_force",
                f"{node.name} goes by the configuration of entry {history.last_index}; "
                f"the last one in its log is entry {last}",
            )

    def one_membership_change_at_a_time(self, node: SimNode) -> None:
        """Of a leader's own changes at most one is not committed."""
        self._checks["one_membership_change_at_a_time"] += 1
        core = node.replica._core
        history: Any = core._engine.configurations
        pending = [
            index
            for index, _ in history._stack
            if index > core.commit_index and core.log.term_at(index) == core.term
        ]
        if len(pending) > 1:
            raise self._broken(
                "one_membership_change_at_a_time",
                f"{node.name} has changes of the membership under way in entries {pending}",
            )

    # -------------------------------------------------------------------- votes

    def _hear(self, node: SimNode, target: NodeId, message: Message) -> None:
        """Votes are what voters say, and what candidates ask others to add to their own."""
        if type(message) is VoteReply and message.granted and not message.pre:
            self.one_vote_a_term(node, message.term, target)
        elif type(message) is VoteRequest and not message.pre:
            self.one_vote_a_term(node, message.term, node.name)

    def one_vote_a_term(self, node: SimNode, term: int, vote: str) -> None:
        """A name stands for one vote, whatever happens to its disk."""
        self._checks["one_vote_a_term"] += 1
        known = self._votes.setdefault((term, node.name), vote)
        if known != vote:
            raise self._broken(
                "one_vote_a_term", f"{node.name} votes for {known} and for {vote} in term {term}"
            )

    def a_leader_has_votes_of_a_quorum(self, node: SimNode) -> None:
        self._checks["a_leader_has_votes_of_a_quorum"] += 1
        core = node.replica._core
        voters = [voter.id for voter in core.configuration.voters]
        given = [
            name
            for name in voters
            if name == node.name or self._votes.get((core.term, name)) == node.name
        ]
        if len(given) < core.configuration.quorum:
            raise self._broken(
                "a_leader_has_votes_of_a_quorum",
                f"{node.name} leads term {core.term} by votes of {given} among {voters}",
            )

    # ------------------------------------------------------------------ copies

    def _record(self, name: str) -> DiskRecord | None:
        return self._cluster.invariants._records.get(name)

    def acknowledged_means_held(self, node: SimNode) -> None:
        """What a leader counts as held by a follower is durable there."""
        core = node.replica._core
        engine = core._engine
        for name, state in engine.peers.items():
            match = engine.match_indexes[state.node]
            place = (node.name, core.term, name)
            if match <= self._matches.get(place, 0):
                continue
            self._matches[place] = match
            self._checks["acknowledged_means_held"] += 1
            peer = self._cluster.network.nodes[name]
            record = self._record(name)
            if record is None or state.hello is None:
                continue
            if peer.replica.disk_id != state.hello.disk_id:
                continue
            # Who follows a later leader by now may have been put right by it.
            if peer.replica._core.term > core.term:
                continue
            if not record.holds(match, core.log.term_at(match)):
                raise self._broken(
                    "acknowledged_means_held",
                    f"{node.name} counts on {name} for entry {match}, which is not durable there",
                )

    def committed_cannot_be_lost(self, node: SimNode, index: int) -> None:
        """No node without a committed entry has a log that a quorum would vote for."""
        self._checks["committed_cannot_be_lost"] += 1
        term = node.replica._core.log.term_at(index)
        records: dict[str, DiskRecord] = {}
        lacking = []
        for name, other in self._cluster.nodes.items():
            record = self._record(name)
            if record is not None:
                records[name] = record
                if not record.holds(index, term):
                    lacking.append(other)
        for other in lacking:
            supporters = self._supporters(other, records)
            if len(supporters) >= other.replica._core.configuration.quorum:
                raise self._broken(
                    "committed_cannot_be_lost",
                    f"{node.name} commits entry {index} of term {term}, which {other.name} "
                    f"lacks and {supporters} would vote for it",
                )

    def _supporters(self, candidate: SimNode, records: dict[str, DiskRecord]) -> list[str]:
        """Return the voters whose logs are not ahead of a candidate's."""
        core = candidate.replica._core
        if not core._engine.may_campaign:
            return []
        position = _position(records[candidate.name])
        supporters: list[str] = []
        for voter in core.configuration.voters:
            record = records.get(voter.id)
            if record is None:
                continue
            replica = self._cluster.nodes[voter.id].replica
            if not replica._core.admitted or voter.disk_id not in ("", replica.disk_id):
                continue
            if voter.id == candidate.name or _position(record) <= position:
                supporters.append(voter.id)
        return supporters

    # ----------------------------------------------------------------- sampling

    def _sample(self) -> None:
        now_ms = self._cluster.world.now_ms
        self._look_at_nodes(now_ms)
        self._look_at_links(now_ms)
        leader = self._cluster.leader()
        self.a_firm_leader_stays(leader, now_ms)
        for node in list(self._cluster.nodes.values()):
            self.a_deaf_leader_leaves(node, now_ms)
        if leader is not None:
            self.a_follower_catches_up(leader, now_ms)
        self._cluster.world.after(SAMPLE_MS, self._sample)

    def _look_at_nodes(self, now_ms: float) -> None:
        for name, node in self._cluster.network.nodes.items():
            if node.slow_disk > 1.0:
                # What was begun slowly ends slowly.
                self._slow_until[name] = now_ms + SYNC_MS * node.slow_disk
            if node.frozen_for_ms > ON_LOOP_MS[1]:
                # Also if it is let off, it wakes when it was going to.
                self._frozen_until[name] = max(
                    node.paused_until_ms + WAKE_MS, self._frozen_until.get(name, 0.0)
                )
            well = (
                node.alive
                and name in self._cluster.nodes
                and now_ms > max(self._slow_until.get(name, 0.0), node.slow_until_ms)
                and node.crash_probability == 0.0
                and not self._sleeps(name, now_ms)
                and node.disk.space >= PLENTY_BYTES
                and self._lives.get(name) == node.life
            )
            self._lives[name] = node.life
            if not well:
                self._well_since.pop(name, None)
            else:
                self._well_since.setdefault(name, now_ms)

    def _look_at_links(self, now_ms: float) -> None:
        network = self._cluster.network
        for one in network.nodes:
            linked = network.linked(one)
            for other in network.nodes:
                way = (one, other)
                if other in linked and way not in network.stalled and way not in network.slowness:
                    self._heard_since.setdefault(way, now_ms)
                else:
                    self._heard_since.pop(way, None)

    def _sleeps(self, name: str, now_ms: float) -> bool:
        return now_ms < self._frozen_until.get(name, 0.0)

    def _settled(self, since_ms: float | None, now_ms: float, for_ms: float = SETTLED_MS) -> bool:
        return since_ms is not None and now_ms - since_ms >= for_ms

    def _are_well(self, one: str, other: str, now_ms: float, for_ms: float = SETTLED_MS) -> bool:
        """Whether two nodes and their link have been well for so long."""
        return (
            self._settled(self._well_since.get(one), now_ms, for_ms)
            and self._settled(self._well_since.get(other), now_ms, for_ms)
            and self._settled(self._heard_since.get((one, other)), now_ms, for_ms)
            and self._settled(self._heard_since.get((other, one)), now_ms, for_ms)
        )

    def a_firm_leader_stays(self, leader: SimNode | None, now_ms: float) -> None:
        """Whom a quorum hears, and who hears it, nobody can depose."""
        seat, self._seat = self._seat, self._take_seat(leader, now_ms)
        if seat is None:
            return
        self._checks["a_firm_leader_stays"] += 1
        node = self._cluster.network.nodes[seat.name]
        # What ails one of them since then may be the reason.
        if not all(self._are_well(seat.name, name, now_ms, 0.0) for name in seat.core):
            return
        core = node.replica._core
        if not core.is_leader or core.term != seat.term:
            # It may have changed the membership, and so what a quorum is.
            voters = {voter.id for voter in core.configuration.voters}
            still = len(voters & (seat.core | {seat.name}))
            if seat.name not in voters or still < core.configuration.quorum:
                return
            if now_ms - self.handed_over_ms < 3000:
                return
            raise self._broken(
                "a_firm_leader_stays",
                f"{seat.name} led term {seat.term}, well and heard by {sorted(seat.core)}, "
                f"until {now_ms:.0f} ms; now {core.leader_id} leads term {core.term}",
            )

    def _take_seat(self, leader: SimNode | None, now_ms: float) -> _Seat | None:
        if leader is None:
            return None
        core = leader.replica._core
        if core.transfer_target is not None:
            self.handed_over_ms = now_ms
        member = core.configuration.member(leader.replica.node_id)
        if member is None or not member.voter:
            self.handed_over_ms = now_ms
        tenure = self._tenure
        if (tenure.name, tenure.term) != (leader.name, core.term):
            tenure = self._tenure = _Tenure(leader.name, core.term, now_ms)
        seat = self._firm_seat(leader, now_ms)
        if now_ms - tenure.since_ms < OFFICE_MS or seat is None:
            nodes = self._cluster.network.nodes.values()
            highest = max(one.replica._core.term for one in nodes if one.life)
            tenure.contested = tenure.contested or highest > core.term
            return None
        return None if tenure.contested else seat

    def _firm_seat(self, leader: SimNode, now_ms: float) -> _Seat | None:
        core = leader.replica._core
        if not self._settled(self._well_since.get(leader.name), now_ms):
            return None
        voters = [voter.id for voter in core.configuration.voters]
        firm = {
            name
            for name in voters
            if name != leader.name
            and self._are_well(leader.name, name, now_ms)
            and self._follows(name, leader)
        }
        if len(firm) + 1 < core.configuration.quorum:
            return None
        return _Seat(leader.name, core.term, frozenset(firm))

    def _follows(self, name: str, leader: SimNode) -> bool:
        core = self._cluster.network.nodes[name].replica._core
        return (
            core.admitted
            and core.term == leader.replica._core.term
            and core.leader_id == leader.name
        )

    def a_deaf_leader_leaves(self, node: SimNode, now_ms: float) -> None:
        """Who has heard no quorum for an election timeout does not lead."""
        core = node.replica._core
        known = self._leads_since.get(node.name)
        if not node.alive or not core.is_leader or self._sleeps(node.name, now_ms):
            self._leads_since.pop(node.name, None)
            return
        if known is None or known[0] != core.term:
            self._leads_since[node.name] = (core.term, now_ms)
            return
        if now_ms - known[1] < DEAF_MS:
            return
        self._checks["a_deaf_leader_leaves"] += 1
        delivered_ms = self._cluster.network.delivered_ms
        heard = [
            voter.id
            for voter in core.configuration.voters
            if voter.id == node.name
            or now_ms - delivered_ms.get((voter.id, node.name), 0.0) < DEAF_MS
        ]
        if len(heard) < core.configuration.quorum:
            raise self._broken(
                "a_deaf_leader_leaves",
                f"{node.name} leads and has heard only {heard} for {DEAF_MS:.0f} ms",
            )

    def a_follower_catches_up(self, leader: SimNode, now_ms: float) -> None:
        """Between two that are well there is progress, while something is missing."""
        core = leader.replica._core
        for name in self._cluster.nodes:
            if name == leader.name:
                continue
            place = (leader.name, name)
            match = core.match_index(self._cluster.nodes[name].replica.node_id)
            known = self._progress.get(place)
            if (
                known is None
                or known[:2] != (core.term, match)
                or match >= core.commit_index
                or not self._are_well(leader.name, name, now_ms, 0.0)
                or core.configuration.member(self._cluster.nodes[name].replica.node_id) is None
            ):
                self._progress[place] = (core.term, match, now_ms)
                continue
            self._checks["a_follower_catches_up"] += 1
            if now_ms - known[2] > STUCK_MS:
                raise self._broken(
                    "a_follower_catches_up",
                    f"{name} holds {match} of {core.commit_index} entries and has got no "
                    f"further with {leader.name} for {STUCK_MS:.0f} ms, though both are well",
                )


def _position(record: DiskRecord) -> tuple[int, int]:
    """Return term and index of the last durable entry, as elections compare logs."""
    index = record.last_durable()
    cell = record.cells.get(index)
    return (record.base_term if cell is None else cell.term, index)

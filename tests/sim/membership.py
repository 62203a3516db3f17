"""Membership changes as a nemesis: spare nodes join, vote, leave and come back wiped.

Works beside the other faults and asks whoever leads, as an operator would: a
change may be refused, lost, or committed and never answered. It keeps three
voters, because two cannot survive what the other faults do to disks; and it
plays the operator's part around a change: it starts a node that is to be added
on an empty directory, and ends one that was removed and does not know it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from raftkv.types import ChangeKind, MembershipChange, NodeId
from tests.sim.cluster import Cluster, SimNode, SimSlot, Violation

if TYPE_CHECKING:
    from raftkv.seams import Failure

VOTERS_MIN = 3


class MembershipNemesis:
    """Changes the membership now and then."""

    def __init__(self, cluster: Cluster, *, pause_ms: tuple[float, float] = (100, 700)) -> None:
        self._cluster = cluster
        self._pause_ms = pause_ms
        self.running = True
        self.fired: Counter[str] = Counter()
        self._actions = [
            self._add,
            self._add,
            self._promote,
            self._promote,
            self._promote,
            self._demote,
            self._remove,
            self._remove,
            self._move,
            self._two_at_once,
        ]
        self._next()

    def _next(self) -> None:
        world = self._cluster.world
        world.after(world.random.uniform(*self._pause_ms), self._act)

    def _act(self) -> None:
        if not self.running:
            return
        self._bury()
        self._cluster.join_missing()
        leader = self._cluster.leader()
        if leader is not None:
            self._cluster.world.random.choice(self._actions)(leader)
        self._next()

    def stop(self) -> None:
        """No more changes."""
        self.running = False
        self._cluster.join_missing()

    # ----------------------------------------------------------------- actions

    def _add(self, leader: SimNode) -> None:
        members = leader.replica.configuration
        spares = [name for name in self._cluster.spares() if members.member(name) is None]
        if not spares:
            return
        name = self._cluster.world.random.choice(spares)
        self._cluster.join(name)
        self._ask(leader, ChangeKind.ADD, name)

    def _promote(self, leader: SimNode) -> None:
        learners = [one.id for one in leader.replica.configuration.members if not one.voter]
        if learners:
            self._ask(leader, ChangeKind.PROMOTE, self._cluster.world.random.choice(learners))

    def _demote(self, leader: SimNode) -> None:
        voters = leader.replica.configuration.voters
        if len(voters) > VOTERS_MIN:
            self._ask(leader, ChangeKind.DEMOTE, self._cluster.world.random.choice(voters).id)

    def _remove(self, leader: SimNode) -> None:
        configuration = leader.replica.configuration
        member = self._cluster.world.random.choice(configuration.members)
        if not member.voter or len(configuration.voters) > VOTERS_MIN:
            self._ask(leader, ChangeKind.REMOVE, member.id)

    def _move(self, leader: SimNode) -> None:
        member = self._cluster.world.random.choice(leader.replica.configuration.members)
        self._ask(leader, ChangeKind.MOVE, member.id)

    def _two_at_once(self, leader: SimNode) -> None:
        """Both in one turn: at most one of them may be committed (finding N3)."""
        done: list[str] = []
        for member in leader.replica.configuration.members[:2]:
            self._ask(leader, ChangeKind.MOVE, member.id, done)

    def _ask(
        self, leader: SimNode, kind: ChangeKind, name: str, done: list[str] | None = None
    ) -> None:
        self.fired[f"member_{kind}"] += 1

        def answered(results: list[object] | None, failure: Failure | None) -> None:
            if results != ["OK"]:
                word = "refused" if failure is None or failure.definite else "unknown"
                self.fired[f"member_{kind}_{word}"] += 1
                return
            self.fired[f"member_{kind}_ok"] += 1
            if done is not None:
                done.append(name)
                if len(done) > 1:
                    raise Violation("two membership changes of one turn were committed")

        address = f"{name}:{self._cluster.world.random.randrange(1000)}"
        change = MembershipChange(
            kind=kind, node=NodeId(name), client=f"{address}1", peer=f"{address}2"
        )
        slot = SimSlot(answered, asked=leader)
        leader.guarded(lambda: leader.replica.change_membership(change, slot))

    # ---------------------------------------------------------------- operator

    def _bury(self) -> None:
        """End nodes that were removed and have not heard of it for long."""
        cluster = self._cluster
        for name in cluster.outsiders():
            node = cluster.nodes[name]
            if cluster.world.now_ms - node.outside_since_ms > 5000:
                self.fired["buried"] += 1
                node.crash(power_cut=False)
                cluster.retire(node)

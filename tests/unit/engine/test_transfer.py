"""Leadership handed over on purpose: to whom, when, and what it must never cost."""

from __future__ import annotations

import pytest

from raftkv.engine.messages import TimeoutNow
from raftkv.types import NodeId, Term
from tests.unit.engine.harness import SETTINGS, Cluster


def hand_over(cluster: Cluster, target: str | None, *, settles: bool = True) -> str:
    """Let A begin a transfer, and with `settles` carry it out."""
    core = cluster["A"].core
    name = None if target is None else NodeId(target)
    assert core.transfer_refusal(name) == ""
    chosen = core.begin_transfer(name)
    if settles:
        cluster.step("A")
        cluster.settle()
    return chosen


def test_the_target_leads_at_once_and_loses_nothing() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"one", "token")
    before_ms = cluster.now_ms
    hand_over(cluster, "C")
    assert cluster.leaders() == ["C"]
    assert cluster.now_ms == before_ms, "no election timeout has passed"
    cluster.beat(n=2)
    assert all(b"one" in cluster[name].applied() for name in "ABC")
    assert cluster["A"].core.transfer_target is None


def test_without_a_name_it_goes_to_who_holds_the_most() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"one")
    # Nothing reaches B but heartbeats that it does not answer.
    cluster.settle({("A", "B"), ("B", "A")})
    assert hand_over(cluster, None, settles=False) == "C"


def test_a_target_is_brought_up_to_date_before_it_campaigns() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"one")
    cluster.settle({("A", "C")})
    hand_over(cluster, "C", settles=False)
    cluster.step("A")
    assert TimeoutNow not in map(type, cluster.pending("A", "C"))
    cluster.settle()
    assert cluster.leaders() == ["C"]
    assert b"one" in cluster["C"].applied()


def test_one_that_cannot_take_over_in_time_leaves_the_leader_in_office() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"one")
    held = {("A", "C")}
    hand_over(cluster, "C", settles=False)
    for _ in range(SETTINGS.election_timeout_max_ms // SETTINGS.heartbeat_ms + 2):
        cluster.beat(held)
    assert cluster["A"].core.transfer_target is None
    assert cluster.leaders() == ["A"]
    cluster.propose("A", b"two")
    cluster.settle(held)
    assert b"two" in cluster["A"].applied()


def test_a_link_that_breaks_ends_the_transfer() -> None:
    cluster = Cluster.led_by_first()
    hand_over(cluster, "C", settles=False)
    cluster.disconnect("A", "C")
    cluster.beat()
    assert cluster["A"].core.transfer_target is None
    assert cluster.leaders() == ["A"]


@pytest.mark.parametrize(
    ("source", "term"), [("B", 0), ("A", -1)], ids=["who does not lead", "of an older term"]
)
def test_only_the_leader_of_the_term_makes_others_campaign(source: str, term: int) -> None:
    cluster = Cluster.led_by_first()
    present = cluster["C"].core.term
    cluster.inject(source, "C", TimeoutNow(term=Term(present + term)))
    cluster.settle()
    assert cluster.leaders() == ["A"]
    assert cluster["C"].core.term == present


def test_why_it_is_refused() -> None:
    cluster = Cluster.led_by_first()
    leader, follower = cluster["A"].core, cluster["B"].core
    assert follower.transfer_refusal(None) == "this node does not lead"
    assert leader.transfer_refusal(NodeId("A")) == "this node leads already"
    assert leader.transfer_refusal(NodeId("X")) == "X is not a voter that is connected"
    cluster.disconnect("A", "B")
    cluster.step("A")
    assert leader.transfer_refusal(NodeId("B")) == "B is not a voter that is connected"
    leader.begin_transfer(NodeId("C"))
    assert leader.transfer_refusal(None) == "a transfer to C is under way"


def test_a_leader_alone_has_nobody_to_hand_over_to() -> None:
    cluster = Cluster.led_by_first("A")
    assert cluster["A"].core.transfer_refusal(None) == "no other voter is connected"

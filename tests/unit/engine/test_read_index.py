"""A read is served only when a quorum has confirmed, after it arrived, who leads."""

from __future__ import annotations

from raftkv.engine.messages import RoundReply
from raftkv.engine.read_index import ReadIndex
from raftkv.engine.ready import PeerDown, ReadsReady
from raftkv.types import Index, NodeId
from tests.unit.engine.harness import SETTINGS, Cluster


def test_a_round_begun_before_the_read_does_not_confirm_it() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(SETTINGS.heartbeat_ms)
    cluster.step("A")
    ticket = cluster.step("A", reads=True).read_ticket
    before = ticket - 1
    ready = cluster.inject("B", "A", RoundReply(term=1, round=before))
    assert ready.reads is None
    ready = cluster.inject("B", "A", RoundReply(term=1, round=ticket))
    assert ready.reads == ReadsReady(ticket, Index(2))


def test_a_round_of_another_term_does_not_confirm_it() -> None:
    cluster = Cluster.led_by_first("ABC")
    ticket = cluster.step("A", reads=True).read_ticket
    assert cluster.inject("B", "A", RoundReply(term=0, round=ticket)).reads is None


def test_a_leader_expects_replies_while_anything_hangs_on_them() -> None:
    cluster = Cluster.led_by_first("ABC")
    leader = cluster["A"].core
    expected = [leader.expects_replies()]
    ticket = cluster.step("A", reads=True).read_ticket
    expected.append(leader.expects_replies())
    cluster.inject("B", "A", RoundReply(term=1, round=ticket))
    expected.append(leader.expects_replies())
    cluster.settle()
    cluster.propose("A", b"x")
    expected.append(leader.expects_replies())
    cluster.settle()
    expected.append(leader.expects_replies())
    assert expected == [False, True, False, True, False]


def test_one_member_twice_is_no_quorum() -> None:
    cluster = Cluster.led_by_first("ABCDE")
    ticket = cluster.step("A", reads=True).read_ticket
    for _ in range(3):
        assert cluster.inject("B", "A", RoundReply(term=1, round=ticket)).reads is None
    assert cluster.inject("C", "A", RoundReply(term=1, round=ticket)).reads is not None


def test_all_reads_of_a_step_share_a_round_and_the_newest_covers_all() -> None:
    reads = ReadIndex()
    reads.register(5, Index(10))
    reads.register(6, Index(12))
    reads.register(8, Index(12))
    assert reads.confirm(4) is None
    assert reads.confirm(7) == ReadsReady(6, Index(12))
    assert reads.pending
    assert reads.clear()
    assert not reads.clear()


def test_a_new_leader_makes_reads_wait_for_its_own_first_entry() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    cluster.settle()
    cluster.expire("B")
    for source, target in (("B", "C"), ("C", "B")) * 2:
        cluster.deliver(source, target)
    assert cluster["B"].core.is_leader
    assert not cluster["B"].core.has_own_noop
    ticket = cluster.step("B", reads=True).read_ticket
    ready = cluster.inject("C", "B", RoundReply(term=cluster["B"].core.term, round=ticket))
    assert ready.reads is not None
    assert ready.reads.index == cluster["B"].engine.noop_index > cluster["B"].core.commit_index


def test_a_deposed_leader_serves_nothing() -> None:
    cluster = Cluster.led_by_first("ABC")
    for other in "BC":
        cluster["A"].inbox.append(PeerDown(NodeId(other)))
    cluster.step("A", reads=True)
    cluster.isolate("A")
    cluster.elect("B", only="BC")
    cluster.propose("B", b"newer")
    cluster.settle(only="BC")
    served = [ready for ready in cluster["A"].readies if ready.reads is not None]
    for _ in range(40):
        cluster.advance(50)
        cluster.step("A")
    assert [ready for ready in cluster["A"].readies if ready.reads is not None] == served
    assert cluster["A"].readies[-1].reads_failed or any(
        ready.reads_failed for ready in cluster["A"].readies
    )


def test_a_follower_refuses_reads_at_once() -> None:
    cluster = Cluster.led_by_first("ABC")
    ready = cluster.step("B", reads=True)
    assert ready.reads_failed
    assert ready.read_ticket == 0


def test_a_leader_of_one_confirms_itself_in_the_same_step() -> None:
    cluster = Cluster("A")
    cluster.step("A")
    cluster.elect("A")
    cluster.settle()
    ready = cluster.step("A", reads=True)
    assert ready.reads == ReadsReady(ready.read_ticket, Index(2))


def test_a_wiped_member_does_not_confirm() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("C")
    cluster.restart("B", wipe=True)
    cluster.connect("A", "B")
    cluster.settle()
    ticket = cluster.step("A", reads=True).read_ticket
    cluster.settle(only="AB")
    cluster.beat(only="AB", n=2)
    confirmed = [ready.reads for ready in cluster["A"].readies if ready.reads is not None]
    assert all(reads.ticket < ticket for reads in confirmed)

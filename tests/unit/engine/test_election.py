"""Who may lead, who may not, and when a leader leaves office."""

from __future__ import annotations

import pytest

from raftkv.engine.messages import Append, Heartbeat, VoteReply, VoteRequest
from raftkv.engine.ready import PeerMessage, Proposal
from raftkv.engine.syncobj_library import CANDIDATE
from raftkv.engine.syncobj_state import SafetyViolationError
from raftkv.types import NodeId, Role
from tests.unit.engine.harness import SETTINGS, Cluster, core, named, recovered

MAX_MS = SETTINGS.election_timeout_max_ms
MIN_MS = SETTINGS.election_timeout_min_ms


def vote_request(**changes: object) -> VoteRequest:
    fields = {"term": 2, "last_index": 9, "last_term": 1, "pre": False}
    return VoteRequest(**(fields | changes))  # type: ignore[arg-type]


def candidate(names: str = "ABCDE") -> Cluster:
    """B campaigns in term 2; nobody has answered."""
    cluster = Cluster.led_by_first(names)
    cluster.isolate("A")
    cluster.settle()
    cluster.expire("B")
    cluster["B"].engine.campaign()
    cluster.step("B")
    assert cluster["B"].engine.role == CANDIDATE
    return cluster


# ------------------------------------------------------------------- pre-vote


def test_a_node_that_cannot_win_does_not_raise_the_term() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("C")
    for _ in range(5):
        cluster.beat(only="AB", n=7)
        cluster["C"].engine._SyncObj__raftElectionDeadline = 0.0
        cluster.step("C")
    assert cluster["C"].core.term == 1
    cluster.connect("A", "C")
    cluster.connect("B", "C")
    cluster.settle()
    assert cluster.leaders() == ["A"]


def test_a_pre_vote_changes_neither_term_nor_vote() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(MIN_MS + 1)
    before = cluster["B"].core.log.hard_state
    ready = cluster.inject("C", "B", vote_request(pre=True))
    assert cluster["B"].core.log.hard_state == before
    assert not ready.records
    assert VoteReply(2, True, True, cluster.now_ms) in cluster.pending("B", "C")


def test_a_shorter_log_gets_neither_pre_vote_nor_vote() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(MIN_MS + 1)
    for pre in (True, False):
        cluster.inject("C", "B", vote_request(pre=pre, last_index=1))
    assert not [m for m in cluster.pending("B", "C") if getattr(m, "granted", False)]


# ------------------------------------------------------------------- stickiness


@pytest.mark.parametrize("pre", [True, False])
def test_who_heard_a_leader_lately_neither_votes_nor_raises_its_term(pre: bool) -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.inject("C", "B", vote_request(term=9, pre=pre))
    assert cluster["B"].core.term == 1
    assert not [m for m in cluster.pending("B", "C") if type(m) is VoteReply and m.granted]


def test_who_has_just_started_does_not_vote() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.restart("B")
    cluster.connect("B", "C")
    cluster.settle(only="BC")
    cluster.inject("C", "B", vote_request())
    assert cluster["B"].core.log.hard_state == (1, "A")
    cluster.advance(MIN_MS)
    cluster.inject("C", "B", vote_request())
    assert cluster["B"].core.log.hard_state == (2, "C")


def test_a_leader_does_not_give_way_to_a_request() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(MIN_MS + 1)
    cluster.inject("C", "A", vote_request(term=9))
    assert cluster["A"].core.is_leader


# ------------------------------------------------------------------- votes


def test_one_vote_a_term() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(MIN_MS + 1)
    cluster.inject("C", "B", vote_request())
    cluster.inject("A", "B", vote_request())
    assert cluster["B"].core.log.hard_state == (2, "C")
    assert not [m for m in cluster.pending("B", "A") if type(m) is VoteReply and m.granted]


def test_a_vote_leaves_only_when_it_is_durable_and_survives_a_power_cut() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    cluster.advance(MIN_MS + 1)
    ready = cluster.inject("C", "B", vote_request())
    assert [message.depends for message in ready.messages] == [ready.sequence]
    assert not cluster.pending("B", "C")
    cluster.sync("B")
    assert cluster.pending("B", "C") == [VoteReply(2, True, False, cluster.now_ms)]
    cluster.restart("B", power_cut=True)
    assert cluster["B"].core.log.hard_state == (2, "C")


def test_a_vote_of_another_term_does_not_count() -> None:
    cluster = candidate()
    term = cluster["B"].core.term
    for source in "CD":
        cluster.inject(source, "B", VoteReply(term - 1, True, False, 0))
    assert not cluster["B"].core.is_leader


def test_a_refusal_is_no_vote() -> None:
    cluster = candidate()
    term = cluster["B"].core.term
    for source in "CDE":
        cluster.inject(source, "B", VoteReply(term, False, False, 0))
    assert not cluster["B"].core.is_leader


def test_a_pre_vote_does_not_count_as_a_vote() -> None:
    cluster = candidate()
    term = cluster["B"].core.term
    for source in "CDE":
        cluster.inject(source, "B", VoteReply(term, True, True, 0))
    assert cluster["B"].engine.role == CANDIDATE
    assert cluster["B"].core.term == term


def test_a_learner_and_a_stranger_have_no_vote() -> None:
    cluster = candidate()
    engine = cluster["B"].engine
    engine.note_entries([])
    learner = named("ABCDE")
    members = tuple(
        member
        if member.id != "C"
        else type(member)(id=member.id, client="", peer="", disk_id=member.disk_id, voter=False)
        for member in learner.members
    )
    engine.configurations.append(engine.log.last_index, type(learner)("c" * 32, members))
    engine.refresh_members()
    term = cluster["B"].core.term
    cluster.inject("C", "B", VoteReply(term, True, False, 0))
    assert engine.voters_heard == {"B"}
    cluster.step("B", [PeerMessage(NodeId("X"), b"")])
    assert engine.voters_heard == {"B"}


def test_a_new_leader_starts_at_the_median_wall_clock_of_its_voters() -> None:
    cluster = candidate()
    term = cluster["B"].core.term
    cluster.inject("C", "B", VoteReply(term, True, False, 5))
    cluster.inject("D", "B", VoteReply(term, True, False, 10**15))
    assert cluster["B"].core.is_leader
    assert cluster["B"].core.quorum_wall_ms == cluster.now_ms


def test_two_leaders_of_one_term_stop_the_node() -> None:
    cluster = Cluster.led_by_first("ABC")
    with pytest.raises(SafetyViolationError, match="also leads"):
        cluster.inject("B", "A", Heartbeat(term=1, round=1))


# ------------------------------------------------------------------- leaving office


def test_a_leader_that_hears_no_quorum_steps_down_by_itself() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    for _ in range(MAX_MS // 50 + 2):
        cluster.advance(50)
        cluster.step("A")
    assert cluster["A"].core.role is Role.FOLLOWER
    assert cluster["A"].core.leader_id is None


def test_one_of_two_followers_keeps_a_leader_in_office() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("C")
    cluster.beat(only="AB", n=MAX_MS // 50 + 2)
    assert cluster.leaders() == ["A"]


def test_a_leader_that_slept_serves_nothing_before_it_steps_down() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(MAX_MS + 1)
    ready = cluster.step("A", (), [Proposal(b"x", "token")], reads=True)
    assert not cluster["A"].core.is_leader
    assert ready.reads_failed
    assert [(outcome.token, outcome.definite) for outcome in ready.outcomes] == [("token", True)]


def test_a_leader_whose_disk_stalls_steps_down() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["A"].auto_sync = False
    cluster.propose("A", b"x", "token")
    for _ in range(MAX_MS // 50 + 2):
        cluster.beat()
    assert not cluster["A"].core.is_leader


def test_an_idle_disk_is_not_a_stalled_one() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.beat(n=3 * MAX_MS // 50)
    assert cluster.leaders() == ["A"]


def test_a_deposed_leader_learns_of_it_from_the_first_answer() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    cluster.elect("B", only="BC")
    cluster.connect("A", "C")
    cluster.settle(only="AC")
    cluster.beat(only="AC")
    assert not cluster["A"].core.is_leader
    assert cluster["A"].core.term == cluster["B"].core.term


def test_a_new_term_forgets_what_was_heard_in_the_last() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    cluster.elect("B", only="BC")
    cluster.settle(only="BC")
    engine = cluster["B"].engine
    assert engine.match_indexes[engine.peers["A"].node] == 0
    assert engine.peers["A"].confirmed_round == 0


def test_a_partial_partition_does_not_churn() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.disconnect("A", "C")
    for _ in range(100):
        cluster.beat()
    assert cluster.leaders() == ["A"]
    assert cluster["A"].core.term == 1


def test_an_append_of_an_older_term_is_answered_with_the_newer_one() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.inject("C", "B", Heartbeat(term=3, round=1))
    cluster.queues["B", "A"].clear()
    cluster.inject("A", "B", Append(1, 1, 2, 2, 1, False, []))
    (reply,) = cluster.pending("B", "A")
    assert (reply.term, reply.success) == (3, False)  # type: ignore[union-attr]


def test_the_term_after_a_restart_is_never_below_that_of_the_log() -> None:
    log = recovered([(b"\1", 4)], term=2, vote="B")
    node = core("A", log=log)
    assert node.log.hard_state == (4, None)

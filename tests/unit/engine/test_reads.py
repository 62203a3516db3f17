"""What rounds prove: leases, the read index of followers, and how old a store is."""

from __future__ import annotations

from raftkv.engine.core import EngineSettings
from raftkv.engine.messages import Freshness, ReadIndexReply, ReadIndexRequest, decode
from raftkv.engine.ready import PeerHello, PeerUp, ReadsReady, Ready
from raftkv.engine.syncobj_reads import REFUSAL_MS
from raftkv.types import Index, NodeId
from tests.unit.engine.harness import SETTINGS, Cluster

LEASE_MS = REFUSAL_MS * 9 // 10


def led() -> Cluster:
    """A cluster whose leader has just had a round confirmed."""
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(1)
    cluster.beat()
    return cluster


def sent_by(ready: Ready, kind: type) -> list[object]:
    bodies = [decode(message.body) for message in ready.messages]
    return [body for body in bodies if type(body) is kind]


# ------------------------------------------------------------------------ lease


def test_a_lease_counts_from_when_the_round_began() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.advance(SETTINGS.heartbeat_ms)
    began_ms = cluster.now_ms
    cluster.step("A")
    cluster.advance(30)
    cluster.settle()
    core = cluster["A"].core
    end_ms = cluster["A"].engine.lease_end_ms()
    assert end_ms == began_ms + LEASE_MS
    assert core.lease_holds(end_ms - 1)
    assert not core.lease_holds(end_ms)


def test_a_lease_needs_a_quorum_not_one_who_answers() -> None:
    cluster = Cluster.led_by_first("ABCDE")
    cluster.beat(only="AB", n=3)
    before = cluster["A"].engine.lease_end_ms()
    cluster.advance(SETTINGS.heartbeat_ms)
    cluster.beat(only="AB")
    assert cluster["A"].engine.lease_end_ms() == before
    cluster.beat()
    assert cluster["A"].engine.lease_end_ms() > before


def test_a_node_that_promises_nothing_is_not_counted_on() -> None:
    cluster = led()
    for name in "BC":
        old = cluster[name].core.hello()._replace(refusal_ms=0)
        cluster.step("A", [PeerUp(NodeId(name), old)])
    cluster.beat()
    assert not cluster["A"].core.lease_holds(cluster.now_ms)


def test_no_promise_is_taken_to_be_longer_than_a_restart_keeps() -> None:
    cluster = led()
    for name in "BC":
        boastful = cluster[name].core.hello()._replace(refusal_ms=60_000)
        cluster.step("A", [PeerUp(NodeId(name), boastful)])
    cluster.beat()
    assert cluster["A"].engine.lease_end_ms() <= cluster.now_ms + LEASE_MS


def test_a_lease_ends_when_a_transfer_begins() -> None:
    cluster = led()
    core = cluster["A"].core
    assert core.lease_holds(cluster.now_ms)
    core.begin_transfer(NodeId("B"))
    assert not core.lease_holds(cluster.now_ms)


def test_a_lease_stays_lost_once_somebody_was_told_to_campaign() -> None:
    cluster = led()
    core = cluster["A"].core
    core.begin_transfer(NodeId("B"))
    cluster.step("A")
    cluster.disconnect("A", "B")
    cluster.step("A")
    assert core.transfer_target is None
    for _ in range(3):
        cluster.beat(only="AC")
    assert core.is_leader
    assert not core.lease_holds(cluster.now_ms)


def test_a_transfer_that_told_nobody_gives_the_lease_back() -> None:
    cluster = led()
    core = cluster["A"].core
    cluster.propose("A", b"x")
    core.begin_transfer(NodeId("B"))
    cluster.disconnect("A", "B")
    cluster.step("A")
    cluster.beat(only="AC")
    assert core.lease_holds(cluster.now_ms)


def test_only_who_committed_an_entry_of_its_own_has_a_lease() -> None:
    cluster = led()
    core, engine = cluster["A"].core, cluster["A"].engine
    assert core.lease_holds(cluster.now_ms)
    engine._SyncObj__noopIDx = core.commit_index + 1
    assert not core.lease_holds(cluster.now_ms)


def test_a_node_that_starts_votes_for_nobody_whatever_its_timeouts_are() -> None:
    """What it promised before is forgotten; so it keeps what nobody promises more than."""
    brisk = EngineSettings(heartbeat_ms=10, election_timeout_min_ms=60, election_timeout_max_ms=120)
    cluster = Cluster("ABC", settings=brisk)
    engine = cluster["B"].engine
    engine.leader_contact_ms = cluster.now_ms - 10_000
    engine.now_ms = engine.started_ms + REFUSAL_MS - 1
    assert engine.is_sticky()
    assert cluster["B"].core.next_deadline_ms() >= engine.started_ms + REFUSAL_MS
    engine.now_ms += 1
    assert not engine.is_sticky()


def test_a_node_that_starts_does_not_stand_before_it_would_vote() -> None:
    """Not even if it has heard a leader since, for less than it may have promised before."""
    brisk = EngineSettings(heartbeat_ms=10, election_timeout_min_ms=60, election_timeout_max_ms=120)
    cluster = Cluster.led_by_first("ABC", settings=brisk)
    cluster.restart("B")
    cluster.connect("A", "B")
    cluster.beat()
    cluster.isolate("A")
    started_ms = cluster["B"].engine.started_ms
    cluster.advance(brisk.election_timeout_max_ms + 1)
    cluster.step("B")
    assert cluster["B"].engine.prevotes is None
    cluster.advance(started_ms + REFUSAL_MS - cluster.now_ms)
    cluster.step("B")
    assert cluster["B"].engine.prevotes == {NodeId("B")}


def test_a_node_says_how_long_it_refuses() -> None:
    assert Cluster("ABC")["A"].core.hello().refusal_ms == REFUSAL_MS
    brisk = EngineSettings(heartbeat_ms=10, election_timeout_min_ms=60, election_timeout_max_ms=120)
    assert Cluster("ABC", settings=brisk)["A"].core.hello().refusal_ms == 60


# --------------------------------------------------- read index of followers


def test_a_follower_is_told_the_index_once_a_later_round_is_confirmed() -> None:
    cluster = led()
    ticket = cluster["B"].engine._asked + 1
    ready = cluster["B"].core.step(cluster.now_ms, [], [], asks=True)
    assert ready.asked == ticket
    asked = cluster.inject("B", "A", ReadIndexRequest(term=1, ticket=ticket))
    assert sent_by(asked, ReadIndexReply) == []
    assert cluster["A"].core.expects_replies()
    cluster.settle()
    answers = [answer for ready in cluster["B"].readies for answer in ready.index_answers]
    assert answers == [ReadsReady(ticket, cluster["A"].core.commit_index)]


def test_who_does_not_lead_refuses_to_name_an_index() -> None:
    cluster = led()
    ready = cluster.inject("B", "C", ReadIndexRequest(term=1, ticket=5))
    assert sent_by(ready, ReadIndexReply) == [ReadIndexReply(term=1, ticket=5, index=0)]
    ready = cluster.inject("A", "B", ReadIndexReply(term=1, ticket=5, index=0))
    assert ready.asks_failed


def test_an_answer_to_an_earlier_process_confirms_nothing() -> None:
    cluster = led()
    cluster["B"].core.step(cluster.now_ms, [], [], asks=True)
    stale = ReadIndexReply(term=1, ticket=cluster["B"].engine._first_ticket, index=1)
    assert cluster.inject("A", "B", stale).index_answers == []


def test_there_is_nobody_to_ask_without_a_link_to_a_leader_that_understands() -> None:
    cluster = led()
    old = cluster["A"].core.hello()._replace(refusal_ms=0)
    cluster.step("B", [PeerUp(NodeId("A"), old)])
    assert cluster["B"].core.step(cluster.now_ms, [], [], asks=True).asked == 0
    cluster.disconnect("A", "C")
    assert cluster.step("C").asks_failed
    assert cluster["C"].core.step(cluster.now_ms, [], [], asks=True).asked == 0


def test_requests_end_with_the_office() -> None:
    cluster = led()
    cluster.inject("B", "A", ReadIndexRequest(term=1, ticket=1))
    cluster.inject("C", "A", ReadIndexRequest(term=2, ticket=1))
    assert not cluster["A"].core.is_leader
    assert not cluster["A"].engine._index_rounds


# ---------------------------------------------------------------- freshness


def test_a_follower_counts_its_age_from_a_round_before_the_confirmed_one() -> None:
    cluster = led()
    times = []
    for _ in range(4):
        times.append(cluster.now_ms + SETTINGS.heartbeat_ms + 1)
        cluster.beat()
    core, index = cluster["B"].core, cluster["A"].core.commit_index
    staleness_ms = core.staleness_ms(cluster.now_ms, index)
    assert staleness_ms is not None
    # Two rounds lie between: the one that proved it, and the one that told of it.
    assert staleness_ms >= SETTINGS.heartbeat_ms
    assert core.staleness_ms(cluster.now_ms + 700, index) == staleness_ms + 700


def test_rounds_of_reads_do_not_put_the_proofs_off() -> None:
    cluster = led()
    cluster.beat(n=4)
    before = cluster["B"].engine._proofs[-1]
    for _ in range(40):
        cluster.advance(SETTINGS.heartbeat_ms // 5)
        cluster.step("A", reads=True)
        cluster.settle()
    assert cluster["B"].engine._proofs[-1].since_ms >= before.since_ms + 6 * SETTINGS.heartbeat_ms


def test_nothing_is_proven_while_no_quorum_confirms() -> None:
    cluster = led()
    cluster.beat(n=4)
    index = cluster["A"].core.commit_index
    before = cluster["A"].engine._proofs[-1]
    for _ in range(4):
        cluster.advance(SETTINGS.heartbeat_ms)
        cluster.step("A")
    assert cluster["A"].engine._proofs[-1].since_ms <= before.since_ms + 2 * SETTINGS.heartbeat_ms
    assert cluster["A"].core.staleness_ms(cluster.now_ms + LEASE_MS, index)


def test_a_proof_is_of_no_use_before_its_index_is_applied() -> None:
    cluster = led()
    cluster.beat(n=4)
    core, index = cluster["B"].core, cluster["A"].core.commit_index
    assert core.staleness_ms(cluster.now_ms, Index(index - 1)) is None
    assert core.staleness_ms(cluster.now_ms, index) is not None


def test_a_round_heard_again_later_is_no_newer() -> None:
    """Proof: a copy of an old message would make an old store look new."""
    cluster = led()
    cluster.beat(n=3)
    engine = cluster["B"].engine
    heard = list(engine._heard)
    engine.now_ms = cluster.now_ms + 500
    engine.note_heard(heard[0].round)
    assert list(engine._heard) == heard


def test_freshness_of_another_leader_or_term_proves_nothing() -> None:
    cluster = led()
    cluster.beat(n=3)
    proofs = list(cluster["B"].engine._proofs)
    cluster.inject("C", "B", Freshness(term=1, round=10_000, index=1))
    cluster.inject("A", "B", Freshness(term=0, round=10_000, index=1))
    assert list(cluster["B"].engine._proofs) == proofs


def test_who_does_not_know_the_message_is_not_sent_it() -> None:
    cluster = led()
    old: PeerHello = cluster["B"].core.hello()._replace(refusal_ms=0)
    cluster.step("A", [PeerUp(NodeId("B"), old)])
    told = []
    for _ in range(4):
        cluster.advance(SETTINGS.heartbeat_ms + 1)
        ready = cluster.step("A")
        told += [
            message.node for message in ready.messages if type(decode(message.body)) is Freshness
        ]
        cluster.settle()
    assert set(told) <= {NodeId("C")}

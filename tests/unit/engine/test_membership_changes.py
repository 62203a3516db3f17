"""Changes of the membership at run time: one at a time, learners first (finding N3)."""

from __future__ import annotations

from itertools import combinations

import pytest

from raftkv.engine import messages
from raftkv.engine.configuration import encode_configuration
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import (
    KIND_CONFIGURATION,
    ChangeRequest,
    PeerHello,
    PeerUp,
    SnapshotReceived,
    SnapshotTaken,
)
from raftkv.engine.syncobj_changes import FAREWELL_MS, changed
from raftkv.types import (
    ChangeKind,
    Configuration,
    Index,
    Member,
    MembershipChange,
    NodeId,
    Role,
)
from tests.unit.engine.harness import (
    CLUSTER_ID,
    SETTINGS,
    Cluster,
    Node,
    core,
    members,
    named,
    recovered,
    snapshot_meta,
)


def change(kind: str, name: str) -> MembershipChange:
    addresses = {"client": f"{name}:1", "peer": f"{name}:2"} if kind == "add" else {}
    return MembershipChange(kind=ChangeKind(kind), node=NodeId(name), **addresses)


def ask(cluster: Cluster, name: str, *changes: tuple[str, str]) -> list[str]:
    """Let one node propose changes in one step; return the refusals."""
    node = cluster[name]
    requests = [ChangeRequest(change(*one), one) for one in changes]
    waiting, node.inbox = node.inbox, []
    before = len(node.outcomes)
    ready = node.core.step(cluster.now_ms, waiting, [], changes=requests, wall_ms=cluster.now_ms)
    if ready.records:
        node.writes.append((ready.sequence, ready.records, ready.commit_hint))
    node.committed += ready.committed
    node.outcomes += ready.outcomes
    node.readies.append(ready)
    node.held += ready.messages
    cluster.sync(name) if node.auto_sync else cluster._release(node)
    return [outcome.reason for outcome in node.outcomes[before:]]


def with_spare(names: str = "ABC", spare: str = "D") -> Cluster:
    """A cluster led by A, and one more node whose config file lists everybody."""
    cluster = Cluster.led_by_first(names)
    cluster.nodes[spare] = Node(
        spare,
        members(names + spare),
        now_ms=cluster.now_ms,
        core_class=RaftCore,
        settings=SETTINGS,
    )
    cluster.names = names + spare
    return cluster


def added(names: str = "ABC", spare: str = "D") -> Cluster:
    """The same, with the spare one added, linked and caught up."""
    cluster = with_spare(names, spare)
    assert ask(cluster, "A", ("add", spare)) == []
    cluster.settle()
    for name in names:
        cluster.connect(name, spare)
    cluster.beat(n=5)
    return cluster


def voters(cluster: Cluster, name: str = "A") -> str:
    return "".join(member.id for member in cluster[name].core.configuration.voters)


class TestAdding:
    def test_a_new_member_is_a_learner_that_gets_the_log(self) -> None:
        cluster = added()
        assert voters(cluster) == "ABC"
        assert cluster["D"].log == cluster["A"].log
        assert cluster["D"].core.role is Role.LEARNER
        member = cluster["A"].core.committed_configuration.member("D")
        assert member is not None
        assert member.disk_id == "disk-D"

    def test_a_learner_is_not_counted(self) -> None:
        cluster = added()
        cluster.isolate("B")
        cluster.isolate("C")
        cluster.propose("A", b"x")
        cluster.settle()
        cluster.beat(n=3)
        assert b"x" not in cluster["A"].applied()
        assert cluster["D"].core.log.last_index == cluster["A"].core.log.last_index

    def test_a_learner_does_not_campaign(self) -> None:
        cluster = added()
        cluster.isolate("D")
        term = cluster["D"].core.term
        ready = cluster.expire("D")
        assert not ready.messages
        assert cluster["D"].core.term == term

    def test_a_learner_gives_no_vote_to_who_knows_no_more_than_it(self) -> None:
        cluster = added()
        cluster.advance(1000)
        log = cluster["D"].core.log
        request = messages.VoteRequest(
            term=9, last_index=log.last_index, last_term=log.last_term, pre=False
        )
        assert cluster.inject("B", "D", request).messages == []

    def test_a_learner_votes_for_who_may_know_that_it_is_a_voter(self) -> None:
        """Else one crash in the middle of a promotion leaves four nodes without a leader."""
        cluster = added()
        cluster["A"].auto_sync = False
        assert ask(cluster, "A", ("promote", "D")) == []
        cluster.deliver("A", "B")
        assert voters(cluster, "B") == "ABCD"
        cluster.isolate("A")
        cluster.settle(only="BCD")
        cluster.elect("B", only="BCD")
        cluster.beat(only="BCD", n=2)
        assert voters(cluster, "D") == "ABCD"
        assert cluster["B"].core.committed_configuration == cluster["B"].core.configuration

    def test_a_spare_node_founds_nothing_with_members_that_hold_data(self) -> None:
        cluster = with_spare()
        for name in "ABC":
            hello = cluster[name].core.hello()
            cluster["D"].inbox.append(PeerUp(NodeId(name), hello))
        cluster.expire("D")
        cluster.expire("D")
        assert cluster["D"].core.term == 0
        assert not cluster["D"].core.admitted

    def test_a_learner_behind_the_log_gets_a_snapshot_and_then_votes(self) -> None:
        cluster = with_spare()
        cluster.propose("A", b"x")
        cluster.settle()
        last = cluster["A"].core.log.last_index
        meta = snapshot_meta(last, cluster["A"].core.term, cluster["A"].core.configuration)
        cluster.step("A", [SnapshotTaken(meta, Index(last + 1))])
        ask(cluster, "A", ("add", "D"))
        cluster.settle()
        for name in "ABC":
            cluster.connect(name, "D")
        cluster.beat(n=3)
        assert cluster["A"].readies[-1].snapshot_peers == ("D",)
        assert cluster["D"].core.log.last_index == 0
        assert ask(cluster, "A", ("promote", "D"))[0].startswith("D has not caught up yet")
        cluster["D"].snapshot = meta
        cluster.step("D", [SnapshotReceived(NodeId("A"), meta)])
        cluster.beat(n=4)
        assert cluster["D"].core.log.base_index == last
        assert ask(cluster, "A", ("promote", "D")) == []
        cluster.beat(n=2)
        assert voters(cluster, "D") == "ABCD"
        cluster.isolate("A")
        cluster.settle()
        cluster.elect("D", only="BCD")


class TestPromoting:
    def test_a_learner_that_keeps_up_becomes_a_voter_that_counts(self) -> None:
        cluster = added()
        assert ask(cluster, "A", ("promote", "D")) == []
        cluster.beat(n=2)
        assert voters(cluster) == "ABCD"
        assert cluster["D"].core.role is Role.FOLLOWER
        cluster.isolate("C")
        cluster.propose("A", b"x")
        cluster.beat(n=2)
        assert b"x" in cluster["A"].applied()

    def test_one_that_lags_is_refused(self) -> None:
        cluster = added()
        hold = {("A", "D"), ("D", "A")}
        for payload in (b"x", b"y"):
            cluster.propose("A", payload)
            cluster.settle(hold)
        for _ in range(15):
            cluster.beat(hold)
        assert ask(cluster, "A", ("promote", "D")) == ["D has not caught up yet: 2 entries to go"]

    def test_one_whose_disk_was_replaced_is_refused_until_the_new_one_is_named(self) -> None:
        cluster = added()
        cluster.restart("D", wipe=True)
        cluster.settle()
        assert ask(cluster, "A", ("promote", "D")) == ["D is not connected"]
        for name in "ABC":
            cluster.connect(name, "D")
        cluster.step("A")
        assert ask(cluster, "A", ("promote", "D"))[0].startswith("D has not been let in")
        cluster.beat(n=5)
        assert ask(cluster, "A", ("promote", "D")) == []


class TestOneAtATime:
    def test_two_in_one_step(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        refusals = ask(cluster, "A", ("add", "D"), ("add", "E"))
        assert refusals == ["another membership change is not committed yet"]

    def test_a_second_one_before_the_first_is_committed(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        assert ask(cluster, "A", ("add", "D")) == []
        refusals = ask(cluster, "A", ("remove", "C"))
        assert refusals == ["another membership change is not committed yet"]
        cluster.settle()
        assert ask(cluster, "A", ("remove", "C")) == []

    def test_none_before_the_own_noop(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster.isolate("C")
        cluster.advance(2000)
        cluster.step("A")
        cluster.expire("B")
        for _ in range(10):
            if not cluster["B"].core.is_leader:
                cluster.deliver("B", "A", 1)
                cluster.deliver("A", "B", 1)
        assert ask(cluster, "B", ("add", "D")) == [
            "the leader is new and has not committed anything yet"
        ]

    def test_only_the_leader(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        assert ask(cluster, "B", ("add", "D")) == ["not leader"]

    def test_none_while_leadership_is_handed_over(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster["A"].core.begin_transfer(NodeId("B"))
        assert ask(cluster, "A", ("add", "D")) == ["leadership is being handed over to B"]

    def test_after_a_restart_with_an_uncommitted_one_in_the_log(self) -> None:
        """The bare library takes another one then, and two majorities need not meet."""
        command = bytes((KIND_CONFIGURATION,)) + encode_configuration(named("ABCD"))
        log = recovered([(b"\x01", 1), (command, 1)], term=1, hint=1)
        node = core("A", "ABC", log=log, configuration=named("ABC"))
        assert [member.id for member in node.configuration.voters] == list("ABCD")
        assert node.configuration.quorum == 3


class TestNonsense:
    @pytest.mark.parametrize(
        ("kind", "name", "refusal"),
        [
            ("add", "B", "B is a member already"),
            ("promote", "B", "B votes already"),
            ("promote", "X", "X is not a member"),
            ("demote", "X", "X is not a member"),
            ("remove", "X", "X is not a member"),
            ("move", "X", "X is not a member"),
        ],
    )
    def test_is_refused_for_good(self, kind: str, name: str, refusal: str) -> None:
        cluster = Cluster.led_by_first("ABC")
        assert ask(cluster, "A", (kind, name)) == [refusal]
        assert cluster["A"].outcomes[-1].definite
        assert cluster["A"].outcomes[-1].lasting

    def test_no_voter_left(self) -> None:
        cluster = Cluster.led_by_first("A")
        for kind in ("remove", "demote"):
            assert ask(cluster, "A", (kind, "A")) == ["it would leave no voter"]

    def test_an_address_of_another_member(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        move = MembershipChange(kind=ChangeKind.MOVE, node=NodeId("A"), client="A:1", peer="B:2")
        engine = cluster["A"].engine
        assert engine.lasting_refusal(move) == "B has one of these addresses"

    def test_a_demoted_learner(self) -> None:
        cluster = added()
        assert ask(cluster, "A", ("demote", "D")) == ["D is a learner already"]

    def test_no_quorum_that_answers_would_be_left(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster.isolate("C")
        cluster.settle()
        assert ask(cluster, "A", ("remove", "B")) == [
            "no quorum would be left while C does not answer"
        ]
        assert not cluster["A"].outcomes[-1].lasting
        assert ask(cluster, "A", ("remove", "C")) == []


class TestRollback:
    def test_a_change_that_was_not_committed_is_rolled_back_with_the_log(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster.isolate("A")
        cluster.settle()
        # Refused for lack of a quorum, hence written by hand.
        engine = cluster["A"].engine
        engine._append_configuration(changed(engine.configurations.in_force, change("add", "D")))
        assert cluster["A"].core.configuration.member("D") is not None
        cluster.elect("B", only="BC")
        cluster.beat(only="BC")
        cluster.connect_all()
        cluster.beat(n=3)
        assert cluster["A"].core.configuration.member("D") is None
        assert cluster["A"].core.configuration == cluster["B"].core.configuration

    def test_its_proposer_does_not_know_what_became_of_it(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster["B"].auto_sync = cluster["C"].auto_sync = False
        assert ask(cluster, "A", ("add", "D")) == []
        cluster.isolate("A")
        cluster.advance(2000)
        cluster.step("A")
        outcome = cluster["A"].outcomes[-1]
        assert (outcome.token, outcome.definite) == (("add", "D"), False)


class TestRemoving:
    def test_a_removed_follower_is_told(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        assert ask(cluster, "A", ("remove", "C")) == []
        cluster.beat(n=2)
        assert voters(cluster) == "AB"
        assert cluster["C"].core.is_removed
        assert not cluster["A"].core.is_removed

    def test_the_leader_keeps_its_link_for_a_bounded_time(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        hold = {("A", "C"), ("C", "A")}
        ask(cluster, "A", ("remove", "C"))
        cluster.beat(hold, n=2)
        assert [member.id for member in cluster["A"].core.contacts] == list("ABC")
        assert [member.id for member in cluster["B"].core.contacts] == list("AB")
        cluster.beat(hold, n=FAREWELL_MS // 50 + 1)
        assert [member.id for member in cluster["A"].core.contacts] == list("AB")
        assert not [one for one in cluster["A"].readies[-1].messages if one.node == "C"]

    def test_others_keep_theirs_until_the_removal_is_committed(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        cluster["B"].auto_sync = False
        ask(cluster, "A", ("remove", "C"))
        cluster.deliver("A", "B")
        assert cluster["B"].core.configuration.member("C") is None
        assert [member.id for member in cluster["B"].core.contacts] == list("ABC")

    def test_a_leader_that_removes_itself_does_not_count_itself(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        index = cluster["A"].core.log.last_index + 1
        hold = {("C", "A"), ("A", "C")}
        ask(cluster, "A", ("remove", "A"))
        cluster.settle(hold)
        assert cluster["A"].core.commit_index < index
        cluster.settle()
        assert cluster["A"].core.commit_index >= index

    def test_a_leader_that_removed_itself_hands_over_and_ends(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        ask(cluster, "A", ("remove", "A"))
        # No time passes: the successor does not wait for an election timeout.
        cluster.settle()
        for _ in range(4):
            for name in "ABC":
                cluster.step(name)
            cluster.settle()
        assert not cluster["A"].core.is_leader
        assert cluster["A"].core.is_removed
        assert cluster.leaders() in (["B"], ["C"])
        tokens = [entry.token for entry in cluster["A"].committed if entry.token]
        assert tokens == [("remove", "A")]

    def test_a_leader_that_demotes_itself_becomes_a_learner(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        ask(cluster, "A", ("demote", "A"))
        cluster.beat(n=4)
        assert cluster["A"].core.role is Role.LEARNER
        assert cluster.leaders() in (["B"], ["C"])

    def test_of_two_the_one_with_the_entry_may_campaign_though_it_is_removed(self) -> None:
        cluster = Cluster.led_by_first("AB")
        ask(cluster, "A", ("remove", "A"))
        cluster.restart("A")
        assert cluster["A"].core.configuration.member("A") is None
        cluster.connect("A", "B")
        cluster.settle()
        cluster.expire("A")
        cluster.settle()
        cluster.beat(n=15)
        assert cluster["A"].core.is_removed
        assert voters(cluster, "B") == "B"
        cluster.expire("B")
        assert cluster.leaders() == ["B"]

    def test_a_learner_that_is_asked_for_a_vote_and_is_ahead_leads_until_a_voter_can(self) -> None:
        """A holds D's promotion, D what C lacks of a later term, B lost its disk."""
        cluster = with_spare()
        ask(cluster, "A", ("add", "D"))
        for name in "ABC":
            cluster.connect(name, "D")
        cluster.beat(n=5)
        ask(cluster, "A", ("promote", "D"))
        cluster.isolate("A")
        assert cluster["A"].core.configuration.quorum == 3
        cluster.expire("B")
        for _ in range(2):  # of two rounds of votes
            cluster.deliver("B", "C")
            cluster.deliver("C", "B")
        assert cluster["B"].core.is_leader
        cluster.settle({("B", "C")}, only="BD")
        assert cluster["D"].core.log.last_index > cluster["C"].core.log.last_index
        cluster.isolate("B")
        for one, other in ("AC", "AD", "CD"):
            cluster.connect(one, other)
        cluster.beat(n=60, only="ACD")
        # Of B nothing is heard any more.
        assert [name for name in cluster.leaders() if name != "B"] in (["A"], ["C"])
        assert cluster["D"].core.role is Role.LEARNER
        assert cluster["A"].core.configuration.member("D").voter is False

    def test_a_member_that_was_not_added_yet_is_not_removed(self) -> None:
        """It reads a history in which it does not occur."""
        cluster = with_spare()
        ask(cluster, "A", ("add", "D"))
        cluster.settle()
        for name in "ABC":
            cluster.connect(name, "D")
        cluster.settle()
        assert not cluster["D"].core.is_removed

    def test_a_restarted_node_knows_that_it_was_removed(self) -> None:
        cluster = Cluster.led_by_first("ABC")
        ask(cluster, "A", ("remove", "C"))
        cluster.beat(n=2)
        cluster.propose("A", b"x")
        cluster.beat(n=2)
        cluster.restart("C")
        cluster.step("C")
        assert cluster["C"].core.is_removed


class TestStrangers:
    def test_a_leader_that_is_not_known_yet_is_followed(self) -> None:
        """D joined while C was away, and leads now."""
        cluster = with_spare()
        cluster.isolate("C")
        ask(cluster, "A", ("add", "D"))
        cluster.connect("A", "D")
        cluster.connect("B", "D")
        cluster.beat(n=5, only="ABD")
        assert ask(cluster, "A", ("promote", "D")) == []
        cluster.beat(n=2, only="ABD")
        cluster["A"].core.begin_transfer(NodeId("D"))
        for _ in range(4):
            for name in "ABD":
                cluster.step(name)
            cluster.settle(only="ABD")
        assert cluster.leaders() == ["D"]
        assert cluster["C"].core.configuration.member("D") is None
        cluster.connect("C", "D")
        cluster.beat(n=4)
        assert cluster["C"].core.configuration == cluster["D"].core.configuration
        assert cluster["C"].core.leader_id == "D"

    def test_news_is_a_node_that_counts_and_knows_more(self) -> None:
        node = core("A", log=recovered([(b"\x01", 2)] * 5, term=2))
        hello = PeerHello("d", term=2, last_index=5, founding=False, admitted=True)
        assert not node.is_news(hello)
        assert node.is_news(hello._replace(last_index=6))
        assert node.is_news(hello._replace(term=3))
        assert not node.is_news(hello._replace(last_index=6, admitted=False))


def test_majorities_before_and_after_any_change_meet() -> None:
    """Every change, from every configuration of up to five members: no disjoint majorities."""
    names = "ABCDE"
    checked = 0
    for size in range(1, 6):
        for chosen in combinations(names, size):
            for count in range(1, size + 1):
                for voting in combinations(chosen, count):
                    before = Configuration(
                        CLUSTER_ID,
                        tuple(
                            Member(id=NodeId(name), client="", peer="", voter=name in voting)
                            for name in chosen
                        ),
                    )
                    for kind in ChangeKind:
                        for name in names:
                            if (name in chosen) is (kind is ChangeKind.ADD):
                                continue
                            after = changed(before, change(kind.value, name))
                            checked += _majorities_meet(before, after)
    assert checked > 1000


def _majorities_meet(before: Configuration, after: Configuration) -> int:
    if not after.voters:
        return 0
    old = [member.id for member in before.voters]
    new = [member.id for member in after.voters]
    for majority in combinations(old, before.quorum):
        for other in combinations(new, after.quorum):
            assert set(majority) & set(other), (old, new)
    return 1


def test_a_change_keeps_what_it_does_not_change() -> None:
    before = named("ABC")
    after = changed(before, change("demote", "B"))
    assert after.cluster_id == before.cluster_id
    assert [member.id for member in after.members] == list("ABC")
    assert [member.disk_id for member in after.members] == ["disk-A", "disk-B", "disk-C"]
    assert [member.voter for member in after.members] == [True, False, True]

"""Who counts: founding, lost disks, disks let in, and configurations that roll back."""

from __future__ import annotations

from raftkv.engine.configuration import encode_configuration
from raftkv.engine.core import RaftCore
from raftkv.engine.messages import Append, encode
from raftkv.engine.ready import KIND_CONFIGURATION, KIND_NOOP, PeerHello, PeerMessage, PeerUp
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import PeerState
from raftkv.types import NodeId, Role
from tests.unit.engine.harness import CLUSTER_ID, Cluster, core, named, recovered

NOOP = bytes((KIND_NOOP,))
BLANK = PeerHello(disk_id="disk-B", term=0, last_index=0, founding=True, admitted=False)


def configuration_command(names: str, **disks: str) -> bytes:
    return bytes((KIND_CONFIGURATION,)) + encode_configuration(named(names, disks=disks))


def disk_of(cluster: Cluster, of: str, seen_by: str) -> str:
    member = cluster[seen_by].core.configuration.member(of)
    assert member is not None
    return member.disk_id


# -------------------------------------------------------------------- founding


def test_the_first_election_waits_for_every_member() -> None:
    cluster = Cluster("ABC")
    cluster.connect("A", "B")
    cluster.settle()
    assert cluster["A"].core.waiting_for == ("C",)
    for _ in range(3):
        assert not cluster.expire("A").messages
    assert not cluster["A"].core.admitted
    cluster.connect("A", "C")
    cluster.connect("B", "C")
    cluster.settle()
    assert all(cluster[name].core.admitted for name in "ABC")
    cluster.elect("A")


def test_the_first_configuration_names_the_cluster_and_every_disk() -> None:
    cluster = Cluster.led_by_first()
    for name in "ABC":
        configuration = cluster[name].core.configuration
        assert configuration.cluster_id == CLUSTER_ID
        assert [member.disk_id for member in configuration.members] == [
            "disk-A",
            "disk-B",
            "disk-C",
        ]


def test_a_cluster_of_one_founds_itself() -> None:
    cluster = Cluster("A")
    cluster.step("A")
    cluster.elect("A")
    cluster.settle()
    assert cluster["A"].core.commit_index == 2
    assert disk_of(cluster, "A", "A") == "disk-A"


def test_a_blank_node_beside_one_that_holds_something_takes_no_part() -> None:
    cluster = Cluster("ABC")
    for peer, founding in (("B", True), ("C", False)):
        hello = BLANK._replace(disk_id=f"disk-{peer}", founding=founding, last_index=0)
        cluster["A"].inbox.append(PeerUp(NodeId(peer), hello))
    cluster.step("A")
    assert not cluster["A"].core.admitted


def test_a_founding_node_uses_up_the_terms_it_may_have_voted_in() -> None:
    node = core("A", admitted=False)
    hellos = [
        PeerUp(NodeId("B"), BLANK._replace(term=4)),
        PeerUp(NodeId("C"), BLANK._replace(disk_id="disk-C")),
    ]
    node.step(0, hellos, [])
    assert node.admitted
    assert node.log.hard_state == (4, "A")


# -------------------------------------------------------------------- a lost disk


def test_a_wiped_node_follows_but_its_word_does_not_count() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("B")
    cluster.propose("A", b"kept", "kept")
    cluster.settle()
    cluster.restart("B", wipe=True)
    cluster.isolate("A")
    cluster.connect("B", "C")
    cluster.settle()
    # B and C are two of three, and B has forgotten what it promised.
    for name in "CBCB":
        cluster.expire(name)
        cluster.settle()
    assert cluster.leaders() in ([], ["A"])
    assert cluster["C"].core.role is not Role.LEADER
    assert not cluster["B"].core.admitted


def test_a_wiped_node_is_let_in_by_the_others() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.restart("B", wipe=True)
    cluster.connect("B", "A")
    cluster.connect("B", "C")
    cluster.settle()
    cluster.beat(n=2)
    assert disk_of(cluster, "B", "A") == "disk-B2"
    assert cluster["B"].core.admitted
    cluster.isolate("C")
    cluster.propose("A", b"by A and B", "token")
    cluster.settle()
    assert [entry.token for entry in cluster["A"].committed if entry.token] == ["token"]


def test_a_wiped_node_is_not_let_in_where_the_others_are_no_quorum() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("C")
    cluster.restart("B", wipe=True)
    cluster.connect("B", "A")
    cluster.settle()
    cluster.beat(only="AB", n=4)
    assert not cluster["B"].core.admitted
    # C comes back: then there are two without B.
    cluster.connect("A", "C")
    cluster.beat(n=4)
    assert cluster["B"].core.admitted


def test_waiting_for_the_others_does_not_flood_the_links() -> None:
    cluster = Cluster.led_by_first("ABCDE")
    for name in "CD":
        cluster.isolate(name)
    cluster.restart("B", wipe=True)
    for other in "AE":
        cluster.connect("B", other)
    cluster.settle()
    rounds = cluster["A"].engine.round
    cluster.beat(only="ABE", n=3)
    assert cluster["A"].engine.round - rounds < 40


class CountsAtOnce(SnapshotMends):
    """Undoes the mend: a disk counts as soon as a configuration in the log names it."""

    def counts(self, node_id: NodeId, state: PeerState) -> bool:
        return self.is_named(node_id, state)


class CountsAtOnceCore(RaftCore):
    engine_class = CountsAtOnce


def acknowledged_and_overwritten(core_class: type[RaftCore]) -> tuple[bool, bool]:
    """A lost disk's vote lives on in a candidate's hand while its successor is let in.

    C has B's vote in term 2. B's disk is wiped. A, still leading term 1 with D
    and E, lets the new disk in; E and the new disk take what A writes, D does
    not. Then C's request reaches D, and C leads with votes of B, C and D.

    Returns:
        Whether A acknowledged a write, and whether C leads without it.
    """
    cluster = Cluster.led_by_first("ABCDE", core_class=core_class)
    cluster.expire("C")
    for other in "BD":
        cluster.deliver("C", other)
        cluster.deliver(other, "C")
    cluster.deliver("C", "B")
    cluster.deliver("B", "C")
    assert cluster["C"].engine.voters_heard == {"C", "B"}
    hold = {(other, "C") for other in "ABDE"} | {("C", other) for other in "ABDE"}
    cluster.settle(hold)
    cluster.restart("B", wipe=True)
    for other in "ADE":
        cluster.connect("B", other)
    while disk_of(cluster, "B", "A") != "disk-B2":
        for name in "BADE":
            if cluster[name].inbox:
                cluster.step(name)
            for source, target in sorted(cluster.queues):
                ready = cluster.queues[source, target] and (source, target) not in hold
                if source == name and ready and disk_of(cluster, "B", "A") != "disk-B2":
                    cluster.deliver(source, target, 1)
    hold |= {("A", "D"), ("D", "A")}
    cluster.settle(hold)
    cluster.beat(hold)
    cluster.propose("A", b"precious", "precious")
    cluster.settle(hold)
    cluster.beat(hold)
    cluster.advance(cluster["D"].settings.election_timeout_min_ms + 1)
    cluster.deliver("C", "D")
    cluster.deliver("D", "C")
    acknowledged = any(entry.token == "precious" for entry in cluster["A"].committed)
    held = any(b"precious" in command for command, _, _ in cluster["C"].core.log[1:])
    return acknowledged, cluster["C"].core.is_leader and not held


def test_a_new_disk_counts_only_once_the_others_have_committed_it() -> None:
    acknowledged, overwritten = acknowledged_and_overwritten(RaftCore)
    assert overwritten, "the scenario no longer leads where it should"
    assert not acknowledged


def test_counting_a_new_disk_at_once_would_lose_a_write() -> None:
    assert acknowledged_and_overwritten(CountsAtOnceCore) == (True, True)


def test_a_new_leader_counts_a_disk_that_shows_by_its_vote_that_it_is_admitted() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.restart("B", wipe=True)
    cluster.connect("B", "A")
    cluster.connect("B", "C")
    # C holds the configuration but does not hear that it is committed; B does.
    hold: set[tuple[str, str]] = set()
    while not cluster["B"].core.admitted:
        for pair in sorted(cluster.queues):
            if disk_of(cluster, "B", "C") == "disk-B2":
                hold.add(("A", "C"))
            if pair not in hold and cluster.queues[pair]:
                cluster.deliver(*pair, 1)
        for name in "ABC":
            cluster.step(name)
        cluster.advance(10)
    assert cluster["C"].core.committed_configuration.member("B").disk_id == "disk-B"  # type: ignore[union-attr]
    cluster.isolate("A")
    cluster.settle()
    cluster.elect("C")
    cluster.propose("C", b"goes on", "token")
    cluster.settle()
    assert [entry.token for entry in cluster["C"].committed if entry.token] == ["token"]


def test_an_old_disk_that_is_attached_again_does_not_count() -> None:
    cluster = Cluster.led_by_first("ABC")
    old = cluster["B"].writes, cluster["B"].synced
    cluster.restart("B", wipe=True)
    cluster.connect("B", "A")
    cluster.connect("B", "C")
    cluster.settle()
    cluster.beat(n=2)
    assert disk_of(cluster, "B", "C") == "disk-B2"
    cluster.isolate("B")
    cluster.isolate("A")
    cluster["B"].writes, cluster["B"].synced = old
    cluster["B"].disk_id, cluster["B"].admitted = "disk-B", True
    cluster.restart("B")
    cluster.connect("B", "C")
    cluster.settle()
    for name in "BCBC":
        cluster.expire(name)
        cluster.settle()
    assert not cluster["C"].core.is_leader
    assert not cluster["B"].core.is_leader
    # With a leader it learns that another disk has taken its place, and is not let in.
    cluster.connect("A", "C")
    cluster.connect("A", "B")
    cluster.settle()
    cluster.elect("A") if not cluster.leaders() else None
    cluster.beat(n=3)
    assert not cluster["B"].core.admitted
    assert disk_of(cluster, "B", "A") == "disk-B2"


def test_a_node_that_missed_a_new_disk_votes_for_a_candidate_that_is_ahead() -> None:
    """B alone has the newest entry and needs E, which knows B by the disk that was lost."""
    cluster = Cluster.led_by_first("ABCDE")
    cluster.isolate("E")
    cluster.restart("B", wipe=True)
    for other in "ACD":
        cluster.connect("B", other)
    cluster.settle()
    cluster.beat(n=2)
    assert cluster["B"].core.admitted
    assert disk_of(cluster, "B", "C") == "disk-B2"
    cluster.isolate("C")
    cluster.propose("A", b"late", "late")
    cluster.settle()
    for name in "AD":
        cluster.isolate(name)
    for pair in ("BC", "BE", "CE"):
        cluster.connect(*pair)
    cluster.settle()
    assert disk_of(cluster, "B", "E") == "disk-B"
    for name in "BCEB":
        cluster.expire(name)
        cluster.settle()
    assert cluster["B"].core.is_leader
    cluster.beat(n=2)
    assert disk_of(cluster, "B", "E") == "disk-B2"


# -------------------------------------------------------- configuration in force


def test_a_configuration_counts_from_the_log_on_and_also_after_a_restart() -> None:
    log = recovered([(NOOP, 1), (configuration_command("AB"), 1)], term=1)
    node = core("A", "ABC", log=log)
    assert [member.id for member in node.configuration.members] == ["A", "B"]
    assert node.committed_configuration.cluster_id == ""


def test_a_truncation_rolls_the_configuration_back() -> None:
    log = recovered([(NOOP, 1), (configuration_command("ABC"), 1), (NOOP, 2)], term=2)
    node = core("A", "ABC", log=log)
    cluster = Cluster("ABC")
    cluster.nodes["A"].core = node
    changed = configuration_command("AB")
    append = {"term": 3, "round": 1, "commit": 0, "prev_index": 3, "prev_term": 2, "answer": False}
    cluster.inject("B", "A", Append(**append, entries=[(3, changed)]))  # type: ignore[arg-type]
    assert [member.id for member in node.configuration.members] == ["A", "B"]
    append |= {"term": 4, "prev_index": 3}
    cluster.inject("B", "A", Append(**append, entries=[(4, NOOP)]))  # type: ignore[arg-type]
    assert [member.id for member in node.configuration.members] == ["A", "B", "C"]
    assert set(node._engine.peers) == {"B", "C"}


def test_one_change_at_a_time_and_none_before_the_own_first_entry() -> None:
    cluster = Cluster.led_by_first("ABC")
    engine = cluster["A"].engine
    assert engine.propose_configuration(named("AB"))
    assert not engine.propose_configuration(named("ABC"))
    cluster.settle()
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    cluster.settle()
    cluster.expire("C")
    for source, target in (("C", "B"), ("B", "C")) * 2:
        cluster.deliver(source, target)
    leader = cluster["C"].engine
    assert leader.is_leader
    assert leader.commit_index < leader.noop_index
    assert not leader.propose_configuration(named("AB"))
    cluster.settle()
    assert leader.propose_configuration(named("AB"))


def test_what_a_stranger_says_is_not_heard() -> None:
    cluster = Cluster.led_by_first("ABC")
    before = cluster["A"].core.term
    stranger = PeerMessage(NodeId("X"), encode(Append(99, 1, 0, 0, 0, False, [])))
    ready = cluster.step("A", [stranger])
    assert cluster["A"].core.term == before
    assert not ready.messages

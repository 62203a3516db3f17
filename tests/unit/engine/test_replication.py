"""What is counted, what an acknowledgement waits for, and how much is sent."""

from __future__ import annotations

from raftkv.engine.messages import Append, AppendReply, Freshness, Heartbeat, RoundReply, decode
from raftkv.engine.ready import DiskSpace, PeerMessage, Proposal, SnapshotTaken, Synced
from raftkv.types import Index, NodeId, WriteSequence
from tests.unit.engine.harness import SETTINGS, Cluster, named, snapshot_meta


def append(round_: int = 50, **changes: object) -> Append:
    fields = {
        "term": 1,
        "round": round_,
        "commit": 2,
        "prev_index": 2,
        "prev_term": 1,
        "answer": False,
        "entries": [],
    }
    return Append(**(fields | changes))  # type: ignore[arg-type]


# ------------------------------------------------------------- counting itself


def test_a_leader_of_one_commits_only_what_is_durable() -> None:
    cluster = Cluster("A")
    cluster.step("A")
    cluster.elect("A")
    cluster.settle()
    cluster["A"].auto_sync = False
    cluster.propose("A", b"x", "token")
    cluster.step("A")
    assert not cluster["A"].applied()
    cluster.sync("A")
    cluster.step("A")
    assert cluster["A"].applied() == [b"x"]


def test_a_leader_counts_itself_up_to_its_durable_index_only() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["A"].auto_sync = False
    cluster.isolate("C")
    cluster.propose("A", b"x", "token")
    cluster.deliver("A", "B")
    cluster.deliver("B", "A")
    assert not cluster["A"].applied()
    cluster.sync("A")
    cluster.step("A")
    assert cluster["A"].applied() == [b"x"]


def test_two_followers_are_a_quorum_without_the_leaders_disk() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["A"].auto_sync = False
    cluster.propose("A", b"x", "token")
    for other in "BC":
        cluster.deliver("A", other)
        cluster.deliver(other, "A")
    assert cluster["A"].applied() == [b"x"]


def test_after_losing_office_an_unsynced_entry_is_not_acknowledged() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["A"].auto_sync = False
    cluster.propose("A", b"x", "token")
    cluster.deliver("A", "B")
    cluster.isolate("A")
    cluster.elect("B", only="BC")
    cluster.connect("A", "B")
    cluster.settle(hold={("A", "B")})
    # A gets its own entry back from B: the first sync is still in flight.
    cluster.beat(hold={("A", "B")})
    replies = [
        message.index
        for message in cluster.pending("A", "B")
        if type(message) is AppendReply and message.success
    ]
    assert all(index < 3 for index in replies)
    cluster.sync("A")
    assert any(
        type(message) is AppendReply and message.success and message.index >= 3
        for message in cluster.pending("A", "B")
    )


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting_copies() -> None:
    """Raft, figure 8: a later leader may still overwrite it."""
    cluster = Cluster.led_by_first("ABC")
    cluster.disconnect("A", "B")
    cluster.propose("A", b"x")
    cluster.deliver("A", "C")
    cluster.isolate("A")
    cluster.settle(only="BC")
    cluster.expire("C")
    for source, target in (("C", "B"), ("B", "C")) * 2:
        cluster.deliver(source, target)
    leader = cluster["C"].core
    assert leader.is_leader
    assert leader.log.term_at(3) == 1
    cluster.inject("B", "C", AppendReply(leader.term, 0, True, 3, False))
    assert leader.commit_index == 2
    cluster.inject("B", "C", AppendReply(leader.term, 0, True, 4, False))
    assert leader.commit_index == 4


# --------------------------------------------------------- order of effects


def test_an_acknowledgement_waits_for_the_sync_of_its_entries() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    cluster.inject("A", "B", append(entries=[(1, b"\0x")]))
    assert not cluster.pending("B", "A")
    cluster.sync("B")
    assert cluster.pending("B", "A") == [AppendReply(1, 50, True, 3, False)]


def test_an_entry_sent_again_while_its_first_sync_is_in_flight_is_not_acknowledged_early() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    entries = [(1, b"\0x")]
    first = cluster.inject("A", "B", append(50, entries=entries))
    again = cluster.inject("A", "B", append(51, entries=entries))
    assert first.records
    assert not again.records
    assert [message.depends for message in again.messages] == [first.sequence]
    assert not cluster.pending("B", "A")


def test_an_entry_rewritten_at_an_index_under_sync_waits_for_its_own_write() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    cluster.inject("A", "B", append(50, entries=[(1, b"\0x")]))
    under_sync = cluster["B"].core.log.last_sequence
    cluster.isolate("A")
    ready = cluster.inject("C", "B", append(60, term=2, entries=[(2, b"\0y")]))
    acknowledgement = ready.messages[-1]
    assert acknowledgement.depends == ready.sequence > under_sync
    # The first sync ends; it says nothing about the entry that took the place.
    cluster.step("B", [Synced(under_sync)])
    assert cluster["B"].core.log.durable_index() == 2


def test_nothing_of_a_term_leaves_before_the_term_is_durable() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    ready = cluster.inject("C", "B", Heartbeat(term=7, round=1))
    assert [type(decode(message.body)) for message in ready.messages] == [RoundReply]
    assert ready.messages[0].depends == ready.sequence
    assert not cluster.pending("B", "C")


def test_a_leaders_appends_do_not_wait_for_the_entries_they_carry() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["A"].auto_sync = False
    cluster.propose("A", b"x")
    assert [type(message) for message in cluster.pending("A", "B")] == [Append]


def test_an_answer_to_a_round_leaves_while_entries_are_being_synced() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster["B"].auto_sync = False
    cluster.inject("A", "B", append(entries=[(1, b"\0x")], answer=True))
    assert cluster.pending("B", "A") == [RoundReply(term=1, round=50)]


# ------------------------------------------------------------- how much is sent


def test_one_message_a_peer_and_step_also_while_a_snapshot_is_pending() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("C")
    for number in range(4):
        cluster.propose("A", b"%d" % number)
        cluster.settle(only="AB")
    cluster.step("A", [SnapshotTaken(snapshot_meta(6, 1, named("ABC")), Index(7))])
    cluster.restart("C")
    cluster.nodes["C"].writes = []
    cluster.connect("A", "C")
    cluster["A"].inbox[-1] = (
        cluster["A"]
        .inbox[-1]
        ._replace(  # type: ignore[call-arg]
            hello=cluster["A"].inbox[-1].hello._replace(last_index=0)  # type: ignore[union-attr]
        )
    )
    cluster["A"].engine.match_indexes[cluster["A"].engine.peers["C"].node] = 0
    cluster.advance(SETTINGS.heartbeat_ms)
    # The clock stands still: no loop may wait for it to move.
    ready = cluster.step("A", (), [Proposal(b"x", None)] * 3)
    assert ready.snapshot_peers == ("C",)
    sent = [one for one in ready.messages if type(decode(one.body)) is not Freshness]
    assert sorted(message.node for message in sent) == ["B", "C"]
    assert [type(decode(m.body)) for m in sent if m.node == "C"] == [Heartbeat]


def test_an_append_carries_a_bounded_number_of_bytes_and_the_rest_follows() -> None:
    settings = type(SETTINGS)(append_bytes_max=1000)
    cluster = Cluster.led_by_first("ABC", settings=settings)
    ready = cluster.step("A", (), [Proposal(b"x" * 300, None)] * 10)
    sizes = [
        sum(len(command) for _, command in message.entries)
        for message in (decode(one.body) for one in ready.messages)
        if type(message) is Append
    ]
    assert len(sizes) == 2
    assert all(0 < size <= 1000 for size in sizes)
    assert cluster["A"].core.has_backlog()
    cluster.settle()
    assert cluster["B"].core.log.last_index == 12


def test_one_entry_above_the_limit_goes_alone() -> None:
    settings = type(SETTINGS)(append_bytes_max=1000)
    cluster = Cluster.led_by_first("ABC", settings=settings)
    cluster.step("A", (), [Proposal(b"x" * 5000, None), Proposal(b"y", None)])
    counts = [len(message.entries) for message in cluster.pending("A", "B")]  # type: ignore[union-attr]
    assert counts == [1]
    cluster.settle()
    assert cluster["C"].core.log.last_index == 4


def test_what_is_in_flight_to_a_peer_is_bounded() -> None:
    settings = type(SETTINGS)(append_bytes_max=1000, inflight_bytes_max=3000)
    cluster = Cluster.led_by_first("ABC", settings=settings)
    for _ in range(10):
        cluster.propose("A", b"x" * 900)
    assert sum(len(m.entries) for m in cluster.pending("A", "B")) == 4  # type: ignore[union-attr]
    cluster.settle()
    assert cluster["B"].core.log.last_index == 12


# ------------------------------------------------------------- rewinds


def test_a_follower_that_lost_messages_with_its_link_gets_them_again() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.propose("A", b"one")
    cluster.disconnect("A", "B")
    cluster.propose("A", b"two")
    cluster.connect("A", "B")
    cluster.settle()
    assert cluster["B"].log == cluster["A"].log


def test_a_hello_that_promises_too_much_is_corrected_by_a_rejection() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("B")
    for number in range(5):
        cluster.propose("A", b"%d" % number)
    cluster.settle(only="AC")
    cluster.connect("A", "B")
    hello = cluster["A"].inbox[-1]
    cluster["A"].inbox[-1] = hello._replace(hello=hello.hello._replace(last_index=99))  # type: ignore[union-attr]
    cluster.settle()
    cluster.beat()
    assert cluster["B"].log == cluster["A"].log


def test_a_rejection_skips_the_whole_conflicting_term() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    for number in range(50):
        cluster.propose("A", b"%d" % number)
    cluster.elect("B", only="BC")
    for number in range(60):
        cluster.propose("B", b"%d" % number)
    cluster.settle(only="BC")
    cluster.connect("A", "B")
    before = len(cluster["A"].readies)
    cluster.settle()
    cluster.beat()
    assert cluster["A"].log == cluster["B"].log
    assert len(cluster["A"].readies) - before < 20


def test_a_late_rejection_does_not_move_the_next_index_below_what_is_matched() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.propose("A", b"x")
    cluster.settle()
    engine = cluster["A"].engine
    peer = engine.peers["B"]
    cluster.inject("B", "A", AppendReply(1, engine.round, False, 1, False))
    assert engine.next_indexes[peer.node] > engine.match_indexes[peer.node] == 3


# ------------------------------------------------------------- full disks


def test_a_follower_with_a_full_disk_says_so_and_holds_on_to_what_it_has() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.step("B", [DiskSpace(full=True)])
    cluster.propose("A", b"x", "token")
    cluster.settle()
    assert cluster["B"].core.log.last_index == 2
    assert cluster["A"].engine.peers["B"].full
    assert cluster["A"].applied() == [b"x"]


def test_a_full_quorum_is_refused_definitely_and_no_write_is_left_unknown() -> None:
    cluster = Cluster.led_by_first("ABC")
    for name in "BC":
        cluster.step(name, [DiskSpace(full=True)])
    # Heartbeats go on, and say it before any entry was tried.
    cluster.beat(n=2)
    cluster.propose("A", b"x", "token")
    assert [(o.token, o.definite, o.reason) for o in cluster["A"].outcomes] == [
        ("token", True, "disk full")
    ]


def test_space_that_returns_is_used_without_further_notice() -> None:
    cluster = Cluster.led_by_first("ABC")
    for name in "BC":
        cluster.step(name, [DiskSpace(full=True)])
    cluster.propose("A", b"x", "token")
    cluster.settle()
    for name in "BC":
        cluster.step(name, [DiskSpace(full=False)])
    cluster.beat(n=2)
    assert cluster["A"].applied() == [b"x"]
    assert not cluster["A"].engine.peers["B"].full


def test_a_full_disk_still_votes_and_confirms_rounds() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    cluster.step("C", [DiskSpace(full=True)])
    cluster.settle(only="BC")
    cluster.elect("B", only="BC")
    ready = cluster.step("B", reads=True)
    cluster.settle(only="BC")
    assert cluster["B"].engine.confirmed_round() >= ready.read_ticket


def test_a_report_of_a_sync_never_goes_back() -> None:
    cluster = Cluster.led_by_first("ABC")
    synced = cluster["A"].core.log.synced
    cluster.step("A", [Synced(WriteSequence(1))])
    assert cluster["A"].core.log.synced >= synced


def test_junk_is_reported_and_skipped_alone() -> None:
    cluster = Cluster.led_by_first("ABC")
    good = append(entries=[(1, b"\0x")])
    from raftkv.engine.messages import encode

    ready = cluster.step(
        "B", [PeerMessage(NodeId("C"), b"junk"), PeerMessage(NodeId("A"), encode(good))]
    )
    assert [node for node, _ in ready.violators] == ["C"]
    assert cluster["B"].core.log.last_index == 3

"""A log longer than the memory: what leaves it, and how a late follower gets it.

The budget here is nothing at all, so an entry leaves the memory as soon as it
is durable and applied.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftkv.engine import messages
from raftkv.engine.core import EngineSettings, SafetyViolationError
from raftkv.engine.log import APPEND_ENTRIES_MAX
from raftkv.engine.messages import Append
from raftkv.engine.ready import DiskSpace, EntriesRead, EntryRecord, PeerUp, SnapshotTaken
from raftkv.types import Index, NodeId
from tests.unit.engine.harness import SETTINGS, Cluster, named, snapshot_meta

FORGETFUL = replace(SETTINGS, log_memory_bytes_max=0)
B, C = NodeId("B"), NodeId("C")


def led(settings: EngineSettings = FORGETFUL) -> Cluster:
    """A leads B and C; entries 1 and 2 are its own."""
    return Cluster.led_by_first(settings=settings)


def write(cluster: Cluster, count: int, *, first: int = 0, size: int = 3) -> list[bytes]:
    """Commit some entries with the first node, and return their payloads."""
    payloads = [b"%d".ljust(size, b".") % (first + number) for number in range(count)]
    for payload in payloads:
        cluster.propose("A", payload)
        cluster.settle()
    cluster.beat()
    return payloads


def behind(count: int = 10, settings: EngineSettings = FORGETFUL, size: int = 3) -> Cluster:
    """C was away while entries were committed that A has no longer in memory."""
    cluster = led(settings)
    cluster.isolate("C")
    write(cluster, count, size=size)
    cluster.step("A")
    assert cluster["A"].core.log.evicted_index == cluster["A"].core.commit_index
    return cluster


def appends(cluster: Cluster, source: str, target: str) -> list[Append]:
    found = [message for message in cluster.pending(source, target) if type(message) is Append]
    return [message for message in found if message.entries]


def test_what_is_applied_and_durable_leaves_the_memory_of_every_node() -> None:
    cluster = led()
    write(cluster, 20)
    cluster.beat(n=2)
    for name in "ABC":
        log = cluster[name].core.log
        assert log.last_index == log.evicted_index == 22
        assert log.base_index == 0
        assert log.memory_bytes == log.memory_count == 0
        assert [log.term_at(index) for index in (0, 1, 22)] == [0, 1, 1]


def test_a_budget_is_kept_and_not_emptied() -> None:
    cluster = led(replace(SETTINGS, log_memory_bytes_max=4000))
    write(cluster, 100, size=100)
    for name in "ABC":
        assert 2000 < cluster[name].core.log.memory_bytes <= 4000


def test_nothing_leaves_before_it_is_durable() -> None:
    cluster = led()
    cluster["A"].auto_sync = False
    before = cluster["A"].core.log.evicted_index
    for _ in range(5):
        cluster.propose("A", b"x")
        cluster.settle()
    # B and C have committed them without A's own disk.
    assert cluster["A"].core.commit_index == before + 5
    assert cluster["A"].core.log.evicted_index == before
    cluster.sync("A")
    cluster.settle()
    assert cluster["A"].core.log.evicted_index == before + 5


def test_nothing_leaves_before_it_is_committed() -> None:
    cluster = led()
    before = cluster["A"].core.log.evicted_index
    cluster.isolate("A")
    for _ in range(5):
        cluster.propose("A", b"x")
    assert cluster["A"].core.log.evicted_index == before


def test_nothing_leaves_before_it_is_handed_out() -> None:
    cluster = led(replace(FORGETFUL, apply_bytes_max=100))
    cluster["B"].auto_sync = cluster["C"].auto_sync = False
    for _ in range(8):
        cluster.propose("A", bytes(90))
    cluster.settle()
    cluster.sync("B")
    # The newest acknowledgement alone, so that it commits all of them in one step.
    while len(cluster.queues["B", "A"]) > 1:
        cluster.queues["B", "A"].popleft()
    cluster.deliver("B", "A")
    core = cluster["A"].core
    assert core._engine.applied_index < core.commit_index
    assert core.log.evicted_index <= core._engine.applied_index


def test_a_follower_gets_from_the_disk_what_is_no_longer_in_memory() -> None:
    cluster = behind(30)
    cluster.connect_all()
    cluster.settle()
    cluster.beat(n=2)
    assert cluster["C"].applied() == cluster["A"].applied()
    assert cluster["C"].core.log.last_index == cluster["A"].core.log.last_index


def test_a_read_is_asked_for_once_and_meanwhile_there_are_signs_of_life() -> None:
    cluster = behind()
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    assert [(wanted.first, wanted.last) for wanted in leader.wanted] == [(3, 12)]
    assert not leader.core.has_backlog()
    for _ in range(20):
        cluster.beat()
    assert len(leader.wanted) == 1
    assert cluster["C"].core.leader_id == "A"
    assert leader.core.is_leader
    cluster.read("A")
    cluster.settle()
    assert cluster["C"].core.log.last_index == 12


def test_no_more_is_read_than_a_message_may_have() -> None:
    cluster = behind(2 * APPEND_ENTRIES_MAX)
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    assert [(wanted.first, wanted.last) for wanted in leader.wanted] == [
        (3, APPEND_ENTRIES_MAX + 2)
    ]
    leader.auto_read = True
    cluster.read("A")
    cluster.settle()
    cluster.beat(n=3)
    assert cluster["C"].core.log.last_index == leader.core.log.last_index


def test_two_followers_at_the_same_place_share_one_read() -> None:
    cluster = Cluster.led_by_first("ABCDE", settings=FORGETFUL)
    cluster.isolate("D")
    cluster.isolate("E")
    write(cluster, 10)
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "D")
    cluster.connect("A", "E")
    cluster.settle()
    assert len(leader.wanted) == 1
    cluster.read("A")
    cluster.settle()
    for name in "DE":
        assert cluster[name].core.log.last_index == leader.core.log.last_index


def test_reading_goes_on_by_itself_within_the_bytes_in_flight() -> None:
    settings = replace(FORGETFUL, append_bytes_max=300, inflight_bytes_max=1000)
    cluster = behind(60, settings, size=100)
    cluster.connect("A", "C")
    cluster.settle(hold={("C", "A")})
    cluster.deliver("C", "A", count=2)
    cluster.settle(hold={("C", "A")})
    state = cluster["A"].engine.peers[C]
    assert 1000 <= state.inflight_bytes <= 1300
    assert not state.reading
    for ready in cluster["A"].readies:
        for wanted in ready.wanted:
            assert wanted.bytes_max == 300
        for message in ready.messages:
            decoded = messages.decode(message.body)
            if type(decoded) is Append:
                assert sum(len(command) for _, command in decoded.entries) <= 300
    cluster.settle()
    assert cluster["C"].core.log.last_index == cluster["A"].core.log.last_index


def test_a_full_follower_is_not_read_for() -> None:
    cluster = behind()
    cluster.step("C", [DiskSpace(True)])
    cluster.connect("A", "C")
    cluster.beat(n=3)
    leader = cluster["A"]
    asked = sum(len(ready.wanted) for ready in leader.readies)
    cluster.beat(n=20)
    assert sum(len(ready.wanted) for ready in leader.readies) == asked
    cluster.step("C", [DiskSpace(False)])
    cluster.beat(n=2)
    assert cluster["C"].core.log.last_index == leader.core.log.last_index


def test_what_was_read_for_an_ended_term_is_left_aside() -> None:
    cluster = behind()
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    cluster.isolate("A")
    cluster.advance(2 * SETTINGS.election_timeout_max_ms)
    cluster.step("A")
    assert not leader.core.is_leader
    cluster.read("A")
    ready = cluster.step("A")
    assert not [message for message in ready.messages if message.node == C]
    assert leader.engine.peers[C].reading == 0


def test_what_a_snapshot_covers_meanwhile_is_not_sent() -> None:
    cluster = behind()
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    meta = snapshot_meta(12, 1, named("ABC"))
    cluster.step("A", [SnapshotTaken(meta, Index(8))])
    assert leader.core.log.base_index == 7
    cluster.read("A")
    ready = cluster.step("A")
    assert not appends(cluster, "A", "C")
    assert ready.snapshot_peers == () or ready.snapshot_peers == (C,)
    cluster.beat()
    assert leader.readies[-1].snapshot_peers == (C,)


def test_of_what_a_snapshot_covers_in_part_the_rest_is_of_use() -> None:
    cluster = behind()
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    meta = snapshot_meta(12, 1, named("ABC"))
    cluster.step("A", [SnapshotTaken(meta, Index(8))])
    leader.engine.next_indexes[leader.engine.peers[C].node] = 9
    cluster.read("A")
    cluster.step("A")
    sent = appends(cluster, "A", "C")
    assert [(message.prev_index, len(message.entries)) for message in sent] == [(8, 4)]


def test_a_read_that_found_nothing_is_repeated_by_the_next_heartbeat() -> None:
    cluster = behind()
    leader = cluster["A"]
    leader.auto_read = False
    cluster.connect("A", "C")
    cluster.settle()
    leader.wanted = []
    cluster.step("A", [EntriesRead(Index(3), [])])
    cluster.beat()
    cluster.read("A")
    cluster.settle()
    assert cluster["C"].core.log.last_index == 12


def test_a_read_that_contradicts_what_is_known_stops_the_node() -> None:
    cluster = behind()
    command = b"\0x"
    for entries in ([(command, 3, 9)], [(command, 4, 1)], [(command, 3, 1), (command, 5, 1)]):
        with pytest.raises(SafetyViolationError, match="read back"):
            cluster.step("A", [EntriesRead(Index(3), entries)])


def test_a_divergent_tail_is_found_though_the_terms_are_on_the_disk() -> None:
    """The previous index of the first append that fits is an evicted one."""
    cluster = led()
    cluster.isolate("A")
    for _ in range(5):
        cluster.propose("A", b"lost")
    cluster.elect("B", only="BC")
    for number in range(10):
        cluster.propose("B", b"%d" % number)
        cluster.settle(only="BC")
    cluster.beat(only="BC", n=2)
    log = cluster["B"].core.log
    assert log.evicted_index == log.last_index
    cluster.connect_all()
    cluster.beat(n=3)
    assert cluster["A"].core.log.last_index == log.last_index
    assert cluster["A"].core.log.last_term == log.last_term
    assert b"lost" not in cluster["A"].applied()


def test_a_resent_prefix_is_acknowledged_though_it_has_left_the_memory() -> None:
    cluster = led()
    write(cluster, 5)
    message = Append(
        term=1,
        round=0,
        commit=7,
        prev_index=2,
        prev_term=1,
        answer=False,
        entries=[(1, b"\0" + b"%d".ljust(3, b".") % number) for number in range(5)],
    )
    cluster.inject("A", "B", message)
    replies = [each for each in cluster.pending("B", "A") if isinstance(each, messages.AppendReply)]
    assert replies[-1].success
    assert replies[-1].index == 7
    assert cluster["B"].core.log.last_index == 7


def test_the_new_leader_of_an_evicted_log_goes_on_behind_it() -> None:
    cluster = led()
    write(cluster, 5)
    cluster.isolate("A")
    cluster.elect("C", only="BC")
    cluster.propose("C", b"next")
    cluster.settle(only="BC")
    cluster.beat(only="BC")
    assert cluster["B"].applied()[-1] == b"next"


@pytest.mark.parametrize("lost", [1, 4])
def test_a_follower_that_forgot_what_it_acknowledged_is_sent_it_again(lost: int) -> None:
    """A power cut takes what a weaker sync had not made durable; the leader stays the same."""
    cluster = led()
    write(cluster, 6)
    follower, leader = cluster["C"], cluster["A"]
    acknowledged = leader.core.match_index(C)
    assert acknowledged == 8
    commit = leader.core.commit_index
    cluster.isolate("C")
    follower.writes = [
        write
        for write in follower.writes
        if all(type(each) is not EntryRecord or each.index <= 8 - lost for each in write[1])
    ]
    follower.start(cluster.now_ms)
    assert follower.core.log.last_index == 8 - lost
    cluster.connect("A", "C")
    ready = cluster.step("A")
    assert ready.regresses == ((C, 8, 8 - lost),)
    assert leader.core.match_index(C) == 0
    assert leader.core.commit_index == commit
    cluster.settle()
    cluster.beat(n=2)
    assert follower.core.log.last_index == leader.core.log.last_index
    assert leader.core.match_index(C) == 8
    assert not any(ready.regresses for ready in leader.readies[-2:])


def test_a_link_that_comes_back_to_the_same_log_changes_nothing() -> None:
    cluster = led()
    write(cluster, 3)
    hello = cluster["C"].core.hello()
    cluster.isolate("C")
    cluster.step("A")
    ready = cluster.step("A", [PeerUp(C, hello)])
    assert ready.regresses == ()
    assert cluster["A"].core.match_index(C) == 5


def test_the_log_is_needed_from_where_the_slowest_linked_follower_is() -> None:
    cluster = led()
    write(cluster, 3)
    assert cluster["A"].core.fed_from() == 5
    assert cluster["B"].core.fed_from() is None
    cluster["C"].auto_sync = False
    write(cluster, 4, first=3)
    assert cluster["A"].core.fed_from() == 5
    cluster.isolate("C")
    cluster.step("A")
    assert cluster["A"].core.fed_from() == 9

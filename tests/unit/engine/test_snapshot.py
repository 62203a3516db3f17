"""What a durable snapshot does to the log: adopted when newer, never backwards."""

from __future__ import annotations

from raftkv.engine.messages import AppendReply
from raftkv.engine.ready import SnapshotReceived, SnapshotRecord, SnapshotTaken
from raftkv.types import Index, NodeId
from tests.unit.engine.harness import Cluster, named, snapshot_meta


def busy(names: str = "ABC", entries: int = 8) -> Cluster:
    cluster = Cluster.led_by_first(names)
    for number in range(entries):
        cluster.propose("A", b"%d" % number)
    cluster.settle()
    cluster.beat()
    return cluster


def test_a_snapshot_newer_than_the_log_restarts_it_and_tells_the_wal() -> None:
    cluster = busy()
    ready = cluster.step("B", [SnapshotReceived(NodeId("A"), snapshot_meta(50, 3, named("ABC")))])
    assert ready.records == [SnapshotRecord(Index(50), 3)]  # type: ignore[arg-type]
    assert ready.install is not None
    assert cluster["B"].core.log.base_index == cluster["B"].core.commit_index == 50
    assert cluster["B"].core.log.last_index == 50
    assert not ready.committed


def test_a_snapshot_within_the_log_keeps_the_tail_and_writes_nothing() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.deliver("A", "B")
    cluster.isolate("B")
    cluster["B"].engine.log.add(b"\0x", 3, 1)
    cluster["B"].engine.log.add(b"\0y", 4, 1)
    cluster.step("B")
    ready = cluster.step("B", [SnapshotReceived(NodeId("A"), snapshot_meta(3, 1, named("ABC")))])
    assert ready.records == []
    assert ready.install is not None
    assert cluster["B"].log == ["4@1"]
    assert cluster["B"].engine.applied_index == 3


def test_a_snapshot_that_contradicts_the_log_drops_the_whole_tail() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    for number in range(4):
        cluster.propose("A", b"lost%d" % number)
    ready = cluster.step("A", [SnapshotReceived(NodeId("B"), snapshot_meta(4, 2, named("ABC")))])
    assert ready.install is not None
    assert cluster["A"].log == []
    assert cluster["A"].core.log.base_term == 2


def test_an_acknowledgement_of_a_snapshot_waits_for_the_restart_of_the_log() -> None:
    cluster = busy()
    cluster["B"].auto_sync = False
    ready = cluster.step("B", [SnapshotReceived(NodeId("A"), snapshot_meta(50, 1, named("ABC")))])
    assert ready.messages[-1].depends == ready.sequence
    cluster.sync("B")
    assert cluster.pending("B", "A")[-1] == AppendReply(1, 0, True, 50, False)


def test_the_configuration_of_the_snapshot_is_in_force_behind_it() -> None:
    cluster = busy()
    cluster.step("B", [SnapshotReceived(NodeId("A"), snapshot_meta(50, 1, named("AB")))])
    assert [member.id for member in cluster["B"].core.configuration.members] == ["A", "B"]
    assert cluster["B"].core.configuration_at(Index(50)) == named("AB")


def test_compaction_never_drops_what_is_not_applied() -> None:
    cluster = busy()
    cluster["A"].engine._SyncObj__raftLastApplied = Index(5)
    cluster["A"].engine.on_snapshot_taken(Index(100))
    assert cluster["A"].core.log.base_index == 5


def test_compaction_keeps_the_configuration_in_force() -> None:
    cluster = busy()
    before = cluster["A"].core.configuration
    cluster.step("A", [SnapshotTaken(snapshot_meta(8, 1, before), Index(9))])
    assert cluster["A"].core.configuration == before
    assert cluster["A"].core.log.base_index == 8


def test_a_follower_behind_the_log_is_named_as_wanting_a_snapshot_and_goes_on_after_it() -> None:
    cluster = busy()
    cluster.restart("C", wipe=True)
    cluster.step("A", [SnapshotTaken(snapshot_meta(9, 1, named("ABC")), Index(10))])
    cluster.connect("A", "C")
    cluster.connect("B", "C")
    cluster.beat()
    assert cluster.step("A").snapshot_peers == ("C",)
    meta = snapshot_meta(9, 1, cluster["A"].core.configuration)
    cluster.step("C", [SnapshotReceived(NodeId("A"), meta)])
    cluster.settle()
    cluster.beat(n=2)
    assert cluster.step("A").snapshot_peers == ()
    assert cluster["C"].log[-1] == cluster["A"].log[-1]

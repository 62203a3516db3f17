"""One scenario for each finding of docs/internals/engine.md, and what it does unmended.

Most scenarios are played twice: on the engine as it is, and on one whose mend was
taken out again, where it has to go wrong. So a scenario cannot quietly stop
exercising what it was written for. All are played a third time on the library as it
is installed, in `test_bare_library`, which names both halves of each.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from raftkv.engine.core import RaftCore, join_log
from raftkv.engine.messages import Append, AppendReply, VoteReply
from raftkv.engine.ready import (
    KIND_CONFIGURATION,
    KIND_NOOP,
    LogEntry,
    SnapshotReceived,
    SnapshotTaken,
)
from raftkv.engine.syncobj_library import CANDIDATE
from raftkv.engine.syncobj_snapshot import SnapshotMends
from raftkv.engine.syncobj_state import PeerState, SafetyViolationError
from raftkv.types import Index, NodeId, SnapshotMeta
from tests.unit.engine.harness import (
    SETTINGS,
    Cluster,
    core,
    named,
    recovered,
    snapshot_meta,
)
from tests.unit.engine.test_membership import configuration_command

NOOP = bytes((KIND_NOOP,))


def core_of(engine: type[SnapshotMends]) -> type[RaftCore]:
    """A core class on another engine."""
    return type("UnmendedCore", (RaftCore,), {"engine_class": engine})


def write(payload: bytes) -> bytes:
    return b"\0" + payload


# ------------------------------------------------- A: replies of another term


class RepliesWithoutTerm(SnapshotMends):
    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        round_ = min(message.round, self.round)
        reply = AppendReply(self.term, round_, message.success, message.index, message.full)
        SnapshotMends.on_append_reply(self, node_id, reply)


def stale_acknowledgement(core_class: type[RaftCore]) -> list[object]:
    """E's acknowledgements of term 1 reach A when it leads term 3; only B has its new write."""
    cluster = Cluster.led_by_first("ABCDE", core_class=core_class)
    for other in "BCD":
        cluster.disconnect("A", other)
    for number in range(6):
        cluster.propose("A", b"lost%d" % number)
    cluster.deliver("A", "E")
    late = cluster.pending("E", "A")
    assert late
    for other in "ABCD":
        cluster.disconnect("E", other)
    cluster.elect("C", only="BCD")
    cluster.beat(only="BCD")
    for other in "BCD":
        cluster.connect("A", other)
    cluster.settle(only="ABCD")
    cluster.beat(only="ABCD", n=2)
    assert cluster["A"].log == cluster["C"].log
    cluster.isolate("C")
    cluster.settle(only="ABD")
    cluster.elect("A", only="ABD")
    cluster.disconnect("A", "D")
    cluster.settle(only="AB")
    cluster.propose("A", b"precious", "precious")
    cluster.settle(only="AB")
    last = cluster["A"].core.log.last_index
    for message in late:
        if type(message) is AppendReply and message.index <= last:
            cluster.inject("E", "A", message)
    return [entry.token for entry in cluster["A"].committed if entry.token]


def test_a_an_acknowledgement_of_another_term_counts_for_nothing() -> None:
    assert stale_acknowledgement(RaftCore) == []


def test_a_unmended_a_write_is_acknowledged_that_two_of_five_hold() -> None:
    assert stale_acknowledgement(core_of(RepliesWithoutTerm)) == ["precious"]


# --------------------------------------- B: truncation without a conflict


class TruncatesWithoutConflict(SnapshotMends):
    def _skip_held(
        self, entries: list[LogEntry], previous: int, previous_term: int
    ) -> tuple[list[LogEntry], int, int]:
        return entries, previous, previous_term

    def _add(self, node_id: NodeId, message: Append, entries: Any, *position: int) -> None:
        commit = self.commit_index
        self._SyncObj__raftCommitIndex = Index(0)
        SnapshotMends._add(self, node_id, message, entries, *position)
        self._SyncObj__raftCommitIndex = commit


def repeated_batch(core_class: type[RaftCore]) -> int:
    """A follower that holds and has acknowledged six entries gets the first two again."""
    cluster = Cluster.led_by_first("ABC", core_class=core_class)
    append = {"term": 1, "round": 50, "commit": 2, "prev_index": 2, "prev_term": 1, "answer": False}
    entries = [(1, write(b"%d" % number)) for number in range(6)]
    cluster.inject("A", "B", Append(**append, entries=entries))  # type: ignore[arg-type]
    cluster.inject("A", "B", Append(**append, entries=entries[:2]))  # type: ignore[arg-type]
    return cluster["B"].core.log.last_index


def test_b_a_late_batch_does_not_truncate_what_is_held() -> None:
    assert repeated_batch(RaftCore) == 8


def test_b_unmended_acknowledged_entries_are_dropped() -> None:
    assert repeated_batch(core_of(TruncatesWithoutConflict)) == 4


def test_b_the_commit_index_stays_within_what_the_message_proved() -> None:
    cluster = Cluster.led_by_first("ABC")
    append = {"term": 1, "prev_index": 2, "prev_term": 1, "answer": False}
    entries = [(1, write(b"%d" % number)) for number in range(4)]
    cluster.inject("A", "B", Append(round=50, commit=2, entries=entries, **append))  # type: ignore[arg-type]
    cluster.inject("A", "B", Append(round=51, commit=6, entries=entries[:1], **append))  # type: ignore[arg-type]
    assert cluster["B"].core.commit_index == 3


def test_b_an_entry_that_contradicts_a_committed_one_stops_the_node() -> None:
    cluster = Cluster.led_by_first("ABC")
    with pytest.raises(SafetyViolationError, match="contradicts entry 2"):
        cluster.inject("A", "B", Append(2, 50, 2, 1, 1, False, [(2, NOOP)]))


# ----------------------- N1: commits by a message that verified nothing


def test_n1_a_divergent_tail_is_not_applied_while_a_snapshot_is_due() -> None:
    """A leads a tail that nobody has; the log of the next leader begins behind it."""
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("A")
    for number in range(3):
        cluster.propose("A", b"lost%d" % number)
    cluster.elect("B", only="BC")
    for number in range(20):
        cluster.propose("B", b"%d" % number)
    cluster.settle(only="BC")
    cluster.beat(only="BC")
    last = cluster["B"].core.log.last_index
    meta = snapshot_meta(last, cluster["B"].core.term, named("ABC"))
    cluster.step("B", [SnapshotTaken(meta, Index(last + 1))])
    cluster.connect("A", "B")
    cluster.settle(only="AB")
    cluster.beat(only="AB", n=5)
    assert cluster.leaders() == ["B"]
    assert cluster.step("B").snapshot_peers == ("A",)
    assert cluster["A"].core.log.last_index < last
    assert cluster["A"].applied() == []


# ----------------------- N2: a snapshot newer than the start of the log


def test_n2_a_log_that_covers_the_snapshot_keeps_its_tail() -> None:
    log = recovered([(NOOP, 1)] + [(write(b"x"), 1)] * 9, term=1, hint=8)
    joined, restart = join_log(log, snapshot_meta(6, 1, named("ABC")))
    assert not restart
    assert joined.entries[-1][1] == 10


# ----------------------------- N3: two changes of membership at once


def test_n3_a_second_change_waits_until_the_first_is_committed() -> None:
    cluster = Cluster.led_by_first("ABC")
    assert cluster["A"].engine.propose_configuration(named("ABCD"))
    assert not cluster["A"].engine.propose_configuration(named("ABCDE"))


# ----------------------------- N4: rejections of one burst rewind twice


class RewindsEveryTime(SnapshotMends):
    def on_append_reply(self, node_id: NodeId, message: AppendReply) -> None:
        self.peers[node_id].rewind_round = -1
        SnapshotMends.on_append_reply(self, node_id, message)


def rewinds_of_a_burst(core_class: type[RaftCore]) -> int:
    """A burst of four batches is rejected four times; count the entries sent again."""
    settings = type(SETTINGS)(append_bytes_max=100)
    cluster = Cluster.led_by_first("ABC", core_class=core_class, settings=settings)
    cluster.disconnect("A", "C")
    cluster.settle()
    for number in range(8):
        cluster.propose("A", b"%d" % number * 90)
        cluster.settle(only="AB")
    cluster.connect("A", "C")
    cluster["A"].engine.next_indexes[cluster["A"].engine.peers["C"].node] = 7
    hello = cluster["A"].inbox[-1]
    cluster["A"].inbox[-1] = hello._replace(hello=hello.hello._replace(last_index=6))  # type: ignore[union-attr]
    for _ in range(4):
        cluster.step("A")
    assert len(cluster.pending("A", "C")) == 4
    cluster.deliver("A", "C")
    answers = cluster.pending("C", "A")
    assert [answer.success for answer in answers] == [False] * 4  # type: ignore[union-attr]
    cluster.deliver("C", "A")
    return sum(
        message.prev_index == 2 for message in cluster.pending("A", "C") if type(message) is Append
    )


def test_n4_a_burst_of_rejections_rewinds_once() -> None:
    assert rewinds_of_a_burst(RaftCore) == 1


def test_n4_unmended_every_rejection_of_the_burst_rewinds() -> None:
    assert rewinds_of_a_burst(core_of(RewindsEveryTime)) == 4


def test_n4_a_follower_with_a_divergent_tail_and_batches_behind_catches_up() -> None:
    settings = type(SETTINGS)(append_bytes_max=100)
    cluster = Cluster.led_by_first("ABC", settings=settings)
    cluster.isolate("A")
    for number in range(3):
        cluster.propose("A", b"lost%d" % number)
    cluster.elect("B", only="BC")
    for number in range(20):
        cluster.propose("B", b"%02d" % number * 40)
    cluster.settle(only="BC")
    cluster.connect("A", "B")
    cluster.connect("A", "C")
    cluster.settle()
    cluster.beat(n=2)
    assert cluster["A"].log == cluster["B"].log


# ----------------------------- K: configurations count from the log on


class ForgetsConfigurations(RaftCore):
    def __init__(self, **arguments: Any) -> None:
        log = arguments["recovered"]
        hidden = [
            (NOOP if command[0] == KIND_CONFIGURATION else command, index, term)
            for command, index, term in log.entries
        ]
        log.entries[:] = hidden
        super().__init__(**arguments)


def restarted_with_an_uncommitted_configuration(core_class: type[RaftCore]) -> int:
    """A log that names five members, on a node whose config file names three."""
    log = recovered([(NOOP, 1), (configuration_command("ABCDE"), 1)], term=1)
    return core("A", "ABC", log=log, core_class=core_class).configuration.quorum


def test_k_a_restarted_node_uses_the_configuration_at_the_end_of_its_log() -> None:
    assert restarted_with_an_uncommitted_configuration(RaftCore) == 3


def test_k_unmended_it_uses_an_old_quorum() -> None:
    assert restarted_with_an_uncommitted_configuration(ForgetsConfigurations) == 2


# ----------------------------- AP: applying exactly once


class AppliesBeforeAdvancing(SnapshotMends):
    """The order of the library: apply, then count; the store here fails once."""

    failed = False

    def _SyncObj__applyLogEntries(self) -> bool:
        start = self.applied_index
        SnapshotMends._SyncObj__applyLogEntries(self)
        if self.applied_index > start and not self.failed:
            self.failed = True
            self._SyncObj__raftLastApplied = start
        return False


def handed_out(core_class: type[RaftCore]) -> list[bytes]:
    cluster = Cluster("A", core_class=core_class)
    cluster.step("A")
    cluster.elect("A")
    cluster.propose("A", b"one")
    cluster.settle()
    cluster.propose("A", b"two")
    cluster.settle()
    cluster.beat(n=2)
    return [bytes(entry.payload) for entry in cluster["A"].committed]


def test_ap_every_entry_is_handed_out_once() -> None:
    payloads = handed_out(RaftCore)
    assert len(payloads) == len(set(payloads)) == 4


def test_ap_unmended_a_failure_in_the_store_applies_twice() -> None:
    payloads = handed_out(core_of(AppliesBeforeAdvancing))
    assert len(payloads) > len(set(payloads))


@pytest.mark.parametrize("kind", [2, 3, 5, 255])
def test_ap_an_entry_of_an_unknown_kind_stops_the_node(kind: int) -> None:
    log = recovered([(NOOP, 1), (bytes((kind,)) + b"x", 1)], term=1, hint=2)
    with pytest.raises(SafetyViolationError, match="unknown kind"):
        core("A", "A", log=log).step(0, [], [])


# ----------------------------- C and D: the library's files are never touched


@pytest.mark.parametrize("name", ["open", "io.open"])
def test_c_and_d_no_journal_and_no_dump_of_the_library_is_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open" if name == "open" else name, refuse)
    cluster = Cluster.led_by_first("ABC")
    cluster.propose("A", b"x")
    cluster.settle()
    cluster.beat()
    assert cluster["B"].applied() == [b"x"]


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("_SyncObj__loadDumpFile", (False,)),
        ("_SyncObj__tryLogCompaction", ()),
        ("_onTick", (0.0,)),
        ("doTick", (0.0,)),
        ("_SyncObj__doApplyCommand", (b"\0x",)),
    ],
)
def test_d_what_the_library_would_do_with_its_files_is_refused(
    method: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(SafetyViolationError):
        getattr(core()._engine, method)(*arguments)


# ----------------------------- V: votes are counted, not voters


class CountsMessages(SnapshotMends):
    def on_vote_reply(self, node_id: NodeId, message: VoteReply) -> None:
        self.voters_heard.discard(node_id)
        SnapshotMends.on_vote_reply(self, node_id, message)

    def is_named(self, node_id: NodeId, state: PeerState) -> bool:
        return True


def candidate_with_one_vote_twice(core_class: type[RaftCore]) -> bool:
    cluster = Cluster.led_by_first("ABCDE", core_class=core_class)
    cluster.isolate("A")
    cluster.settle()
    cluster.expire("B")
    cluster["B"].engine.campaign()
    assert cluster["B"].engine.role == CANDIDATE
    vote = VoteReply(term=cluster["B"].core.term, granted=True, pre=False, wall_ms=0)
    cluster.inject("C", "B", vote)
    cluster.inject("C", "B", vote)
    return cluster["B"].core.is_leader


def test_v_one_vote_counts_once() -> None:
    assert not candidate_with_one_vote_twice(RaftCore)


def test_v_unmended_the_same_vote_twice_makes_a_leader() -> None:
    assert candidate_with_one_vote_twice(core_of(CountsMessages))


# ----------------------------- SN: snapshots that come late


class InstallsBackwards(SnapshotMends):
    def on_snapshot_received(self, node_id: NodeId, meta: SnapshotMeta) -> None:
        self._SyncObj__raftCommitIndex = Index(0)
        SnapshotMends.on_snapshot_received(self, node_id, meta)


def applied_after_a_late_snapshot(core_class: type[RaftCore]) -> int:
    cluster = Cluster.led_by_first("ABC", core_class=core_class)
    for number in range(6):
        cluster.propose("A", b"%d" % number)
    cluster.settle()
    cluster.beat()
    assert cluster["B"].engine.applied_index == 8
    meta = snapshot_meta(4, 1, named("ABC"))
    cluster.step("B", [SnapshotReceived(NodeId("A"), meta)])
    return int(cluster["B"].engine.applied_index)


def test_sn_a_late_snapshot_changes_nothing() -> None:
    assert applied_after_a_late_snapshot(RaftCore) == 8


def test_sn_unmended_it_installs_backwards() -> None:
    assert applied_after_a_late_snapshot(core_of(InstallsBackwards)) == 4


def test_sn_a_snapshot_is_acknowledged_with_its_own_index() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.isolate("B")
    append = {"term": 1, "round": 1, "commit": 2, "prev_index": 2, "prev_term": 1, "answer": False}
    tail = [(1, write(b"%d" % number)) for number in range(8)]
    cluster.inject("A", "B", Append(**append, entries=tail))  # type: ignore[arg-type]
    cluster.connect("A", "B")
    cluster.settle(hold={("A", "B"), ("B", "A")})
    cluster.step("B", [SnapshotReceived(NodeId("A"), snapshot_meta(6, 1, named("ABC")))])
    (reply,) = cluster.pending("B", "A")
    assert reply == AppendReply(term=1, round=0, success=True, index=6, full=False)
    assert cluster["B"].core.log.last_index == 10


# ----------------------------- the world in the library's modules


def test_the_library_sees_our_clock_and_our_dice_only() -> None:
    library = sys.modules["pysyncobj.syncobj"]
    from raftkv.engine.syncobj_library import WORLD

    core(now_ms=123_000)
    assert library.monotonicTime() == WORLD.now_s == 123.0
    assert library.random is WORLD

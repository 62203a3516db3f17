"""From a recovered log to a running core, and what a step is made of."""

from __future__ import annotations

import pytest

from raftkv.engine.core import join_log
from raftkv.engine.messages import Append, encode
from raftkv.engine.ready import KIND_NOOP, PeerMessage
from raftkv.types import NodeId, Role
from tests.unit.engine.harness import SETTINGS, Cluster, core, named, recovered, snapshot_meta

NOOP = bytes((KIND_NOOP,))
TEN = [(NOOP, 1)] + [(b"\0%d" % number, 1) for number in range(9)]


# ------------------------------------------------------------- joining the log


@pytest.mark.parametrize(
    ("base", "snapshot", "restart", "first", "last"),
    [
        ((0, 0), None, False, 1, 10),
        ((0, 0), (6, 1), False, 1, 10),
        ((0, 0), (10, 1), False, 1, 10),
        ((4, 1), (4, 1), False, 5, 14),
        ((4, 1), (2, 1), False, 5, 14),
        ((0, 0), (11, 1), True, 12, 11),
        ((0, 0), (50, 9), True, 51, 50),
        # It contradicts the log: what is behind can never be committed.
        ((0, 0), (6, 2), True, 7, 6),
    ],
)
def test_joining_a_log_of_ten_entries_with_a_snapshot(
    base: tuple[int, int],
    snapshot: tuple[int, int] | None,
    restart: bool,
    first: int,
    last: int,
) -> None:
    log = recovered(TEN, term=1, base=base, hint=3)
    meta = None if snapshot is None else snapshot_meta(*snapshot, named("ABC"))
    joined, told = join_log(log, meta)
    assert told is restart
    assert joined.base_index + 1 == first
    assert joined.base_index + len(joined.entries) == last
    assert joined.hard_state == log.hard_state
    assert joined.commit_hint == (meta.index if restart and meta else 3)


# ------------------------------------------------------------- the commit hint


def test_a_hint_ahead_of_the_log_is_clamped() -> None:
    node = core("A", log=recovered([(NOOP, 1), (b"\0x", 1)], term=1, hint=9))
    assert node.commit_index == 2
    entry = Append(1, 1, 0, 2, 1, False, [(1, b"\0not committed")])
    ready = node.step(0, [PeerMessage(NodeId("B"), encode(entry))], [])
    assert [entry.index for entry in ready.committed] == [1, 2]


def test_a_hint_below_the_snapshot_is_raised_to_it() -> None:
    meta = snapshot_meta(6, 1, named("ABC"))
    node = core("A", log=recovered(TEN, term=1, hint=2), snapshot=meta)
    assert node.commit_index == 6
    ready = node.step(0, [], [])
    assert ready.committed == []


def test_entries_behind_the_snapshot_are_handed_out_from_the_hint() -> None:
    meta = snapshot_meta(6, 1, named("ABC"))
    node = core("A", log=recovered(TEN, term=1, hint=8), snapshot=meta)
    assert [entry.index for entry in node.step(0, [], []).committed] == [7, 8]


# ------------------------------------------------------------- a step


def test_a_step_is_a_function_of_its_input() -> None:
    def trace() -> list[object]:
        cluster = Cluster.led_by_first("ABCDE")
        for number in range(5):
            cluster.propose("A", b"%d" % number)
        cluster.settle()
        cluster.isolate("A")
        cluster.elect("B", only="BCDE")
        return [
            (name, ready.sequence, ready.records, ready.messages, ready.commit_hint)
            for name in "ABCDE"
            for ready in cluster[name].readies
        ]

    assert trace() == trace()


def test_two_cores_in_one_process_do_not_share_their_clock() -> None:
    early, late = core("A", now_ms=0), core("B", now_ms=1_000_000)
    late.step(1_000_000, [], [])
    early.step(1, [], [])
    assert early.next_deadline_ms() <= SETTINGS.election_timeout_max_ms + 1
    assert late.next_deadline_ms() > 1_000_000


def test_an_empty_step_of_a_quiet_node_does_nothing() -> None:
    cluster = Cluster.led_by_first("ABC")
    before = cluster["B"].core.log.last_sequence
    ready = cluster.step("B")
    assert (ready.records, ready.messages, ready.committed, ready.outcomes) == ([], [], [], [])
    assert cluster["B"].core.log.last_sequence == before


def test_a_sync_mark_gets_a_number_of_its_own() -> None:
    cluster = Cluster.led_by_first("ABC")
    number = cluster["A"].core.allocate_sequence()
    ready = cluster.propose("A", b"x")
    assert ready.sequence == number + 1


def test_roles_and_leader_are_reported_when_they_change() -> None:
    cluster = Cluster.led_by_first("ABC")
    changes = [ready.leader_changed for ready in cluster["B"].readies]
    assert any(changes)
    assert not cluster.step("B").leader_changed
    assert cluster["A"].core.role is Role.LEADER
    assert cluster["B"].core.leader_id == "A"


def test_a_leader_is_due_at_its_heartbeat_and_a_follower_at_its_election_timeout() -> None:
    cluster = Cluster.led_by_first("ABC")
    cluster.beat()
    assert 0 < cluster["A"].core.next_deadline_ms() - cluster.now_ms <= SETTINGS.heartbeat_ms
    wait = cluster["B"].core.next_deadline_ms() - cluster.now_ms
    assert SETTINGS.election_timeout_min_ms <= wait <= SETTINGS.election_timeout_max_ms + 1

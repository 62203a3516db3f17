"""Every proposal is answered exactly once, and says rightly whether it may have happened."""

from __future__ import annotations

import pytest

from raftkv.engine.messages import Append, Heartbeat
from raftkv.engine.ready import KIND_NOOP, DiskSpace, SnapshotReceived
from raftkv.engine.syncobj_apply import APPLY_OVERHEAD_BYTES
from raftkv.types import NodeId
from tests.unit.engine.harness import SETTINGS, Cluster, named, snapshot_meta

NOOP = bytes((KIND_NOOP,))


def answers(cluster: Cluster, name: str) -> list[tuple[object, str]]:
    """Every token that left this node, with what was said of it."""
    node = cluster[name]
    done = [(entry.token, "applied") for entry in node.committed if entry.token is not None]
    failed = [
        (outcome.token, f"{'definite' if outcome.definite else 'unknown'}: {outcome.reason}")
        for outcome in node.outcomes
    ]
    return done + failed


def test_a_committed_proposal_comes_back_with_its_token_and_order() -> None:
    cluster = Cluster.led_by_first()
    for number in range(5):
        cluster.propose("A", b"%d" % number, number)
    cluster.settle()
    assert answers(cluster, "A") == [(number, "applied") for number in range(5)]
    assert cluster["A"].applied() == [b"%d" % number for number in range(5)]


def test_a_follower_refuses_definitely() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("B", b"x", "token")
    assert answers(cluster, "B") == [("token", "definite: not leader")]


def test_a_full_disk_refuses_definitely_and_only_while_it_is_full() -> None:
    cluster = Cluster.led_by_first()
    cluster.step("A", [DiskSpace(full=True)])
    cluster.propose("A", b"x", "refused")
    cluster.step("A", [DiskSpace(full=False)])
    cluster.propose("A", b"y", "taken")
    cluster.settle()
    assert sorted(answers(cluster, "A")) == [
        ("refused", "definite: disk full"),
        ("taken", "applied"),
    ]


def test_losing_office_answers_what_is_pending_as_unknown_at_once() -> None:
    cluster = Cluster.led_by_first()
    cluster.isolate("A")
    cluster.propose("A", b"x", "token")
    ready = cluster.step("A")
    assert not ready.outcomes
    cluster.advance(SETTINGS.election_timeout_max_ms + 1)
    cluster.step("A")
    assert answers(cluster, "A") == [("token", "unknown: leadership lost")]


def test_a_proposal_answered_as_unknown_may_be_applied_and_is_not_answered_again() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"x", "token")
    cluster.deliver("A", "B")
    cluster.isolate("A")
    cluster.advance(SETTINGS.election_timeout_max_ms + 1)
    cluster.step("A")
    cluster.elect("B", only="BC")
    cluster.connect("A", "B")
    cluster.connect("A", "C")
    cluster.settle()
    cluster.beat(n=2)
    assert cluster["A"].applied() == [b"x"]
    assert answers(cluster, "A") == [("token", "unknown: leadership lost")]


def test_what_another_terms_entry_replaced_is_discarded_definitely() -> None:
    cluster = Cluster.led_by_first()
    cluster.isolate("A")
    cluster.propose("A", b"x", "token")
    cluster.connect("A", "B")
    # In one step: the newer leader's entries take the place, and are committed.
    append = Append(2, 1, 4, 2, 1, False, [(2, NOOP), (2, b"\0other")])
    cluster.inject("B", "A", append)
    assert answers(cluster, "A") == [("token", "definite: entry discarded")]


def test_committed_and_not_yet_handed_out_survives_losing_office() -> None:
    settings = type(SETTINGS)(apply_bytes_max=0)
    cluster = Cluster.led_by_first(settings=settings)
    for number in range(4):
        cluster.propose("A", b"%d" % number, number)
    cluster.deliver("A", "B")
    reply = cluster.queues["B", "A"][-1]
    cluster.queues["B", "A"].clear()
    cluster.queues["B", "A"].append(reply)
    cluster.deliver("B", "A")
    assert cluster["A"].core.has_backlog()
    cluster.inject("B", "A", Heartbeat(term=2, round=1))
    cluster.settle()
    assert sorted(answers(cluster, "A"), key=str) == [(number, "applied") for number in range(4)]


def test_a_snapshot_over_pending_proposals_answers_them_as_unknown() -> None:
    """They may be inside it: it would be wrong to call them discarded."""
    settings = type(SETTINGS)(apply_bytes_max=0)
    cluster = Cluster.led_by_first(settings=settings)
    for number in range(4):
        cluster.propose("A", b"%d" % number, number)
    cluster.deliver("A", "B")
    reply = cluster.queues["B", "A"][-1]
    cluster.queues["B", "A"].clear()
    cluster.queues["B", "A"].append(reply)
    cluster.deliver("B", "A")
    done = len(answers(cluster, "A"))
    assert done < 4
    meta = snapshot_meta(20, 2, named("ABC"))
    cluster.step("A", [SnapshotReceived(NodeId("B"), meta)])
    cluster.inject("B", "A", Heartbeat(term=2, round=1))
    cluster.settle()
    said = answers(cluster, "A")
    assert sorted(token for token, _ in said) == [0, 1, 2, 3]  # type: ignore[type-var]
    assert [word for _, word in said[done:]] == ["unknown: leadership lost"] * (4 - done)


@pytest.mark.parametrize(
    ("bytes_max", "entries"),
    [(1000, 1), (2 * APPLY_OVERHEAD_BYTES, 1), (3 * APPLY_OVERHEAD_BYTES, 2)],
)
def test_one_step_hands_out_one_entry_and_more_up_to_a_number_of_bytes(
    bytes_max: int, entries: int
) -> None:
    settings = type(SETTINGS)(apply_bytes_max=bytes_max)
    cluster = Cluster("A", settings=settings)
    cluster.step("A")
    cluster.elect("A")
    cluster.settle()
    cluster["A"].auto_sync = False
    for number in range(10):
        cluster.propose("A", b"%03d" % number * 200, number)
    cluster.sync("A")
    ready = cluster.step("A")
    assert len(ready.committed) == entries
    assert cluster["A"].core.has_backlog()
    cluster.settle()
    assert [token for token, _ in answers(cluster, "A")] == list(range(10))


def handed_out(*, slowly: bool, count: int = 300) -> int:
    """Let a node of one commit so many short entries at once; return how many it hands out."""
    cluster = Cluster("A")
    cluster.step("A")
    cluster.elect("A")
    cluster.settle()
    cluster["A"].auto_sync = False
    for number in range(count):
        cluster.propose("A", b"%d" % number, number)
    cluster["A"].core.pace_applying(slowly=slowly)
    cluster.sync("A")
    return len(cluster.step("A").committed)


def test_short_entries_are_not_handed_out_for_nothing() -> None:
    assert 1 < handed_out(slowly=False) < 300


def test_entries_that_take_long_are_handed_out_one_by_one() -> None:
    assert handed_out(slowly=True) == 1

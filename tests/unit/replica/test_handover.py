"""Whoever asks for a transfer of leadership is told what came of it, exactly once."""

from __future__ import annotations

from raftkv.replica.handover import Handover
from raftkv.seams import SHUTTING_DOWN
from raftkv.types import NodeId
from tests.unit.engine.harness import SETTINGS, Cluster
from tests.unit.replica.fakes import TestSlot

PATIENCE_MS = 1000


def begun(cluster: Cluster, target: str = "C") -> tuple[Handover, TestSlot]:
    handover, slot = Handover(cluster["A"].core, PATIENCE_MS), TestSlot()
    handover.begin(NodeId(target), slot)
    return handover, slot


def test_the_answer_names_the_new_leader() -> None:
    cluster = Cluster.led_by_first()
    handover, slot = begun(cluster)
    assert handover.pending, "proposals wait"
    cluster.step("A")
    cluster.settle()
    cluster.beat()
    handover.turn(cluster.now_ms)
    assert slot.answer == [b"C"]
    assert not handover.pending


def test_a_target_that_does_not_take_over_is_a_definite_failure() -> None:
    cluster = Cluster.led_by_first()
    cluster.propose("A", b"one")
    handover, slot = begun(cluster)
    for _ in range(SETTINGS.election_timeout_max_ms // SETTINGS.heartbeat_ms + 2):
        cluster.beat({("A", "C")})
        handover.turn(cluster.now_ms)
    assert slot.answer.definite
    assert "C did not take over" in slot.answer.reason


def test_a_leader_that_is_gone_without_a_successor_is_an_indefinite_failure() -> None:
    cluster = Cluster.led_by_first()
    handover, slot = begun(cluster)
    # The target campaigns, and nobody hears that it won.
    cluster.step("A")
    cluster.deliver("A", "C")
    cluster.deliver("C", "A")
    assert cluster.leaders() == []
    handover.turn(cluster.now_ms)
    assert not slot.answers
    handover.turn(cluster.now_ms + PATIENCE_MS + 1)
    assert not slot.answer.definite


def test_a_second_one_is_refused_and_the_first_goes_on() -> None:
    cluster = Cluster.led_by_first()
    handover, first = begun(cluster)
    second = TestSlot()
    handover.begin(NodeId("B"), second)
    assert second.answer.definite
    assert not first.answers


def test_a_node_that_stops_answers() -> None:
    handover, slot = begun(Cluster.led_by_first())
    handover.close(SHUTTING_DOWN)
    handover.close(SHUTTING_DOWN)
    assert slot.answer == SHUTTING_DOWN

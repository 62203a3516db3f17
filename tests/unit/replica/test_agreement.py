"""Who is told what, who is believed, and what a node does about it."""

from __future__ import annotations

import json

import msgspec
import pytest

from raftkv.errors import DamagedDataError, ProtocolError
from raftkv.kv.image import FORMAT_VERSION
from raftkv.replica.agreement import (
    ALARMS_MAX,
    IMAGES_MAX,
    REPORT_MS,
    REPORT_NAME,
    REPORTS_MAX,
    Agreement,
    StateReport,
    Verdict,
    check_not_diverged,
    decode,
)
from raftkv.seams import PEER_STATE
from raftkv.types import Configuration, Member, NodeId
from tests.unit.replica.fakes import FakeNetwork, FakeObserver
from tests.unit.storage.crashing_disk import CrashingDisk

MINE, OTHER, THIRD = b"m" * 16, b"o" * 16, b"t" * 16
A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def members(*names: str, learners: str = "") -> Configuration:
    return Configuration(
        "",
        tuple(
            Member(id=NodeId(name), client="", peer="", voter=name not in learners)
            for name in names
        ),
    )


THREE = members("a", "b", "c")


class Node:
    """Node `a`, and what it says."""

    def __init__(self) -> None:
        self.disk = CrashingDisk()
        self.network = FakeNetwork()
        self.observer = FakeObserver()
        self.agreement = Agreement(
            node_id=A, disk=self.disk, network=self.network, observer=self.observer, now_ms=0
        )

    def sent(self) -> list[tuple[NodeId, StateReport]]:
        sent, self.network.sent = self.network.sent, []
        assert {kind for _, kind, _ in sent} <= {PEER_STATE}
        return [(node, decode(body)) for node, _, body in sent]

    def hears(self, node: NodeId, **fields: object) -> None:
        values = {
            "commit_index": 0,
            "index": 0,
            "state_hash": b"",
            "image_index": 0,
            "image_hash": b"",
            "image_format": FORMAT_VERSION,
            "wants_checkpoint": False,
            "is_answer": False,
            **fields,
        }
        self.agreement.received(node, msgspec.msgpack.encode(list(values.values())))


@pytest.fixture
def node() -> Node:
    return Node()


def test_everybody_else_is_told_once_a_second(node: Node) -> None:
    node.agreement.note_applied(5, MINE)
    node.agreement.turn(REPORT_MS - 1, 5, THREE)
    assert node.sent() == []
    node.agreement.turn(REPORT_MS, 5, THREE)
    report = StateReport(0, 5, MINE, 0, b"", FORMAT_VERSION, False, False)
    assert node.sent() == [(B, report), (C, report)]
    node.agreement.turn(REPORT_MS + 1, 5, THREE)
    assert node.sent() == []


def test_a_new_image_and_a_wish_are_told_at_once(node: Node) -> None:
    node.agreement.note_image(5, MINE)
    node.agreement.turn(1, 5, THREE)
    assert node.sent()[0][1].image_hash == MINE
    node.agreement.ask_for_checkpoint(True)
    node.agreement.turn(2, 5, THREE)
    assert node.sent()[0][1].wants_checkpoint
    node.agreement.ask_for_checkpoint(True)
    node.agreement.turn(3, 5, THREE)
    assert node.sent() == []


def test_one_that_differs_from_a_quorum_leaves_a_report_and_stops(node: Node) -> None:
    node.agreement.note_applied(5, MINE)
    node.hears(B, index=5, state_hash=OTHER)
    node.agreement.turn(1, 5, THREE)
    assert node.observer.names() == ["state_differs"]
    node.hears(C, index=5, state_hash=OTHER)
    with pytest.raises(DamagedDataError, match="after index 5 this node's state differs"):
        node.agreement.turn(2, 5, THREE)
    file = node.disk.open(REPORT_NAME)
    report = json.loads(file.read(0, file.size()))
    assert (report["what"], report["index"], report["hash"]) == ("state", 5, MINE.hex())
    assert report["others"] == {"b": OTHER.hex(), "c": OTHER.hex()}
    with pytest.raises(DamagedDataError):
        check_not_diverged(node.disk)


def test_images_are_judged_as_states_are(node: Node) -> None:
    node.hears(B, image_index=5, image_hash=OTHER)
    node.hears(C, image_index=5, image_hash=OTHER)
    node.agreement.turn(1, 9, THREE)
    node.agreement.note_image(5, MINE)
    with pytest.raises(DamagedDataError, match="this node's image differs"):
        node.agreement.turn(2, 9, THREE)


def test_without_a_quorum_nobody_stops_and_the_alarm_comes_once(node: Node) -> None:
    node.agreement.note_image(5, MINE)
    node.hears(B, image_index=5, image_hash=OTHER)
    node.hears(C, image_index=5, image_hash=THIRD)
    for now_ms in (1, 2, 3):
        node.agreement.turn(now_ms, 5, THREE)
        node.hears(B, image_index=5, image_hash=OTHER)
    assert node.observer.names() == ["state_differs"] * 2
    assert node.agreement.verdict(5, THREE) is Verdict.DIFFERS


def test_learners_have_no_say(node: Node) -> None:
    configuration = members("a", "b", "c", "d", learners="cd")
    node.agreement.note_image(5, MINE)
    node.hears(C, image_index=5, image_hash=OTHER)
    node.hears(NodeId("d"), image_index=5, image_hash=OTHER)
    node.agreement.turn(1, 5, configuration)
    assert node.agreement.verdict(5, configuration) is Verdict.DIFFERS
    node.hears(B, image_index=5, image_hash=MINE)
    assert node.agreement.verdict(5, configuration) is Verdict.AGREED


def test_a_verdict_holds_for_what_came_before(node: Node) -> None:
    assert node.agreement.verdict(1, THREE) is Verdict.OPEN
    node.agreement.note_image(5, MINE)
    assert node.agreement.verdict(5, THREE) is Verdict.OPEN
    node.hears(B, image_index=5, image_hash=MINE)
    assert node.agreement.verdict(3, THREE) is Verdict.AGREED
    assert node.agreement.verdict(6, THREE) is Verdict.OPEN
    # One that agrees later mends a difference without a winner, also the other way round.
    node.hears(C, image_index=7, image_hash=OTHER)
    node.agreement.note_image(7, MINE)
    assert node.agreement.verdict(3, THREE) is Verdict.AGREED
    assert node.agreement.verdict(6, THREE) is Verdict.DIFFERS
    node.agreement.forget()
    assert node.agreement.verdict(3, THREE) is Verdict.OPEN


def test_a_node_alone_agrees_with_itself(node: Node) -> None:
    node.agreement.note_image(5, MINE)
    assert node.agreement.verdict(5, members("a")) is Verdict.AGREED


def test_images_of_another_format_are_not_compared(node: Node) -> None:
    node.agreement.note_image(5, MINE)
    for other in (B, C):
        node.hears(other, image_index=5, image_hash=OTHER, image_format=FORMAT_VERSION + 1)
    node.agreement.turn(1, 5, THREE)
    assert node.observer.names() == []
    assert node.agreement.verdict(5, THREE) is Verdict.OPEN


def test_one_that_is_late_is_told_what_it_missed_and_answers_end_there(node: Node) -> None:
    node.agreement.note_image(5, MINE)
    node.agreement.note_image(7, OTHER)
    node.hears(B, image_index=5, image_hash=MINE)
    assert node.sent() == [(B, StateReport(0, 0, b"", 5, MINE, FORMAT_VERSION, False, True))]
    node.hears(B, image_index=5, image_hash=MINE, is_answer=True)
    node.hears(B, image_index=7, image_hash=OTHER)
    node.hears(B, image_index=6, image_hash=OTHER)
    assert node.sent() == []


def test_who_asks_for_a_checkpoint_is_remembered_until_it_comes(node: Node) -> None:
    node.hears(B, wants_checkpoint=True)
    node.hears(C)
    assert node.agreement.is_asked_for_checkpoint
    node.hears(B)
    assert not node.agreement.is_asked_for_checkpoint
    node.hears(B, wants_checkpoint=True)
    node.agreement.checkpoint_reached()
    assert not node.agreement.is_asked_for_checkpoint


def test_memory_is_bounded(node: Node) -> None:
    for index in range(1, 2 * ALARMS_MAX):
        node.agreement.note_image(index, MINE)
        node.hears(B, index=index + 9000, state_hash=OTHER, image_index=index, image_hash=OTHER)
        node.agreement.turn(index, index, THREE)
    agreement = node.agreement
    assert len(agreement._images.own) == IMAGES_MAX
    assert len(agreement._images.reports) <= REPORTS_MAX
    assert len(agreement._states.reports) <= REPORTS_MAX
    assert len(agreement._alarmed) <= ALARMS_MAX


def test_the_commit_index_is_told_and_remembered(node: Node) -> None:
    node.agreement.note_applied(5, MINE)
    node.agreement.turn(REPORT_MS, 5, THREE, commit_index=8)
    assert {report.commit_index for _, report in node.sent()} == {8}
    assert node.agreement.commit_index_of(B) == 0
    node.hears(B, commit_index=7)
    node.hears(B, is_answer=True)
    assert node.agreement.commit_index_of(B) == 7
    assert node.agreement.commit_index_of(None) == 0


def test_a_whole_report_is_taken(node: Node) -> None:
    node.agreement.received(B, b"\x98\x00\x00\xc4\x00\x00\xc4\x00\x01\xc2\xc2")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x92\x01\xc4\x01x",
        b"\x98\x00\x05\xc4\x00\x00\xc4\x00\x01\xc2\xc2",
        b"\x98\x00\xff\xc4\x00\x00\xc4\x00\x01\xc2\xc2",
        b"\x98\xff\x00\xc4\x00\x00\xc4\x00\x01\xc2\xc2",
        b"\x98\x00\x00\xc4\x01x\x00\xc4\x00\x01\xc2\xc2",
        b"\x98\x00\x00\xc4\x00\x05\xc4\x00\x01\xc2\xc2",
    ],
)
def test_what_is_no_report_is_refused(node: Node, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        node.agreement.received(B, body)

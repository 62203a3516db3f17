"""Changes are answered once, and a node ends only when it is certainly no member."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from raftkv.kv.commands import ErrorReply
from raftkv.replica.membership import Membership, PendingChange
from raftkv.seams import LEADERSHIP_LOST, NOT_LEADER, SHUTTING_DOWN, TIMEOUT, Failure
from raftkv.transport.handshake import RefusalReason
from raftkv.types import ChangeKind, Configuration, Member, MembershipChange, NodeId
from tests.unit.replica.fakes import TestSlot

UNKNOWN = RefusalReason.UNKNOWN_NODE
OTHER = RefusalReason.OTHER_CLUSTER
REMOVE = MembershipChange(kind=ChangeKind.REMOVE, node=NodeId("n3"))


def members(*names: str, learners: str = "") -> Configuration:
    return Configuration(
        "c" * 32,
        tuple(
            Member(id=NodeId(name), client="", peer="", voter=name not in learners.split())
            for name in names
        ),
    )


@dataclass
class FakeCore:
    configuration: Configuration = field(default_factory=lambda: members("n1", "n2", "n3"))
    node_id: NodeId = NodeId("n3")
    is_leader: bool = True
    is_removed: bool = False
    admitted: bool = True


class FakeObserver:
    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, name: str, /, **_: object) -> None:
        self.events.append(name)


def membership(core: FakeCore | None = None) -> Membership:
    return Membership(core or FakeCore(), FakeObserver(), 1000)  # type: ignore[arg-type]


def pending(one: Membership, slot: TestSlot, now_ms: int = 0) -> PendingChange:
    one.add(REMOVE, slot)
    (request,) = one.take(now_ms)
    assert request.change is REMOVE
    assert isinstance(request.token, PendingChange)
    return request.token


class TestChanges:
    def test_a_committed_one_is_answered_once(self) -> None:
        one, slot = membership(), TestSlot()
        token = pending(one, slot)
        token.resolve()
        token.fail(LEADERSHIP_LOST)
        one.expire(10_000)
        one.close(SHUTTING_DOWN)
        assert slot.answer == ["OK"]

    def test_elsewhere_it_is_not_proposed(self) -> None:
        one, slot = membership(FakeCore(is_leader=False)), TestSlot()
        one.add(REMOVE, slot)
        assert one.take(0) == []
        assert slot.answer is NOT_LEADER

    def test_nonsense_is_an_error_and_what_may_work_later_a_definite_failure(self) -> None:
        one, slot, later = membership(), TestSlot(), TestSlot()
        refusal = Failure("n3 is not a member", definite=True)
        pending(one, slot).fail(refusal, lasting=True)
        assert slot.answer == [ErrorReply("ERR n3 is not a member")]
        pending(one, later).fail(refusal)
        assert later.answer is refusal

    def test_its_time_is_bounded_and_its_fate_unknown_then(self) -> None:
        one, slot = membership(), TestSlot()
        token = pending(one, slot, now_ms=5)
        assert one.next_deadline_ms() == 1005
        one.expire(1004)
        assert slot.answers == []
        one.expire(1005)
        assert slot.answer is TIMEOUT
        token.resolve()

    def test_at_the_end_a_new_one_is_definite_and_a_proposed_one_is_not(self) -> None:
        one, proposed, new = membership(), TestSlot(), TestSlot()
        pending(one, proposed)
        one.add(REMOVE, new)
        one.close(SHUTTING_DOWN)
        assert proposed.answer.definite is False
        assert new.answer.definite is True


class TestRefusals:
    def test_a_majority_of_the_voters_ends_a_node_that_counted(self) -> None:
        one = membership()
        assert one.refused(NodeId("n1"), UNKNOWN) is None
        assert one.refused(NodeId("n1"), UNKNOWN) is None
        error = one.refused(NodeId("n2"), UNKNOWN)
        assert "n3 was removed from the cluster while it was away: n1, n2" in str(error)

    def test_of_two_the_other_one_is_enough(self) -> None:
        one = membership(FakeCore(configuration=members("n1", "n3")))
        assert one.refused(NodeId("n1"), UNKNOWN) is not None

    def test_a_link_takes_a_refusal_back(self) -> None:
        one = membership()
        one.refused(NodeId("n1"), UNKNOWN)
        one.linked(NodeId("n1"))
        assert one.refused(NodeId("n2"), UNKNOWN) is None

    @pytest.mark.parametrize("node", ["n4", "n9"])
    def test_learners_and_strangers_have_no_say(self, node: str) -> None:
        one = membership(FakeCore(configuration=members("n1", "n3", "n4", learners="n4")))
        assert one.refused(NodeId(node), UNKNOWN) is None

    def test_a_node_that_never_counted_waits_and_says_so(self) -> None:
        core, observer = FakeCore(admitted=False), FakeObserver()
        one = Membership(core, observer, 1000)  # type: ignore[arg-type]
        for name in ("n1", "n2"):
            assert one.refused(NodeId(name), UNKNOWN) is None
        assert observer.events == ["waiting_to_be_added"] * 2

    def test_another_cluster_ends_it_in_any_case(self) -> None:
        one = membership(FakeCore(admitted=False))
        assert one.refused(NodeId("n1"), OTHER) is None
        assert "n1, n2 belong to another cluster" in str(one.refused(NodeId("n2"), OTHER))

    def test_different_reasons_do_not_add_up(self) -> None:
        one = membership()
        one.refused(NodeId("n1"), OTHER)
        assert one.refused(NodeId("n2"), UNKNOWN) is None


def test_retirement_is_told_once() -> None:
    core = FakeCore()
    one = membership(core)
    assert one.retirement() is None
    core.is_removed = True
    stopped = one.retirement()
    assert stopped is not None
    assert (stopped.exit_code, stopped.orderly) == (7, True)
    assert "delete its data directory" in stopped.reason
    assert one.retirement() is None

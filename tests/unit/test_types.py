"""Who counts in a configuration."""

from __future__ import annotations

import pytest

from raftkv.types import Configuration, Member, NodeId


def configuration(voters: int, learners: int = 0) -> Configuration:
    return Configuration(
        cluster_id="c",
        members=tuple(
            Member(
                id=NodeId(f"n{number}"),
                client=f"h:{number}",
                peer=f"p:{number}",
                voter=number <= voters,
            )
            for number in range(1, voters + learners + 1)
        ),
    )


@pytest.mark.parametrize(
    ("voters", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)]
)
def test_a_quorum_is_more_than_half_of_the_voters(voters: int, quorum: int) -> None:
    assert configuration(voters).quorum == quorum
    assert configuration(voters, learners=4).quorum == quorum


def test_two_quorums_always_share_a_member() -> None:
    for voters in range(1, 16):
        assert 2 * configuration(voters).quorum > voters


def test_learners_do_not_vote() -> None:
    assert [member.id for member in configuration(2, learners=1).voters] == ["n1", "n2"]


def test_a_member_is_found_by_name() -> None:
    found = configuration(3).member("n2")
    assert found is not None
    assert found.client == "h:2"
    assert configuration(3).member("n4") is None

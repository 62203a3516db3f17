"""A status to show, for the tests of what operators see."""

from __future__ import annotations

import dataclasses
from typing import Any

from raftkv.types import Configuration, Index, Member, NodeId, PeerStatus, Role, Status, Term

MEMBERS = tuple(
    Member(
        id=NodeId(f"n{number}"),
        client=f"127.0.0.1:700{number}",
        peer=f"127.0.0.1:710{number}",
        disk_id=str(number) * 32,
        voter=number != 3,
    )
    for number in (1, 2, 3)
)

LEADER = Status(
    node_id=NodeId("n1"),
    role=Role.LEADER,
    term=Term(4),
    leader_id=NodeId("n1"),
    commit_index=Index(100),
    applied_index=Index(90),
    first_index=Index(11),
    last_index=Index(120),
    snapshot_index=Index(10),
    configuration=Configuration("c" * 32, MEMBERS),
    state_hash="ab" * 16,
    state_hash_index=Index(90),
    keys=5,
    log_time_ms=1_700_000_000_500,
    revision=77,
    history_oldest_revision=60,
    history_events=21,
    history_bytes=4321,
    disk_full=False,
    admitted=True,
    peers=(
        PeerStatus(id=NodeId("n2"), connected=True, match_index=Index(118), voter=True),
        PeerStatus(id=NodeId("n3"), connected=False, match_index=Index(0), voter=False),
    ),
)


def status(**changes: Any) -> Status:
    """Return the leader's status with some fields changed."""
    return dataclasses.replace(LEADER, **changes)

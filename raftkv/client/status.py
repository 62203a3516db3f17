"""What a node says about itself, as a value.

Owns the reading of `RAFT STATUS` and `RAFT MEMBERS` in either protocol version.
Owns no request: the shells ask each node and hand the replies over.

Users: both shells, `raftkv status`, `raftkv member list`, `raftkv up`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from raftkv.client.replies import to_mapping
from raftkv.errors import ProtocolError


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One node as it answered, or why it did not.

    Attributes:
        address: `host:port` that was asked.
        node_id: Name of the node; empty where it did not answer.
        role: leader, follower, candidate or learner; empty where it did not answer.
        term: Number of the election period.
        leader_id: Who leads as far as the node knows; empty if nobody.
        leader_address: Client address of that node.
        commit_index: Last index known to be on a quorum.
        applied_index: Last index whose effects are readable on the node.
        last_index: Last index in the node's log.
        error: Why there is no answer; empty where there is one.
        fields: Everything that the node said, by name without the prefix `raft_`.
    """

    address: str
    node_id: str = ""
    role: str = ""
    term: int = 0
    leader_id: str = ""
    leader_address: str = ""
    commit_index: int = 0
    applied_index: int = 0
    last_index: int = 0
    error: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def is_leader(self) -> bool:
        """Whether the node says that it leads."""
        return self.role == "leader"


def status_from_reply(address: str, reply: object) -> NodeStatus:
    """Return the status that a reply to `RAFT STATUS` describes."""
    try:
        said = to_mapping(reply)
        fields = {name.removeprefix("raft_"): value for name, value in said.items()}
        return NodeStatus(
            address=address,
            node_id=str(fields.get("node_id") or ""),
            role=str(fields.get("role") or ""),
            term=int(fields.get("term") or 0),
            leader_id=str(fields.get("leader_id") or ""),
            leader_address=str(fields.get("leader_addr") or ""),
            commit_index=int(fields.get("commit_index") or 0),
            applied_index=int(fields.get("applied_index") or 0),
            last_index=int(fields.get("last_index") or 0),
            fields=fields,
        )
    except (ProtocolError, TypeError, ValueError) as error:
        return NodeStatus(address=address, error=f"answered something else: {error}")


def merge_statuses(statuses: list[NodeStatus]) -> list[NodeStatus]:
    """Return one status a node, ordered by name.

    A node that was asked under two addresses appears once; one that did not
    answer appears under its address, behind the others.
    """
    answered = {status.node_id: status for status in reversed(statuses) if not status.error}
    silent = {status.address: status for status in statuses if status.error}
    ordered = [answered[node_id] for node_id in sorted(answered)]
    return ordered + [silent[address] for address in sorted(silent)]


def lag_entries(status: NodeStatus, statuses: list[NodeStatus]) -> int | None:
    """How many entries of the leader's log a node has not applied; None if nobody leads."""
    leaders = [other for other in statuses if other.is_leader]
    if status.error or not leaders:
        return None
    leader = max(leaders, key=lambda other: other.term)
    return max(0, leader.last_index - status.applied_index)


def members_from_reply(reply: object) -> list[dict[str, Any]]:
    """Return one map a member from a reply to `RAFT MEMBERS`.

    Raises:
        ProtocolError: The reply is no list of maps.
    """
    if not isinstance(reply, list):
        raise ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")
    return [to_mapping(member) for member in reply]

"""The cluster in the words of Redis Cluster and Sentinel: one shard, one master.

Turns members, which have short names, into what clients of Redis expect: ids of
40 hex digits, host and port apart, a bus port, the last known leader as master
of all slots. Never empty and never without a master once a configuration is
known: clients refuse to start otherwise. Used by the CLUSTER, SENTINEL and INFO
handlers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raftkv.types import Member

if TYPE_CHECKING:
    from raftkv.server.service import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardNode:
    """One member as clients of Redis see it.

    Attributes:
        member: The member itself.
        cluster_id: 40 hex digits, the same on every node and after restarts.
        host: Advertised host for clients, without brackets.
        port: Advertised port for clients.
        bus_port: Port of the peer protocol.
        is_master: The leader, or the last known one.
        is_self: This node.
        is_reachable: This node, or believed to be up.
    """

    member: Member
    cluster_id: str
    host: str
    port: int
    bus_port: int
    is_master: bool
    is_self: bool
    is_reachable: bool


def cluster_node_id(node_id: str) -> str:
    """Return the id of 40 hex digits under which a node appears."""
    return hashlib.sha1(f"raftkv node {node_id}".encode(), usedforsecurity=False).hexdigest()


def split_host_port(address: str) -> tuple[str, int]:
    """Split an advertised `host:port`; brackets of IPv6 are dropped."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def shard_nodes(service: Service) -> list[ShardNode]:
    """Return every member, the master first, then by name."""
    replica = service.replica
    status = replica.status()
    members = replica.configuration.members
    leader = replica.leader
    master_id = leader.id if leader is not None else None
    if replica.is_leader:
        master_id = replica.node_id
    if master_id is not None and service.is_just_lost(master_id):
        master_id = None
    if master_id is None and members:
        # Nobody has led yet, or the leader has just been lost. Naming this node
        # keeps the answer well-formed; its clients are held until there is a
        # leader, or redirected to it.
        own = replica.configuration.member(replica.node_id)
        master_id = (own or members[0]).id
    connected = {peer.id: peer.connected for peer in status.peers}
    nodes = []
    for member in sorted(members, key=lambda member: (member.id != master_id, member.id)):
        host, port = split_host_port(member.client)
        is_self = member.id == replica.node_id
        up = replica.has_leader if member.id == master_id else connected.get(member.id, True)
        nodes.append(
            ShardNode(
                member=member,
                cluster_id=cluster_node_id(member.id),
                host=host,
                port=port,
                bus_port=split_host_port(member.peer)[1],
                is_master=member.id == master_id,
                is_self=is_self,
                is_reachable=is_self or up,
            )
        )
    return nodes

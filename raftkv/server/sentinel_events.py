"""What a Sentinel would publish: who the master is, and who is out of reach.

Clients in Sentinel mode listen to these channels on one of the nodes and look for
the master anew when something comes. Every node publishes what it sees itself, to
its own subscribers only: the others see for themselves.

`+switch-master` is followed by a `+slave` for each other member, as it is with
Redis: node-redis listens to the latter only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftkv.server.topology import split_host_port
from raftkv.types import Member, NodeId

if TYPE_CHECKING:
    from raftkv.server.service import Service

# What a client in Sentinel mode is told to ask for.
MASTER_NAME = b"raftkv"


class SentinelEvents:
    """Publishes to the subscribers of one node."""

    def __init__(self, service: Service) -> None:
        """Start without a master."""
        self._service = service
        self._master: Member | None = None

    def leader_changed(self) -> None:
        """Look who leads; say so if it is another one than the last known."""
        replica = self._service.replica
        leader: Member | None = None
        if replica.is_leader:
            leader = replica.configuration.member(replica.node_id)
        elif replica.has_leader:
            leader = replica.leader
        before = self._master
        if leader is None or (before is not None and before.id == leader.id):
            return
        self._master = leader
        if before is None:
            return
        words = (MASTER_NAME, *_host_and_port(before), *_host_and_port(leader))
        self._publish(b"+switch-master", words)
        for member in replica.configuration.members:
            if member.id != leader.id:
                self._publish(b"+slave", self._described(member))

    def peer_up(self, node: NodeId) -> None:
        """A member can be reached."""
        self._tell(b"-sdown", node)

    def peer_down(self, node: NodeId) -> None:
        """A member cannot be reached from here."""
        self._tell(b"+sdown", node)

    def _tell(self, channel: bytes, node: NodeId) -> None:
        member = self._service.replica.configuration.member(node)
        if member is not None:
            self._publish(channel, self._described(member))

    def _described(self, member: Member) -> tuple[bytes, ...]:
        """Return the words by which a Sentinel names an instance."""
        host, port = _host_and_port(member)
        master = self._master
        if master is None or master.id == member.id:
            return (b"master", MASTER_NAME, host, port)
        name = member.client.encode()
        return (b"slave", name, host, port, b"@", MASTER_NAME, *_host_and_port(master))

    def _publish(self, channel: bytes, words: tuple[bytes, ...]) -> None:
        self._service.subscriptions.deliver(channel, b" ".join(words))


def _host_and_port(member: Member) -> tuple[bytes, bytes]:
    host, port = split_host_port(member.client)
    return host.encode(), b"%d" % port

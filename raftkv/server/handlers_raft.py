"""RAFT: the replicated log, its members, and what this connection does with them.

`RAFT STATUS` and the `raft` section of INFO are the same facts under the same
names. The levels `lease` and `bounded` and the transfer of leadership are
refused: they are not available in this version.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.server.connection import ClientConnection
from raftkv.server.runs import Later
from raftkv.types import Status

HELP = """RAFT <subcommand> [<arg>]. Subcommands are:
STATUS
    Return role, term, indexes and members of this node.
MEMBERS
    Return the members of the cluster.
ROUTING [REDIRECT|PROXY]
    Return or choose what a follower does with requests of this connection.
READS [LINEARIZABLE|STALE]
    Return or choose the read level of this connection.
SNAPSHOT
    Write a snapshot of this node and return the index that it covers.
HELP
    Print this help."""


def status_fields(status: Status) -> dict[str, str | int]:
    """Return the facts of INFO raft and RAFT STATUS, in order."""
    leader = status.leader
    return {
        "raft_node_id": status.node_id,
        "raft_role": status.role.value,
        "raft_term": status.term,
        "raft_leader_id": status.leader_id or "",
        "raft_leader_addr": leader.client if leader is not None else "",
        "raft_commit_index": status.commit_index,
        "raft_applied_index": status.applied_index,
        "raft_last_index": status.last_index,
        "raft_first_index": status.first_index,
        "raft_snapshot_index": status.snapshot_index,
        "raft_members": len(status.configuration.members),
        "raft_quorum": status.quorum,
        "raft_state_hash": status.state_hash,
        "raft_state_hash_index": status.state_hash_index,
        "raft_log_time_ms": status.log_time_ms,
        "raft_revision": status.revision,
        "raft_disk_full": int(status.disk_full),
        "raft_admitted": int(status.admitted),
        "raft_waiting_for": ",".join(status.waiting_for),
    }


def handle_status(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT STATUS"""
    fields = status_fields(connection.service.replica.status())
    return {
        name.encode(): value if isinstance(value, int) else value.encode()
        for name, value in fields.items()
    }


def handle_members(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT MEMBERS"""
    status = connection.service.replica.status()
    peers = {peer.id: peer for peer in status.peers}
    members: list[object] = []
    for member in status.configuration.members:
        fields: dict[bytes, object] = {
            b"id": member.id.encode(),
            b"client": member.client.encode(),
            b"peer": member.peer.encode(),
            b"voter": int(member.voter),
            b"leader": int(member.id == status.leader_id),
        }
        peer = peers.get(member.id)
        if peer is not None:
            fields[b"connected"] = int(peer.connected)
            fields[b"match_index"] = peer.match_index
        members.append(fields)
    return members


def _choice(arguments: list[bytes]) -> bytes | None:
    if len(arguments) > 3:
        name = b"|".join(arguments[:2]).lower().decode("utf-8", "surrogateescape")
        raise CommandError(f"ERR wrong number of arguments for '{name}' command")
    return arguments[2].lower() if len(arguments) == 3 else None


def handle_routing(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT ROUTING [redirect | proxy]"""
    choice = _choice(arguments)
    if choice is None:
        return b"proxy" if connection.proxied else b"redirect"
    if choice not in (b"redirect", b"proxy"):
        raise CommandError("ERR routing is one of redirect, proxy")
    connection.proxied = choice == b"proxy"
    return "OK"


def handle_reads(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT READS [linearizable | stale]"""
    choice = _choice(arguments)
    if choice is None:
        return b"stale" if connection.stale_reads else b"linearizable"
    if choice in (b"lease", b"bounded"):
        raise CommandError(f"ERR read level {choice.decode()} is not available in this version")
    if choice not in (b"linearizable", b"stale"):
        raise CommandError("ERR read level is one of linearizable, stale")
    connection.stale_reads = choice == b"stale"
    return "OK"


def handle_snapshot(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT SNAPSHOT"""
    return Later(connection.service.replica.take_snapshot)


def handle_transfer(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT TRANSFER [node]"""
    raise CommandError("ERR RAFT TRANSFER is not available in this version")


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT HELP"""
    return HELP.split("\n")


HANDLERS = {
    "raft|status": handle_status,
    "raft|members": handle_members,
    "raft|routing": handle_routing,
    "raft|reads": handle_reads,
    "raft|snapshot": handle_snapshot,
    "raft|transfer": handle_transfer,
    "raft|help": handle_help,
}

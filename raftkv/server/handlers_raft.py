"""RAFT: the replicated log, its members, and what this connection does with them.

`RAFT STATUS` and the `raft` section of INFO are the same facts under the same
names. Changes of the membership and a transfer of leadership are the leader's;
another node answers MOVED, also in proxy routing, since they are for operators.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.config import is_node_id, split_address
from raftkv.errors import CommandError
from raftkv.seams import Slot
from raftkv.server.connection import ClientConnection
from raftkv.server.runs import Later
from raftkv.types import ChangeKind, Index, MembershipChange, NodeId, Status, Term

_NO_LEADER = "CLUSTERDOWN no leader elected"

READ_LEVELS = (b"linearizable", b"lease", b"bounded", b"stale")

HELP = """RAFT <subcommand> [<arg>]. Subcommands are:
STATUS
    Return role, term, indexes and members of this node.
MEMBERS
    Return the members of the cluster.
ROUTING [REDIRECT|PROXY]
    Return or choose what a follower does with requests of this connection.
READS [LINEARIZABLE|LEASE|BOUNDED <ms>|STALE|DEFAULT]
    Return or choose the read level of this connection.
STALENESS
    Return how old this node's store is at most, in milliseconds.
TOKEN
    Return a token of what this connection has seen.
AFTER <token>
    Wait until this node has applied what a token names; read nothing older here.
MEMBER ADD <id> <client address> <peer address>
    Add a node as a learner; it gets the log and does not vote.
MEMBER PROMOTE|DEMOTE|REMOVE <id>
    Let a learner that has caught up vote, make a voter a learner, or remove a node.
MEMBER MOVE <id> <client address> <peer address>
    Change the addresses of a member.
TRANSFER [<id>]
    Hand leadership over, to a certain voter or the most advanced one.
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
        "raft_history_oldest_revision": status.history_oldest_revision,
        "raft_history_events": status.history_events,
        "raft_history_bytes": status.history_bytes,
        "raft_leases": status.leases,
        "raft_disk_full": int(status.disk_full),
        "raft_admitted": int(status.admitted),
        "raft_waiting_for": ",".join(status.waiting_for),
        "raft_log_memory_bytes": status.log_memory_bytes,
        "raft_log_memory_entries": status.log_memory_entries,
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
    """RAFT READS [linearizable | lease | bounded ms | stale | default]"""
    reads = connection.service.config.reads
    words = [word.lower() for word in arguments[2:]]
    if not words:
        return _level(connection)
    if len(words) > (2 if words[0] == b"bounded" else 1):
        raise CommandError("ERR wrong number of arguments for 'raft|reads' command")
    if words[0] == b"default":
        connection.set_read_level(reads.level, reads.staleness_ms_max)
        return "OK"
    if words[0] not in READ_LEVELS:
        known = ", ".join(map(bytes.decode, READ_LEVELS))
        raise CommandError(f"ERR read level is one of {known}, default")
    bound_ms = _bound_ms(words[1]) if len(words) == 2 else reads.staleness_ms_max
    connection.set_read_level(words[0].decode(), bound_ms)
    return "OK"


def _level(connection: ClientConnection) -> bytes:
    if connection.bound_ms is not None:
        return b"bounded %d" % connection.bound_ms
    if connection.stale_reads:
        return b"stale"
    return b"lease" if connection.lease_reads else b"linearizable"


def _bound_ms(word: bytes) -> int:
    if not word.isdigit() or len(word) > 9 or int(word) == 0:
        raise CommandError("ERR the bound is a number of milliseconds above 0")
    return int(word)


def handle_staleness(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT STALENESS"""
    return connection.service.replica.staleness_ms()


def handle_token(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT TOKEN"""
    replica = connection.service.replica
    ask = connection.was_forwarded
    elsewhere = ask and not replica.is_leader
    if elsewhere and connection.gives_up:
        raise CommandError(_NO_LEADER)
    return Later(lambda slot: replica.take_token(slot, ask=ask), forwarded=elsewhere)


def handle_after(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT AFTER token"""
    term, slash, index = arguments[2].partition(b"/")
    if not slash or not term.isdigit() or not index.isdigit() or len(arguments[2]) > 40:
        raise CommandError("ERR a token is what RAFT TOKEN returns")
    position = Index(int(index))
    connection.floor_index = max(connection.floor_index, position)
    replica = connection.service.replica
    return Later(lambda slot: replica.await_token(Term(int(term)), position, slot))


def handle_snapshot(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT SNAPSHOT"""
    return Later(connection.service.replica.take_snapshot)


def _by_leader(connection: ClientConnection, start: Callable[[Slot], None]) -> Later:
    """Let this node do it if it leads, or say who does."""
    if connection.service.replica.is_leader:
        return Later(start)
    leader = connection.service.leader
    if leader is None:
        raise CommandError(_NO_LEADER)
    raise CommandError(f"MOVED 0 {leader.client}")


def handle_transfer(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT TRANSFER [node]"""
    if len(arguments) > 3:
        raise CommandError("ERR wrong number of arguments for 'raft|transfer' command")
    replica = connection.service.replica
    target = _node_id(arguments[2]) if len(arguments) == 3 else None
    if target is not None:
        member = replica.configuration.member(target)
        if member is None or not member.voter:
            raise CommandError(f"ERR {target} is not a voter")
        if replica.is_leader and target == replica.node_id:
            raise CommandError(f"ERR {target} leads already")
    return _by_leader(connection, lambda slot: replica.transfer_leadership(target, slot))


_CHANGES = {kind.value.encode(): kind for kind in ChangeKind}
_WITH_ADDRESSES = (ChangeKind.ADD, ChangeKind.MOVE)


def handle_member(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT MEMBER ADD|PROMOTE|DEMOTE|REMOVE|MOVE node [client peer]"""
    kind = _CHANGES.get(arguments[2].lower())
    if kind is None:
        raise CommandError("ERR a member change is one of add, promote, demote, remove, move")
    if len(arguments) != (6 if kind in _WITH_ADDRESSES else 4):
        raise CommandError("ERR wrong number of arguments for 'raft|member' command")
    addresses = [_address(word) for word in arguments[4:]] or ["", ""]
    change = MembershipChange(
        kind=kind, node=_node_id(arguments[3]), client=addresses[0], peer=addresses[1]
    )
    replica = connection.service.replica
    return _by_leader(connection, lambda slot: replica.change_membership(change, slot))


def _node_id(word: bytes) -> NodeId:
    text = word.decode("utf-8", "replace")
    if not is_node_id(text):
        raise CommandError("ERR the name of a node is letters, digits, '-', '_' and '.'")
    return NodeId(text)


def _address(word: bytes) -> str:
    text = word.decode("utf-8", "replace")
    try:
        split_address(text)
    except ValueError as error:
        raise CommandError(f"ERR address {error}") from None
    return text


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """RAFT HELP"""
    return HELP.split("\n")


HANDLERS = {
    "raft|status": handle_status,
    "raft|members": handle_members,
    "raft|routing": handle_routing,
    "raft|reads": handle_reads,
    "raft|staleness": handle_staleness,
    "raft|token": handle_token,
    "raft|after": handle_after,
    "raft|snapshot": handle_snapshot,
    "raft|member": handle_member,
    "raft|transfer": handle_transfer,
    "raft|help": handle_help,
}

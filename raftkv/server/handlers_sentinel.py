"""SENTINEL: every node answers as a Sentinel that watches this cluster.

Sentinel-mode clients ask for the address of a master by its name, which is
`raftkv`; other names are unknown, as they are to a Sentinel. Such clients send no
READONLY to replicas, hence they want `proxy` routing. `sentinel_events` tells them
when to ask again.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.resp.values import NULL_ARRAY
from raftkv.server.connection import ClientConnection
from raftkv.server.sentinel_events import MASTER_NAME
from raftkv.server.topology import ShardNode, shard_nodes

HELP = """SENTINEL <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
CKQUORUM <master-name>
    Check if a majority of the members has a leader.
GET-MASTER-ADDR-BY-NAME <master-name>
    Return the host and port of the leader.
MASTER <master-name>
    Show the state of the leader.
MASTERS
    Show a list of masters: the leader.
REPLICAS <master-name>
    Show the other members.
SENTINELS <master-name>
    Show the other members, each of which answers SENTINEL too.
HELP
    Print this help."""


def _fields(node: ShardNode, name: bytes, flags: bytes) -> dict[bytes, object]:
    state = flags if node.is_reachable else flags + b",s_down"
    return {
        b"name": name,
        b"ip": node.host.encode(),
        b"port": b"%d" % node.port,
        b"runid": node.cluster_id.encode(),
        b"flags": state,
        b"link-pending-commands": b"0",
        b"link-refcount": b"1",
        b"last-ping-sent": b"0",
        b"last-ok-ping-reply": b"0",
        b"last-ping-reply": b"0",
        b"down-after-milliseconds": b"1000",
    }


def _master_fields(connection: ClientConnection) -> dict[bytes, object]:
    nodes = shard_nodes(connection.service)
    quorum = connection.service.replica.configuration.quorum
    return _fields(nodes[0], MASTER_NAME, b"master") | {
        b"role-reported": b"master",
        b"config-epoch": b"%d" % connection.service.replica.status().term,
        b"num-slaves": b"%d" % (len(nodes) - 1),
        b"num-other-sentinels": b"%d" % (len(nodes) - 1),
        b"quorum": b"%d" % quorum,
        b"failover-timeout": b"1000",
        b"parallel-syncs": b"1",
    }


def _require_master(connection: ClientConnection, name: bytes) -> None:
    if name != MASTER_NAME or not connection.service.replica.configuration.members:
        raise CommandError("ERR No such master with that name")


def handle_get_master(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL GET-MASTER-ADDR-BY-NAME name"""
    nodes = shard_nodes(connection.service)
    if not nodes or arguments[2] != MASTER_NAME:
        return NULL_ARRAY
    return [nodes[0].host.encode(), b"%d" % nodes[0].port]


def handle_masters(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL MASTERS"""
    _require_master(connection, MASTER_NAME)
    return [_master_fields(connection)]


def handle_master(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL MASTER name"""
    _require_master(connection, arguments[2])
    return _master_fields(connection)


def handle_replicas(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL REPLICAS name"""
    _require_master(connection, arguments[2])
    master, *others = shard_nodes(connection.service)
    replicas: list[object] = [
        _fields(node, f"{node.host}:{node.port}".encode(), b"slave")
        | {
            b"role-reported": b"slave",
            b"master-link-status": b"ok" if master.is_reachable else b"err",
            b"master-host": master.host.encode(),
            b"master-port": b"%d" % master.port,
            b"slave-priority": b"100",
        }
        for node in others
    ]
    return replicas


def handle_sentinels(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL SENTINELS name"""
    _require_master(connection, arguments[2])
    sentinels: list[object] = [
        _fields(node, node.cluster_id.encode(), b"sentinel")
        for node in shard_nodes(connection.service)
        if not node.is_self
    ]
    return sentinels


def handle_ckquorum(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL CKQUORUM name"""
    _require_master(connection, arguments[2])
    replica = connection.service.replica
    count = len(replica.configuration.members)
    if not (replica.is_leader or replica.has_leader):
        raise CommandError(f"NOQUORUM {count} members. No leader is known")
    return f"OK {count} usable Sentinels. Quorum and failover authorization can be reached"


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """SENTINEL HELP"""
    return HELP.split("\n")


HANDLERS = {
    "sentinel|get-master-addr-by-name": handle_get_master,
    "sentinel|masters": handle_masters,
    "sentinel|master": handle_master,
    "sentinel|replicas": handle_replicas,
    "sentinel|slaves": handle_replicas,
    "sentinel|sentinels": handle_sentinels,
    "sentinel|ckquorum": handle_ckquorum,
    "sentinel|help": handle_help,
}

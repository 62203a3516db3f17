"""CLUSTER, READONLY, READWRITE, ASKING: the cluster as Redis Cluster's clients read it.

One shard owns all 16384 slots; its master is the leader, or the last known one
while there is none. Slots never move, so ASKING changes nothing.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.kv.commands import Opcode
from raftkv.kv.slots import SLOT_COUNT, key_slot
from raftkv.resp.values import Verbatim
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_connection import parse_integer
from raftkv.server.runs import Later
from raftkv.server.topology import ShardNode, cluster_node_id, shard_nodes

_LAST_SLOT = SLOT_COUNT - 1

HELP = """CLUSTER <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
COUNTKEYSINSLOT <slot>
    Return the number of keys in <slot>, as of this node.
INFO
    Return information about the cluster.
KEYSLOT <key>
    Return the hash slot for <key>.
MYID
    Return the node id.
NODES
    Return cluster configuration seen by node. Output format:
    <id> <ip:port@bus-port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...
SLOTS
    Return information about slots range mappings: start, end, master and replicas.
SHARDS
    Return information about slot range mappings and the nodes associated with them.
HELP
    Print this help."""


def handle_slots(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER SLOTS"""
    nodes = [
        [node.host.encode(), node.port, node.cluster_id.encode(), []]
        for node in shard_nodes(connection.service)
    ]
    return [[0, _LAST_SLOT, *nodes]]


def handle_shards(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER SHARDS"""
    status = connection.service.replica.status()
    matches = {peer.id: peer.match_index for peer in status.peers}
    nodes: list[object] = [
        {
            b"id": node.cluster_id.encode(),
            b"port": node.port,
            b"ip": node.host.encode(),
            b"endpoint": node.host.encode(),
            b"role": b"master" if node.is_master else b"replica",
            b"replication-offset": (
                status.last_index if node.is_self else matches.get(node.member.id, 0)
            ),
            b"health": b"online" if node.is_reachable else b"fail",
        }
        for node in shard_nodes(connection.service)
    ]
    return [{b"slots": [0, _LAST_SLOT], b"nodes": nodes}]


def _node_line(node: ShardNode, master_id: str, term: int) -> str:
    flags = ("myself," if node.is_self else "") + ("master" if node.is_master else "slave")
    if not node.is_reachable:
        flags += ",fail?"
    link = "connected" if node.is_reachable else "disconnected"
    host = f"[{node.host}]" if ":" in node.host else node.host
    line = (
        f"{node.cluster_id} {host}:{node.port}@{node.bus_port} {flags} "
        f"{'-' if node.is_master else master_id} 0 0 {term} {link}"
    )
    return f"{line} 0-{_LAST_SLOT}" if node.is_master else line


def handle_nodes(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER NODES"""
    nodes = shard_nodes(connection.service)
    term = connection.service.replica.status().term
    master_id = nodes[0].cluster_id if nodes else "-"
    text = "".join(f"{_node_line(node, master_id, term)}\n" for node in nodes)
    return Verbatim(text.encode())


def handle_info(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER INFO"""
    replica = connection.service.replica
    status = replica.status()
    known = replica.is_leader or replica.has_leader
    covered = SLOT_COUNT if known else 0
    fields = {
        "cluster_state": "ok" if known else "fail",
        "cluster_slots_assigned": SLOT_COUNT,
        "cluster_slots_ok": covered,
        "cluster_slots_pfail": SLOT_COUNT - covered,
        "cluster_slots_fail": 0,
        "cluster_known_nodes": len(replica.configuration.members),
        "cluster_size": 1,
        "cluster_current_epoch": status.term,
        "cluster_my_epoch": status.term,
        "cluster_stats_messages_sent": 0,
        "cluster_stats_messages_received": 0,
    }
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode())


def handle_myid(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER MYID"""
    return cluster_node_id(connection.service.replica.node_id).encode()


def handle_keyslot(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER KEYSLOT key"""
    return key_slot(arguments[2])


def handle_countkeysinslot(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER COUNTKEYSINSLOT slot"""
    slot = parse_integer(arguments[2])
    if not 0 <= slot < SLOT_COUNT:
        raise CommandError("ERR Invalid slot")
    command = (Opcode.COUNTKEYSINSLOT.value, slot)
    replica = connection.service.replica
    return Later(lambda answer: replica.read_sliced(command, answer, linearizable=False))


def handle_help(connection: ClientConnection, arguments: list[bytes]) -> object:
    """CLUSTER HELP"""
    return HELP.split("\n")


def handle_readonly(connection: ClientConnection, arguments: list[bytes]) -> object:
    """READONLY"""
    connection.readonly = True
    return "OK"


def handle_readwrite(connection: ClientConnection, arguments: list[bytes]) -> object:
    """READWRITE"""
    connection.readonly = False
    return "OK"


def handle_asking(connection: ClientConnection, arguments: list[bytes]) -> object:
    """ASKING"""
    return "OK"


HANDLERS = {
    "cluster|slots": handle_slots,
    "cluster|shards": handle_shards,
    "cluster|nodes": handle_nodes,
    "cluster|info": handle_info,
    "cluster|myid": handle_myid,
    "cluster|keyslot": handle_keyslot,
    "cluster|countkeysinslot": handle_countkeysinslot,
    "cluster|help": handle_help,
    "readonly": handle_readonly,
    "readwrite": handle_readwrite,
    "asking": handle_asking,
}

"""INFO, ROLE and TIME: facts and counters of this node in the form of Redis.

A section is a function that returns its fields in order. Fields of Redis appear
only where something here corresponds to them; what monitoring tools insist on
(`loading`, `maxmemory`, ...) is answered truthfully. `INFO raft` holds our own.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable

from raftkv.resp.values import Verbatim
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_connection import REDIS_VERSION
from raftkv.server.handlers_raft import status_fields
from raftkv.server.service import Service
from raftkv.server.topology import cluster_node_id, shard_nodes, split_host_port

Fields = dict[str, object]

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def _human(size: int) -> str:
    """Show a size as Redis does: 942.91K, 11.73M."""
    if size < 1024:
        return f"{size}B"
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / 1024**power:.2f}{'BKMGT'[power]}"


def _resident_bytes() -> int:
    """Resident memory, or its peak where the kernel does not tell the present value."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return _peak_bytes()


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def _server(service: Service) -> Fields:
    from raftkv import __version__

    now_ms = service.clock.now_ms()
    uptime = (now_ms - service.started_ms) // 1000
    return {
        "redis_version": REDIS_VERSION,
        "raftkv_version": __version__,
        "redis_mode": "cluster",
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64 if sys.maxsize > 2**32 else 32,
        "process_id": os.getpid(),
        "run_id": service.run_id,
        "tcp_port": service.port,
        "server_time_usec": service.clock.wall_ms() * 1000,
        "uptime_in_seconds": uptime,
        "uptime_in_days": uptime // 86_400,
    }


def _clients(service: Service) -> Fields:
    return {
        "connected_clients": service.client_count,
        "maxclients": service.clients_max,
        "blocked_clients": len(service.blocked),
        "pubsub_clients": sum(one.is_subscribed for one in service.connections.values()),
        "held_clients": len(service.held),
        "transaction_queue_bytes": service.queued_bytes,
    }


def _memory(service: Service) -> Fields:
    resident, peak = _resident_bytes(), _peak_bytes()
    status = service.replica.status()
    return {
        "used_memory": resident,
        "used_memory_human": _human(resident),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
        "used_memory_dataset": status.dataset_bytes,
        "used_memory_dataset_human": _human(status.dataset_bytes),
        "maxmemory": status.dataset_bytes_max,
        "maxmemory_human": _human(status.dataset_bytes_max),
        "maxmemory_policy": "noeviction",
    }


def _persistence(service: Service) -> Fields:
    status = service.replica.status()
    return {
        "loading": 0,
        "aof_enabled": 1,
        "aof_last_write_status": "err" if status.disk_full else "ok",
        "rdb_bgsave_in_progress": 0,
        "raft_sync": service.config.durability.sync,
        "raft_snapshot_index": status.snapshot_index,
    }


def _stats(service: Service) -> Fields:
    statistics = service.statistics
    return {
        "total_connections_received": statistics.connections_accepted,
        "total_commands_processed": sum(spec.total_calls for spec in service.table.all()),
        "total_net_input_bytes": statistics.bytes_received,
        "total_net_output_bytes": statistics.bytes_sent,
        "rejected_connections": statistics.connections_refused,
        "total_error_replies": statistics.error_replies,
        "evicted_keys": 0,
        "pubsub_channels": len(service.subscriptions.channels),
        "pubsub_patterns": len(service.subscriptions.patterns),
        "pubsubshard_channels": len(service.subscriptions.shard_channels),
        "kv_watches": service.watches.count,
        "messages_published": statistics.messages_published,
        "messages_received": statistics.messages_received,
        "messages_dropped": statistics.messages_dropped,
        "messages_pushed": statistics.messages_pushed,
        "connections_closed_slow": statistics.connections_closed_slow,
        "connections_closed_idle": statistics.connections_closed_idle,
        "protocol_errors": statistics.protocol_errors,
        "forwards_sent": statistics.forwards_sent,
        "forwards_received": statistics.forwards_received,
    }


def _replication(service: Service) -> Fields:
    replica = service.replica
    status = replica.status()
    nodes = shard_nodes(service)
    cluster_id = status.configuration.cluster_id
    fields: Fields = {"role": "master" if replica.is_leader else "slave"}
    if replica.is_leader:
        matches = {peer.id: peer for peer in status.peers}
        others = [node for node in nodes if not node.is_self]
        fields["connected_slaves"] = len([peer for peer in status.peers if peer.connected])
        for position, node in enumerate(others):
            peer = matches.get(node.member.id)
            state = "online" if peer is not None and peer.connected else "offline"
            offset = peer.match_index if peer is not None else 0
            lag = max(0, status.last_index - offset)
            fields[f"slave{position}"] = (
                f"ip={node.host},port={node.port},state={state},offset={offset},lag={lag}"
            )
    else:
        master = nodes[0] if nodes and not nodes[0].is_self else None
        fields["master_host"] = master.host if master is not None else ""
        fields["master_port"] = master.port if master is not None else 0
        fields["master_link_status"] = "up" if replica.has_leader else "down"
        fields["slave_repl_offset"] = status.last_index
        fields["slave_read_only"] = 1
        fields["connected_slaves"] = 0
    fields["master_replid"] = cluster_node_id(cluster_id)
    fields["master_repl_offset"] = status.commit_index
    return fields


def _cpu(service: Service) -> Fields:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"used_cpu_sys": f"{usage.ru_stime:.6f}", "used_cpu_user": f"{usage.ru_utime:.6f}"}


def _commandstats(service: Service) -> Fields:
    # Why no durations: a command has none of its own, it is carried out in batches.
    return {
        f"cmdstat_{spec.name}": f"calls={spec.total_calls},usec=0,usec_per_call=0.00,"
        f"rejected_calls={spec.rejected},failed_calls=0"
        for spec in service.table.all()
        if spec.total_calls or spec.rejected
    }


def _cluster(service: Service) -> Fields:
    return {"cluster_enabled": 1}


def _keyspace(service: Service) -> Fields:
    status = service.replica.status()
    if not status.keys:
        return {}
    return {"db0": f"keys={status.keys},expires={status.keys_expiring},avg_ttl=0"}


def _raft(service: Service) -> Fields:
    return dict(status_fields(service.replica.status()))


_SECTIONS: dict[str, Callable[[Service], Fields]] = {
    "server": _server,
    "clients": _clients,
    "memory": _memory,
    "persistence": _persistence,
    "stats": _stats,
    "replication": _replication,
    "cpu": _cpu,
    "commandstats": _commandstats,
    "cluster": _cluster,
    "keyspace": _keyspace,
    "raft": _raft,
}
_DEFAULT = tuple(name for name in _SECTIONS if name != "commandstats")


def _chosen(words: list[bytes]) -> list[str]:
    """Return the sections asked for, each once, in the order of the table."""
    wanted: set[str] = set()
    for word in words:
        name = word.decode("utf-8", "surrogateescape").lower()
        if name in ("all", "everything"):
            wanted |= set(_SECTIONS)
        elif name == "default":
            wanted |= set(_DEFAULT)
        else:
            wanted.add(name)
    return [name for name in _SECTIONS if name in wanted]


def handle_info(connection: ClientConnection, arguments: list[bytes]) -> object:
    """INFO [section ...]"""
    sections = []
    for name in _chosen(arguments[1:] or [b"default"]):
        fields = _SECTIONS[name](connection.service)
        lines = "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        title = "CPU" if name == "cpu" else name.capitalize()
        sections.append(f"# {title}\r\n{lines}")
    return Verbatim("\r\n".join(sections).encode("utf-8", "surrogateescape"))


def handle_role(connection: ClientConnection, arguments: list[bytes]) -> object:
    """ROLE"""
    service = connection.service
    replica = service.replica
    status = replica.status()
    if replica.is_leader:
        addresses = {
            member.id: split_host_port(member.client) for member in status.configuration.members
        }
        return [
            b"master",
            status.commit_index,
            [
                [
                    addresses[peer.id][0].encode(),
                    b"%d" % addresses[peer.id][1],
                    b"%d" % peer.match_index,
                ]
                for peer in status.peers
                if peer.connected and peer.id in addresses
            ],
        ]
    leader = replica.leader
    host, port = split_host_port(leader.client) if leader is not None else ("", 0)
    state = b"connected" if replica.has_leader else b"connect"
    return [b"slave", host.encode(), port, state, status.last_index]


def handle_time(connection: ClientConnection, arguments: list[bytes]) -> object:
    """TIME"""
    now_ms = connection.service.clock.wall_ms()
    return [b"%d" % (now_ms // 1000), b"%d" % (now_ms % 1000 * 1000)]


HANDLERS = {"info": handle_info, "role": handle_role, "time": handle_time}

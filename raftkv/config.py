"""Settings of one node: frozen values, defaults, ranges, loading and validation.

Owns every number a user may set, with its unit in the name, its default and
its allowed range; `docs/reference/config.md` is generated from here. Knows the
file format (TOML) and the environment only through its arguments.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from raftkv.types import Member, NodeId

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """[node]: who this node is and where its data is."""

    id: NodeId
    data_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """[listen]: addresses to bind, as `host:port`."""

    client: str
    peer: str
    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DurabilityConfig:
    """[durability]: when a write is on the disk before it is acknowledged."""

    sync: str = "always"  # always | interval | never
    sync_interval_ms: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadsConfig:
    """[reads]: what a read may miss."""

    level: str = "linearizable"  # linearizable | lease | bounded | stale
    bounded_ms: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesConfig:
    """[writes]: what a node that does not lead does with a write."""

    on_follower: str = "redirect"  # redirect | proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """[timing]: milliseconds."""

    heartbeat_ms: int = 50
    election_timeout_ms: tuple[int, int] = (300, 600)
    leader_wait_ms: int = 2000
    request_timeout_ms: int = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """[limits]: every queue and size."""

    clients_max: int = 10_000
    key_bytes_max: int = 64 * 1024
    value_bytes_max: int = 4 * MIB
    request_bytes_max: int = 8 * MIB
    request_arguments_max: int = 65_536
    pipeline_commands_max: int = 1024
    output_buffer_bytes_max: int = 64 * MIB
    idle_seconds_max: int = 0
    batch_bytes_max: int = 1 * MIB
    batch_commands_max: int = 4096
    uncommitted_bytes_max: int = 64 * MIB
    append_bytes_max: int = 1 * MIB
    peer_frame_bytes_max: int = 32 * MIB
    peer_queue_bytes_max: int = 64 * MIB
    wal_segment_bytes: int = 16 * MIB
    snapshot_log_bytes: int = 32 * MIB
    snapshot_keep_log_bytes: int = 4 * MIB
    snapshot_chunk_bytes: int = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """[security]: how peers prove who they are."""

    peer_secret_file: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a node is started with; validated as a whole."""

    node: NodeConfig
    listen: ListenConfig
    members: tuple[Member, ...]
    durability: DurabilityConfig = field(default_factory=DurabilityConfig)
    reads: ReadsConfig = field(default_factory=ReadsConfig)
    writes: WritesConfig = field(default_factory=WritesConfig)
    timing: TimingConfig = field(default_factory=TimingConfig)
    limits: Limits = field(default_factory=Limits)
    security: SecurityConfig = field(default_factory=SecurityConfig)

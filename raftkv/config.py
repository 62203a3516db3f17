"""Settings of one node: frozen values, defaults, meanings and allowed ranges.

Owns every number a user may set, with its unit in the name. What stands in the
`Annotated` of a field is the only place where a range or a meaning is written:
`raftkv.settings` judges files by it and makes docs/reference/config.md from
it. Owns the form of an address too.

Does not own the reading of files, the environment and flags (`raftkv.settings`),
nor the writing of new files (`raftkv.cluster_files`). Pure: no I/O.

Invariant: a `Config` that came out of `raftkv.settings` satisfies every range
here and every relation there, so that no other module checks a setting again.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Annotated

from raftkv.types import Member, NodeId

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Limit: common Redis clients give up after 5 s and some of them send again, so
# every answer has to leave earlier.
REQUEST_TIMEOUT_MS_MAX = 4999
# Limit: a quorum of more than eight is slower than any failure it survives.
MEMBERS_MAX = 15
# Room in a WAL segment, a peer frame or a request beside the bytes that a limit counts.
OVERHEAD_BYTES = 64 * KIB
# What an argument costs in a message beside its own bytes, at most: in a forward `$`, ten
# digits and two line ends; less in a log entry, where it may become a number of eight bytes.
ARGUMENT_OVERHEAD_BYTES = 16

_NODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")

# ------------------------------------------------------------------ addresses


def split_address(text: str) -> tuple[str, int]:
    """Split `host:port` or `[IPv6]:port` into a bare host and a port.

    Raises:
        ValueError: It has another form; the text says which part is wrong.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon:
        raise ValueError("has no port")
    if not (port_text.isascii() and port_text.isdigit() and 1 <= int(port_text) <= 65535):
        raise ValueError(f"has the port {port_text!r} outside 1..65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"has {host!r} in brackets, which is no IPv6 address") from None
    elif ":" in host:
        raise ValueError("has an IPv6 address without brackets")
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(f"has {host!r}, which is no host name")
    return host, int(port_text)


def is_loopback(text: str) -> bool:
    """Whether a well-formed address can be reached from the same machine only."""
    host, _ = split_address(text)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_wildcard(text: str) -> bool:
    """Whether a well-formed address names every interface, which nobody can dial."""
    host, _ = split_address(text)
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


# ----------------------------------------------------------- kinds of settings


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number from `low` to `high`, both included, in `unit`."""

    low: int
    high: int
    unit: str
    meaning: str

    @property
    def allowed(self) -> str:
        """The range, for people."""
        return f"{self.low}..{self.high} {self.unit}"


@dataclass(frozen=True, slots=True)
class NumberPair:
    """Two whole numbers within `low` to `high`, the first below the second."""

    low: int
    high: int
    unit: str
    meaning: str

    @property
    def allowed(self) -> str:
        """The range, for people."""
        return f"two numbers in {self.low}..{self.high} {self.unit}, the first below the second"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    values: tuple[str, ...]
    meaning: str
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The words, for people."""
        return " | ".join(self.values)


@dataclass(frozen=True, slots=True)
class Address:
    """`host:port` or `[IPv6]:port`."""

    meaning: str
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The form, for people."""
        return "host:port"


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a node."""

    meaning: str
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The form, for people."""
        return "1..63 letters, digits, `.`, `_` or `-`, the first a letter or digit"


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; relative ones start at the working directory."""

    meaning: str
    may_be_empty: bool = False
    unit: str = ""

    @property
    def allowed(self) -> str:
        """The form, for people."""
        return "path, or empty" if self.may_be_empty else "path"


SettingKind = Number | NumberPair | Choice | Address | Name | FilePath


def is_node_id(text: str) -> bool:
    """Whether a text may name a node."""
    return _NODE_ID.fullmatch(text) is not None


# ---------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """[node]: who this node is and where its data is."""

    id: Annotated[NodeId, Name("Name of this node; one of the members.")]
    data_dir: Annotated[
        str,
        FilePath("Directory of WAL, snapshots and identity; made if absent, used by one process."),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """[listen]: addresses to bind, which may differ from the advertised ones of the members."""

    client: Annotated[str, Address("Where clients connect with the Redis protocol.")]
    peer: Annotated[str, Address("Where the other members connect.")]
    admin: Annotated[str, Address("HTTP for health checks and metrics.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class DurabilityConfig:
    """[durability]: when a write is on the disk before it is acknowledged."""

    sync: Annotated[
        str,
        Choice(
            ("always", "interval", "never"),
            "`always`: before every acknowledgement. `interval`: every `sync_interval_ms`. "
            "`never`: when the operating system likes. The last two survive the loss of "
            "processes, not of power.",
        ),
    ] = "always"
    sync_interval_ms: Annotated[
        int, Number(10, 60_000, "ms", 'Time between two syncs with `sync = "interval"`.')
    ] = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadsConfig:
    """[reads]: what a read may miss."""

    level: Annotated[
        str,
        Choice(
            ("linearizable", "lease", "bounded", "stale"),
            "`linearizable`: sees every write acknowledged before the read began. `lease`: the "
            "same, at once on the leader, as long as clocks run at rates that differ by less "
            "than a tenth. `bounded`: what the asked node has applied, if nothing older than "
            "`staleness_ms_max` can be missing. `stale`: what the asked node has applied. A "
            "connection may choose with `RAFT READS`.",
        ),
    ] = "linearizable"
    staleness_ms_max: Annotated[
        int, Number(1, 3_600_000, "ms", "How old what a read at the level `bounded` sees may be.")
    ] = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WritesConfig:
    """[writes]: what a node that does not lead does with a request for the leader."""

    on_follower: Annotated[
        str,
        Choice(
            ("redirect", "proxy"),
            "`redirect`: answer `MOVED` with the leader's address. `proxy`: forward to the "
            "leader and relay its reply. A connection may choose with `RAFT ROUTING`.",
        ),
    ] = "redirect"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingConfig:
    """[timing]: milliseconds of the protocol. The same on every node."""

    heartbeat_ms: Annotated[
        int, Number(5, 10_000, "ms", "Time between two signs of life of the leader.")
    ] = 50
    election_timeout_ms: Annotated[
        tuple[int, int],
        NumberPair(
            20,
            60_000,
            "ms",
            "A follower that hears no leader for a random time in this range stands for "
            "election. At least three heartbeats, and apart by at least one.",
        ),
    ] = (300, 600)
    checkpoint_interval_ms: Annotated[
        int,
        Number(
            0,
            86_400_000,
            "ms",
            "How often the nodes compare all that they hold in memory, and not only before "
            "a snapshot. 0: only then.",
        ),
    ] = 600_000
    leader_wait_ms: Annotated[
        int,
        Number(
            0,
            REQUEST_TIMEOUT_MS_MAX - 1,
            "ms",
            "How long a request is held while no leader is known, before `CLUSTERDOWN`. "
            "Below `request_timeout_ms`.",
        ),
    ] = 2000
    request_timeout_ms: Annotated[
        int,
        Number(
            50,
            REQUEST_TIMEOUT_MS_MAX,
            "ms",
            "Deadline of a request in the cluster. Below the 5 s after which common clients "
            "give up and may send again.",
        ),
    ] = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """[limits]: every queue and size. Exceeding one is an error or back-pressure, never growth."""

    clients_max: Annotated[
        int, Number(1, 1_000_000, "connections", "Client connections at a time.")
    ] = 10_000
    key_bytes_max: Annotated[int, Number(1, 16 * MIB, "bytes", "Length of a key.")] = 64 * KIB
    value_bytes_max: Annotated[int, Number(1, 512 * MIB, "bytes", "Length of a value.")] = 4 * MIB
    request_bytes_max: Annotated[
        int,
        Number(
            KIB,
            GIB,
            "bytes",
            "Length of one request with all its arguments. Holds a largest key and value.",
        ),
    ] = 8 * MIB
    request_arguments_max: Annotated[
        int, Number(16, 1_048_576, "arguments", "Arguments of one request.")
    ] = 65_536
    pipeline_commands_max: Annotated[
        int,
        Number(
            1,
            1_048_576,
            "commands",
            "Unanswered commands of one connection, above which it is not read.",
        ),
    ] = 1024
    output_buffer_bytes_max: Annotated[
        int,
        Number(
            64 * KIB,
            4 * GIB,
            "bytes",
            "Replies that a slow client may leave unread before it is disconnected. Holds a "
            "largest value.",
        ),
    ] = 64 * MIB
    push_buffer_bytes_max: Annotated[
        int,
        Number(
            64 * KIB,
            4 * GIB,
            "bytes",
            "Messages that a slow subscriber may leave unread before it is told so and "
            "disconnected; a single one may be larger.",
        ),
    ] = 8 * MIB
    maxmemory: Annotated[
        int,
        Number(
            0,
            1 << 50,
            "bytes",
            "What all keys and values may count for before commands that may make them more are "
            "refused with `OOM`; 0 for no limit. The leader's setting holds on all nodes: the "
            "same on every node.",
        ),
    ] = 0
    blocked_keys_max: Annotated[
        int,
        Number(
            1,
            16_777_216,
            "keys",
            "Keys that the clients of a leader wait for, together; a blocking pop beyond them "
            "is refused when it finds nothing.",
        ),
    ] = 100_000
    idle_seconds_max: Annotated[
        int,
        Number(0, 31_536_000, "s", "Silence after which a client is disconnected; 0 for never."),
    ] = 0
    batch_bytes_max: Annotated[
        int,
        Number(
            4 * KIB,
            256 * MIB,
            "bytes",
            "Commands gathered into one log entry; a larger single command makes its own.",
        ),
    ] = 1 * MIB
    batch_commands_max: Annotated[
        int, Number(1, 1_048_576, "commands", "Commands gathered into one log entry.")
    ] = 4096
    uncommitted_bytes_max: Annotated[
        int,
        Number(
            64 * KIB,
            16 * GIB,
            "bytes",
            "Log not yet committed, above which the leader takes no request. Holds a largest "
            "request and a batch.",
        ),
    ] = 64 * MIB
    history_revisions: Annotated[
        int,
        Number(
            0,
            10_000_000,
            "revisions",
            "Newest revisions that can be watched and read, at least; 0 for as few as possible. "
            "The leader's setting counts for all nodes.",
        ),
    ] = 10_000
    history_bytes_max: Annotated[
        int,
        Number(
            64 * KIB,
            16 * GIB,
            "bytes",
            "Keys and replaced values in those revisions, with 160 bytes for each change, above "
            "which there are fewer. The leader's setting counts for all nodes.",
        ),
    ] = 64 * MIB
    append_bytes_max: Annotated[
        int,
        Number(
            4 * KIB,
            256 * MIB,
            "bytes",
            "Entries in one message to a peer, of which there are 512 at most; a larger single "
            "entry makes its own. Who gets it takes and writes it in one piece, which holds up "
            "its clients.",
        ),
    ] = 256 * KIB
    peer_frame_bytes_max: Annotated[
        int,
        Number(
            256 * KIB,
            2 * GIB,
            "bytes",
            "One message on a peer link. Holds a largest request with all that frames its "
            "arguments, or with one batch, append or snapshot chunk.",
        ),
    ] = 32 * MIB
    peer_queue_bytes_max: Annotated[
        int,
        Number(
            256 * KIB,
            16 * GIB,
            "bytes",
            "Messages waiting for a slow peer before its link is closed. Holds a largest message.",
        ),
    ] = 64 * MIB
    wal_segment_bytes: Annotated[
        int,
        Number(
            64 * KIB,
            2 * GIB,
            "bytes",
            "One file of the WAL, taken from the disk at once. Holds a largest request and a "
            "batch.",
        ),
    ] = 16 * MIB
    snapshot_log_bytes: Annotated[
        int,
        Number(64 * KIB, 64 * GIB, "bytes", "Log after which a snapshot is taken."),
    ] = 32 * MIB
    snapshot_keep_log_bytes: Annotated[
        int,
        Number(
            0,
            64 * GIB,
            "bytes",
            "Log kept behind a snapshot for followers that are a little late. At most "
            "`snapshot_log_bytes`.",
        ),
    ] = 4 * MIB
    log_memory_bytes_max: Annotated[
        int,
        Number(
            64 * KIB,
            64 * GIB,
            "bytes",
            "Newest part of the log that is kept in memory; older entries are read from the "
            "disk for a follower that needs them. What is not yet durable or not yet applied "
            "stays beyond it.",
        ),
    ] = 4 * MIB
    snapshot_chunk_bytes: Annotated[
        int,
        Number(4 * KIB, 64 * MIB, "bytes", "Piece in which a snapshot is written and sent."),
    ] = 256 * KIB
    leases_max: Annotated[
        int, Number(1, 100_000, "leases", "Leases at a time; each takes about 500 bytes.")
    ] = 50_000
    lease_keys_max: Annotated[
        int, Number(1, 10_000, "keys", "Keys bound to one lease, which end with it.")
    ] = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """[security]: how peers prove who they are."""

    peer_secret_file: Annotated[
        str,
        FilePath(
            "File with the secret that all members share, readable by its owner only. May be "
            "empty only while every peer address is a loopback address.",
            may_be_empty=True,
        ),
    ] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """[log]: what a node writes on standard error."""

    level: Annotated[
        str, Choice(("debug", "info", "warning", "error"), "Least severe line that is written.")
    ] = "info"
    format: Annotated[
        str, Choice(("text", "json"), "`text` for people, `json` for machines; one line an event.")
    ] = "text"


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
    log: LogConfig = field(default_factory=LogConfig)

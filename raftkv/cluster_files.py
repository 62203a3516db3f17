"""Writes the files of a new cluster: one config a node and the secret of the peers.

Owns the template of a config file, the ports of a local cluster and the places
of data and secret. `raftkv init` and `raftkv up` use it, and the files in
cluster-configs/ are what it writes: an installed package carries no such folder,
so the template lives here.

Invariants: nothing that exists is overwritten unless asked; the secret is never
readable by others, not even for a moment; a rendered file loads without a
problem or a warning (tests/unit/test_cluster_files.py).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from raftkv.config import MEMBERS_MAX, Config, ListenConfig, is_loopback
from raftkv.errors import ConfigError
from raftkv.types import Member, NodeId

LOCAL_HOST = "127.0.0.1"
BASE_PORT = 7001
# Distance of the three ports of one node: 7001 for clients, 7101 for peers, 7201 for HTTP.
PEER_PORT_STEP = 100
ADMIN_PORT_STEP = 200
DATA_DIRECTORY = "data"
PEER_SECRET_NAME = "peer.secret"
# Limit: the sum of the base port, the admin step and the nodes stays a port.
BASE_PORT_MAX = 65535 - ADMIN_PORT_STEP - MEMBERS_MAX
# Strength of the secret: as long as the digest of HMAC-SHA256 that is made with it.
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFiles:
    """What `write_cluster` left on the disk.

    Attributes:
        configs: One file a node, in the order of the members.
        peer_secret: File of the secret.
        members: The first cluster.
        used_data_directories: Those that hold the data of a node already.
    """

    configs: tuple[Path, ...]
    peer_secret: Path
    members: tuple[Member, ...]
    used_data_directories: tuple[Path, ...]


def local_members(nodes: int, *, base_port: int = BASE_PORT) -> tuple[Member, ...]:
    """Return the members n1, n2, ... of a cluster on this machine.

    Args:
        nodes: How many, 1..15.
        base_port: Client port of the first; the next ones follow.

    Raises:
        ConfigError: A number is out of its range.
    """
    problems = []
    if not 1 <= nodes <= MEMBERS_MAX:
        problems.append(f"nodes: {nodes} is out of range; allowed: 1..{MEMBERS_MAX}")
    if not 1 <= base_port <= BASE_PORT_MAX:
        problems.append(f"base port: {base_port} is out of range; allowed: 1..{BASE_PORT_MAX}")
    if problems:
        raise ConfigError(problems)
    return tuple(
        Member(
            id=NodeId(f"n{number}"),
            client=f"{LOCAL_HOST}:{base_port + number - 1}",
            peer=f"{LOCAL_HOST}:{base_port + PEER_PORT_STEP + number - 1}",
        )
        for number in range(1, nodes + 1)
    )


def render_node_config(
    *,
    node_id: str,
    data_dir: str,
    listen: ListenConfig,
    members: tuple[Member, ...],
    peer_secret_file: str,
) -> str:
    """Return the text of one config file: what differs between nodes, and the common choices.

    Limits are left out, so that a later version may bring better defaults.
    """
    member_tables = "\n\n".join(
        f"[[members]]\n"
        f"id = {_quoted(member.id)}\n"
        f"client = {_quoted(member.client)}\n"
        f"peer = {_quoted(member.peer)}"
        for member in members
    )
    return f"""\
# One node of a raftkv cluster. Start it with: raftkv start --config FILE
# Every setting, its range and its default: docs/reference/config.md

[node]
id = {_quoted(node_id)}
data_dir = {_quoted(data_dir)}  # relative to the working directory

[listen]
client = {_quoted(listen.client)}  # Redis protocol
peer = {_quoted(listen.peer)}  # the other members
admin = {_quoted(listen.admin)}  # HTTP: /livez /readyz /metrics

# The first cluster, the same in the file of every node. Addresses are those
# that clients and the other members dial.

{member_tables}

[durability]
sync = "always"  # always | interval | never

[reads]
level = "linearizable"  # linearizable | lease | bounded | stale

[writes]
on_follower = "redirect"  # redirect | proxy

[timing]
heartbeat_ms = 50
election_timeout_ms = [300, 600]
leader_wait_ms = 2000
request_timeout_ms = 4000

[security]
peer_secret_file = {_quoted(peer_secret_file)}  # mode 0600, the same on every node
"""


def write_cluster(
    directory: str | Path,
    *,
    nodes: int = 3,
    base_port: int = BASE_PORT,
    data_directory: str = DATA_DIRECTORY,
    working_directory: str | Path = ".",
    overwrite: bool = False,
) -> ClusterFiles:
    """Write `node1.toml`, `node2.toml`, ... for a local cluster, and its peer secret.

    Args:
        directory: Where the config files go; made if absent.
        nodes: How many, 1..15.
        base_port: Client port of the first node.
        data_directory: Holds the data of every node and the secret; written
            into the files as it is.
        working_directory: Where the nodes will be started, from which a
            relative `data_directory` is reckoned.
        overwrite: Replace config files that exist. An existing secret is
            always kept: running nodes may be using it.

    Raises:
        ConfigError: A number is out of range, a file exists, or cannot be written.
    """
    members = local_members(nodes, base_port=base_port)
    data_path = data_directory.rstrip("/") or data_directory
    secret_file = f"{data_path}/{PEER_SECRET_NAME}"
    texts = {
        Path(directory) / f"node{number}.toml": render_node_config(
            node_id=member.id,
            data_dir=f"{data_path}/{member.id}",
            listen=ListenConfig(
                client=member.client,
                peer=member.peer,
                admin=f"{LOCAL_HOST}:{base_port + ADMIN_PORT_STEP + number - 1}",
            ),
            members=members,
            peer_secret_file=secret_file,
        )
        for number, member in enumerate(members, start=1)
    }
    existing = [path for path in texts if path.exists()]
    if existing and not overwrite:
        raise ConfigError([f"{path}: exists; nothing was written" for path in existing])
    secret_path = Path(working_directory) / secret_file
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        ensure_peer_secret(secret_path)
    except OSError as error:
        where = error.filename or directory
        raise ConfigError([f"{where}: cannot be written: {error.strerror or error}"]) from None
    homes = [Path(working_directory) / data_path / member.id for member in members]
    return ClusterFiles(
        configs=tuple(texts),
        peer_secret=secret_path,
        members=members,
        used_data_directories=tuple(home for home in homes if (home / "identity").exists()),
    )


def ensure_local_peer_secret(config: Config) -> bool:
    """Make the secret that a config names, if all of its nodes are on this machine.

    For `raftkv start` with the files of a fresh checkout, which carries no
    secret. Across machines each node would make its own and refuse the others,
    so there a missing file stays an error.

    Returns:
        Whether this call made it.

    Raises:
        ConfigError: The file cannot be made.
    """
    path = config.security.peer_secret_file
    addresses = [config.listen.peer, *(member.peer for member in config.members)]
    if not path or not all(is_loopback(address) for address in addresses):
        return False
    try:
        return ensure_peer_secret(Path(path))
    except OSError as error:
        problem = f"{path} cannot be made: {error.strerror or error}"
        raise ConfigError([f"security.peer_secret_file: {problem}"]) from None


def ensure_peer_secret(path: Path) -> bool:
    """Make a random secret of mode 0600, unless there is one.

    Safe when several processes do it at once: all of them end up with the
    same, whole secret.

    Returns:
        Whether this call made it.

    Raises:
        OSError: The directory or the file cannot be made.
    """
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link fails where the name exists; a rename would replace another's secret.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _quoted(text: str) -> str:
    """Write a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(_escape_control(letter) for letter in escaped) + '"'


def _escape_control(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if ord(letter) < 32 or ord(letter) == 127 else letter

"""Configuration entries: who belongs to the cluster, as bytes and in force.

An entry holds the whole resulting member list (voters, learners, addresses,
disk ids), not a delta, so that a single entry says everything. The
configuration in force is that of the last such entry in the log, committed or
not, else the snapshot's, else the one of the config file; a truncation of the
log rolls it back (finding K).

Pure. Users: engine.syncobj_membership, snapshots (through SnapshotMeta).
"""

from __future__ import annotations

import msgspec

from raftkv.errors import ProtocolError
from raftkv.types import Configuration, Index, Member, NodeId

FORMAT_VERSION = 1

_Wire = tuple[int, str, list[tuple[str, str, str, str, bool]]]
_DECODER: msgspec.msgpack.Decoder[_Wire] = msgspec.msgpack.Decoder(_Wire)


def encode_configuration(configuration: Configuration) -> bytes:
    """Return the payload of a configuration entry."""
    members = [
        (member.id, member.client, member.peer, member.disk_id, member.voter)
        for member in configuration.members
    ]
    return msgspec.msgpack.encode((FORMAT_VERSION, configuration.cluster_id, members))


def decode_configuration(payload: bytes | memoryview) -> Configuration:
    """Return the configuration in the payload of an entry.

    Raises:
        ProtocolError: Not a configuration, or of an unknown version.
    """
    try:
        version, cluster_id, members = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a configuration: {error}") from None
    if version != FORMAT_VERSION:
        raise ProtocolError(f"configuration of unknown version {version}")
    return Configuration(
        cluster_id,
        tuple(
            Member(id=NodeId(node_id), client=client, peer=peer, disk_id=disk_id, voter=voter)
            for node_id, client, peer, disk_id, voter in members
        ),
    )


class ConfigurationHistory:
    """The configurations that the log holds, with the one in force on top."""

    def __init__(self, base: Configuration) -> None:
        self._stack: list[tuple[Index, Configuration]] = [(Index(0), base)]

    @property
    def in_force(self) -> Configuration:
        """That of the last configuration entry, committed or not."""
        return self._stack[-1][1]

    @property
    def last_index(self) -> Index:
        """Where the one in force was written; 0 for the base."""
        return self._stack[-1][0]

    def at(self, index: Index) -> Configuration:
        """Return the newest one at or below `index`."""
        for position, configuration in reversed(self._stack):
            if position <= index:
                return configuration
        return self._stack[0][1]

    def append(self, index: Index, configuration: Configuration) -> None:
        """Note a configuration entry that was added to the log."""
        self._stack.append((index, configuration))

    def truncate(self, first: Index) -> bool:
        """Forget those at `first` and above; say whether the one in force changed."""
        count = len(self._stack)
        while len(self._stack) > 1 and self._stack[-1][0] >= first:
            self._stack.pop()
        return len(self._stack) != count

    def compact(self, index: Index) -> None:
        """Make the newest one at or below `index` the base."""
        while len(self._stack) > 1 and self._stack[1][0] <= index:
            self._stack.pop(0)

    def reset(self, index: Index, base: Configuration) -> None:
        """Start again behind a snapshot."""
        self._stack = [(index, base)]

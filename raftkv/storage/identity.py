"""Who a data directory belongs to: cluster, node and disk.

Owns the file `identity`: one checksummed frame, replaced atomically. It is
written and synced before the node votes for the first time, so a directory
without it has never voted.

The disk id names the directory, not the node: a node whose directory was wiped
comes back with another disk id, which the cluster must admit before its votes
and acknowledgements count.

Layout: docs/reference/formats.md. Who calls: the composition root at start,
and the replica when the cluster id becomes known or the node is admitted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from raftkv.errors import IdentityRefusedError
from raftkv.framing import HEADER_SIZE, decode_frame_header, encode_frame, verify_frame
from raftkv.seams import Disk
from raftkv.storage.damage import damaged, too_new

IDENTITY_NAME = "identity"
KIND_IDENTITY = 64
VERSION = 1

_TEMPORARY_NAME = "identity.new"
_FIXED = struct.Struct("<HBBBBH")  # version, flags, three lengths, zero
_FLAG_ADMITTED = 1
_FLAG_WAL_CREATED = 2
# Limit: ids are at most 255 bytes, so the whole file is below 1 KiB.
_SIZE_MAX = HEADER_SIZE + _FIXED.size + 3 * 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the file `identity` says.

    Attributes:
        cluster_id: 32 hex digits, or empty while the cluster is being founded.
        node_id: Name of the node that owns this directory.
        disk_id: 32 hex digits, random, made with the directory.
        admitted: The cluster counts this disk's votes and acknowledgements.
        wal_created: The WAL exists; if it is missing later, data was lost.
    """

    cluster_id: str
    node_id: str
    disk_id: str
    admitted: bool = False
    wal_created: bool = False


def load_identity(disk: Disk, *, node_id: str) -> Identity | None:
    """Read the identity of a data directory.

    Args:
        disk: The data directory.
        node_id: Name of the node that is being started.

    Returns:
        None when the directory has none: it is new.

    Raises:
        DamagedDataError: The file is damaged or of a later version.
        IdentityRefusedError: The directory belongs to another node.
    """
    try:
        file = disk.open(IDENTITY_NAME)
    except FileNotFoundError:
        return None
    try:
        data = file.read(0, _SIZE_MAX + 1)
    finally:
        file.close()
    identity = _decode(disk, data)
    if identity.node_id != node_id:
        raise IdentityRefusedError(
            f"{disk.path('')} belongs to node {identity.node_id!r}, not to {node_id!r}"
        )
    return identity


def save_identity(disk: Disk, identity: Identity) -> None:
    """Replace the identity; it is durable on return.

    A crash leaves the old or the new one, never a mixture.

    Raises:
        DiskFullError: The old identity is still in place.
        DiskFailedError: The node must stop.
    """
    if disk.exists(_TEMPORARY_NAME):
        disk.remove(_TEMPORARY_NAME)
    file = disk.open(_TEMPORARY_NAME, create=True)
    try:
        file.write(_encode(identity), 0)
        file.sync()
    finally:
        file.close()
    disk.rename(_TEMPORARY_NAME, IDENTITY_NAME)
    disk.sync_directory("")


def _encode(identity: Identity) -> bytes:
    cluster_id = identity.cluster_id.encode()
    node_id = identity.node_id.encode()
    disk_id = identity.disk_id.encode()
    flags = _FLAG_ADMITTED * identity.admitted | _FLAG_WAL_CREATED * identity.wal_created
    fixed = _FIXED.pack(VERSION, flags, len(cluster_id), len(node_id), len(disk_id), 0)
    return encode_frame(KIND_IDENTITY, fixed + cluster_id + node_id + disk_id)


def _decode(disk: Disk, data: bytes) -> Identity:
    header = decode_frame_header(data)
    body = data[HEADER_SIZE:]
    if header is None or header.kind != KIND_IDENTITY or not verify_frame(header, body):
        raise damaged(disk, IDENTITY_NAME, 0, "the identity frame is damaged")
    version = int.from_bytes(body[:2], "little")
    if version > VERSION:
        raise too_new(disk, IDENTITY_NAME, version=version, supported=VERSION)
    try:
        return _decode_body(body)
    except (struct.error, ValueError) as error:
        detail = f"the identity does not add up: {error}"
        raise damaged(disk, IDENTITY_NAME, HEADER_SIZE, detail) from error


def _decode_body(body: bytes) -> Identity:
    """Read what a verified frame holds; struct.error or ValueError if it does not add up."""
    _version, flags, *lengths, _zero = _FIXED.unpack_from(body)
    if len(body) != _FIXED.size + sum(lengths):
        raise ValueError("its lengths differ")
    texts = []
    position = _FIXED.size
    for length in lengths:
        texts.append(body[position : position + length].decode())
        position += length
    return Identity(
        cluster_id=texts[0],
        node_id=texts[1],
        disk_id=texts[2],
        admitted=bool(flags & _FLAG_ADMITTED),
        wal_created=bool(flags & _FLAG_WAL_CREATED),
    )

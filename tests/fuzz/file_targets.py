"""Fuzz targets for what is read from files: WAL, snapshots, identity, config."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib

from raftkv.cluster_files import local_members, render_node_config
from raftkv.config import ListenConfig
from raftkv.errors import ConfigError, DamagedDataError, IdentityRefusedError, ProtocolError
from raftkv.framing import HEADER_SIZE
from raftkv.settings import parse_config
from raftkv.storage.identity import IDENTITY_NAME, Identity, load_identity, save_identity
from raftkv.storage.snapshot_format import FOOTER_SIZE, KIND_FOOTER
from raftkv.storage.snapshots import SnapshotStore
from raftkv.storage.wal_format import segment_tag
from tests.fuzz.target import Script, Target, frame_ends, sign, signed, some
from tests.unit.storage.crashing_disk import Content, CrashingDisk
from tests.unit.storage.wal_steps import recover, segments, three_segments

# ------------------------------------------------------------------------- WAL


@functools.cache
def _whole_wal() -> CrashingDisk:
    return three_segments()[0]


@functools.cache
def _whole_entries() -> tuple[object, ...]:
    return tuple(recover(copy.deepcopy(_whole_wal()))[1].entries)


def _sign_segment(data: bytearray) -> None:
    """Make header and frames of one segment fit each other again."""
    tag = b""
    for first, end in frame_ends(data):
        if first == 0:
            sign(data, first, end)
            tag = segment_tag(bytes(data[:end]))
        elif end >= first + HEADER_SIZE + len(tag):
            data[first + HEADER_SIZE : first + HEADER_SIZE + len(tag)] = tag
            sign(data, first, end)


def run_wal(data: bytes) -> None:
    """Any change of the segments: refused as damage, or a log without gaps that stays."""
    script = Script(data)
    flags = script.number()
    disk = copy.deepcopy(_whole_wal())
    while script:
        names = segments(disk)
        content = disk.seen[names[script.number() % len(names)]].seen
        position, action = script.number(2), script.number()
        piece = script.some()
        if action == 0:
            del content[position:]
        elif action == 1:
            content[position : position + len(piece)] = bytes(len(piece))
        else:
            content[position : position + len(piece)] = piece
    if flags & 1:
        for name in segments(disk):
            _sign_segment(disk.seen[name].seen)
    try:
        wal, log = recover(disk)
    except DamagedDataError as error:
        assert error.file
        assert error.advice
        return
    wal.close()
    indexes = [index for _, index, _ in log.entries]
    assert indexes == list(range(log.base_index + 1, log.base_index + 1 + len(indexes)))
    if not flags & 1:
        first = log.base_index
        assert tuple(log.entries) == _whole_entries()[first : first + len(log.entries)]
    wal, again = recover(disk.kill())
    wal.close()
    assert again.entries == log.entries
    assert again.hard_state == log.hard_state


def wal_seeds() -> list[bytes]:
    def edit(segment: int, position: int, action: int, piece: bytes) -> bytes:
        return bytes((segment,)) + position.to_bytes(2, "little") + bytes((action,)) + some(piece)

    edits = [
        b"",
        edit(0, 300, 2, b"\xff"),
        edit(2, 1400, 1, b"z" * 400),
        edit(2, 1500, 0, b""),
        edit(1, 16, 2, bytes(150)),
        edit(2, 120, 2, b"\x10\x00\x00\x00") + edit(1, 8, 2, b"\x01"),
    ]
    return [bytes((flags,)) + each for each in edits for flags in (0, 1)]


# ------------------------------------------------------------------- snapshots


@functools.cache
def _whole_snapshot() -> tuple[str, bytes, str]:
    """Name, bytes and content id of a small snapshot."""
    from tests.unit.storage.test_snapshots import write

    disk = CrashingDisk()
    write(disk, 6, [b"abc" * 50, b"", b"x" * 700, b"y"], chunk_bytes=512)
    store = SnapshotStore(disk)
    (name,) = store.names()
    raw = store.open_raw(name)
    data = raw.read(0, raw.size)
    raw.close()
    return name, data, raw.content_id


def _sign_snapshot(data: bytes) -> bytes:
    """Make checksums and the digest of the whole file fit."""
    buffer = bytearray(signed(data))
    first = len(buffer) - FOOTER_SIZE
    if first > 0 and buffer[first + 4 : first + 5] == bytes((KIND_FOOTER,)):
        digest = hashlib.blake2b(buffer[:first], digest_size=32).digest()
        buffer[len(buffer) - 32 :] = digest
        sign(buffer, first, len(buffer))
    return bytes(buffer)


def run_snapshot(data: bytes) -> None:
    """Any bytes in the place of a snapshot file: refused as damage, or whole pieces."""
    script = Script(data)
    flags, found = script.number(), script.rest()
    if flags & 1:
        found = _sign_snapshot(found)
    name, whole, content_id = _whole_snapshot()
    disk = CrashingDisk()
    SnapshotStore(disk)
    disk.seen[name] = Content(found)
    try:
        reader = SnapshotStore(disk).reader(name)
        pieces = list(reader)
        reader.close()
    except DamagedDataError as error:
        assert error.file
    else:
        assert flags & 1 or found == whole
        assert all(type(piece) is bytes for piece in pieces)
    # The same bytes from a peer, under the name of the whole content.
    with contextlib.suppress(ProtocolError):
        receiver = SnapshotStore(CrashingDisk()).receiver(content_id, len(found))
        receiver.write(0, found)
        receiver.finish()
        assert flags & 1 or found == whole


def snapshot_seeds() -> list[bytes]:
    return [b"\0" + _whole_snapshot()[1], b"\1" + _whole_snapshot()[1]]


# -------------------------------------------------------------------- identity


def _identity_bytes(identity: Identity) -> bytes:
    disk = CrashingDisk()
    save_identity(disk, identity)
    return bytes(disk.seen[IDENTITY_NAME].seen)


def run_identity(data: bytes) -> None:
    """Any bytes in the place of the identity: refused, or an identity that comes back."""
    script = Script(data)
    flags, found = script.number(), script.rest()
    disk = CrashingDisk()
    disk.seen[IDENTITY_NAME] = Content(signed(found) if flags & 1 else found)
    try:
        identity = load_identity(disk, node_id="n1")
    except (DamagedDataError, IdentityRefusedError):
        return
    assert identity is not None
    save_identity(disk, identity)
    assert load_identity(disk, node_id="n1") == identity


def identity_seeds() -> list[bytes]:
    mine = _identity_bytes(
        Identity(cluster_id="c" * 32, node_id="n1", disk_id="d" * 32, admitted=True)
    )
    other = _identity_bytes(Identity(cluster_id="", node_id="n2", disk_id=""))
    return [bytes((flags,)) + data for flags in (0, 1) for data in (mine, other)]


# ---------------------------------------------------------------------- config

_SEPARATOR = b"\0"


def run_config(data: bytes) -> None:
    """Any text of a file and of flags: settings, or problems that a terminal can show."""
    file, *flags = data.split(_SEPARATOR)
    try:
        loaded = parse_config(
            file.decode("utf-8", "replace"),
            source="node.toml",
            overrides=[flag.decode("utf-8", "replace") for flag in flags],
        )
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.isprintable(), problem
        return
    config = loaded.config
    assert len({value.key for value in loaded.values}) == len(loaded.values)
    text = render_node_config(
        node_id=config.node.id,
        data_dir=config.node.data_dir,
        listen=config.listen,
        members=config.members,
        peer_secret_file=config.security.peer_secret_file,
    )
    again = parse_config(text, source="again").config
    assert (again.node, again.listen, again.members) == (config.node, config.listen, config.members)
    assert again.security == config.security


def config_seeds() -> list[bytes]:
    members = local_members(3)
    text = render_node_config(
        node_id="n1",
        data_dir="data/n1",
        listen=ListenConfig(client=members[0].client, peer=members[0].peer, admin="127.0.0.1:7201"),
        members=members,
        peer_secret_file="data/peer.secret",
    ).encode()
    return [
        text,
        text + b"[limits]\nclients_max = 10\n[log]\nlevel = 'debug'\n",
        text + _SEPARATOR + b"timing.heartbeat_ms=60" + _SEPARATOR + b"listen.client=[::1]:9",
        b"[node]\nid = 5\n[timings]\nheartbeat_ms = 1\n" + _SEPARATOR + b"members=[]",
    ]


TARGETS = {
    "wal": Target(run_wal, wal_seeds),
    "snapshot": Target(run_snapshot, snapshot_seeds),
    "identity": Target(run_identity, identity_seeds),
    "config": Target(run_config, config_seeds),
}

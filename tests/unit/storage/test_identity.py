"""The identity of a data directory: whole or not at all."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from raftkv.errors import DamagedDataError, DiskFullError, IdentityRefusedError
from raftkv.framing import encode_frame
from raftkv.storage.identity import KIND_IDENTITY, Identity, load_identity, save_identity
from tests.unit.storage.crashing_disk import CrashingDisk, PowerCutError

IDENTITY = Identity(
    cluster_id="c" * 32, node_id="n1", disk_id="d" * 32, admitted=True, wal_created=False
)


@pytest.mark.parametrize("admitted", [True, False])
@pytest.mark.parametrize("wal_created", [True, False])
@pytest.mark.parametrize("cluster_id", ["", "c" * 32])
def test_every_field_comes_back(admitted: bool, wal_created: bool, cluster_id: str) -> None:
    disk = CrashingDisk()
    identity = replace(
        IDENTITY,
        cluster_id=cluster_id,
        admitted=admitted,
        wal_created=wal_created,
        node_id="knöten-1",
    )
    assert load_identity(disk, node_id="n1") is None
    save_identity(disk, identity)
    assert load_identity(disk.crash(), node_id="knöten-1") == identity


def test_a_crash_leaves_the_old_or_the_new_one() -> None:
    other = replace(IDENTITY, admitted=False, cluster_id="")
    found = []
    for cut in range(12):
        disk = CrashingDisk()
        save_identity(disk, other)
        disk.steps, disk.steps_max = 0, cut
        try:
            save_identity(disk, IDENTITY)
            finished = True
        except PowerCutError:
            finished = False
        for survive in (True, False):
            after = disk.crash(choose_names=lambda ordinal, survive=survive: survive)
            loaded = load_identity(after, node_id="n1")
            assert loaded == IDENTITY if finished else loaded in (IDENTITY, other)
            found.append(loaded)
            # What the crash left behind does not stand in the way.
            save_identity(after, IDENTITY)
            assert load_identity(after.crash(), node_id="n1") == IDENTITY
    assert {IDENTITY, other} == set(found)


def test_every_flipped_bit_is_damage() -> None:
    disk = CrashingDisk()
    save_identity(disk, IDENTITY)
    size = len(disk.seen["identity"].seen)
    for position in range(size):
        for bit in range(8):
            copy = disk.crash()
            copy.flip("identity", position, bit)
            with pytest.raises(DamagedDataError) as caught:
                load_identity(copy, node_id="n1")
            assert caught.value.file == "/data/identity"
            assert "delete the directory" in caught.value.advice


@pytest.mark.parametrize("change", [-1, -80, 1])
def test_another_length_is_damage(change: int) -> None:
    disk = CrashingDisk()
    save_identity(disk, IDENTITY)
    data = disk.seen["identity"].seen
    disk.seen["identity"].seen = data[:change] if change < 0 else data + b"x"
    with pytest.raises(DamagedDataError):
        load_identity(disk, node_id="n1")


@pytest.mark.parametrize(
    "body",
    [b"", b"\x01\x00\x00", struct.pack("<HBBBBH", 1, 0, 0, 3, 0, 0) + b"n1",
     struct.pack("<HBBBBH", 1, 0, 0, 2, 0, 0) + b"n\xff"],
)  # fmt: skip
def test_an_intact_frame_that_does_not_add_up_is_damage(body: bytes) -> None:
    disk = CrashingDisk()
    disk.open("identity", create=True).write(encode_frame(KIND_IDENTITY, body), 0)
    with pytest.raises(DamagedDataError, match="does not add up"):
        load_identity(disk, node_id="n1")


def test_another_nodes_directory_is_refused() -> None:
    disk = CrashingDisk()
    save_identity(disk, IDENTITY)
    with pytest.raises(IdentityRefusedError, match="belongs to node 'n1', not to 'n2'"):
        load_identity(disk, node_id="n2")


def test_a_later_version_is_named() -> None:
    disk = CrashingDisk()
    body = (2).to_bytes(2, "little") + b"whatever a later version writes"
    disk.open("identity", create=True).write(encode_frame(KIND_IDENTITY, body), 0)
    with pytest.raises(DamagedDataError, match="format version 2; this raftkv reads up to 1"):
        load_identity(disk, node_id="n1")


def test_a_full_disk_leaves_the_old_one() -> None:
    disk = CrashingDisk()
    save_identity(disk, IDENTITY)
    disk.capacity_bytes = disk.used_bytes() + 10
    with pytest.raises(DiskFullError):
        save_identity(disk, replace(IDENTITY, admitted=False))
    assert load_identity(disk.kill(), node_id="n1") == IDENTITY

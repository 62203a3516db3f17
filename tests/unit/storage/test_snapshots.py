"""Snapshots: whole, verified and durable, or not there."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import DamagedDataError, DiskFailedError, DiskFullError, ProtocolError
from raftkv.storage.snapshots import SnapshotStore, snapshot_name
from raftkv.storage.spread_syncs import UNSYNCED_BYTES_MAX
from raftkv.types import Configuration, Index, Member, NodeId, SnapshotMeta, Term
from tests.sim.disk import SimDisk
from tests.sim.world import World
from tests.unit.storage.crashing_disk import CrashingDisk, PowerCutError

MEMBERS = (
    Member(id=NodeId("n1"), client="127.0.0.1:7001", peer="127.0.0.1:7101", disk_id="a" * 32),
    Member(id=NodeId("n2"), client="[::1]:7002", peer="[::1]:7102", voter=False),
)


def meta_at(index: int, term: int = 3) -> SnapshotMeta:
    return SnapshotMeta(
        index=Index(index),
        term=Term(term),
        configuration=Configuration("c" * 32, MEMBERS),
        state_hash=bytes(range(16)),
        image_hash=b"",
        log_time_ms=1_700_000_000_000,
        lease_time_ms=12_345,
        revision=77,
        keys=1_000,
    )


WHOLE_META = dataclasses.replace(meta_at(6), image_hash=b"i" * 16)


def pieces_of(seed: int, count: int = 30, size: int = 2_000) -> list[bytes]:
    chance = random.Random(seed)
    return [bytes(chance.choices(b"abcdefgh", k=chance.randrange(size))) for _ in range(count)]


def write(
    disk: CrashingDisk, index: int, pieces: list[bytes] | None = None, chunk_bytes: int = 4096
) -> SnapshotMeta:
    store = SnapshotStore(disk, chunk_bytes=chunk_bytes)
    meta = meta_at(index)
    writer = store.writer(meta)
    for piece in pieces_of(index) if pieces is None else pieces:
        writer.write(piece)
    *_, finished = writer.finish(dataclasses.replace(meta, image_hash=b"i" * 16))
    assert finished is not None
    return finished


def read(disk: CrashingDisk, name: str) -> list[bytes]:
    reader = SnapshotStore(disk).reader(name)
    try:
        return list(reader)
    finally:
        reader.close()


def size_of(disk: CrashingDisk, name: str) -> int:
    return len(disk.seen[name].seen)


# -------------------------------------------------------------------- writing


@given(
    pieces=st.lists(st.binary(max_size=300), max_size=40),
    chunk_bytes=st.integers(1, 400),
)
def test_pieces_come_back_as_they_were(pieces: list[bytes], chunk_bytes: int) -> None:
    disk = CrashingDisk()
    written = write(disk, 9, pieces, chunk_bytes)
    store = SnapshotStore(disk.crash())
    assert store.names() == ["snapshots/00000000000000000009-0000000003.snapshot"]
    assert store.newest() == written
    assert written == dataclasses.replace(meta_at(9), image_hash=b"i" * 16)
    assert list(store.reader(written)) == pieces


def test_many_small_pieces_share_a_chunk_and_compress() -> None:
    disk = CrashingDisk()
    pieces = [b"key-%06d" % number for number in range(10_000)]
    meta = write(disk, 1, pieces, 256 * 1024)
    assert size_of(disk, snapshot_name(meta)) < 100_000
    assert read(disk, snapshot_name(meta)) == pieces


def test_there_may_be_none() -> None:
    store = SnapshotStore(CrashingDisk())
    assert store.newest() is None
    assert store.names() == []
    with pytest.raises(FileNotFoundError):
        store.meta("snapshots/00000000000000000009-0000000003.snapshot")


def test_a_crash_at_any_moment_leaves_the_old_or_the_new_one() -> None:
    whole = set()
    for cut in range(60):
        disk = CrashingDisk()
        write(disk, 5)
        disk.steps, disk.steps_max = 0, cut
        try:
            write(disk, 8)
            finished = True
        except PowerCutError:
            finished = False
        for survive in (True, False):
            after = disk.crash(
                lambda name, ordinal, size: (0, size),
                choose_names=lambda ordinal, survive=survive: survive,
            )
            store = SnapshotStore(after)
            newest = store.newest()
            assert newest is not None
            assert newest.index in ((8,) if finished else (5, 8))
            assert list(store.reader(newest)) == pieces_of(newest.index)
            assert [name for name in after.seen if "writing" in name] == []
            whole.add(newest.index)
    assert whole == {5, 8}


def test_a_snapshot_that_is_given_up_leaves_nothing() -> None:
    disk = CrashingDisk()
    store = SnapshotStore(disk)
    writer = store.writer(meta_at(4))
    writer.write(b"x" * 1000)
    writer.abort()
    writer.abort()
    assert disk.seen == {}
    # A new one may start over one that nobody ended.
    store.writer(meta_at(4)).write(b"x")
    writer = store.writer(meta_at(4))
    list(writer.finish(dataclasses.replace(meta_at(4), image_hash=b"i" * 16)))
    writer.abort()
    assert len(store.names()) == 1


def test_the_meta_at_the_end_must_be_the_one_at_the_start() -> None:
    writer = SnapshotStore(CrashingDisk()).writer(meta_at(4))
    with pytest.raises(ValueError, match="another state"):
        list(writer.finish(dataclasses.replace(meta_at(5), image_hash=b"i" * 16)))


@pytest.mark.parametrize("field", ["state_hash", "image_hash"])
def test_hashes_have_sixteen_bytes(field: str) -> None:
    disk = CrashingDisk()
    meta = dataclasses.replace(meta_at(4), **{field: b"short"})
    with pytest.raises(ValueError, match="not 16"):
        list(
            SnapshotStore(disk).writer(meta).finish(dataclasses.replace(meta, image_hash=b"short"))
        )


def test_a_full_disk_gives_the_space_back() -> None:
    disk = CrashingDisk(capacity_bytes=30_000)
    store = SnapshotStore(disk, chunk_bytes=1000)
    with pytest.raises(DiskFullError, match="free bytes"):
        store.writer(meta_at(4), expected_bytes=30_001)
    writer = store.writer(meta_at(4))
    chance = random.Random(1)
    pieces = [chance.randbytes(1000) for _ in range(100)]
    with pytest.raises(DiskFullError, match="no space"):
        list(map(writer.write, pieces))
    assert disk.seen == {}
    writer.abort()


def test_a_disk_that_fails_its_syncs_stops_the_node() -> None:
    disk = CrashingDisk()
    store = SnapshotStore(disk)
    writer = store.writer(meta_at(4))
    disk.fails_sync = True
    with pytest.raises(DiskFailedError):
        list(writer.finish(dataclasses.replace(meta_at(4), image_hash=b"i" * 16)))
    assert store.names() == []


def test_a_large_file_is_synced_while_it_grows() -> None:
    disk = CrashingDisk()
    sender = SnapshotStore(disk)
    chance = random.Random(1)
    writer = sender.writer(meta_at(4))
    for _ in range(40):
        writer.write(chance.randbytes(UNSYNCED_BYTES_MAX // 16))
    assert len(disk.seen["snapshots/writing"].durable) >= UNSYNCED_BYTES_MAX
    *_, meta = writer.finish(dataclasses.replace(meta_at(4), image_hash=b"i" * 16))
    raw = sender.open_raw(meta)
    other = CrashingDisk()
    receiver = SnapshotStore(other).receiver(raw.content_id, raw.size)
    receiver.write(0, raw.read(0, raw.size - 1))
    assert other.seen[f"snapshots/{raw.content_id}.part"].durable


def test_bytes_that_changed_while_writing_are_noticed_before_the_name_is_given() -> None:
    disk = CrashingDisk()
    store = SnapshotStore(disk, chunk_bytes=100)
    writer = store.writer(meta_at(4))
    for piece in pieces_of(4):
        writer.write(piece)
    disk.seen["snapshots/writing"].seen[700] ^= 8
    with pytest.raises(DamagedDataError):
        list(writer.finish(dataclasses.replace(meta_at(4), image_hash=b"i" * 16)))
    assert store.names() == []


# --------------------------------------------------------------------- damage


def test_every_kind_of_flip_is_damage_with_its_position() -> None:
    disk = CrashingDisk()
    name = snapshot_name(write(disk, 6))
    size = size_of(disk, name)
    chance = random.Random(2)
    positions = {*range(300), *range(size - 100, size), *chance.sample(range(size), 200)}
    for position in sorted(positions):
        copy = disk.crash()
        copy.flip(name, position, chance.randrange(8))
        with pytest.raises(DamagedDataError) as caught:
            read(copy, name)
        assert caught.value.file == copy.path(name)
        assert caught.value.position <= position
        assert "delete the directory" in caught.value.advice


@pytest.mark.parametrize("change", [-1, -88, -89, -2000, 1, 100])
def test_another_length_is_damage(change: int) -> None:
    disk = CrashingDisk()
    name = snapshot_name(write(disk, 6))
    data = disk.seen[name].seen
    disk.seen[name].seen = data[:change] if change < 0 else data + bytes(change)
    with pytest.raises(DamagedDataError):
        read(disk, name)
    with pytest.raises(DamagedDataError):
        SnapshotStore(disk).newest()


def test_a_snapshot_under_another_name_is_damage() -> None:
    disk = CrashingDisk()
    name = snapshot_name(write(disk, 6))
    disk.rename(name, snapshot_name(meta_at(7)))
    with pytest.raises(DamagedDataError, match="under another name"):
        SnapshotStore(disk).newest()


def test_chunks_that_changed_places_are_damage() -> None:
    from raftkv.storage.snapshot_format import read_frame

    disk = CrashingDisk()
    name = snapshot_name(write(disk, 6, [b"a" * 50, b"b" * 50], chunk_bytes=10))
    file = disk.open(name)
    size = file.size()
    frames = []
    position = 0
    while position < size:
        header, head, body = read_frame(file, position, size)
        frames.append(head + body)
        position += 16 + header.length
    assert len(frames) == 4
    data = b"".join([frames[0], frames[2], frames[1], frames[3]])
    disk.seen[name].seen[:] = data
    with pytest.raises(DamagedDataError, match="chunk 1 stands where 0 belongs"):
        read(disk, name)


# -------------------------------------------------------------------- pruning


def test_pruning_keeps_the_newest_and_the_pinned() -> None:
    disk = CrashingDisk()
    names = [snapshot_name(write(disk, index)) for index in (5, 80, 900, 1000)]
    store = SnapshotStore(disk)
    assert store.prune(keep=2, pinned=[names[0]]) == [names[1]]
    assert SnapshotStore(disk.crash()).names() == [names[0], names[2], names[3]]
    raw = store.open_raw(names[0])
    assert store.prune() == [names[0]]
    assert len(raw.read(0, raw.size)) == raw.size  # What is open stays readable.
    assert store.prune() == []


# ------------------------------------------------------------------ receiving


def sent(disk: CrashingDisk, index: int) -> tuple[str, bytes]:
    """Content id and bytes of a snapshot on another node."""
    raw = SnapshotStore(disk).open_raw(snapshot_name(meta_at(index)))
    data = b"".join(raw.read(offset, 1000) for offset in range(0, raw.size, 1000))
    assert raw.read(raw.size, 10) == b""
    assert len(data) == raw.size
    return raw.content_id, data


@pytest.fixture(scope="module")
def source() -> tuple[str, bytes]:
    disk = CrashingDisk()
    write(disk, 6)
    return sent(disk, 6)


def test_a_received_snapshot_is_as_good_as_a_written_one(source: tuple[str, bytes]) -> None:
    content, data = source
    disk = CrashingDisk()
    receiver = SnapshotStore(disk).receiver(content, len(data))
    for offset in range(0, len(data), 700):
        assert receiver.offset == offset
        receiver.write(offset, data[offset : offset + 700])
    with pytest.raises(ProtocolError):
        receiver.write(len(data), b"x")
    meta = receiver.finish()
    receiver.abort()
    after = disk.crash()
    assert SnapshotStore(after).newest() == meta
    assert read(after, snapshot_name(meta)) == pieces_of(6)
    assert sent(after, 6) == source


def test_equal_content_has_one_id_and_other_content_another() -> None:
    disks = [CrashingDisk() for _ in range(3)]
    write(disks[0], 6)
    write(disks[1], 6)
    write(disks[2], 6, pieces_of(7))
    identifiers = [sent(disk, 6)[0] for disk in disks]
    assert identifiers[0] == identifiers[1] != identifiers[2]


def test_receiving_goes_on_after_a_crash_behind_the_last_whole_frame(
    source: tuple[str, bytes],
) -> None:
    content, data = source
    for kept in range(0, len(data), 997):
        disk = CrashingDisk()
        receiver = SnapshotStore(disk).receiver(content, len(data))
        receiver.write(0, data[: kept // 2])
        receiver.write(kept // 2, data[kept // 2 : kept])
        # Half of the bytes are on the disk, then zeros.
        after = disk.crash(lambda name, ordinal, size: (0, size // 2))
        receiver = SnapshotStore(after).receiver(content, len(data))
        assert receiver.offset <= kept
        while receiver.offset < len(data):
            receiver.write(receiver.offset, data[receiver.offset : receiver.offset + 1500])
        assert receiver.finish().index == 6


def test_repeated_bytes_are_passed_over_and_holes_refused(source: tuple[str, bytes]) -> None:
    content, data = source
    receiver = SnapshotStore(CrashingDisk()).receiver(content, len(data))
    receiver.write(0, data[:1000])
    receiver.write(500, data[500:1200])
    assert receiver.offset == 1200
    receiver.write(0, data[:700])
    assert receiver.offset == 1200
    for offset in (1201, -1, 5000):
        with pytest.raises(ProtocolError):
            receiver.write(offset, data[:10])
    with pytest.raises(ProtocolError, match="ends at 1200"):
        receiver.finish()
    receiver.write(1200, data[1200:])
    assert receiver.finish().index == 6


def test_a_wrong_byte_on_the_way_is_not_installed(source: tuple[str, bytes]) -> None:
    content, data = source
    chance = random.Random(3)
    for position in chance.sample(range(len(data)), 40):
        disk = CrashingDisk()
        receiver = SnapshotStore(disk).receiver(content, len(data))
        wrong = bytearray(data)
        wrong[position] ^= 1 << chance.randrange(8)
        receiver.write(0, bytes(wrong))
        with pytest.raises(ProtocolError, match="not intact"):
            receiver.finish()
        assert disk.seen == {}


def test_another_snapshot_than_announced_is_not_installed(source: tuple[str, bytes]) -> None:
    _, data = source
    disk = CrashingDisk()
    receiver = SnapshotStore(disk).receiver("0" * 32, len(data))
    receiver.write(0, data)
    with pytest.raises(ProtocolError, match="another content"):
        receiver.finish()
    assert disk.seen == {}


@pytest.mark.parametrize("content", ["", "../../etc/passwd", "A" * 32, "a" * 31, "a" * 32 + "\n"])
def test_a_content_id_cannot_name_another_file(content: str) -> None:
    with pytest.raises(ProtocolError):
        SnapshotStore(CrashingDisk()).receiver(content, 1000)


def test_at_most_one_file_is_being_received(source: tuple[str, bytes]) -> None:
    content, data = source
    disk = CrashingDisk()
    store = SnapshotStore(disk)
    first = store.receiver("1" * 32, 1000)
    first.write(0, data[:300])
    first.close()
    store.receiver(content, len(data)).close()
    assert disk.names("snapshots") == [f"{content}.part"]
    # Two cannot be told apart after a crash: neither is kept.
    disk.open(f"snapshots/{'2' * 32}.part", create=True)
    SnapshotStore(disk)
    assert disk.names("snapshots") == []


def test_receiving_needs_space_for_the_rest(source: tuple[str, bytes]) -> None:
    content, data = source
    disk = CrashingDisk(capacity_bytes=len(data) - 1)
    with pytest.raises(DiskFullError):
        SnapshotStore(disk).receiver(content, len(data))
    disk.capacity_bytes = len(data)
    receiver = SnapshotStore(disk).receiver(content, len(data))
    receiver.write(0, data)
    assert receiver.finish().index == 6


@pytest.mark.parametrize("seed", range(8))
def test_a_part_that_a_failed_sync_left_survives_a_power_cut_once_it_is_finished(
    seed: int, source: tuple[str, bytes]
) -> None:
    """Its pages can be read and count as clean: no later sync would save them."""
    content, data = source
    disk = SimDisk(World(seed), "n1")
    receiver = SnapshotStore(disk).receiver(content, len(data))
    receiver.write(0, data)
    disk.sync_fails = True
    with pytest.raises(DiskFailedError, match="fsync failed"):
        receiver.finish()

    disk.crash_process()
    receiver = SnapshotStore(disk).receiver(content, len(data))
    receiver.write(receiver.offset, data[receiver.offset :])
    meta = receiver.finish()
    assert disk.is_all_durable("snapshots")
    disk.cut_power()
    assert SnapshotStore(disk).newest() == meta

"""What recovery drops, what it refuses, and what it says."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from raftkv.engine.ready import TruncateRecord
from raftkv.errors import DamagedDataError, DiskFailedError, DiskFullError
from raftkv.framing import HEADER_SIZE, decode_frame_header
from raftkv.storage.wal import Wal
from raftkv.storage.wal_format import (
    SyncedEnd,
    decode_segment_header,
    encode_mark,
    encode_segment_header,
    segment_name,
)
from raftkv.storage.wal_segments import write_taken
from raftkv.types import HardState, Index, Term
from tests.unit.storage.crashing_disk import (
    Content,
    CrashingDisk,
    CrashingFile,
    EventList,
    PowerCutError,
)
from tests.unit.storage.wal_steps import (
    CLUSTER_ID,
    DISK_ID,
    SEGMENT_BYTES,
    append,
    append_entries,
    entry,
    hard_state,
    indexes,
    mark,
    recover,
    segments,
    sync,
    three_segments,
)


def copy_of(disk: CrashingDisk) -> CrashingDisk:
    return disk.kill()


def frame_positions(data: bytes) -> list[int]:
    """Where each frame of a segment starts."""
    positions = []
    position = 0
    while (header := decode_frame_header(data, position)) is not None:
        positions.append(position)
        position += HEADER_SIZE + header.length
    return positions


def refused(disk: CrashingDisk) -> DamagedDataError:
    """Recovery must refuse, and must not change anything."""
    before = {name: bytes(content.seen) for name, content in disk.seen.items()}
    with pytest.raises(DamagedDataError) as caught:
        recover(disk)
    assert {name: bytes(content.seen) for name, content in disk.seen.items()} == before
    assert "delete the directory" in caught.value.advice or "later version" in caught.value.advice
    return caught.value


# ------------------------------------------------------------------ torn tails


@pytest.mark.parametrize(("synced", "sizes"), [(3, (10, 300, 1)), (16, (100, 0, 150, 20))])
def test_a_cut_at_every_byte_keeps_the_whole_frames_before_it(
    synced: int, sizes: tuple[int, ...]
) -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, synced)
    sync(wal)
    for size in sizes:
        append(wal, entry(wal.last_index + 1, size))
    # All unsynced writes, in the order they were made, across segments.
    total = sum(len(piece) for content in disk.seen.values() for _, piece in content.unsynced)
    seen_counts = set()
    for cut in range(total + 1):
        left = {"bytes": cut}

        def choose(
            name: str, ordinal: int, size: int, left: dict[str, int] = left
        ) -> tuple[int, int]:
            taken = min(size, left["bytes"])
            left["bytes"] -= taken
            return 0, taken

        after = disk.crash(choose)
        observer = EventList()
        _, log = recover(after, observer=observer)
        assert indexes(log) == list(range(1, len(log.entries) + 1))
        assert len(log.entries) >= synced
        for command, index, term in log.entries:
            size = 100 if index <= synced else sizes[index - synced - 1]
            assert (index, term, command) == (*entry(index, size)[:2], entry(index, size).command)
        seen_counts.add(len(log.entries))
        if cut % 5:
            continue
        # A second recovery finds nothing left to drop.
        again = EventList()
        assert recover(after.kill(), observer=again)[1].entries == log.entries
        assert again.names() == []
    assert seen_counts == set(range(synced, synced + len(sizes) + 1))
    assert len(wal._segments) == (1 if synced == 3 else 2)


def test_what_a_killed_process_wrote_is_kept_without_any_sync() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append(wal, hard_state(3, "n2"))
    append_entries(wal, 60)
    observer = EventList()
    wal, log = recover(disk.kill(), observer=observer)
    assert indexes(log) == list(range(1, 61))
    assert log.hard_state == (3, "n2")
    assert log.sequence >= 61
    assert observer.names() == []
    assert wal.synced_sequence == wal.last_sequence


def test_a_kill_within_a_sync_leaves_nothing_for_a_later_power_cut() -> None:
    """What a killed process wrote can be read; recovery relies on it, so it must be durable."""
    for steps in range(20):
        disk = CrashingDisk()
        wal, _ = recover(disk)
        append_entries(wal, 5, 300)
        sync(wal)
        while len(wal._segments) == 1:
            append_entries(wal, 1, 300)
        disk.steps, disk.steps_max = 0, steps
        try:
            sync(wal)
        except PowerCutError:
            killed = disk.kill()
            _, log = recover(killed)
            assert recover(killed.crash())[1].entries == log.entries, steps
        else:
            # Both segments, the directory, the closing mark and its own sync.
            assert steps == 5
            return
    pytest.fail("a sync has no end")


def test_bytes_behind_a_tear_do_not_come_back_to_life() -> None:
    """A frame behind the tear must not follow a new frame that ends where it starts."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append(wal, entry(1))
    sync(wal)
    append(wal, entry(2, 200))
    append(wal, entry(3, 200))
    # The first of the two is lost, the second is whole.
    torn = disk.crash(lambda name, ordinal, size: (0, size if ordinal == 1 else 0))
    observer = EventList()
    wal, log = recover(torn, observer=observer)
    assert indexes(log) == [1]
    assert observer.names() == ["wal_tail_dropped"]
    append(wal, entry(2, 200 - 72, term=7))  # with the mark before it, as long as the old one
    _, log = recover(torn.kill())
    assert [(index, term) for _, index, term in log.entries] == [(1, 1), (2, 7)]


def test_a_dropped_tail_is_reported() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 1)
    sync(wal)
    start = wal._segments[-1].end
    append_entries(wal, 2)
    torn = disk.crash(lambda name, ordinal, size: (0, size if ordinal == 0 else size // 2))
    observer = EventList()
    recover(torn, observer=observer)
    name, fields = observer.events[0]
    assert name == "wal_tail_dropped"
    assert fields["file"] == disk.path(segment_name(1))
    assert isinstance(fields["position"], int)
    assert fields["position"] > start
    assert isinstance(fields["bytes"], int)
    assert 0 < fields["bytes"] < 300


def test_a_new_segment_that_was_never_synced_may_be_torn() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 5, 300)
    sync(wal)
    last = wal.last_index
    while len(wal._segments) == 1:
        append_entries(wal, 1, 300)
    # The header of segment 2 is lost although its name and its batch are there.
    torn = disk.crash(
        lambda name, ordinal, size: (0, size if name == segment_name(1) or ordinal else 0)
    )
    observer = EventList()
    wal, log = recover(torn, observer=observer)
    assert indexes(log) == list(range(1, len(log.entries) + 1))
    assert len(log.entries) >= last
    assert observer.events[0][1]["segments"] == 1
    assert segments(torn) == [segment_name(1)]
    append_entries(wal, 10, 300)
    sync(wal)
    assert len(recover(torn.crash())[1].entries) == len(log.entries) + 10


# -------------------------------------------------------------------- damage


def flip_positions() -> list[tuple[int, int]]:
    """Bytes before the last mark: some of each kind of place, some anywhere."""
    disk, mark_position = three_segments()
    names = segments(disk)
    assert len(names) == 3
    positions = []
    chance = random.Random(5)
    for ordinal, name in enumerate(names):
        data = bytes(disk.seen[name].seen)
        end = mark_position if ordinal == 2 else len(data)
        starts = [position for position in frame_positions(data) if position < end]
        for start in starts:
            positions += [(ordinal, start + offset) for offset in (0, 4, 6, 8, 12, 15, 16, 24, 40)]
        positions += [(ordinal, chance.randrange(end)) for _ in range(70)]
        positions += [(ordinal, end - 1), (ordinal, 0)]
    return positions


def test_a_flipped_bit_before_the_last_mark_is_always_damage() -> None:
    original, _ = three_segments()
    chance = random.Random(6)
    names = segments(original)
    positions = flip_positions()
    assert len(positions) > 400
    for ordinal, position in positions:
        disk = copy_of(original)
        name = names[ordinal]
        frames = frame_positions(bytes(disk.seen[name].seen))
        disk.flip(name, position, chance.randrange(8))
        error = refused(disk)
        assert error.file == disk.path(name), (ordinal, position)
        frame = max(start for start in frames if start <= position)
        in_frames = position < frames[-1] + 72
        assert error.position <= position
        assert not in_frames or error.position == frame, (ordinal, position)


def test_any_hundred_bits_together_are_damage() -> None:
    original, mark_position = three_segments()
    for seed in range(30):
        chance = random.Random(seed)
        disk = copy_of(original)
        for _ in range(chance.randrange(2, 100)):
            # The last mark itself stays: it is the proof.
            name = chance.choice(segments(original))
            end = mark_position if name == segments(original)[-1] else SEGMENT_BYTES
            disk.flip(name, chance.randrange(end), chance.randrange(8))
        refused(disk)


def test_damage_behind_the_last_mark_is_dropped_and_reported() -> None:
    original, mark_position = three_segments()
    wal, before = recover(original)
    append_entries(wal, 4)
    wal.close()
    name = segments(original)[-1]
    end = wal._segments[-1].end
    chance = random.Random(7)
    for position in [
        mark_position + 72,
        end - 1,
        *chance.sample(range(mark_position + 72, end), 60),
    ]:
        disk = copy_of(original)
        disk.flip(name, position, chance.randrange(8))
        observer = EventList()
        _, log = recover(disk, observer=observer)
        assert observer.names() == ["wal_tail_dropped"]
        assert log.entries[: len(before.entries)] == before.entries
        assert indexes(log) == list(range(1, len(log.entries) + 1))
        assert len(log.entries) < len(before.entries) + 4


def test_a_flip_in_the_last_mark_loses_nothing_but_the_mark() -> None:
    original, mark_position = three_segments()
    _, before = recover(copy_of(original))
    for offset in range(0, 72, 5):
        disk = copy_of(original)
        disk.flip(segments(disk)[-1], mark_position + offset, 3)
        _, log = recover(disk)
        assert log.entries == before.entries


def test_zeros_over_synced_frames_are_damage() -> None:
    disk, mark_position = three_segments()
    content = disk.seen[segments(disk)[-1]]
    frames = frame_positions(bytes(content.seen))
    first = frames[3]
    content.seen[first:mark_position] = bytes(mark_position - first)
    error = refused(disk)
    assert error.position == first


def test_a_segment_cut_short_is_damage() -> None:
    for ordinal in range(3):
        for size in (0, 10, 2000, SEGMENT_BYTES - 1):
            disk, _ = three_segments()
            name = segments(disk)[ordinal]
            del disk.seen[name].seen[size:]
            error = refused(disk)
            assert (error.file, error.position) == (disk.path(name), size)


# ------------------------------------------------------- missing and foreign


@pytest.mark.parametrize("number", [2, 3])
def test_a_missing_segment_is_damage(number: int) -> None:
    disk, _ = three_segments()
    del disk.seen[segment_name(number)]
    error = refused(disk)
    assert error.file == disk.path(segment_name(number))
    assert "missing" in error.detail


def test_a_missing_first_segment_shows_in_the_base() -> None:
    disk, _ = three_segments()
    _, whole = recover(copy_of(disk))
    del disk.seen[segment_name(1)]
    _, log = recover(disk)
    assert log.base_index > 0
    assert log.entries == whole.entries[log.base_index :]
    assert log.base_term == 1
    assert log.hard_state == whole.hard_state


def test_no_segment_at_all_is_damage_when_there_was_one() -> None:
    with pytest.raises(DamagedDataError, match="missing"):
        Wal.recover(
            CrashingDisk(), segment_bytes=SEGMENT_BYTES, observer=EventList(), must_exist=True
        )


def test_an_older_copy_of_a_segment_is_damage() -> None:
    disk, _ = three_segments()
    other, _ = three_segments()
    # Same bytes up to one frame less: as an old backup of one file would be.
    data = other.seen[segment_name(1)].seen
    frames = frame_positions(bytes(data))
    data[frames[-2] :] = bytes(len(data) - frames[-2])
    disk.seen[segment_name(1)] = Content(bytes(data))
    assert refused(disk).file == disk.path(segment_name(1))


def test_a_segment_of_another_history_is_damage() -> None:
    """Same node, same numbers, but the log took another way: only the digest tells."""
    disks = []
    for letter in (b"a", b"b"):
        disk = CrashingDisk()
        wal, _ = recover(disk)
        for index in range(1, 40):
            append(wal, entry(index)._replace(command=letter * 100))
            sync(wal)
        mark(wal)
        disks.append(disk)
    disks[0].seen[segment_name(1)] = disks[1].seen[segment_name(1)]
    error = refused(disks[0])
    assert "previous segment" in error.detail
    assert error.file == disks[0].path(segment_name(2))


@pytest.mark.parametrize("what", ["cluster", "data directory"])
def test_a_foreign_segment_is_refused(what: str) -> None:
    disk, _ = three_segments()
    with pytest.raises(DamagedDataError, match=f"belongs to {what}") as caught:
        Wal.recover(
            disk,
            segment_bytes=SEGMENT_BYTES,
            observer=EventList(),
            cluster_id="e" * 32 if what == "cluster" else CLUSTER_ID,
            disk_id="e" * 32 if what == "data directory" else DISK_ID,
        )
    assert caught.value.position == 0


def test_a_segment_under_another_number_is_not_taken_for_it() -> None:
    disk, _ = three_segments()
    disk.seen[segment_name(2)] = Content(bytes(disk.seen[segment_name(3)].seen))
    assert refused(disk).file == disk.path(segment_name(2))


def test_a_later_version_is_refused_with_other_advice() -> None:
    from raftkv.framing import encode_frame

    disk, _ = three_segments()
    data = disk.seen[segment_name(1)].seen
    header = decode_frame_header(data)
    assert header is not None
    body = bytearray(data[HEADER_SIZE : HEADER_SIZE + header.length])
    body[0] = 2
    frame = encode_frame(header.kind, bytes(body))
    data[: len(frame)] = frame
    error = refused(disk)
    assert "format version 2" in error.detail
    assert "later version" in error.advice


# ------------------------------------------------------------- false proofs


def torn_with(forge: Callable[[int, bytes], bytes]) -> CrashingDisk:
    """A torn tail in which a client's value holds what `forge` makes of position and tag."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 2)
    sync(wal)
    segment = wal._segments[-1]
    append(wal, entry(3))
    payload = segment.end + 72 + 24
    fake = forge(payload, segment.tag)
    append(wal, entry(4)._replace(command=fake))
    # The frame of entry 3 is lost, and of the next one the part before the value.
    return disk.crash(lambda name, ordinal, size: (72 + 24, size if ordinal == 1 else 0))


def test_a_frame_inside_a_value_proves_nothing() -> None:
    proof = SyncedEnd(1, 4000)

    def with_a_guessed_tag(position: int, tag: bytes) -> bytes:
        return encode_mark(b"guessed!", position, 9, proof, 0)

    def with_another_position(position: int, tag: bytes) -> bytes:
        return encode_mark(tag, position + 8, 9, proof, 0)

    for forge in (with_a_guessed_tag, with_another_position):
        _, log = recover(torn_with(forge))
        assert indexes(log) == [1, 2]
    # The same place with the right tag and position would be believed.
    with pytest.raises(DamagedDataError):
        recover(torn_with(lambda position, tag: encode_mark(tag, position, 9, proof, 0)))


def test_an_intact_frame_that_does_not_continue_the_log_is_damage() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 2)
    position = wal._segments[-1].end
    wal._state.last_index = 6  # Only a fault in the program writes such a log.
    append(wal, entry(7))
    error = refused(disk.kill())
    assert error.position == position
    assert "entry 7 follows entry 2" in error.detail


# ------------------------------------------------------------ leftover files


def test_files_that_were_being_prepared_are_removed() -> None:
    disk = CrashingDisk()
    wal, _ = recover(disk)
    append_entries(wal, 2)
    wal.prepare_segment()
    disk.open("wal/urgent", create=True).write(b"x" * 10, 0)
    after = disk.kill()
    assert after.exists("wal/next")
    recover(after)
    assert [name for name in after.seen if name in ("wal/next", "wal/urgent")] == []


def test_a_truncation_below_the_oldest_segment_starts_the_log_there() -> None:
    """Compaction removed the segment that held the entry before the truncation."""
    disk = CrashingDisk()
    wal, _ = recover(disk)
    while len(wal._segments) == 1:
        append_entries(wal, 1)
    base = wal._segments[-1].base_index
    append(wal, TruncateRecord(Index(base - 3)), entry(base - 3, term=2))
    for index in range(base - 2, base + 5):
        append(wal, entry(index, term=2))
    sync(wal)
    names = wal.compact(Index(base + 1))
    assert names == [segment_name(1)]
    wal.remove_segments(names)
    _, log = recover(disk.crash())
    assert (log.base_index, log.base_term) == (base - 3, 2)
    assert indexes(log) == list(range(base - 2, base + 5))


# ----------------------------------------------------------------------- mess


def make_a_mess(disk: CrashingDisk, chance: random.Random) -> None:
    """Overwrite, zero, move, cut, remove or exchange something."""
    name = chance.choice(segments(disk))
    other = chance.choice(segments(disk))
    data = disk.seen[name].seen
    position = chance.randrange(len(data))
    size = min(chance.choice((1, 4, 16, 72, 512, 2000)), len(data) - position)
    end = position + size
    match chance.randrange(7):
        case 0:
            data[position:end] = bytes(size)
        case 1:
            data[position:end] = chance.randbytes(size)
        case 2:
            start = chance.randrange(len(data) - size + 1)
            data[position:end] = data[start : start + size]
        case 3 if len(disk.seen[other].seen) >= end:
            data[position:end] = disk.seen[other].seen[position:end]
        case 4:
            del data[max(1, position) :]
        case 5 if len(segments(disk)) > 1:
            del disk.seen[name]
        case 6:
            data[:] = disk.seen[other].seen


@pytest.mark.parametrize("seed", range(12))
def test_any_mess_is_refused_or_leaves_a_part_of_the_log_without_gaps(seed: int) -> None:
    original, _ = three_segments()
    _, whole = recover(copy_of(original))
    chance = random.Random(seed)
    for _ in range(40):
        disk = copy_of(original)
        for _ in range(chance.randint(1, 4)):
            make_a_mess(disk, chance)
        try:
            _, log = recover(disk)
        except DamagedDataError:
            continue
        first = log.base_index
        assert log.entries == whole.entries[first : first + len(log.entries)]
        # What is left can be continued, and is found again.
        wal, again = recover(disk.kill())
        assert again.entries == log.entries
        append_entries(wal, 1)
        assert recover(disk.kill())[1].entries == log.entries


# ------------------------------------------------------------- forged headers


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"previous_end": 100}, "the previous one ends at byte 100"),
        ({"base_index": 3}, "does not continue"),
        ({"base_term": 9}, "does not continue"),
        ({"sequence": 1}, "does not continue"),
        ({"hard_state": HardState(Term(1), None)}, "does not continue"),
        ({"previous_digest": bytes(16)}, "not the one this segment was started after"),
    ],
)
def test_a_header_that_does_not_fit_what_comes_before_is_damage(
    change: dict[str, Any], complaint: str
) -> None:
    disk, _ = three_segments()
    data = disk.seen[segment_name(2)].seen
    decoded = decode_segment_header(bytes(data))
    assert decoded is not None
    forged = encode_segment_header(dataclasses.replace(decoded[0], **change))
    # Frames of the forged segment would follow; only its header matters here.
    assert len(forged) <= decoded[1]
    data[: len(forged)] = forged
    error = refused(disk)
    assert complaint in error.detail
    assert (error.file, error.position) == (disk.path(segment_name(2)), 0)


def test_a_file_system_that_has_no_space_for_taken_space_has_failed() -> None:
    class Full(CrashingFile):
        def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
            raise DiskFullError("a snapshot of the file system holds the old bytes")

    with pytest.raises(DiskFailedError, match="whose space was taken"):
        write_taken(Full(CrashingDisk(), Content()), b"x", 0)

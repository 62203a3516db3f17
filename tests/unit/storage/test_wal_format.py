"""Bytes of the WAL: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.engine.ready import (
    EntryRecord,
    HardStateRecord,
    SnapshotRecord,
    TruncateRecord,
    WalRecord,
)
from raftkv.framing import HEADER_SIZE, encode_frame
from raftkv.storage.wal_format import (
    BATCH_HEAD,
    KIND_BATCH,
    KIND_MARK,
    MARK_SIZE,
    RECORD_HEAD,
    SEGMENT_HEADER_SIZE_MAX,
    SegmentHeader,
    SyncedEnd,
    UnknownVersionError,
    decode_frame,
    decode_records,
    decode_segment_header,
    encode_mark,
    encode_records,
    encode_segment_header,
    is_zero,
    parse_segment_name,
    segment_name,
    segment_tag,
)
from raftkv.types import HardState, Index, NodeId, Term

U64 = st.integers(0, 2**64 - 1)
TAG = b"the-tag!"

RECORDS = st.lists(
    st.one_of(
        st.builds(EntryRecord, U64, U64, st.binary(max_size=100)),
        st.builds(HardStateRecord, U64, st.none() | st.text("nü1", max_size=20)),
        st.builds(TruncateRecord, U64),
        st.builds(SnapshotRecord, U64, U64),
    ),
    max_size=8,
)


def batch(records: list[WalRecord], position: int, tag: bytes = TAG) -> bytes:
    parts, _ = encode_records(records)
    parts[0] = BATCH_HEAD.pack(tag, position, 7, 3, 4, 5, len(records), 0)
    return encode_frame(KIND_BATCH, b"".join(parts))


@given(records=RECORDS, position=st.integers(0, 50), origin=st.integers(0, 2**40))
def test_records_come_back(records: list[WalRecord], position: int, origin: int) -> None:
    frame_bytes = batch(records, origin + position)
    data = bytes(position) + frame_bytes + b"behind"
    frame = decode_frame(data, position, len(data), TAG, origin=origin)
    assert frame is not None
    assert (frame.kind, frame.position, frame.end) == (
        KIND_BATCH,
        position,
        position + len(frame_bytes),
    )
    assert (frame.sequence, frame.synced, frame.commit_hint) == (7, SyncedEnd(3, 4), 5)
    assert frame.record_count == len(records)
    assert decode_records(data, frame) == records
    assert encode_records(records)[1] == len(frame_bytes) - MARK_SIZE


def test_a_payload_is_carried_and_not_copied() -> None:
    command = bytes(1000)
    parts, _ = encode_records([EntryRecord(Index(1), Term(1), command)])
    assert parts[2] is command


@pytest.mark.parametrize(
    "change",
    [
        {"tag": b"another!"},
        {"position": 11},
        {"origin": 1},
        {"end": MARK_SIZE + 9},
    ],
)
def test_a_frame_of_another_place_is_none(change: dict) -> None:
    data = bytes(10) + encode_mark(TAG, 10, 1, SyncedEnd(1, 2), 3)
    whole = {"position": 10, "end": len(data), "tag": TAG, "origin": 0}
    assert decode_frame(data, **whole) is not None
    assert decode_frame(data, **{**whole, "tag": None}) is not None
    assert decode_frame(data, **{**whole, **change}) is None


def test_every_flipped_bit_of_a_frame_is_noticed() -> None:
    data = bytearray(batch([EntryRecord(Index(1), Term(1), b"abc")], 0))
    for position in range(len(data)):
        for bit in range(8):
            data[position] ^= 1 << bit
            assert decode_frame(bytes(data), 0, len(data), TAG) is None
            data[position] ^= 1 << bit
    assert decode_frame(bytes(data), 0, len(data), TAG) is not None


@pytest.mark.parametrize(
    "records",
    [
        RECORD_HEAD.pack(9, 0, 0, 0, 0),
        RECORD_HEAD.pack(1, 0, 1, 0, 0),
        RECORD_HEAD.pack(1, 0, 0, 0, 0)[:-1],
        RECORD_HEAD.pack(1, 0, 0, 0, 0) + b"x",
        RECORD_HEAD.pack(2, 1, 1, 0, 5) + b"\xff",
        b"",
    ],
)
def test_records_that_do_not_add_up_are_none(records: bytes) -> None:
    head = BATCH_HEAD.pack(TAG, 0, 1, 1, 1, 0, 1, 0)
    data = encode_frame(KIND_BATCH, head + records)
    frame = decode_frame(data, 0, len(data), TAG)
    assert frame is not None
    assert decode_records(data, frame) is None


def test_a_mark_is_a_frame_without_records() -> None:
    data = encode_mark(TAG, 0, 9, SyncedEnd(2, 77), 5)
    assert len(data) == MARK_SIZE
    frame = decode_frame(data, 0, len(data), TAG)
    assert frame is not None
    assert (frame.kind, frame.synced, decode_records(data, frame)) == (KIND_MARK, (2, 77), [])


def test_what_is_no_record_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="not a WAL record"):
        encode_records([("entry", 1)])  # type: ignore[list-item]


def header_with(**fields: object) -> SegmentHeader:
    values: dict = {
        "number": 3,
        "size": 4096,
        "sequence": 10,
        "base_index": 20,
        "base_term": 2,
        "commit_hint": 19,
        "hard_state": HardState(Term(4), NodeId("n1")),
        "synced": SyncedEnd(2, 4000),
        "previous_end": 4010,
        "previous_digest": bytes(range(16)),
        "cluster_id": "c" * 32,
        "disk_id": "d" * 32,
    }
    return SegmentHeader(**{**values, **fields})


@pytest.mark.parametrize("vote", [None, "", "n1", "ü" * 127])
@pytest.mark.parametrize("cluster_id", ["", "c" * 32, "c" * 255])
def test_a_segment_header_comes_back(vote: str | None, cluster_id: str) -> None:
    hard_state = HardState(Term(2**63), None if vote is None else NodeId(vote))
    header = header_with(hard_state=hard_state, cluster_id=cluster_id, disk_id="d" * 255)
    data = encode_segment_header(header)
    assert len(data) <= SEGMENT_HEADER_SIZE_MAX
    assert decode_segment_header(data + b"behind") == (header, len(data))
    for cut in (0, 10, HEADER_SIZE, len(data) - 1):
        assert decode_segment_header(data[:cut]) is None


def test_a_later_version_is_named() -> None:
    body = (3).to_bytes(2, "little") + b"of another layout"
    with pytest.raises(UnknownVersionError) as caught:
        decode_segment_header(encode_frame(32, body))
    assert caught.value.version == 3


@pytest.mark.parametrize("body", [b"", b"\x01\x00", b"\x01\x00" + bytes(60), bytes(112) + b"x"])
def test_an_intact_frame_that_does_not_add_up_is_no_header(body: bytes) -> None:
    assert decode_segment_header(encode_frame(32, body)) is None


def test_a_header_whose_names_are_not_text_is_no_header() -> None:
    body = encode_segment_header(header_with())[HEADER_SIZE:]
    assert decode_segment_header(encode_frame(32, body[:-1] + b"\xff")) is None


def test_a_batch_is_no_segment_header() -> None:
    assert decode_segment_header(encode_mark(TAG, 0, 1, SyncedEnd(1, 1), 0)) is None


def test_tags_differ_with_any_field() -> None:
    tags = {
        segment_tag(encode_segment_header(header))
        for header in (header_with(), header_with(number=4), header_with(sequence=11))
    }
    assert len(tags) == 3
    assert all(len(tag) == 8 for tag in tags)


@pytest.mark.parametrize("number", [1, 7, 10**19])
def test_names_and_numbers(number: int) -> None:
    directory, _, name = segment_name(number).partition("/")
    assert directory == "wal"
    assert parse_segment_name(name) == number


@pytest.mark.parametrize(
    "name",
    [
        "next",
        "1.segment",
        "0000000000000000000x.segment",
        "²" * 20 + ".segment",
        "00000000000000000001.segment.old",
        "00000000000000000001.wal",
        ".segment",
        "",
    ],
)
def test_other_files_are_not_segments(name: str) -> None:
    assert parse_segment_name(name) is None


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
def test_zeros_are_recognised(size: int) -> None:
    data = bytearray(b"x" + bytes(size) + b"x")
    assert is_zero(bytes(data), 1, size + 1)
    assert not is_zero(bytes(data), 0, size + 1)
    assert not is_zero(bytes(data), 1, size + 2)
    if size:
        data[size] = 1
        assert not is_zero(bytes(data), 1, size + 1)

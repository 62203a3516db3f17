"""Bytes of a snapshot: what goes in comes out, and nothing else is taken for it."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.framing import HEADER_SIZE, encode_frame
from raftkv.storage.snapshot_format import (
    FOOTER_SIZE,
    Footer,
    SnapshotFormatError,
    UnknownVersionError,
    content_id,
    decode_chunk,
    decode_footer,
    decode_header,
    encode_chunk,
    encode_footer,
    encode_header,
    intact_bytes,
    walk,
)
from raftkv.types import Configuration, Index, Member, NodeId, SnapshotMeta, Term
from tests.unit.storage.crashing_disk import CrashingDisk, CrashingFile

U64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MEMBERS = st.lists(
    st.builds(Member, id=TEXT, client=TEXT, peer=TEXT, disk_id=TEXT, voter=st.booleans()),
    max_size=9,
)
METAS = st.builds(
    SnapshotMeta,
    index=U64,
    term=U64,
    configuration=st.builds(Configuration, TEXT, MEMBERS.map(tuple)),
    state_hash=st.binary(min_size=16, max_size=16),
    image_hash=st.just(b""),
    log_time_ms=U64,
    lease_time_ms=U64,
    revision=U64,
    keys=U64,
)
META = SnapshotMeta(
    index=Index(1),
    term=Term(1),
    configuration=Configuration("c", (Member(id=NodeId("n1"), client="c", peer="p"),)),
    state_hash=bytes(16),
    image_hash=b"",
    log_time_ms=1,
    lease_time_ms=2,
    revision=3,
    keys=4,
)


def file_with(data: bytes) -> CrashingFile:
    file = CrashingDisk().open("x", create=True)
    file.write(data, 0)
    return file


@given(meta=METAS)
def test_a_header_comes_back(meta: SnapshotMeta) -> None:
    body = encode_header(meta)[HEADER_SIZE:]
    assert decode_header(body) == meta
    with pytest.raises(SnapshotFormatError):
        decode_header(body + b"x")
    for cut in (2, 50, len(body) - 1):
        with pytest.raises(SnapshotFormatError):
            decode_header(body[:cut])


def test_a_later_version_is_named() -> None:
    with pytest.raises(UnknownVersionError) as caught:
        decode_header((2).to_bytes(2, "little"))
    assert caught.value.version == 2


@given(pieces=st.lists(st.binary(max_size=200), max_size=20), ordinal=st.integers(0, 2**32 - 1))
def test_a_chunk_comes_back(pieces: list[bytes], ordinal: int) -> None:
    body = encode_chunk(ordinal, pieces)[HEADER_SIZE:]
    assert decode_chunk(body, ordinal, 0) == pieces


def chunk_body(unpacked: bytes, *, size: int | None = None, behind: bytes = b"") -> bytes:
    claimed = len(unpacked) if size is None else size
    return bytes(4) + claimed.to_bytes(4, "little") + zlib.compress(unpacked) + behind


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"short", "too short"),
        (b"\1" + chunk_body(b"")[1:], "chunk 1 stands where 0 belongs"),
        (chunk_body(b"\1\0\0\0x", size=4), "another size"),
        (chunk_body(b"\1\0\0\0x", size=6), "another size"),
        (chunk_body(b"\1\0\0\0x", behind=b"more"), "another size"),
        (chunk_body(bytes(10**6), size=8), "another size"),
        (chunk_body(b"", size=2**31), "claims"),
        (chunk_body(b"\2\0\0\0x"), "do not add up"),
        (chunk_body(b"\0\0"), "do not add up"),
        (bytes(8) + b"not zlib", "does not unpack"),
    ],
)
def test_a_chunk_that_is_not_what_it_claims_is_refused(body: bytes, complaint: str) -> None:
    with pytest.raises(SnapshotFormatError, match=complaint) as caught:
        decode_chunk(body, 0, 77)
    assert caught.value.position == 77


@given(
    st.builds(
        Footer,
        chunks=st.integers(0, 2**32 - 1),
        pieces=U64,
        image_bytes=U64,
        image_hash=st.binary(min_size=16, max_size=16),
        digest=st.binary(min_size=32, max_size=32),
    )
)
def test_a_footer_comes_back(footer: Footer) -> None:
    frame = encode_footer(footer)
    assert len(frame) == FOOTER_SIZE
    assert decode_footer(frame[HEADER_SIZE:], 0) == footer
    assert len(content_id(frame)) == 32


def whole_file() -> list[bytes]:
    import hashlib

    frames = [encode_header(META), encode_chunk(0, [b"a", b"b"]), encode_chunk(1, [b"c"])]
    footer = Footer(
        chunks=2,
        pieces=3,
        image_bytes=3,
        image_hash=bytes(16),
        digest=hashlib.blake2b(b"".join(frames), digest_size=32).digest(),
    )
    return [*frames, encode_footer(footer)]


def walked(frames: list[bytes]) -> list[list[bytes]]:
    data = b"".join(frames)
    return list(walk(file_with(data), len(data)))


def test_walking_a_whole_file() -> None:
    assert walked(whole_file()) == [[b"a", b"b"], [b"c"]]


def test_walking_refuses_frames_of_other_places() -> None:
    header, first, second, footer = whole_file()
    for frames, complaint in (
        ([first, second, footer], "not a snapshot header"),
        ([header, first, footer], "digest of the whole file"),
        ([header, first, second], "no frame starts here"),
        ([header, header, first, second, footer], "frame of kind 48"),
        ([header, first, second, footer, b"\0"], "bytes follow the footer"),
        ([header, first, second, encode_frame(50, b"x")], "footer does not add up"),
        ([], "no frame starts here"),
    ):
        with pytest.raises(SnapshotFormatError, match=complaint):
            walked(frames)


def test_intact_bytes_end_with_the_last_whole_frame() -> None:
    frames = whole_file()
    data = b"".join(frames)
    ends = [sum(map(len, frames[:count])) for count in range(len(frames) + 1)]
    for cut in range(len(data) + 1):
        expected = max(end for end in ends if end <= cut)
        assert intact_bytes(file_with(data[:cut]), cut) == expected

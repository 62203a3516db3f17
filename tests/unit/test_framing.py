"""A frame comes back as it went in, or not at all."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.framing import (
    HEADER_SIZE,
    MAGIC,
    decode_frame_header,
    encode_frame,
    encode_frame_header,
    verify_frame,
)

KINDS = st.integers(0, 255)


def test_the_bytes_of_a_frame() -> None:
    # Golden: files and peers of every later version hold such frames.
    frame = encode_frame(7, b"hello")
    assert frame == bytes.fromhex("f5526b56 07000000 05000000 17845528 68656c6c6f")
    assert int.from_bytes(frame[12:16], "little") == zlib.crc32(frame[:12] + frame[16:])
    assert HEADER_SIZE == 16


@given(KINDS, st.binary(max_size=200), st.binary(max_size=20))
def test_round_trip_at_any_position(kind: int, body: bytes, before: bytes) -> None:
    buffer = before + encode_frame(kind, body) + b"behind"
    header = decode_frame_header(buffer, len(before))
    assert header is not None
    assert (header.kind, header.length) == (kind, len(body))
    start = len(before) + HEADER_SIZE
    assert verify_frame(header, memoryview(buffer)[start : start + header.length])


@given(KINDS, st.lists(st.binary(max_size=50), max_size=5))
def test_parts_make_the_same_frame_as_the_whole(kind: int, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert encode_frame_header(kind, tuple(parts)) + whole == encode_frame(kind, whole)


@given(KINDS, st.binary(min_size=1, max_size=100), st.data())
def test_one_flipped_bit_is_seen(kind: int, body: bytes, data: st.DataObject) -> None:
    frame = bytearray(encode_frame(kind, body))
    position = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[position // 8] ^= 1 << position % 8
    header = decode_frame_header(frame)
    if header is not None:
        assert not verify_frame(header, frame[HEADER_SIZE : HEADER_SIZE + header.length])


@pytest.mark.parametrize("size", range(HEADER_SIZE))
def test_a_part_of_a_header_is_none(size: int) -> None:
    assert decode_frame_header(encode_frame(1, b"")[:size]) is None


@pytest.mark.parametrize("position", range(8))
def test_another_magic_or_padding_is_none(position: int) -> None:
    frame = bytearray(encode_frame(1, b"x"))
    frame[position] ^= 0x80
    header = decode_frame_header(frame)
    # The kind is the only one of these bytes that may have any value; the checksum covers it.
    assert (header is None) is (position != 4)


def test_a_body_of_another_size_does_not_verify() -> None:
    header = decode_frame_header(encode_frame(1, b"body"))
    assert header is not None
    assert not verify_frame(header, b"bod")
    assert not verify_frame(header, b"body!")


def test_zeros_are_no_frame() -> None:
    assert decode_frame_header(bytes(64)) is None
    assert MAGIC[0] > 127  # no text, key or command of a client begins like this by accident

"""Cutting a byte stream into frames: any split, any damage, bounded memory."""

from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.framing import HEADER_SIZE, MAGIC, encode_frame
from raftkv.transport.frames import Frame, FrameDecoder

LIMIT = 4096

frame_lists = st.lists(
    st.tuples(st.integers(0, 255), st.binary(max_size=300)), min_size=1, max_size=8
)


def encode_all(frames: list[Frame]) -> bytes:
    return b"".join(encode_frame(kind, body) for kind, body in frames)


def feed_in_pieces(decoder: FrameDecoder, stream: bytes, cuts: list[int]) -> list[Frame]:
    frames = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for first, end in itertools.pairwise(edges):
        frames += decoder.feed(stream[first:end])
    return frames


def feed_one_by_one(decoder: FrameDecoder, data: bytes) -> list[Frame]:
    frames = []
    while True:
        frame, data = decoder.feed_one(data)
        if frame is None:
            return frames
        frames.append(frame)


@given(frame_lists, st.lists(st.integers(0, 10_000), max_size=10))
def test_any_split_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    decoder = FrameDecoder(LIMIT)
    assert feed_in_pieces(decoder, encode_all(frames), cuts) == frames
    assert not decoder.broken
    assert decoder.held_bytes == 0


@given(frame_lists)
def test_byte_by_byte(frames: list[Frame]) -> None:
    decoder = FrameDecoder(LIMIT)
    stream = encode_all(frames)
    assert feed_in_pieces(decoder, stream, list(range(len(stream)))) == frames


@given(frame_lists, st.data())
def test_one_damaged_byte_yields_a_prefix_and_nothing_else(
    frames: list[Frame], data: st.DataObject
) -> None:
    stream = bytearray(encode_all(frames))
    position = data.draw(st.integers(0, len(stream) - 1))
    stream[position] ^= data.draw(st.integers(1, 255))
    cuts = data.draw(st.lists(st.integers(0, 10_000), max_size=5))
    decoder = FrameDecoder(LIMIT)
    decoded = feed_in_pieces(decoder, bytes(stream), cuts)
    whole_before = 0
    end = 0
    for kind, body in frames:
        end += len(encode_frame(kind, body))
        if end > position:
            break
        whole_before += 1
    assert decoded == frames[:whole_before]
    assert decoder.broken or decoder.held_bytes > 0


@given(st.binary(max_size=2000), st.lists(st.integers(0, 10_000), max_size=5))
def test_junk_never_raises_and_holds_no_more_than_arrived(junk: bytes, cuts: list[int]) -> None:
    decoder = FrameDecoder(LIMIT)
    feed_in_pieces(decoder, junk, cuts)
    assert decoder.held_bytes <= min(len(junk), LIMIT + HEADER_SIZE)


@given(frame_lists, frame_lists, st.integers(0, 10_000))
def test_handshake_frames_one_at_a_time_then_the_rest_in_bulk(
    first: list[Frame], rest: list[Frame], cut: int
) -> None:
    """The limit may change between two frames of one piece."""
    decoder = FrameDecoder(LIMIT)
    stream = encode_all(first)
    cut %= len(stream)
    before = feed_one_by_one(decoder, stream[:cut])
    large = (7, bytes(3 * LIMIT))
    piece = stream[cut:] + encode_all([large, *rest])
    while len(before) < len(first):
        frame, piece = decoder.feed_one(piece)
        assert frame is not None
        before.append(frame)
    decoder.body_bytes_max = 4 * LIMIT
    assert before == first
    assert decoder.feed(piece) == [large, *rest]


@pytest.mark.parametrize("feed", [FrameDecoder.feed, FrameDecoder.feed_one])
def test_oversized_frame_is_refused_by_its_header(feed) -> None:
    decoder = FrameDecoder(LIMIT)
    header = encode_frame(1, bytes(LIMIT + 1))[:HEADER_SIZE]
    feed(decoder, header)
    assert decoder.broken == "oversized frame"
    assert decoder.held_bytes == 0
    assert not decoder.feed(encode_frame(1, b"later"))


@pytest.mark.parametrize("feed", [FrameDecoder.feed, FrameDecoder.feed_one])
@pytest.mark.parametrize("junk", [b"G", b"\x80\x05", MAGIC[:2] + b"x", b"*1\r\n$4\r\nPING\r\n"])
def test_what_cannot_become_a_frame_is_refused_at_once(feed, junk: bytes) -> None:
    decoder = FrameDecoder(LIMIT)
    feed(decoder, junk)
    assert decoder.broken == "not a frame"
    assert decoder.held_bytes == 0


def test_largest_frame_is_accepted() -> None:
    decoder = FrameDecoder(LIMIT)
    assert decoder.feed(encode_frame(1, bytes(LIMIT))) == [(1, bytes(LIMIT))]


def test_frames_before_a_damaged_one_are_returned() -> None:
    decoder = FrameDecoder(LIMIT)
    damaged = bytearray(encode_frame(2, b"second"))
    damaged[-1] ^= 1
    assert decoder.feed(encode_frame(1, b"first") + bytes(damaged)) == [(1, b"first")]
    assert decoder.broken == "frame checksum does not match"


@pytest.mark.parametrize("sizes", [[1], [100_000], [20_000, 3], [3, 20_000, 16_384, 16_383]])
def test_a_large_body_in_pieces_of_mixed_sizes(sizes: list[int]) -> None:
    body = random.Random(1).randbytes(300_000)
    stream = encode_frame(9, body) + encode_frame(1, b"next")
    decoder = FrameDecoder(1 << 20)
    frames = []
    position = 0
    for size in itertools.cycle(sizes):
        frames += decoder.feed(stream[position : position + size])
        position += size
        if position >= len(stream):
            break
        assert decoder.held_bytes <= position
    assert frames == [(9, body), (1, b"next")]
    assert decoder.held_bytes == 0


def test_small_pieces_cost_time_in_proportion() -> None:
    def seconds(size: int) -> float:
        stream = encode_frame(1, bytes(size))
        pieces = [stream[at : at + 64] for at in range(0, len(stream), 64)]
        best = float("inf")
        for _ in range(3):
            decoder = FrameDecoder(size)
            begin = time.process_time()
            for piece in pieces:
                decoder.feed(piece)
            best = min(best, time.process_time() - begin)
        return best

    # 16 times the bytes: quadratic buffering would take 256 times as long.
    assert seconds(1 << 20) < 80 * seconds(1 << 16)

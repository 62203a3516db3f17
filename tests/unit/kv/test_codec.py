"""The payload of a log entry: round trip, layout, refusal of anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import ProtocolError
from raftkv.kv.codec import (
    HEADER_SIZE,
    MALFORMED,
    Batch,
    decode_batch,
    decodes_alike,
    encode_batch,
)
from raftkv.kv.commands import Opcode, SetFlag

GOLDEN = Path(__file__).parents[2] / "golden" / "kv"
GOLDEN_BATCH = Batch(
    1_700_000_000_123,
    456_789,
    0x0123456789ABCDEF,
    [
        (1, b"key", b"value"),
        (2, b"k", b"\x00\xff", 8, 60_000, None, b"set"),
        (14, b"counter", -(2**63)),
        (104,),
    ],
)

uint64 = st.integers(0, 2**64 - 1)
arguments = st.none() | st.binary(max_size=40) | st.integers(-(2**63), 2**64 - 1)
commands = st.lists(st.tuples(st.integers(1, 200), arguments, arguments), max_size=8)


@given(uint64, uint64, uint64, commands)
def test_a_batch_comes_back_as_it_was(
    log_time_ms: int, lease_time_ms: int, seed: int, batch: list[tuple[Any, ...]]
) -> None:
    payload = encode_batch(log_time_ms, lease_time_ms, seed, batch)
    assert decode_batch(payload) == (log_time_ms, lease_time_ms, seed, batch, True)
    assert decode_batch(memoryview(b"x" + payload)[1:]) == decode_batch(payload)


def test_the_layout_is_that_of_the_golden_file() -> None:
    golden = (GOLDEN / "batch-2.bin").read_bytes()
    assert decode_batch(golden) == GOLDEN_BATCH
    assert encode_batch(*GOLDEN_BATCH[:4]) == golden


def test_a_batch_of_the_version_without_history_is_read() -> None:
    golden = (GOLDEN / "batch-1.bin").read_bytes()
    assert decode_batch(golden) == GOLDEN_BATCH._replace(keeps_history=False)


def test_a_command_with_an_argument_that_none_takes_stands_for_itself_no_more() -> None:
    for wrong in ([b"a", None, 7], 1.5, "text", True, {}):
        payload = encode_batch(1, 2, 3, [(50, b"a"), (50, b"a", wrong)])
        assert decode_batch(payload).commands == [(50, b"a"), MALFORMED]


def test_a_batch_without_commands_only_moves_time() -> None:
    assert encode_batch(7, 8, 9, []) == bytes.fromhex(
        "02000000 0700000000000000 0800000000000000 0900000000000000 90"
    )


@pytest.mark.parametrize("size", range(HEADER_SIZE + 8))
def test_a_cut_batch_is_refused(size: int) -> None:
    payload = encode_batch(1, 2, 3, [(1, b"key", b"v")])
    with pytest.raises(ProtocolError):
        decode_batch(payload[:size])


@pytest.mark.parametrize(
    "payload",
    [
        b"\x03" + encode_batch(1, 2, 3, [])[1:],
        b"\x01\x00\x01\x00" + encode_batch(1, 2, 3, [])[4:],
        encode_batch(1, 2, 3, []) + b"\x00",
        encode_batch(1, 2, 3, [])[:-1] + b"\x80",
        encode_batch(1, 2, 3, [])[:-1] + b"\x91\xc0",
        encode_batch(1, 2, 3, [])[:-1] + b"\x91\x91\xa1\xff",
    ],
    ids=["version", "padding", "trailing", "map", "not a command", "not UTF-8"],
)
def test_anything_else_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_batch(payload)


any_argument = st.one_of(
    arguments,
    st.booleans(),
    st.floats(allow_nan=False),
    st.text(max_size=4),
    st.sampled_from([Opcode.SET, SetFlag.NX]),
    st.binary(max_size=4).map(bytearray),
    st.lists(st.integers(0, 5), max_size=2),
)
any_commands = st.lists(st.lists(any_argument, min_size=1, max_size=4).map(tuple), max_size=5)


@given(any_commands)
def test_what_is_said_to_decode_alike_does(batch: list[tuple[Any, ...]]) -> None:
    if not decodes_alike(batch):
        return
    decoded = decode_batch(encode_batch(1, 2, 3, batch)).commands
    assert decoded == batch
    assert [[type(one) for one in command] for command in decoded] == [
        [type(one) for one in command] for command in batch
    ]


def test_only_plain_arguments_decode_alike() -> None:
    assert decodes_alike([(1, b"key", b"value"), (2, None, -(2**63)), (104,)])
    for wrong in (True, 1.5, "text", bytearray(b"a"), [b"a"], Opcode.SET, SetFlag.NX):
        assert not decodes_alike([(1, b"key", b"value"), (50, b"a", wrong)])

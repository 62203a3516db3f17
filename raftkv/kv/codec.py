"""A batch of commands to bytes and back: the payload of a log entry.

Layout, little endian: version (1 byte, 2), three zero bytes, log time in ms
(8), lease time in ms (8), seed (8), then a MessagePack array with one array a
command. A batch without commands only moves time.

The leader encodes once; log, WAL and peers carry the bytes unopened; every
node decodes at apply, but for a leader that still has what it encoded. Pure.
Described in docs/reference/store-formats.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.errors import ProtocolError
from raftkv.kv.commands import Command, Opcode

BATCH_VERSION: Final = 2
# The same but for what it leaves behind: what such batches change is not kept as history,
# since some nodes applied them before there was any.
BATCH_VERSION_WITHOUT_HISTORY: Final = 1
_VERSIONS: Final = (BATCH_VERSION_WITHOUT_HISTORY, BATCH_VERSION)
_HEADER: Final = struct.Struct("<B3xQQQ")
HEADER_SIZE: Final = _HEADER.size
_ENCODER: Final = msgspec.msgpack.Encoder()
# Stands for a command with an argument of a type that no command takes. Its opcode is
# no command's, and never will be.
MALFORMED: Final[Command] = (-(2**63),)
# What an argument may be; checked here for all, at next to no cost.
_Argument = int | bytes | None
_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[_Argument, ...]])
_ANY_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[Any, ...]])
_OPCODES: Final = frozenset(map(int, Opcode))
_ARGUMENT_TYPES: Final = frozenset((int, bytes, type(None)))


class Batch(NamedTuple):
    """One decoded payload.

    Attributes:
        log_time_ms: The leader's stamp for deadlines.
        lease_time_ms: The leader's stamp for leases.
        seed: 64 random bits for commands that choose.
        commands: In the order of execution; may be empty.
        keeps_history: The changes are kept as history.
    """

    log_time_ms: int
    lease_time_ms: int
    seed: int
    commands: Sequence[Command]
    keeps_history: bool = True


def encode_batch(
    log_time_ms: int, lease_time_ms: int, seed: int, commands: Sequence[Command]
) -> bytes:
    """Return the payload for one log entry.

    Args:
        log_time_ms: 0 to 2**64 - 1, as the next two.
        lease_time_ms: See `Batch`.
        seed: See `Batch`.
        commands: May be empty.
    """
    buffer = bytearray(_HEADER.pack(BATCH_VERSION, log_time_ms, lease_time_ms, seed))
    _ENCODER.encode_into(commands, buffer, HEADER_SIZE)
    return bytes(buffer)


def decodes_alike(commands: Sequence[Command]) -> bool:
    """Whether decoding gives exactly the commands that were encoded.

    So it is for all that parsers make; it would not be for an argument that a reader
    sees as another type, as the member of an enumeration.
    """
    return _ARGUMENT_TYPES.issuperset(map(type, chain.from_iterable(commands)))


def decode_batch(payload: bytes | memoryview, commands: Sequence[Command] | None = None) -> Batch:
    """Read what `encode_batch` wrote; nothing returned refers to `payload`.

    A command with an argument of a type that no command takes becomes `MALFORMED`,
    which fails when it is executed, on every node alike.

    Args:
        payload: Of a log entry.
        commands: What was encoded, from a caller that has it: `decodes_alike`.

    Raises:
        ProtocolError: Not a batch, or of a version this program does not know.
    """
    try:
        version, log_time_ms, lease_time_ms, seed = _HEADER.unpack_from(payload)
        if version not in _VERSIONS or payload[1:4] != b"\0\0\0":
            raise ProtocolError(f"batch version {version} is not known")
        keeps_history = version == BATCH_VERSION
        if commands is not None:
            return Batch(log_time_ms, lease_time_ms, seed, commands, keeps_history)
        body = memoryview(payload)[HEADER_SIZE:]
        try:
            commands = _DECODER.decode(body)
        except msgspec.ValidationError:
            commands = list(map(_checked, _ANY_DECODER.decode(body)))
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a batch of commands: {error}") from error
    return Batch(log_time_ms, lease_time_ms, seed, commands, keeps_history)


def _checked(command: Command) -> Command:
    """Return a command as it is, or `MALFORMED` if none of this version looks like it."""
    if {*map(type, command)} <= _ARGUMENT_TYPES:
        return command
    # An opcode of another version may take what this one does not know.
    return MALFORMED if type(command[0]) is int and command[0] in _OPCODES else command

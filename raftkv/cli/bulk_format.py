"""Keys as lines of JSON, or as Redis commands: what `export` writes and `import` reads.

Owns both formats and the commands that put a key in its place. A key is one
`Part`, or several when it is a large collection. A line of JSON holds a part:

    {"key": "user:7", "type": "hash", "value": [["name", "ada"]], "expires_at_ms": 1790000000000}

`value` is a text for a string, a list for a list or a set, and a list of pairs
for a hash (field, value) and a sorted set (member, score). Bytes that are not
UTF-8 are `{"base64": "..."}`. Of several parts, all but the first have `part`,
their number from 1 on, and all but the last have `"more": true`.

Pure. Used by cli.bulk_export and cli.bulk_import.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec

from raftkv.cli.terminal import as_json
from raftkv.errors import RaftKvError

Kind = Literal["string", "hash", "list", "set", "zset"]
Command = tuple[bytes, ...]

# Limit: elements and bytes of one part.
PART_ELEMENTS = 1000
PART_BYTES = 256 * 1024
# Limit: one line of a file, or one command of it; more than any value may have.
LINE_BYTES_MAX = 1024 * 1024 * 1024

# How elements are added, and how many items make one.
_ADD: dict[str, bytes] = {"hash": b"HSET", "list": b"RPUSH", "set": b"SADD", "zset": b"ZADD"}
_PAIRED = frozenset({"hash", "zset"})
# Where a key is put together before it takes its place. Deterministic, so that
# what an interrupted import leaves behind is replaced by the next.
_STAGE_PREFIX = b"raftkv:import:"
# Of SHA-256 in hexadecimal.
_DIGEST_SIZE = 64


class Part(NamedTuple):
    """A key, or a stretch of the elements of a large one.

    Attributes:
        key: Any bytes.
        kind: As TYPE answers.
        items: The value of a string; the elements of a list or set; fields and
            values, or members and scores, in turn.
        expires_at_ms: Unix time at which the key dies, or 0.
        number: 0 for the first part of a key.
        more: Another part of this key follows.
    """

    key: bytes
    kind: Kind
    items: list[bytes]
    expires_at_ms: int = 0
    number: int = 0
    more: bool = False


# ------------------------------------------------------------------ JSON


class _Base64(msgspec.Struct, forbid_unknown_fields=True):
    base64: str


_Text = str | _Base64


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    key: _Text
    type: Kind
    value: str | _Base64 | list[str | _Base64 | list[str | _Base64 | float]]
    expires_at_ms: int = 0
    part: int = 0
    more: bool = False


_DECODER = msgspec.json.Decoder(_Line)


def line_of(part: Part) -> bytes:
    """Return a part as one line of JSON."""
    items = part.items
    value: Any
    if part.kind == "string":
        value = as_json(items[0])
    elif part.kind == "hash":
        value = [
            [as_json(field), as_json(item)]
            for field, item in zip(items[::2], items[1::2], strict=True)
        ]
    elif part.kind == "zset":
        value = [
            [as_json(member), _score_json(score)]
            for member, score in zip(items[::2], items[1::2], strict=True)
        ]
    else:
        value = as_json(items)
    line = {"key": as_json(part.key), "type": part.kind, "value": value}
    if part.expires_at_ms:
        line["expires_at_ms"] = part.expires_at_ms
    if part.number:
        line["part"] = part.number
    if part.more:
        line["more"] = True
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _score_json(score: bytes) -> float | str:
    # JSON has no infinity.
    return score.decode() if score in (b"inf", b"-inf") else float(score)


def part_of(line: bytes) -> Part:
    """Read a line of JSON.

    Raises:
        RaftKvError: It is none, or not of this format.
    """
    try:
        read = _DECODER.decode(line)
        return Part(
            _bytes_of(read.key),
            read.type,
            _items_of(read),
            read.expires_at_ms,
            read.part,
            read.more,
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise RaftKvError(f"not a key: {error}") from None


def _bytes_of(text: object) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, _Base64):
        try:
            return base64.b64decode(text.base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"base64: {error}") from None
    raise ValueError("a text was expected")


def _items_of(line: _Line) -> list[bytes]:
    value = line.value
    if line.type == "string":
        return [_bytes_of(value)]
    if not isinstance(value, list):
        raise ValueError(f"the value of a {line.type} is a list")
    if line.type not in _PAIRED:
        return [_bytes_of(item) for item in value]
    items: list[bytes] = []
    for pair in value:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"the value of a {line.type} is a list of pairs")
        items.append(_bytes_of(pair[0]))
        last = pair[1]
        if line.type == "hash":
            items.append(_bytes_of(last))
        elif isinstance(last, float) or last in ("inf", "-inf"):
            items.append(repr(last).encode() if isinstance(last, float) else last.encode())
        else:
            raise ValueError("a score is a number, or the text inf or -inf")
    return items


# -------------------------------------------------------------- commands


def staging_key(key: bytes) -> bytes:
    """Return the key under which another one is put together.

    A long one is named by its digest: with the prefix it could be longer than a key may be.
    """
    if len(key) >= _DIGEST_SIZE:
        # Keys that are named as they are are shorter, so that no two have the same name.
        key = hashlib.sha256(key).hexdigest().encode()
    return _STAGE_PREFIX + key


def replay_commands(part: Part) -> list[Command]:
    """Return commands that any server of the Redis protocol understands.

    Carried out in order, part by part, they replace the key.
    """
    if part.kind == "string":
        return [_set_command(part)]
    commands: list[Command] = [] if part.number else [(b"DEL", part.key)]
    return commands + _fill(part.key, part)


def import_commands(part: Part, *, keep_existing: bool) -> list[Command]:
    """Return commands that put the key in its place at one moment, when it is whole.

    A collection is gathered under `staging_key`, so that a reader sees the old
    value or the new one; a string with a deadline is set there, too, since SET does
    not tell whether it was over. Where there is nothing to put in place, because the
    time was over or there are no elements, the renaming fails with `ERR no such key`.

    Args:
        part: Of a key whose earlier parts were carried out.
        keep_existing: Leave a key alone that exists.
    """
    if part.kind == "string" and not part.expires_at_ms:
        command = _set_command(part)
        return [(*command, b"NX") if keep_existing else command]
    stage = staging_key(part.key)
    if part.kind == "string":
        commands = [_set_command(part._replace(key=stage))]
    else:
        commands = [] if part.number else [(b"DEL", stage)]
        commands += _fill(stage, part)
    if not part.more:
        commands.append((b"RENAMENX" if keep_existing else b"RENAME", stage, part.key))
        if keep_existing:
            commands.append((b"DEL", stage))
    return commands


def _set_command(part: Part) -> Command:
    command = (b"SET", part.key, part.items[0])
    return (*command, b"PXAT", b"%d" % part.expires_at_ms) if part.expires_at_ms else command


def _fill(key: bytes, part: Part) -> list[Command]:
    commands: list[Command] = []
    if part.items:
        items = part.items
        if part.kind == "zset":
            items = [item for pair in zip(items[1::2], items[::2], strict=True) for item in pair]
        commands.append((_ADD[part.kind], key, *items))
    if not part.more and part.expires_at_ms:
        commands.append((b"PEXPIREAT", key, b"%d" % part.expires_at_ms))
    return commands


def encode_command(command: Command) -> bytes:
    """Return a command as RESP."""
    words = [b"*%d\r\n" % len(command)]
    words += [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
    return b"".join(words)


def read_command(stream: BinaryIO) -> tuple[Command, int] | None:
    """Read the next RESP command of a file.

    Returns:
        The command and the bytes that it took, or None at the end.

    Raises:
        RaftKvError: It is not an array of bulk strings, or the file ends within it.
    """
    header = stream.readline(64)
    if not header:
        return None
    size = len(header)
    words: list[bytes] = []
    for _ in range(_length(header, b"*")):
        header = stream.readline(64)
        length = _length(header, b"$")
        word = stream.read(length + 2)
        if len(word) != length + 2 or word[-2:] != b"\r\n":
            raise RaftKvError("not a command: the file ends, or a length is wrong")
        words.append(word[:-2])
        size += len(header) + len(word)
    if not words:
        raise RaftKvError("not a command: it has no words")
    return tuple(words), size


def _length(header: bytes, mark: bytes) -> int:
    digits = header[1:-2]
    if header[:1] != mark or header[-2:] != b"\r\n" or not digits.isdigit():
        raise RaftKvError(f"not a command: {mark.decode()} and a length were expected")
    length = int(digits)
    if length > LINE_BYTES_MAX:
        raise RaftKvError(f"not a command: a length of {length}")
    return length

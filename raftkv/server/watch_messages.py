"""What a watch is told, as bytes: pushes of RESP3, messages of RESP2.

    RESP3   push:  "kv-watch", number, what, revision, ...
    RESP2   array: "message", "kv-watch:<number>", [what, revision, ...]

`what` is `events` (then a list of events follows), `progress` (nothing), or `compacted`
(the revision up to which everything was told). An event is an array: what happened
(`put`, `delete`, `expire`), key, type, value of a string, deadline in ms of Unix time or 0,
create revision, version, and value of a string before if that was wanted. What a key
that is gone had is null or 0. Values of collections are not told, but read, and so are
all values of a message that would be too large: a few words can change gigabytes at once.

Pure. Called by `watches`. Layout: docs/reference/commands.md.
"""

from __future__ import annotations

from typing import Final

from raftkv.kv.entries import Value
from raftkv.kv.generic import type_name
from raftkv.kv.history import Change
from raftkv.resp.values import NULL_2, NULL_3, encode_bulk

_WORDS: Final = tuple(map(encode_bulk, (b"put", b"delete", b"expire")))
_PUSH: Final = b">%d\r\n$8\r\nkv-watch\r\n:%d\r\n"
_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n%b*%d\r\n"


class Bodies:
    """The encoded changes of one revision, each made once for all that are told it alike."""

    __slots__ = ("_encoded",)

    def __init__(self) -> None:
        """Start with nothing encoded."""
        self._encoded: dict[tuple[bytes, int, bool, bool], bytes] = {}

    def of(self, change: Change, protocol: int, *, values: bool, previous: bool) -> bytes:
        """Return one event, with the value, and the one before, or without."""
        name = (change[2], protocol, values, previous)
        data = self._encoded.get(name)
        if data is None:
            data = _encode_event(change, protocol, values=values, previous=previous)
            self._encoded[name] = data
        return data


def encode_changes(
    protocol: int,
    number: int,
    changes: list[Change],
    bodies: Bodies,
    *,
    previous: bool,
    bytes_max: int,
) -> list[bytes]:
    """Return the message with the changes of one revision, in parts that others share.

    Args:
        protocol: Of RESP, 2 or 3.
        number: Of the watch.
        changes: At least one, all of the same revision.
        bodies: What has been encoded of that revision.
        previous: Whether values before are wanted.
        bytes_max: Of the values; if they are more, none is told.
    """
    values = _values_bytes(changes, previous=previous) <= bytes_max
    parts = [_head(protocol, number, 3), b"$6\r\nevents\r\n:%d\r\n*%d\r\n"]
    parts[1] %= (changes[0][0], len(changes))
    previous = previous and values
    parts += [bodies.of(one, protocol, values=values, previous=previous) for one in changes]
    return parts


def encode_progress(protocol: int, number: int, revision: int) -> bytes:
    """Return the message that everything up to a revision has been told."""
    return _head(protocol, number, 2) + b"$8\r\nprogress\r\n:%d\r\n" % revision


def encode_compacted(protocol: int, number: int, oldest: int, *, reached: int) -> bytes:
    """Return the message that changes were missed: the oldest there are, and the last told."""
    body = b"$9\r\ncompacted\r\n:%d\r\n:%d\r\n" % (oldest, reached)
    return _head(protocol, number, 3) + body


def _head(protocol: int, number: int, count: int) -> bytes:
    """Return what is in front of `what`."""
    if protocol == 3:
        return _PUSH % (count + 2, number)
    return _MESSAGE % (encode_bulk(b"kv-watch:%d" % number), count)


def _values_bytes(changes: list[Change], *, previous: bool) -> int:
    size = 0
    for _, _, _, before, after in changes:
        if after is not None and type(after[0]) is bytes:
            size += len(after[0])
        if previous and before is not None and type(before[0]) is bytes:
            size += len(before[0])
    return size


def _encode_event(change: Change, protocol: int, *, values: bool, previous: bool) -> bytes:
    _, kind, key, before, after = change
    null = NULL_3 if protocol == 3 else NULL_2
    parts = [b"*8\r\n", _WORDS[kind], encode_bulk(key)]
    if after is None:
        parts += (null, null, b":0\r\n:0\r\n:0\r\n")
    else:
        value, deadline_ms, create_revision, _, version = after
        parts.append(encode_bulk(type_name(value).encode()))
        parts.append(_encode_string(value, null) if values else null)
        parts.append(b":%d\r\n:%d\r\n:%d\r\n" % (deadline_ms, create_revision, version))
    parts.append(null if before is None or not previous else _encode_string(before[0], null))
    return b"".join(parts)


def _encode_string(value: Value, null: bytes) -> bytes:
    return encode_bulk(value) if type(value) is bytes else null

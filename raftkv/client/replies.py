"""What replies mean: from what the protocol brings to Python values.

A function for each kind of reply; `commands` and its like say which command has which.
Replies of either protocol version are understood; one of an unexpected kind raises
`ProtocolError`. Pure.

Users: whatever makes a `calls.Call`, and the CLI.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from raftkv.client.protocol import decode_text
from raftkv.errors import ProtocolError


def decoded(value: Any) -> Any:
    """Return `value` with all bytes inside turned into text."""
    if isinstance(value, bytes):
        return decode_text(value)
    if isinstance(value, list | tuple | set):
        return type(value)([decoded(item) for item in value])
    if isinstance(value, dict):
        return {decoded(key): decoded(item) for key, item in value.items()}
    return value


def _unexpected(reply: object) -> ProtocolError:
    return ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")


def to_integer(reply: Any) -> int:
    """Take a number."""
    if isinstance(reply, int):
        return int(reply)
    raise _unexpected(reply)


def to_truth(reply: Any) -> bool:
    """Take a number as yes or no."""
    return to_integer(reply) != 0


def to_bytes(reply: Any) -> bytes:
    """Take bytes."""
    if isinstance(reply, bytes):
        return reply
    raise _unexpected(reply)


def to_optional(reply: Any) -> bytes | None:
    """Take bytes or nil."""
    return None if reply is None else to_bytes(reply)


def _items(reply: Any) -> list[Any]:
    if isinstance(reply, list):
        return reply
    raise _unexpected(reply)


def to_list(reply: Any) -> list[bytes]:
    """Take a list of bytes."""
    return [to_bytes(item) for item in _items(reply)]


def to_optional_list(reply: Any) -> list[bytes | None]:
    """Take a list of bytes and nils."""
    return [to_optional(item) for item in _items(reply)]


def to_name(reply: Any) -> str:
    """Take bytes as text."""
    return decode_text(to_bytes(reply))


def to_nothing(reply: Any) -> None:
    """Take a reply that only says that it is done."""
    to_bytes(reply)


def to_was_set(reply: Any) -> bool:
    """Take nil as no, anything else as yes."""
    return to_optional(reply) is not None


def to_decimal(reply: Any) -> float:
    """Take a decimal number."""
    return float(reply) if isinstance(reply, float | int) else float(to_bytes(reply))


def _page(reply: Any) -> tuple[int, Any]:
    if isinstance(reply, list) and len(reply) == 2:
        return int(to_bytes(reply[0])), reply[1]
    raise _unexpected(reply)


def to_page(reply: Any) -> tuple[int, list[bytes]]:
    """Take a cursor and the keys of one page."""
    cursor, items = _page(reply)
    return cursor, to_list(items)


def to_optional_integer(reply: Any) -> int | None:
    """Take a number or nil."""
    return None if reply is None else to_integer(reply)


def to_optional_decimal(reply: Any) -> float | None:
    """Take a decimal number or nil."""
    return None if reply is None else to_decimal(reply)


def to_optional_decimals(reply: Any) -> list[float | None]:
    """Take a list of decimal numbers and nils."""
    return [to_optional_decimal(item) for item in _items(reply)]


def to_truths(reply: Any) -> list[bool]:
    """Take a list of numbers as yes or no."""
    return [to_truth(item) for item in _items(reply)]


def to_members(reply: Any) -> set[bytes]:
    """Take a set of bytes, also where RESP2 made a list of it."""
    return set(to_list(reply))


def to_popped(reply: Any) -> tuple[bytes, bytes] | None:
    """Take a key and what was popped from it, or nil."""
    if reply is None:
        return None
    key, element = to_list(reply)
    return key, element


def to_popped_member(reply: Any) -> tuple[bytes, bytes, float] | None:
    """Take a key and the member and score that were popped from it, or nil."""
    if reply is None:
        return None
    key, member, score = _items(reply)
    return to_bytes(key), to_bytes(member), to_decimal(score)


def to_fields(reply: Any) -> dict[bytes, bytes]:
    """Take a map of bytes, also where RESP2 made a flat list of it."""
    if isinstance(reply, dict):
        return {to_bytes(field): to_bytes(value) for field, value in reply.items()}
    flat = to_list(reply)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def to_scores(reply: Any) -> list[tuple[bytes, float]]:
    """Take members and scores, in pairs or as the flat list of RESP2."""
    items = _items(reply)
    if items and isinstance(items[0], list):
        return [(to_bytes(member), to_decimal(score)) for member, score in items]
    return [
        (to_bytes(member), to_decimal(score))
        for member, score in zip(items[::2], items[1::2], strict=True)
    ]


def to_fields_page(reply: Any) -> tuple[int, dict[bytes, bytes]]:
    """Take a cursor and the fields and values of one page."""
    cursor, items = _page(reply)
    return cursor, to_fields(items)


def to_scores_page(reply: Any) -> tuple[int, list[tuple[bytes, float]]]:
    """Take a cursor and the members and scores of one page."""
    cursor, items = _page(reply)
    return cursor, to_scores(items)


def to_seconds(reply: Any) -> float:
    """Take seconds and microseconds."""
    seconds, microseconds = to_list(reply)
    return int(seconds) + int(microseconds) / 1e6


def to_info(reply: Any) -> dict[str, str]:
    """Return the fields of an INFO text, without its section titles."""
    fields: dict[str, str] = {}
    for line in decode_text(to_bytes(reply)).splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            fields[name] = value
    return fields


def to_mapping(reply: Any) -> dict[str, Any]:
    """Return a map with text keys, also where RESP2 made a flat list of it."""
    if isinstance(reply, dict):
        pairs: Iterable[tuple[Any, Any]] = reply.items()
    elif isinstance(reply, list) and len(reply) % 2 == 0:
        pairs = zip(reply[::2], reply[1::2], strict=True)
    else:
        raise _unexpected(reply)
    return {decode_text(to_bytes(key)): decoded(value) for key, value in pairs}

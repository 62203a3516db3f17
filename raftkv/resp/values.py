"""Values -> bytes of RESP2 and RESP3.

The values are those of the store and of the server's own commands: None, int,
bytes (bulk string), str (simple string, one line), float, bool, list or tuple,
the kinds of list in `types`, dict, set or frozenset, `Verbatim`, `Push`, `Series`,
`NULL_ARRAY`, and anything with a `message` attribute (an error, whole text with
its code word). RESP2 has no word for most of them; they degrade as in Redis (a
map becomes a flat array, ...).

A large bulk string is appended as it is, between its header and its line end,
so that it is not copied here; small replies of a run become one piece. Pure.
Callers: server.pipeline, client.protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import length_hint

from raftkv.types import Couples, Members, NoList, Pairs

# From here on a bulk string is passed on without a copy. Low enough that a request
# which repeats one key as often as it may (MGET) cannot make gigabytes of copies.
LARGE_BYTES = 2 * 1024
_ENDLESS = 1 << 62
# What `encode_slices` encodes at once.
SLICE_ELEMENTS = 2048

_LINE_END = b"\r\n"
_BULK_HEADERS = [b"$%d\r\n" % size for size in range(LARGE_BYTES)]

OK_BYTES = b"+OK\r\n"
NULL_2 = b"$-1\r\n"
NULL_3 = b"_\r\n"


class Verbatim(bytes):
    """Text for people: verbatim string `txt` in RESP3, bulk string in RESP2."""

    __slots__ = ()


class Push(list[object]):
    """Out-of-band message: push type in RESP3, array in RESP2."""

    __slots__ = ()


class Series(list[object]):
    """Several values one after the other: what SUBSCRIBE is answered with."""

    __slots__ = ()


class _NullArray:
    """What RESP2 calls a null array; a plain null in RESP3."""

    __slots__ = ()


NULL_ARRAY = _NullArray()


def encode_error(message: str) -> bytes:
    """Return an error reply; line ends inside the text become spaces."""
    if "\r" in message or "\n" in message:
        message = message.replace("\r", " ").replace("\n", " ")
    return b"-%b\r\n" % message.encode("utf-8", "surrogateescape")


def encode_bulk(value: bytes) -> bytes:
    """Return one bulk string."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def encode_results(
    results: Sequence[object], protocol: int, parts: list[bytes], room: int = _ENDLESS
) -> tuple[int, int]:
    """Append the replies to the commands of one run, until they are large.

    Args:
        results: One for each command.
        protocol: 2 or 3.
        parts: Receives the bytes; their concatenation is what goes to the client.
        room: Bytes of large values and of collections, at least one reply of them,
            behind which to stop. What is small does not count.

    Returns:
        How many results were encoded, and the room that is left.
    """
    if results and results[0].__class__ is str and results.count("OK") == len(results):
        parts.append(OK_BYTES * len(results))
        return len(results), room
    if len(results) == 1 and results[0].__class__ is bytes and len(results[0]) < LARGE_BYTES:
        parts.append(b"$%d\r\n%b\r\n" % (len(results[0]), results[0]))
        return 1, room
    small: list[bytes] = []  # of replies that are not yet in `parts`
    append = small.append
    null = NULL_2 if protocol == 2 else NULL_3
    remaining = iter(results)
    for value in remaining:
        # The frequent ones are told by exact type, without a call.
        if value.__class__ is bytes:
            size = len(value)
            if size < LARGE_BYTES:
                append(_BULK_HEADERS[size])
                append(value)
                append(_LINE_END)
            else:
                _join_into(small, parts)
                parts += (b"$%d\r\n" % size, value, _LINE_END)
                room -= size
                if room <= 0:
                    break
        elif value is None:
            append(null)
        elif value == "OK":
            append(OK_BYTES)
        elif value.__class__ is int:
            append(b":%d\r\n" % value)
        else:
            _join_into(small, parts)
            before = len(parts)
            encode_into(value, protocol, parts)
            room -= sum(map(len, parts[before:]))
            if room <= 0:
                break
    else:
        _join_into(small, parts)
        return len(results), room
    return len(results) - length_hint(remaining), room


def _join_into(small: list[bytes], parts: list[bytes]) -> None:
    """Move pieces of replies behind the others as one."""
    if small:
        parts.append(b"".join(small))
        small.clear()


def encode_into(value: object, protocol: int, parts: list[bytes]) -> None:
    """Append one value of any type.

    Raises:
        TypeError: The value is of a type that has no encoding.
    """
    if value.__class__ is bytes:
        _encode_bulk_into(value, parts)
    elif value is None:
        parts.append(NULL_2 if protocol == 2 else NULL_3)
    elif value.__class__ is str:
        parts.append(b"+%b\r\n" % value.encode("utf-8", "surrogateescape"))
    elif value.__class__ is int:
        parts.append(b":%d\r\n" % value)
    elif value.__class__ is list or value.__class__ is tuple:
        _encode_elements(b"*%d\r\n" % len(value), value, protocol, parts)
    else:
        _encode_rare_into(value, protocol, parts)


def encode_slices(elements: list[object], protocol: int) -> Iterator[bytes]:
    """Yield an array in pieces, of about a millisecond's work each.

    Takes the list apart on the way: letting go of a million elements at once would
    take as long as ten pieces.
    """
    yield b"*%d\r\n" % len(elements)
    elements.reverse()
    while elements:
        piece = elements[: -SLICE_ELEMENTS - 1 : -1]
        del elements[-SLICE_ELEMENTS:]
        parts: list[bytes] = []
        for element in piece:
            encode_into(element, protocol, parts)
        yield b"".join(parts)


def encode(value: object, protocol: int) -> bytes:
    """Return one encoded value."""
    parts: list[bytes] = []
    encode_into(value, protocol, parts)
    return b"".join(parts)


def _encode_elements(
    header: bytes, elements: Sequence[object], protocol: int, parts: list[bytes]
) -> None:
    append = parts.append
    append(header)
    for element in elements:
        # The elements of large collections are told without a call.
        if element.__class__ is bytes and len(element) < LARGE_BYTES:
            append(b"$%d\r\n%b\r\n" % (len(element), element))
        else:
            encode_into(element, protocol, parts)


def _encode_bulk_into(value: bytes, parts: list[bytes]) -> None:
    size = len(value)
    if size < LARGE_BYTES:
        parts.append(b"$%d\r\n%b\r\n" % (size, value))
    else:
        parts += (b"$%d\r\n" % size, value, b"\r\n")


def _encode_rare_into(value: object, protocol: int, parts: list[bytes]) -> None:
    resp3 = protocol == 3
    if isinstance(value, (list, tuple)):
        _encode_list_into(value, resp3, parts)
    elif isinstance(value, dict):
        parts.append(b"%%%d\r\n" % len(value) if resp3 else b"*%d\r\n" % (2 * len(value)))
        for key, element in value.items():
            encode_into(key, protocol, parts)
            encode_into(element, protocol, parts)
    elif isinstance(value, bool):
        parts.append((b"#t\r\n" if value else b"#f\r\n") if resp3 else b":%d\r\n" % value)
    elif isinstance(value, float):
        text = _format_float(value)
        parts.append(b",%b\r\n" % text if resp3 else encode_bulk(text))
    elif isinstance(value, Verbatim):
        if resp3:
            parts += (b"=%d\r\ntxt:" % (len(value) + 4), bytes(value), b"\r\n")
        else:
            _encode_bulk_into(bytes(value), parts)
    elif isinstance(value, _NullArray):
        parts.append(NULL_3 if resp3 else b"*-1\r\n")
    elif isinstance(value, (set, frozenset)):
        parts.append(b"%b%d\r\n" % (b"~" if resp3 else b"*", len(value)))
        for element in value:
            encode_into(element, protocol, parts)
    elif isinstance(message := getattr(value, "message", None), str):
        parts.append(encode_error(message))
    else:
        raise TypeError(f"no encoding for {type(value).__name__}")


def _encode_list_into(value: Sequence[object], resp3: bool, parts: list[bytes]) -> None:
    """Append a list of a kind that RESP3 tells apart."""
    protocol, size = (3 if resp3 else 2), len(value)
    if isinstance(value, NoList):
        parts.append(NULL_3 if resp3 else b"*-1\r\n")
    elif isinstance(value, Series):
        _encode_elements(b"", value, protocol, parts)
    elif resp3 and isinstance(value, Pairs):
        _encode_elements(b"%%%d\r\n" % (size // 2), value, protocol, parts)
    elif resp3 and isinstance(value, Couples):
        parts.append(b"*%d\r\n" % (size // 2))
        for position in range(0, size, 2):
            _encode_elements(b"*2\r\n", value[position : position + 2], protocol, parts)
    else:
        mark = b"*"
        if resp3 and isinstance(value, (Push, Members)):
            mark = b">" if isinstance(value, Push) else b"~"
        _encode_elements(b"%b%d\r\n" % (mark, size), value, protocol, parts)


def _format_float(value: float) -> bytes:
    """All digits that a double has, as Redis 7 writes it."""
    if value != value:
        return b"nan"
    if value in (float("inf"), float("-inf")):
        return b"inf" if value > 0 else b"-inf"
    return b"%.17g" % value

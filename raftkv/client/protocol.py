"""Redis protocol as a client speaks it: requests to bytes, bytes to replies.

Owns the encoding of arguments, the incremental reader of replies (over hiredis)
and the table from error texts to the types of `raftkv.errors`. Owns no socket,
no retry and no knowledge of single commands.

Invariants: a request is an array of bulk strings; an error reply is a value,
never raised here, so that one failed command of a pipeline does not hide the
others; text is UTF-8 with surrogate escapes both ways, so that a key which is
not text survives being read and written back.

Users: client.policy, client.sync_connection, client.async_connection, the CLI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import hiredis

from raftkv.errors import (
    CommandError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
    ProtocolError,
    RequestError,
)

Argument = bytes | bytearray | memoryview | str | int | float

# What `ReplyReader.next_reply` returns while the bytes of a reply are incomplete.
NOT_READY: Any = object()


def encode_text(text: str) -> bytes:
    """Return the bytes of a text; the inverse of `decode_text` for any bytes."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """Return the text of bytes; what is not UTF-8 becomes surrogate escapes."""
    return data.decode("utf-8", "surrogateescape")


def encode_argument(value: Argument) -> bytes:
    """Return the bytes that stand for one argument of a request.

    Raises:
        TypeError: The type has no obvious bytes. A bool is refused because Redis
            has none and `True` would silently become `1`.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return encode_text(value)
    if isinstance(value, bool):
        raise TypeError("a bool is no argument; write 0, 1 or a text")
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return repr(value).encode()
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"an argument is bytes, str, int or float, not {type(value).__name__}")


def encode_arguments(values: Iterable[Argument]) -> tuple[bytes, ...]:
    """Return the bytes of every argument of a request."""
    return tuple([encode_argument(value) for value in values])


def encode_request(arguments: Sequence[bytes]) -> bytes:
    """Return one request as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%b\r\n" % (len(argument), argument))
    return b"".join(parts)


def _not_leader(text: str) -> RequestError:
    """Read `MOVED <slot> <host>:<port>`."""
    words = text.split(" ")
    return NotLeaderError(words[2]) if len(words) >= 3 else CommandError(text)


def _after_code(text: str) -> str:
    """Return the reason that follows the code word."""
    return text.partition(" ")[2] or text


_ERROR_TYPES: dict[str, Callable[[str], RequestError]] = {
    "MOVED": _not_leader,
    "CLUSTERDOWN": lambda text: NoLeaderError(_after_code(text)),
    "NOTAPPLIED": lambda text: NotAppliedError(_after_code(text)),
    "UNKNOWN": lambda text: OutcomeUnknownError(_after_code(text)),
}


def error_from_text(text: str) -> RequestError:
    """Return the error that an error reply stands for.

    Args:
        text: The reply without its leading `-`. The first word decides the type;
            any word that is not in the table makes a `CommandError`.
    """
    make = _ERROR_TYPES.get(text.partition(" ")[0])
    return make(text) if make else CommandError(text)


class ReplyReader:
    """Incremental reader of the replies of one connection.

    Bulk and simple strings become bytes, numbers int or float, nil None, arrays
    and sets list, maps dict, errors `RequestError` values. Messages that the
    server pushes unasked are dropped, since they answer nothing, unless they are
    what the user waits for.
    """

    def __init__(self, *, keeps_pushes: bool = False) -> None:
        self._keeps_pushes = keeps_pushes
        self._reader = hiredis.Reader(
            protocolError=ProtocolError, replyError=error_from_text, notEnoughData=NOT_READY
        )

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes as they came from the network."""
        self._reader.feed(bytes(data))

    def next_reply(self) -> Any:
        """Return the next whole reply, or `NOT_READY`.

        Raises:
            ProtocolError: The bytes are no reply; the connection is useless.
        """
        while True:
            try:
                reply = self._reader.gets()
            except (TypeError, UnicodeDecodeError) as error:
                # A map whose key is itself a list cannot be a dict.
                raise ProtocolError(f"a reply that cannot be represented: {error}") from error
            if self._keeps_pushes or not isinstance(reply, hiredis.PushNotification):
                return reply


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`; an IPv6 host may stand in brackets.

    Raises:
        ValueError: There is no port from 1 to 65535, or no host.
    """
    host, _, port_text = address.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    port = int(port_text) if port_text.isascii() and port_text.isdigit() else 0
    if not host or not 1 <= port <= 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host, port


def parse_addresses(nodes: str | Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of a list, or of one text with commas, without repeats.

    Raises:
        ValueError: One is not `host:port`, or there is none.
    """
    listed = nodes.split(",") if isinstance(nodes, str) else list(nodes)
    addresses = tuple(dict.fromkeys(part.strip() for part in listed if part.strip()))
    for address in addresses:
        split_address(address)
    if not addresses:
        raise ValueError("at least one node is needed, as host:port")
    return addresses


def unreachable(address: str, error: Exception) -> str:
    """Return what people are told about a connection that failed."""
    return f"{address}: {getattr(error, 'strerror', None) or str(error) or 'no answer in time'}"

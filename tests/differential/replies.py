"""Replies of RESP2 and RESP3 as values that keep apart what a client could tell apart.

A bulk string is bytes, a number an int, an array a list, and a null of any kind
of RESP3 None. The classes here stand for the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Reader(Protocol):
    """What replies are read from."""

    def readline(self) -> bytes:
        """Return the bytes up to the next line end."""
        ...

    def read(self, size: int, /) -> bytes:
        """Return exactly so many bytes."""
        ...


@dataclass(frozen=True)
class Simple:
    """A simple string such as OK."""

    text: str


@dataclass(frozen=True)
class Failed:
    """An error reply."""

    text: str


@dataclass(frozen=True)
class Double:
    """A floating point number of RESP3, as it was written."""

    text: bytes


@dataclass(frozen=True)
class NullArray:
    """The null array of RESP2."""


class Map(list[Any]):
    """A map of RESP3: keys and values in turn."""


class Set(list[Any]):
    """A set of RESP3."""


_LISTS = {b"*": list, b"%": Map, b"~": Set}


def read_reply(reader: Reader) -> Any:
    """Read one reply."""
    line = reader.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return Simple(rest.decode())
    if kind == b"-":
        return Failed(rest.decode("utf-8", "surrogateescape"))
    if kind == b":":
        return int(rest)
    if kind == b",":
        return Double(rest)
    if kind == b"_":
        return None
    size = int(rest)
    if kind in (b"$", b"="):
        return None if size < 0 else reader.read(size + 2)[:-2]
    if size < 0:
        return NullArray()
    count = 2 * size if kind == b"%" else size
    return _LISTS[kind](read_reply(reader) for _ in range(count))

"""Reading every key of a cluster, page by page, as `Part`s.

Owns how keys are read: many small ones together, each with its time to live in
one moment, and large collections in stretches, so that neither this process nor
the cluster holds more than a few megabytes for it. What is written where is the
business of cli.bulk.

An export is not one moment of the cluster: each small key is as it was at some
moment during the run, and a large collection that is written to meanwhile may
hold elements of several moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from raftkv.cli.bulk_format import PART_BYTES, PART_ELEMENTS, Kind, Part, staging_key
from raftkv.client.sync_client import Client
from raftkv.errors import CommandError, RaftKvError

# Limit: what one request may bring of small keys together, estimated.
_TOGETHER_BYTES = 4 * 1024 * 1024
# A guess at what an element of a collection takes, before it was read.
_ELEMENT_BYTES = 64
# What PEXPIRETIME says of a missing key, and the deadline of a key of which parts were
# written when it was deleted.
_GONE = -2
_LONG_AGO_MS = 1
# A key that changes its type again and again is read so often.
_TRIES = 5

_SIZES = {"string": "STRLEN", "hash": "HLEN", "list": "LLEN", "set": "SCARD", "zset": "ZCARD"}
_WHOLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "string": (("GET",), ()),
    "hash": (("HGETALL",), ()),
    "list": (("LRANGE",), ("0", "-1")),
    "set": (("SMEMBERS",), ()),
    "zset": (("ZRANGE",), ("0", "-1", "WITHSCORES")),
}
_SCANS = {"hash": "HSCAN", "set": "SSCAN", "zset": "ZSCAN"}


def pages_of(
    client: Client[bytes], *, cursor: int, match: str | None, kind: str | None, count: int
) -> Iterator[tuple[int, Iterator[Part]]]:
    """Yield the pages of a scan of all keys.

    Args:
        client: Of the cluster.
        cursor: Where to begin; what an earlier page was yielded with.
        match: Only keys like this pattern.
        kind: Only keys with this kind of value.
        count: Keys to look at a page.

    Yields:
        The cursor behind the page, 0 behind the last, and the parts of its keys,
        to be taken before the next page. A key may be on two pages.
    """
    ours = staging_key(b"")
    while True:
        cursor, keys = client.scan(cursor, match=match, count=count, kind=kind)
        # A page may name a key twice; what an import left unfinished is no key of the user.
        unique = [key for key in dict.fromkeys(keys) if not key.startswith(ours)]
        yield cursor, _parts_of_page(client, unique)
        if cursor == 0:
            return


def _parts_of_page(client: Client[bytes], keys: Sequence[bytes]) -> Iterator[Part]:
    for _ in range(_TRIES):
        if not keys:
            return
        together: list[tuple[bytes, Kind]] = []
        weight = 0
        again: list[bytes] = []
        for key, kind, size in _sizes(client, keys):
            if kind != "string" and size > PART_ELEMENTS:
                yield from _large(client, key, kind)
                continue
            key_weight = size if kind == "string" else size * _ELEMENT_BYTES
            if together and weight + key_weight > _TOGETHER_BYTES:
                yield from _read_together(client, together, again)
                together, weight = [], 0
            together.append((key, kind))
            weight += key_weight
        yield from _read_together(client, together, again)
        keys = again
    raise RaftKvError(f"the key {keys[0]!r:.200} changes its type all the time; it was not read")


def _sizes(client: Client[bytes], keys: Sequence[bytes]) -> Iterator[tuple[bytes, Kind, int]]:
    """Yield kind and size of the keys that are there; a wrong one shows when it is read."""
    pipeline = client.pipeline()
    for key in keys:
        pipeline.type(key)
    kinds = pipeline.execute()
    for key, kind in zip(keys, kinds, strict=True):
        if kind != "none":
            pipeline.command(_SIZES[kind], key)
    sizes = iter(pipeline.execute(raise_first=False))
    for key, kind in zip(keys, kinds, strict=True):
        if kind != "none":
            size = next(sizes)
            _raise_unless_wrong_type(size)
            yield key, cast(Kind, kind), size if isinstance(size, int) else 0


def _raise_unless_wrong_type(result: object) -> None:
    if isinstance(result, RaftKvError) and not _is_wrong_type(result):
        raise result


def _is_wrong_type(result: object) -> bool:
    return isinstance(result, CommandError) and str(result).startswith("WRONGTYPE")


def _read_together(
    client: Client[bytes], keys: Sequence[tuple[bytes, Kind]], again: list[bytes]
) -> Iterator[Part]:
    """Read small keys, each value and its deadline at one moment.

    Args:
        client: Of the cluster.
        keys: With the kind that each had a moment ago.
        again: Receives those that have another kind now.
    """
    pipeline = client.pipeline()
    for key, kind in keys:
        before, behind = _WHOLE[kind]
        # Reads side by side in one pipeline are carried out at one moment.
        pipeline.command(*before, key, *behind).pexpiretime(key)
    results = pipeline.execute(raise_first=False) if keys else []
    for (key, kind), value, deadline in zip(keys, results[::2], results[1::2], strict=True):
        _raise_unless_wrong_type(value)
        if isinstance(deadline, RaftKvError):
            raise deadline
        if _is_wrong_type(value):
            again.append(key)
            continue
        items = _items(kind, value)
        if items:
            yield from _cut(Part(key, kind, items, max(deadline, 0)))


def _items(kind: str, value: Any) -> list[bytes]:
    """Bring a reply into the form of `Part.items`; empty for a key that is gone."""
    if kind == "string":
        return [] if value is None else [value]
    if kind == "hash":
        return [item for pair in value.items() for item in pair]
    if kind == "zset":
        return [item for member, score in value for item in (member, _score(score))]
    return list(value)


def _score(score: float) -> bytes:
    return repr(float(score)).encode()


def _cut(part: Part) -> Iterator[Part]:
    """Yield a part, or several where its elements are large."""
    width = 2 if part.kind in ("hash", "zset") else 1
    first = size = number = 0
    for position in range(0, len(part.items), width):
        element_size = sum(map(len, part.items[position : position + width]))
        if position > first and size + element_size > PART_BYTES:
            yield part._replace(items=part.items[first:position], number=number, more=True)
            first, size, number = position, 0, number + 1
        size += element_size
    yield part._replace(items=part.items[first:], number=number)


def _large(client: Client[bytes], key: bytes, kind: Kind) -> Iterator[Part]:
    """Yield the parts of a large collection; begins anew when it changes its type."""
    waiting: Part | None = None
    number = 0
    try:
        for items in _stretches(client, key, kind):
            for part in _cut(Part(key, kind, items)):
                if waiting is not None:
                    yield waiting._replace(number=number, more=True)
                    number += 1
                waiting = part
    except CommandError as error:
        if not _is_wrong_type(error):
            raise
        now = list(_parts_of_page(client, [key]))
        if now or not number:
            yield from now
            return
    deadline = client.pexpiretime(key)
    if waiting is not None and (number or deadline != _GONE):
        expires_at_ms = _LONG_AGO_MS if deadline == _GONE else max(deadline, 0)
        yield waiting._replace(number=number, more=False, expires_at_ms=expires_at_ms)


def _stretches(client: Client[bytes], key: bytes, kind: str) -> Iterator[list[bytes]]:
    """Yield the elements of a large collection, some hundreds at a time."""
    if kind == "list":
        first = 0
        while items := client.lrange(key, first, first + PART_ELEMENTS - 1):
            yield items
            first += len(items)
        return
    cursor = 0
    while True:
        page = client.execute(_SCANS[kind], key, cursor, "COUNT", PART_ELEMENTS)
        cursor = int(page[0])
        if page[1]:
            yield _scanned(kind, page[1])
        if cursor == 0:
            return


def _scanned(kind: str, elements: list[Any]) -> list[bytes]:
    if kind != "zset":
        return elements
    return [item if position % 2 == 0 else _score(item) for position, item in enumerate(elements)]

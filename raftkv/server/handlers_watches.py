"""KV WATCH, KV UNWATCH, KV PROGRESS: watches of one connection.

Answered by the node that is asked, leader or not. What a watch is told is in
`watch_messages`, when in `watches`.
"""

from __future__ import annotations

from raftkv.errors import CommandError
from raftkv.kv.history import CompactedError
from raftkv.server.connection import ClientConnection
from raftkv.server.handlers_strings import SYNTAX_ERROR, check_key

_NO_REVISION = "ERR a revision is a number from 1"
_REVISION_MAX = 2**63 - 1


def _parse_revision(word: bytes) -> int:
    if not word.isdigit() or len(word) > 19 or not 1 <= int(word) <= _REVISION_MAX:
        raise CommandError(_NO_REVISION)
    return int(word)


def handle_watch(connection: ClientConnection, arguments: list[bytes]) -> object:
    """KV WATCH KEY key | PREFIX prefix [FROM revision] [PREV]"""
    kind, key = arguments[2].upper(), arguments[3]
    if kind not in (b"KEY", b"PREFIX"):
        raise CommandError(SYNTAX_ERROR)
    check_key(key, connection.service.config.limits)
    first_revision: int | None = None
    previous = False
    position = 4
    while position < len(arguments):
        option = arguments[position].upper()
        if option == b"PREV" and not previous:
            previous = True
            position += 1
        elif option == b"FROM" and first_revision is None and position + 1 < len(arguments):
            first_revision = _parse_revision(arguments[position + 1])
            position += 2
        else:
            raise CommandError(SYNTAX_ERROR)
    try:
        number, revision = connection.begin_watch(
            key, is_prefix=kind == b"PREFIX", previous=previous, first_revision=first_revision
        )
    except CompactedError as error:
        raise CommandError(
            f"ERR revision {first_revision} is compacted; the oldest available is "
            f"{error.oldest + 1}"
        ) from None
    return {b"watch": number, b"revision": revision}


def _chosen(connection: ClientConnection, words: list[bytes]) -> list[int]:
    """Return the numbers of existing watches that a request names, or all."""
    if not words:
        return list(connection.watches)
    if not all(word.isdigit() and len(word) < 19 for word in words):
        raise CommandError("ERR a watch is named by its number")
    numbers = [number for number in map(int, words) if number in connection.watches]
    return list(dict.fromkeys(numbers))


def handle_unwatch(connection: ClientConnection, arguments: list[bytes]) -> object:
    """KV UNWATCH [number ...]"""
    return sum(map(connection.end_watch, _chosen(connection, arguments[2:])))


def handle_progress(connection: ClientConnection, arguments: list[bytes]) -> object:
    """KV PROGRESS [number ...]"""
    numbers = _chosen(connection, arguments[2:])
    for number in numbers:
        connection.service.watches.tell_progress(connection.watches[number])
    return len(numbers)


HANDLERS = {
    "kv|watch": handle_watch,
    "kv|unwatch": handle_unwatch,
    "kv|progress": handle_progress,
}

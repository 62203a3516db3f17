"""Commands on revisions: keys as they were, and how far back that is known.

Same rules as `strings`: the docstring of a handler is the layout of its command behind
the opcode. Called by `store` only. Tests: tests/unit/kv/test_revisions.py.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.commands import OK, Command, Opcode
from raftkv.kv.entries import Entry, Value
from raftkv.kv.generic import type_name
from raftkv.kv.hashes import Hash
from raftkv.kv.history import CompactedError
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.lists import List
from raftkv.kv.scan import SlicedHandler
from raftkv.kv.sets import Set
from raftkv.kv.sorted_sets import SortedSet
from raftkv.kv.strings import Handler
from raftkv.kv.values import Collection, charge
from raftkv.types import Couples, Members, NoList, Pairs

# Limit: changes looked at in one slice of a read of the past, well below a millisecond.
SLICE_CHANGES: Final = 8192

# How the commands that list a whole collection would return it.
_SHAPES: Final[dict[type[Collection], type[list[object]]]] = {
    Hash: Pairs,
    List: list,
    Set: Members,
    SortedSet: Couples,
}


def check_revision(keyspace: Keyspace, revision: int) -> None:
    """Check that the store can be read as of a revision.

    Raises:
        CommandError: It is compacted, or has not come yet, or this store was replaced.
    """
    history = keyspace.history
    if history.compacted > keyspace.revision:
        raise CommandError("TRYAGAIN the store was replaced by a snapshot while it was read")
    if revision > keyspace.revision:
        raise CommandError(
            f"ERR revision {revision} is in the future; the newest is {keyspace.revision}"
        )
    try:
        history.check(revision)
    except CompactedError as error:
        raise CommandError(
            f"ERR revision {revision} is compacted; the oldest available is {error.oldest}"
        ) from None


def get(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is not None and isinstance(entry[0], Collection):
        charge(keyspace, entry[0].size * entry[0].width, entry[0].content_bytes)
    return _described(entry)


def get_at(keyspace: Keyspace, command: Command) -> Generator[None, None, object]:
    """(key, revision)

    What the key had behind that revision; a deadline that has passed since changes nothing.
    """
    _, key, revision = command
    yield
    seen = revision
    newest = keyspace.revision
    while True:
        check_revision(keyspace, seen)
        # And what came since the last slice, twice: else writes could outrun this for ever.
        limit = SLICE_CHANGES + 2 * (keyspace.revision - newest)
        newest = keyspace.revision
        changes = keyspace.history.stretch(seen, limit)
        for change in changes:
            if change[2] == key:
                return _described(change[3])
        if len(changes) < limit:
            return _described(keyspace.held(key))
        seen = changes[-1][0]
        yield


def _described(entry: Entry | None) -> object:
    """Return value, revisions and type of an entry; nothing where there is none."""
    if entry is None:
        return NoList()
    value, _, create_revision, modify_revision, version = entry
    return Pairs(
        (
            *(b"value", shown(value)),
            *(b"create_revision", create_revision),
            *(b"modify_revision", modify_revision),
            *(b"version", version),
            *(b"type", type_name(value).encode()),
        )
    )


def shown(value: Value) -> object:
    """Return a value as a result: bytes, or all elements in the order of the store.

    As GET, HGETALL, LRANGE, SMEMBERS and ZRANGE WITHSCORES return them.
    """
    if type(value) is bytes:
        return value
    shape = _SHAPES[type(value)]
    return shape(item for items in value.elements() for item in items)


def history(keyspace: Keyspace, _command: Command) -> object:
    """()"""
    held = keyspace.history
    return Pairs(
        (
            *(b"newest", held.revision),
            *(b"oldest", held.compacted),
            *(b"events", held.change_count),
            *(b"bytes", held.byte_count),
            *(b"revisions_kept", held.revisions_kept),
            *(b"bytes_kept", held.bytes_kept),
        )
    )


def compact(keyspace: Keyspace, command: Command) -> object:
    """(revision, revisions kept, bytes kept)

    Drops the changes up to `revision`; the bounds are those of the leader.
    """
    _, revision, revisions_kept, bytes_kept = command
    if min(revision, revisions_kept, bytes_kept) < 0:
        raise ValueError("a bound of the history is negative")
    keyspace.history.bound(revisions_kept, bytes_kept)
    keyspace.history.compact(revision)
    return OK


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.KV_GET: get,
    Opcode.HISTORY: history,
    Opcode.COMPACT: compact,
}
SLICED_HANDLERS: Final[dict[Opcode, SlicedHandler]] = {Opcode.KV_GET_AT: get_at}

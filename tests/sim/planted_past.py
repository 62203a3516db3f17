"""Planted bugs of reads of the past: each takes one rule out of `kv.revisions` and `kv.ranges`.

Beside `tests.sim.planted`, which explains what a mutant is and collects them all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from raftkv.errors import CommandError
from raftkv.kv import ranges, revisions
from raftkv.kv import store as store_module
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.families import SLICED_HANDLERS
from raftkv.kv.keyspace import Keyspace
from raftkv.replica.reads import Read
from raftkv.replica.requests import ReplicaRequests

# Revisions that are refused although they are held.
REFUSED = 20

_check = revisions.check_revision
_take_back = ranges._Past._take_back
_page = ranges._page
_read_sliced = ReplicaRequests.read_sliced


def _get_of_the_next(keyspace: Keyspace, command: Command) -> Generator[None, None, object]:
    """The change behind the revision counts as one before it."""
    opcode, key, revision = command
    return revisions.get_at(keyspace, (opcode, key, min(revision + 1, keyspace.revision)))


def _take_back_without_gone(past: Any, changes: Any) -> None:
    """Only keys that are still there are looked at: those removed meanwhile are left out."""
    _take_back(past, changes)
    past.gone.clear()


def _take_back_nothing(past: Any, changes: Any) -> None:
    """What has changed since is shown as it is now."""


def _skip_changed(past: Any, changes: Any) -> None:
    """A key that has changed since is left out."""
    _take_back(past, changes)
    past.entries = dict.fromkeys(past.entries)


def _page_behind_the_next(*arguments: Any) -> Generator[None, None, object]:
    """A page says to go on behind the first key that it has no room for."""
    answer: Any = yield from _page(*arguments)
    if answer[5] is not None:
        answer[5] += b"\0"
    return answer


def _compacted_early(keyspace: Keyspace, revision: int) -> None:
    """The oldest revisions that are held are refused, too."""
    _check(keyspace, revision)
    oldest = keyspace.history.compacted
    if revision < oldest + REFUSED and oldest:
        raise CommandError(
            f"ERR revision {revision} is compacted; the oldest available is {oldest}"
        )


def _read_at_once(replica: Any, command: Command, slot: Any, *, linearizable: bool) -> None:
    """A range needs no round."""
    if command[0] == Opcode.KV_RANGE and replica.is_leader:
        replica._execute(Read([command], slot, sliced=True))
    else:
        _read_sliced(replica, command, slot, linearizable=linearizable)


def plant_all(
    mutant: Callable[[str, str], Callable[[Any], Any]], patched: Callable[..., Any]
) -> None:
    """Name them with the decorator of the collection."""
    mutant("past off by one", "a key is read as it was behind the revision that was asked for")(
        lambda: patched(
            store_module,
            SLICED_HANDLERS={**SLICED_HANDLERS, Opcode.KV_GET_AT: _get_of_the_next},
        )
    )
    mutant("range of today", "a range takes back what has changed since its revision")(
        lambda: patched(ranges._Past, _take_back=_take_back_nothing)
    )
    mutant("range without removed", "a range has the keys that were removed since")(
        lambda: patched(ranges._Past, _take_back=_take_back_without_gone)
    )
    mutant("range without changed", "a range has the keys that have changed since")(
        lambda: patched(ranges._Past, _take_back=_skip_changed)
    )
    mutant("range skips", "the next page begins with the first key that had no room")(
        lambda: patched(ranges, _page=_page_behind_the_next)
    )
    mutant("range at once", "a linearizable range waits for a round")(
        lambda: patched(ReplicaRequests, read_sliced=_read_at_once)
    )
    mutant("compacted early", "the oldest revisions that are held can be read")(
        lambda: patched(ranges, check_revision=_compacted_early)
    )

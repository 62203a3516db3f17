"""Planted bugs of watches: each takes one rule out of the hub.

Beside `tests.sim.planted`, which explains what a mutant is and collects them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.engine.ready import KIND_COMMANDS
from raftkv.kv.codec import decode_batch
from raftkv.kv.commands import Opcode
from raftkv.kv.history import PUT, CompactedError, History
from raftkv.replica.views import ReplicaViews
from raftkv.server import watches
from raftkv.server.watch_index import Watch
from raftkv.server.watches import WatchHub

_add = WatchHub.add
_revisions = watches._revisions
_wait = WatchHub._wait


def _falls_behind_too_late(hub: Any, watch: Watch, *arguments: Any) -> None:
    """A watch without room counts the revision it was not told as told."""
    if not watch.watcher.has_room():
        hub._leave_index(watch)
        watch.position = max(watch.position, arguments[0])
        _wait(hub, watch)
        return
    hub._push(watch, *arguments)


def _leaves_unread(hub: Any, watch: Watch, *arguments: Any) -> None:
    """A watch without room is passed over."""
    if watch.watcher.has_room():
        hub._push(watch, *arguments)


def _adds_live(hub: Any, watch: Watch, first_revision: int | None) -> int:
    """Whoever comes from the past is told what comes from now on."""
    position = int(_add(hub, watch, first_revision))
    if not watch.is_live:
        hub._behind.clear()
        hub._make_live(watch)
    return position


def _half_revisions(history: History, after: int, limit: int) -> Any:
    """A slice ends behind so many changes, in the middle of a revision."""
    for revision, changes in _revisions(history, after, limit):
        yield revision, changes[: max(1, len(changes) // 2)]


def _tells_again(hub: Any, change: Any, _revision: int, found: Any) -> None:
    """A live watch is told what it caught up with, once more."""
    for watch in hub._live.all():
        if watch.matches(change[2]):
            found.setdefault(watch, []).append(change)


def _progress_of_the_store(hub: Any, watch: Watch) -> int:
    """Progress is what the store has, not what the watch was told."""
    return int(hub._history().revision)


def _never_compacted(history: History, revision: int) -> None:
    if revision < 0:
        raise CompactedError(history.compacted)


def _foreseen(replica: Any) -> History:
    """A plain SET that is next in the log is told before it is committed."""
    store = replica.store
    history: History = store.history
    entry = replica._core.log.entry_at(store.applied_index + 1)
    if entry is None or entry[0][0] != KIND_COMMANDS:
        return history
    command = decode_batch(entry[0][1:]).commands[0]
    if command[0] != Opcode.SET or len(command) != 3:
        return history
    _, key, value = command
    chunks, revision = history.freeze(), history.revision + 1
    before = store._keyspace.held(key)
    create_revision, version = (before[2], before[4] + 1) if before else (revision, 1)
    foreseen = History.restored(history.compacted, history.revision, chunks, [0] * len(chunks))
    foreseen.add((revision, PUT, key, before, (value, 0, create_revision, revision, version)))
    return foreseen


def plant_all(
    mutant: Callable[[str, str], Callable[[Any], Any]], patched: Callable[..., Any]
) -> None:
    """Name them with the decorator of the collection."""
    mutant("watch skips", "a watch that falls behind goes on with what it was not told")(
        lambda: patched(WatchHub, _tell=_falls_behind_too_late)
    )
    mutant("watch unread", "a watch without room falls behind")(
        lambda: patched(WatchHub, _tell=_leaves_unread)
    )
    mutant("watch from now", "a watch from the past catches up before it is live")(
        lambda: patched(WatchHub, add=_adds_live)
    )
    mutant("watch halves", "a revision is told whole")(
        lambda: patched(watches, _revisions=_half_revisions)
    )
    mutant("watch twice", "a live watch is not told what it was told before")(
        lambda: patched(WatchHub, _find=_tells_again)
    )
    mutant("watch progress", "progress is what the watch was told")(
        lambda: patched(WatchHub, reached=_progress_of_the_store)
    )
    mutant("watch gap", "a watch that misses changes is told so")(
        lambda: patched(History, check=_never_compacted)
    )
    mutant("watch early", "a watch is told what was applied, and nothing else")(
        lambda: patched(ReplicaViews, history=property(_foreseen))
    )

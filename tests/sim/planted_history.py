"""Planted bugs of the history: nodes that keep, or tell, other changes than the others.

Beside `tests.sim.planted`, which explains what a mutant is and collects them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import Command
from raftkv.kv.history import EXPIRE, History
from raftkv.kv.history_loader import HistoryLoader
from raftkv.kv.image import HistoryMeta
from raftkv.replica.history_bounds import HistoryBounds


def _begin_anew(_loader: Any, _meta: HistoryMeta, revision: int) -> History:
    """A restored store knows nothing of what was before it."""
    return History(revision)


def _compact_alone(bounds: Any, history: History, _now_ms: int, *, leads: bool) -> Command | None:
    """Each node drops what it has too much of, when it looks."""
    kept = bounds._limits.history_revisions
    if history.revision - history.compacted > kept + 20:
        history.compact(history.target(kept, bounds._limits.history_bytes_max))
    return None


_TAKE = HistoryLoader._add


def _deaths_as_removals(loader: Any, change: tuple[int, int, bytes], before: Any) -> None:
    """An image does not tell why a key went."""
    revision, kind, key = change
    _TAKE(loader, (revision, kind - 1 if kind == EXPIRE else kind, key), before)


def plant_all(
    mutant: Callable[[str, str], Callable[[Any], Any]], patched: Callable[..., Any]
) -> None:
    """Name them with the decorators of the collection."""
    mutant("history lost", "a snapshot holds the history")(
        lambda: patched(HistoryLoader, finish=_begin_anew)
    )
    mutant("history alone", "old revisions go by the log alone")(
        lambda: patched(HistoryBounds, turn=_compact_alone)
    )
    mutant("history blurred", "an image tells what kind of change each was")(
        lambda: patched(HistoryLoader, _add=_deaths_as_removals)
    )

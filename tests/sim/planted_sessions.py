"""Planted bugs of sessions: each takes one rule out of what executes a write once.

Beside `tests.sim.planted`, which explains what a mutant is and collects them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from raftkv.engine.core import RaftCore
from raftkv.kv import image, once
from raftkv.kv.sessions import FENCED, Session, Sessions

_FREE_BELOW = Sessions.free_below
_KEEP = Sessions.keep
_PARTS = image._session_parts

# Results that a session keeps in the mutant that evicts them.
_KEPT = 1


def _parts_without_answers(session: Session) -> Any:
    return _PARTS(Session(session.id, session.ttl_ms, session.deadline_ms, session.lowest))


def _always_new(session: Session, number: int) -> tuple[object, int] | None:
    """Take every copy for the first one."""
    kept = session.answers.get(number)
    return kept if kept is not None and kept[0] is FENCED else None


def _keep_few(self: Sessions, session: Session, number: int, result: object, size: int = 0) -> None:
    """Forget the oldest results of a live session."""
    _KEEP(self, session, number, result, size)
    while len(session.answers) > _KEPT:
        session.answers.pop(next(iter(session.answers)))


def _free_to_newest(self: Sessions, session: Session, lowest: int) -> None:
    """Whatever is below the number of the command counts as finished."""
    _FREE_BELOW(self, session, max(session.answers, default=lowest))


def _keep_no_fence(
    self: Sessions, session: Session, number: int, result: object, size: int = 0
) -> None:
    if result is not FENCED:
        _KEEP(self, session, number, result, size)


def _renew_never(_self: Sessions, _session: Session, _lease_time_ms: int) -> None:
    """A session lives for its time after it was opened."""


def plant_all(mutant: Callable[..., Any], patched: Callable[..., Any]) -> None:
    """Add them to the others; the arguments are those of `tests.sim.planted`."""

    def plant(name: str, rule: str, owner: Any, **replacements: Any) -> None:
        @mutant(name, rule)
        @contextlib.contextmanager
        def planted() -> Iterator[type[RaftCore]]:
            with patched(owner, **replacements) as core_class:
                yield core_class

    plant(
        "session image", "results of sessions are in snapshots",
        image, _session_parts=_parts_without_answers,
    )  # fmt: skip
    plant(
        "session copies", "a copy is answered and not executed",
        once, _answer_of=_always_new,
    )  # fmt: skip
    plant(
        "session evicts", "no result goes by itself while its session lives",
        Sessions, keep=_keep_few,
    )  # fmt: skip
    plant(
        "session frees", "only what its client has finished is freed",
        Sessions, free_below=_free_to_newest,
    )  # fmt: skip
    plant(
        "session fence", "what was fenced is not executed",
        Sessions, keep=_keep_no_fence,
    )  # fmt: skip
    plant(
        "session time", "a session lives for its time after the last command",
        Sessions, renew=_renew_never,
    )  # fmt: skip

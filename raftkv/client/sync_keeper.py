"""The thread that keeps a client's session alive and ends what its callers gave up.

Started when the client has a session, and ended with the client: by `stop`, or by the
garbage collector, so neither the thread nor what it holds refers to the client itself.
What is to be done is said by client.session_duties.

A process that is forked off gets no thread, and must not use what its parent uses:
what is in `begun_anew_by_forks` starts from the beginning there.

User: client.sync_client.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from raftkv.client.policy import Pause, Request
from raftkv.client.session_duties import duties
from raftkv.client.sessions import Sessions
from raftkv.errors import RaftKvError

Ask = Callable[[list[Request]], list[object]]


class _Beginning(Protocol):
    def begin(self) -> None: ...


begun_anew_by_forks: weakref.WeakSet[_Beginning] = weakref.WeakSet()


def _begin_anew() -> None:
    for one in list(begun_anew_by_forks):
        one.begin()


os.register_at_fork(after_in_child=_begin_anew)


class _Bell:
    """Wakes the thread, and tells it to end."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._event = threading.Event()

    def ring(self) -> None:
        self._event.set()

    def stop(self) -> None:
        self.is_stopping = True
        self._event.set()

    def wait(self, seconds: float) -> None:
        self._event.wait(seconds)
        self._event.clear()


class Keeper:
    """Does the duties of one client's session.

    Args:
        ask: Gets replies from the cluster.
        sessions: Of the client.
    """

    def __init__(self, ask: Ask, sessions: Sessions) -> None:
        self._ask = ask
        self._sessions = sessions
        self.begin()
        begun_anew_by_forks.add(self)

    def begin(self) -> None:
        """Start without a session: two processes must not number their writes alike."""
        self._bell = _Bell()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._sessions.begin(threading.Lock())
        self._sessions.wake = self._bell.ring
        weakref.finalize(self, self._bell.stop)

    def start_if_needed(self) -> None:
        """Start the thread if there is a session and it does not run."""
        if self._thread is not None or self._sessions.current is None:
            return
        with self._lock:
            if self._thread is None and not self._bell.is_stopping:
                self._thread = threading.Thread(
                    target=_keep,
                    args=(self._ask, self._sessions, self._bell),
                    name="raftkv-session",
                    daemon=True,
                )
                self._thread.start()

    def stop(self) -> None:
        """Let the thread end; what it asks meanwhile is of no use any more."""
        self._bell.stop()


def _keep(ask: Ask, sessions: Sessions, bell: _Bell) -> None:
    steps = duties(sessions, time.monotonic)
    step = next(steps)
    while not bell.is_stopping:
        reply: object = None
        if isinstance(step, Pause):
            bell.wait(step.seconds)
        else:
            try:
                (reply,) = ask([step])
            except RaftKvError as error:
                reply = error
        step = steps.send(reply)

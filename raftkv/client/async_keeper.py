"""The task that keeps a client's session alive and ends what its callers gave up.

Started when the client has a session, and ended with the client: by `stop`, or some
time after the garbage collector, so neither the task nor what it holds refers to the
client itself. What is to be done is said by client.session_duties.

User: client.async_client.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Awaitable, Callable

from raftkv.client.policy import Pause, Request
from raftkv.client.session_duties import duties
from raftkv.client.sessions import Sessions
from raftkv.errors import RaftKvError

Ask = Callable[[list[Request]], Awaitable[list[object]]]


class _Bell:
    """Wakes the task, and tells it to end."""

    def __init__(self) -> None:
        self.is_stopping = False
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    def stop(self) -> None:
        # The collector may call from any thread: the task looks when it wakes.
        self.is_stopping = True

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


class AsyncKeeper:
    """Does the duties of one client's session.

    Args:
        ask: Gets replies from the cluster.
        sessions: Of the client.
    """

    def __init__(self, ask: Ask, sessions: Sessions) -> None:
        self._ask = ask
        self._sessions = sessions
        self._bell = _Bell()
        self._task: asyncio.Task[None] | None = None
        sessions.wake = self._bell.ring
        weakref.finalize(self, self._bell.stop)

    def start_if_needed(self) -> None:
        """Start the task if there is a session and it does not run."""
        if self._task is None and self._sessions.current and not self._bell.is_stopping:
            self._task = asyncio.create_task(_keep(self._ask, self._sessions, self._bell))

    async def stop(self) -> None:
        """End the task."""
        self._bell.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


async def _keep(ask: Ask, sessions: Sessions, bell: _Bell) -> None:
    steps = duties(sessions, time.monotonic)
    step = next(steps)
    while not bell.is_stopping:
        reply: object = None
        if isinstance(step, Pause):
            await bell.wait(step.seconds)
        else:
            try:
                (reply,) = await ask([step])
            except RaftKvError as error:
                reply = error
        step = steps.send(reply)

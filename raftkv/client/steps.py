"""Conversations of several calls as generators: what leases and recipes are made of.

A conversation yields an `Ask` and is sent what the call returned, or has what it
raised thrown into it; or it yields a `Pause` and goes on behind it. So one policy
drives the blocking client and the asynchronous one, and a test without either. Pure.

Users: client.leases and client.recipes; the drivers are in client.sync_lease and
client.async_lease.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from raftkv.client.calls import Call
from raftkv.client.policy import CLOSED, Pause
from raftkv.client.sessions import is_decided
from raftkv.errors import CommandError, IndefiniteError, RequestError

T = TypeVar("T")

# A pause between two looks at something that others change.
POLL_S_FIRST: Final = 0.02
POLL_S_MAX: Final = 0.5


class Ask(NamedTuple):
    """Effect: run a call.

    Attributes:
        call: What to run.
        deadline_s: Seconds it may take; None for what the client allows.
    """

    call: Call[Any]
    deadline_s: float | None = None


Steps: TypeAlias = Generator[Ask | Pause, Any, T]


class Outside(NamedTuple):
    """What a conversation takes from outside.

    Attributes:
        clock: Returns seconds; never goes back.
        chance: Returns a number from 0 to 1.
    """

    clock: Callable[[], float]
    chance: Callable[[], float]


def run(call: Call[T]) -> Steps[T]:
    """Run one call."""
    result: T = yield Ask(call)
    return result


def repeat(call: Call[T], *, end_s: float, outside: Outside) -> Steps[T]:
    """Run a call that may be executed twice, until its outcome is known.

    Raises:
        IndefiniteError: It is not known at the end.
        RequestError: As of any call.
    """
    unknown: IndefiniteError | None = None
    pauses = 0
    while True:
        try:
            result: T = yield Ask(call, max(0.0, end_s - outside.clock()))
            return result
        except RequestError as error:
            unknown = still_unknown(unknown, error)
            if outside.clock() >= end_s:
                raise unknown from None
        pauses += 1
        yield Pause(poll_pause_s(pauses, outside.chance()))


def still_unknown(unknown: IndefiniteError | None, error: RequestError) -> IndefiniteError:
    """Return why it is not known what became of a call that is run again and again.

    Args:
        unknown: What an earlier request ended with, if nobody knows its fate.
        error: What the last one ended with. That it was not executed says nothing about
            an earlier one, unless the store has looked at it.

    Raises:
        RequestError: The last error, if it leaves no doubt; or the one before, if the
            client is closed.
    """
    if isinstance(error, IndefiniteError):
        return error
    if unknown is None or (isinstance(error, CommandError) and is_decided(error)):
        raise error
    if str(error) == CLOSED:
        raise unknown from None
    return unknown


def poll(
    look: Callable[[], Steps[T | None]], *, end_s: float | None, outside: Outside
) -> Steps[T | None]:
    """Look at something again and again, until there is something to see or the time is over.

    This is the one place in which recipes wait for others.

    Args:
        look: Makes a conversation that returns None while there is nothing to see.
        end_s: When to give up, on the clock; None for never.
        outside: Clock and chance.
    """
    pauses = 0
    while True:
        seen = yield from look()
        if seen is not None:
            return seen
        pauses += 1
        pause_s = poll_pause_s(pauses, outside.chance())
        if end_s is not None:
            left_s = end_s - outside.clock()
            if left_s <= 0:
                return None
            pause_s = min(pause_s, left_s)
        yield Pause(pause_s)


def poll_pause_s(pauses: int, chance: float) -> float:
    """Return the seconds before the next look, growing and jittered by half."""
    longest = min(POLL_S_FIRST * 1.5 ** min(pauses - 1, 16), POLL_S_MAX)
    return longest * (0.5 + 0.5 * chance)

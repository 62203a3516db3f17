"""Read, compute, write back as one: the client's side of optimistic transactions.

Owns the conversation behind `Client.transaction` and `AsyncClient.transaction` as
a generator without I/O: it yields a call to run, a `Gather` for the caller's
function to be called with, or a pause, and is sent what a call returned. No state
is left on any connection: the revisions of the watched keys are read in one
request, and the commands go with them in another one (`KV EXEC`).

Invariants: the function is called anew only for what was certainly not executed, a
refusal because a watched key changed. What is lost on the way is sent again as any
write is (client.once); an outcome that stays unknown is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from raftkv.client.calls import Call
from raftkv.client.commands import Text, make_call
from raftkv.client.pipeline import Commands, results_of
from raftkv.client.policy import Pause, back_off_s
from raftkv.client.protocol import Argument
from raftkv.client.replies import to_integer
from raftkv.errors import NotAppliedError, ProtocolError

WATCHED_KEYS_CHANGED = "watched keys changed until the deadline"


class Transaction(Commands):
    """Commands to be executed as one, unless a watched key changes before.

    Given to the function that `transaction` calls; every method gathers a command.
    """


class Gather(NamedTuple):
    """Effect: let the caller's function gather commands."""

    transaction: Transaction


def transact(
    watched: Sequence[Text],
    *,
    end_s: float,
    clock: Callable[[], float],
    chance: Callable[[], float],
    decode: bool,
    raise_first: bool,
) -> Generator[Call[Any] | Gather | Pause, Any, list[Any]]:
    """Converse until a transaction is executed.

    Args:
        watched: Keys that the commands depend on.
        end_s: When to give up, on the clock.
        clock: Returns seconds.
        chance: Returns a number from 0 to 1.
        decode: See `Client`.
        raise_first: See `Pipeline.execute`.

    Returns:
        One result a command.

    Raises:
        NotAppliedError: Watched keys changed again and again, until the end.
        RequestError: As of any call, or the first among the results.
    """
    pauses = 0
    while True:
        revisions: list[int] = []
        if watched:
            revisions = yield make_call(_to_integers, "KV", "REVISIONS", *watched)
        transaction = Transaction()
        yield Gather(transaction)
        calls = transaction.take_calls()
        replies = yield _execution(watched, revisions, calls)
        if replies is not None:
            return results_of(calls, replies, decode=decode, raise_first=raise_first)
        pauses += 1
        pause_s = back_off_s(pauses, chance())
        if clock() + pause_s >= end_s:
            raise NotAppliedError(WATCHED_KEYS_CHANGED)
        yield Pause(pause_s)


def _execution(
    watched: Sequence[Text], revisions: list[int], calls: list[Call[Any]]
) -> Call[list[Any] | None]:
    """Return the call that executes commands if the revisions are still these."""
    words: list[Argument] = ["KV", "EXEC", len(watched)]
    for key, revision in zip(watched, revisions, strict=True):
        words += (key, revision)
    words.append(len(calls))
    for call in calls:
        words.append(len(call.request.arguments))
        words += call.request.arguments
    return make_call(_to_replies, *words)


def _to_integers(reply: Any) -> list[int]:
    if not isinstance(reply, list):
        raise ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")
    return [to_integer(item) for item in reply]


def _to_replies(reply: Any) -> list[Any] | None:
    if reply is None or isinstance(reply, list):
        return reply
    raise ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")

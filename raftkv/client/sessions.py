"""Which writes of a client carry which number, and which of them are finished.

A client opens one session of the cluster and gives each of its writes a number there;
the cluster executes a number once, however many copies of it arrive. `NumberedRequest`
is such a write as it is sent, `ClientSession` the numbers of one session, and
`Sessions` what all callers of a client share.

Invariants: a number belongs to one call for ever. The lowest unfinished number goes
with every copy and frees the results below it on the cluster, so a number is finished
only once its outcome is known, or is not wanted any more. A write whose outcome is
unknown is never sent under another session.

Pure, and safe for threads with the lock that the caller brings. What is sent when:
client.once, client.session_duties. Users: these, client.policy and both clients.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, TypeAlias

from raftkv.errors import (
    CommandError,
    DefiniteError,
    IndefiniteError,
    NotAppliedError,
    OutcomeUnknownError,
    RequestError,
)

# A session lives for this long without a word of its client, or for twice the deadline
# of its calls, so that it outlives what a call outlives.
TTL_MS_MIN: Final = 60_000
TTL_MS_MAX: Final = 24 * 3600 * 1000
# Limit: numbers from the lowest unfinished one on; the cluster takes no more.
WINDOW_NUMBERS_MAX: Final = 8192
# Limit: outcomes remembered of writes that were given up.
OUTCOMES_MAX: Final = 4096
# After a refusal to open a session, because there are too many or none is known, writes
# go without one for so long.
REFUSED_S: Final = 5.0
NOT_KNOWN_S: Final = 60.0

SESSION_EXPIRED: Final = "session expired"
FENCED: Final = "fenced"
RESULT_TOO_LARGE: Final = "result exceeds what a session keeps"
TOO_MANY_SESSIONS: Final = "too many sessions"
# Refusals that the store itself decided, for all copies of a number.
_DECIDED_REASONS: Final = (FENCED, RESULT_TOO_LARGE)
# First words of errors that a node answers by itself, whatever other copies are told.
_NODE_CODES: Final = frozenset({"TRYAGAIN", "LOADING", "NOAUTH", "NOPERM", "MISCONF", "READONLY"})


Lock: TypeAlias = AbstractContextManager[object]


class Outcome(NamedTuple):
    """What became of a write.

    Attributes:
        applied: Whether it was executed. If not, it never will be.
        result: The reply to it, unconverted, as from `execute`; the error that it was
            answered with, if it was; None if it was not executed.
    """

    applied: bool
    result: Any = None


class NumberedRequest:
    """A write with its number; may be sent any number of times.

    Attributes:
        session: Where the number counts.
        number: Of this write.
        words: The command itself.
        reads: False.
        stateful: False.
        is_uncertain: A copy was sent of which nothing is known.
        is_finished: The outcome is known, or is not wanted any more.
    """

    __slots__ = ("is_finished", "is_uncertain", "number", "session", "words")

    reads: Final = False
    stateful: Final = False
    repeatable: Final = True

    def __init__(self, session: ClientSession, number: int, words: tuple[bytes, ...]) -> None:
        self.session = session
        self.number = number
        self.words = words
        self.is_uncertain = False
        self.is_finished = False

    @property
    def arguments(self) -> tuple[bytes, ...]:
        """The words to send now; the lowest unfinished number may be another one later."""
        session = self.session
        lowest = session.lowest()
        return (b"KV", b"ONCE", session.word, b"%d" % self.number, b"%d" % lowest, *self.words)

    def note(self, reply: object) -> None:
        """Take what a copy brought."""
        if isinstance(reply, IndefiniteError):
            if not is_expired(reply):
                self.is_uncertain = True
        elif is_decided(reply):
            self.finish()

    def finish(self) -> None:
        """Let the cluster forget the result."""
        if not self.is_finished:
            self.is_finished = True
            self.session.finish(self.number)


def note_replies(requests: Iterable[object], replies: Iterable[object]) -> None:
    """Tell the numbered ones among `requests` what came back for them."""
    for request, reply in zip(requests, replies, strict=True):
        if isinstance(request, NumberedRequest):
            request.note(reply)


def is_expired(reply: object) -> bool:
    """Whether a reply says that the session, or the number in it, is not known any more."""
    return isinstance(reply, OutcomeUnknownError) and str(reply) == SESSION_EXPIRED


def is_decided(reply: object) -> bool:
    """Whether a reply to a numbered write is what every copy of it is told."""
    if isinstance(reply, CommandError):
        return reply.code not in _NODE_CODES
    if isinstance(reply, NotAppliedError):
        return str(reply).startswith(_DECIDED_REASONS)
    return not isinstance(reply, RequestError)


class ClientSession:
    """The numbers of one session.

    Attributes:
        id: Of the session, on the cluster.
        word: The same, as it is sent.
        renewed_s: When something was last sent that kept it alive.
    """

    def __init__(self, session_id: int, now_s: float, lock: Lock) -> None:
        self.id = session_id
        self.word = b"%d" % session_id
        self.renewed_s = now_s
        self._lock = lock
        self._next = 1
        # Unfinished numbers, and beside them those finished that are not the lowest.
        self._unfinished: list[int] = []
        self._finished: set[int] = set()
        self._given_up: list[int] = []

    def take(self, count: int) -> list[int] | None:
        """Return that many new numbers in ascending order, or None if they do not fit now."""
        with self._lock:
            first = self._next
            lowest = self._unfinished[0] if self._unfinished else first
            if first + count - lowest > WINDOW_NUMBERS_MAX:
                return None
            self._next = first + count
            numbers = list(range(first, first + count))
            for number in numbers:
                heapq.heappush(self._unfinished, number)
            return numbers

    def lowest(self) -> int:
        """Return the lowest unfinished number; there is one."""
        with self._lock:
            return self._unfinished[0]

    def finish(self, number: int) -> None:
        """Note that the outcome of a number is known, or not wanted any more."""
        with self._lock:
            self._finished.add(number)
            while self._unfinished and self._unfinished[0] in self._finished:
                self._finished.discard(heapq.heappop(self._unfinished))

    def give_up(self, number: int) -> None:
        """Note that nobody waits for a number whose outcome is unknown."""
        with self._lock:
            self._given_up.append(number)

    def next_given_up(self) -> int | None:
        """Return the oldest number to be asked about, or None."""
        with self._lock:
            return self._given_up[0] if self._given_up else None

    def settle(self, number: int) -> None:
        """Note that the outcome of a number that was given up is known."""
        with self._lock:
            if number not in self._given_up:
                return
            self._given_up.remove(number)
        self.finish(number)


class Sessions:
    """What all callers of a client share.

    Args:
        lock: Not reentrant, held for moments only; a null context where there are no threads.
        deadline_s: Of the calls.

    Attributes:
        lock: The same.
        ttl_ms: Time to live that sessions are opened with.
        current: The session of new writes, or None.
        is_opening: A caller is opening one; the others wait for it.
        refused_until_s: Until then none is opened: the cluster has too many, or knows none.
        wake: Called when a write is given up.
    """

    def __init__(self, lock: Lock, deadline_s: float) -> None:
        self.ttl_ms = min(TTL_MS_MAX, max(TTL_MS_MIN, int(min(deadline_s, 1e6) * 2000)))
        self.begin(lock)

    def begin(self, lock: Lock) -> None:
        """Start without a session."""
        self.lock = lock
        self.current: ClientSession | None = None
        self.is_opening = False
        self.refused_until_s = float("-inf")
        self.wake: Callable[[], object] = lambda: None
        self._outcomes: OrderedDict[tuple[int, int], Outcome] = OrderedDict()

    def begin_opening(self) -> bool:
        """Say whether the caller shall open a session, and keep the others from it."""
        with self.lock:
            if self.is_opening or self.current is not None:
                return False
            self.is_opening = True
            return True

    def end_opening(self, session: ClientSession | None) -> None:
        """Let others use the session, or try themselves."""
        with self.lock:
            self.is_opening = False
            self.current = session

    def forget(self, session: ClientSession) -> None:
        """Use another session for new writes: this one has expired."""
        with self.lock:
            if self.current is session:
                self.current = None

    def outcome(self, session_id: int, number: int) -> Outcome | None:
        """Return what is known here of a write, or None."""
        return self._outcomes.get((session_id, number))

    def settle(self, session_id: int, number: int, outcome: Outcome) -> None:
        """Note what became of a write that was given up, and remember it for a while."""
        with self.lock:
            self._outcomes[session_id, number] = outcome
            if len(self._outcomes) > OUTCOMES_MAX:
                self._outcomes.popitem(last=False)
            session = self.current
        if session is not None and session.id == session_id:
            session.settle(number)


def outcome_of(reply: object) -> Outcome | RequestError:
    """Return what a reply to KV OUTCOME says, or the error that it is."""
    if isinstance(reply, RequestError):
        return reply
    if isinstance(reply, list) and reply == [b"fenced"]:
        return Outcome(applied=False)
    if isinstance(reply, list) and len(reply) == 2 and reply[0] == b"applied":
        return Outcome(applied=True, result=reply[1])
    return OutcomeUnknownError("an outcome of an unexpected kind")


def reply_of(outcome: Outcome) -> object:
    """Return what a write with this outcome would have been answered."""
    return outcome.result if outcome.applied else NotAppliedError(FENCED)


def named(error: RequestError, request: NumberedRequest) -> RequestError:
    """Return an error with the session and the number of its write."""
    if isinstance(error, DefiniteError):
        error = OutcomeUnknownError(str(error))
    error.session = request.session.id
    error.number = request.number
    return error

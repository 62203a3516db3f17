"""Writes that take effect once, though they are sent until an answer comes.

Owns the conversation around `client.policy`: it opens a session at the first write,
gives each write its number, and sees to it that every number ends: with its answer;
or, short of the deadline, with what `KV OUTCOME` says, which fences what was not
executed; or with an error that names it, so that the caller may ask later.

Invariant: what is raised as definite was not executed and never will be, also where
a copy of it is still under way. So a refusal counts only if no copy came before it of
which nothing is known.

Without I/O, as the policy. What is done for the session beside the calls is in
client.session_duties. Users: both clients.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from raftkv.client import reading as reads
from raftkv.client.policy import BEHIND_UNKNOWN, Exchange, Exchanged, Pause, Request, Route
from raftkv.client.reading import Reading
from raftkv.client.replies import decoded
from raftkv.client.sessions import (
    NOT_KNOWN_S,
    REFUSED_S,
    RESULT_TOO_LARGE,
    SESSION_EXPIRED,
    TOO_MANY_SESSIONS,
    ClientSession,
    NumberedRequest,
    Outcome,
    Sessions,
    is_decided,
    is_expired,
    named,
    outcome_of,
    reply_of,
)
from raftkv.errors import (
    CommandError,
    DefiniteError,
    IndefiniteError,
    NotAppliedError,
    OutcomeUnknownError,
    RequestError,
)

Conversation = Generator[Exchange | Pause, Exchanged, list[object]]
Step = Generator[Exchange | Pause, Exchanged, Any]

# Limit: numbers that one part of a pipeline takes, so that several callers fit into
# the window of a session.
PART_NUMBERS_MAX: Final = 1024
# Of the deadline, for asking what became of a write.
RESERVE_SHARE: Final = 0.1
RESERVE_S_MAX: Final = 1.0
# While another caller opens the session, or the window is full.
_WAIT_S: Final = 0.002


class _Talk:
    """What the parts of one conversation share."""

    def __init__(
        self,
        sessions: Sessions,
        ordinary: Callable[[Sequence[Request | NumberedRequest], float], Conversation],
        end_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.sessions = sessions
        self.ordinary = ordinary
        self.end_s = end_s
        self.reserve_s = min(RESERVE_S_MAX, max(0.0, end_s - clock()) * RESERVE_SHARE)
        self.clock = clock


def converse(
    sessions: Sessions | None,
    reading: Reading | None,
    route: Route,
    requests: Sequence[Request],
    *,
    end_s: float,
    reach_s_max: float,
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Conversation:
    """Get a reply for each of `requests`, as `reading.converse`, its writes once.

    Args:
        sessions: Of the client; None to send writes without a number, at most once.
        reading: See `reading.converse`, as for the others.
        route: Where to send them. On one that is pinned nothing is sent twice, nor where
            a request changes its connection, as MULTI does.
        requests: At least one.
        end_s: See `policy.converse`, as for the others.
        reach_s_max: See there.
        clock: See there.
        chance: See there.

    Returns:
        For each request its reply, or the `RequestError` that it ended with. An
        `IndefiniteError` of a numbered write names session and number.
    """

    def ordinary(asked: Sequence[Request | NumberedRequest], until_s: float) -> Conversation:
        return reads.converse(
            reading, route, asked,
            end_s=until_s, reach_s_max=reach_s_max, clock=clock, chance=chance,
        )  # fmt: skip

    if (
        sessions is None
        or route.pinned
        or not any(request.once for request in requests)
        or any(request.stateful for request in requests)
    ):
        return (yield from ordinary(requests, end_s))
    talk = _Talk(sessions, ordinary, end_s, clock)
    if len(requests) <= PART_NUMBERS_MAX:
        return (yield from _converse_part(talk, requests))
    results: list[object] = []
    for part in _parts(requests):
        if any(isinstance(result, IndefiniteError) for result in results):
            results += [NotAppliedError(BEHIND_UNKNOWN) for _ in part]
        else:
            results += yield from _converse_part(talk, part)
    return results


def _parts(requests: Sequence[Request]) -> Generator[Sequence[Request], None, None]:
    """Cut a pipeline where it has as many writes as one part may have."""
    first = count = 0
    for position, request in enumerate(requests):
        if request.once and count == PART_NUMBERS_MAX:
            yield requests[first:position]
            first, count = position, 0
        count += request.once
    yield requests[first:]


def _converse_part(talk: _Talk, requests: Sequence[Request]) -> Conversation:
    if not any(request.once for request in requests):
        return (yield from talk.ordinary(requests, talk.end_s))
    while True:
        session = yield from _session(talk)
        if session is None:
            return (yield from talk.ordinary(requests, talk.end_s))
        if isinstance(session, RequestError):
            return [session for _ in requests]
        numbered = yield from _numbered(talk, session, requests)
        if numbered is None:
            return [NotAppliedError("too many writes are unfinished") for _ in requests]
        try:
            results = yield from _execute(talk, session, numbered)
        finally:
            # A caller that was cancelled leaves numbers behind.
            for request in numbered:
                if isinstance(request, NumberedRequest) and not request.is_finished:
                    request.session.give_up(request.number)
                    request.is_finished = True
                    talk.sessions.wake()
        if not _is_worth_another_session(requests, results):
            break
    if len(requests) == 1 and _is_too_large(results[0]):
        # Certainly not executed: as good as new, but without a number.
        return (yield from talk.ordinary(requests, talk.end_s))
    return results


def _is_worth_another_session(requests: Sequence[Request], results: Sequence[object]) -> bool:
    """Whether all writes were refused because the session had expired before."""
    for request, result in zip(requests, results, strict=True):
        if not request.once:
            if not request.reads:
                return False
        elif not isinstance(result, NotAppliedError) or str(result) != SESSION_EXPIRED:
            return False
    return True


def _is_too_large(result: object) -> bool:
    return isinstance(result, NotAppliedError) and str(result).startswith(RESULT_TOO_LARGE)


def _session(talk: _Talk) -> Step:
    """Return the session to use, None to go without, or why there is none."""
    sessions = talk.sessions
    while talk.clock() < talk.end_s:
        if talk.clock() < sessions.refused_until_s:
            return None
        session = sessions.current
        if session is not None:
            return session
        if sessions.begin_opening():
            return (yield from _open(talk))
        yield Pause(_WAIT_S)
    return NotAppliedError("no session was opened before the deadline")


def _open(talk: _Talk) -> Step:
    sessions = talk.sessions
    opened: ClientSession | None = None
    try:
        asked_s = talk.clock()
        words = (b"KV", b"SESSION", b"OPEN", b"TTL", b"%d" % sessions.ttl_ms)
        # One that nobody uses, because its answer was lost, expires.
        asked = Request(words, reads=False, stateful=False, repeats=True)
        (reply,) = yield from talk.ordinary([asked], talk.end_s)
        if isinstance(reply, int):
            opened = ClientSession(reply, asked_s, sessions.lock)
            return opened
        if isinstance(reply, NotAppliedError) and str(reply) == TOO_MANY_SESSIONS:
            sessions.refused_until_s = talk.clock() + REFUSED_S
            return None
        if isinstance(reply, CommandError) and reply.code == "ERR":
            sessions.refused_until_s = talk.clock() + NOT_KNOWN_S
            return None
        if isinstance(reply, DefiniteError):
            return reply
        return NotAppliedError(f"no session was opened: {reply}")
    finally:
        sessions.end_opening(opened)


def _numbered(talk: _Talk, session: ClientSession, requests: Sequence[Request]) -> Step:
    """Return the requests with numbers for the writes; None if none became free in time."""
    count = sum([request.once for request in requests])
    while (numbers := session.take(count)) is None:
        if talk.clock() >= talk.end_s:
            return None
        yield Pause(_WAIT_S)
    following = iter(numbers)
    return [
        NumberedRequest(session, next(following), request.arguments) if request.once else request
        for request in requests
    ]


def _execute(
    talk: _Talk, session: ClientSession, requests: Sequence[Request | NumberedRequest]
) -> Conversation:
    """Send until the answers are there, or ask what became of the writes without."""
    sent_s = talk.clock()
    results = yield from talk.ordinary(requests, talk.end_s - talk.reserve_s)
    unresolved: list[int] = []
    for position, (request, result) in enumerate(zip(requests, results, strict=True)):
        if not isinstance(request, NumberedRequest):
            continue
        if is_expired(result):
            talk.sessions.forget(session)
            results[position] = _expired(request)
        elif is_decided(result):
            session.renewed_s = max(session.renewed_s, sent_s)
        elif request.is_uncertain:
            unresolved.append(position)
            continue
        request.finish()
    if unresolved:
        yield from _resolve(talk, requests, results, unresolved)
    return results


def _expired(request: NumberedRequest) -> RequestError:
    if request.is_uncertain:
        return named(OutcomeUnknownError(SESSION_EXPIRED), request)
    return NotAppliedError(SESSION_EXPIRED)


def _resolve(
    talk: _Talk,
    requests: Sequence[Request | NumberedRequest],
    results: list[object],
    unresolved: list[int],
) -> Step:
    """Ask for outcomes, the last first: what is executed of a pipeline is its beginning."""
    waiting: list[tuple[int, NumberedRequest]] = []
    for position in reversed(unresolved):
        request = requests[position]
        assert isinstance(request, NumberedRequest)
        waiting.append((position, request))
        results[position] = named(_as_error(results[position]), request)
    asked = [outcome_request(request.session.id, request.number) for _, request in waiting]
    replies = yield from talk.ordinary(asked, talk.end_s)
    for (position, request), reply in zip(waiting, replies, strict=True):
        outcome = outcome_of(reply)
        if isinstance(outcome, Outcome):
            results[position] = reply_of(outcome)
            request.finish()
        elif is_expired(outcome):
            results[position] = named(outcome, request)
            talk.sessions.forget(request.session)
            request.finish()


def _as_error(result: object) -> RequestError:
    assert isinstance(result, RequestError)
    return result


def outcome_request(session_id: int, number: int) -> Request:
    """Return the request that decides a number; it may be sent again."""
    words = (b"KV", b"OUTCOME", b"%d" % session_id, b"%d" % number)
    return Request(words, reads=False, stateful=False, repeats=True)


# ------------------------------------------------------------- asked by a caller


def write_of(error: RequestError) -> tuple[int, int]:
    """Return session and number of the write that an error is about.

    Raises:
        ValueError: It is not about a numbered write.
    """
    if error.session is None or error.number is None:
        raise ValueError("the error is not about a write of a session")
    return error.session, error.number


def known_outcome(sessions: Sessions | None, write: tuple[int, int]) -> Outcome | None:
    """Return what became of a write if it was found out beside the calls."""
    return None if sessions is None else sessions.outcome(*write)


def shown_outcome(outcome: Outcome, *, decode: bool) -> Outcome:
    """Return an outcome as the caller wants it."""
    return outcome._replace(result=decoded(outcome.result)) if decode else outcome


def learn_outcome(sessions: Sessions | None, write: tuple[int, int], reply: object) -> Outcome:
    """Take the reply to `outcome_request`.

    Raises:
        RequestError: It says nothing.
    """
    outcome = outcome_of(reply)
    if isinstance(outcome, RequestError):
        # Somebody else may have asked meanwhile, and the number was freed.
        known = known_outcome(sessions, write)
        if known is None:
            raise outcome
        return known
    if sessions is not None:
        sessions.settle(*write, outcome)
    return outcome

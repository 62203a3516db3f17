"""What is done for a session of a client beside its calls: keeping it, clearing it, closing it.

Owns no thread and no task: `duties` is a generator without I/O that says what to ask
and how long to wait, carried out by client.sync_keeper and client.async_keeper. The
calls themselves are in client.once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Final

from raftkv.client.once import outcome_request
from raftkv.client.policy import Pause, Request
from raftkv.client.sessions import ClientSession, Outcome, Sessions, is_expired, outcome_of

# Of the time to live of a session, until it is kept alive.
_KEEPALIVE_SHARE: Final = 1 / 3
_RETRY_S: Final = 1.0
# Limit: a question waits this long for an answer.
DUTY_S_MAX: Final = 5.0


def duties(
    sessions: Sessions, clock: Callable[[], float]
) -> Generator[Request | Pause, object, None]:
    """Say what has to be done for a session while nobody calls.

    Yields a request to be answered with its reply, or a pause, which ends early when a
    write is given up. Keeps the session alive, and finds out what became of writes whose
    callers have given up, so that their numbers do not fill the window.
    """
    while True:
        keepalive_s = sessions.ttl_ms / 1000 * _KEEPALIVE_SHARE
        session = sessions.current
        if session is None:
            yield Pause(keepalive_s)
            continue
        number = session.next_given_up()
        due_s = session.renewed_s + keepalive_s - clock()
        if number is not None:
            outcome = outcome_of((yield outcome_request(session.id, number)))
            if isinstance(outcome, Outcome):
                sessions.settle(session.id, number, outcome)
            elif is_expired(outcome):
                session.settle(number)
            else:
                yield Pause(_RETRY_S)
        elif due_s <= 0:
            asked_s = clock()
            words = (b"KV", b"SESSION", b"KEEPALIVE", b"%d" % session.id)
            reply = yield Request(words, reads=False, stateful=False, repeats=True)
            if reply == 1:
                session.renewed_s = asked_s
            elif reply == 0:
                sessions.forget(session)
            else:
                yield Pause(_RETRY_S)
        else:
            yield Pause(due_s)


def close_request(session: ClientSession) -> Request:
    """Return the request that ends a session."""
    return Request((b"KV", b"SESSION", b"CLOSE", b"%d" % session.id), reads=False, stateful=False)

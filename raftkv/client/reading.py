"""Reads that a client asks for at another level than the nodes' own, and sessions.

`Reading` says how: at which level, and behind which token. Such reads are tried once:
a lease where the leader is believed to be, the others at any node in turn. Whatever
comes of that try but an answer, the ordinary way is gone, linearizable whatever the level
of the nodes: so a level is never weaker than asked for, and a node that is behind costs a
detour only.

A session carries a token from each answer to the next question, so that reads from any
nodes see its own writes, and never less than before. A token tells of a write only if
both were answered on one connection; else the next read asks the leader.

Without I/O, as client.policy, which does the ordinary part. Users: both clients.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Literal

from raftkv.client import policy
from raftkv.client.policy import Exchange, Exchanged, Fate, Pause, Request, Route
from raftkv.client.protocol import encode_request
from raftkv.client.sessions import NumberedRequest
from raftkv.errors import NotAppliedError, RequestError

Level = Literal["linearizable", "lease", "bounded", "stale"]
Conversation = Generator[Exchange | Pause, Exchanged, list[object]]

_TOKEN = Request((b"RAFT", b"TOKEN"), reads=True, stateful=False)
_LINEARIZABLE = encode_request((b"RAFT", b"READS", b"LINEARIZABLE"))
_DEFAULT = (b"RAFT", b"READS", b"DEFAULT")
_TOKEN_FORM = re.compile(rb"\d{1,19}/(\d{1,19})\Z")
_TOO_EARLY = NotAppliedError("the command before was not executed")
# A node that is behind its token is not waited for much longer than the leader takes.
_TRY_S_MAX = 0.5


class Session:
    """What the reads of one caller have to see.

    Attributes:
        token: The highest position that was shown, or None.
        uncertain: Something was answered without a token: ask the leader next.
    """

    def __init__(self) -> None:
        self.token: bytes | None = None
        self.uncertain = False
        self._index = -1
        self._lock = threading.Lock()

    def note(self, reply: object) -> bool:
        """Take a reply to RAFT TOKEN; False where it is none."""
        form = _TOKEN_FORM.match(reply) if isinstance(reply, bytes) else None
        if form is None:
            return False
        with self._lock:
            if int(form[1]) > self._index:
                self._index = int(form[1])
                self.token = form[0]
        return True


class Reading:
    """How a view of a client reads.

    Attributes:
        level: Tried first.
        words: What RAFT READS is told.
        session: Where tokens are kept, or None.
    """

    def __init__(
        self, level: Level, *, bound_ms: int | None = None, session: Session | None = None
    ) -> None:
        """Read at a level; `bound_ms` belongs to `bounded` only.

        Raises:
            ValueError: There is no such level, or the bound does not fit it.
        """
        if level not in ("linearizable", "lease", "bounded", "stale"):
            raise ValueError(f"{level!r} is not one of linearizable, lease, bounded, stale")
        if (level == "bounded") != (bound_ms is not None) or (
            bound_ms is not None and bound_ms < 1
        ):
            raise ValueError("a bound of at least 1 ms belongs to the level bounded")
        self.level = level
        self.words: tuple[bytes, ...] = (b"RAFT", b"READS", level.encode())
        if bound_ms is not None:
            self.words += (b"%d" % bound_ms,)
        self.session = session
        self._turns = itertools.count()

    def address(self, route: Route) -> str:
        """Return whom to try: the leader for a lease, else every node in turn."""
        if self.level == "lease" or route.pinned:
            return route.choose()
        addresses = route.addresses
        return addresses[next(self._turns) % len(addresses)]


def converse(
    reading: Reading | None,
    route: Route,
    requests: Sequence[Request | NumberedRequest],
    *,
    end_s: float,
    reach_s_max: float,
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Conversation:
    """Get a reply for each of `requests`, as `policy.converse`, read as `reading` says."""

    def ordinary(asked: Sequence[Request | NumberedRequest]) -> Conversation:
        return policy.converse(
            route, asked, end_s=end_s, reach_s_max=reach_s_max, clock=clock, chance=chance
        )

    if reading is None:
        return (yield from ordinary(requests))
    session = reading.session
    tries = reading.level != "linearizable" and not (session and session.uncertain)
    if tries and all(request.reads for request in requests):
        replies = yield from _try(reading, route, requests, end_s - clock())
        if replies is not None:
            return replies
    reads = any(request.reads for request in requests)
    around = _linearizable if reads else _unchanged
    if session is None:
        return (yield from around(ordinary(requests)))
    return (yield from around(_with_token(session, ordinary([*requests, _TOKEN]))))


def _unchanged(conversation: Conversation) -> Conversation:
    return conversation


def _linearizable(conversation: Conversation) -> Conversation:
    """Carry out a conversation in which every read is linearizable."""
    try:
        effect = next(conversation)
        while True:
            if isinstance(effect, Exchange):
                exchanged = yield effect._replace(
                    payload=_LINEARIZABLE + effect.payload + encode_request(_DEFAULT),
                    reply_count=effect.reply_count + 2,
                )
                exchanged = exchanged._replace(
                    replies=exchanged.replies[1 : 1 + effect.reply_count]
                )
            else:
                exchanged = yield effect
            effect = conversation.send(exchanged)
    except StopIteration as stop:
        replies: list[object] = stop.value
        return replies


def _try(
    reading: Reading,
    route: Route,
    requests: Sequence[Request | NumberedRequest],
    remaining_s: float,
) -> Generator[Exchange | Pause, Exchanged, list[object] | None]:
    """Ask one node at the level; None where that is no answer to all of it."""
    session = reading.session
    before: list[tuple[bytes, ...]] = [reading.words]
    if session is not None and session.token is not None:
        before.append((b"RAFT", b"AFTER", session.token))
    behind = [_DEFAULT] if session is None else [_TOKEN.arguments, _DEFAULT]
    words = [*before, *(request.arguments for request in requests), *behind]
    exchanged = yield Exchange(
        reading.address(route),
        b"".join([encode_request(one) for one in words]),
        len(words),
        max(0.0, min(remaining_s, _TRY_S_MAX)),
        reusable=not any(request.stateful for request in requests),
    )
    replies = list(exchanged.replies)
    if exchanged.fate is not Fate.COMPLETE or len(replies) != len(words):
        return None
    first, end = len(before), len(before) + len(requests)
    if any(isinstance(reply, RequestError) for reply in replies[:first] + replies[end:]):
        return None
    answers = replies[first:end]
    if any(policy.is_retryable(reply) for reply in answers):
        return None
    if session is not None and not session.note(replies[end]):
        return None
    return answers


def _with_token(session: Session, conversation: Conversation) -> Conversation:
    """Carry out a conversation that ends with RAFT TOKEN, and keep the token if it counts."""
    session.uncertain = True
    asked_last = 0
    replies: list[object]
    try:
        effect = next(conversation)
        while True:
            exchanged = yield effect
            if isinstance(effect, Exchange):
                asked_last = effect.reply_count
                exchanged = _without_early_token(exchanged)
            effect = conversation.send(exchanged)
    except StopIteration as stop:
        *replies, token = stop.value
    # Alone it was asked of another connection, perhaps another node, than what it is for.
    session.uncertain = not (asked_last > 1 and session.note(token))
    return replies


def _without_early_token(exchanged: Exchanged) -> Exchanged:
    """Take back a token that came behind a refusal: all of it is to be sent again."""
    *answers, last = exchanged.replies or (None,)
    if not any(policy.is_retryable(reply) for reply in answers) or policy.is_retryable(last):
        return exchanged
    return exchanged._replace(replies=[*answers, _TOO_EARLY])

"""Which node is asked next, what is sent again, and when to give up.

Owns the whole behaviour of a client towards a cluster as a generator without
I/O: `converse` yields an `Exchange` (send these bytes to that node, bring back
so many replies) or a `Pause`, and is sent what came of it. The two shells only
carry that out, so they cannot differ in what they retry.

Invariants:
* Sent again is only what was certainly not executed, definite refusals and requests
  that never left, and what may be repeated: reads, which change nothing, and numbered
  writes, which the cluster executes once. Any other write whose outcome is unknown is
  an `IndefiniteError` and is never sent again.
* Order in a pipeline is kept: a command is sent again only together with all
  commands behind it, and never behind one whose outcome is unknown.
* Every conversation ends at its deadline, with the last known reason.

Source: design of redirects in Redis Cluster; the distinction of definite and
indefinite errors follows Maelstrom's protocol.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from raftkv.client.protocol import encode_request, split_address
from raftkv.client.sessions import (
    FENCED,
    RESULT_TOO_LARGE,
    TOO_MANY_SESSIONS,
    NumberedRequest,
    is_expired,
    note_replies,
)
from raftkv.errors import (
    CommandError,
    ConnectFailedError,
    ConnectionLostError,
    DeadlineExceededError,
    IndefiniteError,
    NoLeaderError,
    NotAppliedError,
    NotLeaderError,
    OutcomeUnknownError,
    RequestError,
)

DEADLINE_S_DEFAULT = 10.0
CONNECT_S_MAX = 1.0
# A server answers within 4 s. A read that waits longer is asked elsewhere.
READ_REPLY_S_MAX = 5.0
BACK_OFF_S_FIRST = 0.02
BACK_OFF_S_MAX = 0.5
# A dead node and a redirect or two cost no time; but two nodes that name each
# other as leader must not be asked in a tight loop.
FREE_TRIES_AT_FIRST = 3
FREE_TRIES_AFTER_PAUSE = 2
# Limit: addresses remembered from a cluster that changes its members.
ADDRESSES_MAX = 64

# What calls of a client end with once it is closed, and those behind them.
CLOSED_UNDER_WAY = "the client was closed"
CLOSED = "the client is closed"
# Waiting does not help against these within the life of a request.
BEHIND_UNKNOWN = "earlier command unknown"
_FINAL_REASONS = ("disk full", BEHIND_UNKNOWN, FENCED, RESULT_TOO_LARGE, TOO_MANY_SESSIONS)
_TRANSIENT_CODES = frozenset({"TRYAGAIN", "LOADING"})


class Fate(enum.Enum):
    """How an exchange with a node ended."""

    COMPLETE = "complete"  # every reply came
    UNREACHABLE = "unreachable"  # nothing was sent
    LOST = "lost"  # the connection ended before the last reply
    TIMED_OUT = "timed out"  # the time for the replies is over


class Exchange(NamedTuple):
    """Effect: send `payload` to `address` and bring back `reply_count` replies.

    Attributes:
        reply_s_max: Seconds from now until the last reply.
        reusable: Whether the connection may serve another call afterwards.
    """

    address: str
    payload: bytes
    reply_count: int
    reply_s_max: float
    reusable: bool


class Pause(NamedTuple):
    """Effect: let time go by."""

    seconds: float


class Exchanged(NamedTuple):
    """What came of an exchange: replies in order, maybe fewer than asked for."""

    fate: Fate
    replies: Sequence[object] = ()
    detail: str = ""


class Request(NamedTuple):
    """One command as the policy sees it.

    Attributes:
        arguments: Name and arguments as they are sent.
        reads: True when it certainly changes nothing, so that it may be sent again.
        stateful: True when it changes the connection it was sent on.
        once: True when it is a write that the cluster can execute once.
        repeats: True when a second execution changes nothing more.
        waits_s: How long a server may hold it back on purpose, besides the deadline.
    """

    arguments: tuple[bytes, ...]
    reads: bool
    stateful: bool
    once: bool = False
    repeats: bool = False
    waits_s: float = 0.0

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again although it may have been executed."""
        return self.reads or self.repeats


class Route:
    """What a client knows about where the nodes are and who leads.

    Shared by all calls of a client, from any thread: every change replaces one
    attribute, and a lost update costs one redirect.

    Attributes:
        addresses: Given and learned nodes, in the order they are tried.
        leader: Address believed to lead, or None.
        pinned: True when only the one address may be asked and nothing is followed.
    """

    def __init__(self, addresses: Sequence[str], *, first: int = 0) -> None:
        self.addresses: tuple[str, ...] = tuple(addresses)
        self.leader: str | None = None
        self.pinned = False
        self._position = first
        self._suspect: str | None = None
        self._parent: Route | None = None

    def pin(self, address: str) -> Route:
        """Return a route to one node only; what is learned there is shared with this one."""
        route = Route((address,))
        route.pinned = True
        route._parent = self
        return route

    def choose(self) -> str:
        """Return the node to ask next."""
        return self.leader or self.addresses[self._position % len(self.addresses)]

    def follow(self, address: str, *, told_by: str) -> None:
        """Believe a node that says who leads."""
        host, _, port = address.rpartition(":")
        if not host:
            # As in Redis Cluster: no host means the host that was asked.
            address = f"{told_by.rpartition(':')[0]}:{port}"
        try:
            split_address(address)
        except ValueError:
            self.leave(told_by)
            return
        self.learn((address,))
        self.leader = address
        self._suspect = None

    def leave(self, address: str) -> None:
        """Ask another node than this one next."""
        if self.leader == address:
            self.leader = None
        self._suspect = address
        if self.addresses[self._position % len(self.addresses)] == address:
            self._position = (self._position + 1) % len(self.addresses)

    def learn(self, addresses: Sequence[str], leader: str | None = None) -> None:
        """Remember members that a node has named, and maybe who leads.

        A leader that has just failed is not believed: nodes name the last known
        one until there is another.
        """
        if self._parent is not None:
            self._parent.learn(addresses, leader)
            return
        merged = dict.fromkeys((*self.addresses, *addresses))
        self.addresses = tuple(merged)[:ADDRESSES_MAX]
        if leader and self.leader is None and leader != self._suspect:
            self.leader = leader


HANDSHAKE = (
    encode_request((b"HELLO", b"3")) + encode_request((b"CLUSTER", b"SLOTS")),
    2,
)


def accept_handshake(route: Route, address: str, replies: Sequence[object]) -> str | None:
    """Judge the replies to `HANDSHAKE` and learn the members from them.

    Returns:
        Why the connection cannot be used, or None. A server without RESP3 or
        without cluster commands is usable.
    """
    hello, slots = replies
    if isinstance(hello, RequestError) and "max number of clients" in str(hello):
        return str(hello)
    members = _members_of(slots, told_by=address)
    if members:
        route.learn(members, leader=members[0])
    return None


def _members_of(slots: object, *, told_by: str) -> list[str]:
    """Return the addresses in a reply to CLUSTER SLOTS, the leader first."""
    members: list[str] = []
    for ranged in slots if isinstance(slots, list) else ():
        for node in ranged[2:] if isinstance(ranged, list) else ():
            if isinstance(node, list) and len(node) >= 2 and isinstance(node[1], int):
                host = node[0].decode("utf-8", "replace") if isinstance(node[0], bytes) else ""
                host = host or split_address(told_by)[0]
                members.append(f"{host}:{node[1]}" if ":" not in host else f"[{host}]:{node[1]}")
    return members


def may_reuse(exchange: Exchange, exchanged: Exchanged, *, keep_state: bool) -> bool:
    """Whether the connection of an exchange may serve another call.

    A server closes its connection after saying that an outcome is unknown. It may
    not have done so yet, and the next write would be lost with it.
    """
    return (
        exchanged.fate is Fate.COMPLETE
        and (exchange.reusable or keep_state)
        and not any(isinstance(reply, OutcomeUnknownError) for reply in exchanged.replies)
    )


def is_retryable(error: object) -> bool:
    """Whether a reply says: not executed, and another try may succeed."""
    if isinstance(error, NotLeaderError | NoLeaderError | ConnectFailedError):
        return True
    if isinstance(error, NotAppliedError):
        return not str(error).startswith(_FINAL_REASONS)
    return isinstance(error, CommandError) and error.code in _TRANSIENT_CODES


def back_off_s(attempt: int, chance: float) -> float:
    """Seconds to wait before the try after `attempt` (from 0), jittered by half.

    Args:
        attempt: How many waits there were before.
        chance: Random number from 0 to 1.
    """
    longest = min(BACK_OFF_S_FIRST * 2.0 ** min(attempt, 16), BACK_OFF_S_MAX)
    return longest * (0.5 + 0.5 * chance)


def converse(
    route: Route,
    requests: Sequence[Request | NumberedRequest],
    *,
    end_s: float,
    reach_s_max: float,
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Generator[Exchange | Pause, Exchanged, list[object]]:
    """Get a reply for each of `requests`, in order, whichever node leads.

    Args:
        route: Shared knowledge of the cluster; updated on the way.
        requests: At least one; executed in this order.
        end_s: Time on `clock` after which nothing is waited for.
        reach_s_max: Seconds after which a cluster of which no node at all can be
            reached is given up.
        clock: Monotone seconds.
        chance: Random numbers from 0 to 1, for the jitter.

    Returns:
        For each request its reply, or the `RequestError` that it ended with.
    """
    results: list[object] = [
        ConnectFailedError("the deadline passed before anything was sent") for _ in requests
    ]
    first = 0
    tried = False
    pauses = 0
    free_tries = FREE_TRIES_AT_FIRST
    reached_s = clock()
    while True:
        now_s = clock()
        remaining_s = end_s - now_s
        if remaining_s <= 0 or now_s - reached_s > reach_s_max:
            return results
        rest = requests[first:]
        address = route.choose()
        harmless = all(request.repeatable for request in rest)
        exchanged = yield Exchange(
            address,
            b"".join([encode_request(request.arguments) for request in rest]),
            len(rest),
            min(remaining_s, READ_REPLY_S_MAX) if harmless else remaining_s,
            not any(request.stateful for request in rest),
        )
        if exchanged.fate is not Fate.UNREACHABLE:
            reached_s = clock()
        elif tried and clock() >= end_s:
            # What came before tells more than the deadline that cut this try short.
            return results
        tried = True
        first = _record(results, first, rest, exchanged)
        moved = None if route.pinned else _redirect(results, first, exchanged.fate)
        if moved is not None:
            route.follow(moved, told_by=address)
        elif exchanged.fate is not Fate.COMPLETE or _is_unsettled(results, first):
            route.leave(address)
        if first == len(requests) or route.pinned:
            return results
        quick = moved is not None or (
            exchanged.fate is not Fate.COMPLETE and len(route.addresses) > 1
        )
        if quick and free_tries > 0:
            free_tries -= 1
            continue
        yield Pause(min(back_off_s(pauses, chance()), max(0.0, end_s - clock())))
        pauses += 1
        free_tries = FREE_TRIES_AFTER_PAUSE


def _redirect(results: Sequence[object], first: int, fate: Fate) -> str | None:
    """Return the address to follow, if that is what the first refusal says."""
    if fate is Fate.COMPLETE and first < len(results):
        refusal = results[first]
        if isinstance(refusal, NotLeaderError):
            return refusal.address
    return None


def _is_unsettled(results: Sequence[object], first: int) -> bool:
    """Whether the node has refused for now, or lost its leadership on the way."""
    return first < len(results) or isinstance(results[-1], IndefiniteError | NotAppliedError)


def _record(
    results: list[object],
    first: int,
    rest: Sequence[Request | NumberedRequest],
    exchanged: Exchanged,
) -> int:
    """Write down what an exchange brought.

    Returns:
        Position of the first request to send again; the number of requests if none.
    """
    end = first + len(rest)
    answered = min(first + len(exchanged.replies), end)
    results[first:answered] = exchanged.replies[: answered - first]
    unanswered = rest[answered - first :]
    repeatable = [
        _may_repeat(request, result)
        for request, result in zip(rest, results[first:answered], strict=False)
    ]
    if unanswered:
        sent = exchanged.fate is not Fate.UNREACHABLE
        # Commands behind the lost one may have been executed too, so a tail with
        # a write in it is not sent again in parts.
        harmless = not sent or all(request.repeatable for request in unanswered)
        for position in range(answered, end):
            results[position] = _failure(exchanged)
        repeatable += [harmless] * len(unanswered)
    # A node refuses bad commands itself before it says to the others who leads. Behind a
    # MULTI what it refuses says more: the end of the transaction.
    passes = not any(request.stateful for request in rest)
    again = end
    while again > first and (
        repeatable[again - first - 1] or (passes and isinstance(results[again - 1], CommandError))
    ):
        again -= 1
    while again < end and not repeatable[again - first]:
        again += 1
    if any(isinstance(result, IndefiniteError) for result in results[:again]):
        again = end
    # A number whose write is sent again is not finished.
    noted = [
        position
        for position in range(first, end)
        if position < again or repeatable[position - first]
    ]
    note_replies((rest[one - first] for one in noted), (results[one] for one in noted))
    return again


def _may_repeat(request: Request | NumberedRequest, reply: object) -> bool:
    """Whether a request with this reply may be sent again, together with all behind it."""
    if isinstance(reply, IndefiniteError):
        return request.repeatable and not is_expired(reply)
    behind_unknown = isinstance(reply, NotAppliedError) and str(reply) == BEHIND_UNKNOWN
    return behind_unknown or is_retryable(reply)


def _failure(exchanged: Exchanged) -> RequestError:
    """Return the error of a request that got no reply."""
    if exchanged.fate is Fate.UNREACHABLE:
        return ConnectFailedError(exchanged.detail)
    if exchanged.fate is Fate.TIMED_OUT:
        return DeadlineExceededError(exchanged.detail or "no reply before the deadline")
    return ConnectionLostError(exchanged.detail or "the connection ended before the reply")

"""Sessions of clients: which of their writes were executed, and with what result.

A client numbers its writes. The store keeps the result of each number until the
client says that it knows it, so that a copy of a write is answered instead of being
executed. A number may also be fenced: whatever arrives under it later is refused. So
a client that got no answer can find out, at any time, what became of its write.

Invariants: the id of a session is never given again; nothing inside a live session is
forgotten but by its client, which names its lowest unfinished number with each write;
a session is dead exactly when its deadline is at or before lease time, for every
command on every node alike. Dead ones are dropped whole, a bounded number at a time.

Pure, and knows no keys. Owner: `Keyspace`, one for each store; changed by `once` only.
Tests: tests/unit/kv/test_once.py.
"""

from __future__ import annotations

import heapq
from typing import Any, Final

from raftkv.kv.commands import ErrorReply
from raftkv.types import Couples, Members, NoList, Pairs

# These limits decide what is refused, and so are part of the log format.
SESSIONS_MAX: Final = 10_000
TTL_MS_MIN: Final = 1_000
TTL_MS_MAX: Final = 24 * 3600 * 1000
TTL_MS_DEFAULT: Final = 60_000
# Numbers from the lowest unfinished one on that a session can hold.
WINDOW_NUMBERS_MAX: Final = 8192
RESULT_BYTES_MAX: Final = 1024 * 1024
# A number is refused where more than this is held already, by its session or by all.
SESSION_BYTES_MAX: Final = 4 * 1024 * 1024
TOTAL_BYTES_MAX: Final = 256 * 1024 * 1024
# What a result counts for besides its bytes, and so does each element of a list.
RESULT_BASE_BYTES: Final = 64
_ELEMENT_BYTES: Final = 16

# Limit: answers that go with dead sessions in one batch, besides those of the last.
DROPPED_ANSWERS_MAX: Final = 4096

# Limit: pairs of closed sessions that wait for their deadlines, besides one for each open one.
_DUE_SPARE: Final = 64

# Kinds of lists among results; numbers are part of the image format.
_LIST_CODES: Final[dict[type[Any], int]] = {list: 0, Pairs: 1, Couples: 2, Members: 3, NoList: 4}
_LIST_KINDS: Final = {code: kind for kind, code in _LIST_CODES.items()}
_ERROR_CODE: Final = 5
_FENCED_CODE: Final = 6
_PLAIN: Final = frozenset((int, float, type(None)))


class Fenced:
    """Stands for the result of a number that must not be executed any more."""

    __slots__ = ()


FENCED: Final = Fenced()


class Session:
    """One session of one client.

    Attributes:
        id: Number of the session.
        ttl_ms: How long it lives without a sign of its client.
        deadline_ms: Lease time at which it is dead.
        lowest: Lowest number that its client has not finished; those below are forgotten.
        answers: (Result or `FENCED`, what it counts for in bytes), by number.
        size_bytes: Sum of the latter.
    """

    __slots__ = ("answers", "deadline_ms", "id", "lowest", "size_bytes", "ttl_ms")

    def __init__(self, session_id: int, ttl_ms: int, deadline_ms: int, lowest: int = 1) -> None:
        self.id = session_id
        self.ttl_ms = ttl_ms
        self.deadline_ms = deadline_ms
        self.lowest = lowest
        self.answers: dict[int, tuple[object, int]] = {}
        self.size_bytes = 0

    def copy(self) -> Session:
        """Return the session as it is now; results are shared, as they never change."""
        twin = Session(self.id, self.ttl_ms, self.deadline_ms, self.lowest)
        twin.answers = self.answers.copy()
        twin.size_bytes = self.size_bytes
        return twin


class SessionsView:
    """All sessions as they were at one moment, while writes go on.

    Attributes:
        last_id: Of the newest session ever opened.
    """

    __slots__ = ("_by_id", "_ids", "_noted", "_sessions", "last_id")

    def __init__(self, sessions: Sessions) -> None:
        self.last_id = sessions.last_id
        self._sessions = sessions
        self._by_id = sessions.by_id
        # Newest first, as they are taken from the end.
        self._ids = sorted(sessions.by_id, reverse=True)
        self._noted: dict[int, Session] = {}

    def note(self, session: Session) -> None:
        """Remember a session that is about to change, unless it was taken or is newer."""
        ids = self._ids
        if ids and ids[-1] <= session.id <= ids[0] and session.id not in self._noted:
            self._noted[session.id] = session.copy()

    def take_next(self) -> Session | None:
        """Return the next session as it was, in the order of the ids; None behind the last."""
        if not self._ids:
            return None
        session_id = self._ids.pop()
        noted = self._noted.pop(session_id, None)
        return self._by_id[session_id].copy() if noted is None else noted

    def close(self) -> None:
        """Let go of everything; harmless when repeated."""
        self._sessions.views = [view for view in self._sessions.views if view is not self]
        self._by_id = {}
        self._ids.clear()
        self._noted.clear()


class Sessions:
    """All sessions of one store.

    Attributes:
        by_id: Those that were not dropped, dead ones included, in the order of their ids.
        last_id: Of the newest session ever opened; 0 before the first.
        size_bytes: What all answers count for.
        expired: Ids that were dropped since the batch began.
        views: The open ones.
    """

    __slots__ = ("_due", "_garbage", "by_id", "expired", "last_id", "size_bytes", "views")

    def __init__(self) -> None:
        self.by_id: dict[int, Session] = {}
        self.last_id = 0
        self.size_bytes = 0
        self.expired: list[int] = []
        self.views: list[SessionsView] = []
        # At least one pair for each session, (a time not behind its deadline, id): a deadline that
        # moves with every write is looked at only when the time in the pair has come.
        self._due: list[tuple[int, int]] = []
        self._garbage: list[Session] = []

    # ------------------------------------------------------------ reading

    def find(self, session_id: object, lease_time_ms: int) -> Session | None:
        """Return a live session."""
        session = self.by_id.get(session_id)  # type: ignore[call-overload]
        return None if session is None or session.deadline_ms <= lease_time_ms else session

    @property
    def next_deadline_ms(self) -> int | None:
        """Earliest deadline of a session that is still held, dead ones included."""
        due = self._due
        while due:
            at_ms, session_id = due[0]
            session = self.by_id.get(session_id)
            if session is None:
                heapq.heappop(due)
            elif session.deadline_ms > at_ms:
                heapq.heapreplace(due, (session.deadline_ms, session_id))
            else:
                return at_ms
        return None

    def view(self) -> SessionsView:
        """Freeze all sessions as they are; the caller closes the view."""
        view = SessionsView(self)
        self.views = [*self.views, view]
        return view

    # ------------------------------------------------------------ changing

    def open(self, ttl_ms: int, lease_time_ms: int) -> Session | None:
        """Return a new session, or None when there are too many."""
        if len(self.by_id) >= SESSIONS_MAX:
            return None
        self.last_id += 1
        session = Session(self.last_id, ttl_ms, lease_time_ms + ttl_ms)
        self.add(session)
        return session

    def add(self, session: Session) -> None:
        """Hold a session with all that is in it; its id is the highest so far."""
        self.by_id[session.id] = session
        self.size_bytes += session.size_bytes
        heapq.heappush(self._due, (session.deadline_ms, session.id))

    def renew(self, session: Session, lease_time_ms: int) -> None:
        """Let a live session live for its whole time again."""
        self._note(session)
        session.deadline_ms = lease_time_ms + session.ttl_ms

    def free_below(self, session: Session, lowest: int) -> None:
        """Forget the numbers below the lowest unfinished one of a session, which is renewed."""
        first = session.lowest
        if lowest <= first:
            return
        answers = session.answers
        numbers = (
            range(first, lowest)
            if lowest - first <= len(answers)
            else [number for number in answers if number < lowest]
        )
        for number in numbers:
            kept = answers.pop(number, None)
            if kept is not None:
                session.size_bytes -= kept[1]
                self.size_bytes -= kept[1]
        session.lowest = lowest

    def is_in_window(self, session: Session, number: int) -> bool:
        """Whether a number is one that the session can hold."""
        return number - session.lowest < WINDOW_NUMBERS_MAX

    def has_room(self, session: Session, number: int) -> bool:
        """Whether a number that was not seen yet may be executed."""
        return (
            self.is_in_window(session, number)
            and session.size_bytes <= SESSION_BYTES_MAX
            and self.size_bytes <= TOTAL_BYTES_MAX
        )

    def keep(self, session: Session, number: int, result: object, size_bytes: int = 0) -> None:
        """Keep the answer to a number of a session, which is renewed."""
        size_bytes += RESULT_BASE_BYTES
        session.answers[number] = (result, size_bytes)
        session.size_bytes += size_bytes
        self.size_bytes += size_bytes

    def drop(self, session: Session) -> None:
        """Forget a session with all that is in it."""
        self._note(session)
        del self.by_id[session.id]
        self.size_bytes -= session.size_bytes
        if len(self._due) > 2 * len(self.by_id) + _DUE_SPARE:
            # Mostly of sessions that were closed long before their deadlines.
            self._due = [(one.deadline_ms, one.id) for one in self.by_id.values()]
            heapq.heapify(self._due)

    def expire_due(self, lease_time_ms: int) -> None:
        """Drop dead sessions, earliest first, a bounded number."""
        dropped = 0
        while dropped < DROPPED_ANSWERS_MAX:
            deadline_ms = self.next_deadline_ms
            if deadline_ms is None or deadline_ms > lease_time_ms:
                return
            session = self.by_id[self._due[0][1]]
            dropped += 1 + len(session.answers)
            self.drop(session)
            self.expired.append(session.id)

    def _note(self, session: Session) -> None:
        for view in self.views:
            view.note(session)

    # ------------------------------------------------------------ memory

    def retire(self) -> None:
        """Give up everything, so that `free_slice` can free it piece by piece."""
        self._garbage += self.by_id.values()
        self.by_id = {}
        self._due = []

    def free_slice(self) -> bool:
        """Free a bounded part of what was given up; True while there is more."""
        if self._garbage:
            self._garbage.pop()
        return bool(self._garbage)


# ---------------------------------------------------------------- results


def size_of(result: Any) -> int:
    """Return what a result counts for, in bytes.

    Raises:
        TypeError: It is of a type that no result has.
    """
    kind = type(result)
    if kind in _PLAIN:
        return 0
    if kind is bytes or kind is str:
        return len(result)
    if kind is ErrorReply:
        return len(result.message)
    if kind in _LIST_CODES:
        return sum(map(size_of, result)) + _ELEMENT_BYTES * len(result)
    raise TypeError(f"a result of type {kind.__name__}")


def pack_result(result: Any) -> Any:
    """Return a result, or `FENCED`, as what MessagePack can tell apart, for an image."""
    if result is FENCED:
        return [_FENCED_CODE]
    if type(result) is ErrorReply:
        return [_ERROR_CODE, result.message]
    if isinstance(result, list):
        return [_LIST_CODES[type(result)], *map(pack_result, result)]
    return result


def unpack_result(packed: Any) -> tuple[Any, int]:
    """Return what `pack_result` was given, and what it counts for in bytes.

    Raises:
        ValueError, TypeError: No such thing.
    """
    if packed == [_FENCED_CODE]:
        return FENCED, 0
    result = _unpacked(packed)
    return result, size_of(result)


def _unpacked(packed: Any) -> Any:
    if not isinstance(packed, list):
        return packed
    if len(packed) == 2 and packed[0] == _ERROR_CODE and isinstance(packed[1], str):
        return ErrorReply(packed[1])
    kind = _LIST_KINDS.get(packed[0]) if packed and type(packed[0]) is int else None
    if kind is None:
        raise ValueError("a result of an unknown kind")
    return kind(map(_unpacked, packed[1:]))

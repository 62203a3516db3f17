"""Commands on sessions: a write that is executed once, and what became of it.

`execute_once` answers a copy from the session, and executes what was not seen yet. Its
result is kept, an error too, in the same moment in which it takes effect: both are one
command of a batch, so no crash comes between. A result that is too large to be kept is
worth nothing as a promise: what it came from is undone, and that is the result.

The layouts in the docstrings are part of the log format. Called by `store` only.
Tests: tests/unit/kv/test_once.py.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError, ProtocolError
from raftkv.kv import transactions
from raftkv.kv.commands import (
    GROWING_OPCODES,
    INTERNAL_ERROR,
    MACHINE_ERRORS,
    ONCE_OPCODES,
    OUT_OF_MEMORY,
    Command,
    ErrorReply,
    Opcode,
)
from raftkv.kv.families import HANDLERS as FAMILIES
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.sessions import FENCED, RESULT_BYTES_MAX, Session, size_of
from raftkv.kv.strings import Handler
from raftkv.types import NoList, Pairs

EXPIRED: Final = "UNKNOWN session expired"
FENCED_REPLY: Final = ErrorReply("NOTAPPLIED fenced")
WINDOW_FULL: Final = "NOTAPPLIED session window full"
TOO_MANY_SESSIONS: Final = "NOTAPPLIED too many sessions"
RESULT_TOO_LARGE: Final = ErrorReply(
    f"NOTAPPLIED result exceeds what a session keeps ({RESULT_BYTES_MAX} bytes)"
)

_KNOWN_OPCODES: Final = frozenset(map(int, Opcode))
_INSIDE: Final[dict[int, Handler]] = {
    int(opcode): handler
    for opcode, handler in {**FAMILIES, **transactions.HANDLERS}.items()
    if opcode in ONCE_OPCODES
}


def execute_once(keyspace: Keyspace, command: Command) -> object:
    """(session, number, lowest unfinished number, opcode, argument, ...)"""
    number, lowest = command[2:4]
    inner = command[4:]
    handler = _INSIDE.get(inner[0])
    if handler is None:
        raise _refusal(inner[0])
    if not 0 < lowest <= number:
        raise TypeError("a number below the lowest unfinished one")
    sessions = keyspace.sessions
    session = _renewed(keyspace, command[1])
    sessions.free_below(session, lowest)
    kept = _answer_of(session, number)
    if kept is not None:
        return FENCED_REPLY if kept[0] is FENCED else kept[0]
    if not sessions.has_room(session, number):
        raise CommandError(WINDOW_FULL)
    result: object
    revision = keyspace.revision
    try:
        try:
            if keyspace.dataset_bytes > keyspace.dataset_bound and inner[0] in GROWING_OPCODES:
                raise CommandError(OUT_OF_MEMORY)
            result = handler(keyspace, inner)
        except CommandError as error:
            result = ErrorReply(error.message)
        size_bytes = size_of(result)
    except MACHINE_ERRORS:
        raise
    except Exception:
        # The store undoes the command and answers so; a copy is to be answered alike.
        sessions.keep(session, number, INTERNAL_ERROR)
        raise
    if size_bytes > RESULT_BYTES_MAX:
        keyspace.roll_back(revision)
        result, size_bytes = RESULT_TOO_LARGE, 0
    sessions.keep(session, number, result, size_bytes)
    return result


def outcome(keyspace: Keyspace, command: Command) -> object:
    """(session, number)"""
    number = command[2]
    if number < 1:
        raise TypeError("no number of a write")
    sessions = keyspace.sessions
    session = _renewed(keyspace, command[1])
    kept = _answer_of(session, number)
    if kept is None:
        if not sessions.is_in_window(session, number):
            raise CommandError(WINDOW_FULL)
        sessions.keep(session, number, FENCED)
        return ["fenced"]
    return ["fenced"] if kept[0] is FENCED else ["applied", kept[0]]


def _renewed(keyspace: Keyspace, session_id: object) -> Session:
    """Return a live session, which lives for its whole time from now on.

    Raises:
        CommandError: It is dead, or there never was one.
    """
    lease_time_ms = keyspace.lease_time_ms
    session = keyspace.sessions.find(session_id, lease_time_ms)
    if session is None:
        raise CommandError(EXPIRED)
    keyspace.sessions.renew(session, lease_time_ms)
    return session


def _answer_of(session: Session, number: int) -> tuple[object, int] | None:
    """Return what is kept of a number, or None if it was not seen yet.

    Raises:
        CommandError: It is forgotten.
    """
    if number < session.lowest:
        raise CommandError(EXPIRED)
    return session.answers.get(number)


def _refusal(opcode: object) -> Exception:
    """Return what a command that is not executed once raises, on every node alike."""
    if isinstance(opcode, int) and opcode in _KNOWN_OPCODES:
        return TypeError("a command that is not executed once")
    return ProtocolError(f"opcode {opcode!r} is not known to this version")


def open_session(keyspace: Keyspace, command: Command) -> object:
    """(ttl in ms)"""
    ttl_ms = command[1]
    if type(ttl_ms) is not int or ttl_ms < 1:
        raise TypeError("no time to live")
    session = keyspace.sessions.open(ttl_ms, keyspace.lease_time_ms)
    if session is None:
        raise CommandError(TOO_MANY_SESSIONS)
    return session.id


def keep_alive(keyspace: Keyspace, command: Command) -> object:
    """(session)"""
    session = keyspace.sessions.find(command[1], keyspace.lease_time_ms)
    if session is None:
        return 0
    keyspace.sessions.renew(session, keyspace.lease_time_ms)
    return 1


def close_session(keyspace: Keyspace, command: Command) -> object:
    """(session)"""
    session = keyspace.sessions.find(command[1], keyspace.lease_time_ms)
    if session is None:
        return 0
    keyspace.sessions.drop(session)
    return 1


def session_info(keyspace: Keyspace, command: Command) -> object:
    """(session)"""
    session = keyspace.sessions.find(command[1], keyspace.lease_time_ms)
    if session is None:
        return NoList()
    answers = session.answers.values()
    fenced = sum(kept[0] is FENCED for kept in answers)
    return Pairs(
        (
            *(b"id", session.id),
            *(b"ttl_ms", session.ttl_ms),
            *(b"remaining_ms", session.deadline_ms - keyspace.lease_time_ms),
            *(b"lowest", session.lowest),
            *(b"results", len(answers) - fenced),
            *(b"fenced", fenced),
            *(b"bytes", session.size_bytes),
        )
    )


def session_list(keyspace: Keyspace, command: Command) -> object:
    """()"""
    sessions, lease_time_ms = keyspace.sessions, keyspace.lease_time_ms
    return [
        session.id for session in sessions.by_id.values() if session.deadline_ms > lease_time_ms
    ]


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.ONCE: execute_once,
    Opcode.OUTCOME: outcome,
    Opcode.SESSION_OPEN: open_session,
    Opcode.SESSION_KEEPALIVE: keep_alive,
    Opcode.SESSION_CLOSE: close_session,
    Opcode.SESSION_INFO: session_info,
    Opcode.SESSION_LIST: session_list,
}

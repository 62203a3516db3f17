"""Keyspace notifications: changes of keys as messages, for the clients of Redis.

`CONFIG SET notify-keyspace-events` chooses, as in Redis, whether a change is published
in `__keyspace@0__:<key>`, `__keyevent@0__:<event>` or both, and of which kinds of keys.
They are made from the history, not from commands, so that they are the same on every
node, leader or not: an event says what became of a key, in the word that Redis has for
the most common way to get there.

Published to the subscribers of this node only, at most once. Owns the choice; called by
the hub of the watches with each change.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.generic import type_name
from raftkv.kv.history import DELETE, EXPIRE, Change
from raftkv.server.subscriptions import Subscriptions

# In the order in which Redis shows them; `A` stands for all but K, E, m and n.
_SHOWN: Final = "g$lshzxetd"
_ALL: Final = frozenset(_SHOWN)
_KNOWN: Final = _ALL | frozenset("KEmn")

# Type of a key -> its class, and the events of one that was made or grew, and of one
# that lost something.
_TYPES: Final = {
    "string": ("$", b"set", b"set"),
    "hash": ("h", b"hset", b"hdel"),
    "list": ("l", b"rpush", b"lpop"),
    "set": ("s", b"sadd", b"srem"),
    "zset": ("z", b"zadd", b"zrem"),
}


def parse_flags(text: str) -> frozenset[str]:
    """Return the flags that a setting names.

    Raises:
        CommandError: It names one that is none.
    """
    flags = set(text)
    if "A" in flags:
        flags = (flags - {"A"}) | _ALL
    if not flags <= _KNOWN:
        raise CommandError("ERR Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
    return frozenset(flags)


def show_flags(flags: frozenset[str]) -> str:
    """Return the setting in Redis' order."""
    classes = "A" if flags >= _ALL else "".join(flag for flag in _SHOWN if flag in flags)
    return classes + "".join(flag for flag in "KEmn" if flag in flags)


class KeyspaceEvents:
    """Makes messages of changes.

    Attributes:
        flags: Which; none at the start.
    """

    def __init__(self, subscriptions: Subscriptions) -> None:
        """Start switched off."""
        self.flags: frozenset[str] = frozenset()
        self._subscriptions = subscriptions

    @property
    def is_on(self) -> bool:
        """Whether any change can become a message."""
        flags = self.flags
        return bool(flags & {"K", "E"}) and bool(flags - {"K", "E", "m"})

    def changed(self, change: Change) -> None:
        """Publish one change as the flags say."""
        subscriptions = self._subscriptions
        if subscriptions.channels or subscriptions.patterns:
            for flag, event in events_of(change):
                if flag in self.flags:
                    self._publish(change[2], event)

    def _publish(self, key: bytes, event: bytes) -> None:
        if "K" in self.flags:
            self._subscriptions.deliver(b"__keyspace@0__:" + key, event)
        if "E" in self.flags:
            self._subscriptions.deliver(b"__keyevent@0__:" + event, key)


def events_of(change: Change) -> list[tuple[str, bytes]]:
    """Return the class and the name of each event that a change is."""
    _, kind, _, before, after = change
    if kind == EXPIRE:
        return [("x", b"expired")]
    if kind == DELETE or after is None:
        return [("g", b"del")]
    flag, grown, shrunk = _TYPES[type_name(after[0])]
    events = [("n", b"new")] if before is None else []
    same_type = before is not None and type(before[0]) is type(after[0])
    if before is None or not same_type or before[0] is not after[0]:
        lost = same_type and before is not None and len_of(after[0]) < len_of(before[0])
        events.append((flag, shrunk if lost else grown))
    if after[1] != (0 if before is None else before[1]):
        if after[1]:
            events.append(("g", b"expire"))
        elif before is not None and before[0] is after[0]:
            events.append(("g", b"persist"))
    return events


def len_of(value: object) -> int:
    """Return the number of elements of a value, or of bytes."""
    return len(value) if isinstance(value, bytes) else int(value.size)  # type: ignore[attr-defined]

"""Commands on deadlines.

Time is log time only: a key is dead for every command on every node exactly
when its deadline is at or before the log time of the batch. Same rules as
`strings`: the docstring of a handler is the layout of its command behind the
opcode. Called by `store` only.
"""

from __future__ import annotations

from typing import Final

from raftkv.kv.commands import Command, ExpireFlag, Extension, Opcode
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.strings import Handler, deadline_after, string_of

NO_KEY: Final = -2
NO_DEADLINE: Final = -1


def expire(keyspace: Keyspace, command: Command) -> object:
    """(key, ttl in ms or nil, deadline in ms or nil, ExpireFlag bits, command name)"""
    _, key, ttl_ms, deadline_ms, flags, name = command
    if ttl_ms is not None:
        deadline_ms = deadline_after(keyspace.log_time_ms, ttl_ms, name)
    entry = keyspace.find_for_write(key)
    if entry is None or (flags and not _is_allowed(flags, entry[1], deadline_ms)):
        return 0
    revision = keyspace.revision + 1
    # First of all: a deadline of 0 is in the past, while an entry's 0 means none.
    if deadline_ms <= keyspace.log_time_ms:
        keyspace.remove(key)
    elif deadline_ms == entry[1]:
        return 1
    else:
        keyspace.put(key, entry[0], deadline_ms, revision)
    keyspace.revision = revision
    return 1


def _is_allowed(flags: int, present_ms: int, deadline_ms: int) -> bool:
    """Whether NX, XX, GT and LT let a deadline replace the present one (0: none)."""
    if flags & ExpireFlag.NX and present_ms:
        return False
    if flags & ExpireFlag.XX and not present_ms:
        return False
    # No deadline counts as an infinitely late one.
    if flags & ExpireFlag.GT and (not present_ms or deadline_ms <= present_ms):
        return False
    return not (flags & ExpireFlag.LT and present_ms and deadline_ms >= present_ms)


def expire_if(keyspace: Keyspace, command: Command) -> object:
    """(key, value to compare with, ttl in ms, Extension)"""
    _, key, compared, ttl_ms, extension = command
    entry = keyspace.find_for_write(key)
    if entry is None or string_of(entry) != compared:
        return 0
    base_ms = keyspace.log_time_ms
    if extension != Extension.REPLACE and not entry[1]:
        return 0
    if extension == Extension.ADD:
        base_ms = entry[1]
    deadline_ms = deadline_after(base_ms, ttl_ms, b"pexpire")
    revision = keyspace.revision + 1
    if deadline_ms <= keyspace.log_time_ms:
        keyspace.remove(key)
    else:
        keyspace.put(key, entry[0], deadline_ms, revision)
    keyspace.revision = revision
    return 1


def persist(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    key = command[1]
    entry = keyspace.find_for_write(key)
    if entry is None or not entry[1]:
        return 0
    revision = keyspace.revision + 1
    keyspace.put(key, entry[0], 0, revision)
    keyspace.revision = revision
    return 1


def ttl(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is None or not entry[1]:
        return _absent(entry)
    # Redis rounds to the nearest second.
    return (entry[1] - keyspace.log_time_ms + 500) // 1000


def pttl(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is None or not entry[1]:
        return _absent(entry)
    return entry[1] - keyspace.log_time_ms


def expiretime(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is None or not entry[1]:
        return _absent(entry)
    return (entry[1] + 500) // 1000


def pexpiretime(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is None or not entry[1]:
        return _absent(entry)
    return entry[1]


def _absent(entry: Entry | None) -> int:
    """What stands for a missing key or deadline."""
    return NO_KEY if entry is None else NO_DEADLINE


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.EXPIRE: expire,
    Opcode.EXPIRE_IF: expire_if,
    Opcode.PERSIST: persist,
    Opcode.TTL: ttl,
    Opcode.PTTL: pttl,
    Opcode.EXPIRETIME: expiretime,
    Opcode.PEXPIRETIME: pexpiretime,
}

"""Commands on strings, with the semantics of Redis 7.

Each handler gets the keyspace and one command tuple, validates it wholly, then
changes the keyspace under one new revision, and returns the result. A declared
error is raised as `CommandError`; nothing has changed then. Relative times
become deadlines here, from the log time of the batch.

The docstring of a handler is the layout of its command behind the opcode, and
part of the log format. Called by `store` only.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, TypeAlias

from raftkv.errors import CommandError
from raftkv.kv.commands import OK, Command, GetexFlag, Opcode, SetFlag, ValueCondition
from raftkv.kv.dataset import ENTRY_BYTES
from raftkv.kv.history import CHANGE_BYTES, CHUNK_CHANGES, PUT
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.numbers import (
    INT64_MAX,
    INT64_MIN,
    add_floats,
    format_float,
    is_infinite,
    parse_float,
    parse_integer,
)

Handler: TypeAlias = Callable[[Keyspace, Command], object]

WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER: Final = "ERR value is not an integer or out of range"
NOT_A_FLOAT: Final = "ERR value is not a valid float"
INFINITE_SUM: Final = "ERR increment would produce NaN or Infinity"
SUM_OVERFLOW: Final = "ERR increment or decrement would overflow"
STRING_TOO_LONG: Final = "ERR string exceeds maximum allowed size (limits.value_bytes_max)"
TOO_MUCH_COPIED: Final = "ERR pieces of values asked for in one pipeline exceed 64 MiB"

# Limit: bytes copied into the results of one batch or run of reads, besides one
# piece of any size. Whole values are in the results without a copy.
COPIED_BYTES_MAX: Final = 64 * 1024 * 1024

_SET: Final = int(Opcode.SET)
_GET_PLAIN: Final = int(Opcode.GET)
_NX: Final = int(SetFlag.NX)
_XX: Final = int(SetFlag.XX)
_KEEPTTL: Final = int(SetFlag.KEEPTTL)
_GET: Final = int(SetFlag.GET)
_INTEGER: Final = int(SetFlag.INTEGER)


def string_of(entry: Entry | None) -> bytes | None:
    """Return the value of a string's entry, None where there is no key.

    Raises:
        CommandError: The key holds another type.
    """
    if entry is None:
        return None
    value = entry[0]
    if type(value) is not bytes:
        raise CommandError(WRONG_TYPE)
    return value


def deadline_after(log_time_ms: int, ttl_ms: int, command_name: bytes) -> int:
    """Turn a relative time into a deadline.

    Raises:
        CommandError: It does not fit 64 bits.
    """
    if ttl_ms > INT64_MAX - log_time_ms:
        raise CommandError(f"ERR invalid expire time in '{command_name.decode()}' command")
    return log_time_ms + ttl_ms


def set_plain(keyspace: Keyspace, command: Command) -> object:
    """(key, value)"""
    _, key, value = command
    if value.__class__ is not bytes:
        raise TypeError("the value of a SET is not bytes")
    keyspace.find_for_write(key)
    if keyspace.leases.bound:
        keyspace.release(key)
    _put(keyspace, key, value, 0)
    return OK


def set_run(keyspace: Keyspace, commands: Sequence[Command], first: int) -> int:
    """Carry out plain SETs in a row, as far as nothing about them is out of the ordinary.

    What `set_plain` does to a key that is new or a string without deadline and lease. Such
    a command cannot fail, so it notes no undo and goes into the history at once; any
    other ends the run before it has changed anything. So does the end of a chunk.

    Args:
        keyspace: Of the store.
        commands: Of the batch.
        first: Position in it where to begin.

    Returns:
        Position of the first command that was not carried out.
    """
    # The hot path of the store: it writes the buckets and the history itself.
    buckets, orders, history = keyspace.buckets, keyspace.orders, keyspace.history
    bindings = keyspace.leases.bindings if keyspace.leases.bound else None
    frontier = keyspace.frontier()
    before = revision = keyspace.revision
    add_change = history.recent.append
    changed = 0
    size, bound = keyspace.dataset_bytes, keyspace.dataset_bound
    try:
        for opcode, key, value in islice(commands, first, first + CHUNK_CHANGES):
            if opcode != _SET or value.__class__ is not bytes or size > bound:
                break
            number = crc_hqx(key, 0) >> 4 & 1023
            bucket = buckets[number]
            old = bucket.get(key)
            following = revision + 1
            if old is None:
                entry = (value, 0, following, following, 1)
                grown = len(key) + len(value) + ENTRY_BYTES
                if orders:
                    orders.pop(number, None)
            elif old[1] or old[0].__class__ is not bytes or (bindings and key in bindings[number]):
                break
            else:
                entry = (value, 0, old[2], following, old[4] + 1)
                length = len(old[0])
                grown = len(value) - length
                changed += length
            if number >= frontier:
                keyspace.note(number, key, old)
            bucket[key] = entry
            revision = following
            add_change((following, PUT, key, old, entry))
            changed += len(key)
            size += grown
    except (TypeError, ValueError):
        # Not a key, or another number of fields: as yet nothing has changed.
        pass
    if revision != before:
        keyspace.revision = revision
        keyspace.dataset_bytes = size
        count = revision - before
        history.extended(count, changed + count * CHANGE_BYTES, revision)
    return first + revision - before


def set_with(keyspace: Keyspace, command: Command) -> object:
    """(key, value, SetFlag bits, ttl in ms or nil, deadline in ms or nil, command name)"""
    _, key, value, flags, ttl_ms, deadline_ms, name = command
    entry = keyspace.find_for_write(key)
    if ttl_ms is not None:
        deadline_ms = deadline_after(keyspace.log_time_ms, ttl_ms, name)
    elif deadline_ms is None:
        deadline_ms = entry[1] if flags & _KEEPTTL and entry is not None else 0
    before = string_of(entry) if flags & _GET else None
    if (flags & _NX and entry is not None) or (flags & _XX and entry is None):
        if flags & _INTEGER:
            return 0
        return before
    if 0 < deadline_ms <= keyspace.log_time_ms:
        # Written and dead at once.
        if entry is not None:
            _remove(keyspace, key)
    else:
        if not flags & _KEEPTTL:
            keyspace.release(key)
        _put(keyspace, key, value, deadline_ms)
    if flags & _GET:
        return before
    return 1 if flags & _INTEGER else OK


def get(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    key = command[1]
    entry = keyspace.buckets[crc_hqx(key, 0) >> 4 & 1023].get(key)
    if entry is None or 0 < entry[1] <= keyspace.log_time_ms:
        return None
    if keyspace.leases.bound and keyspace.find(key) is None:
        return None
    value = entry[0]
    if type(value) is not bytes:
        raise CommandError(WRONG_TYPE)
    return value


def get_run(
    keyspace: Keyspace, commands: Sequence[Command], first: int, results: list[object]
) -> int:
    """Answer GETs in a row, as far as each finds a string or nothing.

    Args:
        keyspace: Of the store.
        commands: Of the batch or run.
        first: Position in it where to begin.
        results: Receives what `get` would return for each.

    Returns:
        Position of the first command that was not answered.
    """
    if keyspace.leases.has_dead(keyspace.lease_time_ms):
        return first
    buckets, log_time_ms = keyspace.buckets, keyspace.log_time_ms
    add_result = results.append
    before = len(results)
    try:
        for opcode, key in islice(commands, first, None):
            if opcode != _GET_PLAIN:
                break
            entry = buckets[crc_hqx(key, 0) >> 4 & 1023].get(key)
            if entry is None or 0 < entry[1] <= log_time_ms:
                add_result(None)
            elif entry[0].__class__ is bytes:
                add_result(entry[0])
            else:
                break
    except (TypeError, ValueError):
        # Not a key, or another number of fields.
        pass
    return first + len(results) - before


def mget(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    buckets, log_time_ms = keyspace.buckets, keyspace.log_time_ms
    has_lost = keyspace.leases.has_dead(keyspace.lease_time_ms)
    values: list[bytes | None] = []
    for key in command[1:]:
        entry = buckets[crc_hqx(key, 0) >> 4 & 1023].get(key)
        if entry is None or 0 < entry[1] <= log_time_ms or (has_lost and not keyspace.find(key)):
            values.append(None)
        else:
            # A key of another type counts as missing here, as in Redis.
            values.append(entry[0] if entry[0].__class__ is bytes else None)
    return values


def mset(keyspace: Keyspace, command: Command) -> object:
    """(key, value, key, value, ...)"""
    keys = command[1::2]
    if keyspace.has_due():
        for key in keys:
            keyspace.find_for_write(key)
    revision = keyspace.revision + 1
    for key, value in zip(keys, command[2::2], strict=True):
        if keyspace.leases.bound:
            keyspace.release(key)
        keyspace.put(key, value, 0, revision)
    keyspace.revision = revision
    return OK


def msetnx(keyspace: Keyspace, command: Command) -> object:
    """(key, value, key, value, ...)"""
    for key in command[1::2]:
        if keyspace.find_for_write(key) is not None:
            return 0
    mset(keyspace, command)
    return 1


def getset(keyspace: Keyspace, command: Command) -> object:
    """(key, value)"""
    _, key, value = command
    before = string_of(keyspace.find_for_write(key))
    keyspace.release(key)
    _put(keyspace, key, value, 0)
    return before


def getdel(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    key = command[1]
    before = string_of(keyspace.find_for_write(key))
    if before is not None:
        _remove(keyspace, key)
    return before


def getex(keyspace: Keyspace, command: Command) -> object:
    """(key, GetexFlag bits, ttl in ms or nil, deadline in ms or nil, error text or nil)

    The error is that of a bad time, which counts only if there is such a key.
    """
    _, key, flags, ttl_ms, deadline_ms, error_text = command
    entry = keyspace.find_for_write(key)
    value = string_of(entry)
    if entry is None or value is None:
        return None
    if error_text is not None:
        raise CommandError(error_text.decode())
    if ttl_ms is not None:
        deadline_ms = deadline_after(keyspace.log_time_ms, ttl_ms, b"getex")
    elif flags & GetexFlag.PERSIST:
        deadline_ms = 0
    if deadline_ms is None or deadline_ms == entry[1]:
        return value
    if 0 < deadline_ms <= keyspace.log_time_ms:
        _remove(keyspace, key)
    else:
        _put(keyspace, key, value, deadline_ms)
    return value


def set_if(keyspace: Keyspace, command: Command) -> object:
    """(ValueCondition, value to compare with, then as SET_WITH)"""
    _, condition, compared, *rest = command
    before = string_of(keyspace.find_for_write(rest[0]))
    if not meets(before, condition, compared):
        return before if rest[2] & _GET else None
    return set_with(keyspace, (command[0], *rest))


def meets(value: bytes | None, condition: int, compared: bytes | None) -> bool:
    """Whether a string, or None where there is no key, meets the condition on its value."""
    if condition == ValueCondition.ALWAYS:
        return True
    return (value == compared) == (condition == ValueCondition.EQUAL)


def delex(keyspace: Keyspace, command: Command) -> object:
    """(key, ValueCondition, value to compare with or nil)"""
    _, key, condition, compared = command
    entry = keyspace.find_for_write(key)
    if entry is None:
        return 0
    if condition != ValueCondition.ALWAYS and not meets(string_of(entry), condition, compared):
        return 0
    _remove(keyspace, key)
    return 1


def strlen(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return len(string_of(keyspace.find(command[1])) or b"")


def append(keyspace: Keyspace, command: Command) -> object:
    """(key, tail, most bytes allowed)"""
    _, key, tail, bytes_max = command
    entry = keyspace.find_for_write(key)
    before = string_of(entry)
    if before is None or entry is None:
        _put(keyspace, key, tail, 0)
        return len(tail)
    if not tail:
        return len(before)
    if len(before) + len(tail) > bytes_max:
        raise CommandError(STRING_TOO_LONG)
    value = before + tail
    _put(keyspace, key, value, entry[1])
    return len(value)


def getrange(keyspace: Keyspace, command: Command) -> object:
    """(key, first, last), both counted from the end when negative"""
    _, key, first, last = command
    value = string_of(keyspace.find(key)) or b""
    size = len(value)
    if first < 0 and last < 0 and first > last:
        return b""
    first = max(first + size, 0) if first < 0 else first
    last = max(last + size, 0) if last < 0 else last
    length = min(last + 1, size) - first
    if 0 < length < size:
        copied = keyspace.copied_bytes
        if copied and copied + length > COPIED_BYTES_MAX:
            raise CommandError(TOO_MUCH_COPIED)
        keyspace.copied_bytes = copied + length
    return value[first : last + 1]


def setrange(keyspace: Keyspace, command: Command) -> object:
    """(key, position, piece, most bytes allowed)"""
    _, key, position, piece, bytes_max = command
    entry = keyspace.find_for_write(key)
    before = string_of(entry) or b""
    if not piece:
        return len(before)
    end = position + len(piece)
    if end > bytes_max:
        raise CommandError(STRING_TOO_LONG)
    value = before[:position].ljust(position, b"\0") + piece + before[end:]
    _put(keyspace, key, value, 0 if entry is None else entry[1])
    return len(value)


def incrby(keyspace: Keyspace, command: Command) -> object:
    """(key, increment)"""
    _, key, increment = command
    entry = keyspace.find_for_write(key)
    before = string_of(entry)
    number = 0 if before is None else parse_integer(before)
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    number += increment
    if not INT64_MIN <= number <= INT64_MAX:
        raise CommandError(SUM_OVERFLOW)
    _put(keyspace, key, b"%d" % number, 0 if entry is None else entry[1])
    return number


def incrbyfloat(keyspace: Keyspace, command: Command) -> object:
    """(key, increment as text)"""
    _, key, increment_text = command
    entry = keyspace.find_for_write(key)
    before = string_of(entry)
    value = increased(b"0" if before is None else before, increment_text)
    _put(keyspace, key, value, 0 if entry is None else entry[1])
    return value


def increased(text: bytes, increment_text: bytes) -> bytes:
    """Add two decimal numbers as Redis does.

    Raises:
        CommandError: One is not a number, or the sum is infinite.
    """
    numbers = [parse_float(text), parse_float(increment_text)]
    for number, read in zip(numbers, (text, increment_text), strict=True):
        if number is None and not is_infinite(read):
            raise CommandError(NOT_A_FLOAT)
    first, second = numbers
    total = None if first is None or second is None else add_floats(first, second)
    if total is None:
        raise CommandError(INFINITE_SUM)
    return format_float(total)


def _put(keyspace: Keyspace, key: bytes, value: bytes, deadline_ms: int) -> None:
    """Make the command's only change."""
    revision = keyspace.revision + 1
    keyspace.put(key, value, deadline_ms, revision)
    keyspace.revision = revision


def _remove(keyspace: Keyspace, key: bytes) -> None:
    """Make the command's only change, a removal."""
    keyspace.remove(key)
    keyspace.revision += 1


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.SET: set_plain,
    Opcode.SET_WITH: set_with,
    Opcode.GET: get,
    Opcode.MGET: mget,
    Opcode.MSET: mset,
    Opcode.MSETNX: msetnx,
    Opcode.GETSET: getset,
    Opcode.GETDEL: getdel,
    Opcode.GETEX: getex,
    Opcode.STRLEN: strlen,
    Opcode.APPEND: append,
    Opcode.GETRANGE: getrange,
    Opcode.SETRANGE: setrange,
    Opcode.INCRBY: incrby,
    Opcode.INCRBYFLOAT: incrbyfloat,
    Opcode.SET_IF: set_if,
    Opcode.DELEX: delex,
}

"""Commands on keys of any type: existence, removal, renaming, copying, inspection.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format; validate wholly, then change under
one new revision. The store keeps no access times and no reference counts, so
the OBJECT commands answer what is true of it. Called by `store` only.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.commands import OK, Command, CopyFlag, Opcode
from raftkv.kv.dataset import bytes_of
from raftkv.kv.keyspace import Keyspace, Value, bucket_of
from raftkv.kv.numbers import parse_integer
from raftkv.kv.strings import Handler

NO_SUCH_KEY: Final = "ERR no such key"
# Source: Redis 7, objectCommand().
NO_FREQUENCY: Final = (
    "ERR An LFU maxmemory policy is not selected, access frequency not tracked. "
    "Please note that when switching between policies at runtime LRU and LFU data "
    "will take some time to adjust."
)
NO_IDLE_TIME: Final = "ERR idle time is not tracked: reads leave no trace in the replicated state"

# Limit: strings up to this size are `embstr` in Redis; the text of an int64 has at most 20 bytes.
_EMBEDDED_BYTES_MAX: Final = 44

_OBJECT_HELP: Final = (
    "OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
    "HELP",
    "    Prints this help.",
)
_MEMORY_HELP: Final = (
    "MEMORY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
    "HELP",
    "    Prints this help.",
)


def type_name(value: Value) -> str:
    """Return Redis' name of the type of a value."""
    return "string" if type(value) is bytes else str(value.type_name)


def delete(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    removed = 0
    for key in command[1:]:
        if keyspace.find_for_write(key) is not None:
            keyspace.remove(key)
            removed += 1
    if removed:
        keyspace.revision += 1
    return removed


def exists(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    return sum(keyspace.find(key) is not None for key in command[1:])


def type_of(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    return "none" if entry is None else type_name(entry[0])


def rename(keyspace: Keyspace, command: Command) -> object:
    """(source, target)"""
    _, source, target = command
    entry = keyspace.find_for_write(source)
    if entry is None:
        raise CommandError(NO_SUCH_KEY)
    if source != target:
        _move(keyspace, source, target)
    return OK


def renamenx(keyspace: Keyspace, command: Command) -> object:
    """(source, target)"""
    _, source, target = command
    if keyspace.find_for_write(source) is None:
        raise CommandError(NO_SUCH_KEY)
    if keyspace.find_for_write(target) is not None:
        return 0
    _move(keyspace, source, target)
    return 1


def copy(keyspace: Keyspace, command: Command) -> object:
    """(source, target, CopyFlag bits)"""
    _, source, target, flags = command
    entry = keyspace.find_for_write(source)
    if entry is None:
        return 0
    if keyspace.find_for_write(target) is not None and not flags & CopyFlag.REPLACE:
        return 0
    revision = keyspace.revision + 1
    # The lease stays with the key it was given for.
    keyspace.release(target)
    keyspace.put(target, entry[0], entry[1], revision)
    keyspace.revision = revision
    return 1


def _move(keyspace: Keyspace, source: bytes, target: bytes) -> None:
    """Give the value, deadline and lease of `source`, a live key, to `target`."""
    keyspace.find_for_write(target)
    entry = keyspace.find(source)
    if entry is None:
        raise AssertionError("the source of a move is gone")
    revision = keyspace.revision + 1
    lease_id = keyspace.leases.lease_of(bucket_of(source), source)
    keyspace.remove(source, keeps_value=True)
    keyspace.release(target)
    keyspace.put(target, entry[0], entry[1], revision)
    if lease_id:
        keyspace.bind(target, lease_id)
    keyspace.revision = revision


def object_encoding(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    entry = keyspace.find(command[1])
    if entry is None:
        return None
    value = entry[0]
    if type(value) is not bytes:
        return value.encoding
    if len(value) <= 20 and parse_integer(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= _EMBEDDED_BYTES_MAX else b"raw"


def object_freq(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    if keyspace.find(command[1]) is None:
        return None
    raise CommandError(NO_FREQUENCY)


def object_idletime(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    if keyspace.find(command[1]) is None:
        return None
    raise CommandError(NO_IDLE_TIME)


def object_refcount(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return None if keyspace.find(command[1]) is None else 1


def object_help(_keyspace: Keyspace, _command: Command) -> object:
    """()"""
    return list(_OBJECT_HELP)


def memory_usage(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    key = command[1]
    entry = keyspace.find(key)
    return None if entry is None else bytes_of(key, entry[0], entry[1])


def memory_help(_keyspace: Keyspace, _command: Command) -> object:
    """()"""
    return list(_MEMORY_HELP)


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.DEL: delete,
    Opcode.EXISTS: exists,
    Opcode.TYPE: type_of,
    Opcode.RENAME: rename,
    Opcode.RENAMENX: renamenx,
    Opcode.COPY: copy,
    Opcode.OBJECT_ENCODING: object_encoding,
    Opcode.OBJECT_FREQ: object_freq,
    Opcode.OBJECT_IDLETIME: object_idletime,
    Opcode.OBJECT_REFCOUNT: object_refcount,
    Opcode.OBJECT_HELP: object_help,
    Opcode.MEMORY_USAGE: memory_usage,
    Opcode.MEMORY_HELP: memory_help,
}

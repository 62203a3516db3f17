"""Hashes: the value, and the commands on it, with the semantics of Redis 7.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format; validate wholly, then change under
one new revision. Fields keep the order in which they came while there are at
most 256 of them, and an order that follows from their CRC-32 beyond.

Called by `store` only; `image_loader` makes the values of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from raftkv.errors import CommandError
from raftkv.kv import tries
from raftkv.kv.chance import random_positions
from raftkv.kv.commands import OK, Command, HashFlag, Opcode
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.numbers import INT64_MAX, INT64_MIN, parse_integer
from raftkv.kv.strings import NOT_A_FLOAT as NO_FLOAT
from raftkv.kv.strings import SUM_OVERFLOW, Handler, increased
from raftkv.kv.values import (
    LISTPACK_BYTES_MAX,
    LISTPACK_ENTRIES_MAX,
    WRONG_TYPE,
    Collection,
    Part,
    change,
    charge,
    scan_page,
)
from raftkv.types import Couples, Pairs

NOT_AN_INTEGER: Final = "ERR hash value is not an integer"
NOT_A_FLOAT: Final = "ERR hash value is not a float"


class Hash(Collection):
    """Fields and their values; `root` maps each field to its value."""

    __slots__ = ()

    type_name = "hash"
    type_code = 2
    width = 2
    overhead_bytes = 170

    @classmethod
    def empty(cls) -> Hash:
        """See `Collection`."""
        return cls({}, 0)

    @property
    def size(self) -> int:
        """See `Collection`."""
        return tries.size_of(self.root)

    @property
    def encoding(self) -> bytes:
        """See `Collection`."""
        if self.size > LISTPACK_ENTRIES_MAX:
            return b"hashtable"
        longest = max(max(len(field), len(value)) for field, value in tries.items(self.root))
        return b"listpack" if longest <= LISTPACK_BYTES_MAX else b"hashtable"

    def elements(self) -> Iterator[Part]:
        """See `Collection`."""
        for leaf in tries.leaves(self.root):
            yield [item for pair in leaf.items() for item in pair]

    def extended(self, part: Part) -> Hash:
        """See `Collection`."""
        if not all(type(item) is bytes for item in part):
            raise TypeError("a field or value of a hash is not bytes")
        fields = dict(zip(part[::2], part[1::2], strict=True))
        size = self.size
        root = tries.grown(self.root, fields)
        if 2 * (tries.size_of(root) - size) != len(part):
            raise ValueError("a field is twice in a hash")
        return Hash(root, self.content_bytes + sum(map(len, part)))

    def get(self, field: bytes) -> bytes | None:
        """Return the value of a field, None where there is no such field."""
        return tries.leaf_of(self.root, field).get(field)

    def updated(self, fields: dict[bytes, bytes]) -> Hash:
        """Return the hash with fields added or given another value."""
        content_bytes = self.content_bytes
        root = self.root
        for field, value in fields.items():
            before = tries.leaf_of(root, field).get(field)
            content_bytes += len(value)
            content_bytes += len(field) if before is None else -len(before)
        return Hash(tries.updated(root, fields), content_bytes)

    def without(self, fields: dict[bytes, bytes]) -> Hash:
        """Return the hash without some fields that it has; their values are given too."""
        gone_bytes = sum(map(len, fields)) + sum(map(len, fields.values()))
        return Hash(tries.without(self.root, fields), self.content_bytes - gone_bytes)


_EMPTY: Final = Hash.empty()


def hash_of(entry: Entry | None) -> Hash:
    """Return the value of a hash's entry; an empty one where there is no key.

    Raises:
        CommandError: The key holds another type.
    """
    if entry is None:
        return _EMPTY
    value = entry[0]
    if type(value) is not Hash:
        raise CommandError(WRONG_TYPE)
    return value


# ---------------------------------------------------------------- writing


def hset(keyspace: Keyspace, command: Command) -> object:
    """(key, HashFlag bits, field, value, field, value, ...)"""
    _, key, flags = command[:3]
    entry = keyspace.find_for_write(key)
    before = hash_of(entry)
    fields = dict(zip(command[3::2], command[4::2], strict=True))
    if flags & HashFlag.NX and before.get(command[3]) is not None:
        return 0
    value = before.updated(fields)
    change(keyspace, key, entry, value)
    return OK if flags & HashFlag.OK else value.size - before.size


def hdel(keyspace: Keyspace, command: Command) -> object:
    """(key, field, ...)"""
    key = command[1]
    entry = keyspace.find_for_write(key)
    before = hash_of(entry)
    gone = {field: value for field in command[2:] if (value := before.get(field)) is not None}
    if gone:
        change(keyspace, key, entry, before.without(gone))
    return len(gone)


def hincrby(keyspace: Keyspace, command: Command) -> object:
    """(key, field, increment)"""
    _, key, field, increment = command
    entry = keyspace.find_for_write(key)
    before = hash_of(entry)
    text = before.get(field)
    number = 0 if text is None else parse_integer(text)
    if number is None:
        raise CommandError(NOT_AN_INTEGER)
    number += increment
    if not INT64_MIN <= number <= INT64_MAX:
        raise CommandError(SUM_OVERFLOW)
    change(keyspace, key, entry, before.updated({field: b"%d" % number}))
    return number


def hincrbyfloat(keyspace: Keyspace, command: Command) -> object:
    """(key, field, increment as text)"""
    _, key, field, increment_text = command
    entry = keyspace.find_for_write(key)
    before = hash_of(entry)
    text = before.get(field)
    try:
        value = increased(b"0" if text is None else text, increment_text)
    except CommandError as error:
        raise CommandError(NOT_A_FLOAT if error.message == NO_FLOAT else error.message) from None
    change(keyspace, key, entry, before.updated({field: value}))
    return value


# ---------------------------------------------------------------- reading


def hget(keyspace: Keyspace, command: Command) -> object:
    """(key, field)"""
    return hash_of(keyspace.find(command[1])).get(command[2])


def hmget(keyspace: Keyspace, command: Command) -> object:
    """(key, field, ...)"""
    value = hash_of(keyspace.find(command[1]))
    return [value.get(field) for field in command[2:]]


def hgetall(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    value = hash_of(keyspace.find(command[1]))
    charge(keyspace, 2 * value.size, value.content_bytes)
    return Pairs(item for pair in tries.items(value.root) for item in pair)


def hkeys(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    value = hash_of(keyspace.find(command[1]))
    charge(keyspace, value.size, value.content_bytes)
    return tries.keys(value.root)


def hvals(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    value = hash_of(keyspace.find(command[1]))
    charge(keyspace, value.size, value.content_bytes)
    return [one for leaf in tries.leaves(value.root) for one in leaf.values()]


def hexists(keyspace: Keyspace, command: Command) -> object:
    """(key, field)"""
    return int(hash_of(keyspace.find(command[1])).get(command[2]) is not None)


def hlen(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return hash_of(keyspace.find(command[1])).size


def hstrlen(keyspace: Keyspace, command: Command) -> object:
    """(key, field)"""
    return len(hash_of(keyspace.find(command[1])).get(command[2]) or b"")


def hscan(keyspace: Keyspace, command: Command) -> object:
    """(key, cursor, pattern or nil, count, error text or nil)

    The error is that of bad options, which count only if there is such a key.
    """
    value = hash_of(keyspace.find(command[1]))
    cursor, fields = scan_page(value.root, command)
    return [cursor, [item for field in fields for item in (field, value.get(field))]]


def hrandfield(keyspace: Keyspace, command: Command) -> object:
    """(key, count or nil, 1 with values else 0, seed of 64 bits)"""
    _, key, count, with_values, seed = command
    value = hash_of(keyspace.find(key))
    size = value.size
    if not size:
        return None if count is None else []
    if count is None:
        return tries.keys_at(value.root, random_positions(seed, size, -1))[0]
    chosen = -count if count < 0 else min(count, size)
    charge(keyspace, chosen * 2, chosen * (value.content_bytes // size))
    fields = tries.keys_at(value.root, random_positions(seed, size, count))
    if with_values:
        return Couples(item for field in fields for item in (field, value.get(field)))
    return fields


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.HSET: hset,
    Opcode.HDEL: hdel,
    Opcode.HINCRBY: hincrby,
    Opcode.HINCRBYFLOAT: hincrbyfloat,
    Opcode.HGET: hget,
    Opcode.HMGET: hmget,
    Opcode.HGETALL: hgetall,
    Opcode.HKEYS: hkeys,
    Opcode.HVALS: hvals,
    Opcode.HEXISTS: hexists,
    Opcode.HLEN: hlen,
    Opcode.HSTRLEN: hstrlen,
    Opcode.HSCAN: hscan,
    Opcode.HRANDFIELD: hrandfield,
}

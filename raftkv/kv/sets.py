"""Sets: the value, and the commands on it, with the semantics of Redis 7.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format; validate wholly, then change under
one new revision. The order of the members is that of the fields of a hash.

Called by `store` only; `image_loader` makes the values of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from raftkv.errors import CommandError
from raftkv.kv import tries
from raftkv.kv.chance import next_random, random_positions
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.keyspace import Entry, Keyspace
from raftkv.kv.numbers import parse_integer
from raftkv.kv.strings import Handler
from raftkv.kv.values import WRONG_TYPE, Collection, Part, change, charge, scan_page, store_result
from raftkv.types import Members

# Up to this size Redis keeps a set of integers as such.
# Source: set-max-intset-entries in redis.conf of Redis 7.
_INTSET_ENTRIES_MAX: Final = 512


class Set(Collection):
    """Members that are all different; `root` maps each to None."""

    __slots__ = ()

    type_name = "set"
    type_code = 4
    width = 1
    overhead_bytes = 100

    @classmethod
    def empty(cls) -> Set:
        """See `Collection`."""
        return cls({}, 0)

    @classmethod
    def of(cls, members: Iterable[bytes]) -> Set:
        """Return the set of some members, in their order."""
        return cls.empty().updated(members)

    @property
    def size(self) -> int:
        """See `Collection`."""
        return tries.size_of(self.root)

    @property
    def encoding(self) -> bytes:
        """See `Collection`."""
        if self.size > _INTSET_ENTRIES_MAX:
            return b"hashtable"
        integers = all(
            len(member) <= 20 and parse_integer(member) is not None for member in self.members()
        )
        return b"intset" if integers else b"hashtable"

    def elements(self) -> Iterator[Part]:
        """See `Collection`."""
        return map(list, tries.leaves(self.root))

    def extended(self, part: Part) -> Set:
        """See `Collection`."""
        if not all(type(item) is bytes for item in part):
            raise TypeError("a member of a set is not bytes")
        size = self.size
        root = tries.grown(self.root, dict.fromkeys(part))
        if tries.size_of(root) - size != len(part):
            raise ValueError("a member is twice in a set")
        return Set(root, self.content_bytes + sum(map(len, part)))

    def has(self, member: bytes) -> bool:
        """Whether it is a member."""
        return member in tries.leaf_of(self.root, member)

    def members(self) -> list[bytes]:
        """Return all members in order."""
        return tries.keys(self.root)

    def updated(self, members: Iterable[bytes]) -> Set:
        """Return the set with members added."""
        added = {member: None for member in members if not self.has(member)}
        if not added:
            return self
        return Set(tries.updated(self.root, added), self.content_bytes + sum(map(len, added)))

    def without(self, members: list[bytes]) -> Set:
        """Return the set without some different members that it has."""
        gone_bytes = sum(map(len, members))
        return Set(tries.without(self.root, members), self.content_bytes - gone_bytes)


_EMPTY: Final = Set.empty()


def set_of(entry: Entry | None) -> Set:
    """Return the value of a set's entry; an empty one where there is no key.

    Raises:
        CommandError: The key holds another type.
    """
    if entry is None:
        return _EMPTY
    value = entry[0]
    if type(value) is not Set:
        raise CommandError(WRONG_TYPE)
    return value


# ---------------------------------------------------------------- one set


def sadd(keyspace: Keyspace, command: Command) -> object:
    """(key, member, ...)"""
    key = command[1]
    entry = keyspace.find_for_write(key)
    before = set_of(entry)
    value = before.updated(command[2:])
    if value is not before:
        change(keyspace, key, entry, value)
    return value.size - before.size


def srem(keyspace: Keyspace, command: Command) -> object:
    """(key, member, ...)"""
    key = command[1]
    entry = keyspace.find_for_write(key)
    before = set_of(entry)
    gone = [member for member in dict.fromkeys(command[2:]) if before.has(member)]
    if gone:
        change(keyspace, key, entry, before.without(gone))
    return len(gone)


def spop(keyspace: Keyspace, command: Command) -> object:
    """(key, count or nil), chosen by the seed of the batch"""
    _, key, count = command
    entry = keyspace.find_for_write(key)
    before = set_of(entry)
    if not before.size:
        return None if count is None else Members()
    keyspace.random_state, seed = next_random(keyspace.random_state)
    wanted = 1 if count is None else count
    if not wanted:
        return Members()
    charge(keyspace, min(wanted, before.size))
    gone = tries.keys_at(before.root, random_positions(seed, before.size, wanted))
    change(keyspace, key, entry, before.without(gone))
    return gone[0] if count is None else Members(gone)


def smove(keyspace: Keyspace, command: Command) -> object:
    """(source, target, member)"""
    _, source, target, member = command
    source_entry = keyspace.find_for_write(source)
    if source_entry is None:
        return 0
    before = set_of(source_entry)
    target_entry = keyspace.find_for_write(target)
    there = set_of(target_entry)
    if not before.has(member):
        return 0
    if source != target:
        change(keyspace, source, source_entry, before.without([member]))
        if not there.has(member):
            added = there.updated([member])
            change(keyspace, target, target_entry, added, keyspace.revision)
    return 1


def sismember(keyspace: Keyspace, command: Command) -> object:
    """(key, member)"""
    return int(set_of(keyspace.find(command[1])).has(command[2]))


def smismember(keyspace: Keyspace, command: Command) -> object:
    """(key, member, ...)"""
    value = set_of(keyspace.find(command[1]))
    return [int(value.has(member)) for member in command[2:]]


def smembers(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    value = set_of(keyspace.find(command[1]))
    charge(keyspace, value.size, value.content_bytes)
    return Members(value.members())


def scard(keyspace: Keyspace, command: Command) -> object:
    """(key)"""
    return set_of(keyspace.find(command[1])).size


def srandmember(keyspace: Keyspace, command: Command) -> object:
    """(key, count or nil, 0, seed of 64 bits)"""
    _, key, count, _, seed = command
    value = set_of(keyspace.find(key))
    size = value.size
    if not size:
        return None if count is None else []
    if count is None:
        return tries.keys_at(value.root, random_positions(seed, size, -1))[0]
    chosen = -count if count < 0 else min(count, size)
    charge(keyspace, chosen, chosen * (value.content_bytes // size))
    return tries.keys_at(value.root, random_positions(seed, size, count))


def sscan(keyspace: Keyspace, command: Command) -> object:
    """(key, cursor, pattern or nil, count, error text or nil)

    The error is that of bad options, which count only if there is such a key.
    """
    return list(scan_page(set_of(keyspace.find(command[1])).root, command))


# ------------------------------------------------------------ several sets


def _intersection(sets: list[Set], limit: int = 0) -> list[bytes]:
    """Return the members of all sets, in the order of the smallest; at most `limit`, if not 0."""
    smallest, *others = sorted(sets, key=lambda one: one.size)
    found: list[bytes] = []
    for member, _ in tries.items(smallest.root):
        if all(other.has(member) for other in others):
            found.append(member)
            if len(found) == limit:
                break
    return found


def _union(sets: list[Set]) -> list[bytes]:
    members: dict[bytes, None] = {}
    for one in sets:
        members.update(dict.fromkeys(one.members()))
    return list(members)


def _difference(sets: list[Set]) -> list[bytes]:
    first, *others = sets
    members = first.members()
    for other in others:
        if other.size:
            members = [member for member in members if not other.has(member)]
    return members


def _sets(keyspace: Keyspace, keys: Iterable[bytes]) -> list[Set]:
    """Return the sets at several keys, all of which must be sets or missing."""
    return [set_of(keyspace.find(key)) for key in keys]


def sinter(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    return _members(keyspace, _intersection(_sets(keyspace, command[1:])))


def sunion(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    return _members(keyspace, _union(_sets(keyspace, command[1:])))


def sdiff(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)"""
    return _members(keyspace, _difference(_sets(keyspace, command[1:])))


def _members(keyspace: Keyspace, members: list[bytes]) -> Members:
    charge(keyspace, len(members), sum(map(len, members)))
    return Members(members)


def sintercard(keyspace: Keyspace, command: Command) -> object:
    """(limit or 0, key, ...)"""
    return len(_intersection(_sets(keyspace, command[2:]), command[1]))


def sinterstore(keyspace: Keyspace, command: Command) -> object:
    """(target, key, ...)"""
    members = _intersection(_sets(keyspace, command[2:]))
    return store_result(keyspace, command[1], Set.of(members))


def sunionstore(keyspace: Keyspace, command: Command) -> object:
    """(target, key, ...)"""
    members = _union(_sets(keyspace, command[2:]))
    return store_result(keyspace, command[1], Set.of(members))


def sdiffstore(keyspace: Keyspace, command: Command) -> object:
    """(target, key, ...)"""
    members = _difference(_sets(keyspace, command[2:]))
    return store_result(keyspace, command[1], Set.of(members))


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.SADD: sadd,
    Opcode.SREM: srem,
    Opcode.SPOP: spop,
    Opcode.SMOVE: smove,
    Opcode.SINTERSTORE: sinterstore,
    Opcode.SUNIONSTORE: sunionstore,
    Opcode.SDIFFSTORE: sdiffstore,
    Opcode.SISMEMBER: sismember,
    Opcode.SMISMEMBER: smismember,
    Opcode.SMEMBERS: smembers,
    Opcode.SCARD: scard,
    Opcode.SRANDMEMBER: srandmember,
    Opcode.SSCAN: sscan,
    Opcode.SINTER: sinter,
    Opcode.SUNION: sunion,
    Opcode.SDIFF: sdiff,
    Opcode.SINTERCARD: sintercard,
}

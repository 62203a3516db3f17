"""Commands on leases: granting, renewing and revoking them, binding keys to them.

Time is lease time only; what that means is in `leases`. A lease and a binding are
no values: neither takes a revision, only the removal of keys does. A plain
overwrite of a whole key releases it, as in etcd, and as it takes the time to live
away; a change of a part of it does not.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode, and part of the log format. Limits travel in the command, so
that nodes with other settings agree. Called by `store` only.
"""

from __future__ import annotations

from typing import Final

from raftkv.errors import CommandError
from raftkv.kv.chance import next_random
from raftkv.kv.commands import Command, Opcode, ValueCondition
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.leases import LEASE_ID_MAX, Lease
from raftkv.kv.strings import Handler, set_if, set_with
from raftkv.kv.values import charge
from raftkv.types import NoList, Pairs

NO_LEASE: Final = "NOLEASE no such lease"
LEASE_EXISTS: Final = "ERR lease exists already"
TOO_MANY_LEASES: Final = "ERR there are too many leases (limits.leases_max)"
TOO_MANY_KEYS: Final = "ERR a lease has too many keys (limits.lease_keys_max)"


def grant(keyspace: Keyspace, command: Command) -> object:
    """(ttl in ms, id or nil, most leases allowed)

    Returns:
        The id, a random one where none is given.
    """
    _, ttl_ms, lease_id, leases_max = command
    held = keyspace.leases.held
    if lease_id in held:
        raise CommandError(LEASE_EXISTS)
    if len(held) >= leases_max:
        raise CommandError(TOO_MANY_LEASES)
    if lease_id is None:
        lease_id = _free_id(keyspace)
    keyspace.leases.set(lease_id, Lease(ttl_ms, keyspace.lease_time_ms + ttl_ms))
    return lease_id


def _free_id(keyspace: Keyspace) -> int:
    while True:
        keyspace.random_state, number = next_random(keyspace.random_state)
        lease_id = number % LEASE_ID_MAX + 1
        if lease_id not in keyspace.leases.held:
            return lease_id


def keep_alive(keyspace: Keyspace, command: Command) -> object:
    """(id)

    Returns:
        The remaining time in ms: that of the grant.
    """
    lease_id = command[1]
    lease = _living(keyspace, lease_id)
    deadline_ms = keyspace.lease_time_ms + lease.ttl_ms
    if deadline_ms != lease.deadline_ms:
        keyspace.leases.set(lease_id, Lease(lease.ttl_ms, deadline_ms))
    return lease.ttl_ms


def revoke(keyspace: Keyspace, command: Command) -> object:
    """(id)

    Its keys are lost at once, and removed like those of a lease that has run out.

    Returns:
        How many keys it had.
    """
    lease_id = command[1]
    _living(keyspace, lease_id)
    keyspace.revoke(lease_id)
    return len(keyspace.leases.keys_of(lease_id))


def describe(keyspace: Keyspace, command: Command) -> object:
    """(id, with its keys: 1 or 0)"""
    _, lease_id, with_keys = command
    lease = keyspace.leases.find(lease_id, keyspace.lease_time_ms)
    if lease is None:
        return NoList()
    keys = keyspace.leases.keys_of(lease_id)
    facts: list[object] = [b"id", lease_id, b"ttl_ms", lease.ttl_ms]
    facts += [b"remaining_ms", lease.deadline_ms - keyspace.lease_time_ms]
    facts += [b"key_count", len(keys)]
    if with_keys:
        charge(keyspace, len(keys))
        facts += [b"keys", sorted(keys)]
    return Pairs(facts)


def list_ids(keyspace: Keyspace, command: Command) -> object:
    """(id to begin behind, most ids)"""
    _, after_id, count = command
    ids = keyspace.leases.ids_after(after_id, count, keyspace.lease_time_ms)
    charge(keyspace, len(ids))
    return ids


def attach(keyspace: Keyspace, command: Command) -> object:
    """(id, most keys a lease may have, key, ...)

    Returns:
        How many of the keys exist; these are bound to the lease now.
    """
    _, lease_id, keys_max, *keys = command
    _living(keyspace, lease_id)
    there = [key for key in dict.fromkeys(keys) if keyspace.find_for_write(key) is not None]
    _check_room(keyspace, lease_id, there, keys_max)
    for key in there:
        keyspace.bind(key, lease_id)
    return len(there)


def detach(keyspace: Keyspace, command: Command) -> object:
    """(key, ...)

    Returns:
        How many of the keys were bound to a lease.
    """
    there = [key for key in command[1:] if keyspace.find_for_write(key) is not None]
    before = keyspace.leases.bound
    for key in there:
        keyspace.release(key)
    return before - keyspace.leases.bound


def set_leased(keyspace: Keyspace, command: Command) -> object:
    """(id, most keys a lease may have, ValueCondition, value compared or nil, then as SET_WITH)"""
    opcode, lease_id, keys_max, condition, compared, *rest = command
    key = rest[0]
    _living(keyspace, lease_id)
    keyspace.find_for_write(key)
    _check_room(keyspace, lease_id, [key], keys_max)
    before = keyspace.revision
    if condition == ValueCondition.ALWAYS:
        result = set_with(keyspace, (opcode, *rest))
    else:
        result = set_if(keyspace, (opcode, condition, compared, *rest))
    if keyspace.revision != before and keyspace.find(key) is not None:
        keyspace.bind(key, lease_id)
    return result


def _living(keyspace: Keyspace, lease_id: int) -> Lease:
    lease = keyspace.leases.find(lease_id, keyspace.lease_time_ms)
    if lease is None:
        raise CommandError(NO_LEASE)
    return lease


def _check_room(keyspace: Keyspace, lease_id: int, keys: list[bytes], keys_max: int) -> None:
    bound = keyspace.leases.keys_of(lease_id)
    if len(bound) + sum(key not in bound for key in keys) > keys_max:
        raise CommandError(TOO_MANY_KEYS)


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.LEASE_GRANT: grant,
    Opcode.LEASE_KEEPALIVE: keep_alive,
    Opcode.LEASE_REVOKE: revoke,
    Opcode.LEASE_TTL: describe,
    Opcode.LEASE_LIST: list_ids,
    Opcode.LEASE_ATTACH: attach,
    Opcode.LEASE_DETACH: detach,
    Opcode.LEASE_SET: set_leased,
}

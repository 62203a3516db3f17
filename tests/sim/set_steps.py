"""What simulated clients ask about sets: one key, and groups of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import Opcode
from tests.linearizability.history import Value
from tests.sim.steps import (
    Mix,
    Step,
    Steps,
    across,
    encoded,
    members_of,
    on_key,
    ordered,
    page,
    picked,
    plain,
)

_MEMBERS = ("a", "b", "c", "d", "e")
_COMBINED = {
    "inter": (Opcode.SINTER, Opcode.SINTERSTORE),
    "union": (Opcode.SUNION, Opcode.SUNIONSTORE),
    "diff": (Opcode.SDIFF, Opcode.SDIFFSTORE),
}


class SetSteps(Steps):
    """Reads and changes sets of a few members: what was taken at random shows in the rest."""

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        alone: Mix = [
            (self._add, 28), (self._remove, 8), (self._pop, 8), (self._pop_many, 4),
            (self._members, 16), (self._has, 6), (self._have, 6), (self._size, 4),
            (self._pick, 6), (self._scan, 6), (self._exists, 2), (self._del, 2),
        ]  # fmt: skip
        group: Mix = [
            (self._add_one, 22), (self._members_one, 20), (self._move, 18), (self._combine, 14),
            (self._store, 12), (self._count_common, 6), (self._pop_one, 4),
        ]  # fmt: skip
        return {"set": alone, "set group": group}

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        keys = members_of(key) if "group" in family else (key,)
        return [self._members(one) for one in keys]

    def _some(self) -> list[str]:
        return self._dice.sample(_MEMBERS, self._dice.randrange(1, 3))

    def _on_members(self, kind: str, opcode: Opcode, key: str) -> Step:
        members = self._some()
        return on_key(kind, key, members, (opcode, key.encode(), *encoded(members)))

    def _add(self, key: str) -> Step:
        return self._on_members("sadd", Opcode.SADD, key)

    def _remove(self, key: str) -> Step:
        return self._on_members("srem", Opcode.SREM, key)

    def _have(self, key: str) -> Step:
        return self._on_members("smismember", Opcode.SMISMEMBER, key)

    def _has(self, key: str) -> Step:
        member = self._dice.choice(_MEMBERS)
        command = (Opcode.SISMEMBER, key.encode(), member.encode())
        return on_key("sismember", key, (member,), command)

    def _pop_with(self, key: str, count: int | None, convert: Callable[[Any], Value]) -> Step:
        return on_key("spop", key, (count,), (Opcode.SPOP, key.encode(), count), convert)

    def _pop(self, key: str) -> Step:
        return self._pop_with(key, None, plain)

    def _pop_many(self, key: str) -> Step:
        return self._pop_with(key, self._dice.randrange(1, 4), ordered)

    def _members(self, key: str) -> Step:
        return on_key("smembers", key, (), (Opcode.SMEMBERS, key.encode()), ordered)

    def _scan(self, key: str) -> Step:
        command = (Opcode.SSCAN, key.encode(), 0, None, 1000, None)
        return on_key("smembers", key, (), command, page(ordered))

    def _size(self, key: str) -> Step:
        return on_key("scard", key, (), (Opcode.SCARD, key.encode()))

    def _pick(self, key: str) -> Step:
        count = self._dice.choice((None, 2, 4, -3))
        command = (Opcode.SRANDMEMBER, key.encode(), count, 0, self._seed())
        return on_key("srandmember", key, (count,), command, picked(plain))

    # -------------------------------------------------------------------- groups

    def _one(self, group: str) -> str:
        return self._dice.choice(members_of(group))

    def _add_one(self, group: str) -> Step:
        return self._add(self._one(group))

    def _members_one(self, group: str) -> Step:
        return self._members(self._one(group))

    def _pop_one(self, group: str) -> Step:
        return self._pop(self._one(group))

    def _move(self, group: str) -> Step:
        source, target = self._dice.sample(members_of(group), 2)
        member = self._dice.choice(_MEMBERS)
        command = (Opcode.SMOVE, *encoded((source, target, member)))
        return across("smove", source, (target, member), command, (target,))

    def _combine(self, group: str) -> Step:
        keys = tuple(self._dice.sample(members_of(group), 2))
        name = self._dice.choice(list(_COMBINED))
        command = (_COMBINED[name][0], *encoded(keys))
        return across(f"s{name}", keys[0], (keys,), command, keys, ordered)

    def _store(self, group: str) -> Step:
        target = self._one(group)
        keys = tuple(self._dice.sample(members_of(group), 2))
        name = self._dice.choice(list(_COMBINED))
        command = (_COMBINED[name][1], target.encode(), *encoded(keys))
        return across(f"s{name}store", target, (keys,), command, keys)

    def _count_common(self, group: str) -> Step:
        keys = tuple(self._dice.sample(members_of(group), 2))
        limit = self._dice.choice((0, 1))
        command = (Opcode.SINTERCARD, limit, *encoded(keys))
        return across("sintercard", keys[0], (keys, limit), command, keys)

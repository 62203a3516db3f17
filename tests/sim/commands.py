"""What simulated clients ask: strings and keys themselves, and all other families together.

Each family of keys has its own mix, because a model decides much faster what only
counters, or only registers, were asked. The families of the other types are in modules
of their own, `hash_steps` and those beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import Command, CopyFlag, ExpireFlag, GetexFlag, Opcode, SetFlag
from tests.linearizability.history import Value
from tests.sim.bit_steps import BitSteps
from tests.sim.hash_steps import HashSteps
from tests.sim.lease_steps import LeaseSteps
from tests.sim.list_steps import ListSteps
from tests.sim.set_steps import SetSteps
from tests.sim.sorted_set_steps import SortedSetSteps
from tests.sim.steps import (
    VALUE_BYTES_MAX,
    Mix,
    Step,
    Steps,
    across,
    encoded,
    members_of,
    on_key,
    plain,
)
from tests.sim.transactions import TransactionAsker
from tests.sim.world import WALL_START_MS, World

__all__ = ["VALUE_BYTES_MAX", "Asker", "Step", "plain"]


def _one_if_done(reply: Any) -> Value:
    return int(reply is not None)


def _on_clock_of_history(start: int) -> Callable[[Any], Value]:
    """Return how to convert a deadline: no key and no deadline are told by what is below zero."""
    return lambda reply: reply if reply < 0 else reply - start


class Asker(Steps):
    """Makes up commands; every value it writes is another one."""

    def __init__(self, world: World) -> None:
        super().__init__(world.random)
        self._world = world
        self._collections: list[Steps] = [
            make(world.random)
            for make in (BitSteps, HashSteps, LeaseSteps, ListSteps, SetSteps, SortedSetSteps)
        ]
        self.transactions = TransactionAsker(world.random, self._value)
        families = dict(self.families())
        for steps in self._collections:
            families |= steps.families()
        self._mixes: dict[str, tuple[list[Callable[[str], Step]], list[int]]] = {
            family: ([maker for maker, _ in mix], [weight for _, weight in mix])
            for family, mix in families.items()
        }

    def ask(self, family: str, key: str) -> Step:
        """Return the next command on a key, or on the keys of a group."""
        makers, weights = self._mixes[family]
        (maker,) = self._dice.choices(makers, weights)
        return maker(key)

    @staticmethod
    def keys_of(family: str | None, key: str) -> tuple[str, ...]:
        """Return the keys that a slot's key stands for: those of a group, or itself."""
        return members_of(key) if family is not None and "group" in family else (key,)

    def last_reads(self, family: str, key: str) -> list[Step]:
        """Return the reads that end a run: they show all that a key, or a group, holds."""
        for steps in self._collections:
            if family in steps.families():
                return steps.last_reads(family, key)
        return [self.mget(key)] if "group" in family else [self._get(key)]

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        register = [
            (self._get, 38), (self._set, 22), (self._setnx, 8), (self._setxx, 6),
            (self._getset, 5), (self._set_get, 4), (self._setnx_get, 4), (self._getdel, 4),
            (self._del, 5), (self._exists, 4),
        ]  # fmt: skip
        mortal = [
            (self._get, 30), (self._set, 8), (self._set_px, 16), (self._setnx_px, 6),
            (self._getex, 6), (self._pexpire, 10), (self._persist, 5), (self._pttl, 8),
            (self._set_keep, 4), (self._del, 3), (self._exists, 4),
            (self._set_until, 4), (self._getex_until, 2), (self._expire_at, 3),
            (self._ttl, 3), (self._deadline, 4), (self._deadline_s, 2), (self._expire_if, 6),
        ]  # fmt: skip
        text = [
            (self._append, 46), (self._get, 34), (self._strlen, 6), (self._getrange, 6),
            (self._setrange, 5), (self._del, 3),
        ]  # fmt: skip
        group = [
            (self._mget, 24), (self._range, 6), (self._mset, 22), (self._msetnx, 8),
            (self._rename, 10),
            (self._renamenx, 5), (self._copy, 10), (self._member_del, 8), (self._member_set, 7),
            (self._exists_all, 5), (self._del_all, 3),
        ]  # fmt: skip
        return {
            "register": register,
            "mortal": mortal,
            "counter": [(self._incrby, 58), (self._get, 36), (self._del, 6)],
            "float": [(self._incrbyfloat, 58), (self._get, 36), (self._del, 6)],
            "text": text,
            "group": group,
            "watched group": [
                (self._multi, 70),
                (self._mget, 12),
                (self._range, 3),
                (self._member_get, 5),
                (self._member_del, 5),
                (self._member_set, 5),
            ],
        }

    # ------------------------------------------------------------------- one key

    def _get(self, key: str) -> Step:
        return Step("get", (key,), (), (Opcode.GET, key.encode()), plain)

    def _set(self, key: str) -> Step:
        value = self._value()
        return Step("set", (key,), (value,), (Opcode.SET, key.encode(), value.encode()), plain)

    def _set_with(
        self,
        kind: str,
        key: str,
        flags: int = 0,
        ttl_ms: int | None = None,
        convert: Callable[[Any], Value] = plain,
    ) -> Step:
        value = self._value()
        arguments = (value,) if ttl_ms is None else (value, ttl_ms)
        command = (Opcode.SET_WITH, key.encode(), value.encode(), int(flags), ttl_ms, None, b"set")
        return Step(kind, (key,), arguments, command, convert)

    def _set_px(self, key: str) -> Step:
        return self._set_with("set", key, ttl_ms=self._ttl_ms())

    def _set_keep(self, key: str) -> Step:
        return self._set_with("setkeep", key, SetFlag.KEEPTTL)

    def _setnx(self, key: str) -> Step:
        return self._set_with("setnx", key, SetFlag.NX | SetFlag.INTEGER)

    def _setnx_px(self, key: str) -> Step:
        return self._set_with("setnx", key, SetFlag.NX, self._ttl_ms(), _one_if_done)

    def _setxx(self, key: str) -> Step:
        return self._set_with("setxx", key, SetFlag.XX, convert=_one_if_done)

    def _set_get(self, key: str) -> Step:
        return self._set_with("getset", key, SetFlag.GET)

    def _setnx_get(self, key: str) -> Step:
        return self._set_with("setnxget", key, SetFlag.NX | SetFlag.GET)

    def _getset(self, key: str) -> Step:
        value = self._value()
        command = (Opcode.GETSET, key.encode(), value.encode())
        return Step("getset", (key,), (value,), command, plain)

    def _getdel(self, key: str) -> Step:
        return Step("getdel", (key,), (), (Opcode.GETDEL, key.encode()), plain)

    def _getex(self, key: str) -> Step:
        if self._dice.random() < 0.4:
            command = (Opcode.GETEX, key.encode(), int(GetexFlag.PERSIST), None, None, None)
            return Step("getex", (key,), (None,), command, plain)
        ttl_ms = self._ttl_ms()
        return Step(
            "getex", (key,), (ttl_ms,), (Opcode.GETEX, key.encode(), 0, ttl_ms, None, None), plain
        )

    def _pexpire(self, key: str) -> Step:
        kind, flag = self._dice.choice(
            (
                ("pexpire", 0),
                ("pexpirenx", ExpireFlag.NX),
                ("pexpirexx", ExpireFlag.XX),
                ("pexpiregt", ExpireFlag.GT),
                ("pexpirelt", ExpireFlag.LT),
            )
        )
        ttl_ms = self._ttl_ms()
        command = (Opcode.EXPIRE, key.encode(), ttl_ms, None, int(flag), b"pexpire")
        return Step(kind, (key,), (ttl_ms,), command, plain)

    def _pttl(self, key: str) -> Step:
        return Step("pttl", (key,), (), (Opcode.PTTL, key.encode()), plain)

    def _ttl(self, key: str) -> Step:
        return on_key("ttl", key, (), (Opcode.TTL, key.encode()))

    def _deadline(self, key: str) -> Step:
        command = (Opcode.PEXPIRETIME, key.encode())
        return on_key("pexpiretime", key, (), command, _on_clock_of_history(WALL_START_MS))

    def _deadline_s(self, key: str) -> Step:
        command = (Opcode.EXPIRETIME, key.encode())
        return on_key("expiretime", key, (), command, _on_clock_of_history(WALL_START_MS // 1000))

    def _until_ms(self) -> tuple[int, int]:
        """Return a time in the future: on the clock of the history, in us, and of the store."""
        until_ms = int(self._world.now_ms) + self._ttl_ms()
        return until_ms * 1000, WALL_START_MS + until_ms

    def _set_until(self, key: str) -> Step:
        value = self._value()
        at_us, deadline_ms = self._until_ms()
        words = (value.encode(), 0, None, deadline_ms, b"set")
        return on_key("setat", key, (value, at_us), (Opcode.SET_WITH, key.encode(), *words))

    def _getex_until(self, key: str) -> Step:
        at_us, deadline_ms = self._until_ms()
        command = (Opcode.GETEX, key.encode(), 0, None, deadline_ms, None)
        return on_key("getexat", key, (at_us,), command)

    def _expire_at(self, key: str) -> Step:
        at_us, deadline_ms = self._until_ms()
        command = (Opcode.EXPIRE, key.encode(), None, deadline_ms, 0, b"pexpireat")
        return on_key("pexpireat", key, (at_us,), command)

    def _expire_if(self, key: str) -> Step:
        ttl_ms, extension = self._ttl_ms(), self._dice.choice((0, 1, 2))
        # One of the last values that were written may well be there.
        compared = f"{max(1, self._made - self._dice.randrange(4))}."
        command = (Opcode.EXPIRE_IF, key.encode(), compared.encode(), ttl_ms, extension)
        return on_key("pexpireif", key, (compared, ttl_ms, extension), command)

    def _incrby(self, key: str) -> Step:
        amount = self._dice.choice((1, 2, 5, -1, -3))
        return Step("incrby", (key,), (amount,), (Opcode.INCRBY, key.encode(), amount), plain)

    def _incrbyfloat(self, key: str) -> Step:
        amount = self._dice.choice(("0.5", "1.5", "2", "-0.5", "-1"))
        command = (Opcode.INCRBYFLOAT, key.encode(), amount.encode())
        return Step("incrbyfloat", (key,), (amount,), command, plain)

    def _append(self, key: str) -> Step:
        value = self._value()
        command = (Opcode.APPEND, key.encode(), value.encode(), VALUE_BYTES_MAX)
        return Step("append", (key,), (value,), command, plain)

    def _setrange(self, key: str) -> Step:
        position, piece = self._dice.randrange(12), self._value()
        command = (Opcode.SETRANGE, key.encode(), position, piece.encode(), VALUE_BYTES_MAX)
        return Step("setrange", (key,), (position, piece), command, plain)

    def _getrange(self, key: str) -> Step:
        first = self._dice.randrange(8)
        last = first + self._dice.randrange(12)
        command = (Opcode.GETRANGE, key.encode(), first, last)
        return Step("getrange", (key,), (first, last), command, plain)

    def _strlen(self, key: str) -> Step:
        return Step("strlen", (key,), (), (Opcode.STRLEN, key.encode()), plain)

    # -------------------------------------------------------------------- groups

    def _some(self, group: str) -> list[str]:
        return self._dice.sample(members_of(group), self._dice.choice((2, 2, 3)))

    def _transaction(
        self,
        steps: list[tuple[Value, ...]],
        keys: list[str],
        command: Command,
        convert: Callable[[Any], Value],
    ) -> Step:
        return Step("transaction", tuple(keys), tuple(steps), command, convert)

    def mget(self, group: str) -> Step:
        """The read that ends a run."""
        keys = list(members_of(group))
        command = (Opcode.MGET, *(key.encode() for key in keys))
        return self._transaction([("get", key) for key in keys], keys, command, plain)

    def _mget(self, group: str) -> Step:
        keys = self._some(group)
        command = (Opcode.MGET, *(key.encode() for key in keys))
        return self._transaction([("get", key) for key in keys], keys, command, plain)

    def _range(self, group: str) -> Step:
        """Read a whole group as a range, which is in slices, and of one moment all the same."""
        keys = list(members_of(group))
        first, *_, last = sorted(key.encode() for key in keys)
        command = (Opcode.KV_RANGE, first, last + b"\0", 100, None, 0)

        def convert(reply: Any) -> Value:
            found = {item[0]: item[1] for item in reply[-1]}
            return tuple(plain(found.get(key.encode())) for key in keys)

        return self._transaction([("get", key) for key in keys], keys, command, convert)

    def _pairs(self, group: str, opcode: Opcode) -> tuple[list[str], list[str], Command]:
        keys = self._some(group)
        values = [self._value() for _ in keys]
        words = [word.encode() for pair in zip(keys, values, strict=True) for word in pair]
        return keys, values, (opcode, *words)

    def _mset(self, group: str) -> Step:
        keys, values, command = self._pairs(group, Opcode.MSET)
        steps: list[tuple[Value, ...]] = [
            ("set", key, value) for key, value in zip(keys, values, strict=True)
        ]
        return self._transaction(steps, keys, command, lambda _: ("OK",) * len(steps))

    def _msetnx(self, group: str) -> Step:
        keys, values, command = self._pairs(group, Opcode.MSETNX)
        steps: list[tuple[Value, ...]] = [("check", key, None) for key in keys]
        steps += [("set", key, value) for key, value in zip(keys, values, strict=True)]
        done = (1,) * len(keys) + ("OK",) * len(keys)
        return self._transaction(steps, keys, command, lambda reply: done if reply else None)

    def _rename(self, group: str) -> Step:
        return self._move("rename", Opcode.RENAME, group)

    def _renamenx(self, group: str) -> Step:
        return self._move("renamenx", Opcode.RENAMENX, group)

    def _move(self, kind: str, opcode: Opcode, group: str) -> Step:
        source, target = self._dice.sample(members_of(group), 2)
        command = (opcode, source.encode(), target.encode())
        return self._transaction(
            [(kind, source, target)], [source, target], command, lambda reply: (plain(reply),)
        )

    def _copy(self, group: str) -> Step:
        source, target = self._dice.sample(members_of(group), 2)
        replace = self._dice.choice((0, 1))
        flags = int(CopyFlag.REPLACE) if replace else 0
        command = (Opcode.COPY, source.encode(), target.encode(), flags)
        return self._transaction(
            [("copy", source, target, replace)],
            [source, target],
            command,
            lambda reply: (plain(reply),),
        )

    def _multi(self, group: str) -> Step:
        return self.transactions.ask(group)

    def _member_get(self, group: str) -> Step:
        """Read a value together with its revisions, which no model knows."""
        key = self._dice.choice(members_of(group))
        command = (Opcode.KV_GET, key.encode())
        return on_key("get", key, (), command, lambda reply: plain(reply[1]) if reply else None)

    def _member_del(self, group: str) -> Step:
        return self._del(self._dice.choice(members_of(group)))

    def _member_set(self, group: str) -> Step:
        return self._set(self._dice.choice(members_of(group)))

    def _exists_all(self, group: str) -> Step:
        return self._counted("existsall", Opcode.EXISTS, group)

    def _del_all(self, group: str) -> Step:
        return self._counted("delall", Opcode.DEL, group)

    def _counted(self, kind: str, opcode: Opcode, group: str) -> Step:
        keys = tuple(self._some(group))
        return across(kind, keys[0], (keys,), (opcode, *encoded(keys)), keys)

"""What simulated clients ask: commands of the store, and what they mean to the checker.

Each family of keys has its own mix, because a model decides much faster what only
counters, or only registers, were asked. A `Step` is one command with its operation
in the words of `tests.linearizability.models`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from raftkv.kv.commands import (
    Command,
    CopyFlag,
    ErrorReply,
    ExpireFlag,
    GetexFlag,
    Opcode,
    SetFlag,
    is_write,
)
from tests.linearizability.history import Value
from tests.sim.transactions import TransactionAsker

VALUE_BYTES_MAX = 512 << 20
_LETTERS = "abc"


class Step(NamedTuple):
    """One command, and the operation that it is.

    Attributes:
        convert: From the reply to the result that the model knows.
    """

    kind: str
    keys: tuple[str, ...]
    arguments: tuple[Value, ...]
    command: Command
    convert: Callable[[Any], Value]

    @property
    def is_write(self) -> bool:
        return is_write(self.command)


def plain(reply: Any) -> Value:
    """Return a reply as a value of a history; an error as its text."""
    if isinstance(reply, bytes):
        return reply.decode("latin-1")
    if isinstance(reply, ErrorReply):
        return reply.message
    if isinstance(reply, list):
        return tuple(plain(one) for one in reply)
    assert reply is None or isinstance(reply, int | str), reply
    return reply


def _one_if_done(reply: Any) -> Value:
    return int(reply is not None)


def _one_if_there(reply: Any) -> Value:
    return int(reply == "string")


class Asker:
    """Makes up commands; every value it writes is another one."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._count = 0
        self.transactions = TransactionAsker(dice, self._value, plain)
        self._mixes: dict[str, tuple[list[Callable[[str], Step]], list[int]]] = {
            family: ([maker for maker, _ in mix], [weight for _, weight in mix])
            for family, mix in self._families().items()
        }

    def ask(self, family: str, key: str) -> Step:
        """Return the next command on a key, or on the keys of a group."""
        makers, weights = self._mixes[family]
        (maker,) = self._dice.choices(makers, weights)
        return maker(key)

    def _families(self) -> dict[str, list[tuple[Callable[[str], Step], int]]]:
        register = [
            (self._get, 38), (self._set, 22), (self._setnx, 8), (self._setxx, 6),
            (self._getset, 5), (self._set_get, 4), (self._setnx_get, 4), (self._getdel, 4),
            (self._del, 5), (self._exists, 3), (self._type, 1),
        ]  # fmt: skip
        mortal = [
            (self._get, 30), (self._set, 8), (self._set_px, 16), (self._setnx_px, 6),
            (self._getex, 6), (self._pexpire, 10), (self._persist, 5), (self._pttl, 8),
            (self._set_keep, 4), (self._del, 3), (self._exists, 4),
        ]  # fmt: skip
        text = [
            (self._append, 46), (self._get, 34), (self._strlen, 6), (self._getrange, 6),
            (self._setrange, 5), (self._del, 3),
        ]  # fmt: skip
        group = [
            (self._mget, 30), (self._mset, 22), (self._msetnx, 8), (self._rename, 10),
            (self._renamenx, 5), (self._copy, 10), (self._member_del, 8), (self._member_set, 7),
        ]  # fmt: skip
        return {
            "register": register,
            "mortal": mortal,
            "counter": [(self._incrby, 58), (self._get, 36), (self._del, 6)],
            "float": [(self._incrbyfloat, 58), (self._get, 36), (self._del, 6)],
            "text": text,
            "group": group,
            "multi": [
                (self._multi, 70),
                (self._mget, 20),
                (self._member_del, 5),
                (self._member_set, 5),
            ],
        }

    def _value(self) -> str:
        self._count += 1
        return f"{self._count}."

    def _ttl_ms(self) -> int:
        return self._dice.choice((30, 200, 800, 3000, 20_000))

    # ------------------------------------------------------------------- one key

    def get(self, key: str) -> Step:
        """The read that ends a run."""
        return self._get(key)

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

    def _del(self, key: str) -> Step:
        return Step("del", (key,), (), (Opcode.DEL, key.encode()), plain)

    def _exists(self, key: str) -> Step:
        return Step("exists", (key,), (), (Opcode.EXISTS, key.encode()), plain)

    def _type(self, key: str) -> Step:
        return Step("exists", (key,), (), (Opcode.TYPE, key.encode()), _one_if_there)

    def _pexpire(self, key: str) -> Step:
        kind, flag = self._dice.choice(
            (("pexpire", 0), ("pexpirenx", ExpireFlag.NX), ("pexpirexx", ExpireFlag.XX))
        )
        ttl_ms = self._ttl_ms()
        command = (Opcode.EXPIRE, key.encode(), ttl_ms, None, int(flag), b"pexpire")
        return Step(kind, (key,), (ttl_ms,), command, plain)

    def _persist(self, key: str) -> Step:
        return Step("persist", (key,), (), (Opcode.PERSIST, key.encode()), plain)

    def _pttl(self, key: str) -> Step:
        return Step("pttl", (key,), (), (Opcode.PTTL, key.encode()), plain)

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

    @staticmethod
    def members(group: str) -> tuple[str, ...]:
        """Return the keys of a group."""
        return tuple(f"{group}:{letter}" for letter in _LETTERS)

    def _some(self, group: str) -> list[str]:
        return self._dice.sample(self.members(group), self._dice.choice((2, 2, 3)))

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
        keys = list(self.members(group))
        command = (Opcode.MGET, *(key.encode() for key in keys))
        return self._transaction([("get", key) for key in keys], keys, command, plain)

    def _mget(self, group: str) -> Step:
        keys = self._some(group)
        command = (Opcode.MGET, *(key.encode() for key in keys))
        return self._transaction([("get", key) for key in keys], keys, command, plain)

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
        source, target = self._dice.sample(self.members(group), 2)
        command = (opcode, source.encode(), target.encode())
        return self._transaction(
            [(kind, source, target)], [source, target], command, lambda reply: (plain(reply),)
        )

    def _copy(self, group: str) -> Step:
        source, target = self._dice.sample(self.members(group), 2)
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
        return Step(*self.transactions.ask(group))

    def _member_del(self, group: str) -> Step:
        return self._del(self._dice.choice(self.members(group)))

    def _member_set(self, group: str) -> Step:
        return self._set(self._dice.choice(self.members(group)))

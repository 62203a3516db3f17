"""What simulated clients ask about hashes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import HashFlag, Opcode
from tests.linearizability.history import Value
from tests.sim.steps import (
    Mix,
    Step,
    Steps,
    encoded,
    on_key,
    ordered,
    ordered_couples,
    page,
    picked,
    plain,
)

_FIELDS = ("a", "b", "c", "d")
_COUNTERS = ("m", "n")
_FLOATS = ("x",)
_ALL_FIELDS = _FIELDS + _COUNTERS + _FLOATS


class HashSteps(Steps):
    """Reads and changes hashes; some fields are counters."""

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        # Many writers of one field: each result shows the order.
        changes: Mix = [
            (self._set, 18), (self._set_if_none, 6), (self._set_all, 4), (self._delete, 8),
            (self._increase, 10), (self._increase_float, 4),
        ]  # fmt: skip
        reads: Mix = [
            (self._get, 8), (self._get_many, 6), (self._get_all, 12), (self._keys, 3),
            (self._values, 3), (self._has, 3), (self._size, 3), (self._length, 3),
            (self._scan, 4), (self._pick, 4), (self._exists, 2),
        ]  # fmt: skip
        ends: Mix = [(self._del, 2), (self._expire, 2), (self._persist, 2)]
        return {"hash": changes + reads + ends}

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        return [self._get_all(key)]

    def _some(self) -> list[str]:
        return self._dice.sample(_FIELDS, self._dice.randrange(1, 3))

    def _pairs(self) -> tuple[tuple[str, str], ...]:
        return tuple((field, self._value()) for field in self._some())

    def _write(self, kind: str, key: str, flags: int) -> Step:
        pairs = self._pairs()
        words = encoded(word for pair in pairs for word in pair)
        return on_key(kind, key, pairs, (Opcode.HSET, key.encode(), flags, *words))

    def _set(self, key: str) -> Step:
        return self._write("hset", key, 0)

    def _set_all(self, key: str) -> Step:
        return self._write("hmset", key, int(HashFlag.OK))

    def _set_if_none(self, key: str) -> Step:
        field, value = self._dice.choice(_FIELDS), self._value()
        command = (Opcode.HSET, key.encode(), int(HashFlag.NX), *encoded((field, value)))
        return on_key("hsetnx", key, (field, value), command)

    def _delete(self, key: str) -> Step:
        fields = self._dice.sample(_ALL_FIELDS, 2)
        return on_key("hdel", key, fields, (Opcode.HDEL, key.encode(), *encoded(fields)))

    def _increase(self, key: str) -> Step:
        field, amount = self._dice.choice(_COUNTERS), self._dice.choice((1, 2, 5, -3))
        command = (Opcode.HINCRBY, key.encode(), field.encode(), amount)
        return on_key("hincrby", key, (field, amount), command)

    def _increase_float(self, key: str) -> Step:
        field, amount = self._dice.choice(_FLOATS), self._dice.choice(("0.5", "1.5", "-1"))
        command = (Opcode.HINCRBYFLOAT, key.encode(), field.encode(), amount.encode())
        return on_key("hincrbyfloat", key, (field, amount), command)

    def _on_field(self, kind: str, opcode: Opcode, key: str) -> Step:
        field = self._dice.choice(_ALL_FIELDS)
        return on_key(kind, key, (field,), (opcode, key.encode(), field.encode()))

    def _get(self, key: str) -> Step:
        return self._on_field("hget", Opcode.HGET, key)

    def _has(self, key: str) -> Step:
        return self._on_field("hexists", Opcode.HEXISTS, key)

    def _length(self, key: str) -> Step:
        return self._on_field("hstrlen", Opcode.HSTRLEN, key)

    def _get_many(self, key: str) -> Step:
        fields = self._dice.sample(_ALL_FIELDS, 3)
        return on_key("hmget", key, fields, (Opcode.HMGET, key.encode(), *encoded(fields)))

    def _whole(self, kind: str, opcode: Opcode, key: str, convert: Callable[[Any], Value]) -> Step:
        return on_key(kind, key, (), (opcode, key.encode()), convert)

    def _get_all(self, key: str) -> Step:
        return self._whole("hgetall", Opcode.HGETALL, key, ordered_couples)

    def _keys(self, key: str) -> Step:
        return self._whole("hkeys", Opcode.HKEYS, key, ordered)

    def _values(self, key: str) -> Step:
        return self._whole("hvals", Opcode.HVALS, key, ordered)

    def _size(self, key: str) -> Step:
        return self._whole("hlen", Opcode.HLEN, key, plain)

    def _scan(self, key: str) -> Step:
        command = (Opcode.HSCAN, key.encode(), 0, None, 1000, None)
        return on_key("hgetall", key, (), command, page(ordered_couples))

    def _pick(self, key: str) -> Step:
        count = self._dice.choice((None, 2, 5, -4))
        with_values = 0 if count is None else self._dice.randrange(2)
        command = (Opcode.HRANDFIELD, key.encode(), count, with_values, self._seed())
        convert = picked(ordered_couples if with_values else ordered)
        return on_key("hrandfield", key, (count, with_values), command, convert)

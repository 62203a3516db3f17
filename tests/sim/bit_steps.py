"""What simulated clients ask about the bits of strings: one key, and groups of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv.kv.commands import BitfieldKind, BitOperation, Opcode, Overflow
from tests.linearizability.history import Value
from tests.sim.steps import Mix, Step, Steps, across, encoded, members_of, on_key

_BITS = 40
_Field = tuple[str, int, int, int, int, str]


class BitSteps(Steps):
    """Reads and changes bits; strings stay short, so that reads tell much."""

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        bits: Mix = [
            (self._set_bit, 30), (self._get_bit, 10), (self._count, 10), (self._position, 8),
            (self._bitfield, 14), (self._bitfield_ro, 8), (self._get, 18), (self._del, 2),
        ]  # fmt: skip
        one_of_them: Mix = [
            (self._in_group(self._set_bit), 30), (self._in_group(self._get), 30),
            (self._bitop, 30), (self._in_group(self._del), 5),
        ]  # fmt: skip
        return {"bits": bits, "bit group": one_of_them}

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        return [self._get(one) for one in (members_of(key) if "group" in family else (key,))]

    def _in_group(self, make: Callable[[str], Step]) -> Callable[[str], Step]:
        return lambda group: make(self._dice.choice(members_of(group)))

    def _get(self, key: str) -> Step:
        return on_key("get", key, (), (Opcode.GET, key.encode()))

    def _set_bit(self, key: str) -> Step:
        position, bit = self._dice.randrange(_BITS), self._dice.randrange(2)
        command = (Opcode.SETBIT, key.encode(), position, bit)
        return on_key("setbit", key, (position, bit), command)

    def _get_bit(self, key: str) -> Step:
        position = self._dice.randrange(_BITS)
        return on_key("getbit", key, (position,), (Opcode.GETBIT, key.encode(), position))

    def _count(self, key: str) -> Step:
        first, last, unit = self._range()
        command = (Opcode.BITCOUNT, key.encode(), first, last, int(unit == "bit"), None)
        return on_key("bitcount", key, (first, last, unit), command)

    def _range(self) -> tuple[int, int, str]:
        first, last = self._dice.choice(((0, -1), (0, 1), (1, 3), (-2, -1)))
        return first, last, self._dice.choice(("byte", "bit"))

    def _position(self, key: str) -> Step:
        first, last, unit = self._range()
        end = self._dice.choice((None, last))
        bit = self._dice.randrange(2)
        # Without an end there is no unit.
        unit = "byte" if end is None else unit
        command = (Opcode.BITPOS, key.encode(), bit, first, end, int(unit == "bit"), None)
        return on_key("bitpos", key, (bit, first, end, unit), command)

    def _fields(self, verbs: tuple[str, ...]) -> tuple[_Field, ...]:
        dice = self._dice
        return tuple(
            (
                dice.choice(verbs), dice.randrange(2), dice.choice((4, 8, 11)),
                dice.randrange(_BITS - 11), dice.randrange(1, 8),
                dice.choice(("wrap", "sat", "fail")),
            )
            for _ in range(dice.randrange(1, 4))
        )  # fmt: skip

    def _bitfield(self, key: str) -> Step:
        fields = self._fields(("get", "set", "incrby", "incrby"))
        return self._on_fields("bitfield", Opcode.BITFIELD, key, fields)

    def _bitfield_ro(self, key: str) -> Step:
        fields = tuple(
            ("get", signed, width, position, 0, "wrap")
            for _, signed, width, position, _, _ in self._fields(("get",))
        )
        return self._on_fields("bitfieldro", Opcode.BITFIELD_RO, key, fields)

    def _on_fields(self, kind: str, opcode: Opcode, key: str, fields: tuple[_Field, ...]) -> Step:
        words: list[Any] = []
        for verb, signed, width, position, number, overflow in fields:
            words += [int(BitfieldKind[verb.upper()]), signed, width, position, number]
            words.append(int(Overflow[overflow.upper()]))
        arguments: tuple[Value, ...] = fields
        return on_key(kind, key, arguments, (opcode, key.encode(), *words))

    def _bitop(self, group: str) -> Step:
        keys = members_of(group)
        name = self._dice.choice(("and", "or", "xor", "not"))
        target = self._dice.choice(keys)
        sources = tuple(self._dice.sample(keys, 1 if name == "not" else 2))
        operation = int(BitOperation[name.upper()])
        command = (Opcode.BITOP, operation, target.encode(), *encoded(sources))
        return across("bitop", target, (sources, name), command, sources)

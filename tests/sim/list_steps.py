"""What simulated clients ask about lists: one key, and groups of them."""

from __future__ import annotations

from typing import Any

from raftkv.kv.commands import ListFlag, Opcode, SortFlag
from tests.linearizability.history import Value
from tests.sim.steps import Mix, Step, Steps, across, encoded, members_of, on_key, plain

_ENDS = ("left", "right")
# An element that is there more than once, beside those which are all different.
_COMMON = "p"


class ListSteps(Steps):
    """Reads and changes lists, as queues most of all; they stay short."""

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        queue: Mix = [
            (self._push, 26), (self._push_if_there, 4), (self._pop, 14), (self._pop_many, 5),
            (self._set, 4), (self._insert, 5), (self._remove, 5), (self._trim, 4),
            (self._range, 18), (self._size, 4), (self._at, 5), (self._places, 5),
            (self._exists, 2), (self._del, 1), (self._expire, 1), (self._persist, 1),
            (self._sorted, 3),
        ]  # fmt: skip
        group: Mix = [
            (self._push_one, 26), (self._move, 24), (self._pop_first, 7), (self._pop_first_one, 7),
            (self._range_one, 32), (self._store_sorted, 6),
        ]  # fmt: skip
        return {"list": queue, "list group": group}

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        keys = members_of(key) if "group" in family else (key,)
        return [self._whole(one) for one in keys]

    def _end(self) -> str:
        return self._dice.choice(_ENDS)

    def _element(self) -> str:
        return _COMMON if self._dice.random() < 0.3 else self._value()

    def _push_with(self, kind: str, key: str, flags: int) -> Step:
        end = self._end()
        elements = [self._element() for _ in range(self._dice.randrange(1, 3))]
        command = (Opcode.LIST_PUSH, key.encode(), _ENDS.index(end), flags, *encoded(elements))
        return on_key(kind, key, (end, *elements), command)

    def _push(self, key: str) -> Step:
        return self._push_with("push", key, 0)

    def _push_if_there(self, key: str) -> Step:
        return self._push_with("pushx", key, int(ListFlag.XX))

    def _pop_with(self, key: str, count: int | None) -> Step:
        end = self._end()
        command = (Opcode.LIST_POP, key.encode(), _ENDS.index(end), count)
        return on_key("pop", key, (end, count), command)

    def _pop(self, key: str) -> Step:
        return self._pop_with(key, None)

    def _pop_many(self, key: str) -> Step:
        return self._pop_with(key, self._dice.randrange(1, 4))

    def _set(self, key: str) -> Step:
        place, element = self._dice.randrange(-3, 4), self._value()
        command = (Opcode.LSET, key.encode(), place, element.encode(), None)
        return on_key("lset", key, (place, element), command)

    def _insert(self, key: str) -> Step:
        side, element = self._dice.choice(("before", "after")), self._value()
        distance = int(side == "after")
        command = (Opcode.LINSERT, key.encode(), distance, _COMMON.encode(), element.encode())
        return on_key("linsert", key, (side, _COMMON, element), command)

    def _remove(self, key: str) -> Step:
        count = self._dice.choice((0, 1, -1, 2))
        command = (Opcode.LREM, key.encode(), count, _COMMON.encode())
        return on_key("lrem", key, (count, _COMMON), command)

    def _trim(self, key: str) -> Step:
        first, last = self._dice.choice(((0, 4), (-5, -1), (1, -1)))
        return on_key("ltrim", key, (first, last), (Opcode.LTRIM, key.encode(), first, last))

    def _range_of(self, key: str, first: int, last: int) -> Step:
        return on_key("lrange", key, (first, last), (Opcode.LRANGE, key.encode(), first, last))

    def _whole(self, key: str) -> Step:
        return self._range_of(key, 0, -1)

    def _range(self, key: str) -> Step:
        return self._range_of(key, *self._dice.choice(((0, -1), (0, -1), (1, 3), (-3, -1))))

    def _size(self, key: str) -> Step:
        return on_key("llen", key, (), (Opcode.LLEN, key.encode()))

    def _at(self, key: str) -> Step:
        place = self._dice.randrange(-3, 4)
        return on_key("lindex", key, (place,), (Opcode.LINDEX, key.encode(), place, None))

    def _places(self, key: str) -> Step:
        rank, count = self._dice.choice((1, -1, 2)), self._dice.choice((None, 0, 2))
        command = (Opcode.LPOS, key.encode(), _COMMON.encode(), rank, count, 0)
        return on_key("lpos", key, (_COMMON, rank, count), command)

    def _sorted(self, key: str) -> Step:
        flags, backwards = self._dice.choice(((SortFlag.ALPHA, 0), (SortFlag(3), 1)))
        command = (Opcode.SORT, key.encode(), int(flags), None, 0, -1)
        return on_key("sorted", key, (backwards,), command)

    # -------------------------------------------------------------------- groups

    def _store_sorted(self, group: str) -> Step:
        target, source = self._dice.sample(members_of(group), 2)
        words = (*encoded((target, source)), int(SortFlag.ALPHA), None, 0, 3)
        return across("sortstore", target, (source, 3), (Opcode.SORT_STORE, *words), (source,))

    def _push_one(self, group: str) -> Step:
        return self._push(self._dice.choice(members_of(group)))

    def _range_one(self, group: str) -> Step:
        return self._whole(self._dice.choice(members_of(group)))

    def _move(self, group: str) -> Step:
        # The same one now and then: a list that is rotated.
        source, target = self._dice.choices(members_of(group), k=2)
        ends = self._end(), self._end()
        command = (Opcode.LMOVE, *encoded((source, target)), *map(_ENDS.index, ends))
        return across("lmove", source, (target, *ends), command, (target,))

    def _pop_first(self, group: str) -> Step:
        keys = tuple(self._dice.sample(members_of(group), 2))
        end, count = self._end(), self._dice.randrange(1, 3)
        command = (Opcode.LMPOP, _ENDS.index(end), count, *encoded(keys))
        return across("lmpop", keys[0], (keys, end, count), command, keys)

    def _pop_first_one(self, group: str) -> Step:
        """Pop as those do who wait; the reply has the element alone instead of a list."""
        keys = tuple(self._dice.sample(members_of(group), 2))
        end = self._end()
        command = (Opcode.LIST_POP_FIRST, _ENDS.index(end), *encoded(keys))
        return across("lmpop", keys[0], (keys, end, 1), command, keys, _with_one_element)


def _with_one_element(reply: Any) -> Value:
    """Return a key and an element as a key and a list of one."""
    told = plain(reply)
    return (told[0], (told[1],)) if isinstance(told, tuple) else told

"""What simulated clients ask about sorted sets: one key, equal scores, and groups of keys."""

from __future__ import annotations

from typing import Any

from raftkv.kv.commands import Aggregate, Opcode, RangeFlag, RangeKind, ZaddFlag
from tests.linearizability.history import Value
from tests.sim.steps import (
    Mix,
    Step,
    Steps,
    across,
    couples,
    encoded,
    members_of,
    on_key,
    page,
    picked,
    plain,
)

_MEMBERS = ("a", "b", "c", "d", "e")
_ENDS = ("lowest", "highest")
_KINDS = {"rank": RangeKind.RANK, "score": RangeKind.SCORE, "name": RangeKind.NAME}
_FLAGS = ((), (), (), ("ch",), ("nx",), ("xx",), ("gt",), ("lt", "ch"), ("incr",), ("incr", "gt"))
_COMBINED = {
    "inter": (Opcode.ZINTER, Opcode.ZINTERSTORE),
    "union": (Opcode.ZUNION, Opcode.ZUNIONSTORE),
    "diff": (Opcode.ZDIFF, Opcode.ZDIFFSTORE),
}
# By, low, high.
_Range = tuple[str, int | str, int | str]


class SortedSetSteps(Steps):
    """Reads and changes sorted sets; scores are integers, so that sums of them are exact."""

    def families(self) -> dict[str, Mix]:
        """See `Steps`."""
        alone: Mix = [
            (self._add, 28), (self._remove, 6), (self._pop, 7), (self._remove_range, 5),
            (self._range, 14), (self._score, 6), (self._scores, 5), (self._size, 3),
            (self._rank, 6), (self._count, 5), (self._scan, 4), (self._pick, 4),
            (self._exists, 1), (self._del, 1),
        ]  # fmt: skip
        # A range of names makes sense among equal scores only.
        names: Mix = [
            (self._add_name, 36), (self._range_of_names, 28), (self._count_names, 12),
            (self._remove_names, 12), (self._remove, 6),
        ]  # fmt: skip
        group: Mix = [
            (self._add_one, 26), (self._whole_one, 22), (self._pop_first, 4),
            (self._pop_first_one, 4), (self._combine, 14), (self._store, 12),
            (self._store_range, 10), (self._count_common, 4),
        ]  # fmt: skip
        return {"sorted set": alone, "names": names, "sorted set group": group}

    def last_reads(self, family: str, key: str) -> list[Step]:
        """See `Steps`."""
        keys = members_of(key) if "group" in family else (key,)
        return [self._whole(one) for one in keys]

    # ------------------------------------------------------------------- one key

    def _member(self) -> str:
        return self._dice.choice(_MEMBERS)

    def _add_with(self, key: str, flags: tuple[str, ...], pairs: list[tuple[str, int]]) -> Step:
        bits = sum(int(ZaddFlag[name.upper()]) for name in flags)
        words = encoded(word for member, score in pairs for word in (str(score), member))
        command = (Opcode.ZADD, key.encode(), bits, *words)
        return on_key("zadd", key, (flags, *pairs), command)

    def _add(self, key: str) -> Step:
        flags = self._dice.choice(_FLAGS)
        members = self._dice.sample(_MEMBERS, 1 if "incr" in flags else self._dice.randrange(1, 3))
        return self._add_with(key, flags, [(one, self._dice.randrange(10)) for one in members])

    def _add_name(self, key: str) -> Step:
        return self._add_with(key, (), [(self._member(), 0)])

    def _remove(self, key: str) -> Step:
        members = self._dice.sample(_MEMBERS, 2)
        return on_key("zrem", key, members, (Opcode.ZREM, key.encode(), *encoded(members)))

    def _pop(self, key: str) -> Step:
        end, count = self._dice.choice(_ENDS), self._dice.choice((None, 1, 2))
        command = (Opcode.ZPOP, key.encode(), _ENDS.index(end), count)
        return on_key("zpop", key, (end, 1 if count is None else count), command, couples)

    def _score(self, key: str) -> Step:
        member = self._member()
        command = (Opcode.ZSCORE, key.encode(), member.encode())
        return on_key("zscore", key, (member,), command)

    def _scores(self, key: str) -> Step:
        members = self._dice.sample(_MEMBERS, 3)
        return on_key("zmscore", key, members, (Opcode.ZMSCORE, key.encode(), *encoded(members)))

    def _size(self, key: str) -> Step:
        return on_key("zcard", key, (), (Opcode.ZCARD, key.encode()))

    def _rank(self, key: str) -> Step:
        member, reverse = self._member(), self._dice.randrange(2)
        command = (Opcode.ZRANK, key.encode(), reverse, member.encode())
        return on_key("zrank", key, (member, reverse), command)

    def _scan(self, key: str) -> Step:
        def scores(reply: Any) -> Value:
            pairs = [(one.decode(), int(two)) for one, two in zip(*[iter(reply)] * 2, strict=True)]
            return tuple(sorted(pairs, key=lambda pair: (pair[1], pair[0])))

        command = (Opcode.ZSCAN, key.encode(), 0, None, 1000, None)
        return on_key("zall", key, (), command, page(scores))

    def _pick(self, key: str) -> Step:
        count = self._dice.choice((None, 2, 4, -3))
        with_scores = 0 if count is None else self._dice.randrange(2)
        command = (Opcode.ZRANDMEMBER, key.encode(), count, with_scores, self._seed())
        convert = picked(couples if with_scores else plain)
        return on_key("zrandmember", key, (count, with_scores), command, convert)

    # -------------------------------------------------------------------- ranges

    def _bounds(self, by: str) -> _Range:
        dice = self._dice
        if by == "rank":
            return (by, *dice.choice(((0, -1), (0, 1), (1, 2), (-2, -1))))
        if by == "score":
            return (by, *dice.choice((("-inf", "+inf"), ("2", "6"), ("(3", "8"), ("0", "(5"))))
        return (by, *dice.choice((("-", "+"), ("[b", "(d"), ("(a", "+"), ("-", "[c"))))

    @staticmethod
    def _encoded(bounds: _Range) -> tuple[Any, Any]:
        """Return bounds as a command has them: only ranks are numbers."""
        _, low, high = bounds
        return tuple(one if isinstance(one, int) else one.encode() for one in (low, high))

    def _selection(self, bounds: _Range) -> tuple[tuple[Value, ...], tuple[Any, ...]]:
        """Return a range with its order and its limit: for the model, and for a command."""
        reverse = self._dice.randrange(2)
        offset, limit = (0, -1) if bounds[0] == "rank" else self._dice.choice(((0, -1), (1, 2)))
        flags = int(RangeFlag.REVERSE) * reverse
        words = (int(_KINDS[bounds[0]]), flags, *self._encoded(bounds), offset, limit)
        return (*bounds, reverse, offset, limit), words

    def _range_in(self, key: str, bounds: _Range) -> Step:
        arguments, (kind, flags, *words) = self._selection(bounds)
        flags |= int(RangeFlag.WITH_SCORES)
        command = (Opcode.ZRANGE, key.encode(), kind, flags, *words)
        return on_key("zrange", key, arguments, command, couples)

    def _range(self, key: str) -> Step:
        return self._range_in(key, self._bounds(self._dice.choice(("rank", "score"))))

    def _range_of_names(self, key: str) -> Step:
        return self._range_in(key, self._bounds("name"))

    def _whole(self, key: str) -> Step:
        flags = int(RangeFlag.WITH_SCORES)
        command = (Opcode.ZRANGE, key.encode(), int(RangeKind.RANK), flags, 0, -1, 0, -1)
        return on_key("zall", key, (), command, couples)

    def _in_bounds(self, kind: str, opcode: Opcode, key: str, bounds: _Range) -> Step:
        command = (opcode, key.encode(), int(_KINDS[bounds[0]]), *self._encoded(bounds))
        return on_key(kind, key, bounds, command)

    def _count(self, key: str) -> Step:
        return self._in_bounds("zcount", Opcode.ZCOUNT, key, self._bounds("score"))

    def _count_names(self, key: str) -> Step:
        return self._in_bounds("zcount", Opcode.ZCOUNT, key, self._bounds("name"))

    def _remove_range(self, key: str) -> Step:
        bounds = self._bounds(self._dice.choice(("rank", "score")))
        return self._in_bounds("zremrange", Opcode.ZREMRANGE, key, bounds)

    def _remove_names(self, key: str) -> Step:
        return self._in_bounds("zremrange", Opcode.ZREMRANGE, key, self._bounds("name"))

    # -------------------------------------------------------------------- groups

    def _one(self, group: str) -> str:
        return self._dice.choice(members_of(group))

    def _add_one(self, group: str) -> Step:
        return self._add(self._one(group))

    def _whole_one(self, group: str) -> Step:
        return self._whole(self._one(group))

    def _pop_first(self, group: str) -> Step:
        keys = tuple(self._dice.sample(members_of(group), 2))
        end, count = self._dice.choice(_ENDS), self._dice.randrange(1, 3)
        command = (Opcode.ZMPOP, _ENDS.index(end), count, *encoded(keys))
        return across("zmpop", keys[0], (keys, end, count), command, keys)

    def _pop_first_one(self, group: str) -> Step:
        """Pop as those do who wait; the reply has one member and its score alone."""
        keys = tuple(self._dice.sample(members_of(group), 2))
        end = self._dice.choice(_ENDS)
        command = (Opcode.ZPOP_FIRST, _ENDS.index(end), *encoded(keys))
        return across("zmpop", keys[0], (keys, end, 1), command, keys, _with_one_member)

    def _sources(self, group: str) -> tuple[str, tuple[Value, ...], tuple[Any, ...]]:
        """Return how to combine two keys: a name, the model's arguments, and a command's words."""
        keys = tuple(self._dice.sample(members_of(group), 2))
        name = self._dice.choice(list(_COMBINED))
        aggregate = "sum" if name == "diff" else self._dice.choice(("sum", "min", "max"))
        weights = () if name == "diff" else self._dice.choice(((), (2, 3)))
        words = (
            int(Aggregate[aggregate.upper()]), None, len(keys), *encoded(keys),
            *(b"%d" % weight for weight in weights),
        )  # fmt: skip
        return name, (keys, aggregate, weights), words

    def _combine(self, group: str) -> Step:
        name, arguments, words = self._sources(group)
        command = (_COMBINED[name][0], 1, *words)
        keys: Any = arguments[0]
        return across(f"z{name}", keys[0], arguments, command, keys, couples)

    def _store(self, group: str) -> Step:
        target = self._one(group)
        name, arguments, words = self._sources(group)
        command = (_COMBINED[name][1], target.encode(), *words)
        keys: Any = arguments[0]
        return across(f"z{name}store", target, arguments, command, keys)

    def _store_range(self, group: str) -> Step:
        target, source = self._dice.sample(members_of(group), 2)
        arguments, words = self._selection(self._bounds(self._dice.choice(("rank", "score"))))
        command = (Opcode.ZRANGESTORE, *encoded((target, source)), *words)
        return across("zrangestore", target, (source, *arguments), command, (source,))

    def _count_common(self, group: str) -> Step:
        keys = tuple(self._dice.sample(members_of(group), 2))
        limit = self._dice.choice((0, 1))
        command = (Opcode.ZINTERCARD, limit, None, *encoded(keys))
        return across("zintercard", keys[0], (keys, limit), command, keys)


def _with_one_member(reply: Any) -> Value:
    """Return a key, a member and its score as a key and a list of one pair."""
    told = plain(reply)
    return (told[0], (told[1:],)) if isinstance(told, tuple) else told

"""Hashes, lists, sets, sorted sets and bits of the reference store.

Written down a second time, without a look at the `*_rules`: here values are Python's own
dictionaries, lists and sets, and never changed in place.
"""

from __future__ import annotations

import random
from typing import Any

from tests.linearizability.history import Value

KINDS = frozenset(
    {"hset", "hdel", "hincrby", "hgetall", "push", "pop", "lrange", "sadd", "srem", "spop"}
    | {
        "smembers",
        "scard",
        "sismember",
        "srandmember",
        "zrank",
        "zadd",
        "zrem",
        "zpop",
        "zall",
        "setbit",
        "getbit",
    }
)


def run(kind: str, old: Any, arguments: list[Any], told: Value) -> tuple[Any, Value]:
    """Apply one operation on one key.

    Args:
        kind: One of `KINDS`.
        old: What the key holds; None where there is no key.
        arguments: As of the operation.
        told: What chance is to decide, if it can.

    Returns:
        What the key holds then, None if nothing, and the result.
    """
    if kind.startswith("h"):
        new, result = _on_hash(kind, dict(old or {}), arguments)
    elif kind.startswith("s") and kind != "setbit":
        new, result = _on_set(kind, set(old or ()), arguments, told)
    elif kind.startswith("z"):
        new, result = _on_sorted_set(kind, dict(old or {}), arguments)
    elif kind in ("setbit", "getbit"):
        return _on_bits(kind, old, arguments)
    else:
        new, result = _on_list(kind, list(old or []), arguments)
    return new or None, result


def draw(source: random.Random, kind: str, unique: str) -> tuple[Value, ...]:
    """Make up the arguments of an operation; `unique` is a value that no other one has."""
    match kind:
        case "hset":
            return ((source.choice("ab"), unique),)
        case "hdel":
            return (source.choice("ab"),)
        case "push":
            return source.choice(("left", "right")), unique
        case "pop":
            return source.choice(("left", "right")), None
        case "lrange":
            return 0, -1
        case "sadd" | "srem":
            return (unique,) if kind == "sadd" else (f"v{source.randrange(6)}",)
        case "spop":
            return (None,)
        case "zadd":
            return (), (unique, source.randint(0, 9))
        case "zpop":
            return source.choice(("lowest", "highest")), 1
        case "setbit":
            return source.randint(0, 9), source.randint(0, 1)
        case "getbit":
            return (source.randint(0, 9),)
    return ()


def _on_hash(kind: str, fields: dict[str, str], arguments: list[Any]) -> tuple[Any, Value]:
    size = len(fields)
    match kind:
        case "hset":
            for field, value in arguments:
                fields[field] = value
            return fields, len(fields) - size
        case "hdel":
            for field in arguments:
                fields.pop(field, None)
            return fields, size - len(fields)
        case "hincrby":
            field, amount = arguments
            fields[field] = str(int(fields.get(field, "0")) + amount)
            return fields, int(fields[field])
    return fields, tuple((field, fields[field]) for field in sorted(fields))


def _on_list(kind: str, elements: list[str], arguments: list[Any]) -> tuple[Any, Value]:
    if kind == "lrange":
        first, last = arguments
        assert (first, last) == (0, -1)
        return elements, tuple(elements)
    at_left = arguments[0] == "left"
    if kind == "push":
        for element in arguments[1:]:
            elements.insert(0 if at_left else len(elements), element)
        return elements, len(elements)
    assert arguments[1] is None
    return elements, (elements.pop(0 if at_left else -1) if elements else None)


def _on_set(kind: str, members: set[str], arguments: list[Any], told: Value) -> tuple[Any, Value]:
    size = len(members)
    match kind:
        case "sadd":
            members.update(arguments)
            return members, len(members) - size
        case "srem":
            members.difference_update(arguments)
            return members, size - len(members)
        case "spop":
            taken = told if told in members else min(members, default=None)
            return members - {taken}, taken
        case "scard":
            return members, size
        case "sismember":
            return members, int(arguments[0] in members)
        case "srandmember":
            assert arguments == [None]
            allowed = [(member,) for member in sorted(members)] or [()]
            return members, told if told in allowed else allowed[0]
    return members, tuple(sorted(members))


def _on_sorted_set(kind: str, scores: dict[str, int], arguments: list[Any]) -> tuple[Any, Value]:
    size = len(scores)
    order = sorted(scores, key=lambda member: (scores[member], member))
    match kind:
        case "zadd":
            assert arguments[0] == ()
            scores.update(arguments[1:])
            return scores, len(scores) - size
        case "zrem":
            return {one: scores[one] for one in scores if one not in arguments}, sum(
                one in arguments for one in scores
            )
        case "zrank":
            member, reverse = arguments
            if member not in order:
                return scores, None
            return scores, order[::-1].index(member) if reverse else order.index(member)
        case "zpop":
            end, count = arguments
            taken = order[:count] if end == "lowest" else order[::-1][:count]
            return (
                {one: scores[one] for one in scores if one not in taken},
                tuple((one, scores[one]) for one in taken),
            )
    return scores, tuple((one, scores[one]) for one in order)


def _on_bits(kind: str, old: str | None, arguments: list[Any]) -> tuple[Any, Value]:
    data = bytearray((old or "").encode("latin-1"))
    byte, mask = arguments[0] // 8, 128 >> arguments[0] % 8
    before = int(byte < len(data) and data[byte] & mask > 0)
    if kind == "getbit":
        return old, before
    data += bytes(max(0, byte + 1 - len(data)))
    data[byte] = data[byte] | mask if arguments[1] else data[byte] & ~mask
    return data.decode("latin-1"), before

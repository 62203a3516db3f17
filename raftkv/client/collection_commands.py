"""One typed builder for each command on hashes, lists, sets, sorted sets and bits.

The other half of `client.commands`, with the same rules: a builder `build_x`
becomes the method `x` of each client and of pipelines; no I/O and no retry. What
is not here can be sent with `execute`.

Source: names, arguments and replies are documented at redis.io/commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftkv.client.calls import Call
from raftkv.client.commands import Text, make_call
from raftkv.client.protocol import Argument
from raftkv.client.replies import (
    to_decimal,
    to_fields,
    to_fields_page,
    to_integer,
    to_list,
    to_members,
    to_nothing,
    to_optional,
    to_optional_decimal,
    to_optional_decimals,
    to_optional_integer,
    to_optional_list,
    to_page,
    to_popped,
    to_popped_member,
    to_scores,
    to_scores_page,
    to_truth,
    to_truths,
)


def _some(name: str, elements: tuple[Argument, ...]) -> tuple[Argument, ...]:
    if not elements:
        raise ValueError(f"{name} needs at least one element")
    return elements


def _flat(name: str, mapping: Mapping[Any, Argument]) -> list[Argument]:
    if not mapping:
        raise ValueError(f"{name} needs at least one element")
    return [word for pair in mapping.items() for word in pair]


def _page_options(match: Text | None, count: int | None) -> list[Argument]:
    options: list[Argument] = []
    if match is not None:
        options += ["MATCH", match]
    if count is not None:
        options += ["COUNT", count]
    return options


# ----------------------------------------------------------------- hashes


def build_hset(key: Text, mapping: Mapping[Any, Argument]) -> Call[int]:
    """Set fields of a hash; return how many are new."""
    return make_call(to_integer, "HSET", key, *_flat("HSET", mapping))


def build_hsetnx(key: Text, field: Argument, value: Argument) -> Call[bool]:
    """Set a field of a hash only if it does not exist; False if it did."""
    return make_call(to_truth, "HSETNX", key, field, value)


def build_hget(key: Text, field: Argument) -> Call[bytes | None]:
    """Return the value of a field, or None."""
    return make_call(to_optional, "HGET", key, field, holds_text=True)


def build_hmget(key: Text, *fields: Argument) -> Call[list[bytes | None]]:
    """Return the values of several fields, None for each missing one."""
    return make_call(to_optional_list, "HMGET", key, *_some("HMGET", fields), holds_text=True)


def build_hgetall(key: Text) -> Call[dict[bytes, bytes]]:
    """Return all fields and values of a hash."""
    return make_call(to_fields, "HGETALL", key, holds_text=True)


def build_hdel(key: Text, *fields: Argument) -> Call[int]:
    """Delete fields of a hash and return how many existed."""
    return make_call(to_integer, "HDEL", key, *_some("HDEL", fields))


def build_hexists(key: Text, field: Argument) -> Call[bool]:
    """Return whether a hash has a field."""
    return make_call(to_truth, "HEXISTS", key, field)


def build_hlen(key: Text) -> Call[int]:
    """Return the number of fields; 0 for a missing key."""
    return make_call(to_integer, "HLEN", key)


def build_hkeys(key: Text) -> Call[list[bytes]]:
    """Return all fields of a hash."""
    return make_call(to_list, "HKEYS", key, holds_text=True)


def build_hvals(key: Text) -> Call[list[bytes]]:
    """Return all values of a hash."""
    return make_call(to_list, "HVALS", key, holds_text=True)


def build_hincrby(key: Text, field: Argument, amount: int = 1) -> Call[int]:
    """Add to the number in a field and return it; a missing field counts as 0."""
    return make_call(to_integer, "HINCRBY", key, field, amount)


def build_hincrbyfloat(key: Text, field: Argument, amount: float | str) -> Call[float]:
    """Add to the decimal number in a field and return it."""
    return make_call(to_decimal, "HINCRBYFLOAT", key, field, amount)


def build_hscan(
    key: Text, cursor: int = 0, *, match: Text | None = None, count: int | None = None
) -> Call[tuple[int, dict[bytes, bytes]]]:
    """Return one page of a hash: the cursor of the next, 0 at the end, and fields with values."""
    options = _page_options(match, count)
    return make_call(to_fields_page, "HSCAN", key, cursor, *options, holds_text=True)


# ------------------------------------------------------------------ lists


def build_lpush(key: Text, *elements: Argument) -> Call[int]:
    """Add elements in front of a list, one after the other, and return its length."""
    return make_call(to_integer, "LPUSH", key, *_some("LPUSH", elements))


def build_rpush(key: Text, *elements: Argument) -> Call[int]:
    """Add elements behind a list and return its length."""
    return make_call(to_integer, "RPUSH", key, *_some("RPUSH", elements))


def build_lpop(key: Text) -> Call[bytes | None]:
    """Remove and return the first element, or None."""
    return make_call(to_optional, "LPOP", key, holds_text=True)


def build_rpop(key: Text) -> Call[bytes | None]:
    """Remove and return the last element, or None."""
    return make_call(to_optional, "RPOP", key, holds_text=True)


def build_llen(key: Text) -> Call[int]:
    """Return the length of a list; 0 for a missing key."""
    return make_call(to_integer, "LLEN", key)


def build_lrange(key: Text, first: int = 0, last: int = -1) -> Call[list[bytes]]:
    """Return the elements from `first` to `last`, both inclusive; negative from the end."""
    return make_call(to_list, "LRANGE", key, first, last, holds_text=True)


def build_lindex(key: Text, position: int) -> Call[bytes | None]:
    """Return one element, or None; negative positions count from the end."""
    return make_call(to_optional, "LINDEX", key, position, holds_text=True)


def build_lset(key: Text, position: int, element: Argument) -> Call[None]:
    """Replace one element."""
    return make_call(to_nothing, "LSET", key, position, element)


def build_lrem(key: Text, count: int, element: Argument) -> Call[int]:
    """Remove equal elements: the first `count`, the last `-count`, or all with 0."""
    return make_call(to_integer, "LREM", key, count, element)


def build_ltrim(key: Text, first: int, last: int) -> Call[None]:
    """Keep only the elements from `first` to `last`, both inclusive."""
    return make_call(to_nothing, "LTRIM", key, first, last)


def build_lmove(
    source: Text, target: Text, take_from: str = "LEFT", add_to: str = "RIGHT"
) -> Call[bytes | None]:
    """Move an element from one end of a list to one end of another and return it, or None."""
    return make_call(to_optional, "LMOVE", source, target, take_from, add_to, holds_text=True)


def _waiting(timeout_s: float) -> str:
    if not timeout_s > 0:
        raise ValueError("timeout_s has to be more than 0")
    return f"{timeout_s:.3f}" if timeout_s >= 0.001 else "0.001"


def build_blpop(*keys: Text, timeout_s: float) -> Call[tuple[bytes, bytes] | None]:
    """Remove the first element of the first list that has any, or wait for one.

    Args:
        keys: Lists, in the order of preference.
        timeout_s: Seconds to wait, rounded to milliseconds; the deadline of the client
            is added to them.

    Returns:
        The list and the element, or None when there was none in time.
    """
    words = (*_some("BLPOP", keys), _waiting(timeout_s))
    return make_call(to_popped, "BLPOP", *words, holds_text=True)


def build_brpop(*keys: Text, timeout_s: float) -> Call[tuple[bytes, bytes] | None]:
    """Remove the last element of the first list that has any, or wait, as `blpop`."""
    words = (*_some("BRPOP", keys), _waiting(timeout_s))
    return make_call(to_popped, "BRPOP", *words, holds_text=True)


def build_blmove(
    source: Text, target: Text, take_from: str = "LEFT", add_to: str = "RIGHT", *, timeout_s: float
) -> Call[bytes | None]:
    """Move an element as `lmove` does, or wait for one as `blpop` does."""
    words = (source, target, take_from, add_to, _waiting(timeout_s))
    return make_call(to_optional, "BLMOVE", *words, holds_text=True)


def build_lpos(key: Text, element: Argument) -> Call[int | None]:
    """Return the first position of an element, or None."""
    return make_call(to_optional_integer, "LPOS", key, element)


# ------------------------------------------------------------------- sets


def build_sadd(key: Text, *members: Argument) -> Call[int]:
    """Add members to a set and return how many are new."""
    return make_call(to_integer, "SADD", key, *_some("SADD", members))


def build_srem(key: Text, *members: Argument) -> Call[int]:
    """Remove members from a set and return how many it had."""
    return make_call(to_integer, "SREM", key, *_some("SREM", members))


def build_sismember(key: Text, member: Argument) -> Call[bool]:
    """Return whether a set has a member."""
    return make_call(to_truth, "SISMEMBER", key, member)


def build_smismember(key: Text, *members: Argument) -> Call[list[bool]]:
    """Return for each of several members whether a set has it."""
    return make_call(to_truths, "SMISMEMBER", key, *_some("SMISMEMBER", members))


def build_smembers(key: Text) -> Call[set[bytes]]:
    """Return all members of a set."""
    return make_call(to_members, "SMEMBERS", key, holds_text=True)


def build_scard(key: Text) -> Call[int]:
    """Return the number of members; 0 for a missing key."""
    return make_call(to_integer, "SCARD", key)


def build_spop(key: Text) -> Call[bytes | None]:
    """Remove and return some member, or None."""
    return make_call(to_optional, "SPOP", key, holds_text=True)


def build_srandmember(key: Text) -> Call[bytes | None]:
    """Return some member, or None."""
    return make_call(to_optional, "SRANDMEMBER", key, holds_text=True)


def build_smove(source: Text, target: Text, member: Argument) -> Call[bool]:
    """Move a member to another set; False if `source` does not have it."""
    return make_call(to_truth, "SMOVE", source, target, member)


def build_sinter(*keys: Text) -> Call[set[bytes]]:
    """Return the members that all sets have."""
    return make_call(to_members, "SINTER", *_some("SINTER", keys), holds_text=True)


def build_sunion(*keys: Text) -> Call[set[bytes]]:
    """Return the members that any of the sets has."""
    return make_call(to_members, "SUNION", *_some("SUNION", keys), holds_text=True)


def build_sdiff(*keys: Text) -> Call[set[bytes]]:
    """Return the members that only the first set has."""
    return make_call(to_members, "SDIFF", *_some("SDIFF", keys), holds_text=True)


def build_sscan(
    key: Text, cursor: int = 0, *, match: Text | None = None, count: int | None = None
) -> Call[tuple[int, list[bytes]]]:
    """Return one page of a set: the cursor of the next, 0 at the end, and members."""
    options = _page_options(match, count)
    return make_call(to_page, "SSCAN", key, cursor, *options, holds_text=True)


# ------------------------------------------------------------ sorted sets


def build_zadd(
    key: Text, scores: Mapping[Any, float], *,
    nx: bool = False, xx: bool = False, gt: bool = False, lt: bool = False, ch: bool = False,
) -> Call[int]:  # fmt: skip
    """Add members with scores, or change their scores.

    Args:
        key: Name of the key.
        scores: Member -> score.
        nx: Only members that are new.
        xx: Only members that are there.
        gt: Change only to a higher score.
        lt: Change only to a lower score.
        ch: Count changed members too.

    Returns:
        How many members are new.
    """
    flags = (("NX", nx), ("XX", xx), ("GT", gt), ("LT", lt), ("CH", ch))
    words: list[Argument] = [name for name, wanted in flags if wanted]
    for member, score in scores.items():
        words += [score, member]
    return make_call(to_integer, "ZADD", key, *_some("ZADD", tuple(words)))


def build_zincrby(key: Text, amount: float, member: Argument) -> Call[float]:
    """Add to the score of a member and return it."""
    return make_call(to_decimal, "ZINCRBY", key, amount, member)


def build_zrem(key: Text, *members: Argument) -> Call[int]:
    """Remove members from a sorted set and return how many it had."""
    return make_call(to_integer, "ZREM", key, *_some("ZREM", members))


def build_zscore(key: Text, member: Argument) -> Call[float | None]:
    """Return the score of a member, or None."""
    return make_call(to_optional_decimal, "ZSCORE", key, member)


def build_zmscore(key: Text, *members: Argument) -> Call[list[float | None]]:
    """Return the scores of several members, None for each missing one."""
    return make_call(to_optional_decimals, "ZMSCORE", key, *_some("ZMSCORE", members))


def build_zcard(key: Text) -> Call[int]:
    """Return the number of members; 0 for a missing key."""
    return make_call(to_integer, "ZCARD", key)


def build_zcount(key: Text, low: Argument, high: Argument) -> Call[int]:
    """Count the members with scores from `low` to `high`; `(1` leaves 1 out."""
    return make_call(to_integer, "ZCOUNT", key, low, high)


def build_zrank(key: Text, member: Argument) -> Call[int | None]:
    """Return the position of a member, the lowest score first, or None."""
    return make_call(to_optional_integer, "ZRANK", key, member)


def build_zrange(
    key: Text, first: Argument, last: Argument, *, by: str | None = None, rev: bool = False
) -> Call[list[tuple[bytes, float]]]:
    """Return the members in a range, and their scores.

    Args:
        key: Name of the key.
        first: First position, or score.
        last: Last position, or score, inclusive.
        by: `BYSCORE` for a range of scores; positions otherwise.
        rev: The highest score first; `first` is the higher bound then.
    """
    options: list[Argument] = [] if by is None else [by]
    options += ["REV"] if rev else []
    words = (key, first, last, *options, "WITHSCORES")
    return make_call(to_scores, "ZRANGE", *words, holds_text=True)


def build_bzpopmin(*keys: Text, timeout_s: float) -> Call[tuple[bytes, bytes, float] | None]:
    """Remove the lowest member of the first sorted set that has any, or wait, as `blpop`.

    Returns:
        The sorted set, the member and its score, or None when there was none in time.
    """
    words = (*_some("BZPOPMIN", keys), _waiting(timeout_s))
    return make_call(to_popped_member, "BZPOPMIN", *words, holds_text=True)


def build_bzpopmax(*keys: Text, timeout_s: float) -> Call[tuple[bytes, bytes, float] | None]:
    """Remove the highest member of the first sorted set that has any, or wait, as `bzpopmin`."""
    words = (*_some("BZPOPMAX", keys), _waiting(timeout_s))
    return make_call(to_popped_member, "BZPOPMAX", *words, holds_text=True)


def build_zpopmin(key: Text, count: int = 1) -> Call[list[tuple[bytes, float]]]:
    """Remove and return the members with the lowest scores."""
    return make_call(to_scores, "ZPOPMIN", key, count, holds_text=True)


def build_zpopmax(key: Text, count: int = 1) -> Call[list[tuple[bytes, float]]]:
    """Remove and return the members with the highest scores."""
    return make_call(to_scores, "ZPOPMAX", key, count, holds_text=True)


def build_zremrangebyscore(key: Text, low: Argument, high: Argument) -> Call[int]:
    """Remove the members with scores from `low` to `high` and return how many there were."""
    return make_call(to_integer, "ZREMRANGEBYSCORE", key, low, high)


def build_zscan(
    key: Text, cursor: int = 0, *, match: Text | None = None, count: int | None = None
) -> Call[tuple[int, list[tuple[bytes, float]]]]:
    """Return one page of a sorted set: the cursor of the next, 0 at the end, and its members."""
    options = _page_options(match, count)
    return make_call(to_scores_page, "ZSCAN", key, cursor, *options, holds_text=True)


# ------------------------------------------------------------------- bits


def build_setbit(key: Text, position: int, bit: int) -> Call[int]:
    """Set a bit of a string and return the one before."""
    return make_call(to_integer, "SETBIT", key, position, bit)


def build_getbit(key: Text, position: int) -> Call[int]:
    """Return a bit of a string."""
    return make_call(to_integer, "GETBIT", key, position)


def build_bitcount(key: Text) -> Call[int]:
    """Count the bits of a string that are set."""
    return make_call(to_integer, "BITCOUNT", key)

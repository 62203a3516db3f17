"""Requests on sorted sets to commands of the store, but for ranges.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.sorted_sets` and `kv.sorted_algebra`.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Aggregate, Command, Opcode, ZaddFlag
from raftkv.kv.numbers import parse_double
from raftkv.kv.sorted_algebra import NOT_A_WEIGHT
from raftkv.kv.strings import NOT_A_FLOAT
from raftkv.server.handlers_hashes import (
    parse_element_scan,
    parse_key_and_elements,
    parse_random,
)
from raftkv.server.handlers_lists import many_keys_and_count
from raftkv.server.handlers_sets import NEGATIVE_LIMIT, NOT_POSITIVE, not_negative
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    integer_argument,
    parse_key,
)

NX_XX_CONFLICT: Final = "ERR XX and NX options at the same time are not compatible"
GT_LT_CONFLICT: Final = "ERR GT, LT, and/or NX options at the same time are not compatible"
ONE_PAIR_ONLY: Final = "ERR INCR option supports a single increment-element pair"

_ENDS: Final = {b"MIN": 0, b"MAX": 1}
_AGGREGATES: Final = {one.name.encode(): int(one) for one in Aggregate}


def _parse_zadd(preset: int) -> Parser:
    """Return a parser for ZADD, or with INCR for ZINCRBY.

    Source: zaddGenericCommand() of Redis 7.
    """

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        flags = ZaddFlag(preset)
        position = 2
        while position < len(arguments):
            name = arguments[position].upper()
            if name not in (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"):
                break
            flags |= ZaddFlag[name.decode()]
            position += 1
        pairs = arguments[position:]
        if len(pairs) % 2 or not pairs:
            raise CommandError(SYNTAX_ERROR)
        _check_zadd(flags, len(pairs) // 2)
        for score in pairs[::2]:
            check_value(score, limits)
            if parse_double(score) is None:
                raise CommandError(NOT_A_FLOAT)
        for member in pairs[1::2]:
            check_value(member, limits)
        return (int(Opcode.ZADD), arguments[1], int(flags), *pairs)

    return parse


def _check_zadd(flags: ZaddFlag, pairs: int) -> None:
    """Refuse options that exclude each other."""
    has_nx = bool(flags & ZaddFlag.NX)
    has_gt, has_lt = bool(flags & ZaddFlag.GT), bool(flags & ZaddFlag.LT)
    if has_nx and flags & ZaddFlag.XX:
        raise CommandError(NX_XX_CONFLICT)
    if (has_nx and (has_gt or has_lt)) or (has_gt and has_lt):
        raise CommandError(GT_LT_CONFLICT)
    if flags & ZaddFlag.INCR and pairs > 1:
        raise CommandError(ONE_PAIR_ONLY)


def _parse_zpop(end: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        check_key(arguments[1], limits)
        if len(arguments) > 3:
            raise CommandError(SYNTAX_ERROR)
        count = not_negative(arguments[2], NOT_POSITIVE) if len(arguments) == 3 else None
        return (int(Opcode.ZPOP), arguments[1], end, count)

    return parse


def parse_zmpop(arguments: list[bytes], limits: Limits) -> Command:
    """ZMPOP numkeys key ... MIN | MAX [COUNT count]"""
    keys, position, count = many_keys_and_count(arguments, limits)
    end = _ENDS.get(arguments[position].upper())
    if end is None:
        raise CommandError(SYNTAX_ERROR)
    return (int(Opcode.ZMPOP), end, count, *keys)


def _parse_rank(end: int) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        _, key, member = arguments
        check_key(key, limits)
        check_value(member, limits)
        return (int(Opcode.ZRANK), key, end, member)

    return parse


# ------------------------------------------------------------ several keys


def _parse_combination(opcode: Opcode, name: str) -> Parser:
    """Return a parser for ZUNION, ZINTER, ZDIFF and the forms that store.

    Source: zunionInterDiffGenericCommand() of Redis 7.
    """
    stores = name.endswith("store")
    only_scores = name.startswith("zdiff")

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        position = 2 if stores else 1
        keys, position = _input_keys(arguments, position, name, limits)
        try:
            weights, aggregate, with_scores = _options(
                arguments[position:], len(keys), stores=stores, only_scores=only_scores
            )
            error_text = None
        except CommandError as error:
            # Redis looks at the options only if the keys are of the right types.
            weights, aggregate, with_scores = [], int(Aggregate.SUM), 0
            error_text = error.message.encode()
        if stores:
            check_key(arguments[1], limits)
        first = arguments[1] if stores else with_scores
        return (int(opcode), first, aggregate, error_text, len(keys), *keys, *weights)

    return parse


def _input_keys(
    arguments: list[bytes], position: int, name: str, limits: Limits
) -> tuple[list[bytes], int]:
    """Read the number of keys and the keys; return them and the position behind."""
    count = integer_argument(arguments[position])
    if count < 1:
        raise CommandError(f"ERR at least 1 input key is needed for '{name}' command")
    end = position + 1 + count
    if end > len(arguments):
        raise CommandError(SYNTAX_ERROR)
    keys = arguments[position + 1 : end]
    for key in keys:
        check_key(key, limits)
    return keys, end


def _options(
    words: list[bytes], count: int, *, stores: bool, only_scores: bool
) -> tuple[list[bytes], int, int]:
    """Read WEIGHTS, AGGREGATE and WITHSCORES."""
    weights: list[bytes] = []
    aggregate, with_scores = int(Aggregate.SUM), 0
    position = 0
    while position < len(words):
        option, rest = words[position].upper(), words[position + 1 :]
        if option == b"WEIGHTS" and not only_scores and len(rest) >= count:
            weights = rest[:count]
            if any(parse_double(weight) is None for weight in weights):
                raise CommandError(NOT_A_WEIGHT)
            position += 1 + count
        elif option == b"AGGREGATE" and not only_scores and rest:
            chosen = _AGGREGATES.get(rest[0].upper())
            if chosen is None:
                raise CommandError(SYNTAX_ERROR)
            aggregate = chosen
            position += 2
        elif option == b"WITHSCORES" and not stores:
            with_scores = 1
            position += 1
        else:
            raise CommandError(SYNTAX_ERROR)
    return weights, aggregate, with_scores


def parse_zintercard(arguments: list[bytes], limits: Limits) -> Command:
    """ZINTERCARD numkeys key ... [LIMIT limit]"""
    keys, position = _input_keys(arguments, 1, "zintercard", limits)
    limit, error_text = 0, None
    try:
        while position < len(arguments):
            if arguments[position].upper() != b"LIMIT" or position + 1 >= len(arguments):
                raise CommandError(SYNTAX_ERROR)
            limit = not_negative(arguments[position + 1], NEGATIVE_LIMIT)
            position += 2
    except CommandError as error:
        error_text = error.message.encode()
    return (int(Opcode.ZINTERCARD), limit, error_text, *keys)


PARSERS: Final[dict[bytes, Parser]] = {
    b"ZADD": _parse_zadd(0),
    b"ZINCRBY": _parse_zadd(int(ZaddFlag.INCR)),
    b"ZREM": parse_key_and_elements(Opcode.ZREM),
    b"ZPOPMIN": _parse_zpop(_ENDS[b"MIN"]),
    b"ZPOPMAX": _parse_zpop(_ENDS[b"MAX"]),
    b"ZMPOP": parse_zmpop,
    b"ZSCORE": parse_key_and_elements(Opcode.ZSCORE),
    b"ZMSCORE": parse_key_and_elements(Opcode.ZMSCORE),
    b"ZCARD": parse_key(Opcode.ZCARD),
    b"ZRANK": _parse_rank(_ENDS[b"MIN"]),
    b"ZREVRANK": _parse_rank(_ENDS[b"MAX"]),
    b"ZSCAN": parse_element_scan(Opcode.ZSCAN),
    b"ZRANDMEMBER": parse_random(Opcode.ZRANDMEMBER, b"WITHSCORES"),
    b"ZUNION": _parse_combination(Opcode.ZUNION, "zunion"),
    b"ZINTER": _parse_combination(Opcode.ZINTER, "zinter"),
    b"ZDIFF": _parse_combination(Opcode.ZDIFF, "zdiff"),
    b"ZUNIONSTORE": _parse_combination(Opcode.ZUNIONSTORE, "zunionstore"),
    b"ZINTERSTORE": _parse_combination(Opcode.ZINTERSTORE, "zinterstore"),
    b"ZDIFFSTORE": _parse_combination(Opcode.ZDIFFSTORE, "zdiffstore"),
    b"ZINTERCARD": parse_zintercard,
}

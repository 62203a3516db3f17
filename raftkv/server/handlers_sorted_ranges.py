"""Requests on ranges of sorted sets to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.sorted_ranges`: whatever the order in the request, the
lower bound comes first there.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Opcode, RangeFlag, RangeKind
from raftkv.kv.sorted_ranges import name_bound, score_bound
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    integer_argument,
)

LIMIT_OF_RANKS: Final = (
    "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
)
SCORES_OF_NAMES: Final = "ERR syntax error, WITHSCORES not supported in combination with BYLEX"


class _Form(NamedTuple):
    """What the name of a command says about its range; None where an option may say it."""

    kind: RangeKind | None = None
    reverse: bool | None = None
    stores: bool = False


class _Range(NamedTuple):
    kind: RangeKind
    reverse: bool
    with_scores: bool
    offset: int
    limit: int


def _options(words: list[bytes], form: _Form) -> _Range:
    """Read what is behind the bounds.

    Source: zrangeGenericCommand() of Redis 7.
    """
    kind, reverse = form.kind, form.reverse
    with_scores = False
    offset, limit = 0, -1
    position = 0
    while position < len(words):
        option = words[position].upper()
        if option == b"WITHSCORES" and not form.stores:
            with_scores = True
        elif option == b"LIMIT" and len(words) - position > 2:
            offset = integer_argument(words[position + 1])
            limit = integer_argument(words[position + 2])
            position += 2
        elif option == b"REV" and reverse is None:
            reverse = True
        elif option == b"BYLEX" and kind is None:
            kind = RangeKind.NAME
        elif option == b"BYSCORE" and kind is None:
            kind = RangeKind.SCORE
        else:
            raise CommandError(SYNTAX_ERROR)
        position += 1
    kind = kind or RangeKind.RANK
    if limit != -1 and kind == RangeKind.RANK:
        raise CommandError(LIMIT_OF_RANKS)
    if with_scores and kind == RangeKind.NAME:
        raise CommandError(SCORES_OF_NAMES)
    return _Range(kind, bool(reverse), with_scores, offset, limit)


def _bounds(kind: RangeKind, low: bytes, high: bytes, limits: Limits) -> tuple[Any, Any]:
    """Read ranks as numbers; check other bounds and leave them as they are."""
    if kind == RangeKind.RANK:
        return integer_argument(low), integer_argument(high)
    check = score_bound if kind == RangeKind.SCORE else name_bound
    for bound in (low, high):
        check_value(bound, limits)
        check(bound)
    return low, high


def _parse_range(form: _Form) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        keys = arguments[1:3] if form.stores else arguments[1:2]
        for key in keys:
            check_key(key, limits)
        first, second = arguments[len(keys) + 1 : len(keys) + 3]
        chosen = _options(arguments[len(keys) + 3 :], form)
        if chosen.reverse and chosen.kind != RangeKind.RANK:
            first, second = second, first
        bounds = _bounds(chosen.kind, first, second, limits)
        flags = RangeFlag.REVERSE * chosen.reverse | RangeFlag.WITH_SCORES * chosen.with_scores
        opcode = Opcode.ZRANGESTORE if form.stores else Opcode.ZRANGE
        limited = (chosen.offset, chosen.limit)
        return (int(opcode), *keys, int(chosen.kind), int(flags), *bounds, *limited)

    return parse


def _parse_plain(opcode: Opcode, kind: RangeKind) -> Parser:
    def parse(arguments: list[bytes], limits: Limits) -> Command:
        _, key, low, high = arguments
        check_key(key, limits)
        return (int(opcode), key, int(kind), *_bounds(kind, low, high, limits))

    return parse


PARSERS: Final[dict[bytes, Parser]] = {
    b"ZRANGE": _parse_range(_Form()),
    b"ZRANGESTORE": _parse_range(_Form(stores=True)),
    b"ZREVRANGE": _parse_range(_Form(RangeKind.RANK, reverse=True)),
    b"ZRANGEBYSCORE": _parse_range(_Form(RangeKind.SCORE, reverse=False)),
    b"ZREVRANGEBYSCORE": _parse_range(_Form(RangeKind.SCORE, reverse=True)),
    b"ZRANGEBYLEX": _parse_range(_Form(RangeKind.NAME, reverse=False)),
    b"ZREVRANGEBYLEX": _parse_range(_Form(RangeKind.NAME, reverse=True)),
    b"ZCOUNT": _parse_plain(Opcode.ZCOUNT, RangeKind.SCORE),
    b"ZLEXCOUNT": _parse_plain(Opcode.ZCOUNT, RangeKind.NAME),
    b"ZREMRANGEBYRANK": _parse_plain(Opcode.ZREMRANGE, RangeKind.RANK),
    b"ZREMRANGEBYSCORE": _parse_plain(Opcode.ZREMRANGE, RangeKind.SCORE),
    b"ZREMRANGEBYLEX": _parse_plain(Opcode.ZREMRANGE, RangeKind.NAME),
}

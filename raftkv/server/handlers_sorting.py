"""Requests of SORT and SORT_RO to commands of the store.

Same rules as `handlers_strings`: a parser takes a whole request, the name at
position 0, and returns a command tuple or raises Redis' own error. The layouts
of the commands are in `kv.sorting`.

Pure. Called by the command table.
"""

from __future__ import annotations

from typing import Final

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.commands import Command, Opcode, SortFlag
from raftkv.server.handlers_strings import (
    SYNTAX_ERROR,
    Parser,
    check_key,
    check_value,
    integer_argument,
)

# Words of each option.
_OPTION_WORDS: Final = {
    b"ASC": 1, b"DESC": 1, b"ALPHA": 1, b"LIMIT": 3, b"BY": 2, b"GET": 2, b"STORE": 2,
}  # fmt: skip


def _parse_sort(*, may_store: bool) -> Parser:
    """Return a parser for SORT, or for SORT_RO, which cannot store.

    `SORT key [BY pattern] [LIMIT offset count] [GET pattern ...] [ASC | DESC] [ALPHA]
    [STORE destination]`. Source: sortCommandGeneric() of Redis 7.
    """

    def parse(arguments: list[bytes], limits: Limits) -> Command:
        flags = SortFlag(0)
        by: bytes | None = None
        target: bytes | None = None
        first, count = 0, -1
        patterns: list[bytes] = []
        check_key(arguments[1], limits)
        position = 2
        while position < len(arguments):
            option = arguments[position].upper()
            end = position + _OPTION_WORDS.get(option, len(arguments))
            if end > len(arguments) or (option == b"STORE" and not may_store):
                raise CommandError(SYNTAX_ERROR)
            words = arguments[position + 1 : end]
            if option == b"ASC":
                flags &= ~SortFlag.DESCENDING
            elif option == b"DESC":
                flags |= SortFlag.DESCENDING
            elif option == b"ALPHA":
                flags |= SortFlag.ALPHA
            elif option == b"LIMIT":
                first, count = map(integer_argument, words)
            elif option == b"STORE":
                check_key(words[0], limits)
                target = words[0]
            else:
                check_value(words[0], limits)
                if option == b"BY":
                    by = words[0]
                else:
                    patterns.append(words[0])
            position = end
        rest = (arguments[1], int(flags), by, first, count, *patterns)
        if target is None:
            return (int(Opcode.SORT), *rest)
        return (int(Opcode.SORT_STORE), target, *rest)

    return parse


PARSERS: Final[dict[bytes, Parser]] = {
    b"SORT": _parse_sort(may_store=True),
    b"SORT_RO": _parse_sort(may_store=False),
}

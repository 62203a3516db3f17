"""Glob patterns as Redis matches them, without exponential time.

`*`, `?`, `[a-c]`, `[^a-c]` and `\\x` as in stringmatchlen() of Redis 7, with its
treatment of unfinished patterns. A pattern becomes a regular expression in
which each star is an atomic group, so that matching never goes back behind a
star: at most key length times pattern length steps.

Pure functions. Users: `scan`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

from raftkv.errors import CommandError

# Limit: a longer pattern costs the server without serving anybody.
PATTERN_BYTES_MAX: Final = 1024

Matcher = Callable[[bytes], object]


@functools.lru_cache(maxsize=64)
def compile_pattern(pattern: bytes) -> Matcher:
    """Return a function which is true of the keys that match the whole pattern.

    Raises:
        CommandError: The pattern is longer than `PATTERN_BYTES_MAX`.
    """
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR pattern exceeds {PATTERN_BYTES_MAX} bytes")
    if pattern == b"*":
        return _matches_all
    if pattern and not pattern.strip(b"*"):
        # Redis' matcher never lets several stars match the empty key.
        return bool
    segments = _segments(pattern)
    if len(segments) == 1:
        return re.compile(segments[0], re.DOTALL).fullmatch
    # The leftmost match of a segment between two stars is as good as any other.
    middle = b"".join(b"(?>.*?" + segment + b")" for segment in segments[1:-1])
    expression = segments[0] + middle + b".*" + segments[-1]
    return re.compile(expression, re.DOTALL).fullmatch


def _matches_all(_key: bytes) -> bool:
    """Match everything."""
    return True


def _segments(pattern: bytes) -> list[bytes]:
    """Translate what lies before, between and behind the stars; runs of stars are one."""
    segments = [b""]
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            if segments[-1] or len(segments) == 1:
                segments.append(b"")
        elif byte == b"?":
            segments[-1] += b"."
        elif byte == b"[":
            expression, position = _character_class(pattern, position)
            segments[-1] += expression
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            segments[-1] += re.escape(byte)
    return segments


def _character_class(pattern: bytes, position: int) -> tuple[bytes, int]:
    """Translate the class whose `[` lies just before `position`.

    Returns:
        The expression and the position behind the class; one that is never
        closed ends with the pattern.
    """
    negated = pattern[position : position + 1] == b"^"
    position += negated
    members: set[int] = set()
    size = len(pattern)
    while position < size and pattern[position] != ord("]"):
        if pattern[position] == ord("\\") and position + 1 < size:
            members.add(pattern[position + 1])
            position += 2
        elif position + 2 < size and pattern[position + 1] == ord("-"):
            first, last = sorted((pattern[position], pattern[position + 2]))
            members.update(range(first, last + 1))
            position += 3
        else:
            members.add(pattern[position])
            position += 1
    if not members:
        return (b"." if negated else b"(?!)"), position + 1
    body = b"".join(re.escape(bytes((member,))) for member in sorted(members))
    return b"[" + (b"^" if negated else b"") + body + b"]", position + 1

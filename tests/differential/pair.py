"""Sends each request to Redis and to our store, and compares the replies."""

from __future__ import annotations

import shlex
from typing import Any

from tests.differential.redis_process import RedisConnection
from tests.differential.store_under_test import StoreUnderTest

# Both sides read the clock, one after the other.
TOLERANCE_MS = 3000
_SECONDS = frozenset((b"TTL", b"EXPIRETIME"))
_MILLISECONDS = frozenset((b"PTTL", b"PEXPIRETIME"))
_UNORDERED = frozenset((b"KEYS",))


def words(line: str) -> list[bytes]:
    """Split a request as a shell does; \\xHH and the like are decoded."""
    return [
        word.encode("latin-1").decode("unicode_escape").encode("latin-1")
        for word in shlex.split(line, posix=True)
    ]


class Pair:
    """A Redis server and a store of ours."""

    def __init__(self, redis: RedisConnection) -> None:
        self.redis = redis
        self.ours = StoreUnderTest()

    def check(self, *arguments: bytes) -> Any:
        """Send one request to both and return the reply, which must be the same."""
        name = arguments[0].upper()
        expected = self.redis.call(*arguments)
        if name == b"DBSIZE":
            # Redis counts dead keys until it happens to remove them.
            expected = len(self.redis.call(b"KEYS", b"*"))
        actual = self.ours.call(*arguments)
        assert self._same(name, expected, actual), (
            f"{arguments!r}\nredis: {expected!r}\nours:  {actual!r}"
        )
        return expected

    def check_content(self) -> None:
        """Compare all keys, their types, values and deadlines."""
        keys = self.redis.call(b"KEYS", b"*")
        assert sorted(keys) == sorted(self.ours.call(b"KEYS", b"*"))
        self.check(b"DBSIZE")
        for key in keys:
            for name in (b"TYPE", b"GET", b"STRLEN", b"PEXPIRETIME", b"TTL"):
                self.check(name, key)

    def _same(self, name: bytes, expected: Any, actual: Any) -> bool:
        if name in _SECONDS | _MILLISECONDS and isinstance(actual, int) and actual > 0:
            tolerance = TOLERANCE_MS if name in _MILLISECONDS else TOLERANCE_MS // 1000
            return isinstance(expected, int) and abs(expected - actual) <= tolerance
        if name in _UNORDERED and isinstance(actual, list):
            return isinstance(expected, list) and sorted(expected) == sorted(actual)
        return type(expected) is type(actual) and expected == actual

"""Sends each request to Redis and to our store, and compares the replies."""

from __future__ import annotations

import shlex
from typing import Any

from tests.differential.compare import same
from tests.differential.redis_process import RedisConnection
from tests.differential.side_by_side import DUMPS, RESET_OF_SORTS, SORTS
from tests.differential.store_under_test import StoreUnderTest


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
        if name.decode().lower() in SORTS:
            self.redis.call(*RESET_OF_SORTS)
        expected = self.redis.call(*arguments)
        if name == b"DBSIZE":
            # Redis counts dead keys until it happens to remove them.
            expected = len(self.redis.call(b"KEYS", b"*"))
        actual = self.ours.call(*arguments)
        assert same(name.decode().lower(), expected, actual), (
            f"{arguments!r}\nredis: {expected!r}\nours:  {actual!r}"
        )
        return expected

    def check_content(self) -> None:
        """Compare all keys, their types, values and deadlines."""
        keys = self.redis.call(b"KEYS", b"*")
        assert sorted(keys) == sorted(self.ours.call(b"KEYS", b"*"))
        self.check(b"DBSIZE")
        for key in keys:
            kind = self.check(b"TYPE", key)
            name, *rest = DUMPS[kind.text]
            for request in ((name, key, *rest), (b"PEXPIRETIME", key), (b"TTL", key)):
                self.check(*request)

"""Our side of the comparison: parsers, batch codec and store, without sockets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import ErrorReply
from raftkv.kv.store import KvStore
from raftkv.server import handlers_generic, handlers_strings
from tests.differential.redis_process import Failed, Simple

PARSERS = handlers_strings.PARSERS | handlers_generic.PARSERS


def as_reply(result: object) -> Any:
    """Turn a result of the store into what a RESP2 client sees."""
    if isinstance(result, ErrorReply):
        return Failed(result.message)
    if isinstance(result, str):
        return Simple(result)
    if isinstance(result, list):
        return [as_reply(element) for element in result]
    return result


class StoreUnderTest:
    """A store that executes requests, each in a batch of its own."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.store = KvStore()
        self.limits = limits or Limits()

    def call(self, *arguments: bytes) -> Any:
        """Execute one request at the present wall clock and return its reply."""
        return self.call_at(time.time_ns() // 1_000_000, *arguments)

    def call_at(self, log_time_ms: int, *arguments: bytes) -> Any:
        """Execute one request at a chosen log time and return its reply."""
        return self.call_all_at(log_time_ms, [arguments])[0]

    def call_all_at(self, log_time_ms: int, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        """Execute requests in one batch; a parser's error takes its place in the replies."""
        commands, replies = [], []
        for arguments in requests:
            try:
                commands.append(PARSERS[arguments[0].upper()](list(arguments), self.limits))
                replies.append(None)
            except CommandError as error:
                replies.append(Failed(error.message))
        payload = encode_batch(log_time_ms, 0, 0, commands)
        results = iter(self.store.apply(self.store.applied_index + 1, payload))
        return [as_reply(next(results)) if reply is None else reply for reply in replies]

"""Our side of the comparison: command table, parsers, batch codec and store, without sockets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from io import BytesIO
from random import Random
from typing import Any

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.kv.codec import encode_batch
from raftkv.kv.store import KvStore
from raftkv.resp.values import encode
from raftkv.server.command_set import standard_commands
from raftkv.server.command_table import Kind, check_inside
from raftkv.server.ports import Command
from raftkv.server.transactions import ABORTED
from raftkv.types import NoList
from tests.differential.replies import Failed, Simple, read_reply


class StoreUnderTest:
    """A store that executes requests, each in a batch of its own."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.store = KvStore()
        self.limits = limits or Limits()
        self.table = standard_commands()
        self.protocol = 2
        self.seeds = Random(1)

    def call(self, *arguments: bytes) -> Any:
        """Execute one request at the present wall clock and return its reply."""
        return self.call_at(time.time_ns() // 1_000_000, *arguments)

    def call_all(self, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        """Execute requests in one batch at the present wall clock."""
        return self.call_all_at(time.time_ns() // 1_000_000, requests)

    def call_at(self, log_time_ms: int, *arguments: bytes) -> Any:
        """Execute one request at a chosen log time and return its reply."""
        return self.call_all_at(log_time_ms, [arguments])[0]

    def call_all_at(self, log_time_ms: int, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        """Execute requests in one batch; a parser's error takes its place in the replies."""
        seed = self.seeds.getrandbits(63)
        understood = [self._understand(list(arguments)) for arguments in requests]
        commands = [one for one in understood if isinstance(one, tuple)]
        payload = encode_batch(log_time_ms, 0, seed, commands)
        results = iter(self.store.apply(self.store.applied_index + 1, payload))
        values = [next(results) if isinstance(one, tuple) else one for one in understood]
        return [
            self._reply(NoList() if value is None and self._waits(request) else value)
            for request, value in zip(requests, values, strict=True)
        ]

    def _waits(self, arguments: Sequence[bytes]) -> bool:
        """Whether a client of this request would wait, and get a null array at its timeout."""
        return self.table.resolve(list(arguments)).kind == Kind.BLOCKING

    def call_multi(self, requests: Sequence[Sequence[bytes]]) -> list[Any]:
        """Execute requests between MULTI and EXEC; return a reply to each, and to EXEC."""
        replies: list[Any] = []
        queue: list[bytes] = []
        for arguments in requests:
            try:
                check_inside(self.table.resolve(list(arguments)))
            except CommandError as error:
                replies.append(self._reply(error))
            else:
                replies.append(Simple("QUEUED"))
                queue += (b"%d" % len(arguments), *arguments)
        if any(isinstance(reply, Failed) for reply in replies):
            return [*replies, Failed(ABORTED)]
        return [*replies, self.call(b"KV", b"EXEC", b"0", b"%d" % len(requests), *queue)]

    def _reply(self, value: object) -> Any:
        return read_reply(BytesIO(encode(value, self.protocol)))

    def _understand(self, arguments: list[bytes]) -> Command | CommandError:
        spec = self.table.by_word.get(arguments[0].lower())
        try:
            if spec is None or not spec.low <= len(arguments) <= spec.high:
                spec = self.table.resolve(arguments)
            return spec.parse(arguments, self.limits)
        except CommandError as error:
            return error

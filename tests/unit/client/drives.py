"""Both clients behind one face, so that one scenario drives the two shells."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from raftkv.client.async_client import AsyncClient
from raftkv.client.sync_client import Client


class BlockingAsync:
    """Lets a test call an asynchronous object as if it were blocking."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def _wrap(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._runner.run(value)
        if inspect.isasyncgen(value):
            value = iter(self._runner.run(collect(value)))
        if hasattr(value, "execute"):
            return BlockingAsync(value, self._runner)
        return value

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found
        return lambda *arguments, **options: self._wrap(found(*arguments, **options))


async def collect(source: Any) -> list[Any]:
    return [item async for item in source]


Opener = Callable[..., Any]


def open_sync(closers: list[Callable[[], object]]) -> Opener:
    def make(*arguments: Any, **options: Any) -> Any:
        client = Client(*arguments, **{"exactly_once": False, **options})
        closers.append(client.close)
        return client

    return make


def open_async(closers: list[Callable[[], object]], runner: asyncio.Runner) -> Opener:
    async def build(*arguments: Any, **options: Any) -> AsyncClient[Any]:
        return AsyncClient(*arguments, **{"exactly_once": False, **options})

    def make(*arguments: Any, **options: Any) -> Any:
        client = runner.run(build(*arguments, **options))
        closers.append(lambda: runner.run(client.close()))
        return BlockingAsync(client, runner)

    return make

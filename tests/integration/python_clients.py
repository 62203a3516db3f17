"""Python's clients of Redis as one kind of thing: connect, use each type, count.

redis-py, valkey-py and coredis, each plain, over a cluster and through Sentinel, with the
settings that docs/howto/connect-clients.md names. Repetitions by the library are switched
off, so that a call is one request and counting tells what became of it. One coroutine
drives all of them: what a synchronous client returns is taken as it is.

Run as a program, one client uses each type, then counts until standard input ends:

    python -m tests.integration.python_clients KIND KEY host:port host:port ...

It prints `types`, then for each call `ok NUMBER` or `error NAME: TEXT`; last `read VALUE`.
node_clients.js does the same.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from raftkv.server.handlers_sentinel import MASTER_NAME
from tests.integration.wire import split_address

# Above what a node may take to answer, so that no client gives up before it.
SOCKET_TIMEOUT_S = 5.0
SENTINEL_NAME = MASTER_NAME.decode()

PAUSE_S = 0.01
# A busy machine may lose its leader while the types are used; anything else is a defect.
_LEADER_LOST = re.compile("UNKNOWN|NOTAPPLIED|CLUSTERDOWN|no leader elected|Connection")

Addresses = Sequence[tuple[str, int]]
Opened = Callable[[AsyncExitStack, Addresses], Any]


async def settle(value: Any) -> Any:
    """Return what a call of either kind of client gives."""
    return await value if inspect.isawaitable(value) else value


# ------------------------------------------------------- redis-py and valkey-py


def _once(family: str) -> Any:
    """Return a policy of redis-py or valkey-py: nothing is sent a second time."""
    retry = importlib.import_module(f"{family}.retry")
    backoff = importlib.import_module(f"{family}.backoff")
    return retry.Retry(backoff.NoBackoff(), 0)


def _once_async(family: str) -> Any:
    retry = importlib.import_module(f"{family}.asyncio.retry")
    backoff = importlib.import_module(f"{family}.backoff")
    return retry.Retry(backoff.NoBackoff(), 0)


def _cluster_settings(family: str, retry: Any) -> dict[str, Any]:
    # valkey-py counts its repetitions over a cluster apart from those of a connection.
    if family == "redis":
        return {"retry": retry}
    return {"retry": retry, "cluster_error_retry_attempts": 0}


def _client_class(family: str, *, cluster: bool) -> str:
    return family.capitalize() + ("Cluster" if cluster else "")


def plain(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(family)
        host, port = addresses[0]
        client = getattr(library, _client_class(family, cluster=False))(
            host, port, socket_timeout=SOCKET_TIMEOUT_S, decode_responses=True, retry=_once(family)
        )
        stack.callback(client.close)
        return client

    return opened


def plain_async(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(f"{family}.asyncio")
        host, port = addresses[0]
        client = getattr(library, _client_class(family, cluster=False))(
            host=host, port=port, socket_timeout=SOCKET_TIMEOUT_S, decode_responses=True,
            retry=_once_async(family),
        )  # fmt: skip
        stack.push_async_callback(client.aclose)
        return client

    return opened


def over_cluster(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(f"{family}.cluster")
        nodes = [library.ClusterNode(*address) for address in addresses]
        client = getattr(library, _client_class(family, cluster=True))(
            startup_nodes=nodes, socket_timeout=SOCKET_TIMEOUT_S, decode_responses=True,
            **_cluster_settings(family, _once(family)),
        )  # fmt: skip
        stack.callback(client.close)
        return client

    return opened


def over_cluster_async(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(f"{family}.asyncio.cluster")
        nodes = [library.ClusterNode(*address) for address in addresses]
        client = getattr(library, _client_class(family, cluster=True))(
            startup_nodes=nodes, socket_timeout=SOCKET_TIMEOUT_S, decode_responses=True,
            **_cluster_settings(family, _once_async(family)),
        )  # fmt: skip
        stack.push_async_callback(client.aclose)
        return client

    return opened


def through_sentinel(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(f"{family}.sentinel")
        sentinel = library.Sentinel(list(addresses), socket_timeout=SOCKET_TIMEOUT_S)
        for one in sentinel.sentinels:
            stack.callback(one.close)
        client = sentinel.master_for(SENTINEL_NAME, decode_responses=True, retry=_once(family))
        stack.callback(client.close)
        return client

    return opened


def through_sentinel_async(family: str) -> Opened:
    def opened(stack: AsyncExitStack, addresses: Addresses) -> Any:
        library = importlib.import_module(f"{family}.asyncio.sentinel")
        sentinel = library.Sentinel(list(addresses), socket_timeout=SOCKET_TIMEOUT_S)
        for one in sentinel.sentinels:
            stack.push_async_callback(one.aclose)
        client = sentinel.master_for(
            SENTINEL_NAME, decode_responses=True, retry=_once_async(family)
        )
        stack.push_async_callback(client.aclose)
        return client

    return opened


# --------------------------------------------------------------------- coredis


def coredis_plain(_stack: AsyncExitStack, addresses: Addresses) -> Any:
    import coredis
    from coredis.retry import NoRetryPolicy

    host, port = addresses[0]
    return coredis.Redis(
        host, port, stream_timeout=SOCKET_TIMEOUT_S, decode_responses=True,
        retry_policy=NoRetryPolicy(),
    )  # fmt: skip


def coredis_cluster(_stack: AsyncExitStack, addresses: Addresses) -> Any:
    import coredis
    from coredis.connection import TCPLocation
    from coredis.exceptions import ConnectionError as LostError
    from coredis.retry import NoRetryPolicy

    class ReportErrors(NoRetryPolicy):
        """Repeats nothing. The library itself reports errors only when it repeats, and asks
        for the leader anew only when they are reported."""

        async def call_with_retries(
            self, func: Any, before_hook: Any = None, failure_hook: Any = None
        ) -> Any:
            try:
                return await func()
            except LostError as error:
                if failure_hook is not None:
                    await failure_hook(error)
                raise

    return coredis.RedisCluster(
        startup_nodes=[TCPLocation(*address) for address in addresses],
        stream_timeout=SOCKET_TIMEOUT_S, decode_responses=True, retry_policy=ReportErrors(),
    )  # fmt: skip


# Kind -> package, how it is opened.
PYTHON_CLIENTS: dict[str, tuple[str, Opened]] = {
    "redis-py": ("redis", plain("redis")),
    "redis-py asyncio": ("redis", plain_async("redis")),
    "redis-py cluster": ("redis", over_cluster("redis")),
    "redis-py asyncio cluster": ("redis", over_cluster_async("redis")),
    "redis-py sentinel": ("redis", through_sentinel("redis")),
    "redis-py asyncio sentinel": ("redis", through_sentinel_async("redis")),
    "valkey-py": ("valkey", plain("valkey")),
    "valkey-py asyncio": ("valkey", plain_async("valkey")),
    "valkey-py cluster": ("valkey", over_cluster("valkey")),
    "valkey-py asyncio cluster": ("valkey", over_cluster_async("valkey")),
    "valkey-py sentinel": ("valkey", through_sentinel("valkey")),
    "valkey-py asyncio sentinel": ("valkey", through_sentinel_async("valkey")),
    "coredis": ("coredis", coredis_plain),
    "coredis cluster": ("coredis", coredis_cluster),
}

# Its pipelines, of which its DEL is one, are not even begun when nothing may be sent twice.
WITHOUT_PIPELINES = ("valkey-py asyncio cluster",)


@asynccontextmanager
async def connected(kind: str, addresses: Sequence[str]) -> AsyncIterator[Any]:
    """Open one client; plain ones know the first address only."""
    async with AsyncExitStack() as stack:
        client = PYTHON_CLIENTS[kind][1](stack, [split_address(one) for one in addresses])
        if kind.startswith("coredis"):
            client = await stack.enter_async_context(client)
        yield client


async def use_every_type(kind: str, client: Any) -> None:
    """Assert what a client gets back for each type, in a pipeline and from iterators.

    All keys are in one slot, as a client over a cluster wants those of one pipeline to be.
    """
    is_coredis = kind.startswith("coredis")
    key = f"{{{kind}}}".replace(" ", "_")
    text, fields, queue, members, ranks = (f"{key}:{name}" for name in ("t", "h", "l", "s", "z"))
    all_keys = [text, fields, queue, members, ranks, f"{key}:p"]
    for one in all_keys:
        await settle(client.unlink([one]) if is_coredis else client.execute_command("DEL", one))
    assert await settle(client.set(text, "hello", ex=100))
    assert await settle(client.get(text)) == "hello"
    assert 0 < await settle(client.ttl(text)) <= 100
    if is_coredis:
        await client.hset(fields, {"a": "1", "b": "2"})
        await client.rpush(queue, ["one", "two", "three"])
        await client.sadd(members, ["x", "y"])
        await client.zadd(ranks, {"low": 1.5, "high": 20})
    else:
        await settle(client.hset(fields, mapping={"a": "1", "b": "2"}))
        await settle(client.rpush(queue, "one", "two", "three"))
        await settle(client.sadd(members, "x", "y"))
        await settle(client.zadd(ranks, {"low": 1.5, "high": 20}))
    assert await settle(client.hgetall(fields)) == {"a": "1", "b": "2"}
    assert await settle(client.lrange(queue, 0, -1)) == ["one", "two", "three"]
    assert await settle(client.lpop(queue)) == "one"
    assert set(await settle(client.smembers(members))) == {"x", "y"}
    scores = await settle(client.zrange(ranks, 0, -1, withscores=True))
    assert [tuple(score) for score in scores] == [("low", 1.5), ("high", 20.0)]
    assert await settle(client.zscore(ranks, "low")) == 1.5
    assert await settle(client.type(queue)) == "list"

    assert await _pipelined(kind, client, f"{key}:p") == [1, 2, 3]

    found = [one async for one in _each(client.scan_iter(f"{key}:*"))]
    assert set(found) == set(all_keys)
    assert {tuple(one) async for one in _each(client.hscan_iter(fields))} == {
        ("a", "1"),
        ("b", "2"),
    }
    assert {one async for one in _each(client.sscan_iter(members))} == {"x", "y"}
    assert len([one async for one in _each(client.zscan_iter(ranks))]) == 2


async def _pipelined(kind: str, client: Any, key: str) -> list[Any]:
    if kind in WITHOUT_PIPELINES:
        return [await settle(client.incr(key)) for _ in range(3)]
    if kind.startswith("coredis"):
        async with client.pipeline(transaction=False) as pipe:
            waiting = [pipe.incr(key) for _ in range(3)]
        return [await one for one in waiting]
    pipe = client.pipeline(transaction=False)
    for _ in range(3):
        pipe.incr(key)
    return list(await settle(pipe.execute()))


async def _each(items: Any) -> AsyncIterator[Any]:
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


async def count_until_told(kind: str, key: str, addresses: Sequence[str]) -> None:
    """Use each type, then count in one key and print what came of it, until input ends."""
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    async with connected(kind, addresses) as client:
        while not await _used_every_type(kind, client):
            await asyncio.sleep(PAUSE_S)
        say("types")
        while not ended.done():
            try:
                say(f"ok {await settle(client.incr(key))}")
            except Exception as error:
                say(f"error {type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_S)
            await asyncio.sleep(PAUSE_S)
        say(f"read {await settle(client.get(key))}")


async def _used_every_type(kind: str, client: Any) -> bool:
    try:
        await use_every_type(kind, client)
    except AssertionError:
        raise
    except Exception as error:
        if _LEADER_LOST.match(str(error)) is None:
            raise
        return False
    return True


def say(line: str) -> None:
    print(line.replace("\n", " "), flush=True)


if __name__ == "__main__":
    asyncio.run(count_until_told(sys.argv[1], sys.argv[2], sys.argv[3:]))

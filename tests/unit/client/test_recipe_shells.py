"""Leases and recipes of both clients, and redis-py's Lock, over sockets.

The other side is the real front-end and the real store, in a process without consensus.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
import redis.asyncio
import redis.exceptions

from raftkv import AsyncClient, Client, ConnectionLostError, LeaseLostError, LockTimeoutError
from raftkv.client.calls import Call
from tests.unit.server.serving import serving

WAIT_S = 20.0


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that has to come true."""
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as given:
        yield given


@pytest.fixture
def client(address: str) -> Iterator[Client[bytes]]:
    with Client(address) as made:
        made.flushall()
        yield made


def test_a_lease_is_kept_and_ends_with_its_keys(client: Client[bytes]) -> None:
    with client.lease(1.0) as lease:
        assert client.set("a", "1", lease=lease.id)
        client.set("b", "2")
        assert lease.attach("b", "missing") == 1
        facts = client.lease_ttl(lease.id, keys=True)
        assert facts is not None
        assert facts["keys"] == [b"a", b"b"]
        began_s = time.monotonic()
        wait_until(lambda: time.monotonic() - began_s > 2.5)
        assert client.exists("a", "b") == 2
        assert 0 < lease.remaining() <= 0.9
    assert client.exists("a", "b") == 0
    assert client.lease_list() == []
    assert not lease.lost.is_set()


def test_a_lease_is_kept_also_when_calls_take_all_connections(
    client: Client[bytes], address: str
) -> None:
    with Client(address, connections_max=1) as narrow:
        lease = narrow.lease(0.6)
        waiting = threading.Thread(target=narrow.blpop, args=("nothing",), kwargs={"timeout_s": 9})
        waiting.start()
        end_s = time.monotonic() + 2
        wait_until(lambda: lease.lost.is_set() or time.monotonic() > end_s)
        assert lease.remaining() > 0
        client.rpush("nothing", "something")
        waiting.join(WAIT_S)
        assert lease.close()


def test_an_asynchronous_lease_is_kept_also_when_calls_take_all_connections(
    client: Client[bytes], address: str
) -> None:
    async def work() -> None:
        async with AsyncClient(address, connections_max=1) as narrow:
            lease = await narrow.lease(0.6)
            waiting = asyncio.create_task(narrow.blpop("nothing", timeout_s=9))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await lease.lost.wait()
            assert lease.remaining() > 0
            client.rpush("nothing", "something")
            await waiting
            assert await lease.close()

    asyncio.run(work())


def test_a_lease_without_its_owner_ends_in_time(client: Client[bytes]) -> None:
    lease_id = client.lease_grant(1000)
    began_s = time.monotonic()
    client.set("a", "1", lease=lease_id)
    # Without a leader that moves time by itself only what goes through the log does.
    wait_until(lambda: client.lease_ttl(lease_id) is None)
    assert client.exists("a") == 0
    assert time.monotonic() - began_s > 0.9


def test_a_lost_lease_is_noticed(client: Client[bytes]) -> None:
    told = threading.Event()
    lock = client.lock("l", ttl_s=0.6, on_lost=lambda lease: told.set())
    assert lock.acquire()
    assert lock.lease is not None
    client.lease_revoke(lock.lease.id)
    assert told.wait(5)
    assert lock.lease.lost.is_set()
    assert not lock.is_held
    with pytest.raises(LeaseLostError):
        lock.check()
    with pytest.raises(LeaseLostError):
        lock.release()


@pytest.mark.parametrize("other", [None, ZeroDivisionError])
def test_a_block_in_which_a_lock_is_lost_raises_that_if_nothing_else(
    client: Client[bytes], other: type[Exception] | None
) -> None:
    def work() -> None:
        with client.lock("l", ttl_s=0.6) as held:
            assert held.lease is not None
            client.lease_revoke(held.lease.id)
            assert held.lease.lost.wait(5)
            if other is not None:
                raise other

    with pytest.raises(other or LeaseLostError):
        work()


def test_a_lock_whose_key_somebody_deleted_was_lost(client: Client[bytes]) -> None:
    first, second = client.lock("l"), client.lock("l")
    assert first.acquire()
    client.delete("l")
    assert second.acquire(wait_s=0)
    with pytest.raises(LeaseLostError):
        first.release()
    # Its lease is gone, and the other one holds on.
    assert second.lease is not None
    assert client.lease_list() == [second.lease.id]
    assert client.get("l") is not None
    second.release()
    assert client.lease_list() == []


class _Forgetful:
    """A client that loses the answer to the first transaction it sends."""

    def __init__(self, client: Client[bytes]) -> None:
        self._client = client
        self.deadline_s = client.deadline_s
        self.lost = 0

    def within_at_most(self, _deadline_s: float | None) -> _Forgetful:
        return self

    def run(self, call: Call[Any]) -> Any:
        result = self._client.run(call)
        if call.request.arguments[1] == b"TXN" and not self.lost:
            self.lost += 1
            raise ConnectionLostError("lost")
        return result


def test_a_lock_was_not_lost_because_an_answer_was(address: str) -> None:
    with Client(address, exactly_once=False) as client:
        lock = client.lock("l")
        assert lock.acquire()
        forgetful = _Forgetful(client)
        lock._client = cast("Client[Any]", forgetful)
        lock.release()
        assert forgetful.lost == 1
        assert client.exists("l") == 0
        assert client.lease_list() == []


def test_an_asynchronous_lock_whose_key_somebody_deleted_was_lost(
    client: Client[bytes], address: str
) -> None:
    async def work() -> None:
        async with AsyncClient(address) as other:
            lock = other.lock("l")
            assert await lock.acquire()
            client.delete("l")
            with pytest.raises(LeaseLostError):
                await lock.release()

    asyncio.run(work())
    assert client.lease_list() == []


def test_locks_exclude_each_other_and_tokens_grow(client: Client[bytes]) -> None:
    tokens = []
    inside = threading.Semaphore(1)

    def work() -> None:
        for _ in range(5):
            with client.lock("l", ttl_s=5) as lock:
                assert inside.acquire(blocking=False)
                tokens.append(lock.check())
                inside.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tokens) == 20
    assert tokens == sorted(set(tokens))
    assert client.lease_list() == []


def test_a_lock_is_reentrant_only_when_told_so(client: Client[bytes]) -> None:
    lock = client.lock("l", reentrant=True)
    with lock, lock:
        assert lock.is_held
        assert not client.lock("l").acquire(wait_s=0)
        with pytest.raises(LockTimeoutError), client.lock("l", wait_s=0.1):
            pass
    assert client.exists("l") == 0
    plain = client.lock("l")
    assert plain.acquire()
    with pytest.raises(RuntimeError):
        plain.acquire()
    plain.release()
    with pytest.raises(RuntimeError):
        plain.release()


def test_recipes_share_a_lease(client: Client[bytes]) -> None:
    lease = client.lease(5)
    lock, semaphore = client.lock("l", lease=lease), client.semaphore("s", 2, lease=lease)
    assert lock.acquire()
    assert semaphore.acquire()
    lock.release()
    assert client.exists("l") == 0
    assert client.lock("l", lease=lease).acquire()
    others = [client.semaphore("s", 2) for _ in range(2)]
    assert [one.acquire(wait_s=0) for one in others] == [True, False]
    lease.close()
    assert client.exists("l") == 0
    assert others[1].acquire(wait_s=5)
    for one in others:
        one.release()


def test_an_election(client: Client[bytes]) -> None:
    first, second = client.election("e", ttl_s=2), client.election("e", ttl_s=2)
    assert first.leader() is None
    assert first.campaign("a:1")
    assert not second.campaign("b:2", wait_s=0)
    seen = second.observe(wait_s=5)
    assert next(seen).value == b"a:1"
    first.proclaim("a:9")
    leader = next(seen)
    assert leader.value == b"a:9"
    assert leader.token == first.check()
    assert first.resign()
    assert second.campaign("b:2", wait_s=5)
    assert next(seen).value == b"b:2"
    assert second.check() > leader.token
    assert second.resign()


def test_barrier_counter_and_queue(client: Client[bytes]) -> None:
    barrier = client.barrier("b")
    assert barrier.wait(wait_s=0)
    lease = client.lease(5)
    barrier.hold(lease)
    assert not barrier.wait(wait_s=0.05)
    lease.close()
    assert barrier.wait(wait_s=5)
    counter = client.counter("c")
    assert (counter.value(), counter.add(), counter.add(5), counter.value()) == (0, 1, 6, 6)
    queue = client.queue("q")
    queue.put("x")
    queue.put(b"\x00\xff")
    with client.lease(5) as worker:
        first = queue.take(worker, wait_s=0)
        assert first is not None
        assert first.value == b"x"
        assert len(queue) == 2
    with client.lease(5) as worker:
        again = queue.take(worker, wait_s=5)
        assert again is not None
        assert again.value == b"x"
        assert again.token > first.token
        assert not queue.done(first)
        assert queue.done(again)
        last = queue.take(worker, wait_s=0)
        assert last is not None
        assert queue.done(last)
        assert queue.take(worker, wait_s=0) is None


def test_the_same_with_asyncio(address: str, client: Client[bytes]) -> None:
    async def main() -> None:
        async with AsyncClient(address) as client:
            async with await client.lease(1.0) as lease:
                assert await client.set("a", "1", lease=lease.id)
                assert await lease.attach("a") == 1
                await asyncio.sleep(1.5)
                assert await client.exists("a") == 1
                assert lease.remaining() > 0
            assert await client.exists("a") == 0
            tokens: list[int] = []

            async def work() -> None:
                async with client.lock("l", ttl_s=5, reentrant=True) as lock:
                    async with lock:
                        tokens.append(lock.check())

            await asyncio.gather(*[work() for _ in range(5)])
            assert tokens == sorted(set(tokens))
            lock = client.lock("l", ttl_s=0.6)
            assert await lock.acquire()
            assert lock.lease is not None
            await client.lease_revoke(lock.lease.id)
            await asyncio.wait_for(lock.lease.lost.wait(), 5)
            with pytest.raises(LeaseLostError):
                await lock.release()
            async with client.semaphore("s", 1, wait_s=0):
                with pytest.raises(LockTimeoutError):
                    async with client.semaphore("s", 1, wait_s=0):
                        pass
            election = client.election("e")
            assert await election.campaign("me")
            leader = await election.leader()
            assert leader is not None
            assert leader.value == b"me"
            await election.proclaim("still me")
            async for one in election.observe(wait_s=5):
                assert one.value == b"still me"
                break
            assert await election.resign()
            barrier = client.barrier("b")
            await barrier.hold()
            assert not await barrier.wait(wait_s=0)
            await barrier.release()
            assert await barrier.wait(wait_s=0)
            counter = client.counter("c")
            assert (await counter.add(3), await counter.value()) == (3, 3)
            queue = client.queue("q")
            await queue.put("x")
            async with await client.lease(5) as worker:
                taken = await queue.take(worker, wait_s=0)
                assert taken is not None
                assert await queue.put_back(taken)
                taken = await queue.take(worker, wait_s=0)
                assert taken is not None
                assert await queue.size() == 1
                assert await queue.done(taken)

    asyncio.run(main())


# --------------------------------------------------------------------- redis-py


def test_the_lock_of_redis_py(address: str, client: Client[bytes]) -> None:
    host, port = address.split(":")
    with redis.Redis(host=host, port=int(port)) as theirs:
        lock = theirs.lock("r", timeout=5)
        assert lock.acquire(blocking=False)
        assert not theirs.lock("r", timeout=5).acquire(blocking=False)
        assert lock.owned()
        assert lock.extend(5)
        assert 9000 < client.pttl("r") <= 10_000
        assert lock.extend(3, replace_ttl=True)
        assert 2000 < client.pttl("r") <= 3000
        assert lock.reacquire()
        assert 4000 < client.pttl("r") <= 5000
        lock.release()
        assert client.exists("r") == 0
        assert lock.acquire(blocking=False)
        client.set("r", "stolen")
        for change in (lambda: lock.extend(5), lock.reacquire, lock.release):
            with pytest.raises(redis.exceptions.LockNotOwnedError):
                change()
        assert client.get("r") == b"stolen"


def test_the_asyncio_lock_of_redis_py(address: str, client: Client[bytes]) -> None:
    host, port = address.split(":")

    async def main() -> None:
        async with redis.asyncio.Redis(host=host, port=int(port)) as theirs:
            lock = theirs.lock("r", timeout=5)
            assert await lock.acquire(blocking=False)
            assert not await theirs.lock("r", timeout=5).acquire(blocking=False)
            assert await lock.extend(5)
            assert await lock.extend(3, replace_ttl=True)
            assert await lock.reacquire()
            await lock.release()
            async with theirs.lock("r", timeout=5):
                pass
            assert await lock.acquire(blocking=False)
            await theirs.delete("r")
            with pytest.raises(redis.exceptions.LockNotOwnedError):
                await lock.release()

    asyncio.run(main())
    assert client.exists("r") == 0

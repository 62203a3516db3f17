"""The recipes of the asyncio client, one class each; what they do is in the pure modules.

A recipe object is one holder: use one for each task that wants to hold something.
Waiting goes by `client.steps.poll`, and leaves the loop to others.
"""

from __future__ import annotations

import asyncio
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from raftkv.client.async_lease import AsyncLease, T, drive
from raftkv.client.collection_commands import build_llen, build_rpush
from raftkv.client.commands import Text, build_delete, build_get, build_incrby
from raftkv.client.leases import ttl_to_ms
from raftkv.client.outside import OUTSIDE, boot_s, new_lease_id, new_mark
from raftkv.client.protocol import Argument, encode_arguments
from raftkv.client.recipes.claims import Claim, Holding, marked, read_holding, unmarked
from raftkv.client.recipes.conditions import until_gone, until_held_anew
from raftkv.client.recipes.queues import ID_BYTES, QueueSteps, Taken
from raftkv.client.steps import Steps
from raftkv.errors import LeaseLostError, LockTimeoutError, RequestError

if TYPE_CHECKING:
    from raftkv.client.async_client import AsyncClient

OnLost = Callable[[AsyncLease], object]


class _Holder:
    """Holds one of several keys, with a lease of its own or one that is shared."""

    def __init__(
        self, client: AsyncClient[Any], keys: Sequence[Text], *, ttl_s: float,
        lease: AsyncLease | None, on_lost: OnLost | None,
    ) -> None:  # fmt: skip
        self._client = client
        self._keys = keys
        self._ttl_ms = ttl_to_ms(ttl_s)
        self._shared = lease
        self._on_lost = on_lost
        self._claim: Claim | None = None
        self._lease: AsyncLease | None = None

    async def _drive(self, steps: Steps[T]) -> T:
        return await drive(self._client, steps)

    @property
    def _end_of_request_s(self) -> float:
        return boot_s() + self._client.deadline_s

    async def _take(self, value: bytes, wait_s: float | None) -> bool:
        if self.is_held:
            raise RuntimeError("held already")
        if self._claim is not None:
            await self._give_back()  # It was lost.
        if self._shared is not None:
            self._shared.check()
        end_s = None if wait_s is None else boot_s() + wait_s
        claim = self._new_claim(value)
        while not await self._drive(claim.take(end_s=end_s, outside=OUTSIDE)):
            if end_s is not None:
                return False
            # Nobody knows the fate of the last request. Under another lease nothing of it
            # is taken for this one; under a shared lease it has to be recognised.
            if self._shared is None:
                claim = self._new_claim(value)
        self._claim = claim
        self._lease = self._shared
        if claim.tenure is not None:
            self._lease = AsyncLease(self._client, claim.tenure, self._on_lost)
        return True

    def _new_claim(self, value: bytes) -> Claim:
        shared_id = None if self._shared is None else self._shared.id
        return Claim(
            self._keys,
            new_mark() + value,
            shared_id or new_lease_id(),
            own_ttl_ms=None if shared_id else self._ttl_ms,
            request_s_max=self._client.deadline_s,
        )

    async def _give_back(self) -> bool:
        """Let others have the key; False if it was lost before."""
        claim, lease = self._claim, self._lease
        if claim is None or lease is None:
            raise RuntimeError("not held")
        self._claim = self._lease = None
        was_held = lease.remaining() > 0
        steps = claim.give_back(end_s=self._end_of_request_s, outside=OUTSIDE)
        if lease is self._shared:
            return was_held and await self._drive(steps)
        lease.stop()
        try:
            return await self._drive(steps) and was_held
        except RequestError:
            # The cluster cannot be told, and the lease ends by itself. Or it is gone: by
            # a request whose answer was lost, as a lease that was lost is noticed.
            return was_held

    @property
    def lease(self) -> AsyncLease | None:
        """The lease that what is held depends on; None while nothing is held."""
        return self._lease

    @property
    def is_held(self) -> bool:
        """Whether it is certainly held at this moment."""
        return self._lease is not None and self._lease.remaining() > 0

    def remaining(self) -> float:
        """Return for how many seconds from now it is certainly held; see `AsyncLease.remaining`."""
        return 0.0 if self._lease is None else self._lease.remaining()

    def check(self) -> int:
        """Return the fencing token, for a request to what is protected.

        Raises:
            LeaseLostError: It is not held any more, or never was.
        """
        if self._claim is None or not self.remaining():
            raise LeaseLostError(f"{_shown(self._keys[0])} is not held")
        return self._claim.token


class _Guard(_Holder):
    """A holder that `async with` acquires and releases."""

    wait_s: float | None = None

    @abstractmethod
    async def acquire(self, *, wait_s: float | None = None) -> bool:
        """Wait until something is held; False when the time is over before."""

    async def release(self) -> None:
        """Let others have what is held.

        Raises:
            LeaseLostError: It was lost before.
        """
        if not await self._give_back():
            raise LeaseLostError(f"{_shown(self._keys[0])} was lost")

    @property
    def token(self) -> int:
        """The fencing token; see `check`."""
        return self.check()

    async def __aenter__(self) -> Self:
        if not await self.acquire(wait_s=self.wait_s):
            raise LockTimeoutError(f"{_shown(self._keys[0])} is held by others")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except LeaseLostError:
            if kind is None:
                raise


class AsyncLock(_Guard):
    """A lock that one holder has at a time; made by `AsyncClient.lock`.

    With `async with` it is acquired and released. If it was lost meanwhile, leaving the
    block raises `LeaseLostError`, unless something else is raised already.
    """

    def __init__(
        self, client: AsyncClient[Any], name: Text, *, ttl_s: float = 10.0, reentrant: bool = False,
        wait_s: float | None = None, lease: AsyncLease | None = None, on_lost: OnLost | None = None,
    ) -> None:  # fmt: skip
        """Acquire nothing yet.

        Args:
            client: Sends the requests.
            name: The key that stands for the lock.
            ttl_s: Seconds after which others may have it when this holder dies.
            reentrant: The task that holds it may acquire it again, and releases it as
                often.
            wait_s: Seconds that `async with` waits; None for ever.
            lease: One to share with other recipes, instead of one of its own.
            on_lost: Called on the loop when the lock's own lease is lost.
        """
        super().__init__(client, [name], ttl_s=ttl_s, lease=lease, on_lost=on_lost)
        self._reentrant = reentrant
        self.wait_s = wait_s
        self._owner: asyncio.Task[Any] | None = None
        self._depth = 0

    async def acquire(self, *, wait_s: float | None = None) -> bool:
        """Wait until the lock is held.

        Args:
            wait_s: Seconds to wait for other holders; 0 to try once, None for ever.

        Returns:
            False when others held it all the time, or nobody knows.

        Raises:
            RequestError: A request was certainly not executed.
            LeaseLostError: It is acquired again, and was lost before.
        """
        if self._reentrant and self._owner == asyncio.current_task():
            self.check()
            self._depth += 1
            return True
        if not await self._take(b"", wait_s):
            return False
        self._owner, self._depth = asyncio.current_task(), 1
        return True

    async def release(self) -> None:
        """Let others have the lock.

        Raises:
            LeaseLostError: It was lost before.
        """
        if self._depth > 1:
            self._depth -= 1
            return
        self._owner, self._depth = None, 0
        await super().release()


class AsyncSemaphore(_Guard):
    """Permits of which each has one holder at a time; made by `AsyncClient.semaphore`."""

    def __init__(
        self, client: AsyncClient[Any], name: str, permits: int, *, ttl_s: float = 10.0,
        wait_s: float | None = None, lease: AsyncLease | None = None, on_lost: OnLost | None = None,
    ) -> None:  # fmt: skip
        """Acquire nothing yet; arguments as of `AsyncLock`.

        Args:
            client: Sends the requests.
            name: Permit number n is the key `name/n`.
            permits: How many there are; the same for everybody.
            ttl_s: As of `AsyncLock`, as are the others.
            wait_s: Seconds that `async with` waits.
            lease: One to share.
            on_lost: Called when the permit's own lease is lost.
        """
        if permits < 1:
            raise ValueError("a semaphore has a permit or more")
        keys = [f"{name}/{number}" for number in range(permits)]
        super().__init__(client, keys, ttl_s=ttl_s, lease=lease, on_lost=on_lost)
        self.wait_s = wait_s

    async def acquire(self, *, wait_s: float | None = None) -> bool:
        """Wait until a permit is held; as `AsyncLock.acquire`."""
        return await self._take(b"", wait_s)


class AsyncElection(_Holder):
    """One leader among candidates, whom everybody can ask for; made by `AsyncClient.election`."""

    def __init__(
        self, client: AsyncClient[Any], name: Text, *, ttl_s: float = 10.0,
        lease: AsyncLease | None = None, on_lost: OnLost | None = None,
    ) -> None:  # fmt: skip
        """Stand for nothing yet; arguments as of `AsyncLock`."""
        super().__init__(client, [name], ttl_s=ttl_s, lease=lease, on_lost=on_lost)

    async def campaign(self, value: Argument, *, wait_s: float | None = None) -> bool:
        """Wait until this candidate leads; as `AsyncLock.acquire`.

        Args:
            value: What the leader says of itself, such as its address.
            wait_s: Seconds to wait for other leaders to go; None for ever.
        """
        return await self._take(encode_arguments((value,))[0], wait_s)

    async def proclaim(self, value: Argument) -> None:
        """Say something else of the leader, who stays the same.

        Raises:
            LeaseLostError: This candidate does not lead any more.
        """
        self.check()
        assert self._claim is not None
        if not await self._drive(self._claim.change(marked(value, new_mark()))):
            raise LeaseLostError(f"{_shown(self._keys[0])} is not held")

    async def resign(self) -> bool:
        """Let others lead; False if leadership was lost before."""
        return await self._give_back()

    async def leader(self) -> Holding | None:
        """Return who leads: `value`, `token`; None while nobody does."""
        holding = await self._drive(read_holding(self._keys[0]))
        return None if holding is None else unmarked(holding)

    async def observe(self, *, wait_s: float | None = None) -> AsyncIterator[Holding]:
        """Yield each leader that is seen, and each thing a leader says.

        Args:
            wait_s: End when nothing new was seen for so many seconds; None for never.
        """
        known: Holding | None = None
        while True:
            end_s = None if wait_s is None else boot_s() + wait_s
            steps = until_held_anew(self._keys[0], known, end_s=end_s, outside=OUTSIDE)
            known = await self._drive(steps)
            if known is None:
                return
            yield unmarked(known)


class AsyncBarrier:
    """A gate that one closes and others wait at; made by `AsyncClient.barrier`."""

    def __init__(self, client: AsyncClient[Any], name: Text) -> None:
        self._client = client
        self._name = name

    async def hold(self, lease: AsyncLease | None = None) -> None:
        """Close the barrier; bound to a lease it opens when that ends."""
        if lease is None:
            await self._client.set(self._name, b"")
        else:
            await self._client.set(self._name, b"", lease=lease.id)

    async def release(self) -> None:
        """Open the barrier."""
        await self._client.run(build_delete(self._name))

    async def wait(self, *, wait_s: float | None = None) -> bool:
        """Wait until the barrier is open; False when the time is over before."""
        end_s = None if wait_s is None else boot_s() + wait_s
        steps = until_gone(self._name, end_s=end_s, outside=OUTSIDE)
        return await drive(self._client, steps)


class AsyncCounter:
    """A number that everybody adds to; made by `AsyncClient.counter`."""

    def __init__(self, client: AsyncClient[Any], name: Text) -> None:
        self._client = client
        self._name = name

    async def add(self, amount: int = 1) -> int:
        """Add to the number and return it.

        Raises:
            IndefiniteError: Perhaps it was added.
        """
        return await self._client.run(build_incrby(self._name, amount))

    async def value(self) -> int:
        """Return the number."""
        return int(await self._client.run(build_get(self._name)) or 0)


class AsyncQueue:
    """A queue of work; each item is done at least once. Made by `AsyncClient.queue`."""

    def __init__(self, client: AsyncClient[Any], name: str) -> None:
        self._client = client
        self._name = name
        self._steps = QueueSteps(name, request_s_max=client.deadline_s, outside=OUTSIDE)

    async def put(self, value: Argument) -> None:
        """Add an item at the end.

        Raises:
            IndefiniteError: Perhaps it was added.
        """
        element = os.urandom(ID_BYTES) + encode_arguments((value,))[0]
        await self._client.run(build_rpush(self._name, element))

    async def take(self, lease: AsyncLease, *, wait_s: float | None = None) -> Taken | None:
        """Wait for an item that nobody works on.

        Args:
            lease: Others take the item when it ends.
            wait_s: Seconds to wait; 0 to look once, None for ever.

        Returns:
            The item, with `value` and the fencing `token`, or None.
        """
        lease.check()
        end_s = None if wait_s is None else boot_s() + wait_s
        return await drive(self._client, self._steps.take(lease.id, new_mark(), end_s=end_s))

    async def done(self, taken: Taken) -> bool:
        """Remove an item for good; False if it was lost to others before."""
        return await drive(self._client, self._steps.done(taken))

    async def put_back(self, taken: Taken) -> bool:
        """Let others take an item; False if it was lost to them before."""
        return await drive(self._client, self._steps.put_back(taken))

    async def size(self) -> int:
        """Return how many items are not done."""
        return await self._client.run(build_llen(self._name))


class AsyncRecipes:
    """What the asyncio client offers on leases; a part of `AsyncClient`."""

    async def lease(self: Any, ttl_s: float, *, on_lost: OnLost | None = None) -> AsyncLease:
        """Grant a lease, and renew it in a task until it is closed or lost.

        Args:
            ttl_s: Seconds that it lives without being renewed, from 0.1.
            on_lost: Called on the loop when it is lost.
        """
        return await AsyncLease.granted(self, ttl_s, on_lost)

    def lock(
        self: Any, name: Text, *, ttl_s: float = 10.0, reentrant: bool = False,
        wait_s: float | None = None, lease: AsyncLease | None = None, on_lost: OnLost | None = None,
    ) -> AsyncLock:  # fmt: skip
        """Return a lock, not yet acquired; arguments as of `AsyncLock`."""
        return AsyncLock(
            self, name, ttl_s=ttl_s, reentrant=reentrant, wait_s=wait_s, lease=lease,
            on_lost=on_lost,
        )  # fmt: skip

    def semaphore(
        self: Any, name: str, permits: int, *, ttl_s: float = 10.0, wait_s: float | None = None,
        lease: AsyncLease | None = None, on_lost: OnLost | None = None,
    ) -> AsyncSemaphore:  # fmt: skip
        """Return a semaphore, not yet acquired; arguments as of `AsyncSemaphore`."""
        return AsyncSemaphore(
            self, name, permits, ttl_s=ttl_s, wait_s=wait_s, lease=lease, on_lost=on_lost
        )

    def election(
        self: Any, name: Text, *, ttl_s: float = 10.0, lease: AsyncLease | None = None,
        on_lost: OnLost | None = None,
    ) -> AsyncElection:  # fmt: skip
        """Return a candidate who does not stand yet; arguments as of `AsyncLock`."""
        return AsyncElection(self, name, ttl_s=ttl_s, lease=lease, on_lost=on_lost)

    def barrier(self: Any, name: Text) -> AsyncBarrier:
        """Return a barrier, as open or closed as it is."""
        return AsyncBarrier(self, name)

    def counter(self: Any, name: Text) -> AsyncCounter:
        """Return a counter."""
        return AsyncCounter(self, name)

    def queue(self: Any, name: str) -> AsyncQueue:
        """Return a queue of work."""
        return AsyncQueue(self, name)


def _shown(key: Text) -> str:
    return key if isinstance(key, str) else repr(bytes(key))

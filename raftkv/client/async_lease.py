"""A lease of the asyncio client: renewed by a task of its own.

Owns the task and the event; what may be believed when is decided by client.leases.
`drive` carries out any conversation of client.steps with an asynchronous client.

Belongs to one event loop. `remaining` looks at the clock itself, so that it is right
also when the loop has been held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from raftkv.client.lease_commands import build_lease_attach, build_lease_revoke
from raftkv.client.leases import Tenure, grant, ttl_to_ms
from raftkv.client.outside import OUTSIDE, boot_s, new_lease_id
from raftkv.client.policy import Pause
from raftkv.client.steps import Steps, repeat
from raftkv.errors import LeaseLostError, RaftKvError, RequestError

if TYPE_CHECKING:
    from raftkv.client.async_client import AsyncClient
    from raftkv.client.commands import Text

T = TypeVar("T")


async def drive(client: AsyncClient[Any], steps: Steps[T]) -> T:
    """Carry out a conversation; raises what it raises."""
    answer: object = None
    failure: RaftKvError | None = None
    while True:
        try:
            step = steps.send(answer) if failure is None else steps.throw(failure)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = failure = None
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            continue
        try:
            answer = await client.within_at_most(step.deadline_s).run(step.call)
        except RaftKvError as error:
            failure = error


class AsyncLease:
    """A lease that is renewed in the background until it is closed or lost.

    Attributes:
        lost: Set when the lease is over without having been closed.
    """

    def __init__(
        self,
        client: AsyncClient[Any],
        tenure: Tenure,
        on_lost: Callable[[AsyncLease], object] | None = None,
    ) -> None:
        """Keep a lease that was just granted; `AsyncClient.lease` grants one.

        Args:
            client: Renews it.
            tenure: As of the grant.
            on_lost: Called once, on the loop, when it is lost.
        """
        self._client = client
        self._tenure = tenure
        self._on_lost = on_lost
        self._closing = False
        self.lost = asyncio.Event()
        self._task = asyncio.ensure_future(self._keep())

    @classmethod
    async def granted(
        cls,
        client: AsyncClient[Any],
        ttl_s: float,
        on_lost: Callable[[AsyncLease], object] | None = None,
    ) -> AsyncLease:
        """Grant a lease and keep it; see `AsyncClient.lease`."""
        steps = grant(
            new_lease_id(), ttl_to_ms(ttl_s),
            end_s=boot_s() + client.deadline_s, outside=OUTSIDE,
        )  # fmt: skip
        return cls(client, await drive(client, steps), on_lost)

    @property
    def id(self) -> int:
        """The number by which commands name the lease."""
        return self._tenure.lease_id

    @property
    def ttl_s(self) -> float:
        """Seconds it lives without being renewed."""
        return self._tenure.ttl_s

    def remaining(self) -> float:
        """Return for how many seconds from now the lease certainly lives; 0 when it is over.

        Counted from the sending of the last renewal that succeeded, less a tenth of the
        time to live for clocks that run at different rates.
        """
        return self._tenure.remaining_s(boot_s())

    def check(self) -> None:
        """Do nothing while the lease lives.

        Raises:
            LeaseLostError: It is over.
        """
        if not self.remaining():
            raise LeaseLostError(f"lease {self.id} is over")

    async def attach(self, *keys: Text) -> int:
        """Bind keys to the lease and return how many of them exist."""
        return await self._client.run(build_lease_attach(self.id, *keys))

    def stop(self) -> None:
        """Stop renewing: the lease ends within its time to live, unless it is revoked before."""
        self._closing = True
        self._tenure.ended = True
        self._task.cancel()

    async def close(self) -> bool:
        """Stop renewing and revoke the lease, with the keys bound to it.

        Returns:
            False when the cluster could not be told: the lease ends by itself then,
            within its time to live.
        """
        self.stop()
        steps = repeat(
            build_lease_revoke(self.id),
            end_s=boot_s() + self._client.deadline_s, outside=OUTSIDE,
        )  # fmt: skip
        try:
            await drive(self._client, steps)
        except RequestError as error:
            return getattr(error, "code", "") == "NOLEASE"
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; say so if the lease was lost on the way and nothing else went wrong."""
        was_lost = not self.remaining() and not self._closing
        await self.close()
        if was_lost and kind is None:
            raise LeaseLostError(f"lease {self.id} was lost")

    async def _keep(self) -> None:
        try:
            await drive(self._client.in_background(), self._tenure.keep(OUTSIDE))
        finally:
            self._tenure.ended = True
            if not self._closing:
                self.lost.set()
                if self._on_lost is not None:
                    self._on_lost(self)

"""A lease of the blocking client: renewed by a thread of its own.

Owns the thread and the event; what may be believed when is decided by client.leases.
`drive` carries out any conversation of client.steps with a blocking client.

Thread-safe. `remaining` looks at the clock itself, so that it is right also when the
thread has not run for a while.
"""

from __future__ import annotations

import threading
import time
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
    from raftkv.client.commands import Text
    from raftkv.client.sync_client import Client

T = TypeVar("T")


def drive(client: Client[Any], steps: Steps[T], sleep: Callable[[float], object] = time.sleep) -> T:
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
            sleep(step.seconds)
            continue
        try:
            answer = client.within_at_most(step.deadline_s).run(step.call)
        except RaftKvError as error:
            failure = error


class Lease:
    """A lease that is renewed in the background until it is closed or lost.

    Attributes:
        lost: Set when the lease is over without having been closed.
    """

    def __init__(
        self,
        client: Client[Any],
        tenure: Tenure,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> None:
        """Keep a lease that was just granted; `Client.lease` grants one.

        Args:
            client: Renews it.
            tenure: As of the grant.
            on_lost: Called once, in the thread of the lease, when it is lost.
        """
        self._client = client
        self._tenure = tenure
        self._on_lost = on_lost
        self._closing = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name=f"raftkv lease {tenure.lease_id}", daemon=True
        )
        self._thread.start()

    @classmethod
    def granted(
        cls,
        client: Client[Any],
        ttl_s: float,
        on_lost: Callable[[Lease], object] | None = None,
    ) -> Lease:
        """Grant a lease and keep it; see `Client.lease`."""
        steps = grant(
            new_lease_id(), ttl_to_ms(ttl_s),
            end_s=boot_s() + client.deadline_s, outside=OUTSIDE,
        )  # fmt: skip
        return cls(client, drive(client, steps), on_lost)

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

    def attach(self, *keys: Text) -> int:
        """Bind keys to the lease and return how many of them exist."""
        return self._client.run(build_lease_attach(self.id, *keys))

    def stop(self) -> None:
        """Stop renewing: the lease ends within its time to live, unless it is revoked before."""
        self._closing.set()
        self._tenure.ended = True

    def close(self) -> bool:
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
            drive(self._client, steps)
        except RequestError as error:
            return getattr(error, "code", "") == "NOLEASE"
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; say so if the lease was lost on the way and nothing else went wrong."""
        was_lost = not self.remaining() and not self._closing.is_set()
        self.close()
        if was_lost and kind is None:
            raise LeaseLostError(f"lease {self.id} was lost")

    def _keep(self) -> None:
        try:
            drive(self._client.in_background(), self._tenure.keep(OUTSIDE), self._closing.wait)
        finally:
            self._tenure.ended = True
            if not self._closing.is_set():
                self.lost.set()
                if self._on_lost is not None:
                    self._on_lost(self)

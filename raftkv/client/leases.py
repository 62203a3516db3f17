"""What a client may believe of a lease, and how it keeps one: the pure half.

The cluster counts a lease from when it applied the last renewal; a client counts from
when it *sent* it, which is earlier, and believes only nine tenths of the time to live,
because its clock and those of the nodes may run at rates that differ by less than a
tenth. So it stops believing before anybody else can see that the lease is over. What
it once stopped believing it never believes again, although a late answer may say
otherwise: somebody may have been told.

Owns no thread and no clock; `Lease` and `AsyncLease` drive it.
"""

from __future__ import annotations

from typing import Final

from raftkv.client.lease_commands import build_lease_grant, build_lease_keepalive
from raftkv.client.policy import Pause
from raftkv.client.steps import Ask, Outside, Steps, poll_pause_s, still_unknown
from raftkv.errors import CommandError, IndefiniteError, RequestError

# Share of the time to live that is believed; the rest allows for clocks.
BELIEVED_SHARE: Final = 0.9
# A lease is renewed when this share of its time has passed.
RENEWED_SHARE: Final = 1 / 3
NO_LEASE_CODE: Final = "NOLEASE"
LEASE_EXISTS: Final = "ERR lease exists already"
LEASE_ID_MAX: Final = 2**53 - 1


class Tenure:
    """One lease as its holder sees it.

    Attributes:
        lease_id: Of the lease.
        ttl_s: Seconds it lives without being renewed.
        renewed_s: When the last renewal that succeeded was sent.
        ended: It was revoked, or the cluster said that it is over.
    """

    def __init__(self, lease_id: int, ttl_s: float, sent_s: float) -> None:
        """Begin with a grant.

        Args:
            lease_id: Of the lease.
            ttl_s: Seconds.
            sent_s: When the grant was sent, on the caller's clock.
        """
        self.lease_id = lease_id
        self.ttl_s = ttl_s
        self.renewed_s = sent_s
        self.ended = False

    def remaining_s(self, now_s: float) -> float:
        """Return for how many seconds the lease is believed to live; 0 when it is over."""
        left_s = self.renewed_s + self.ttl_s * BELIEVED_SHARE - now_s
        if left_s <= 0:
            self.ended = True
        return 0.0 if self.ended else left_s

    def renew(self, sent_s: float, now_s: float) -> None:
        """Take note that a renewal succeeded, unless the lease was given up before."""
        if self.remaining_s(now_s) > 0:
            self.renewed_s = max(self.renewed_s, sent_s)

    def keep(self, outside: Outside) -> Steps[None]:
        """Renew the lease until it is over."""
        failures = 0
        while (left_s := self.remaining_s(outside.clock())) > 0:
            if failures:
                pause_s = poll_pause_s(failures, outside.chance())
            else:
                pause_s = self.renewed_s + self.ttl_s * RENEWED_SHARE - outside.clock()
            if pause_s > 0:
                yield Pause(min(pause_s, left_s))
                if (left_s := self.remaining_s(outside.clock())) <= 0:
                    return
            sent_s = outside.clock()
            try:
                # Not until the end: a request that hangs must not be the only try.
                yield Ask(build_lease_keepalive(self.lease_id), min(left_s, self.ttl_s / 4))
            except CommandError as error:
                if error.code == NO_LEASE_CODE:
                    self.ended = True
                    return
                failures += 1
            except RequestError:
                failures += 1
            else:
                failures = 0
                self.renew(sent_s, outside.clock())


def grant(lease_id: int, ttl_ms: int, *, end_s: float, outside: Outside) -> Steps[Tenure]:
    """Grant a lease under an id that nobody else has, so that it can be asked for again.

    Raises:
        RequestError: As of any call.
    """
    first_sent_s = outside.clock()
    unknown: IndefiniteError | None = None
    pauses = 0
    while True:
        sent_s = outside.clock()
        try:
            yield Ask(build_lease_grant(ttl_ms, lease_id=lease_id), max(0.0, end_s - sent_s))
            return Tenure(lease_id, ttl_ms / 1000, sent_s)
        except RequestError as error:
            if unknown is not None and str(error) == LEASE_EXISTS:
                # An earlier request was executed, at the earliest when it was sent.
                return Tenure(lease_id, ttl_ms / 1000, first_sent_s)
            if unknown is None:
                first_sent_s = sent_s
            unknown = still_unknown(unknown, error)
            if outside.clock() >= end_s:
                raise unknown from None
        pauses += 1
        yield Pause(poll_pause_s(pauses, outside.chance()))


def ttl_to_ms(ttl_s: float) -> int:
    """Return a time to live in milliseconds.

    Raises:
        ValueError: It is too short to be renewed in time.
    """
    ttl_ms = int(ttl_s * 1000)
    if ttl_ms < 100:
        raise ValueError("a lease lives for 0.1 seconds or more")
    return ttl_ms

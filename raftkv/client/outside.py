"""What leases and recipes take from outside: a clock and chance.

The clock goes on while the machine is suspended, where the system has such a clock: a
laptop that wakes must not believe in what it held when it fell asleep.
"""

from __future__ import annotations

import random
import secrets
import time

from raftkv.client.leases import LEASE_ID_MAX
from raftkv.client.recipes.claims import MARK_BYTES
from raftkv.client.steps import Outside

_BOOT_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def boot_s() -> float:
    """Return seconds since some moment in the past; never goes back."""
    return time.monotonic() if _BOOT_CLOCK is None else time.clock_gettime(_BOOT_CLOCK)


def new_lease_id() -> int:
    """Return an id that no other lease has."""
    return secrets.randbelow(LEASE_ID_MAX) + 1


def new_mark() -> bytes:
    """Return a value that no other claim writes."""
    return secrets.token_hex(MARK_BYTES // 2).encode()


OUTSIDE = Outside(boot_s, random.SystemRandom().random)

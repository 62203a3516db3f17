"""Holding a key that nobody else holds: what locks, elections and semaphores share.

A key is held by who creates it, in one transaction with the lease it is bound to, and
is free again when that lease ends. The create revision of the key is the fencing
token: it grows with each holder, whatever became of the ones before.

Every claim writes a value of its own, so that a request whose answer was lost can be
sent again: the second one then finds the key held by this very claim. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from raftkv.client.calls import Call
from raftkv.client.commands import Text, build_delex, make_call
from raftkv.client.lease_commands import build_lease_revoke, decide
from raftkv.client.leases import Tenure
from raftkv.client.protocol import Argument, encode_arguments
from raftkv.client.replies import to_bytes, to_integer
from raftkv.client.steps import Ask, Outside, Steps, poll, repeat
from raftkv.errors import IndefiniteError, RequestError

# Behind a failure, the time for one request that may shorten the wait of others.
_FAREWELL_S: Final = 1.0


class Holding(NamedTuple):
    """What a key says about who holds it.

    Attributes:
        value: Of the key.
        token: Its create revision.
        revision: Its modify revision.
    """

    value: bytes
    token: int
    revision: int


# Before the value of a key that says something: no two claims write the same.
MARK_BYTES: Final = 32


def marked(value: Argument, mark: bytes) -> bytes:
    """Return a value like that of no other claim."""
    return mark + encode_arguments((value,))[0]


def unmarked(holding: Holding) -> Holding:
    """Return what the holder says."""
    return holding._replace(value=holding.value[MARK_BYTES:])


def to_holding(reply: Any) -> Holding | None:
    """Take the reply of KV GET."""
    if not reply:
        return None
    pairs = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    return Holding(
        to_bytes(pairs[b"value"]),
        to_integer(pairs[b"create_revision"]),
        to_integer(pairs[b"modify_revision"]),
    )


def read_holding(key: Text) -> Steps[Holding | None]:
    """Look who holds a key."""
    holding: Holding | None = yield Ask(make_call(to_holding, "KV", "GET", key))
    return holding


class Claim:
    """One holder's claim to one of several keys.

    Attributes:
        key: That is held.
        token: Its create revision; grows with each holder of the key.
        tenure: Of the lease, if the claim has one of its own.
    """

    def __init__(
        self, keys: Sequence[Text], value: bytes, lease_id: int, *, own_ttl_ms: int | None,
        request_s_max: float,
    ) -> None:  # fmt: skip
        """Claim nothing yet.

        Args:
            keys: Any one of them will do.
            value: Like that of no other claim.
            lease_id: To bind the key to.
            own_ttl_ms: Of the lease, if it is to be granted together with the key;
                None if it is the caller's.
            request_s_max: Seconds until the outcome of a request has to be known.
        """
        self._keys = keys
        self._value = value
        self._lease_id = lease_id
        self._own_ttl_ms = own_ttl_ms
        self._request_s_max = request_s_max
        self.key: Text = keys[0]
        self.token = 0
        self.tenure: Tenure | None = None

    def take(self, *, end_s: float | None, outside: Outside) -> Steps[bool]:
        """Wait until a key is held, or the time is over.

        Args:
            end_s: When to give up if others hold all keys, on the clock; None for never.
            outside: Clock and chance.

        Returns:
            False when none is held. Where nobody knows whether the last request was
            executed, a key may be held by nobody until the lease ends by itself.

        Raises:
            RequestError: A request was certainly not executed.
        """

        def look() -> Steps[bool | None]:
            key = yield from self._choose(outside)
            return None if key is None else (yield from self._try(key, outside))

        try:
            return (yield from poll(look, end_s=end_s, outside=outside)) is not None
        except IndefiniteError:
            farewell: Call[Any] = build_lease_revoke(self._lease_id)
            if self._own_ttl_ms is None:
                farewell = build_delex(self.key, ifeq=self._value)
            with suppress(RequestError):
                yield Ask(farewell, _FAREWELL_S)
            return False

    def _choose(self, outside: Outside) -> Steps[Text | None]:
        """Return a key to try, or None while others hold all."""
        if len(self._keys) == 1:
            return self._keys[0]
        revisions: list[int] = yield Ask(make_call(_to_integers, "KV", "REVISIONS", *self._keys))
        free = [key for key, one in zip(self._keys, revisions, strict=True) if not one]
        return free[int(outside.chance() * len(free)) % len(free)] if free else None

    def _try(self, key: Text, outside: Outside) -> Steps[bool | None]:
        """Create a key; None if somebody else holds it."""
        write: list[Argument] = ["KV", "SET", key, self._value, "LEASE", self._lease_id]
        taking: list[list[Argument]] = [write]
        if self._own_ttl_ms is not None:
            taking.insert(0, ["KV", "LEASE", "GRANT", self._own_ttl_ms, "ID", self._lease_id])
        self.key = key
        call = decide([(key, "CREATE", "=", 0)], taking, [["KV", "GET", key]])
        sent_s = outside.clock()
        # Sent again it finds its own value, if the first one was executed.
        decided = yield from repeat(call, end_s=sent_s + self._request_s_max, outside=outside)
        token = decided.revision
        if not decided.holds:
            holding = to_holding(decided.replies[0])
            if holding is None or holding.value != self._value:
                return None
            token = holding.token
        self.token = token
        if self._own_ttl_ms is not None:
            # Of several requests the first one may have granted it.
            self.tenure = Tenure(self._lease_id, self._own_ttl_ms / 1000, sent_s)
        return True

    def give_back(self, *, end_s: float, outside: Outside) -> Steps[bool]:
        """Delete the key, if it is still that of this claim, and revoke a lease of its own.

        Returns:
            False if it was not.
        """
        revoking: list[list[Argument]] = []
        if self.tenure is not None:
            revoking.append(["KV", "LEASE", "REVOKE", self._lease_id])
        compares = [(self.key, "CREATE", "=", self.token)]
        call = decide(compares, [["DEL", self.key], *revoking], revoking)
        decided = yield from repeat(call, end_s=end_s, outside=outside)
        return decided.holds

    def change(self, value: Argument) -> Steps[bool]:
        """Write another value, if the key is still that of this claim; it keeps the lease."""
        write: list[Argument] = ["SET", self.key, value, "KEEPTTL"]
        decided = yield Ask(decide([(self.key, "CREATE", "=", self.token)], [write]))
        return bool(decided.holds)


def _to_integers(reply: Any) -> list[int]:
    return [to_integer(one) for one in reply]

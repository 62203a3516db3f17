"""Builders of the calls about leases, and of KV TXN, which recipes decide by.

As `client.commands`: a builder `build_x` becomes the method `x` of each client and of
pipelines, and owns the documentation. Times on the wire are milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from raftkv.client.calls import Call
from raftkv.client.commands import Text, make_call
from raftkv.client.protocol import Argument
from raftkv.client.replies import decoded, to_integer
from raftkv.errors import ProtocolError, RequestError


def build_lease_grant(ttl_ms: int, *, lease_id: int | None = None) -> Call[int]:
    """Grant a lease and return its id; `lease` of the client renews it by itself.

    Args:
        ttl_ms: Milliseconds it lives without being renewed, from 100.
        lease_id: A number from 1 to 2**53 - 1; None for a random one.
    """
    options: list[Argument] = [] if lease_id is None else ["ID", lease_id]
    return make_call(to_integer, "KV", "LEASE", "GRANT", ttl_ms, *options)


def build_lease_keepalive(lease_id: int) -> Call[int]:
    """Renew a lease and return the milliseconds it has to live."""
    return make_call(to_integer, "KV", "LEASE", "KEEPALIVE", lease_id)


def build_lease_revoke(lease_id: int) -> Call[int]:
    """End a lease and all keys bound to it, and return how many these are."""
    return make_call(to_integer, "KV", "LEASE", "REVOKE", lease_id)


def build_lease_ttl(lease_id: int, *, keys: bool = False) -> Call[dict[str, Any] | None]:
    """Describe a lease: `id`, `ttl_ms`, `remaining_ms`, `key_count`; None if it is over.

    Args:
        lease_id: Of the lease.
        keys: True to get the `keys` bound to it as well.
    """
    words: list[Argument] = ["KV", "LEASE", "TTL", lease_id, *(["KEYS"] if keys else [])]
    return make_call(_to_facts, *words, holds_text=True)


def build_lease_list(*, after: int | None = None, count: int | None = None) -> Call[list[int]]:
    """Return the ids of leases in ascending order, one page of at most 1000.

    Args:
        after: Only ids above this one: the last of the page before.
        count: At most so many.
    """
    options: list[Argument] = [] if after is None else ["AFTER", after]
    options += [] if count is None else ["COUNT", count]
    return make_call(_to_integers, "KV", "LEASE", "LIST", *options)


def build_lease_attach(lease_id: int, *keys: Text) -> Call[int]:
    """Bind keys to a lease and return how many of them exist."""
    return make_call(to_integer, "KV", "LEASE", "ATTACH", lease_id, *keys)


def build_lease_detach(*keys: Text) -> Call[int]:
    """Release keys from their leases and return how many had one."""
    return make_call(to_integer, "KV", "LEASE", "DETACH", *keys)


class Decided(NamedTuple):
    """Outcome of a KV TXN.

    Attributes:
        holds: Whether all compares held, so that the first list was executed.
        replies: One for each command of the list that was.
        revision: Of the store behind it.
    """

    holds: bool
    replies: list[Any]
    revision: int


Compare = tuple[Text, str, str, Argument]
Words = Sequence[Argument]


def decide(
    compares: Sequence[Compare], chosen: Sequence[Words], others: Sequence[Words] = ()
) -> Call[Decided]:
    """Return the call that executes one or the other list, as compares decide.

    Args:
        compares: Key, target (VALUE, EXISTS, CREATE, MODIFY, VERSION), comparison, operand.
        chosen: The words of each command for when all hold.
        others: Of each command for when one does not.
    """
    words: list[Argument] = ["KV", "TXN", len(compares)]
    for compare in compares:
        words += compare
    for commands in (chosen, others):
        words.append(len(commands))
        for command in commands:
            words += (len(command), *command)
    return make_call(_to_decided, *words)


def _to_decided(reply: Any) -> Decided:
    if not isinstance(reply, list) or len(reply) != 3 or not isinstance(reply[1], list):
        raise ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")
    for one in reply[1]:
        if isinstance(one, RequestError):
            raise one
    return Decided(to_integer(reply[0]) != 0, reply[1], to_integer(reply[2]))


def _to_facts(reply: Any) -> dict[str, Any] | None:
    if reply is None or reply == []:
        return None
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {decoded(name): value for name, value in pairs}


def _to_integers(reply: Any) -> list[int]:
    if not isinstance(reply, list):
        raise ProtocolError(f"a reply of an unexpected kind: {reply!r:.200}")
    return [to_integer(item) for item in reply]

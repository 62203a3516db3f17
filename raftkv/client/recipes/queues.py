"""A queue whose items are each held by one worker at a time, and worked on at least once.

Items are the elements of a list, each behind an id of its own. A worker takes one by
holding the key named after the id, bound to its lease; done, it removes the item and
the key together. A worker that dies loses the key with its lease, and somebody else
takes the item: nothing has to be put back. So an item may be worked on again; that it
is done is said by one worker, who held it until then.

The order is that of putting, as far as items are free. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from raftkv.client.collection_commands import build_lrange
from raftkv.client.commands import build_delex, make_call
from raftkv.client.lease_commands import decide
from raftkv.client.policy import Pause
from raftkv.client.protocol import Argument
from raftkv.client.recipes.claims import read_holding
from raftkv.client.steps import Ask, Outside, Steps, poll, poll_pause_s, repeat, still_unknown
from raftkv.errors import IndefiniteError, RequestError

# So many items from the front are looked at; more workers than that wait.
_LOOKED_AT: Final = 64
ID_BYTES: Final = 16


class Taken(NamedTuple):
    """An item in a worker's hands.

    Attributes:
        value: What was put.
        element: As the list has it.
        claim_key: Key that is held meanwhile.
        token: Its create revision: a fencing token.
    """

    value: bytes
    element: bytes
    claim_key: bytes
    token: int


class QueueSteps:
    """The conversations about one queue."""

    def __init__(self, name: str, *, request_s_max: float, outside: Outside) -> None:
        """Talk about a queue.

        Args:
            name: Key of its list.
            request_s_max: Seconds until the outcome of a request has to be known.
            outside: Clock and chance.
        """
        self._list_key = name
        self._claim_prefix = name.encode() + b"/claim/"
        self._request_s_max = request_s_max
        self._outside = outside

    def take(self, lease_id: int, mark: bytes, *, end_s: float | None) -> Steps[Taken | None]:
        """Wait for an item that nobody holds, and hold it.

        Args:
            lease_id: Of the worker.
            mark: Like that of no other call.
            end_s: When to give up, on the clock; None for never.

        Raises:
            RequestError: As of any call; what may be held is free when the lease ends.
        """

        def look() -> Steps[Taken | None]:
            elements: list[bytes] = yield Ask(build_lrange(self._list_key, 0, _LOOKED_AT - 1))
            free = yield from self._free(elements)
            for element in free:
                taken = yield from self._try(element, lease_id, mark)
                if taken is not None:
                    return taken
            return None

        return (yield from poll(look, end_s=end_s, outside=self._outside))

    def _free(self, elements: Sequence[bytes]) -> Steps[list[bytes]]:
        """Return the elements that nobody holds."""
        if not elements:
            return []
        keys = [self._claim_key(element) for element in elements]
        revisions: list[int] = yield Ask(make_call(list, "KV", "REVISIONS", *keys))
        return [one for one, held in zip(elements, revisions, strict=True) if not held]

    def _try(self, element: bytes, lease_id: int, mark: bytes) -> Steps[Taken | None]:
        claim_key = self._claim_key(element)
        write: list[Argument] = ["KV", "SET", claim_key, mark, "LEASE", lease_id]
        find: list[Argument] = ["LPOS", self._list_key, element]
        call = decide([(claim_key, "CREATE", "=", 0)], [find, write], [find, ["GET", claim_key]])
        decided = yield from self._repeat(call)
        position, held_by = decided.replies
        if position is None:
            # Somebody has done it since it was looked at.
            yield Ask(build_delex(claim_key, ifeq=mark))
        elif decided.holds:
            return Taken(element[ID_BYTES:], element, claim_key, decided.revision)
        elif held_by == mark:
            # An earlier request was executed, and its answer lost.
            holding = yield from read_holding(claim_key)
            if holding is not None:
                return Taken(element[ID_BYTES:], element, claim_key, holding.token)
        return None

    def done(self, taken: Taken) -> Steps[bool]:
        """Remove an item, if this worker still holds it.

        Returns:
            False when it was lost before: somebody else works on it, or has done it.

        Raises:
            RequestError: As of any call.
        """
        find: list[Argument] = ["LPOS", self._list_key, taken.element]
        call = decide(
            [(taken.claim_key, "CREATE", "=", taken.token)],
            [["LREM", self._list_key, 0, taken.element], ["DEL", taken.claim_key]],
            [find],
        )
        end_s = self._outside.clock() + self._request_s_max
        unknown: IndefiniteError | None = None
        pauses = 0
        while True:
            try:
                decided = yield Ask(call, max(0.0, end_s - self._outside.clock()))
                # Behind a lost answer, what is gone was removed by the request before.
                return bool(decided.holds or (pauses and decided.replies[0] is None))
            except RequestError as error:
                unknown = still_unknown(unknown, error)
                if self._outside.clock() >= end_s:
                    raise unknown from None
            pauses += 1
            yield Pause(poll_pause_s(pauses, self._outside.chance()))

    def put_back(self, taken: Taken) -> Steps[bool]:
        """Let others take an item, if this worker still holds it."""
        compares = [(taken.claim_key, "CREATE", "=", taken.token)]
        decided = yield from self._repeat(decide(compares, [["DEL", taken.claim_key]]))
        return bool(decided.holds)

    def _repeat(self, call: Any) -> Steps[Any]:
        end_s = self._outside.clock() + self._request_s_max
        return (yield from repeat(call, end_s=end_s, outside=self._outside))

    def _claim_key(self, element: bytes) -> bytes:
        return self._claim_prefix + element[:ID_BYTES]

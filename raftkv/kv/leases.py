"""Leases: who holds which keys, and until when in lease time.

A lease is a time to live that many keys share and that its owner renews. Its
deadline is in lease time, which counts only what passed while some leader led
(docs/adr: two replicated times), so that an election never shortens it. A key is
bound to one lease at most; it is lost for every command on every node exactly when
the deadline of its lease is at or before the lease time of the batch. A lease that
is revoked has the deadline 0.

Owns leases and bindings, and how to take their changes back; knows neither values
nor revisions. `keyspace` removes the keys of a dead lease in slices; until they
are gone the lease is kept, and takes no part in anything. Pure.

Invariants: a bound key is in its bucket's dict and in the set of its lease, and
nowhere else; nothing depends on the order of a set.
"""

from __future__ import annotations

from heapq import nsmallest
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from sortedcontainers import SortedList

# The greatest number that every client keeps exactly, also one that knows only floats.
LEASE_ID_MAX: Final = 2**53 - 1
TTL_MS_MIN: Final = 100
TTL_MS_MAX: Final = 365 * 24 * 3600 * 1000

_REVOKED_MS: Final = 0
# What an image can hold.
_TIME_MS_MAX: Final = 2**63 - 1

# By bucket of the key, as the entries: key -> id of its lease.
Bindings: TypeAlias = list[dict[bytes, int]]
LeaseKeys: TypeAlias = dict[int, set[bytes]]


class Lease(NamedTuple):
    """One lease.

    Attributes:
        ttl_ms: What a renewal gives.
        deadline_ms: Lease time at which it is dead; 0 when it was revoked.
    """

    ttl_ms: int
    deadline_ms: int


def is_possible(lease_id: int, lease: Lease) -> bool:
    """Whether numbers are in the range of those that an image can hold."""
    times_fit = 0 < lease.ttl_ms <= _TIME_MS_MAX and 0 <= lease.deadline_ms <= _TIME_MS_MAX
    return 0 < lease_id <= LEASE_ID_MAX and times_fit


class Lost(NamedTuple):
    """How many keys were dead for their lease only, as of a moment.

    Attributes:
        lease_time_ms: Of the moment.
        log_time_ms: Of the moment.
        keys: How many, of those that are there now.
        mortal: How many of them have a deadline, too.
    """

    lease_time_ms: int
    log_time_ms: int
    keys: int
    mortal: int


class _Rebound(NamedTuple):
    """Undo: a key was bound to this lease, or to none (0)."""

    number: int
    key: bytes
    lease_id: int


class _Changed(NamedTuple):
    """Undo: a lease was this, or was not there."""

    lease_id: int
    lease: Lease | None


class _Released(NamedTuple):
    """Undo: all keys were released at once."""

    bindings: Bindings
    keys: LeaseKeys
    bound: int


class LeaseView:
    """All leases and bindings as they were at one moment, while changes go on.

    Attributes:
        held: The leases by id.
        ids: In ascending order.
        bindings: Of the bucket taken last: key -> id of its lease.
        lease_time_ms: Of that moment.
    """

    __slots__ = ("_bindings", "_leases", "_next", "_replaced", "bindings", "held", "ids",
                 "lease_time_ms")  # fmt: skip

    def __init__(self, leases: Leases, lease_time_ms: int) -> None:
        self._leases = leases
        # A view of none costs nothing: most stores have no key with a lease.
        self._bindings = leases.bindings if leases.bound else []
        self._next = 0
        self._replaced: dict[int, dict[bytes, int]] = {}
        self.held = leases.held.copy()
        self.ids = list(leases.ids)
        self.bindings: dict[bytes, int] = {}
        self.lease_time_ms = lease_time_ms

    def note(self, bindings: Bindings, number: int, key: bytes, before: int) -> None:
        """Remember a binding that is about to be replaced, unless it is newer than the view."""
        if number >= self._next and bindings is self._bindings:
            self._replaced.setdefault(number, {}).setdefault(key, before)

    def take_next(self) -> None:
        """Go on to the next bucket: `bindings` are those that it had."""
        if not self._bindings:
            return
        number = self._next
        self._next = number + 1
        self.bindings = self._bindings[number].copy()
        for key, before in self._replaced.pop(number, {}).items():
            if before:
                self.bindings[key] = before
            else:
                self.bindings.pop(key, None)

    def lost_keys(self) -> list[bytes]:
        """Return the keys of the bucket whose lease was dead."""
        return [
            key
            for key, lease_id in self.bindings.items()
            if self.held[lease_id].deadline_ms <= self.lease_time_ms
        ]

    def close(self) -> None:
        """Let go of everything; harmless when repeated."""
        self._leases.views = [view for view in self._leases.views if view is not self]
        self._bindings = []
        self._replaced.clear()


class Leases:
    """All leases of one store.

    Attributes:
        held: By id, dead ones included until their keys are gone.
        ids: Of these, in ascending order.
        due: (deadline, id) of each.
        keys: By id, of leases that have any.
        bindings: The same by key.
        bound: How many keys have a lease; falsy in most stores.
        undo: Changes of the command being executed, oldest first.
        counted: The lost keys as of an earlier moment, if they were counted; kept by
            `keyspace`.
        views: The open ones.
    """

    __slots__ = ("bindings", "bound", "counted", "due", "held", "ids", "keys", "undo", "views")

    def __init__(self, bucket_count: int) -> None:
        # Why not a SortedDict: copying 50,000 leases for a view would take ten milliseconds.
        self.held: dict[int, Lease] = {}
        self.ids: SortedList[int] = SortedList()
        self.due: SortedList[tuple[int, int]] = SortedList()
        self.keys: LeaseKeys = {}
        self.bindings: Bindings = [{} for _ in range(bucket_count)]
        self.bound = 0
        self.undo: list[_Rebound | _Changed | _Released] = []
        self.counted: Lost | None = None
        self.views: list[LeaseView] = []

    # ------------------------------------------------------------ reading

    def find(self, lease_id: int, lease_time_ms: int) -> Lease | None:
        """Return a lease that lives."""
        lease = self.held.get(lease_id)
        return lease if lease is not None and lease.deadline_ms > lease_time_ms else None

    def keys_of(self, lease_id: int) -> set[bytes]:
        """Return the keys bound to a lease; not to be changed."""
        return self.keys.get(lease_id, set())

    def lease_of(self, number: int, key: bytes) -> int:
        """Return the id of the lease a key is bound to, 0 for none."""
        return self.bindings[number].get(key, 0)

    def is_lost(self, number: int, key: bytes, lease_time_ms: int) -> bool:
        """Whether a key is bound to a lease that is dead.

        Args:
            number: Bucket of the key.
            key: Of the keyspace, there or not.
            lease_time_ms: Of the batch.
        """
        lease_id = self.bindings[number].get(key)
        return lease_id is not None and self.held[lease_id].deadline_ms <= lease_time_ms

    def has_dead(self, lease_time_ms: int) -> bool:
        """Whether a lease that is held is dead."""
        due = self.due
        return bool(due) and due[0][0] <= lease_time_ms

    def dead_ids(self, lease_time_ms: int, after_ms: int = -1) -> list[int]:
        """Return the leases that are dead, in the order in which their keys are removed.

        Args:
            lease_time_ms: Of the batch.
            after_ms: Those only that were not dead at this lease time.
        """
        first, last = (after_ms + 1, 0), (lease_time_ms, LEASE_ID_MAX)
        return [lease_id for _, lease_id in self.due.irange(first, last)]

    def first_keys(self, lease_id: int, count: int) -> list[bytes]:
        """Return the first keys of a lease, in their order."""
        keys = self.keys_of(lease_id)
        # Each is the faster one there, and takes some milliseconds at ten thousand keys.
        return nsmallest(count, keys) if count * 4 < len(keys) else sorted(keys)[:count]

    def ids_after(self, lease_id: int, count: int, lease_time_ms: int) -> list[int]:
        """Return the ids of living leases above `lease_id`, ascending, at most `count`."""
        above = self.ids.irange(lease_id, inclusive=(False, True))
        living = (one for one in above if self.held[one].deadline_ms > lease_time_ms)
        return list(islice(living, count))

    def view(self, lease_time_ms: int) -> LeaseView:
        """Freeze everything as it is; the caller closes the view."""
        view = LeaseView(self, lease_time_ms)
        self.views = [*self.views, view]
        return view

    # ------------------------------------------------------------ changing

    def set(self, lease_id: int, lease: Lease) -> None:
        """Create a lease or give it another deadline.

        Raises:
            TypeError: A faulty leader has put something else into the log.
        """
        if {*map(type, (lease_id, *lease))} != {int} or not lease.deadline_ms:
            raise TypeError("a lease of a wrong type")
        if not is_possible(lease_id, lease):
            raise TypeError("a lease that cannot be")
        self._change(lease_id, lease)

    def load(self, lease_id: int, lease: Lease) -> None:
        """Take a lease of an image, which may be revoked."""
        self._change(lease_id, lease)

    def revoke(self, lease_id: int) -> None:
        """Let a lease be dead from now on."""
        self._change(lease_id, Lease(self.held[lease_id].ttl_ms, _REVOKED_MS))

    def drop(self, lease_id: int) -> None:
        """Forget a lease that has no keys."""
        self._change(lease_id, None)

    def bind(self, number: int, key: bytes, lease_id: int) -> None:
        """Bind a key that exists to a lease, instead of any other."""
        self._rebind(number, key, lease_id)

    def unbind(self, number: int, key: bytes) -> None:
        """Release a key; harmless where it has no lease."""
        if key in self.bindings[number]:
            self._rebind(number, key, 0)

    def release_all(self) -> tuple[Bindings, LeaseKeys]:
        """Release every key at once.

        Returns:
            What has to be freed in pieces, none of which is in use when no view is open.
        """
        if not self.bound:
            return [], {}
        before = _Released(self.bindings, self.keys, self.bound)
        self.undo.append(before)
        self.bindings = [{} for _ in range(len(before.bindings))]
        self.keys = {}
        self.bound = 0
        self.counted = None
        return before.bindings, before.keys

    def roll_back(self) -> None:
        """Take back all changes noted in `undo`."""
        undo, self.undo = self.undo, []
        for one in reversed(undo):
            if isinstance(one, _Rebound):
                self._rebind(*one)
            elif isinstance(one, _Changed):
                self._change(*one)
            else:
                self.bindings, self.keys, self.bound = one
        self.undo = undo
        undo.clear()
        self.counted = None

    def _change(self, lease_id: int, lease: Lease | None) -> None:
        before = self.held.get(lease_id)
        self.undo.append(_Changed(lease_id, before))
        if before is not None:
            self.due.remove((before.deadline_ms, lease_id))
        elif lease is not None:
            self.ids.add(lease_id)
        if lease is None:
            if self.held.pop(lease_id, None) is not None:
                self.ids.remove(lease_id)
        else:
            self.held[lease_id] = lease
            self.due.add((lease.deadline_ms, lease_id))

    def _rebind(self, number: int, key: bytes, lease_id: int) -> None:
        bucket = self.bindings[number]
        before = bucket.get(key, 0)
        if before == lease_id:
            return
        for view in self.views:
            view.note(self.bindings, number, key, before)
        self.undo.append(_Rebound(number, key, before))
        if before:
            keys = self.keys[before]
            keys.remove(key)
            if not keys:
                del self.keys[before]
        if lease_id:
            bucket[key] = lease_id
            self.keys.setdefault(lease_id, set()).add(key)
        else:
            del bucket[key]
        self.bound += bool(lease_id) - bool(before)


def free_keys(keys: LeaseKeys, count: int) -> int:
    """Let go of the keys of some leases that nobody uses; return how much that was."""
    freed = 0
    while keys and freed < count:
        freed += 1 + len(keys.popitem()[1])
    return freed

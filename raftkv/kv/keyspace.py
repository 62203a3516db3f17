"""The key index: where keys, deadlines and revisions live.

Keys are spread over 1024 dicts by Redis' own CRC16, so that no piece of work on
the whole store - an image, a scan, a flush - has to touch more than about a
thousand keys of a million at once (docs/adr: the store's index). A frozen view
copies nothing when it is made: a write notes the entry it replaces for every
open view that has yet to read that bucket.

Invariants: an entry with a deadline is in `deadlines` exactly once and no other
pair is there; nothing depends on the order of the keys in a dict. A key with a
lease is dead when its deadline has come or its lease is dead, whichever is first.

Who calls: the handlers of this package during `KvStore.apply` and reads. Every
change goes through `put`, `remove`, `flush` or the expiry methods, which note
how to undo it, until `record` makes history of it; only a run of plain SETs
writes the buckets and the history itself.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Container
from typing import Any, Final, TypeAlias

from sortedcontainers import SortedList

from raftkv.kv.dataset import UNLIMITED, bytes_of
from raftkv.kv.entries import Bucket as Bucket
from raftkv.kv.entries import Deadlines
from raftkv.kv.entries import Entry as Entry
from raftkv.kv.entries import Value as Value
from raftkv.kv.garbage import Garbage
from raftkv.kv.history import DELETE, EXPIRE, PUT, Chunk, History
from raftkv.kv.leases import Leases, LeaseView, Lost
from raftkv.kv.sessions import Sessions, SessionsView

BUCKET_COUNT: Final = 1024
# The 16384 slots of Redis Cluster divided by 1024 buckets.
SLOT_SHIFT: Final = 4
BUCKET_MASK: Final = BUCKET_COUNT - 1
# What a view should keep at most that writes have replaced: entries, of a few hundred bytes
# each besides the value; bytes of strings; and changes with collections that cannot be freed
# while one is open, of which each holds about a kilobyte that is not in the next one, too.
NOTED_ENTRIES_MAX: Final = 3072
NOTED_BYTES_MAX: Final = 8 * 1024 * 1024
WITHHELD_CHANGES_MAX: Final = 4096

# How to take one change back: (key, entry before, revision of its own if it was removed
# because it was dead, else 0), or (None, what a flush replaced, 0).
_Undo: TypeAlias = tuple[bytes | None, Any, int]


def bucket_of(key: bytes) -> int:
    """Return the number of the bucket a key belongs to, 0 to 1023."""
    return crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK


def _string_bytes(entry: Entry | None) -> int:
    """Return what a value holds by itself; versions of a collection share most of it."""
    return len(entry[0]) if entry is not None and entry[0].__class__ is bytes else 0


class View:
    """All keys as they were at one moment, while writes go on.

    Read the buckets in order, each once; what a bucket held at that moment is
    its dict with the noted entries put back.

    Attributes:
        noted: Number of entries kept for it alone, which writes have replaced.
        noted_bytes: Of the strings among their values.
        log_time_ms: Of that moment.
        leases: As they were at that moment.
        sessions: As they were at that moment.
    """

    __slots__ = (
        "_buckets",
        "_keyspace",
        "_next_bucket",
        "_replaced",
        "leases",
        "log_time_ms",
        "noted",
        "noted_bytes",
        "sessions",
    )

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._buckets = keyspace.buckets
        self._next_bucket = 0
        self._replaced: dict[int, dict[bytes, Entry | None]] = {}
        self.noted = self.noted_bytes = 0
        self.log_time_ms = keyspace.log_time_ms
        self.leases: LeaseView = keyspace.leases.view(keyspace.lease_time_ms)
        self.sessions: SessionsView = keyspace.sessions.view()

    def note(self, buckets: list[Bucket], number: int, key: bytes, before: Entry | None) -> None:
        """Remember an entry that is about to be replaced, unless it is newer than the view."""
        if number >= self._next_bucket and buckets is self._buckets:
            replaced = self._replaced.setdefault(number, {})
            if key not in replaced:
                replaced[key] = before
                self.noted += 1
                self.noted_bytes += _string_bytes(before)

    def take_next(self) -> Bucket:
        """Return the next of the 1024 buckets as it was; a copy."""
        number = self._next_bucket
        bucket = self._buckets[number].copy()
        replaced = self._replaced.pop(number, {})
        self.noted -= len(replaced)
        for key, before in replaced.items():
            if before is None:
                bucket.pop(key, None)
            else:
                bucket[key] = before
                self.noted_bytes -= _string_bytes(before)
        self._next_bucket = number + 1
        self.leases.take_next()
        return bucket

    @property
    def holds_much(self) -> bool:
        """Whether it is open and keeps more in memory beside the store than it should."""
        return bool(self._buckets) and (
            self.noted >= NOTED_ENTRIES_MAX
            or self.noted_bytes >= NOTED_BYTES_MAX
            or len(self._keyspace.garbage.withheld) >= WITHHELD_CHANGES_MAX
        )

    def take_next_held(self) -> Bucket:
        """Return the next bucket without the keys whose lease was dead; a copy."""
        bucket = self.take_next()
        if self.leases.bindings:
            for key in self.leases.lost_keys():
                del bucket[key]
        return bucket

    def frontier(self, buckets: list[Bucket]) -> int:
        """Return the first bucket of which writes have to be noted; 1024 if of none."""
        return self._next_bucket if buckets is self._buckets else BUCKET_COUNT

    def leave(self, chunks: list[Chunk]) -> None:
        """Let the changes be freed in slices that were frozen with it and not read."""
        self._keyspace.garbage.unread += chunks

    def close(self) -> None:
        """Let go of everything; harmless when repeated."""
        self._keyspace.views = [view for view in self._keyspace.views if view is not self]
        self._next_bucket = BUCKET_COUNT
        if self._buckets and self._buckets is not self._keyspace.buckets:
            # A flush has left them to this view, and they are the whole store.
            self._keyspace.garbage.leave_flushed(self._buckets, SortedList(), [], {})
        self._buckets = []
        self._replaced.clear()
        self.noted = self.noted_bytes = 0
        self.leases.close()
        self.sessions.close()


class Keyspace:
    """Keys, values, deadlines and revisions of one store.

    Attributes:
        buckets: The key index.
        deadlines: (deadline, key) of every key that has one.
        leases: Those granted, and the keys bound to them.
        revision: Number of the last change.
        log_time_ms: Keys with a deadline at or before it are dead.
        lease_time_ms: Lease time after the last batch.
        key_order: All keys in order, a list for each bucket, and the revision up to which
            that is so; kept by `key_order`.
        orders: Hashes and keys of recently scanned buckets, sorted; kept by `scan`.
        expired: Keys removed by expiry since the batch began.
        dataset_bytes: What all keys count for, as `dataset` says.
        dataset_bytes_max: The limit of it that the log has set; 0 for none.
        dataset_bound: The same limit; `UNLIMITED` for none.
        copied_bytes: Bytes of values copied into results since the batch, or the
            run of reads, began.
        at_checkpoint: The batch has asked all nodes to compare their images behind it.
        awaited: Keys that clients of this node wait for; kept by them.
        ready: Those of them that have got a collection, until somebody takes note.
        undo: Changes of the command being executed, oldest first; see `record`.
        history: The last changes.
        random_state: What the next choice of a write starts from.
        garbage: What flushes, large values and the history left behind, freed by `free_slice`.
        sessions: Of clients whose writes are executed once.
        views: The open ones.
    """

    __slots__ = (
        "at_checkpoint",
        "awaited",
        "buckets",
        "copied_bytes",
        "dataset_bound",
        "dataset_bytes",
        "dataset_bytes_max",
        "deadlines",
        "expired",
        "garbage",
        "history",
        "key_order",
        "lease_time_ms",
        "leases",
        "log_time_ms",
        "orders",
        "random_state",
        "ready",
        "revision",
        "sessions",
        "undo",
        "views",
    )

    def __init__(self) -> None:
        self.buckets: list[Bucket] = [{} for _ in range(BUCKET_COUNT)]
        self.deadlines: Deadlines = SortedList()
        self.leases = Leases(BUCKET_COUNT)
        self.revision = 0
        self.log_time_ms = 0
        self.lease_time_ms = 0
        self.key_order: tuple[int, list[list[bytes]]] | None = None
        self.orders: dict[int, tuple[list[int], list[bytes]]] = {}
        self.expired: list[bytes] = []
        self.dataset_bytes = 0
        self.dataset_bytes_max = 0
        self.dataset_bound = UNLIMITED
        self.copied_bytes = 0
        self.at_checkpoint = False
        self.undo: list[_Undo] = []
        self.history = History()
        self.random_state = 0
        self.garbage = Garbage()
        self.sessions = Sessions()
        self.views: list[View] = []
        self.awaited: Container[bytes] = ()
        self.ready: dict[bytes, None] = {}

    # ------------------------------------------------------------ reading

    def find(self, key: bytes) -> Entry | None:
        """Return the entry of a live key, without changing anything."""
        number = crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK
        entry = self.buckets[number].get(key)
        if entry is not None and (
            0 < entry[1] <= self.log_time_ms
            or (self.leases.bound and self.leases.is_lost(number, key, self.lease_time_ms))
        ):
            return None
        return entry

    def held(self, key: bytes) -> Entry | None:
        """Return what is held of a key, also if it is dead."""
        return self.buckets[bucket_of(key)].get(key)

    def entry_count(self) -> int:
        """Return the number of keys held, dead ones included."""
        return sum(map(len, self.buckets))

    def key_count(self) -> int:
        """Return the number of live keys."""
        return self.entry_count() - self._dead_count() - self._lost_counts()[0]

    def expiring_count(self) -> int:
        """Return the number of live keys that have a deadline."""
        return len(self.deadlines) - self._dead_count() - self._lost_counts()[1]

    def _dead_count(self) -> int:
        return self.deadlines.bisect_left((self.log_time_ms + 1, b"")) if self.deadlines else 0

    def _lost_counts(self) -> tuple[int, int]:
        """Return how many keys are dead for their lease only, and how many of them may expire.

        Goes on from the last count: all of them are too many to be counted for each
        command of a batch.
        """
        leases = self.leases
        if not leases.bound or not leases.has_dead(self.lease_time_ms):
            return 0, 0
        before = leases.counted or Lost(-1, self.log_time_ms, 0, 0)
        lost, mortal = before.keys, before.mortal
        for lease_id in leases.dead_ids(self.lease_time_ms, before.lease_time_ms):
            more, more_mortal = self._count_keys(lease_id, before.log_time_ms)
            lost += more
            mortal += more_mortal
        first, end = (before.log_time_ms + 1, b""), (self.log_time_ms + 1, b"")
        for _, key in self.deadlines.irange(first, end, inclusive=(True, False)):
            if leases.is_lost(bucket_of(key), key, self.lease_time_ms):
                lost -= 1
                mortal -= 1
        leases.counted = Lost(self.lease_time_ms, self.log_time_ms, lost, mortal)
        return lost, mortal

    def _count_keys(self, lease_id: int, log_time_ms: int) -> tuple[int, int]:
        """Return how many keys of a lease have no deadline that was past, or none at all."""
        lost = mortal = 0
        for key in self.leases.keys_of(lease_id):
            deadline_ms = self.buckets[bucket_of(key)][key][1]
            if not 0 < deadline_ms <= log_time_ms:
                lost += 1
                mortal += deadline_ms > 0
        return lost, mortal

    def lost_keys(self) -> frozenset[bytes]:
        """Return the keys that are dead for their lease, until they are removed."""
        leases = self.leases
        if not leases.bound or not leases.has_dead(self.lease_time_ms):
            return frozenset()
        return frozenset().union(*map(leases.keys_of, leases.dead_ids(self.lease_time_ms)))

    def view(self) -> View:
        """Freeze all keys as they are; the caller closes the view."""
        view = View(self)
        self.views = [*self.views, view]
        return view

    # ------------------------------------------------------------ changing

    def find_for_write(self, key: bytes) -> Entry | None:
        """Return the entry of a live key; a dead one is removed under its own revision."""
        number = crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK
        entry = self.buckets[number].get(key)
        if entry is not None and (
            0 < entry[1] <= self.log_time_ms
            or (self.leases.bound and self.leases.is_lost(number, key, self.lease_time_ms))
        ):
            self.revision += 1
            self._expire(key)
            return None
        return entry

    def put(
        self, key: bytes, value: Value, deadline_ms: int, revision: int, *, shares: bool = False
    ) -> None:
        """Create or replace a key.

        Call `find_for_write` before: a dead key is not to be replaced, but removed first.

        Args:
            key: Any bytes.
            value: Immutable.
            deadline_ms: Log time at which the key is dead, or 0 for never.
            revision: Of the command; the caller stores it as `revision` when done.
            shares: The new value shares its parts with the old one.

        Raises:
            TypeError: A faulty leader has put another type into the log.
        """
        if value is None or value.__class__ is int or deadline_ms.__class__ is not int:
            raise TypeError("a value or deadline of a wrong type")
        number = crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK
        bucket = self.buckets[number]
        old = bucket.get(key)
        size = bytes_of(key, value, deadline_ms)
        if self.views:
            self.note(number, key, old)
        self.undo.append((key, old, 0))
        if value.__class__ is not bytes and key in self.awaited:
            self.ready[key] = None
        if old is None:
            bucket[key] = (value, deadline_ms, revision, revision, 1)
            self.dataset_bytes += size
            if self.orders:
                self.orders.pop(number, None)
            if deadline_ms:
                self.deadlines.add((deadline_ms, key))
        else:
            bucket[key] = (value, deadline_ms, old[2], revision, old[4] + 1)
            self.dataset_bytes += size - bytes_of(key, old[0], old[1])
            if not shares and type(old[0]) is not bytes and old[0] is not value:
                self.garbage.discard(old[0])
            if old[1] != deadline_ms:
                if old[1]:
                    self.deadlines.remove((old[1], key))
                if deadline_ms:
                    self.deadlines.add((deadline_ms, key))

    def bind(self, key: bytes, lease_id: int) -> None:
        """Bind a live key to a lease that lives, instead of any other."""
        self.leases.bind(bucket_of(key), key, lease_id)

    def revoke(self, lease_id: int) -> None:
        """Let a lease that lives be dead from now on."""
        counted = self.leases.counted
        self.leases.revoke(lease_id)
        if counted is not None:
            lost, mortal = self._count_keys(lease_id, counted.log_time_ms)
            self.leases.counted = counted._replace(
                keys=counted.keys + lost, mortal=counted.mortal + mortal
            )

    def release(self, key: bytes) -> None:
        """Take a key from its lease, if it has one: whoever replaces a whole value calls this."""
        if self.leases.bound:
            self.leases.unbind(bucket_of(key), key)

    def remove(self, key: bytes, *, keeps_value: bool = False) -> None:
        """Remove a key that exists; `keeps_value` if its value goes to another key."""
        self._remove(key, 0, keeps_value=keeps_value)

    def flush(self) -> int:
        """Remove every key at once; what they occupied is freed by `free_slice`.

        Returns:
            How many entries there were, dead ones included.
        """
        count = self.entry_count()
        if count:
            before = (self.buckets, self.deadlines, self.dataset_bytes)
            self.undo.append((None, before, 0))
            bindings, lease_keys = self.leases.release_all()
            # Copies of the bindings: open views go on reading those replaced.
            self.garbage.leave_flushed(self.buckets, self.deadlines, list(bindings), lease_keys)
            self.buckets = [{} for _ in range(BUCKET_COUNT)]
            self.deadlines = SortedList()
            self.dataset_bytes = 0
            self.orders.clear()
        return count

    def limit_dataset(self, bytes_max: int) -> None:
        """Set the limit above which commands that may grow it are refused; 0 for none."""
        self.dataset_bytes_max = bytes_max
        self.dataset_bound = bytes_max or UNLIMITED

    def expire_due(self, keys_max: int) -> None:
        """Remove keys whose deadline or lease has ended, earliest first, under one revision.

        Can be taken back like the changes of a command, unless the caller clears `undo`.

        Args:
            keys_max: How much is removed; a lease that is over counts like a key.
        """
        if not self.has_due():
            return
        before = self.revision
        removed = 0
        while removed < keys_max and self._is_deadline_due():
            self.revision = before + 1
            # The first of a sorted list goes in a third of the time that any of them takes.
            self._expire(self.deadlines.pop(0)[1], has_deadline=False)
            removed += 1
        leases = self.leases
        while removed < keys_max and leases.has_dead(self.lease_time_ms):
            lease_id = leases.due[0][1]
            for key in leases.first_keys(lease_id, keys_max - removed):
                self.revision = before + 1
                self._expire(key)
                removed += 1
            if not leases.keys_of(lease_id):
                leases.drop(lease_id)
                removed += 1

    def has_due(self) -> bool:
        """Whether any key that is held is dead; else nothing has to be removed before a `put`."""
        return self._is_deadline_due() or self.leases.has_dead(self.lease_time_ms)

    def _is_deadline_due(self) -> bool:
        deadlines = self.deadlines
        return bool(deadlines) and deadlines[0][0] <= self.log_time_ms

    def frontier(self) -> int:
        """Return the first bucket of which an open view has to be told; 1024 if of none."""
        if not self.views:
            return BUCKET_COUNT
        return min(view.frontier(self.buckets) for view in self.views)

    def note(self, number: int, key: bytes, before: Entry | None) -> None:
        """Tell the open views what is about to be replaced."""
        for view in self.views:
            view.note(self.buckets, number, key, before)

    def _expire(self, key: bytes, *, has_deadline: bool = True) -> None:
        self._remove(key, self.revision, has_deadline=has_deadline)
        self.expired.append(key)

    def _remove(
        self,
        key: bytes,
        expiry_revision: int,
        *,
        keeps_value: bool = False,
        has_deadline: bool = True,
    ) -> None:
        """Take a key away; `has_deadline` says that its deadline is still among all."""
        number = crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK
        bucket = self.buckets[number]
        old = bucket[key]
        if self.views:
            self.note(number, key, old)
        self.undo.append((key, old, expiry_revision))
        del bucket[key]
        self.dataset_bytes -= bytes_of(key, old[0], old[1])
        if type(old[0]) is not bytes and not keeps_value:
            self.garbage.discard(old[0])
        if has_deadline and old[1]:
            self.deadlines.remove((old[1], key))
        if self.leases.bound:
            self._release_removed(number, key, old[1])
        if self.orders:
            self.orders.pop(number, None)

    def _release_removed(self, number: int, key: bytes, deadline_ms: int) -> None:
        """Take a key that is gone from its lease, and from the count of lost ones."""
        leases = self.leases
        counted = leases.counted
        if (
            counted is not None
            and leases.is_lost(number, key, counted.lease_time_ms)
            and not 0 < deadline_ms <= counted.log_time_ms
        ):
            leases.counted = counted._replace(
                keys=counted.keys - 1, mortal=counted.mortal - (deadline_ms > 0)
            )
        leases.unbind(number, key)

    def record(self) -> None:
        """Make history of the changes noted in `undo`, which cannot be taken back any more.

        There is at least one. What happened to a key several times under one revision is
        one change.
        """
        history, revision, undo = self.history, self.revision, self.undo
        key, before, expiry_revision = undo[0]
        if len(undo) == 1 and key is not None and not expiry_revision:
            # The usual case, and what the rest would come to.
            undo.clear()
            after = self.buckets[crc_hqx(key, 0) >> SLOT_SHIFT & BUCKET_MASK].get(key)
            kind = DELETE if after is None else PUT
            history.add((revision, kind, key, before, after))
            return
        own: dict[bytes, Entry | None] = {}
        flushed = False
        for key, before, expiry_revision in undo:
            if key is None:
                flushed = True
            elif expiry_revision:
                history.add((expiry_revision, EXPIRE, key, before, None))
            elif key not in own:
                own[key] = before
        undo.clear()
        if flushed:
            # Telling each key that went would keep all of them in memory.
            self.garbage.take_time(history.change_count)
            history.cut(revision)
            return
        for key, before in own.items():
            after = self.held(key)
            if after is not None:
                history.add((revision, PUT, key, before, after))
            elif before is not None:
                history.add((revision, DELETE, key, before, None))
        history.revision = revision

    def roll_back(self, revision: int) -> None:
        """Take back all changes noted in `undo`; the revision becomes `revision`."""
        for key, before, expiry_revision in reversed(self.undo):
            if key is None:
                self.buckets, self.deadlines, self.dataset_bytes = before
                self.garbage.flushed.pop()
                self.orders.clear()
            else:
                self._restore(key, before)
                if expiry_revision:
                    self.expired.pop()
        self.undo.clear()
        self.leases.roll_back()
        self.revision = revision

    def _restore(self, key: bytes, before: Entry | None) -> None:
        """Give one key the entry it had."""
        number = bucket_of(key)
        bucket = self.buckets[number]
        present = bucket.get(key)
        if self.views:
            self.note(number, key, present)
        if present is not None:
            self.dataset_bytes -= bytes_of(key, present[0], present[1])
            if present[1]:
                self.deadlines.discard((present[1], key))
        if before is None:
            bucket.pop(key, None)
        else:
            bucket[key] = before
            self.dataset_bytes += bytes_of(key, before[0], before[1])
            if before[1]:
                self.deadlines.add((before[1], key))
        self.orders.pop(number, None)

    # ------------------------------------------------------------ memory

    def free_slice(self) -> bool:
        """Free a bounded part of what flushes, compactions and large values left behind.

        Returns:
            True while there is more to free.
        """
        order = self.key_order
        if order is not None and order[0] < self.history.compacted:
            # The history cannot tell any more which of them came and went.
            self.key_order = None
            self.garbage.husks += order[1]
        # Else what it holds would count as held elsewhere.
        del order
        history = self.history
        return self.garbage.free_slice(
            history.dropped, history.dropped_plain, is_viewed=bool(self.views)
        )

"""Feeds a store: requests as text, a log time that the test sets."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import Command
from raftkv.kv.dataset import bytes_of
from raftkv.kv.history import ChangeKind, change_bytes
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.keyspace import Keyspace, bucket_of
from raftkv.kv.store import KvStore


def apply(store: KvStore, commands: Sequence[Command], *, at_ms: int = 0) -> list[Any]:
    """Apply one batch at the next index."""
    return store.apply(store.applied_index + 1, encode_batch(at_ms, at_ms, 0, commands))


def reload(store: KvStore) -> KvStore:
    """Return the store that an image of this one gives."""
    loader = ImageLoader()
    for piece in store.start_image().slices():
        loader.feed(piece)
    return loader.finish()


def check_invariants(store: KvStore) -> None:
    """Check what must hold of the index between any two batches."""
    keyspace: Keyspace = store._keyspace
    with_deadline = []
    size = 0
    for number, bucket in enumerate(keyspace.buckets):
        for key, entry in bucket.items():
            assert bucket_of(key) == number
            _, deadline_ms, create_revision, modify_revision, version = entry
            assert 1 <= create_revision <= modify_revision <= store.revision
            assert version >= 1
            assert version > 1 or create_revision == modify_revision
            size += bytes_of(key, entry[0], deadline_ms)
            if deadline_ms:
                with_deadline.append((deadline_ms, key))
    assert keyspace.dataset_bytes == size
    assert list(keyspace.deadlines) == sorted(with_deadline)
    check_leases(keyspace)
    assert not keyspace.undo
    assert not keyspace.expired
    for number, (hashes, keys) in keyspace.orders.items():
        assert sorted(keys) == sorted(keyspace.buckets[number])
        assert hashes == sorted(hashes)
    _check_history(keyspace)


def _check_history(keyspace: Keyspace) -> None:
    """Check counts, and that each entry before and after is that of the neighbours."""
    history = keyspace.history
    changes = [change for chunk in history.freeze() for change in chunk]
    for chunk, is_plain in zip(history._chunks, history._chunk_is_plain, strict=True):
        assert not is_plain or all(c[3] is None or type(c[3][0]) is bytes for c in chunk)
    assert history.revision == keyspace.revision
    assert history.change_count == len(changes)
    assert history.byte_count == sum(map(change_bytes, changes))
    last_revision, same = history.compacted, set[bytes]()
    for revision, kind, key, _, after in changes:
        assert revision >= last_revision
        if revision > last_revision:
            same.clear()
        assert revision > history.compacted
        assert key not in same
        same.add(key)
        last_revision = revision
        assert (kind == ChangeKind.PUT) == (after is not None)
        assert after is None or after[3] == revision
    later: dict[bytes, object] = {}
    for _, _, key, before, after in reversed(changes):
        now = later[key] if key in later else keyspace.buckets[bucket_of(key)].get(key)
        assert after is now
        later[key] = before


def check_leases(keyspace: Keyspace) -> None:
    """Check that leases, deadlines and both sides of each binding agree."""
    leases = keyspace.leases
    assert list(leases.ids) == sorted(leases.held)
    assert list(leases.due) == sorted((held.deadline_ms, one) for one, held in leases.held.items())
    bound = {(key, lease_id) for bucket in leases.bindings for key, lease_id in bucket.items()}
    assert bound == {(key, lease_id) for lease_id, keys in leases.keys.items() for key in keys}
    assert leases.bound == len(bound)
    for number, bucket in enumerate(leases.bindings):
        assert bucket.keys() <= keyspace.buckets[number].keys()
    assert leases.keys.keys() <= leases.held.keys()
    assert all(leases.keys.values())
    assert not leases.undo
    lost = [
        keyspace.buckets[bucket_of(key)][key][1]
        for key in keyspace.lost_keys()
        if not 0 < keyspace.buckets[bucket_of(key)][key][1] <= keyspace.log_time_ms
    ]
    assert keyspace._lost_counts() == (len(lost), sum(deadline_ms > 0 for deadline_ms in lost))


def words(line: str) -> list[bytes]:
    """Split a request as a shell does."""
    return [word.encode() for word in shlex.split(line)]

"""Commands on the whole store: SCAN, KEYS, RANDOMKEY, counts, flush.

Nothing here looks at a million keys in one piece. KEYS and COUNTKEYSINSLOT are
generators which freeze a view up to their first yield, and then walk it and yield
between slices. SCAN walks the
buckets in order and each bucket in the order of a hash of its keys; its cursor
is a position in that order, the same on every node, so a scan may go on at
another node and behind a change of leader. A key that is there from begin to
end of a scan is returned at least once, because its position never changes.

Same rules as `strings`: the docstring of a handler is the layout of its command
behind the opcode. Called by `store` only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator
from typing import Final, TypeAlias
from zlib import crc32

from raftkv.kv.chance import next_random
from raftkv.kv.commands import OK, Command, Opcode
from raftkv.kv.generic import type_name
from raftkv.kv.keyspace import BUCKET_COUNT, SLOT_SHIFT, Keyspace
from raftkv.kv.patterns import compile_pattern
from raftkv.kv.slots import key_slot
from raftkv.kv.strings import Handler

SlicedHandler: TypeAlias = Callable[[Keyspace, Command], Generator[None, None, object]]

# Limit: keys that one SCAN call returns or skips at most, whatever COUNT says.
SCAN_KEYS_MAX: Final = 10_000
# Limit: keys whose hashes one SCAN call computes before it ends at a bucket's end: of a
# million keys those of one bucket.
SCAN_HASHED_KEYS_MAX: Final = 768
# Limit: buckets whose order is kept for the next call, about 50 bytes a key.
SCAN_ORDERS_MAX: Final = 32
# Limit: keys looked at in one slice of a sliced read, to the end of a bucket: likewise.
SLICE_KEYS: Final = 768

# A cursor has 42 bits, so that clients which keep it as a float lose nothing.
_HASH_BITS: Final = 32
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_RANDOM_TRIES: Final = 100


def scan(keyspace: Keyspace, command: Command) -> object:
    """(cursor, pattern or nil, count, type name or nil)

    Returns:
        [next cursor as decimal text, keys]; the cursor is 0 at the end.
    """
    _, cursor, pattern, count, wanted_type = command
    matches = None if pattern is None else compile_pattern(pattern)
    number, first_hash = cursor >> _HASH_BITS, cursor & _HASH_MASK
    now_ms = keyspace.log_time_ms
    has_lost = keyspace.leases.has_dead(keyspace.lease_time_ms)
    found: list[bytes] = []
    room = min(count, SCAN_KEYS_MAX)
    hashed = 0
    while number < BUCKET_COUNT and room > 0 and hashed < SCAN_HASHED_KEYS_MAX:
        bucket = keyspace.buckets[number]
        if bucket:
            if number not in keyspace.orders:
                hashed += len(bucket)
            hashes, keys = _order_of(keyspace, number)
            first = bisect_left(hashes, first_hash)
            end = min(first + room, len(keys))
            # Keys of equal hash go together: a cursor cannot point between them.
            while 0 < end < len(keys) and hashes[end] == hashes[end - 1]:
                end += 1
            room -= end - first
            found += [
                key
                for key in keys[first:end]
                if not 0 < bucket[key][1] <= now_ms
                and not (has_lost and keyspace.find(key) is None)
                and (matches is None or matches(key))
                and (wanted_type is None or type_name(bucket[key][0]).encode() == wanted_type)
            ]
            if end < len(keys):
                first_hash = hashes[end]
                break
        number, first_hash = number + 1, 0
    position = (number << _HASH_BITS | first_hash) if number < BUCKET_COUNT else 0
    return [b"%d" % position, found]


def _order_of(keyspace: Keyspace, number: int) -> tuple[list[int], list[bytes]]:
    """Return the hashes and keys of a bucket in the order of a scan."""
    order = keyspace.orders.get(number)
    if order is None:
        bucket = keyspace.buckets[number]
        pairs = sorted(zip(map(crc32, bucket), bucket, strict=True))
        order = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if len(keyspace.orders) >= SCAN_ORDERS_MAX:
            del keyspace.orders[next(iter(keyspace.orders))]
        keyspace.orders[number] = order
    return order


def keys(keyspace: Keyspace, command: Command) -> Generator[None, None, object]:
    """(pattern)"""
    found: list[bytes] = []
    view = keyspace.view()
    looked_at = 0
    try:
        yield
        matches = compile_pattern(command[1])
        now_ms = view.log_time_ms
        for _ in range(BUCKET_COUNT):
            bucket = view.take_next_held()
            found += [
                key for key, entry in bucket.items() if not 0 < entry[1] <= now_ms and matches(key)
            ]
            looked_at += len(bucket)
            if looked_at >= SLICE_KEYS:
                looked_at = 0
                yield
    finally:
        view.close()
    return found


def count_keys_in_slot(keyspace: Keyspace, command: Command) -> Generator[None, None, object]:
    """(slot)"""
    slot = command[1]
    count = 0
    view = keyspace.view()
    looked_at = 0
    try:
        yield
        now_ms = view.log_time_ms
        for number in range(BUCKET_COUNT):
            # A key without a hash tag is in the bucket of its slot.
            is_home = number == slot >> SLOT_SHIFT
            bucket = view.take_next_held()
            for key, entry in bucket.items():
                if (is_home or b"{" in key) and key_slot(key) == slot:
                    count += not 0 < entry[1] <= now_ms
            looked_at += len(bucket)
            if looked_at >= SLICE_KEYS:
                looked_at = 0
                yield
    finally:
        view.close()
    return count


def random_key(keyspace: Keyspace, command: Command) -> object:
    """(seed of 64 bits)"""
    state = command[1]
    total = keyspace.entry_count()
    if not keyspace.key_count():
        return None
    for _ in range(_RANDOM_TRIES):
        state, chosen = next_random(state)
        key = _key_at(keyspace, chosen % total)
        if keyspace.find(key) is not None:
            return key
    # Nearly all keys are dead and wait for their removal: take the first live one.
    for number in range(BUCKET_COUNT):
        for key in _order_of(keyspace, number)[1]:
            if keyspace.find(key) is not None:
                return key
    return None


def _key_at(keyspace: Keyspace, position: int) -> bytes:
    """Return one of the keys, counted through all buckets in the order of a scan."""
    for number, bucket in enumerate(keyspace.buckets):
        if position < len(bucket):
            return _order_of(keyspace, number)[1][position]
        position -= len(bucket)
    raise AssertionError("there are fewer keys than counted")


def dbsize(keyspace: Keyspace, _command: Command) -> object:
    """()"""
    return keyspace.key_count()


def flush(keyspace: Keyspace, _command: Command) -> object:
    """()"""
    if keyspace.flush():
        keyspace.revision += 1
    return OK


def checkpoint(keyspace: Keyspace, command: Command) -> object:
    """()

    Changes nothing that is replicated: it only tells the replica where it is.
    """
    keyspace.at_checkpoint = True
    return OK


def limit_dataset(keyspace: Keyspace, command: Command) -> object:
    """(bytes, 0 for no limit)"""
    bytes_max = command[1]
    if bytes_max.__class__ is not int or bytes_max < 0:
        raise TypeError("a limit that is no number of bytes")
    keyspace.limit_dataset(bytes_max)
    return OK


HANDLERS: Final[dict[Opcode, Handler]] = {
    Opcode.SCAN: scan,
    Opcode.RANDOMKEY: random_key,
    Opcode.DBSIZE: dbsize,
    Opcode.FLUSH: flush,
    Opcode.CHECKPOINT: checkpoint,
    Opcode.LIMIT_DATASET: limit_dataset,
}
SLICED_HANDLERS: Final[dict[Opcode, SlicedHandler]] = {
    Opcode.KEYS: keys,
    Opcode.COUNTKEYSINSLOT: count_keys_in_slot,
}

"""The image of a store: all of it, as bytes, in pieces of bounded work.

An image is a sequence of pieces, each with its own header, so that a reader may
get the bytes cut in any way. Little endian: body length (4 bytes), kind (1),
three zero bytes, body in MessagePack. First one meta piece, a map; then pieces
of keys, each an array of sections `[bucket number, type code, {key: [value,
deadline, create revision, modify revision, version]}]`; then pieces of history,
each an array of changes `[revision, kind, key, type code, entry before]`, newest
first; then pieces of leases, each an array of `[id, ttl, deadline, [key, ...]]`; then,
once a session was ever opened, pieces of sessions, `[last id, [[id, ttl, deadline, lowest
number, [number, result, ...]], ...]]`, a session with many results in several parts; last
one end piece, `[number of keys, dead ones included]`. Buckets, types, keys and leases are
in ascending order: equal stores have equal images, byte for byte. A large collection goes
on in sections or changes of its own, a large lease under its id again. Docs:
docs/reference/store-formats.md.

Owns the format and the writing side; `image_loader` reads. Pure: compression,
checksums and files are the storage layer's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from operator import itemgetter
from typing import Any, Final, TypeVar

import msgspec

from raftkv.kv.entries import Entry
from raftkv.kv.history import Change, Chunk
from raftkv.kv.keyspace import BUCKET_COUNT, Bucket, View
from raftkv.kv.sessions import Session, SessionsView, pack_result
from raftkv.kv.values import parts_of

FORMAT_VERSION: Final = 2
# Without history, leases, sessions and what the keys count for.
FORMAT_WITHOUT_HISTORY: Final = 1
PIECE_HEADER: Final = struct.Struct("<IB3x")
PIECE_META: Final = 1
PIECE_KEYS: Final = 2
PIECE_END: Final = 3
PIECE_HISTORY: Final = 4
PIECE_LEASES: Final = 5
PIECE_SESSIONS: Final = 6
# Of the entry before a change that made a key.
TYPE_NOTHING: Final = 0
TYPE_STRING: Final = 1
# Added to the type code where the collection of the section before goes on.
CONTINUED: Final = 64
IMAGE_HASH_BYTES: Final = 16

# Limit: what goes into one piece, unless a single value is larger. Encoding this
# much takes well below two milliseconds.
PIECE_KEYS_MAX: Final = 1024
PIECE_BYTES_MAX: Final = 512 * 1024
# Limit: what is hashed at once of a piece that is larger, about a millisecond.
HASH_SLICE_BYTES: Final = 1024 * 1024
# So many items of a collection cost as much as a key.
_ITEMS_LIKE_A_KEY: Final = 2

_STRINGS: Final = frozenset((bytes,))
_value_of: Final = itemgetter(0)
_ENCODER: Final = msgspec.msgpack.Encoder()

T = TypeVar("T")
LeaseRow = tuple[int, int, int, list[bytes]]
Section = tuple[int, int, dict[bytes, Any]]
# A section, what it counts for in keys, and its bytes.
Measured = tuple[Section, int, int]
# A change of the history: revision, kind, key, type code, entry before it.
Record = tuple[int, int, bytes, int, Any]


class HistoryMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the history of an image is.

    Attributes:
        compacted: Changes at or below this revision are gone.
        revisions_kept: Bound that the last leader named.
        bytes_kept: Bound that the last leader named.
        change_count: Number of changes.
        byte_count: What they count for.
    """

    compacted: int
    revisions_kept: int
    bytes_kept: int
    change_count: int
    byte_count: int


class ImageMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an image stands for; body of its first piece.

    Attributes:
        format: Version of the image format.
        applied_index: Last log index whose effects are inside.
        log_time_ms: Log time after that index.
        lease_time_ms: Lease time after that index.
        revision: Revision after that index.
        state_hash: Rolling state hash after that index, 16 bytes.
        key_count: Live keys at that log time.
        history: None in the version without.
        dataset_bytes: What all keys count for, dead ones included; None in version 1.
        dataset_bytes_max: The limit of it, 0 for none; not in version 1.
    """

    format: int = FORMAT_VERSION
    applied_index: int
    log_time_ms: int
    lease_time_ms: int
    revision: int
    state_hash: bytes
    key_count: int
    history: HistoryMeta | None = None
    dataset_bytes: int | None = None
    dataset_bytes_max: int = 0


class Image:
    """A frozen store, being written out while writes go on.

    Attributes:
        meta: What the image stands for.
        image_hash: 16 bytes over all pieces; None before the last one was taken.
    """

    __slots__ = ("_chunks", "_digest", "_leased", "_view", "image_hash", "meta")

    def __init__(self, meta: ImageMeta, view: View, chunks: list[Chunk]) -> None:
        """Take a frozen store.

        Args:
            meta: What it is.
            view: Its keys.
            chunks: Its history; used up.
        """
        self.meta = meta
        self._view = view
        self._chunks = chunks
        self._digest = blake2b(digest_size=IMAGE_HASH_BYTES)
        self._leased: dict[int, list[bytes]] = {}  # keys by lease, as the buckets are walked
        self.image_hash: bytes | None = None

    @property
    def is_pressed(self) -> bool:
        """Whether writes make it hold so much beside the store that it should not pause."""
        return self._view.holds_much

    def slices(self) -> Iterator[bytes]:
        """Yield the pieces in order, once; each step does a bounded piece of work.

        A step that has only hashed a part of a large value yields no bytes. Closes
        the image at the end.
        """
        try:
            yield from self._piece(PIECE_META, self.meta)
            entry_count = 0
            for sections in _grouped(self._sections()):
                entry_count += sum(len(held) for _, code, held in sections if code < CONTINUED)
                yield from self._piece(PIECE_KEYS, sections)
            for records in _grouped(self._records()):
                yield from self._piece(PIECE_HISTORY, records)
            for rows in self._lease_rows():
                yield from self._piece(PIECE_LEASES, rows)
            for body in _session_bodies(self._view.sessions):
                yield from self._piece(PIECE_SESSIONS, body)
            (last,) = self._piece(PIECE_END, (entry_count,))
            self.image_hash = self._digest.digest()
            yield last
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the frozen keys and changes; harmless when repeated."""
        self._view.leave(self._chunks)
        self._chunks = []
        self._view.close()

    def _sections(self) -> Iterator[Measured]:
        """Walk through the buckets, and note which keys have a lease."""
        for number in range(BUCKET_COUNT):
            bucket = self._view.take_next()
            if not bucket:
                continue
            for key, lease_id in self._view.leases.bindings.items():
                self._leased.setdefault(lease_id, []).append(key)
            yield from _sections_of(number, bucket)

    def _records(self) -> Iterator[tuple[Record, int, int]]:
        """Walk through the changes, newest first."""
        while self._chunks:
            for change in reversed(self._chunks.pop()):
                yield from _records_of(change)

    def _lease_rows(self) -> Iterator[list[LeaseRow]]:
        """Group the leases into pieces, behind the walk through the buckets."""
        rows: list[LeaseRow] = []
        count = size = 0
        leases = self._view.leases
        for lease_id in leases.ids:
            keys: list[bytes] = []
            rows.append((lease_id, *leases.held[lease_id], keys))
            count += 1
            for key in sorted(self._leased.pop(lease_id, ())):
                if count >= PIECE_KEYS_MAX or size + len(key) > PIECE_BYTES_MAX:
                    yield rows
                    keys = []
                    rows, count, size = [(lease_id, *leases.held[lease_id], keys)], 1, 0
                keys.append(key)
                count += 1
                size += len(key)
            if count >= PIECE_KEYS_MAX:
                yield rows
                rows, count, size = [], 0, 0
        if rows:
            yield rows

    def _piece(self, kind: int, body: Any) -> Iterator[bytes]:
        """Encode and hash one piece."""
        buffer = bytearray(PIECE_HEADER.size)
        _ENCODER.encode_into(body, buffer, PIECE_HEADER.size)
        PIECE_HEADER.pack_into(buffer, 0, len(buffer) - PIECE_HEADER.size, kind)
        piece = bytes(buffer)
        del buffer
        for position in range(0, len(piece), HASH_SLICE_BYTES):
            if position:
                yield b""
            self._digest.update(memoryview(piece)[position : position + HASH_SLICE_BYTES])
        yield piece


def _grouped(parts: Iterable[tuple[T, int, int]]) -> Iterator[list[T]]:
    """Group parts, in their order, into what fits a piece.

    Args:
        parts: Each with what it counts for in keys, and its bytes.
    """
    group: list[T] = []
    weights = size = 0
    for part, weight, part_size in parts:
        if group and (weights + weight > PIECE_KEYS_MAX or size + part_size > PIECE_BYTES_MAX):
            yield group
            group, weights, size = [], 0, 0
        group.append(part)
        weights += weight
        size += part_size
    if group:
        yield group


def _records_of(change: Change) -> Iterator[tuple[Record, int, int]]:
    """Put a change into as many records as the entry before it takes; nearly always one."""
    revision, kind, key, before, _ = change
    if before is None:
        yield (revision, kind, key, TYPE_NOTHING, None), 1, len(key)
    elif type(before[0]) is bytes:
        yield (revision, kind, key, TYPE_STRING, before), 1, len(key) + len(before[0])
    else:
        for code, part, weight, size in _collection_parts(before):
            yield (revision, kind, key, code, part), weight, len(key) + size


def _session_bodies(view: SessionsView) -> Iterator[Any]:
    """Group the sessions into the bodies of pieces; none before the first was opened."""
    if not view.last_id:
        return
    sessions = iter(view.take_next, None)
    groups = _grouped(part for session in sessions for part in _session_parts(session))
    # The last id is to be known also where no session lives.
    yield (view.last_id, next(groups, []))
    for parts in groups:
        yield (view.last_id, parts)


def _session_parts(session: Session) -> Iterator[tuple[Any, int, int]]:
    """Put a session into parts that fit a piece, in the order of the numbers.

    Yields:
        Each part, what it counts for in keys, and its bytes.
    """
    head = (session.id, session.ttl_ms, session.deadline_ms, session.lowest)
    answers: list[Any] = []
    count = size = 0
    for number, (result, result_size) in sorted(session.answers.items(), key=itemgetter(0)):
        if answers and (count == PIECE_KEYS_MAX - 1 or size + result_size > PIECE_BYTES_MAX):
            yield (*head, answers), 1 + count, size
            answers, count, size = [], 0, 0
        answers += (number, pack_result(result))
        count += 1
        size += result_size
    yield (*head, answers), 1 + count, size


def _sections_of(number: int, bucket: Bucket) -> Iterator[Measured]:
    """Put a bucket into the order of its types and keys, in sections that fit a piece."""
    strings, collections = bucket, []
    values = list(map(_value_of, bucket.values()))
    if not _STRINGS.issuperset(map(type, values)):
        strings = {key: entry for key, entry in bucket.items() if type(entry[0]) is bytes}
        collections = [(bucket[key][0].type_code, key) for key in bucket.keys() - strings.keys()]
        values = list(map(_value_of, strings.values()))
    size = sum(map(len, strings)) + sum(map(len, values))
    for part, part_size in _parts_of(strings, size):
        yield (number, TYPE_STRING, part), len(part), part_size
    for _, key in sorted(collections):
        yield from _collection(number, key, bucket[key])


def _collection(number: int, key: bytes, entry: Entry) -> Iterator[Measured]:
    """Put one collection into as many sections as it takes; nearly always one."""
    for code, part, weight, size in _collection_parts(entry):
        yield (number, code, {key: part}), weight, len(key) + size


def _collection_parts(entry: Entry) -> Iterator[tuple[int, Any, int, int]]:
    """Cut the entry of a collection into parts that fit a piece.

    Yields:
        The type code; the entry with the first part, or a further part; what it counts for
        in keys; and its bytes.
    """
    value = entry[0]
    code = value.type_code
    held: Any = None
    for part, size in parts_of(value):
        held = part if held is not None else ((value.size, part), *entry[1:])
        yield code, held, 1 + len(part) // _ITEMS_LIKE_A_KEY, size
        code = value.type_code + CONTINUED


def _parts_of(bucket: Bucket, size: int) -> Iterator[tuple[Bucket, int]]:
    """Put a bucket into the order of its keys, in parts that fit a piece; nearly always one.

    Args:
        bucket: Strings only.
        size: Bytes of all keys and values.

    Yields:
        Each part and its bytes.
    """
    if len(bucket) <= PIECE_KEYS_MAX and size <= PIECE_BYTES_MAX:
        if bucket:
            # Keys differ, so that no two entries are compared.
            yield dict(sorted(bucket.items())), size
        return
    part: Bucket = {}
    size = 0
    for key in sorted(bucket):
        entry = bucket[key]
        entry_size = len(key) + len(entry[0])
        if part and (len(part) == PIECE_KEYS_MAX or size + entry_size > PIECE_BYTES_MAX):
            yield part, size
            part, size = {}, 0
        part[key] = entry
        size += entry_size
    if part:
        yield part, size

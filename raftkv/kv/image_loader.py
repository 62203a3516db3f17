"""Bytes of an image back to a store.

Takes the bytes of `Image.slices` cut in any way, one bounded amount of work a
call, and believes nothing: order of pieces, bucket of every key, number of keys
and format version are checked. That the bytes are those that were written is
the storage layer's matter, by checksums, and the replica's, by `image_hash`.

Owns the reading side of the format in `image`. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final

import msgspec

from raftkv.errors import ProtocolError
from raftkv.kv.dataset import bytes_of
from raftkv.kv.families import COLLECTIONS
from raftkv.kv.history import History
from raftkv.kv.history_loader import HistoryLoader
from raftkv.kv.image import (
    CONTINUED,
    FORMAT_VERSION,
    FORMAT_WITHOUT_HISTORY,
    IMAGE_HASH_BYTES,
    PIECE_END,
    PIECE_HEADER,
    PIECE_HISTORY,
    PIECE_KEYS,
    PIECE_LEASES,
    PIECE_META,
    PIECE_SESSIONS,
    TYPE_STRING,
    ImageMeta,
)
from raftkv.kv.keyspace import BUCKET_COUNT, Bucket, Keyspace, bucket_of
from raftkv.kv.leases import Lease, is_possible
from raftkv.kv.sessions import Session, unpack_result
from raftkv.kv.store import STATE_HASH_BYTES, KvStore
from raftkv.kv.values import Collection

_META: Final = msgspec.msgpack.Decoder(ImageMeta)
_SECTIONS: Final = msgspec.msgpack.Decoder(list[tuple[int, int, msgspec.Raw]])
_STRINGS: Final = msgspec.msgpack.Decoder(dict[bytes, tuple[bytes, int, int, int, int]])
_COLLECTIONS: Final = msgspec.msgpack.Decoder(
    dict[bytes, tuple[tuple[int, list[Any]], int, int, int, int]]
)
_PARTS: Final = msgspec.msgpack.Decoder(dict[bytes, list[Any]])
_LEASES: Final = msgspec.msgpack.Decoder(list[tuple[int, int, int, list[bytes]]])
_SESSIONS: Final = msgspec.msgpack.Decoder(tuple[int, list[tuple[int, int, int, int, list[Any]]]])
_END: Final = msgspec.msgpack.Decoder(tuple[int])


class ImageLoader:
    """Builds one store from one image.

    Attributes:
        meta: What the image stands for; None before its first piece has come.
    """

    __slots__ = (
        "_buffer",
        "_digest",
        "_ended",
        "_history",
        "_keyspace",
        "_session",
        "_unfinished",
        "meta",
    )

    def __init__(self) -> None:
        self._keyspace = Keyspace()
        self._history = HistoryLoader(self._keyspace.held)
        self._digest = blake2b(digest_size=IMAGE_HASH_BYTES)
        self._buffer = bytearray()
        self._ended = False
        # A collection of which parts are missing: bucket, type code, key, size, entry.
        self._unfinished: tuple[int, int, bytes, int, tuple[Any, ...]] | None = None
        # The last one; its results may go on in the next piece.
        self._session: Session | None = None
        self.meta: ImageMeta | None = None

    @property
    def image_hash(self) -> bytes:
        """16 bytes over everything fed so far."""
        return self._digest.digest()

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes of the image.

        Raises:
            ProtocolError: They cannot belong to an image; the loader is of no more use.
        """
        self._digest.update(piece)
        if self._buffer:
            self._buffer += piece
            piece = bytes(self._buffer)
            self._buffer.clear()
        whole = memoryview(piece)
        position = 0
        while len(whole) - position >= PIECE_HEADER.size:
            size, kind = PIECE_HEADER.unpack_from(whole, position)
            end = position + PIECE_HEADER.size + size
            if end > len(whole):
                break
            self._take(kind, whole[position + PIECE_HEADER.size : end])
            position = end
        self._buffer += whole[position:]

    def finish(self) -> KvStore:
        """Return the store; the loader is of no more use.

        Raises:
            ProtocolError: The image is not complete.
        """
        if self.meta is None or not self._ended or self._buffer:
            raise ProtocolError("the image ends too early")
        meta, keyspace = self.meta, self._keyspace
        keyspace.log_time_ms = meta.log_time_ms
        keyspace.lease_time_ms = meta.lease_time_ms
        keyspace.revision = meta.revision
        if meta.history is None:
            keyspace.history = History(meta.revision)
        else:
            keyspace.history = self._history.finish(meta.history, meta.revision)
        if keyspace.key_count() != meta.key_count:
            raise ProtocolError("the image holds another number of live keys than it says")
        if meta.dataset_bytes is not None and keyspace.dataset_bytes != meta.dataset_bytes:
            raise ProtocolError("the keys of the image count for more or less than it says")
        keyspace.limit_dataset(meta.dataset_bytes_max)
        return KvStore.restored(keyspace, meta)

    def _take(self, kind: int, body: memoryview) -> None:
        """Use one whole piece."""
        if self._ended or (kind == PIECE_META) != (self.meta is None):
            raise ProtocolError("the pieces of the image are out of order")
        try:
            if kind == PIECE_META:
                self._take_meta(_META.decode(body))
            elif kind == PIECE_KEYS and not self._history.started:
                self._take_keys(body)
            elif kind == PIECE_HISTORY and self.meta is not None and self.meta.history is not None:
                self._expect_whole()
                self._history.take(body)
            elif kind == PIECE_LEASES and self.meta and self.meta.format == FORMAT_VERSION:
                self._expect_whole()
                self._take_leases(body)
            elif kind == PIECE_SESSIONS and self.meta and self.meta.format == FORMAT_VERSION:
                self._expect_whole()
                self._take_sessions(*_SESSIONS.decode(body))
            elif kind == PIECE_END:
                (entry_count,) = _END.decode(body)
                self._expect_whole()
                if entry_count != self._keyspace.entry_count():
                    raise ProtocolError("the image holds another number of keys than it says")
                self._ended = True
            else:
                raise ProtocolError(f"piece kind {kind} is not known to this version, or misplaced")
        except (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
            raise ProtocolError(f"a piece of the image is not readable: {error}") from error

    def _take_meta(self, meta: ImageMeta) -> None:
        if meta.format not in (FORMAT_WITHOUT_HISTORY, FORMAT_VERSION):
            raise ProtocolError(f"image format {meta.format} is not known to this version")
        if (meta.dataset_bytes is None) != (meta.format == FORMAT_WITHOUT_HISTORY):
            raise ProtocolError("the image does not say what its keys count for")
        if len(meta.state_hash) != STATE_HASH_BYTES:
            raise ProtocolError("the state hash of the image has a wrong size")
        if (meta.history is None) != (meta.format == FORMAT_WITHOUT_HISTORY):
            raise ProtocolError("the image has a history where none belongs, or none")
        self.meta = meta

    def _take_keys(self, body: memoryview) -> None:
        for number, type_code, content in _SECTIONS.decode(body):
            if not 0 <= number < BUCKET_COUNT:
                raise ProtocolError(f"bucket {number} is not known")
            if type_code == TYPE_STRING:
                self._expect_whole()
                self._take_section(number, _STRINGS.decode(content))
            elif type_code in COLLECTIONS:
                self._expect_whole()
                for key, (first, *rest) in _COLLECTIONS.decode(content).items():
                    self._unfinished = (number, type_code, key, first[0], (None, *rest))
                    self._add_part(COLLECTIONS[type_code].empty(), first[1])
            elif self._unfinished and type_code - CONTINUED == self._unfinished[1]:
                self._go_on(number, _PARTS.decode(content))
            else:
                raise ProtocolError(f"type {type_code} is not known to this version, or lost")

    def _take_leases(self, body: memoryview) -> None:
        leases = self._keyspace.leases
        for lease_id, ttl_ms, deadline_ms, keys in _LEASES.decode(body):
            lease = Lease(ttl_ms, deadline_ms)
            newest = leases.ids[-1] if leases.ids else 0
            if lease_id == newest and keys and leases.held[lease_id] == lease:
                pass  # It goes on.
            elif lease_id > newest and is_possible(lease_id, lease):
                leases.load(lease_id, lease)
            else:
                raise ProtocolError(f"lease {lease_id} of the image is out of order or wrong")
            for key in keys:
                number = bucket_of(key)
                is_there = key in self._keyspace.buckets[number]
                if not is_there or leases.lease_of(number, key):
                    raise ProtocolError("a lease of the image has a key of nobody or of another")
                leases.bind(number, key, lease_id)
        leases.undo.clear()

    def _expect_whole(self) -> None:
        if self._unfinished is not None:
            raise ProtocolError("a collection of the image ends too early")

    def _go_on(self, number: int, content: dict[bytes, list[Any]]) -> None:
        """Take further parts of the unfinished collection."""
        for key, part in content.items():
            if self._unfinished is None:
                raise ProtocolError("a part of the image belongs to no collection")
            expected_number, _, expected_key, _, (value, *_) = self._unfinished
            if (number, key) != (expected_number, expected_key):
                raise ProtocolError("a part of the image belongs to another collection")
            self._add_part(value, part)

    def _add_part(self, value: Collection, part: list[Any]) -> None:
        """Extend the unfinished collection; store it once it is whole."""
        assert self._unfinished is not None
        number, type_code, key, size, (_, *rest) = self._unfinished
        value = value.extended(part)
        if not part or value.size > size:
            raise ProtocolError("a collection of the image has another size than it says")
        if value.size == size:
            self._unfinished = None
            self._take_section(number, {key: (value, *rest)})
        else:
            self._unfinished = (number, type_code, key, size, (value, *rest))

    def _take_sessions(self, last_id: int, parts: list[tuple[int, int, int, int, Any]]) -> None:
        """Take sessions in the order of their ids; the last one may go on from the piece before."""
        sessions = self._keyspace.sessions
        sessions.last_id = last_id
        for session_id, ttl_ms, deadline_ms, lowest, answers in parts:
            session = self._session
            if session is None or session.id != session_id:
                if not (session.id if session else 0) < session_id <= last_id:
                    raise ProtocolError("the sessions of the image are out of order")
                session = self._session = Session(session_id, ttl_ms, deadline_ms, lowest)
                sessions.add(session)
            for number, packed in zip(answers[::2], answers[1::2], strict=True):
                if number < lowest or number in session.answers:
                    raise ProtocolError("a session of the image holds a number that it cannot")
                sessions.keep(session, number, *unpack_result(packed))

    def _take_section(self, number: int, entries: Bucket) -> None:
        keyspace = self._keyspace
        bucket = keyspace.buckets[number]
        if not bucket.keys().isdisjoint(entries):
            raise ProtocolError("a key is twice in the image")
        size = 0
        for key, entry in entries.items():
            if bucket_of(key) != number:
                raise ProtocolError("a key of the image is in a wrong bucket")
            size += bytes_of(key, entry[0], entry[1])
            if entry[1]:
                keyspace.deadlines.add((entry[1], key))
        keyspace.dataset_bytes += size
        if bucket:
            bucket.update(entries)
        else:
            keyspace.buckets[number] = entries

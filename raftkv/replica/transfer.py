"""Sending a snapshot file to a follower that is behind the log, and receiving one.

The file travels as it is on the disk (compressed, every chunk checksummed), in
a window of chunks, and is named by a digest of its content: a transfer that was
interrupted goes on where it stopped, also after a new leader was elected, and a
newer snapshot on the leader does not disturb one under way. The receiver
verifies the whole file, makes it durable and loads it into a new store before
the engine hears of it.

Owner: replica.replica, which checks the term of every message against its own.
Tests: tests/unit/replica/test_transfer.py, tests/sim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from raftkv.errors import DiskFailedError, DiskFullError, ProtocolError, StorageError
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from raftkv.seams import PEER_SNAPSHOT, Network, Observer, Worker
from raftkv.storage.snapshots import (
    RawSnapshot,
    SnapshotReader,
    SnapshotReceiver,
    SnapshotStore,
    check_announced,
)
from raftkv.types import Index, NodeId, SnapshotMeta

# Chunks sent and not yet answered: enough to keep a link busy for a round trip.
WINDOW_CHUNKS = 4
# Silence after which the sender asks again where the receiver is.
RETRY_MS = 1000
# The same for a question without an answer: a follower that does not know yet who
# leads leaves it aside, and the first question often comes before the first heartbeat.
ASK_AGAIN_MS = 100


class SnapshotChunk(msgspec.Struct, tag=1, array_like=True, frozen=True, gc=False):
    """A piece of the file; an empty one asks how far the receiver is."""

    term: int
    content_id: str
    size: int
    offset: int
    data: bytes


class SnapshotAnswer(msgspec.Struct, tag=2, array_like=True, frozen=True, gc=False):
    """How many bytes of that file the receiver has written."""

    term: int
    content_id: str
    offset: int


_Message = SnapshotChunk | SnapshotAnswer
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[_Message] = msgspec.msgpack.Decoder(_Message)


def decode(body: bytes) -> SnapshotChunk | SnapshotAnswer:
    """Return the message in `body`.

    Raises:
        ProtocolError: It is not one of the two, or a number is negative.
    """
    try:
        message = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a snapshot message: {error}") from None
    if message.offset < 0 or message.term < 0:
        raise ProtocolError("a snapshot message with a negative number")
    return message


class _Sending:
    """One file on its way to one follower."""

    __slots__ = ("acknowledged", "heard_ms", "next_offset", "raw", "reading")

    def __init__(self, raw: RawSnapshot, now_ms: int) -> None:
        self.raw = raw
        self.next_offset = 0
        self.acknowledged = -1
        self.heard_ms = now_ms
        self.reading = False

    @property
    def patience_ms(self) -> int:
        return ASK_AGAIN_MS if self.acknowledged < 0 else RETRY_MS


class SnapshotSender:
    """The leader's side, for all followers."""

    def __init__(
        self,
        *,
        network: Network,
        snapshots: SnapshotStore,
        background: Worker,
        observer: Observer,
        chunk_bytes: int,
        match_index: Callable[[NodeId], int],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._match_index = match_index
        self._network = network
        self._snapshots = snapshots
        self._background = background
        self._observer = observer
        self._chunk_bytes = chunk_bytes
        self._fail = fail
        self._sending: dict[NodeId, _Sending] = {}
        self._term = 0

    def turn(self, peers: tuple[NodeId, ...], term: int, now_ms: int) -> None:
        """Start, ask again, and end transfers as the engine wants them."""
        self._term = term
        for node in [node for node in self._sending if node not in peers]:
            self._sending.pop(node).raw.close()
        for node in peers:
            sending = self._sending.get(node)
            # Why replace it: the follower holds this one, and the log behind it
            # is gone by now. Sending it again would never end.
            if sending is not None and self._match_index(node) >= sending.raw.meta.index:
                self._sending.pop(node).raw.close()
                sending = None
            if sending is None:
                newest = self._snapshots.newest()
                if newest is None:
                    continue
                raw = self._snapshots.open_raw(newest)
                sending = _Sending(raw, now_ms)
                self._sending[node] = sending
                self._observer.event("snapshot_sending", peer=node, size=raw.size)
                self._ask(node, sending)
            elif now_ms - sending.heard_ms > sending.patience_ms:
                sending.heard_ms = now_ms
                self._ask(node, sending)

    def pinned_index(self) -> Index | None:
        """Return the oldest snapshot under way: the log after it is still needed."""
        indexes = [sending.raw.meta.index for sending in self._sending.values()]
        return min(indexes, default=None)

    def stop(self) -> None:
        """End every transfer: this node does not lead."""
        for sending in self._sending.values():
            sending.raw.close()
        self._sending.clear()

    def answered(self, node: NodeId, message: SnapshotAnswer, now_ms: int) -> None:
        """Note how far a follower is, and send more."""
        sending = self._sending.get(node)
        if sending is None or message.content_id != sending.raw.content_id:
            return
        if message.offset > sending.raw.size:
            return
        sending.heard_ms = now_ms
        if message.offset < sending.acknowledged or sending.acknowledged < 0:
            sending.next_offset = message.offset
        sending.acknowledged = message.offset
        sending.next_offset = max(sending.next_offset, message.offset)
        self._read_next(node, sending)

    def _ask(self, node: NodeId, sending: _Sending) -> None:
        sending.acknowledged = -1
        self._send(node, sending, 0, b"")

    def _read_next(self, node: NodeId, sending: _Sending) -> None:
        window = sending.acknowledged + WINDOW_CHUNKS * self._chunk_bytes
        offset = sending.next_offset
        if sending.reading or offset >= min(window, sending.raw.size):
            return
        sending.reading = True
        size = min(self._chunk_bytes, sending.raw.size - offset)
        self._background.submit(
            partial(sending.raw.read, offset, size), partial(self._read, node, sending, offset)
        )

    def _read(
        self, node: NodeId, sending: _Sending, offset: int, outcome: bytes | BaseException
    ) -> None:
        sending.reading = False
        if self._sending.get(node) is not sending:
            return
        if isinstance(outcome, BaseException):
            self._fail(outcome)
            return
        if offset == sending.next_offset and sending.acknowledged >= 0:
            self._send(node, sending, offset, outcome)
            sending.next_offset = offset + len(outcome)
            self._network.flush()
        self._read_next(node, sending)

    def _send(self, node: NodeId, sending: _Sending, offset: int, data: bytes) -> None:
        raw = sending.raw
        chunk = SnapshotChunk(self._term, raw.content_id, raw.size, offset, data)
        self._network.send(node, PEER_SNAPSHOT, _ENCODER.encode(chunk))


class SnapshotInbox:
    """The follower's side: one file at a time, from whoever leads."""

    def __init__(
        self,
        *,
        network: Network,
        snapshots: SnapshotStore,
        background: Worker,
        observer: Observer,
        ready: Callable[[NodeId, SnapshotMeta, KvStore], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self._network = network
        self._snapshots = snapshots
        self._background = background
        self._observer = observer
        self._ready = ready
        self._fail = fail
        self._receiver: SnapshotReceiver | None = None
        self._queued = 0
        self._opening = False
        self._busy = False
        self._loaded_id = ""

    def received(self, node: NodeId, chunk: SnapshotChunk) -> None:
        """Take one chunk from the leader of this term.

        Raises:
            ProtocolError: It cannot be a part of what it names.
        """
        if chunk.content_id == self._loaded_id:
            self._answer(node, chunk, chunk.size)
            return
        if self._busy:
            # Another one is being verified or loaded: the sender asks again.
            return
        check_announced(chunk.content_id, chunk.size)
        if chunk.offset + len(chunk.data) > chunk.size:
            raise ProtocolError("a snapshot chunk beyond the announced size")
        receiver = self._receiver
        if receiver is None or receiver.content_id != chunk.content_id:
            self._open(node, chunk)
        elif receiver.size != chunk.size:
            raise ProtocolError("a snapshot that changed its size on the way")
        else:
            self._take(node, chunk, receiver)

    def _open(self, node: NodeId, chunk: SnapshotChunk) -> None:
        """Begin or go on with a file; by the worker, which reads what is there already."""
        if self._opening:
            # It will be answered; the sender asks again for any other.
            return
        self._opening = True
        self._give_up_receiver()
        self._background.submit(
            partial(self._snapshots.receiver, chunk.content_id, chunk.size),
            partial(self._opened, node, chunk),
        )

    def _opened(
        self, node: NodeId, chunk: SnapshotChunk, outcome: SnapshotReceiver | BaseException
    ) -> None:
        self._opening = False
        if isinstance(outcome, DiskFullError):
            self._observer.event("snapshot_postponed", reason="disk full")
        elif isinstance(outcome, BaseException):
            self._fail(outcome)
        else:
            self._receiver = outcome
            self._queued = outcome.offset
            self._take(node, chunk, outcome)

    def _take(self, node: NodeId, chunk: SnapshotChunk, receiver: SnapshotReceiver) -> None:
        if chunk.offset != self._queued or not chunk.data:
            self._answer(node, chunk, receiver.offset)
            # A crash may have come between the last byte and the verification.
            self._finish_if_whole(node, receiver)
            return
        self._queued += len(chunk.data)
        self._background.submit(
            partial(receiver.write, chunk.offset, chunk.data),
            partial(self._written, node, chunk, receiver),
        )

    def forget_loaded(self) -> None:
        """A snapshot was installed or refused; the next one starts afresh."""
        self._loaded_id = ""
        self._busy = False

    def _written(
        self, node: NodeId, chunk: SnapshotChunk, receiver: SnapshotReceiver, outcome: object
    ) -> None:
        if receiver is not self._receiver:
            # Given up, so that what was on its way no longer fits; but a failed disk stops the
            # node, whether or not the file is still wanted.
            if isinstance(outcome, DiskFailedError):
                self._fail(outcome)
            return
        if isinstance(outcome, BaseException):
            self._give_up_receiver()
            if not isinstance(outcome, DiskFullError):
                self._fail(outcome)
            return
        self._answer(node, chunk, receiver.offset)
        self._finish_if_whole(node, receiver)

    def _give_up_receiver(self) -> None:
        """Release the file of a transfer that goes on later, or never.

        Why by the worker: writes to that file may be on their way to it.
        """
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._background.submit(receiver.close, self._closed)

    def _closed(self, outcome: object) -> None:
        if isinstance(outcome, BaseException):
            self._fail(outcome)

    def _finish_if_whole(self, node: NodeId, receiver: SnapshotReceiver) -> None:
        if receiver.offset == receiver.size and not self._busy:
            self._busy = True
            self._background.submit(receiver.finish, partial(self._verified, node, receiver))

    def _verified(
        self, node: NodeId, receiver: SnapshotReceiver, outcome: SnapshotMeta | BaseException
    ) -> None:
        self._receiver = None
        if isinstance(outcome, BaseException):
            self._busy = False
            # Damaged on the way: what is on the disk was not touched.
            if isinstance(outcome, ProtocolError):
                self._observer.event("snapshot_refused", peer=node, reason=str(outcome))
            else:
                self._fail(outcome)
            return
        self._loaded_id = receiver.content_id
        try:
            reader = self._snapshots.reader(outcome)
        except FileNotFoundError:
            # Pruned already: the log has moved on, and a newer one will come.
            self.forget_loaded()
            return
        except StorageError as error:
            self._fail(error)
            return
        self._feed(node, outcome, ImageLoader(), reader, iter(reader), None)

    def _feed(
        self,
        node: NodeId,
        meta: SnapshotMeta,
        loader: ImageLoader,
        reader: SnapshotReader,
        pieces: Iterator[bytes],
        outcome: bytes | BaseException | None,
    ) -> None:
        """Load one piece, then ask the worker for the next."""
        if isinstance(outcome, BaseException):
            self._fail(outcome)
            return
        try:
            if outcome == b"":
                reader.close()
                self._loaded(node, meta, loader)
                return
            if outcome is not None:
                loader.feed(outcome)
        except ProtocolError as error:
            self._fail(error)
            return
        self._background.submit(
            partial(next, pieces, b""), partial(self._feed, node, meta, loader, reader, pieces)
        )

    def _loaded(self, node: NodeId, meta: SnapshotMeta, loader: ImageLoader) -> None:
        store = loader.finish()
        if loader.image_hash != meta.image_hash or store.applied_index != meta.index:
            self._fail(ProtocolError("a verified snapshot loaded into another state"))
            return
        self._ready(node, meta, store)

    def _answer(self, node: NodeId, chunk: SnapshotChunk, offset: int) -> None:
        answer = SnapshotAnswer(chunk.term, chunk.content_id, offset)
        self._network.send(node, PEER_SNAPSHOT, _ENCODER.encode(answer))
        self._network.flush()

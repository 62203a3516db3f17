"""A snapshot reaches a follower whole, whatever is lost on the way, or not at all."""

from __future__ import annotations

import dataclasses
import random
from typing import cast

import msgspec
import pytest

from raftkv.errors import DiskFailedError, DiskFullError, ProtocolError
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import Opcode
from raftkv.kv.store import KvStore
from raftkv.replica.transfer import (
    RETRY_MS,
    SnapshotAnswer,
    SnapshotChunk,
    SnapshotInbox,
    SnapshotSender,
    decode,
)
from raftkv.storage.snapshots import SnapshotStore
from raftkv.types import Configuration, Index, NodeId, SnapshotMeta, Term
from tests.sim.disk import SimDisk, SimFile
from tests.sim.world import World
from tests.unit.replica.fakes import FakeNetwork, FakeObserver, StepWorker

A, B = NodeId("A"), NodeId("B")
CHUNK = 1024


def filled(count: int = 200) -> KvStore:
    dice = random.Random(1)
    store = KvStore()
    commands = [
        (Opcode.APPEND, b"key%d" % number, dice.randbytes(100), 1 << 20) for number in range(count)
    ]
    store.apply(1, encode_batch(1, 1, 7, commands))
    return store


def write_snapshot(disk: SimDisk, store: KvStore) -> SnapshotMeta:
    image = store.start_image()
    meta = SnapshotMeta(
        index=Index(image.meta.applied_index),
        term=Term(1),
        configuration=Configuration("c" * 32, ()),
        state_hash=image.meta.state_hash,
        image_hash=b"",
        log_time_ms=image.meta.log_time_ms,
        lease_time_ms=image.meta.lease_time_ms,
        revision=image.meta.revision,
        keys=image.meta.key_count,
    )
    writer = SnapshotStore(disk, chunk_bytes=512).writer(meta)
    for piece in image.slices():
        writer.write(piece)
    assert image.image_hash is not None
    *_, finished = writer.finish(dataclasses.replace(meta, image_hash=image.image_hash))
    assert finished is not None
    return finished


class Transfer:
    """A sender on A, a receiver on B, and what is on its way."""

    def __init__(self) -> None:
        self.store = filled()
        world = World(0)
        self.disk = SimDisk(world, "B")
        self.leaders_disk = SimDisk(world, "A")
        self.meta = write_snapshot(self.leaders_disk, self.store)
        self.failures: list[BaseException] = []
        self.loaded: list[tuple[SnapshotMeta, KvStore]] = []
        self.observer = FakeObserver()
        self.network, self.worker = FakeNetwork(), StepWorker()
        self.sender = SnapshotSender(
            network=self.network,
            snapshots=SnapshotStore(self.leaders_disk),
            background=self.worker,
            observer=self.observer,
            chunk_bytes=CHUNK,
            match_index=lambda node: 0,
            fail=self.failures.append,
        )
        self.start_receiver()

    def start_receiver(self) -> None:
        self.answers, self.receiving = FakeNetwork(), StepWorker()
        self.inbox = SnapshotInbox(
            network=self.answers,
            snapshots=SnapshotStore(self.disk),
            background=self.receiving,
            observer=self.observer,
            ready=lambda node, meta, store: self.loaded.append((meta, store)),
            fail=self.failures.append,
        )

    def deliver(self, *, jobs: bool = True) -> bool:
        """Move everything on its way; say whether there was anything."""
        chunks, self.network.sent = self.network.sent, []
        for _, _, body in chunks:
            message = decode(body)
            assert type(message) is SnapshotChunk
            self.inbox.received(A, message)
        if jobs:
            self.receiving.run_all()
        answers, self.answers.sent = self.answers.sent, []
        for _, _, body in answers:
            answer = decode(body)
            assert type(answer) is SnapshotAnswer
            self.sender.answered(B, answer, 0)
        self.worker.run_all()
        return bool(chunks or answers)

    def run(self) -> None:
        for _ in range(500):
            if not self.deliver():
                return
        raise AssertionError("the transfer does not end")


class FullFile(SimFile):
    """A file on a disk without space that knows whether it was closed."""

    is_open = True

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        raise DiskFullError("no space")

    def close(self) -> None:
        self.is_open = False
        super().close()


def test_a_transfer_that_a_full_disk_stops_leaves_no_file_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each attempt would cost a descriptor, and a removed file that is open holds its space."""
    transfer = Transfer()
    opened: list[FullFile] = []
    open_file = transfer.disk.open

    def open_full(name: str, *, create: bool = False) -> SimFile:
        file = open_file(name, create=create)
        file.__class__ = FullFile
        opened.append(cast(FullFile, file))
        return file

    monkeypatch.setattr(transfer.disk, "open", open_full)
    for now_ms in range(0, 10 * RETRY_MS, RETRY_MS + 1):
        transfer.sender.turn((B,), 1, now_ms)
        for _ in range(5):
            transfer.deliver()
    assert len(opened) > 5
    assert sum(file.is_open for file in opened) <= 1
    assert not transfer.failures


def test_what_arrives_is_what_was_sent() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    transfer.run()
    ((meta, store),) = transfer.loaded
    assert meta == transfer.meta
    assert store.state_hash == transfer.store.state_hash
    assert SnapshotStore(transfer.disk).newest() == transfer.meta
    assert transfer.failures == []


def test_a_transfer_goes_on_where_the_receiver_stopped() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    for _ in range(3):
        transfer.deliver()
    transfer.disk.crash_process()
    transfer.start_receiver()
    transfer.network.sent = []
    transfer.sender.turn((), 1, 0)
    transfer.sender.turn((B,), 2, 0)
    transfer.deliver()
    first = next(
        message
        for message in (decode(body) for _, _, body in transfer.network.sent)
        if type(message) is SnapshotChunk and message.data
    )
    assert first.offset > 0
    transfer.run()
    assert len(transfer.loaded) == 1


def test_a_newer_snapshot_does_not_disturb_a_transfer_under_way() -> None:
    """With one after every exchange, and those before it gone, no byte is sent twice."""
    transfer = Transfer()
    newer = filled()
    offsets: list[int] = []
    for index in range(2, 500):
        transfer.sender.turn((B,), 1, 0)
        chunks = [decode(body) for _, _, body in transfer.network.sent]
        offsets += [one.offset for one in chunks if type(one) is SnapshotChunk and one.data]
        if not transfer.deliver():
            break
        newer.apply(index, encode_batch(1, 1, 7, []))
        newest = write_snapshot(transfer.leaders_disk, newer)
        assert SnapshotStore(transfer.leaders_disk).prune(keep=1)
        assert SnapshotStore(transfer.leaders_disk).newest() == newest != transfer.meta
    assert len(offsets) > 5
    assert offsets == sorted(set(offsets))
    assert [meta for meta, _ in transfer.loaded] == [transfer.meta]
    assert transfer.failures == []


def test_a_file_that_was_whole_when_the_receiver_stopped_is_taken_after_the_restart() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    size = transfer.sender._sending[B].raw.size
    while True:
        transfer.deliver(jobs=False)
        if transfer.inbox._receiver and transfer.inbox._receiver.offset == size:
            break
        # Only the writes: the process ends before the file is verified.
        while transfer.receiving.jobs:
            transfer.receiving.run_one()
            if transfer.inbox._receiver and transfer.inbox._receiver.offset == size:
                break
        if transfer.inbox._receiver and transfer.inbox._receiver.offset == size:
            break
    assert transfer.loaded == []
    transfer.start_receiver()
    transfer.network.sent = []
    transfer.sender.turn((), 1, 0)
    transfer.sender.turn((B,), 2, 0)
    transfer.run()
    assert len(transfer.loaded) == 1


def test_lost_chunks_are_sent_again_when_the_sender_asks() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    transfer.deliver()
    transfer.network.sent = []
    transfer.answers.sent = []
    transfer.sender.turn((B,), 1, 60_000)
    transfer.run()
    assert len(transfer.loaded) == 1


def test_a_flipped_bit_is_refused_and_what_is_on_the_disk_stays() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    damaged = False
    for _ in range(200):
        for position, (node, kind, body) in enumerate(transfer.network.sent):
            message = decode(body)
            if type(message) is SnapshotChunk and message.data and not damaged:
                data = bytearray(message.data)
                data[len(data) // 2] ^= 1
                changed = msgspec.structs.replace(message, data=bytes(data))
                transfer.network.sent[position] = (node, kind, msgspec.msgpack.encode(changed))
                damaged = True
        if not transfer.deliver():
            break
    assert damaged
    assert transfer.loaded == []
    assert "snapshot_refused" in transfer.observer.names()
    assert transfer.failures == []
    assert SnapshotStore(transfer.disk).newest() is None


def test_bytes_beyond_the_announced_size_end_the_link_and_not_the_node() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    (asked,) = [decode(body) for _, _, body in transfer.network.sent]
    assert type(asked) is SnapshotChunk
    with pytest.raises(ProtocolError):
        transfer.inbox.received(
            A, SnapshotChunk(1, asked.content_id, asked.size, 0, bytes(asked.size + 1))
        )
    transfer.receiving.run_all()
    assert transfer.failures == []


def test_a_file_is_opened_by_the_worker_which_may_have_to_read_all_of_it() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    (asked,) = [decode(body) for _, _, body in transfer.network.sent]
    assert type(asked) is SnapshotChunk
    before = transfer.disk.names("snapshots")
    for _ in range(3):
        transfer.inbox.received(A, asked)
    assert transfer.disk.names("snapshots") == before
    assert len(transfer.receiving.jobs) == 1
    assert transfer.answers.sent == []
    transfer.receiving.run_all()
    assert [decode(body) for _, _, body in transfer.answers.sent] == [
        SnapshotAnswer(1, asked.content_id, 0)
    ]


def test_a_disk_that_fails_while_the_file_is_opened_stops_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)

    def fail(*_: object, **__: object) -> SimFile:
        raise DiskFailedError("broken")

    monkeypatch.setattr(transfer.disk, "open", fail)
    transfer.deliver()
    assert [type(failure) for failure in transfer.failures] == [DiskFailedError]


def test_a_write_that_fails_for_a_file_that_is_not_wanted_any_more_stops_the_node() -> None:
    """The worker had it when another snapshot came."""
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    transfer.deliver()
    transfer.deliver(jobs=False)
    assert transfer.receiving.jobs
    transfer.inbox.received(A, SnapshotChunk(1, "0" * 32, 10_000, 0, b""))
    transfer.disk.write_fails = True
    transfer.receiving.run_all()
    assert [type(failure) for failure in transfer.failures] == [DiskFailedError]


@pytest.mark.parametrize(("content", "size"), [("../../etc/passwd", 10_000), ("0" * 32, 1)])
def test_a_name_or_size_that_cannot_be_ends_the_link_and_not_the_node(
    content: str, size: int
) -> None:
    transfer = Transfer()
    with pytest.raises(ProtocolError):
        transfer.inbox.received(A, SnapshotChunk(1, content, size, 0, b""))
    assert not transfer.receiving.jobs
    assert transfer.failures == []


def test_a_file_that_changes_its_size_on_the_way_ends_the_link() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    transfer.deliver()
    (asked, *_) = [decode(body) for _, _, body in transfer.network.sent]
    assert type(asked) is SnapshotChunk
    with pytest.raises(ProtocolError, match="size"):
        transfer.inbox.received(A, msgspec.structs.replace(asked, size=asked.size + 1))


@pytest.mark.parametrize("body", [b"", b"junk", b"\x93\x01\x02\x03"])
def test_junk_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


def test_a_transfer_that_is_wanted_no_more_ends() -> None:
    transfer = Transfer()
    transfer.sender.turn((B,), 1, 0)
    assert transfer.sender.pinned_index() == 1
    transfer.sender.turn((), 1, 0)
    assert transfer.sender.pinned_index() is None
    transfer.run()
    assert transfer.loaded == []

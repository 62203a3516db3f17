"""Snapshot files: writing, reading, sending and receiving them.

Owns the directory `snapshots/`: complete files named by index and term, at most
one file being written and at most one being received. Knows nothing of what the
pieces of an image mean, nor when a snapshot is due.

Invariants: a file has a snapshot's name only when it is complete, verified by
reading it back, and durable; a previous snapshot is removed by `prune` only,
after that; what a crash leaves behind is cleaned when the store is opened,
except a file being received, which is resumed.

Who calls: the replica. Everything that touches file contents blocks and is made
to run on a worker, one call at a time for each object.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection, Iterator

from raftkv.errors import DamagedDataError, DiskFullError, ProtocolError
from raftkv.seams import Disk, DiskFile
from raftkv.storage.damage import damaged, too_new
from raftkv.storage.snapshot_format import (
    DIGEST_SIZE,
    FOOTER_SIZE,
    VERSION,
    Footer,
    SnapshotFormatError,
    UnknownVersionError,
    content_id,
    encode_chunk,
    encode_footer,
    encode_header,
    intact_bytes,
    read_footer,
    read_header,
    walk,
)
from raftkv.storage.spread_syncs import SpreadSyncs
from raftkv.types import SnapshotMeta

DIRECTORY = "snapshots"
CHUNK_BYTES = 256 * 1024
_WRITING_NAME = f"{DIRECTORY}/writing"
_SNAPSHOT_PATTERN = re.compile(r"[0-9]{20}-[0-9]{10,}\.snapshot")
_CONTENT_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
_PART_SUFFIX = ".part"


def snapshot_name(meta: SnapshotMeta) -> str:
    """Name of a snapshot's file in the data directory."""
    return f"{DIRECTORY}/{meta.index:020d}-{meta.term:010d}.snapshot"


class SnapshotStore:
    """All snapshots of one node.

    Args:
        disk: The data directory, locked by this process.
        chunk_bytes: Size of a chunk before compression, in bytes.

    Raises:
        DiskFailedError: The directory cannot be cleaned.
    """

    def __init__(self, disk: Disk, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._disk = disk
        self._chunk_bytes = chunk_bytes
        disk.make_directory(DIRECTORY)
        if disk.exists(_WRITING_NAME):
            disk.remove(_WRITING_NAME)
        parts = self._parts()
        if len(parts) > 1:
            for name in parts:
                disk.remove(name)

    def _parts(self) -> list[str]:
        names = self._disk.names(DIRECTORY)
        return [f"{DIRECTORY}/{name}" for name in names if name.endswith(_PART_SUFFIX)]

    # ------------------------------------------------------------- reading

    def names(self) -> list[str]:
        """Names of all snapshots, oldest first."""
        found = self._disk.names(DIRECTORY)
        return [f"{DIRECTORY}/{name}" for name in found if _SNAPSHOT_PATTERN.fullmatch(name)]

    def newest(self) -> SnapshotMeta | None:
        """What the newest snapshot stands for, from its first and last frame.

        Raises:
            DamagedDataError: One of them is damaged, or of a later version.
        """
        names = self.names()
        return self.meta(names[-1]) if names else None

    def meta(self, name: str) -> SnapshotMeta:
        """What a snapshot stands for, from its first and last frame.

        Raises:
            DamagedDataError: One of them is damaged, or of a later version.
            FileNotFoundError: There is none of that name.
        """
        file = self._disk.open(name)
        try:
            meta, _ = self._read_ends(name, file)
        finally:
            file.close()
        return meta

    def reader(self, snapshot: SnapshotMeta | str) -> SnapshotReader:
        """Open a snapshot, by its meta or its name, for loading its image.

        Raises:
            DamagedDataError: Its first or last frame is damaged.
            FileNotFoundError: There is none of that name.
        """
        name = snapshot if isinstance(snapshot, str) else snapshot_name(snapshot)
        file = self._disk.open(name)
        try:
            meta, _ = self._read_ends(name, file)
        except BaseException:
            file.close()
            raise
        return SnapshotReader(self._disk, name, file, meta)

    def open_raw(self, snapshot: SnapshotMeta | str) -> RawSnapshot:
        """Open a snapshot for sending its bytes to another node.

        The bytes stay readable when the snapshot is pruned meanwhile.

        Raises:
            DamagedDataError: Its first or last frame is damaged.
            FileNotFoundError: There is none of that name.
        """
        name = snapshot if isinstance(snapshot, str) else snapshot_name(snapshot)
        file = self._disk.open(name)
        try:
            meta, footer_frame = self._read_ends(name, file)
        except BaseException:
            file.close()
            raise
        return RawSnapshot(file, meta, content_id(footer_frame))

    def _read_ends(self, name: str, file: DiskFile) -> tuple[SnapshotMeta, bytes]:
        """Read the first and the last frame; returns the meta and the footer's bytes."""
        with _Damage(self._disk, name):
            meta, footer_frame = _read_ends(file)
            if snapshot_name(meta) != name:
                raise SnapshotFormatError(0, f"this is {snapshot_name(meta)} under another name")
        return meta, footer_frame

    # ------------------------------------------------------------- writing

    def writer(self, meta: SnapshotMeta, *, expected_bytes: int = 0) -> SnapshotWriter:
        """Start writing a snapshot; blocks shortly.

        A file that was being written before is given up.

        Args:
            meta: All but the image hash, which `SnapshotWriter.finish` brings.
            expected_bytes: Refuse to start where the disk has less space.

        Raises:
            DiskFullError: There is too little space.
            DiskFailedError: The node must stop.
        """
        if self._disk.exists(_WRITING_NAME):
            self._disk.remove(_WRITING_NAME)
        _need_space(self._disk, expected_bytes)
        return SnapshotWriter(self._disk, meta, self._chunk_bytes)

    # ----------------------------------------------------------- receiving

    def receiver(self, content: str, size: int) -> SnapshotReceiver:
        """Start or go on receiving a snapshot from another node; blocks.

        Anything received of another content is given up.

        Args:
            content: Content id of the file, as the sender's `RawSnapshot` has it.
            size: Its size in bytes.

        Raises:
            ProtocolError: The content id or the size cannot be one.
            DiskFullError: There is too little space for the rest.
            DiskFailedError: The node must stop.
        """
        check_announced(content, size)
        name = f"{DIRECTORY}/{content}{_PART_SUFFIX}"
        for other in self._parts():
            if other != name:
                self._disk.remove(other)
        if self._disk.exists(name):
            file = self._disk.open(name)
        else:
            file = self._disk.open(name, create=True)
        try:
            found = file.size()
            # After a crash the end may be zeros or missing: count whole frames only.
            offset = intact_bytes(file, min(found, size))
            if found > offset:
                file.truncate(offset)
            _need_space(self._disk, size - offset)
            _write_again(file, offset)
        except BaseException:
            file.close()
            raise
        return SnapshotReceiver(self._disk, name, file, content, size, offset)

    def prune(self, *, keep: int = 2, pinned: Collection[str] = ()) -> list[str]:
        """Remove the oldest snapshots; durable on return. Blocks.

        Args:
            keep: How many of the newest stay.
            pinned: Names that stay as well.

        Returns:
            Names removed.
        """
        names = self.names()
        removed = [name for name in names[: max(0, len(names) - keep)] if name not in pinned]
        for name in removed:
            self._disk.remove(name)
        if removed:
            self._disk.sync_directory(DIRECTORY)
        return removed


def _write_again(file: DiskFile, end: int) -> None:
    """Write once more what an earlier process has left of a file.

    Why: one that ended because a sync failed leaves pages which can be read, are not
    on the disk, and count as clean; no later sync would save them.
    """
    for position in range(0, end, CHUNK_BYTES):
        file.write(file.read(position, min(CHUNK_BYTES, end - position)), position)


class SnapshotReader:
    """Pieces of one snapshot's image, every checksum verified before they come out.

    Attributes:
        meta: What the snapshot stands for.
    """

    def __init__(self, disk: Disk, name: str, file: DiskFile, meta: SnapshotMeta) -> None:
        self._disk = disk
        self._name = name
        self._file = file
        self.meta = meta

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces in order; blocks while it reads.

        Nothing loaded may be used before the iteration has ended by itself: the
        digest of the whole file is checked last.

        Raises:
            DamagedDataError: Names the file and the position of the damaged frame.
        """
        with _Damage(self._disk, self._name):
            for pieces in walk(self._file, self._file.size()):
                yield from pieces

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class RawSnapshot:
    """The bytes of one snapshot file, for sending.

    Attributes:
        meta: What the snapshot stands for.
        content_id: 32 hex digits that name the content of the file.
        size: In bytes.
    """

    def __init__(self, file: DiskFile, meta: SnapshotMeta, content: str) -> None:
        self._file = file
        self.meta = meta
        self.content_id = content
        self.size = file.size()

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`. Blocks; may run on a worker."""
        return self._file.read(offset, min(size, max(0, self.size - offset)))

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class SnapshotWriter:
    """Writes one snapshot to a temporary file; made by `SnapshotStore.writer`."""

    def __init__(self, disk: Disk, meta: SnapshotMeta, chunk_bytes: int) -> None:
        self._disk = disk
        self._meta = meta
        self._chunk_bytes = chunk_bytes
        self._file = disk.open(_WRITING_NAME, create=True)
        self._syncs = SpreadSyncs(self._file)
        self._open = True
        self._digest = hashlib.blake2b(digest_size=DIGEST_SIZE)
        self._position = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._chunks = self._pieces = self._image_bytes = 0
        self._put(encode_header(meta))

    def write(self, piece: bytes) -> None:
        """Add one piece of the image. Blocks while it compresses and writes.

        Raises:
            DiskFullError: There is no space; the file is gone.
            DiskFailedError: The node must stop.
        """
        if self._pending and self._pending_bytes + len(piece) > self._chunk_bytes:
            self._put_chunk()
        self._pending.append(piece)
        self._pending_bytes += len(piece)

    def finish(self, meta: SnapshotMeta) -> Iterator[SnapshotMeta | None]:
        """Complete the file, verify it by reading it back, and give it its name, in steps.

        It is durable when the last step is done. Each step blocks.

        Args:
            meta: As given to `SnapshotStore.writer`, with the image hash.

        Yields:
            None, and the meta as read back for the last step.

        Raises:
            DiskFullError: There is no space; the file is gone.
            DiskFailedError: The node must stop.
            DamagedDataError: The disk returns other bytes than were written.
            ValueError: `meta` stands for another snapshot.
        """
        if dataclasses.replace(meta, image_hash=self._meta.image_hash) != self._meta:
            raise ValueError("the snapshot was started for another state")
        if self._pending:
            self._put_chunk()
        footer = Footer(
            chunks=self._chunks,
            pieces=self._pieces,
            image_bytes=self._image_bytes,
            image_hash=meta.image_hash,
            digest=self._digest.digest(),
        )
        self._put(encode_footer(footer))
        self._file.sync()
        yield None
        with _Damage(self._disk, _WRITING_NAME):
            for _ in walk(self._file, self._file.size()):
                yield None
            found, _ = _read_ends(self._file)
        self._open = False
        self._file.close()
        self._disk.rename(_WRITING_NAME, snapshot_name(found))
        self._disk.sync_directory(DIRECTORY)
        yield found

    def abort(self) -> None:
        """Give the file up; fine after `finish` and when called twice."""
        if self._open:
            self._open = False
            self._file.close()
            self._disk.remove(_WRITING_NAME)

    def _put_chunk(self) -> None:
        pieces = self._pending
        self._put(encode_chunk(self._chunks, pieces))
        self._chunks += 1
        self._pieces += len(pieces)
        self._image_bytes += self._pending_bytes
        self._pending = []
        self._pending_bytes = 0

    def _put(self, frame: bytes) -> None:
        try:
            self._file.write(frame, self._position)
        except DiskFullError:
            self.abort()
            raise
        self._syncs.note_written(len(frame))
        self._digest.update(frame)
        self._position += len(frame)


def check_announced(content: str, size: int) -> None:
    """Judge what another node says that it is going to send.

    Raises:
        ProtocolError: The content id or the size cannot be one.
    """
    if not _CONTENT_ID_PATTERN.fullmatch(content) or size < FOOTER_SIZE:
        raise ProtocolError(f"no snapshot has content id {content!r} and {size} bytes")


class SnapshotReceiver:
    """Takes the bytes of one snapshot; made by `SnapshotStore.receiver`.

    Attributes:
        content_id: Names the content that is being received.
        size: Of the whole file, in bytes.
        offset: Everything before it is there; the sender goes on from here.
    """

    def __init__(
        self, disk: Disk, name: str, file: DiskFile, content: str, size: int, offset: int
    ) -> None:
        self._disk = disk
        self._name = name
        self._file = file
        self._syncs = SpreadSyncs(file)
        self._open = True
        self.content_id = content
        self.size = size
        self.offset = offset

    def write(self, offset: int, data: bytes) -> None:
        """Take the bytes at `offset`; what is there already is passed over. Blocks.

        Raises:
            ProtocolError: They leave a hole, or reach beyond the size announced.
            DiskFullError: There is no space; what was taken stays for later.
            DiskFailedError: The node must stop.
        """
        if offset > self.offset or offset < 0 or offset + len(data) > self.size:
            raise ProtocolError(
                f"snapshot bytes {offset} to {offset + len(data)} of {self.size} "
                f"when {self.offset} is next"
            )
        fresh = memoryview(data)[self.offset - offset :]
        if fresh:
            self._file.write(fresh, self.offset)
            self._syncs.note_written(len(fresh))
            self.offset += len(fresh)

    def finish(self) -> SnapshotMeta:
        """Verify the whole file and give it its name; it is durable on return. Blocks.

        Raises:
            ProtocolError: Bytes are missing, or what came is not an intact
                snapshot of that content; then all of it is given up.
            DiskFailedError: The node must stop.
        """
        if self.offset != self.size:
            raise ProtocolError(f"snapshot ends at {self.offset} of {self.size} bytes")
        self._file.sync()
        try:
            meta = _verify(self._file)
            if _read_content_id(self._file) != self.content_id:
                raise SnapshotFormatError(self.size - FOOTER_SIZE, "another content")
        except (SnapshotFormatError, UnknownVersionError) as error:
            self.abort()
            raise ProtocolError(f"the snapshot received is not intact: {error}") from error
        self.close()
        self._disk.rename(self._name, snapshot_name(meta))
        self._disk.sync_directory(DIRECTORY)
        return meta

    def close(self) -> None:
        """Stop for now; `SnapshotStore.receiver` goes on with what is there."""
        if self._open:
            self._open = False
            self._file.close()

    def abort(self) -> None:
        """Give up what was received; fine after `finish` and when called twice."""
        if self._open:
            self.close()
            self._disk.remove(self._name)


class _Damage:
    """Turns errors of the format into the error that stops the node."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        failure: DamagedDataError
        if isinstance(error, SnapshotFormatError):
            failure = damaged(self._disk, self._name, error.position, error.detail)
        elif isinstance(error, UnknownVersionError):
            failure = too_new(self._disk, self._name, version=error.version, supported=VERSION)
        else:
            return
        raise failure from error


def _read_ends(file: DiskFile) -> tuple[SnapshotMeta, bytes]:
    size = file.size()
    meta = read_header(file, size)
    footer, footer_frame = read_footer(file, size)
    return dataclasses.replace(meta, image_hash=footer.image_hash), footer_frame


def _verify(file: DiskFile) -> SnapshotMeta:
    """Read a whole file back, verifying everything."""
    for _ in walk(file, file.size()):
        pass
    meta, _ = _read_ends(file)
    return meta


def _read_content_id(file: DiskFile) -> str:
    _, footer_frame = read_footer(file, file.size())
    return content_id(footer_frame)


def _need_space(disk: Disk, size: int) -> None:
    free = disk.free_bytes()
    if size > free:
        raise DiskFullError(f"a snapshot of {size} bytes needs more than the {free} free bytes")

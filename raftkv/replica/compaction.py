"""Taking snapshots of the store and dropping the log that they cover.

Owns when a snapshot is taken (log bytes since the last one, or on request), the
walk from image to durable file, and what may be deleted afterwards. The image
is encoded piece by piece on the owning thread, compressed and written by the
background worker, one piece at a time, and read back in pieces as well, with a
pause behind each (ADR 32).

A snapshot gets its name only when a quorum has been found to hold the same in
memory, by a checkpoint at its index or later (replica.checkpoints): what flipped
in this node's memory shall not become its history, nor that of others.

Invariants: the log is never cut before the snapshot that covers it is durable
and verified; the previous snapshot stays until then; a full disk ends the
attempt, not the node.

Owner: replica.replica. Tests: tests/unit/replica/test_compaction.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from raftkv.config import Limits
from raftkv.engine.core import RaftCore
from raftkv.engine.ready import SnapshotTaken
from raftkv.errors import DiskFullError
from raftkv.kv.image import Image
from raftkv.kv.store import KvStore
from raftkv.replica.agreement import Agreement, Verdict
from raftkv.seams import DISK_FULL, STATES_DIFFER, Failure, Observer, Slot, Worker
from raftkv.storage.snapshots import SnapshotStore, SnapshotWriter
from raftkv.types import Configuration, Index, SnapshotMeta, Term

if TYPE_CHECKING:
    from raftkv.storage.wal import Wal

T = TypeVar("T")

# From the beginning of one piece to that of the next, at least. A piece takes about two
# milliseconds on two threads, so that a snapshot leaves three quarters of the time to
# clients, and takes about a second and a half for each hundred thousand small keys.
PIECE_INTERVAL_MS = 8
# No pause, and so many pieces at once, while writes make the image hold too much memory,
# or when the log is so long that the next snapshot is due.
PRESSED_PIECES = 3
# After a failed attempt, log bytes to wait for before the next one.
RETRY_BYTES = 1 << 20
# Limit: log kept for a follower that is being sent a snapshot, in snapshots' worth.
PINNED_SHARE = 2
# How long a snapshot that is due waits for a checkpoint to be taken at; without one
# it is taken anywhere.
CHECKPOINT_WAIT_MS = 1000
# A snapshot that waits to be confirmed asks for another checkpoint after this time:
# some may have missed the last one.
RECHECK_MS = 2000
# Limit: how long a snapshot waits to be confirmed, besides twice the time it took.
PATIENCE_MS = 30_000
# While the nodes are known to differ and nobody knows who is right, no snapshot is
# kept, up to so many snapshots' worth of log.
DIFFERENCE_SHARE = 8


class _Attempt:
    """One snapshot on its way to the disk.

    Attributes:
        next_ms: When the next piece or step is due; None while one is with the worker, and
            while all of them wait for a quorum.
        steps: Of the end, once a quorum has confirmed what is written.
    """

    def __init__(
        self,
        image: Image,
        writer: SnapshotWriter,
        meta: SnapshotMeta,
        *,
        now_ms: int,
        at_checkpoint: bool,
    ) -> None:
        self.image = image
        self.pieces: Iterator[bytes] = image.slices()
        self.writer = writer
        self.index = meta.index
        self.at_checkpoint = at_checkpoint
        self.started_ms = now_ms
        self.next_ms: int | None = now_ms
        self.steps: Iterator[SnapshotMeta | None] | None = None
        self.is_written = False
        self.written_ms: int | None = None
        self._meta = meta

    def meta(self) -> SnapshotMeta:
        """Say what the file stands for, once every piece was taken."""
        if self.image.image_hash is None:
            raise AssertionError("the image was not walked to its end")
        return replace(self._meta, image_hash=self.image.image_hash)


def _write_all(writer: SnapshotWriter, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)


def _meta(image: Image, term: Term, configuration: Configuration) -> SnapshotMeta:
    """Return what an image stands for; its hash is known at its end only."""
    meta = image.meta
    return SnapshotMeta(
        index=Index(meta.applied_index),
        term=term,
        configuration=configuration,
        state_hash=meta.state_hash,
        image_hash=b"",
        log_time_ms=meta.log_time_ms,
        lease_time_ms=meta.lease_time_ms,
        revision=meta.revision,
        keys=meta.key_count,
    )


class Compactor:
    """Decides when to take a snapshot, takes it, and cuts the log.

    Attributes:
        took_pieces: Whether the last turn took pieces of an image.
        wants_checkpoint: Whether a snapshot waits for one, to be taken at or confirmed by.
        snapshot_index: Index of the newest snapshot; 0 for none.
    """

    def __init__(
        self,
        *,
        core: RaftCore,
        wal: Wal,
        snapshots: SnapshotStore,
        background: Worker,
        observer: Observer,
        limits: Limits,
        pinned: Callable[[], Index | None],
        deliver: Callable[[SnapshotTaken], None],
        fail: Callable[[BaseException], None],
        agreement: Agreement,
        wake: Callable[[], None],
        log_bytes: int,
        snapshot_index: Index,
    ) -> None:
        self._core = core
        self._wal = wal
        self._snapshots = snapshots
        self._background = background
        self._observer = observer
        self._limits = limits
        self._pinned = pinned
        self._deliver = deliver
        self._fail = fail
        self._agreement = agreement
        self._wake = wake
        self._attempt: _Attempt | None = None
        self._is_clearing = False
        self._requests: list[Slot] = []
        self._waiting: list[Slot] = []
        self._log_bytes = log_bytes
        self._uncovered_bytes = log_bytes
        self._due_ms: int | None = None
        self.took_pieces = self.wants_checkpoint = False
        self.snapshot_index = snapshot_index

    def note_applied(self, size: int) -> None:
        """Count bytes of applied entries since the last snapshot."""
        self._log_bytes += size
        self._uncovered_bytes += size

    def note_installed(self, index: Index) -> None:
        """Start counting again behind a snapshot that came from the leader."""
        self.snapshot_index = index
        self._log_bytes = self._uncovered_bytes = 0
        self._background.submit(self._snapshots.prune, self._pruned)

    def request(self, slot: Slot) -> None:
        """Take a snapshot soon and resolve the slot with its index."""
        self._requests.append(slot)

    def turn(self, store: KvStore, now_ms: int) -> None:
        """Start an attempt that is due, or go on with the one that is under way."""
        self.took_pieces = self.wants_checkpoint = False
        if self._attempt is not None:
            self._go_on(self._attempt, now_ms)
            return
        if self._is_clearing:
            return
        if not self._requests and self._log_bytes < self._limits.snapshot_log_bytes:
            self._due_ms = None
            return
        if store.applied_index <= self.snapshot_index:
            self._waiting, self._requests = self._requests, []
            self._answer(self.snapshot_index)
            return
        if self._due_ms is None:
            self._due_ms = now_ms
        if now_ms - self._due_ms < CHECKPOINT_WAIT_MS:
            self.wants_checkpoint = True
        else:
            self._start(store, now_ms, at_checkpoint=False)

    def join(self, store: KvStore, now_ms: int) -> bool:
        """Take the snapshot at this checkpoint if it is due, or soon would be.

        Returns:
            Whether the image of this index is under way and its hash will be noted.
        """
        is_due = self._requests or 2 * self._log_bytes >= self._limits.snapshot_log_bytes
        if self._attempt is None and not self._is_clearing and is_due:
            self._start(store, now_ms, at_checkpoint=True)
            return self._attempt is not None
        return False

    def _start(self, store: KvStore, now_ms: int, *, at_checkpoint: bool) -> None:
        self._waiting, self._requests = self._requests, []
        self._due_ms = None
        index = Index(store.applied_index)
        term = self._core.log.term_at(index)
        if term is None:
            raise AssertionError(f"applied entry {index} is not in the log")
        self._log_bytes = 0
        image = store.start_image()
        meta = _meta(image, Term(term), self._core.configuration_at(index))
        try:
            writer = self._snapshots.writer(meta)
        except DiskFullError:
            image.close()
            self._give_up(DISK_FULL)
            return
        self._attempt = _Attempt(image, writer, meta, now_ms=now_ms, at_checkpoint=at_checkpoint)
        self._go_on(self._attempt, now_ms)

    def next_ms(self) -> int | None:
        """Return the boot time at which `turn` has something to do by itself."""
        return None if self._attempt is None else self._attempt.next_ms

    def _go_on(self, attempt: _Attempt, now_ms: int) -> None:
        """Hand the next piece to the worker if it is time, or see whether all may be kept."""
        if attempt.next_ms is None and not attempt.is_written:
            return
        if attempt.index <= self.snapshot_index:
            # One that came from the leader meanwhile covers more.
            self._attempt = None
            attempt.image.close()
            self._clear(attempt)
            self._answer(self.snapshot_index)
        elif attempt.next_ms is None:
            self._confirm(attempt, now_ms)
        elif now_ms >= attempt.next_ms or self._is_pressed(attempt):
            if attempt.steps is not None:
                self._submit(attempt, partial(next, attempt.steps), self._step_done, now_ms)
            else:
                self._write_pieces(attempt, now_ms)

    def _is_pressed(self, attempt: _Attempt) -> bool:
        return attempt.image.is_pressed or self._log_bytes >= self._limits.snapshot_log_bytes

    def _write_pieces(self, attempt: _Attempt, now_ms: int) -> None:
        """Hand pieces to the worker, or note that there are no more."""
        count = PRESSED_PIECES if self._is_pressed(attempt) else 1
        pieces = list(islice(attempt.pieces, count))
        if pieces:
            self.took_pieces = True
            job = partial(_write_all, attempt.writer, pieces)
            self._submit(attempt, job, self._worked, now_ms)
            return
        attempt.next_ms = None
        attempt.is_written = True
        if attempt.at_checkpoint:
            self._agreement.note_image(attempt.index, attempt.meta().image_hash)
        self._wake()

    def _submit(
        self,
        attempt: _Attempt,
        job: Callable[[], T],
        done: Callable[[_Attempt, int, T | BaseException], None],
        now_ms: int,
    ) -> None:
        attempt.next_ms = None
        self._background.submit(job, partial(done, attempt, now_ms + PIECE_INTERVAL_MS))

    def _worked(self, attempt: _Attempt, next_ms: int, outcome: object) -> None:
        if isinstance(outcome, BaseException):
            self._abort(attempt, outcome)
            return
        attempt.next_ms = next_ms
        self._wake()

    def _step_done(
        self, attempt: _Attempt, next_ms: int, outcome: SnapshotMeta | BaseException | None
    ) -> None:
        if outcome is None or isinstance(outcome, BaseException):
            self._worked(attempt, next_ms, outcome)
        else:
            self._finished(outcome)

    def _confirm(self, attempt: _Attempt, now_ms: int) -> None:
        """Give the snapshot its name once it is known to be what the others have."""
        if attempt.written_ms is None:
            attempt.written_ms = now_ms
        waited_ms = now_ms - attempt.written_ms
        verdict = self._agreement.verdict(attempt.index, self._core.configuration)
        if verdict is not Verdict.AGREED:
            patience_ms = PATIENCE_MS + 2 * (attempt.written_ms - attempt.started_ms)
            if waited_ms < patience_ms:
                self.wants_checkpoint = waited_ms >= RECHECK_MS
                return
            bound = DIFFERENCE_SHARE * self._limits.snapshot_log_bytes
            if verdict is Verdict.DIFFERS and self._uncovered_bytes < bound:
                self._abandon(attempt, STATES_DIFFER)
                return
            self._observer.event("snapshot_unverified", index=attempt.index)
        attempt.is_written = False
        attempt.steps = attempt.writer.finish(attempt.meta())
        attempt.next_ms = now_ms
        self._go_on(attempt, now_ms)

    def _abort(self, attempt: _Attempt, error: BaseException) -> None:
        if isinstance(error, DiskFullError):
            self._abandon(attempt, DISK_FULL)
            return
        self._attempt = None
        attempt.image.close()
        self._fail(error)

    def _abandon(self, attempt: _Attempt, failure: Failure) -> None:
        self._attempt = None
        attempt.image.close()
        self._clear(attempt)
        self._give_up(failure)

    def _clear(self, attempt: _Attempt) -> None:
        """Let the worker remove the file of an attempt that is over.

        Until then none begins: all have one name, and the next would lose its file.
        """
        self._is_clearing = True
        self._background.submit(attempt.writer.abort, self._cleared)

    def _give_up(self, failure: Failure) -> None:
        self._observer.event("snapshot_postponed", reason=failure.reason)
        self._log_bytes = max(0, self._limits.snapshot_log_bytes - RETRY_BYTES)
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.fail(failure)

    def _finished(self, taken: SnapshotMeta) -> None:
        self._attempt = None
        # Delivering takes a turn, which may begin the next attempt for others.
        waiting, self._waiting = self._waiting, []
        if taken.index > self.snapshot_index:
            self.snapshot_index = taken.index
            self._uncovered_bytes = self._log_bytes
            self._deliver(SnapshotTaken(taken, self._keep_from(taken.index)))
        self._observer.event("snapshot_taken", index=taken.index, keys=taken.keys)
        self._background.submit(self._snapshots.prune, self._pruned)
        for slot in waiting:
            slot.resolve([int(taken.index)])

    def _keep_from(self, index: Index) -> Index:
        """Return the first entry to keep below a snapshot.

        A tail stays for followers that lag a little. Within bounds, so does all
        that a follower will need who is being sent an older snapshot, and what one
        still needs who is being sent the log: cut off, each would have to begin
        again with a snapshot, and one that is slow might never end.
        """
        log = self._core.log
        first = log.first_within(index, self._limits.snapshot_keep_log_bytes)
        needed = [at for at in (self._pinned(), self._core.fed_from()) if at is not None]
        if needed:
            bound = PINNED_SHARE * self._limits.snapshot_log_bytes
            pinned = max(min(needed) + 1, log.first_within(index, bound))
            first = Index(min(first, pinned))
        return first

    def cut_wal(self) -> None:
        """Delete the segments that hold nothing above the log's base."""
        names = self._wal.compact(self._core.log.base_index)
        if names:
            self._background.submit(partial(self._wal.remove_segments, names), self._pruned)

    def _answer(self, index: Index) -> None:
        waiting, self._waiting = self._waiting, []
        for slot in waiting:
            slot.resolve([int(index)])

    def close(self, failure: Failure) -> None:
        """Answer whoever still waits; the node stops."""
        waiting, self._waiting, self._requests = self._waiting + self._requests, [], []
        for slot in waiting:
            slot.fail(failure)

    def _pruned(self, outcome: object) -> None:
        if isinstance(outcome, BaseException):
            self._fail(outcome)

    def _cleared(self, outcome: object) -> None:
        """Let the next attempt begin, which removes what a full disk left of the file."""
        self._is_clearing = False
        if isinstance(outcome, BaseException) and not isinstance(outcome, DiskFullError):
            self._fail(outcome)
        else:
            self._wake()

"""Whether the log has space, known before a step instead of found in a write.

Space is taken a segment at a time, ahead of need, by the background worker. If
there is none left for what this turn would write, the state is `full`: the
engine takes no entries, but votes, heartbeats and reads go on out of a reserve,
and the state ends by itself when space returns.

Owner: replica.replica. Tests: tests/unit/replica/test_disk_space.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from raftkv.engine.messages import entry_count
from raftkv.engine.ready import Inbound, PeerMessage, Proposal
from raftkv.errors import DiskFullError
from raftkv.seams import Clock, Observer, Worker
from raftkv.storage.wal import RECORD_OVERHEAD_BYTES

if TYPE_CHECKING:
    from raftkv.storage.wal import Wal

RETRY_MS = 500

# Room for what a step writes besides the entries that it was given: the frame itself,
# hard state, truncation, a no-op, configurations.
_FRAME_SLACK_BYTES = 64 * 1024


def needed_bytes(inbox: Iterable[Inbound], proposals: Iterable[Proposal]) -> int:
    """Return what a step may have to write in one frame, given what goes into it.

    Every entry costs a record's head besides its command. A message is counted
    whole, though a part of it may turn out to be held already.
    """
    needed = _FRAME_SLACK_BYTES
    for proposal in proposals:
        # The kind of the entry is the first byte of its command.
        needed += len(proposal.payload) + 1 + RECORD_OVERHEAD_BYTES
    for item in inbox:
        if type(item) is PeerMessage:
            needed += len(item.body) + entry_count(item.body) * RECORD_OVERHEAD_BYTES
    return needed


class DiskSpaceGuard:
    """Keeps a prepared segment at hand, and says when there is none to be had."""

    def __init__(
        self,
        *,
        wal: Wal,
        background: Worker,
        observer: Observer,
        clock: Clock,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._wal = wal
        self._background = background
        self._observer = observer
        self._clock = clock
        self._fail = fail
        self._preparing = False
        self._retry_ms: int | None = None
        self.full = False

    def check(self, needed_bytes: int) -> bool:
        """Make sure that this much can be written; say whether `full` changed.

        Blocks for a segment's creation only if the worker did not keep up.
        """
        was = self.full
        self.full = not self._has_room(needed_bytes)
        if self.full != was:
            self._observer.event("disk_full" if self.full else "disk_space_returned")
        return self.full != was

    def _has_room(self, needed_bytes: int) -> bool:
        # Once full, it stays full until a segment could be taken: what is left in the
        # last one would let the state come and go with the size of each write.
        wanting = self.full and self._wal.needs_segment()
        if self._wal.room_bytes() >= needed_bytes and not wanting:
            return True
        if self._preparing:
            # The worker holds the file, or has other work before it; rotation can still
            # make one of its own, but a step must not find out that there is no space.
            spacious = self._wal.can_take_segment(needed_bytes)
            return spacious and not self.full and self._retry_ms is None
        if self.full and self._retry_ms is not None and self._clock.now_ms() < self._retry_ms:
            return False
        try:
            self._wal.prepare_segment(needed_bytes)
        except DiskFullError:
            self._retry_ms = self._clock.now_ms() + RETRY_MS
            return False
        self._retry_ms = None
        return True

    def prepare(self) -> None:
        """Let the worker take the next segment's space, unless it was just refused."""
        if self._preparing or not self._wal.needs_segment():
            return
        if self._retry_ms is not None and self._clock.now_ms() < self._retry_ms:
            return
        self._preparing = True
        self._background.submit(self._wal.prepare_segment, self._prepared)

    def retry_ms(self) -> int | None:
        """Return when to look again for space."""
        return self._retry_ms

    def _prepared(self, outcome: object) -> None:
        self._preparing = False
        if isinstance(outcome, DiskFullError):
            self._retry_ms = self._clock.now_ms() + RETRY_MS
        elif isinstance(outcome, BaseException):
            self._fail(outcome)
        else:
            self._retry_ms = None

"""Watches: changes of keys, told in the order of their revisions, without a gap.

The history of the store is the buffer. A watch is a position in it - the revision up to
which its connection has been told everything - and what it looks for; no change waits in
a queue of its own. `WatchHub` tells new changes to the watches that stand at the end, by
an index of keys and prefixes, so that those of other keys cost a write next to nothing.
One whose connection takes nothing falls behind and later reads on from the history by
itself. If what it needs is gone by then, it is told from which revision on changes are
there, and ends.

Invariants: all matching changes of a revision are one message; a watch that is live has
been told everything up to the hub's position, or up to its own if that is greater; the
position of a watch only grows. Nothing here is replicated: any node can serve a watch
from any revision that its history holds, because all hold the same.

Does no I/O: a `Watcher` takes messages and says whether it has room. Called only on the
thread that owns the state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

from raftkv.kv.history import Change, CompactedError, History, revision_of
from raftkv.server import watch_messages
from raftkv.server.watch_index import Watch, Watcher, WatchIndex

# Limit: changes looked at in one turn, before others get theirs; about a millisecond.
TURN_CHANGES: Final = 1024
# Limit: what may be told in one turn, in messages. Another client that is told in a turn
# costs a write to its socket, as much as two more messages; a large message counts for as
# many as it has pieces of `_MESSAGE_BYTES`. It takes less than a millisecond. Who is not
# told by then is behind, and told in the next turns.
TURN_COST: Final = 96
WRITE_COST: Final = 2
_MESSAGE_BYTES: Final = 16 * 1024
# Pause behind a turn that used all of it for more clients than a few: a thousand that watch
# one key would otherwise have the processor for themselves, on both sides, for tens of
# milliseconds. It is about as long as such a turn, so that the others have at least half of
# the time. A few that catch up do not pause, as they would fall behind for good.
PAUSE_S: Final = 0.001
FEW_CLIENTS: Final = 8
# Limit: changes that one watch which is behind looks at before the next one may.
SLICE_CHANGES: Final = 256
# Time within which every watch is told the revision it has reached, if that is news.
PROGRESS_INTERVAL_MS: Final = 5000


class WatchHub:
    """All watches of one node.

    Attributes:
        position: Revision up to which those that are live have been told everything.
        on_change: Hears every new change beside them, if set.
    """

    def __init__(self, history: Callable[[], History], wake: Callable[[float], None]) -> None:
        """Start without watches.

        Args:
            history: The store's; another one once a snapshot was installed.
            wake: Asks for a call of `turn` once others had theirs and so many seconds
                are over, and for none before that.
        """
        self._history = history
        self._wake = wake
        self.position = 0
        self._on_change: Callable[[Change], None] | None = None
        self._live = WatchIndex()
        self._behind: deque[Watch] = deque()
        # Every watch, in the order in which its progress is looked at.
        self._rota: deque[Watch] = deque()
        self._count = 0
        self._cost_left = 0
        # The clients that were told something in this turn.
        self._told_now: set[Watcher] = set()

    # ------------------------------------------------------------ watches come and go

    @property
    def count(self) -> int:
        """Number of watches."""
        return self._count

    @property
    def on_change(self) -> Callable[[Change], None] | None:
        """Who hears every new change beside the watches."""
        return self._on_change

    @on_change.setter
    def on_change(self, listener: Callable[[Change], None] | None) -> None:
        self._skip_unheard()
        self._on_change = listener

    def add(self, watch: Watch, first_revision: int | None) -> int:
        """Begin a watch.

        Args:
            watch: A new one.
            first_revision: Oldest revision of which it is told; None for those behind
                the newest of this node.

        Returns:
            The revision behind which its changes begin.

        Raises:
            CompactedError: That revision is gone.
        """
        history = self._history()
        if first_revision is None:
            watch.position = history.revision
        else:
            watch.position = first_revision - 1
            history.check(watch.position)
        watch.told = watch.position
        self._skip_unheard()
        self._count += 1
        self._rota.append(watch)
        if watch.position >= self.position:
            self._make_live(watch)
        else:
            self._behind.append(watch)
            self._wake(0.0)
        return watch.position

    def remove(self, watch: Watch) -> None:
        """End a watch; its connection hears nothing of it any more."""
        watch.has_ended = True
        self._count -= 1
        if watch.is_live:
            self._leave_index(watch)
        # The deques find out when they come to it, unless most of them is such.
        if len(self._rota) > 2 * self._count + 64:
            self._rota = deque(other for other in self._rota if not other.has_ended)
            self._behind = deque(other for other in self._behind if not other.has_ended)

    def resume(self, watches: list[Watch]) -> None:
        """Go on with those of a connection that has room again."""
        for watch in watches:
            if watch.is_blocked:
                watch.is_blocked = False
                self._behind.append(watch)
                self._wake(0.0)

    def reached(self, watch: Watch) -> int:
        """Return the revision up to which a watch has been told everything."""
        return max(watch.position, self.position) if watch.is_live else watch.position

    def _skip_unheard(self) -> None:
        """Take new changes for told if there was nobody to tell."""
        if not self._live and self._on_change is None:
            self.position = max(self.position, self._history().revision)

    def _make_live(self, watch: Watch) -> None:
        watch.is_live = True
        self._live.add(watch)

    def _leave_index(self, watch: Watch) -> None:
        watch.is_live = False
        self._live.remove(watch)

    # ------------------------------------------------------------ telling

    def turn(self) -> None:
        """Tell what is new, and let those that are behind catch up, for about a millisecond."""
        left = TURN_CHANGES
        self._cost_left = TURN_COST
        self._told_now.clear()
        if self._live or self._on_change is not None:
            left -= self._tell_live(left)
        for _ in range(len(self._behind)):
            if left <= 0 or self._cost_left <= 0:
                break
            watch = self._behind.popleft()
            if not watch.has_ended:
                left -= self._catch_up(watch)
        is_late = bool(self._live) or self._on_change is not None
        if self._behind or (is_late and self.position < self._history().revision):
            pauses = self._cost_left <= 0 and len(self._told_now) > FEW_CLIENTS
            self._wake(PAUSE_S if pauses else 0.0)

    def _tell_live(self, limit: int) -> int:
        """Tell new changes to those that stand at the end; return how many were looked at."""
        history = self._history()
        if self.position >= history.revision:
            return 0
        count = 0
        try:
            history.check(self.position)
        except CompactedError:
            self._jump(history)
            return 1
        hears = self._on_change
        for revision, changes in _revisions(history, self.position, limit):
            count += len(changes)
            found: dict[Watch, list[Change]] = {}
            for change in changes:
                if hears is not None:
                    hears(change)
                self._find(change, revision, found)
            if found:
                bodies = watch_messages.Bodies()
                for watch, matching in found.items():
                    # One may have ended by what another one was told.
                    if watch.is_live:
                        self._tell(watch, revision, matching, bodies)
            self.position = revision
        if count < limit:
            # The newest revisions may have changed nothing.
            self.position = history.revision
        return count

    def _find(self, change: Change, revision: int, found: dict[Watch, list[Change]]) -> None:
        """Add a change to those of the watches that it is for."""
        for watch in self._live.matching(change[2]):
            if watch.position < revision:
                found.setdefault(watch, []).append(change)

    def _tell(
        self, watch: Watch, revision: int, changes: list[Change], bodies: watch_messages.Bodies
    ) -> None:
        """Tell a live watch one revision, or let it fall behind."""
        if self._cost_left > 0 and watch.watcher.has_room():
            self._push(watch, revision, changes, bodies)
            return
        self._leave_index(watch)
        watch.position = max(watch.position, self.position)
        self._wait(watch)

    def _push(
        self, watch: Watch, revision: int, changes: list[Change], bodies: watch_messages.Bodies
    ) -> None:
        watch.position = watch.told = revision
        watcher = watch.watcher
        parts = watch_messages.encode_changes(
            watcher.protocol,
            watch.number,
            changes,
            bodies,
            previous=watch.previous,
            bytes_max=watcher.values_bytes_max,
        )
        self._cost_left -= 1 + watcher.push_parts(parts) // _MESSAGE_BYTES
        if watcher not in self._told_now:
            self._told_now.add(watcher)
            self._cost_left -= WRITE_COST

    def _wait(self, watch: Watch) -> None:
        """Let a watch that is behind wait for room."""
        if watch.watcher.is_writable:
            self._behind.append(watch)
        else:
            watch.is_blocked = True

    def _jump(self, history: History) -> None:
        """Go over changes that are gone; those that miss some will be told so."""
        gap_end = history.compacted
        for watch in self._live.all():
            if watch.position < gap_end:
                self._leave_index(watch)
                watch.position = max(watch.position, self.position)
                self._behind.append(watch)
        self.position = gap_end

    def _catch_up(self, watch: Watch) -> int:
        """Tell a watch that is behind a bounded number of changes; return how many."""
        history = self._history()
        watcher = watch.watcher
        if not watcher.has_room():
            self._wait(watch)
            return 1
        try:
            history.check(watch.position)
        except CompactedError as error:
            self._end_compacted(watch, error.oldest + 1)
            return 1
        count = 0
        for revision, changes in _revisions(history, watch.position, SLICE_CHANGES):
            count += len(changes)
            matching = [change for change in changes if watch.matches(change[2])]
            if matching:
                if self._cost_left <= 0 or not watcher.has_room():
                    self._wait(watch)
                    return count
                self._push(watch, revision, matching, watch_messages.Bodies())
            watch.position = revision
        if count < SLICE_CHANGES:
            watch.position = max(watch.position, history.revision)
        self._skip_unheard()
        if watch.position >= self.position:
            self._make_live(watch)
        else:
            self._behind.append(watch)
        return count + 1

    def _end_compacted(self, watch: Watch, oldest: int) -> None:
        watcher = watch.watcher
        self.remove(watch)
        watcher.watch_ended(watch.number)
        message = watch_messages.encode_compacted(
            watcher.protocol, watch.number, oldest, reached=watch.position
        )
        watcher.push_parts([message])

    # ------------------------------------------------------------ progress

    def tell_progress(self, watch: Watch) -> None:
        """Tell a watch the revision up to which it has been told everything."""
        watch.told = self.reached(watch)
        watcher = watch.watcher
        message = watch_messages.encode_progress(watcher.protocol, watch.number, watch.told)
        watcher.push_parts([message])

    def tick(self, elapsed_ms: int) -> None:
        """Tell the progress of some: of each once in `PROGRESS_INTERVAL_MS`, if it is news.

        Args:
            elapsed_ms: Since the last call.
        """
        share = len(self._rota) * elapsed_ms // PROGRESS_INTERVAL_MS + 1
        for _ in range(min(share, len(self._rota))):
            watch = self._rota.popleft()
            if watch.has_ended:
                continue
            self._rota.append(watch)
            if watch.is_live and self.reached(watch) > watch.told and watch.watcher.has_room():
                self.tell_progress(watch)


def _revisions(history: History, after: int, limit: int) -> Iterator[tuple[int, list[Change]]]:
    """Yield whole revisions with their changes, oldest first, up to about `limit` changes."""
    for revision, changes in groupby(history.stretch(after, limit), revision_of):
        yield revision, list(changes)

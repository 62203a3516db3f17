"""The hub of watches: nothing is left out, told twice, or told in another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.kv.history import DELETE, EXPIRE, PUT, Change, CompactedError, History
from raftkv.server import watches
from raftkv.server.watch_index import Watch
from raftkv.server.watches import (
    FEW_CLIENTS,
    PAUSE_S,
    SLICE_CHANGES,
    TURN_CHANGES,
    TURN_COST,
    WRITE_COST,
    WatchHub,
)


def entry(value: bytes, revision: int) -> tuple[bytes, int, int, int, int]:
    return (value, 0, revision, revision, 1)


class Recorder:
    """A connection that takes messages while it has room."""

    def __init__(self, protocol: int = 3, room: int = 1_000_000) -> None:
        self.protocol = protocol
        self.values_bytes_max = 1000
        self.room = room
        self.is_writable = True
        self.messages: list[Any] = []
        self.ended: list[int] = []
        self._reader = hiredis.Reader()

    def has_room(self) -> bool:
        return self.is_writable and self.room > 0

    def push_parts(self, parts: list[bytes]) -> int:
        data = b"".join(parts)
        self.room -= 1
        self.is_writable = self.room > 0
        self._reader.feed(data)
        while (message := self._reader.gets()) is not False:
            self.messages.append(message)
        return len(data)

    def watch_ended(self, number: int) -> None:
        self.ended.append(number)

    def events(self) -> list[tuple[int, list[bytes]]]:
        """Revision and keys of each message with events."""
        return [
            (message[3], [event[1] for event in message[4]])
            for message in self.messages
            if message[2] == b"events"
        ]


@dataclass
class Bench:
    """A history that tests write, and a hub on it."""

    history: History = field(default_factory=History)
    wakes: int = 0
    pauses_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = WatchHub(lambda: self.history, self._wake)

    def _wake(self, pause_s: float) -> None:
        self.wakes += 1
        self.pauses_s.append(pause_s)

    def put(self, *keys: bytes) -> int:
        revision = self.history.revision + 1
        for key in keys:
            self.history.add((revision, PUT, key, None, entry(b"v%d" % revision, revision)))
        self.history.revision = revision
        return revision

    def settle(self) -> None:
        """Take turns until nobody asks for another."""
        self.wakes = 1
        while self.wakes:
            self.wakes = 0
            self.hub.turn()

    def watch(
        self,
        watcher: Recorder,
        key: bytes = b"",
        *,
        is_prefix: bool = True,
        first: int | None = None,
        number: int = 1,
    ) -> Watch:
        watch = Watch(watcher, number, key, is_prefix=is_prefix, previous=False)
        self.hub.add(watch, first)
        return watch


class TestTelling:
    def test_keys_and_prefixes(self) -> None:
        bench = Bench()
        one, some, every, other = Recorder(), Recorder(), Recorder(), Recorder()
        bench.watch(one, b"user:1", is_prefix=False)
        bench.watch(some, b"user:")
        bench.watch(every)
        bench.watch(other, b"user:10", is_prefix=False)
        bench.put(b"user:1")
        bench.put(b"user:2")
        bench.put(b"x")
        bench.settle()
        assert one.events() == [(1, [b"user:1"])]
        assert some.events() == [(1, [b"user:1"]), (2, [b"user:2"])]
        assert every.events() == [(1, [b"user:1"]), (2, [b"user:2"]), (3, [b"x"])]
        assert other.events() == []

    def test_a_revision_is_one_message_with_what_is_for_the_watch(self) -> None:
        bench = Bench()
        watcher = Recorder()
        bench.watch(watcher, b"a")
        bench.put(b"a1", b"b", b"a2")
        bench.settle()
        assert watcher.events() == [(1, [b"a1", b"a2"])]

    def test_from_the_past_the_present_and_the_future(self) -> None:
        bench = Bench()
        for _ in range(5):
            bench.put(b"k")
        past, now, future = Recorder(), Recorder(), Recorder()
        bench.watch(past, first=2)
        bench.watch(now)
        bench.watch(future, first=8)
        for _ in range(4):
            bench.put(b"k")
            bench.settle()
        assert [revision for revision, _ in past.events()] == list(range(2, 10))
        assert [revision for revision, _ in now.events()] == list(range(6, 10))
        assert [revision for revision, _ in future.events()] == [8, 9]

    def test_two_watches_of_one_connection_have_numbers(self) -> None:
        bench = Bench()
        watcher = Recorder()
        bench.watch(watcher, b"a", number=1)
        bench.watch(watcher, b"ab", number=2)
        bench.put(b"abc")
        bench.settle()
        assert [message[1] for message in watcher.messages] == [1, 2]

    def test_one_that_ended_hears_nothing(self) -> None:
        bench = Bench()
        watcher = Recorder()
        live, behind = bench.watch(watcher), bench.watch(watcher, b"k")
        bench.put(b"k")
        bench.hub.remove(live)
        bench.hub.remove(behind)
        bench.settle()
        assert watcher.messages == []
        assert bench.hub.count == 0

    def test_a_node_that_watches_again_after_a_pause_tells_nothing_old(self) -> None:
        bench = Bench()
        first, second = Recorder(), Recorder()
        bench.hub.remove(bench.watch(first))
        bench.put(b"k")
        bench.watch(second)
        bench.put(b"k")
        bench.settle()
        assert second.events() == [(2, [b"k"])]


class TestFallingBehind:
    def test_a_slow_one_reads_on_from_the_history(self) -> None:
        bench = Bench()
        slow, quick = Recorder(room=2), Recorder()
        watch = bench.watch(slow)
        bench.watch(quick)
        for _ in range(10):
            bench.put(b"k")
        bench.hub.turn()
        assert len(slow.events()) == 2
        assert len(quick.events()) == 10
        assert watch.is_blocked
        for _ in range(10):
            bench.put(b"k")
        bench.settle()
        slow.is_writable, slow.room = True, 1000
        bench.hub.resume([watch])
        bench.settle()
        assert slow.events() == quick.events() == [(revision, [b"k"]) for revision in range(1, 21)]
        assert watch.is_live

    def test_one_that_lost_what_it_needs_is_told_and_ends(self) -> None:
        bench = Bench()
        slow = Recorder(room=2)
        watch = bench.watch(slow)
        for _ in range(10):
            bench.put(b"k")
        bench.settle()
        bench.history.compact(6)
        slow.is_writable, slow.room = True, 1000
        bench.hub.resume([watch])
        bench.settle()
        assert slow.messages[-1] == [b"kv-watch", 1, b"compacted", 7, 2]
        assert slow.ended == [1]
        assert bench.hub.count == 0
        bench.put(b"k")
        bench.settle()
        assert len(slow.messages) == 3

    def test_compaction_of_what_was_told_disturbs_nobody(self) -> None:
        bench = Bench()
        watcher = Recorder()
        bench.watch(watcher)
        for _ in range(10):
            bench.put(b"k")
            bench.settle()
            bench.history.compact(bench.history.revision)
        assert len(watcher.events()) == 10

    def test_changes_cut_out_of_the_history_end_those_that_miss_them(self) -> None:
        bench = Bench()
        present, future = Recorder(), Recorder()
        bench.watch(present)
        bench.watch(future, first=5)
        bench.put(b"k")
        bench.settle()
        bench.history.cut(3)
        bench.put(b"k")
        bench.put(b"k")
        bench.settle()
        assert present.messages[1:] == [[b"kv-watch", 1, b"compacted", 4, 1]]
        assert future.events() == [(5, [b"k"])]

    def test_a_watch_from_a_revision_that_is_gone_is_refused(self) -> None:
        bench = Bench()
        for _ in range(10):
            bench.put(b"k")
        bench.history.compact(4)
        watcher = Recorder()
        with pytest.raises(CompactedError):
            bench.watch(watcher, first=4)
        assert bench.hub.count == 0
        bench.watch(watcher, first=5)
        bench.settle()
        assert [revision for revision, _ in watcher.events()] == list(range(5, 11))

    def test_a_snapshot_brings_another_history(self) -> None:
        bench = Bench()
        within, beyond = Recorder(), Recorder(room=1)
        bench.watch(within)
        watch = bench.watch(beyond)
        bench.put(b"k")
        bench.settle()
        old = bench.history
        bench.history = History(0)
        for _ in range(6):
            bench.put(b"k")
        bench.history.compact(1)
        bench.settle()
        assert [revision for revision, _ in within.events()] == list(range(1, 7))
        bench.history.compact(4)
        beyond.is_writable, beyond.room = True, 10
        bench.hub.resume([watch])
        bench.settle()
        assert beyond.messages[-1] == [b"kv-watch", 1, b"compacted", 5, 1]
        assert old.revision == 1


class TestPieces:
    def test_a_turn_looks_at_a_bounded_number_of_changes(self) -> None:
        bench = Bench()
        live, behind = Recorder(), Recorder()
        for _ in range(5 * TURN_CHANGES):
            bench.put(b"k")
        bench.watch(behind, first=1)
        bench.watch(live)
        for _ in range(3 * TURN_CHANGES):
            bench.put(b"k")
        bench.wakes = 0
        bench.hub.turn()
        assert len(live.events()) + len(behind.events()) == TURN_COST - WRITE_COST
        assert bench.hub.position < bench.history.revision
        assert bench.wakes
        bench.settle()
        assert len(live.events()) == 3 * TURN_CHANGES
        assert len(behind.events()) == 8 * TURN_CHANGES

    def test_a_few_that_catch_up_do_not_pause(self) -> None:
        bench = Bench()
        for _ in range(3 * SLICE_CHANGES):
            bench.put(b"k")
        recorders = [Recorder() for _ in range(FEW_CLIENTS)]
        for recorder in recorders:
            bench.watch(recorder, first=1)
        bench.settle()
        assert all(len(recorder.events()) == 3 * SLICE_CHANGES for recorder in recorders)
        assert not any(bench.pauses_s)

    def test_those_behind_take_turns(self) -> None:
        bench = Bench()
        for _ in range(3 * SLICE_CHANGES):
            bench.put(b"k")
        recorders = [Recorder() for _ in range(8)]
        for recorder in recorders:
            bench.watch(recorder, first=1)
        told: list[list[int]] = []
        while not told or told[-1][0] < 2 * TURN_COST:
            bench.hub.turn()
            told.append([len(recorder.events()) for recorder in recorders])
        assert all(max(counts) - min(counts) <= SLICE_CHANGES for counts in told)

    def test_a_change_that_all_watch_is_told_in_pieces(self) -> None:
        bench = Bench()
        recorders = [Recorder() for _ in range(1000)]
        for recorder in recorders:
            bench.watch(recorder, b"k", is_prefix=False)
        bench.put(b"k")
        counts = []
        bench.wakes = 1
        while bench.wakes:
            bench.wakes = 0
            before = sum(len(recorder.messages) for recorder in recorders)
            bench.hub.turn()
            counts.append(sum(len(recorder.messages) for recorder in recorders) - before)
        cost = 1 + WRITE_COST
        assert max(counts) <= -(-TURN_COST // cost)
        # The processor is left to others in between, but not longer than needed.
        full = sum(count * cost >= TURN_COST for count in counts)
        assert bench.pauses_s.count(PAUSE_S) == full >= 1000 * cost // TURN_COST
        assert all(recorder.events() == [(1, [b"k"])] for recorder in recorders)

    def test_a_thousand_watches_of_other_keys_are_not_looked_at(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = Bench()
        watcher = Recorder()
        for number in range(500):
            bench.watch(watcher, b"key:%d" % number, is_prefix=False)
            bench.watch(watcher, b"prefix:%d:" % number)
        looked: list[Watch] = []
        monkeypatch.setattr(Watch, "matches", lambda watch, _key: looked.append(watch))
        bench.put(b"elsewhere")
        bench.settle()
        assert watcher.messages == []
        assert looked == []


class TestProgress:
    def test_it_is_told_once_an_interval_if_it_is_news(self) -> None:
        bench = Bench()
        watcher = Recorder()
        bench.watch(watcher, b"mine")
        bench.put(b"other")
        bench.settle()
        for _ in range(100):
            bench.hub.tick(50)
        assert watcher.messages == [[b"kv-watch", 1, b"progress", 1]]

    def test_on_demand_it_is_what_the_watch_has_been_told(self) -> None:
        bench = Bench()
        slow = Recorder(room=1)
        watch = bench.watch(slow)
        for _ in range(5):
            bench.put(b"k")
        bench.hub.turn()
        bench.hub.tell_progress(watch)
        assert slow.messages[-1] == [b"kv-watch", 1, b"progress", 1]

    def test_a_thousand_are_spread_over_the_interval(self) -> None:
        bench = Bench()
        watcher = Recorder()
        for number in range(1000):
            bench.watch(watcher, b"mine", number=number)
        bench.put(b"other")
        bench.settle()
        counts = []
        for _ in range(watches.PROGRESS_INTERVAL_MS // 50):
            before = len(watcher.messages)
            bench.hub.tick(50)
            counts.append(len(watcher.messages) - before)
        assert max(counts) <= 12
        assert len(watcher.messages) == 1000


class TestMessages:
    def messages(self, protocol: int, change: Change, *, previous: bool = True) -> Any:
        bench = Bench()
        watcher = Recorder(protocol)
        watch = Watch(watcher, 7, b"", is_prefix=True, previous=previous)
        bench.hub.add(watch, None)
        bench.history.add(change)
        bench.settle()
        return watcher.messages[0]

    def test_resp3(self) -> None:
        change: Change = (9, PUT, b"k", (b"old", 0, 5, 5, 1), (b"new", 99, 5, 9, 2))
        event = [b"put", b"k", b"string", b"new", 99, 5, 2, b"old"]
        assert self.messages(3, change) == [b"kv-watch", 7, b"events", 9, [event]]

    def test_resp2(self) -> None:
        change: Change = (9, DELETE, b"k", (b"old", 0, 5, 5, 1), None)
        event = [b"delete", b"k", None, None, 0, 0, 0, None]
        message = self.messages(2, change, previous=False)
        assert message == [b"message", b"kv-watch:7", [b"events", 9, [event]]]

    @pytest.mark.parametrize("size", [500, 501])
    def test_values_that_are_too_large_together_are_not_told(self, size: int) -> None:
        value = bytes(size)
        change: Change = (9, PUT, b"k", (value, 0, 5, 5, 1), (value, 0, 5, 9, 2))
        (event,) = self.messages(3, change)[4]
        told = value if size == 500 else None
        assert event == [b"put", b"k", b"string", told, 0, 5, 2, told]

    def test_expire(self) -> None:
        change: Change = (9, EXPIRE, b"k", (b"old", 3, 5, 5, 1), None)
        assert self.messages(3, change)[4] == [[b"expire", b"k", None, None, 0, 0, 0, b"old"]]


# ------------------------------------------------------------ a model

KEYS = [b"a", b"ab", b"abc", b"b", b"ba"]
WISHES = [(b"", True), (b"a", True), (b"ab", True), (b"a", False), (b"b", True), (b"zz", True)]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)),
        st.tuples(st.just("watch"), st.sampled_from(WISHES), st.integers(-2, 8)),
        st.tuples(st.just("end"), st.integers(0, 5)),
        st.tuples(st.just("room"), st.integers(0, 5), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("compact"), st.integers(0, 6)),
        st.tuples(st.just("turn")),
    ),
    max_size=60,
)


class Expected:
    """What one watch of the model must have been told."""

    def __init__(self, key: bytes, is_prefix: bool, position: int) -> None:
        self.matches: Callable[[bytes], bool] = (
            (lambda other: other.startswith(key)) if is_prefix else (lambda other: other == key)
        )
        self.position = position


@settings(max_examples=300, deadline=None)
@given(steps)
def test_every_watch_is_told_everything_once_in_order(script: list[tuple[Any, ...]]) -> None:
    bench = Bench()
    log: list[tuple[int, list[bytes]]] = []
    watched: list[tuple[Watch, Recorder, Expected]] = []
    for step in script:
        if step[0] == "put":
            keys = list(dict.fromkeys(step[1]))
            log.append((bench.put(*keys), keys))
        elif step[0] == "watch":
            (key, is_prefix), distance = step[1], step[2]
            recorder = Recorder()
            watch = Watch(recorder, 1, key, is_prefix=is_prefix, previous=False)
            first = None if distance == 8 else max(1, bench.history.revision - distance)
            try:
                position = bench.hub.add(watch, first)
            except CompactedError:
                assert first is not None
                assert first <= bench.history.compacted
                continue
            watched.append((watch, recorder, Expected(key, is_prefix, position)))
        elif step[0] == "end" and watched:
            watch = watched.pop(step[1] % len(watched))[0]
            if not watch.has_ended:
                bench.hub.remove(watch)
        elif step[0] == "room" and watched:
            watch, recorder, _ = watched[step[1] % len(watched)]
            recorder.room, recorder.is_writable = step[2], step[3]
            if step[3]:
                bench.hub.resume([watch])
        elif step[0] == "compact":
            bench.history.compact(bench.history.revision - step[1])
        elif step[0] == "turn":
            bench.hub.turn()
    for watch, recorder, _ in watched:
        recorder.room, recorder.is_writable = 1_000_000, True
        bench.hub.resume([watch])
    bench.settle()
    for watch, recorder, expected in watched:
        wanted = [
            (revision, matching)
            for revision, keys in log
            if revision > expected.position
            and (matching := [key for key in keys if expected.matches(key)])
        ]
        told = recorder.events()
        if recorder.messages and recorder.messages[-1][2] == b"compacted":
            oldest, reached = recorder.messages[-1][3:]
            assert watch.has_ended
            assert reached + 1 < oldest <= bench.history.compacted + 1
            assert told == [item for item in wanted if item[0] <= reached]
        else:
            assert told == wanted
            assert watch.is_live

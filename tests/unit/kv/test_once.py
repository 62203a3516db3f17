"""Writes that are executed once: copies, windows, fences, expiry, and their image."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from raftkv.errors import ProtocolError
from raftkv.kv import once, sessions
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import (
    INTERNAL_ERROR,
    ONCE_OPCODES,
    SESSION_OPCODES,
    WRITE_OPCODES,
    Command,
    ErrorReply,
    Opcode,
)
from raftkv.kv.image import (
    FORMAT_WITHOUT_HISTORY,
    PIECE_BYTES_MAX,
    PIECE_HEADER,
    PIECE_META,
    PIECE_SESSIONS,
)
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.sessions import FENCED, RESULT_BYTES_MAX, WINDOW_NUMBERS_MAX
from raftkv.kv.store import KvStore
from raftkv.types import NoList, Pairs
from tests.unit.kv.driver import apply, check_invariants, reload

GOLDEN = Path(__file__).parents[2] / "golden" / "kv"
EXPIRED = ErrorReply("UNKNOWN session expired")
WINDOW_FULL = ErrorReply("NOTAPPLIED session window full")
TTL_MS = 10_000
INCR: Command = (Opcode.INCRBY, b"n", 1)


def one(store: KvStore, command: Command, *, at_ms: int = 0) -> Any:
    (result,) = apply(store, [command], at_ms=at_ms)
    check_invariants(store)
    check_sessions(store)
    return result


def check_sessions(store: KvStore) -> None:
    """Check what must hold of the sessions between any two batches."""
    held = store._keyspace.sessions
    assert list(held.by_id) == sorted(held.by_id)
    assert held.size_bytes == sum(session.size_bytes for session in held.by_id.values())
    assert not held.expired
    for session in held.by_id.values():
        assert session.id <= held.last_id
        assert session.size_bytes == sum(size for _, size in session.answers.values())
        assert all(number >= session.lowest for number in session.answers)
    deadlines = [session.deadline_ms for session in held.by_id.values()]
    assert store.next_lease_deadline_ms == min(deadlines, default=None)


def once_of(session: int, number: int, command: Command, lowest: int = 1) -> Command:
    return (Opcode.ONCE, session, number, lowest, *command)


def opened(*, ttl_ms: int = TTL_MS) -> tuple[KvStore, int]:
    store = KvStore()
    return store, one(store, (Opcode.SESSION_OPEN, ttl_ms))


def value_of(store: KvStore, key: bytes = b"n") -> Any:
    return store.execute((Opcode.GET, key))


def image_of(store: KvStore) -> bytes:
    return b"".join(store.start_image().slices())


class TestOnce:
    def test_a_copy_is_answered_and_not_executed(self) -> None:
        store, session = opened()
        assert [one(store, once_of(session, 1, INCR)) for _ in range(3)] == [1, 1, 1]
        assert one(store, once_of(session, 2, INCR)) == 2
        assert one(store, once_of(session, 1, INCR)) == 1
        assert value_of(store) == b"2"

    def test_numbers_are_independent(self) -> None:
        store, session = opened()
        assert [one(store, once_of(session, number, INCR)) for number in (7, 3, 5)] == [1, 2, 3]
        assert [one(store, once_of(session, number, INCR)) for number in (3, 5, 7)] == [2, 3, 1]

    def test_a_copy_is_answered_alike_whatever_it_asks(self) -> None:
        store, session = opened()
        one(store, once_of(session, 1, INCR))
        assert one(store, once_of(session, 1, (Opcode.DEL, b"n"))) == 1
        assert value_of(store) == b"1"

    def test_sessions_do_not_share_numbers(self) -> None:
        store, first = opened()
        second = one(store, (Opcode.SESSION_OPEN, TTL_MS))
        assert second == first + 1
        assert [one(store, once_of(session, 1, INCR)) for session in (first, second)] == [1, 2]

    def test_an_error_is_a_result(self) -> None:
        store, session = opened()
        one(store, (Opcode.SET, b"n", b"text"))
        error = one(store, once_of(session, 1, INCR))
        assert error.message.startswith("ERR value is not an integer")
        one(store, (Opcode.DEL, b"n"))
        assert one(store, once_of(session, 1, INCR)) == error
        assert value_of(store) is None

    def test_a_transaction_is_executed_once(self) -> None:
        store, session = opened()
        multi = (Opcode.EXEC, 0, 2, 3, *INCR, 2, Opcode.GET, b"n")
        assert one(store, once_of(session, 1, multi)) == [1, b"1"]
        assert one(store, once_of(session, 1, multi)) == [1, b"1"]
        assert store.revision == 1

    def test_an_exec_that_was_not_done_is_not_done_later_either(self) -> None:
        store, session = opened()
        watched = (Opcode.EXEC, 1, b"w", 5, 1, 3, *INCR)
        assert isinstance(one(store, once_of(session, 1, watched)), NoList)
        for _ in range(5):
            one(store, (Opcode.SET, b"w", b"x"))
        assert isinstance(one(store, once_of(session, 1, watched)), NoList)
        assert value_of(store) is None

    def test_choices_are_made_once(self) -> None:
        store, session = opened()
        apply(store, [(Opcode.SADD, b"s", *(b"%d" % n for n in range(50)))])
        pop = once_of(session, 1, (Opcode.SPOP, b"s", 3))
        assert one(store, pop) == one(store, pop)
        assert store.execute((Opcode.SCARD, b"s")) == 47

    def test_an_unexpected_failure_is_undone_and_kept(self) -> None:
        store, session = opened()
        wrong = once_of(session, 1, (Opcode.EXEC, 0, 2, 3, *INCR, 3, Opcode.SET, b"k", 5))
        assert one(store, wrong) == INTERNAL_ERROR
        assert len(store.alarms) == 1
        assert one(store, once_of(session, 1, INCR)) == INTERNAL_ERROR
        assert value_of(store) is None

    def test_every_write_of_clients_about_keys_can_be_executed_once(self) -> None:
        assert set(once._INSIDE) == ONCE_OPCODES
        leaders_own = {Opcode.CHECKPOINT, Opcode.COMPACT, Opcode.LIMIT_DATASET}
        assert WRITE_OPCODES - leaders_own <= ONCE_OPCODES | SESSION_OPCODES

    def test_what_is_about_no_key_and_reads_are_not_executed_once(self) -> None:
        for opcode in set(Opcode) - ONCE_OPCODES:
            store, session = opened()
            assert one(store, once_of(session, 1, (opcode, b"k"))) == INTERNAL_ERROR
            assert not store._keyspace.sessions.by_id[session].answers
        store, session = opened()
        with pytest.raises(ProtocolError):
            apply(store, [once_of(session, 1, (9999, b"k"))])

    @pytest.mark.parametrize(
        ("number", "lowest"), [(1, 2), (0, 0), (1, 0), (b"1", 1), (1, b"1"), (None, 1), (-1, -1)]
    )
    def test_numbers_that_no_front_end_lets_pass_change_nothing(
        self, number: Any, lowest: Any
    ) -> None:
        store, session = opened()
        before = image_of(store)
        assert one(store, once_of(session, number, INCR, lowest)) == INTERNAL_ERROR
        assert value_of(store) is None
        assert store._keyspace.sessions.by_id[session].lowest == 1
        assert len(image_of(store)) == len(before)


class TestWindow:
    def test_only_the_lowest_unfinished_number_frees_results(self) -> None:
        store, session = opened()
        for number in (1, 2, 3):
            one(store, once_of(session, number, INCR))
        assert one(store, once_of(session, 4, INCR, lowest=3)) == 4
        assert one(store, once_of(session, 3, INCR)) == 3
        assert one(store, once_of(session, 2, INCR)) == EXPIRED
        assert one(store, (Opcode.OUTCOME, session, 2)) == EXPIRED
        assert value_of(store) == b"4"
        assert sorted(store._keyspace.sessions.by_id[session].answers) == [3, 4]

    def test_a_late_copy_does_not_lower_what_is_freed(self) -> None:
        store, session = opened()
        one(store, once_of(session, 5, INCR, lowest=5))
        assert one(store, once_of(session, 4, INCR, lowest=1)) == EXPIRED
        assert value_of(store) == b"1"

    def test_a_copy_below_the_window_is_never_executed(self) -> None:
        store, session = opened()
        one(store, once_of(session, 10**15, INCR, lowest=10**15))
        assert one(store, once_of(session, 10**15 - 1, INCR)) == EXPIRED
        assert value_of(store) == b"1"

    def test_a_number_beyond_the_window_is_refused_and_taken_later(self) -> None:
        store, session = opened()
        beyond = 1 + WINDOW_NUMBERS_MAX
        assert one(store, once_of(session, beyond, INCR)) == WINDOW_FULL
        assert one(store, (Opcode.OUTCOME, session, beyond)) == WINDOW_FULL
        assert value_of(store) is None
        assert one(store, once_of(session, beyond, INCR, lowest=2)) == 1

    def test_a_session_that_holds_too_much_is_refused_new_numbers_only(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sessions, "SESSION_BYTES_MAX", 1000)
        store, session = opened()
        one(store, (Opcode.SET, b"k", bytes(2000)))
        get = (Opcode.GETSET, b"k", b"")
        assert one(store, once_of(session, 1, get)) == bytes(2000)
        assert one(store, once_of(session, 2, INCR)) == WINDOW_FULL
        assert one(store, once_of(session, 1, get)) == bytes(2000)
        assert one(store, (Opcode.OUTCOME, session, 2)) == ["fenced"]
        assert one(store, once_of(session, 3, INCR, lowest=3)) == 1

    def test_all_sessions_together_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "TOTAL_BYTES_MAX", 100)
        store, first = opened()
        second = one(store, (Opcode.SESSION_OPEN, TTL_MS))
        one(store, once_of(first, 1, INCR))
        one(store, once_of(second, 1, INCR))
        assert one(store, once_of(second, 2, INCR)) == WINDOW_FULL
        assert one(store, (Opcode.SESSION_CLOSE, first)) == 1
        assert one(store, once_of(second, 2, INCR)) == 3

    def test_sessions_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "SESSIONS_MAX", 2)
        store, first = opened()
        one(store, (Opcode.SESSION_OPEN, TTL_MS))
        refused = ErrorReply("NOTAPPLIED too many sessions")
        assert one(store, (Opcode.SESSION_OPEN, TTL_MS)) == refused
        one(store, (Opcode.SESSION_CLOSE, first))
        assert one(store, (Opcode.SESSION_OPEN, TTL_MS)) == 3

    def test_what_gives_too_large_a_result_is_undone(self) -> None:
        store, session = opened()
        one(store, (Opcode.SET, b"k", bytes(RESULT_BYTES_MAX + 1)))
        revision = store.revision
        take = once_of(session, 1, (Opcode.GETDEL, b"k"))
        assert one(store, take) == once.RESULT_TOO_LARGE
        assert store.revision == revision
        assert store.execute((Opcode.STRLEN, b"k")) == RESULT_BYTES_MAX + 1
        one(store, (Opcode.SET, b"k", b"small"))
        assert one(store, take) == once.RESULT_TOO_LARGE
        assert value_of(store, b"k") == b"small"

    def test_a_large_list_as_result_is_undone_too(self) -> None:
        store, session = opened()
        elements = [b"x" * 1000 for _ in range(1200)]
        one(store, (Opcode.LIST_PUSH, b"l", 1, 0, *elements))
        pop = once_of(session, 1, (Opcode.LIST_POP, b"l", 0, 1200))
        assert one(store, pop) == once.RESULT_TOO_LARGE
        assert store.execute((Opcode.LLEN, b"l")) == 1200
        assert one(store, once_of(session, 2, (Opcode.LIST_POP, b"l", 0, 2))) == elements[:2]


class TestOutcome:
    def test_applied_is_told_with_the_result(self) -> None:
        store, session = opened()
        one(store, once_of(session, 1, INCR))
        one(store, (Opcode.SET, b"t", b"text"))
        error = one(store, once_of(session, 2, (Opcode.INCRBY, b"t", 1)))
        assert one(store, (Opcode.OUTCOME, session, 1)) == ["applied", 1]
        assert one(store, (Opcode.OUTCOME, session, 2)) == ["applied", error]
        assert one(store, (Opcode.OUTCOME, session, 1)) == ["applied", 1]

    def test_what_was_not_seen_is_fenced(self) -> None:
        store, session = opened()
        assert one(store, (Opcode.OUTCOME, session, 1)) == ["fenced"]
        assert one(store, (Opcode.OUTCOME, session, 1)) == ["fenced"]
        assert one(store, once_of(session, 1, INCR)) == ErrorReply("NOTAPPLIED fenced")
        assert value_of(store) is None
        assert one(store, once_of(session, 2, INCR, lowest=2)) == 1
        assert one(store, once_of(session, 1, INCR)) == EXPIRED

    def test_of_an_unknown_session_nothing_is_known(self) -> None:
        store, _ = opened()
        for session in (0, -1, 2, 99, b"1", None):
            assert one(store, (Opcode.OUTCOME, session, 1)) == EXPIRED
            assert one(store, once_of(session, 1, INCR)) == EXPIRED
        assert value_of(store) is None


class TestLife:
    def test_a_session_is_dead_exactly_at_its_deadline(self) -> None:
        store, session = opened()
        assert one(store, once_of(session, 1, INCR), at_ms=TTL_MS - 1) == 1
        assert one(store, once_of(session, 1, INCR), at_ms=2 * TTL_MS - 2) == 1
        assert one(store, once_of(session, 1, INCR), at_ms=3 * TTL_MS - 2) == EXPIRED
        assert store._keyspace.sessions.by_id == {}
        assert value_of(store) == b"1"

    @pytest.mark.parametrize(
        "command", [(Opcode.SESSION_KEEPALIVE, 1), (Opcode.OUTCOME, 1, 1), once_of(1, 9, INCR)]
    )
    def test_what_a_client_does_keeps_its_session_alive(self, command: Command) -> None:
        store, session = opened()
        one(store, command, at_ms=9000)
        assert store.next_lease_deadline_ms == 9000 + TTL_MS
        assert one(store, (Opcode.SESSION_KEEPALIVE, session), at_ms=18_999) == 1
        assert one(store, (Opcode.SESSION_KEEPALIVE, session), at_ms=28_999) == 0

    def test_only_lease_time_counts(self) -> None:
        store, session = opened()
        store.apply(2, encode_batch(10**15, 5, 0, []))
        assert one(store, once_of(session, 1, INCR)) == 1

    def test_a_closed_session_is_gone_and_its_id_is_not_given_again(self) -> None:
        store, session = opened()
        one(store, once_of(session, 1, INCR))
        assert one(store, (Opcode.SESSION_CLOSE, session)) == 1
        assert one(store, (Opcode.SESSION_CLOSE, session)) == 0
        assert one(store, once_of(session, 1, INCR)) == EXPIRED
        store = reload(store)
        assert one(store, (Opcode.SESSION_OPEN, TTL_MS)) == session + 1

    def test_a_flush_of_all_keys_leaves_sessions(self) -> None:
        store, session = opened()
        one(store, once_of(session, 1, INCR))
        one(store, (Opcode.FLUSH,))
        assert one(store, once_of(session, 1, INCR)) == 1
        assert value_of(store) is None

    def test_dead_sessions_are_dropped_in_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sessions, "DROPPED_ANSWERS_MAX", 10)
        store = KvStore()
        apply(store, [(Opcode.SESSION_OPEN, TTL_MS + number) for number in range(30)])
        for left in (20, 10, 0):
            apply(store, [], at_ms=10**6)
            assert len(store._keyspace.sessions.by_id) == left
            check_sessions(store)
            assert store.execute((Opcode.SESSION_LIST,)) == []

    def test_closed_sessions_leave_nothing_behind(self) -> None:
        store, first = opened()
        for session in range(2, 500):
            commands = [(Opcode.SESSION_OPEN, 10**6), (Opcode.SESSION_CLOSE, session)]
            assert apply(store, commands) == [session, 1]
        check_sessions(store)
        assert len(store._keyspace.sessions._due) < 100
        assert one(store, (Opcode.SESSION_KEEPALIVE, first), at_ms=TTL_MS - 1) == 1
        assert store.next_lease_deadline_ms == 2 * TTL_MS - 1

    def test_what_was_dropped_is_in_the_state_hash(self) -> None:
        store, twin = KvStore(), KvStore()
        apply(store, [(Opcode.SESSION_OPEN, TTL_MS)])
        apply(twin, [(Opcode.SESSION_OPEN, TTL_MS)])
        twin._keyspace.sessions.by_id[1].deadline_ms += 1
        assert store.state_hash == twin.state_hash
        apply(store, [], at_ms=TTL_MS)
        apply(twin, [], at_ms=TTL_MS)
        assert store.state_hash != twin.state_hash

    def test_info_and_list(self) -> None:
        store, session = opened()
        one(store, once_of(session, 3, INCR, lowest=2))
        one(store, (Opcode.OUTCOME, session, 4))
        one(store, (Opcode.SESSION_OPEN, 500), at_ms=100)
        assert one(store, (Opcode.SESSION_LIST,)) == [1, 2]
        info = one(store, (Opcode.SESSION_INFO, session), at_ms=400)
        assert isinstance(info, Pairs)
        assert info == [
            *(b"id", 1, b"ttl_ms", TTL_MS, b"remaining_ms", TTL_MS - 400, b"lowest", 2),
            *(b"results", 1, b"fenced", 1, b"bytes", 128),
        ]
        assert one(store, (Opcode.SESSION_LIST,), at_ms=600) == [1]
        assert isinstance(one(store, (Opcode.SESSION_INFO, 2), at_ms=600), NoList)


class TestImage:
    def many(self, seed: int = 1) -> KvStore:
        store = KvStore()
        chooser = random.Random(seed)
        apply(store, [(Opcode.SESSION_OPEN, TTL_MS + 100 * n) for n in range(40)])
        for step in range(60):
            apply(store, self.batch(chooser), at_ms=10 * step)
        return store

    @staticmethod
    def batch(chooser: random.Random) -> list[Command]:
        commands: list[Command] = []
        for _ in range(20):
            session, number = chooser.randrange(1, 44), chooser.randrange(1, 400)
            lowest = chooser.randrange(1, number + 1) if chooser.random() < 0.1 else 1
            inner = chooser.choice(
                [
                    INCR,
                    (Opcode.SADD, b"s", b"%d" % number),
                    (Opcode.SPOP, b"s", 2),
                    (Opcode.APPEND, b"n", b"x", 1000),
                    (Opcode.GETSET, b"v", b"%d" % number * 50),
                    (Opcode.EXEC, 0, 2, 3, *INCR, 2, Opcode.KV_GET, b"v"),
                ]
            )
            commands.append(once_of(session, number, inner, lowest))
        commands.append((Opcode.OUTCOME, chooser.randrange(1, 44), chooser.randrange(1, 400)))
        if chooser.random() < 0.2:
            commands.append((Opcode.SESSION_OPEN, TTL_MS))
        if chooser.random() < 0.2:
            commands.append((Opcode.SESSION_CLOSE, chooser.randrange(1, 60)))
        return commands

    def test_everything_comes_back(self) -> None:
        store = self.many()
        restored = reload(store)
        assert image_of(restored) == image_of(store)
        mine, theirs = store._keyspace.sessions, restored._keyspace.sessions
        assert (mine.last_id, mine.size_bytes) == (theirs.last_id, theirs.size_bytes)
        for session, twin in zip(mine.by_id.values(), theirs.by_id.values(), strict=True):
            for name in ("id", "ttl_ms", "deadline_ms", "lowest", "answers", "size_bytes"):
                assert getattr(session, name) == getattr(twin, name)
            for number, (result, _) in session.answers.items():
                assert type(twin.answers[number][0]) is type(result)
        check_sessions(restored)
        chooser, again = random.Random(5), random.Random(5)
        for step in range(40):
            at_ms = 5000 + 300 * step
            assert apply(store, self.batch(chooser), at_ms=at_ms) == apply(
                restored, self.batch(again), at_ms=at_ms
            )
            check_sessions(store)
        assert store.state_hash == restored.state_hash
        assert image_of(store) == image_of(restored)

    @pytest.mark.parametrize("seed", range(4))
    def test_an_image_shows_its_moment_while_writes_go_on(self, seed: int) -> None:
        store = self.many(seed)
        moment = image_of(store)
        slices = store.start_image().slices()
        pieces = [next(slices)]
        chooser = random.Random(seed)
        for step in range(100):
            apply(store, self.batch(chooser), at_ms=1000 + 100 * step)
            if step % 10 == 0:
                pieces += [piece for piece in [next(slices, None)] if piece is not None]
        pieces += slices
        assert b"".join(pieces) == moment
        assert store._keyspace.sessions.views == []

    def test_a_large_session_goes_on_in_further_pieces(self) -> None:
        store, session = opened()
        values = [bytes([number]) * 300_000 for number in range(1, 8)]
        for number, value in enumerate(values, 1):
            one(store, (Opcode.SET, b"k", value))
            one(store, once_of(session, number, (Opcode.GETDEL, b"k")))
        for number in range(10, 5000):
            apply(store, [once_of(session, number, INCR)])
        pieces = [
            piece
            for piece in store.start_image().slices()
            if PIECE_HEADER.unpack_from(piece)[1] == PIECE_SESSIONS
        ]
        assert len(pieces) > 7
        assert max(map(len, pieces)) < PIECE_BYTES_MAX
        restored = reload(store)
        assert image_of(restored) == image_of(store)
        assert one(restored, once_of(session, 4, INCR)) == values[3]

    def test_a_retired_store_is_freed_in_slices(self) -> None:
        store = self.many()
        image = store.start_image()
        moment = image_of(store)
        store.retire()
        while store.free_slice():
            pass
        assert b"".join(image.slices()) == moment

    @pytest.mark.parametrize(
        "body",
        [
            (1, [(2, 9, 9, 1, [])]),
            (2, [(2, 9, 9, 1, []), (1, 9, 9, 1, [])]),
            (1, [(1, 9, 9, 5, [4, None])]),
            (1, [(1, 9, 9, 1, [4, None, 4, None])]),
            (1, [(1, 9, 9, 1, [4])]),
            (1, [(1, 9, 9, 1, [4, [9, 9]])]),
            (1, [(1, 9, 9, 1, [4, [[]]])]),
            (1, [(1, 9, 9, 1, [4, {}])]),
            (1, [(1, 9, 9, 1, [b"4", None])]),
            (1, [(0, 9, 9, 1, [])]),
        ],
    )
    def test_a_changed_image_is_refused(self, body: Any) -> None:
        store, _ = opened()
        image = store.start_image()
        meta, _, end = image.slices()
        loader = ImageLoader()
        loader.feed(meta)
        with pytest.raises(ProtocolError):
            loader.feed(b"".join(image._piece(PIECE_SESSIONS, body)) + end)

    def test_sessions_are_not_in_an_image_of_the_version_before(self) -> None:
        store, _ = opened()
        image = store.start_image()
        _, piece, _ = image.slices()
        old = replace(image.meta, format=FORMAT_WITHOUT_HISTORY, history=None, dataset_bytes=None)
        loader = ImageLoader()
        loader.feed(b"".join(image._piece(PIECE_META, old)))
        with pytest.raises(ProtocolError, match="kind 6"):
            loader.feed(piece)


class Table:
    """What a store with sessions answers, written down as plainly as can be."""

    WINDOW = 12
    TTL_MS = 2000

    def __init__(self) -> None:
        self.count = 0
        self.now_ms = 0
        # By session: when it is dead, lowest unfinished number, answers.
        self.rows: dict[int, tuple[int, int, dict[int, Any]]] = {}

    def open(self) -> int:
        self.rows[len(self.rows) + 1] = (self.now_ms + self.TTL_MS, 1, {})
        return len(self.rows)

    def close(self, session: int) -> int:
        dead_ms, lowest, answers = self.row(session)
        if dead_ms <= self.now_ms:
            return 0
        self.rows[session] = (0, lowest, answers)
        return 1

    def row(self, session: int) -> tuple[int, int, dict[int, Any]]:
        return self.rows.get(session, (0, 1, {}))

    def ask(self, session: int, number: int, said: int) -> tuple[Any, dict[int, Any]]:
        """Return what is answered without doing anything, or None; and where answers are kept."""
        dead_ms, lowest, answers = self.row(session)
        if dead_ms <= self.now_ms:
            return EXPIRED, answers
        lowest = max(lowest, said)
        answers = {key: value for key, value in answers.items() if key >= lowest}
        self.rows[session] = (self.now_ms + self.TTL_MS, lowest, answers)
        if number < lowest:
            return EXPIRED, answers
        if number not in answers and number - lowest >= self.WINDOW:
            return WINDOW_FULL, answers
        return answers.get(number), answers

    def once(self, session: int, number: int, said: int) -> Any:
        answer, answers = self.ask(session, number, said)
        if answer is None:
            self.count += 1
            answer = answers[number] = self.count
        return answer

    def outcome(self, session: int, number: int) -> Any:
        answer, answers = self.ask(session, number, 1)
        if answer is None:
            answer = answers[number] = once.FENCED_REPLY
        if answer in (EXPIRED, WINDOW_FULL):
            return answer
        return ["fenced"] if answer == once.FENCED_REPLY else ["applied", answer]


@pytest.mark.parametrize("seed", range(6))
def test_it_does_what_a_table_of_answers_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "WINDOW_NUMBERS_MAX", Table.WINDOW)
    chooser, store, table = random.Random(seed), KvStore(), Table()
    for _ in range(800):
        table.now_ms += chooser.choice((0, 0, 1, 20, 300))
        session = max(1, len(table.rows) + 1 - chooser.randrange(6))
        lowest = table.row(session)[1]
        number = max(1, lowest + chooser.randrange(-2, 15))
        action = chooser.choice(("open", *("once",) * 16, *("outcome",) * 4, "close"))
        if action == "open":
            command: Command = (Opcode.SESSION_OPEN, Table.TTL_MS)
            expected: Any = table.open()
        elif action == "close":
            command, expected = (Opcode.SESSION_CLOSE, session), table.close(session)
        elif action == "outcome":
            command = (Opcode.OUTCOME, session, number)
            expected = table.outcome(session, number)
        else:
            said = max(1, min(number, lowest + chooser.choice((-1, 0, 0, 0, 1, 3))))
            command = once_of(session, number, INCR, said)
            expected = table.once(session, number, said)
        assert apply(store, [command], at_ms=table.now_ms) == [expected], command
        if chooser.random() < 0.02:
            store = reload(store)
    check_sessions(store)
    assert value_of(store) == b"%d" % table.count
    assert table.count > 100


def golden_store() -> KvStore:
    """The store whose image is kept in the golden file; must not change."""
    store = KvStore()
    for number, batch in enumerate(golden_batches()):
        apply(store, batch, at_ms=1000 * number)
    return store


def golden_batches() -> list[list[Command]]:
    """Every command on sessions, and a result of every kind."""
    return [
        [(Opcode.SESSION_OPEN, 60_000), (Opcode.SESSION_OPEN, 5000), (Opcode.SESSION_OPEN, 9000)],
        [
            once_of(1, 1, INCR),
            once_of(1, 2, INCR, 2),
            once_of(1, 4, (Opcode.SET, b"k", b"v"), 2),
            once_of(1, 5, (Opcode.GETSET, b"k", b"\x00\xff"), 2),
            once_of(1, 6, (Opcode.INCRBY, b"k", 1), 2),
            once_of(1, 7, (Opcode.GETDEL, b"none"), 2),
            once_of(1, 8, (Opcode.EXEC, 0, 2, 2, Opcode.KV_GET, b"k", 3, *INCR), 2),
            once_of(1, 9, (Opcode.EXEC, 1, b"k", 99, 1, 3, *INCR), 2),
            (Opcode.OUTCOME, 1, 3),
            (Opcode.OUTCOME, 1, 4),
        ],
        [
            (Opcode.SESSION_KEEPALIVE, 2),
            (Opcode.SESSION_CLOSE, 3),
            (Opcode.SESSION_INFO, 1),
            (Opcode.SESSION_LIST,),
        ],
    ]


def test_the_bytes_are_those_of_the_golden_files() -> None:
    content = (GOLDEN / "image-2-sessions.bin").read_bytes()
    assert image_of(golden_store()) == content
    loader = ImageLoader()
    loader.feed(content)
    store = loader.finish()
    assert store.state_hash == golden_store().state_hash
    assert one(store, once_of(1, 6, INCR)) == ErrorReply(
        "ERR value is not an integer or out of range"
    )
    assert store._keyspace.sessions.by_id[1].answers[3][0] is FENCED


def test_the_bytes_of_a_batch_are_those_of_the_golden_file() -> None:
    commands = [command for batch in golden_batches() for command in batch]
    content = (GOLDEN / "batch-2-sessions.bin").read_bytes()
    assert encode_batch(1, 2, 3, commands) == content
    assert list(decode_batch(content).commands) == commands

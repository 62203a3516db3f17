"""Transactions in the store: one revision, all or nothing, decided by replicated facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftkv.errors import ProtocolError
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import (
    INTERNAL_ERROR,
    AnswerKind,
    Command,
    CompareTarget,
    Comparison,
    ErrorReply,
    Opcode,
    ValueCondition,
)
from raftkv.kv.store import EXPIRE_SLICE_KEYS, KvStore
from raftkv.types import NoList, Pairs
from tests.unit.kv.driver import apply, check_invariants, reload

SET, GET, INCRBY, DEL = Opcode.SET, Opcode.GET, Opcode.INCRBY, Opcode.DEL


def counted(commands: list[Command]) -> Command:
    words: list[Any] = [len(commands)]
    for command in commands:
        words += (len(command), *command)
    return tuple(words)


def multi(*commands: Command, watched: dict[bytes, int] | None = None) -> Command:
    pairs = [word for pair in (watched or {}).items() for word in pair]
    return (Opcode.EXEC, len(pairs) // 2, *pairs, *counted(list(commands)))


def branch(compares: list[Command], then: list[Command], otherwise: list[Command]) -> Command:
    words = [word for compare in compares for word in compare]
    return (Opcode.TXN, len(compares), *words, *counted(then), *counted(otherwise))


def set_with_deadline(key: bytes, deadline_ms: int) -> Command:
    return (Opcode.SET_WITH, key, b"v", 0, None, deadline_ms, b"set")


def one(store: KvStore, command: Command, *, at_ms: int = 0) -> Any:
    (result,) = apply(store, [command], at_ms=at_ms)
    check_invariants(store)
    return result


def revision_of(store: KvStore, key: bytes) -> int:
    (revision,) = store.execute((Opcode.REVISIONS, key))  # type: ignore[misc]
    return int(revision)


class TestExec:
    def test_results_come_in_order_and_commands_see_what_is_before_them(self) -> None:
        store = KvStore()
        result = one(store, multi((SET, b"k", b"1"), (INCRBY, b"k", 5), (GET, b"k"), (DEL, b"k")))
        assert result == ["OK", 6, b"6", 1]

    def test_all_changes_have_one_revision(self) -> None:
        store = KvStore()
        one(store, (SET, b"x", b"0"))
        one(store, multi((SET, b"a", b"1"), (SET, b"b", b"1"), (SET, b"a", b"2"), (DEL, b"x")))
        assert store.revision == 2
        assert revision_of(store, b"a") == revision_of(store, b"b") == 2
        assert store.execute((Opcode.KV_GET, b"a")) == [
            *(b"value", b"2", b"create_revision", 2, b"modify_revision", 2, b"version", 2),
            *(b"type", b"string"),
        ]
        assert isinstance(store.execute((Opcode.KV_GET, b"a")), Pairs)
        assert isinstance(store.execute((Opcode.KV_GET, b"x")), NoList)

    @pytest.mark.parametrize(
        "commands", [[], [(GET, b"a")], [(DEL, b"none")], [(INCRBY, b"a", 1)]], ids=repr
    )
    def test_what_changes_nothing_takes_no_revision(self, commands: list[Command]) -> None:
        store = KvStore()
        one(store, (SET, b"a", b"text"))
        one(store, multi(*commands))
        assert store.revision == 1

    def test_a_declared_error_is_a_result_and_the_others_count(self) -> None:
        store = KvStore()
        result = one(store, multi((SET, b"a", b"x"), (INCRBY, b"a", 1), (SET, b"b", b"y")))
        assert result == ["OK", ErrorReply("ERR value is not an integer or out of range"), "OK"]
        assert store.execute((GET, b"b")) == b"y"

    def test_an_unexpected_failure_undoes_all_of_it(self) -> None:
        store = KvStore()
        apply(store, [(SET, b"a", b"old"), set_with_deadline(b"d", 50), (SET, b"z", b"1")])
        image = list(store.start_image().slices())[1:]
        broken = (SET, b"a", 7)
        for commands in (
            [(SET, b"a", b"new"), (SET, b"n", b"1"), (DEL, b"z"), broken],
            [(Opcode.FLUSH,), (SET, b"a", b"new"), broken],
            [(SET, b"a", b"new"), (Opcode.FLUSH,), (SET, b"q", b"1"), broken],
            [
                (Opcode.LIST_PUSH, b"l", 0, 0, b"x"),
                (Opcode.EXPIRE, b"a", None, 99, 0, b"x"),
                broken,
            ],
        ):
            revision = store.revision
            assert one(store, multi(*commands)) == INTERNAL_ERROR
            assert store.revision == revision
            assert list(store.start_image().slices())[1:] == image
        assert len(store.alarms) == 4

    def test_a_failure_takes_back_the_removal_of_dead_keys_too(self) -> None:
        store = KvStore()
        names = [b"d%04d" % number for number in range(EXPIRE_SLICE_KEYS + 20)]
        apply(store, [set_with_deadline(name, 10 + at) for at, name in enumerate(names)])
        result = one(store, multi((SET, names[-1], b"new"), (SET, b"a", 7)), at_ms=10_000)
        assert result == INTERNAL_ERROR
        assert revision_of(store, names[-1]) == 0
        assert one(store, (Opcode.DBSIZE,), at_ms=10_000) == 0

    @pytest.mark.parametrize(
        "command",
        [
            multi(multi((SET, b"a", b"1"))),
            multi(branch([], [], [])),
            multi((Opcode.KEYS, b"*")),
            multi((Opcode.SCAN, 0, None, 10, None)),
            multi((Opcode.CHECKPOINT,)),
            (Opcode.EXEC, 0, 1, 3, SET, b"a"),
            (Opcode.EXEC, 0, 1, 0),
            (Opcode.EXEC, 0, 10**9, -1, SET, b"a", b"1"),
            (Opcode.EXEC, 0, 2, 3, SET, b"a", b"1"),
            (Opcode.EXEC, 5, b"a", 0),
            (Opcode.EXEC, b"x"),
            (Opcode.EXEC, None),
            (Opcode.EXEC,),
            (Opcode.TXN, 1, b"a", 0, 9, b"v", 0, 0),
            (Opcode.TXN, 1, b"a", 9, 0, b"v", 0, 0),
            (Opcode.TXN, 0, 0),
        ],
        ids=repr,
    )
    def test_what_no_leader_sends_fails_as_a_whole(self, command: Command) -> None:
        store = KvStore()
        assert one(store, command) == INTERNAL_ERROR
        assert (store.revision, store.key_count) == (0, 0)

    def test_an_opcode_of_another_version_inside_stops_the_node(self) -> None:
        store = KvStore()
        with pytest.raises(ProtocolError, match="9999"):
            apply(store, [multi((SET, b"a", b"1"), (9999, b"x"))])
        assert store.applied_index == 0

    def test_answers_that_depend_on_nothing(self) -> None:
        result = one(
            KvStore(),
            multi(
                (Opcode.ANSWER, int(AnswerKind.TEXT), b"PONG"),
                (Opcode.ANSWER, int(AnswerKind.BYTES), b"\xff"),
                (Opcode.ANSWER, int(AnswerKind.ERROR), b"ERR \xff"),
            ),
        )
        assert result == ["PONG", b"\xff", ErrorReply("ERR \ufffd")]


class TestWatch:
    def test_runs_only_while_nothing_changed(self) -> None:
        store = KvStore()
        one(store, (SET, b"k", b"1"))
        watched = {b"k": revision_of(store, b"k"), b"none": 0}
        assert one(store, multi((SET, b"k", b"2"), watched=watched)) == ["OK"]
        refused = one(store, multi((SET, b"k", b"3"), watched=watched))
        assert isinstance(refused, NoList)
        assert store.execute((GET, b"k")) == b"2"
        assert store.revision == 2

    @pytest.mark.parametrize(
        "change",
        [
            (SET, b"k", b"1"),
            (DEL, b"k"),
            (Opcode.FLUSH,),
            (Opcode.EXPIRE, b"k", 1000, None, 0, b"expire"),
            (Opcode.RENAME, b"k", b"other"),
            (Opcode.RENAME, b"other", b"k"),
            multi((SET, b"k", b"2")),
        ],
        ids=repr,
    )
    def test_any_change_counts(self, change: Command) -> None:
        store = KvStore()
        apply(store, [(SET, b"k", b"1"), (SET, b"other", b"1")])
        watched = {b"k": revision_of(store, b"k")}
        one(store, change)
        assert isinstance(one(store, multi((SET, b"x", b"1"), watched=watched)), NoList)

    def test_a_key_that_was_made_again_is_another_one(self) -> None:
        store = KvStore()
        one(store, (SET, b"k", b"1"))
        watched = {b"k": revision_of(store, b"k")}
        apply(store, [(DEL, b"k"), (SET, b"k", b"1")])
        assert isinstance(one(store, multi(watched=watched)), NoList)

    def test_a_key_that_died_counts_as_changed_although_it_is_still_held(self) -> None:
        store = KvStore()
        one(store, set_with_deadline(b"k", 100))
        watched = {b"k": revision_of(store, b"k")}
        assert one(store, multi(watched=watched), at_ms=99) == []
        assert isinstance(one(store, multi(watched=watched), at_ms=100), NoList)
        assert one(store, multi(watched={b"k": 0}), at_ms=100) == []

    def test_revisions_survive_an_image(self) -> None:
        store = KvStore()
        one(store, multi((SET, b"a", b"1"), (SET, b"b", b"1")))
        loaded = reload(store)
        assert loaded.execute((Opcode.REVISIONS, b"a", b"b", b"c")) == [1, 1, 0]


class TestDeadKeys:
    def test_what_is_due_does_not_pile_up(self) -> None:
        store = KvStore()
        size = 3 * EXPIRE_SLICE_KEYS
        for round_number in range(1, 6):
            at_ms = 1000 * round_number
            commands = [
                set_with_deadline(b"%d:%d" % (round_number, number), at_ms + 1)
                for number in range(size)
            ]
            one(store, multi(*commands), at_ms=at_ms)
        assert len(store._keyspace.deadlines) <= 2 * size

    def test_a_dead_key_that_is_written_is_removed_before_under_its_own_revision(self) -> None:
        store = KvStore()
        count = 2 * EXPIRE_SLICE_KEYS + 50
        names = [b"d%04d" % number for number in range(count)]
        apply(store, [set_with_deadline(name, 10 + at) for at, name in enumerate(names)])
        before = store.revision
        one(store, multi((SET, names[-1], b"new"), (GET, names[-2]), (SET, b"a", b"1")), at_ms=9999)
        last = revision_of(store, names[-1])
        assert last == revision_of(store, b"a") == store.revision
        # A slice of the batch, one of the transaction, two keys by name, the transaction.
        assert last == before + 5
        entry = store.execute((Opcode.KV_GET, names[-1]))
        assert entry[3] == entry[5] == last  # type: ignore[index]


class TestTxn:
    @pytest.mark.parametrize(
        ("compare", "holds"),
        [
            ((b"k", CompareTarget.VALUE, Comparison.EQUAL, b"m"), True),
            ((b"k", CompareTarget.VALUE, Comparison.EQUAL, b"n"), False),
            ((b"k", CompareTarget.VALUE, Comparison.NOT_EQUAL, b"n"), True),
            ((b"k", CompareTarget.VALUE, Comparison.LESS, b"n"), True),
            ((b"k", CompareTarget.VALUE, Comparison.GREATER, b"l"), True),
            ((b"k", CompareTarget.VALUE, Comparison.GREATER, b"m"), False),
            ((b"none", CompareTarget.VALUE, Comparison.NOT_EQUAL, b"n"), False),
            ((b"none", CompareTarget.VALUE, Comparison.EQUAL, b""), False),
            ((b"k", CompareTarget.EXISTS, Comparison.EQUAL, 1), True),
            ((b"none", CompareTarget.EXISTS, Comparison.EQUAL, 0), True),
            ((b"none", CompareTarget.EXISTS, Comparison.EQUAL, 1), False),
            ((b"k", CompareTarget.CREATE_REVISION, Comparison.EQUAL, 1), True),
            ((b"k", CompareTarget.MODIFY_REVISION, Comparison.EQUAL, 3), True),
            ((b"k", CompareTarget.MODIFY_REVISION, Comparison.GREATER, 3), False),
            ((b"k", CompareTarget.VERSION, Comparison.EQUAL, 2), True),
            ((b"k", CompareTarget.VERSION, Comparison.LESS, 3), True),
            ((b"none", CompareTarget.VERSION, Comparison.EQUAL, 0), True),
            ((b"none", CompareTarget.MODIFY_REVISION, Comparison.LESS, 1), True),
        ],
        ids=repr,
    )
    def test_each_compare(self, compare: Command, holds: bool) -> None:
        store = KvStore()
        apply(store, [(SET, b"k", b"x"), (SET, b"o", b"x"), (SET, b"k", b"m")])
        result = one(store, branch([compare], [(SET, b"then", b"1")], [(GET, b"k"), (GET, b"o")]))
        assert result == ([1, ["OK"], 4] if holds else [0, [b"m", b"x"], 3])

    def test_all_compares_must_hold(self) -> None:
        store = KvStore()
        yes = (b"none", CompareTarget.EXISTS, Comparison.EQUAL, 0)
        no = (b"none", CompareTarget.EXISTS, Comparison.EQUAL, 1)
        assert one(store, branch([], [], [(DEL, b"x")])) == [1, [], 0]
        assert one(store, branch([yes, yes], [], [])) == [1, [], 0]
        assert one(store, branch([yes, no], [], [])) == [0, [], 0]

    def test_the_value_of_another_type_refuses_the_whole(self) -> None:
        store = KvStore()
        one(store, (Opcode.SADD, b"s", b"m"))
        compare = (b"s", CompareTarget.VALUE, Comparison.EQUAL, b"v")
        result = one(store, branch([compare], [(DEL, b"s")], [(DEL, b"s")]))
        assert isinstance(result, ErrorReply)
        assert result.message.startswith("WRONGTYPE")
        assert store.key_count == 1


class TestConditions:
    @pytest.mark.parametrize(
        ("held", "condition", "operand", "acts"),
        [
            (b"v", ValueCondition.EQUAL, b"v", True),
            (b"v", ValueCondition.EQUAL, b"w", False),
            (b"v", ValueCondition.NOT_EQUAL, b"v", False),
            (b"v", ValueCondition.NOT_EQUAL, b"w", True),
            (None, ValueCondition.EQUAL, b"v", False),
            (None, ValueCondition.NOT_EQUAL, b"v", True),
        ],
        ids=repr,
    )
    def test_set_if_and_delex(
        self, held: bytes | None, condition: int, operand: bytes, acts: bool
    ) -> None:
        for flags, done, refused in ((0, "OK", None), (8, held, held)):
            store = KvStore()
            if held is not None:
                one(store, (SET, b"k", held))
            command = (
                Opcode.SET_IF,
                int(condition),
                operand,
                b"k",
                b"n",
                flags,
                None,
                None,
                b"set",
            )
            before = store.revision
            assert one(store, command) == (done if acts else refused)
            assert store.execute((GET, b"k")) == (b"n" if acts else held)
            assert store.revision == before + acts
        store = KvStore()
        if held is not None:
            one(store, (SET, b"k", held))
        removes = acts and held is not None
        assert one(store, (Opcode.DELEX, b"k", int(condition), operand)) == int(removes)
        assert store.execute((GET, b"k")) == (None if removes else held)

    def test_other_types(self) -> None:
        store = KvStore()
        one(store, (Opcode.SADD, b"s", b"m"))
        for command in (
            (Opcode.SET_IF, 1, b"x", b"s", b"n", 0, None, None, b"set"),
            (Opcode.DELEX, b"s", 2, b"x"),
        ):
            assert one(store, command).message.startswith("WRONGTYPE")
        assert one(store, (Opcode.DELEX, b"s", 0, None)) == 1


KEYS = st.sampled_from([b"a", b"b", b"c"])
PLAIN = st.one_of(
    st.tuples(st.just(int(SET)), KEYS, st.sampled_from([b"1", b"x"])),
    st.tuples(st.just(int(INCRBY)), KEYS, st.integers(-3, 3)),
    st.tuples(st.just(int(DEL)), KEYS),
    st.tuples(st.just(int(GET)), KEYS),
    st.tuples(st.just(int(Opcode.RENAME)), KEYS, KEYS),
    st.tuples(st.just(int(Opcode.APPEND)), KEYS, st.just(b"7"), st.just(100)),
    st.builds(
        lambda key, at: (int(Opcode.EXPIRE), key, None, at, 0, b"pexpireat"),
        KEYS,
        st.integers(1, 40),
    ),
)


@given(st.lists(st.lists(PLAIN, max_size=6), max_size=6))
def test_a_transaction_does_what_its_commands_do_one_by_one(groups: list[list[Command]]) -> None:
    alone, together = KvStore(), KvStore()
    for at_ms, group in enumerate(groups, 1):
        expected = apply(alone, group, at_ms=10 * at_ms)
        assert one(together, multi(*group), at_ms=10 * at_ms) == expected
        assert together.revision <= alone.revision
    for key in (b"a", b"b", b"c"):
        for opcode in (GET, Opcode.PEXPIRETIME):
            assert together.execute((opcode, key)) == alone.execute((opcode, key))


GOLDEN = Path(__file__).parents[2] / "golden" / "kv"
GOLDEN_COMMANDS: list[Command] = [
    (16, 1, b"old", b"k", b"new", 8, 60_000, None, b"set"),
    (17, b"k", 2, b"x"),
    (270, 2, b"w", 7, b"none", 0, 3, 3, 1, b"a", b"1", 2, 3, b"a", 3, 274, 2, b"ERR syntax error"),
    (271, 1, b"a", 0, 0, b"1", 1, 3, 14, b"n", 5, 2, 2, 3, b"a", 3, 274, 1, b"echoed"),
    (272, b"a", b"b"),
    (273, b"a"),
]
GOLDEN_RESULTS: list[Any] = [
    None,
    0,
    [],
    [0, [None, b"echoed"], 0],
    [0, 0],
    [],
]


def test_the_layout_is_that_of_the_golden_file() -> None:
    latest = (GOLDEN / "batch-2-transactions.bin").read_bytes()
    assert encode_batch(1_700_000_000_123, 456_789, 99, GOLDEN_COMMANDS) == latest
    assert decode_batch(latest).commands == GOLDEN_COMMANDS
    golden = (GOLDEN / "batch-1-transactions.bin").read_bytes()
    assert decode_batch(golden).commands == GOLDEN_COMMANDS
    store = KvStore()
    assert store.apply(1, golden) == GOLDEN_RESULTS
    assert store.state_hash.hex() == "5175d4711e029a574a6a125942998a27"

"""Keys as they were, and what is said of revisions that are not there."""

from __future__ import annotations

import pytest

from raftkv.kv.commands import OK, Command, ErrorReply, Opcode
from raftkv.kv.revisions import SLICE_CHANGES
from raftkv.kv.store import KvStore
from raftkv.types import Couples, Members, NoList, Pairs
from tests.unit.kv.driver import apply, reload

SET = int(Opcode.SET)
DEL = int(Opcode.DEL)


def get_at(store: KvStore, key: bytes, revision: int) -> object:
    answer = store.execute((int(Opcode.KV_GET_AT), key, revision))
    return answer[1::2] if isinstance(answer, Pairs) else answer


def test_a_key_is_what_it_was() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1"), (SET, b"b", b"x"), (SET, b"a", b"2"), (DEL, b"a")])
    apply(store, [(SET, b"a", b"3")])
    for one in (store, reload(store)):
        assert get_at(one, b"a", 0) == NoList()
        assert get_at(one, b"a", 1) == [b"1", 1, 1, 1, b"string"]
        assert get_at(one, b"a", 2) == [b"1", 1, 1, 1, b"string"]
        assert get_at(one, b"a", 3) == [b"2", 1, 3, 2, b"string"]
        assert get_at(one, b"a", 4) == NoList()
        assert get_at(one, b"a", 5) == [b"3", 5, 5, 1, b"string"]
        assert get_at(one, b"nothing", 5) == NoList()


def test_revisions_that_are_not_there_are_named() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1")] * 10)
    apply(store, [(int(Opcode.COMPACT), 4, 100, 1000)])
    assert get_at(store, b"a", 3) == ErrorReply(
        "ERR revision 3 is compacted; the oldest available is 4"
    )
    assert get_at(store, b"a", 4) == [b"1", 1, 4, 4, b"string"]
    assert get_at(store, b"a", 11) == ErrorReply(
        "ERR revision 11 is in the future; the newest is 10"
    )


ADDED: list[tuple[Command, object]] = [
    ((SET, b"k", b"v"), b"v"),
    ((int(Opcode.HSET), b"k", 0, b"f", b"v", b"g", b"w"), Pairs([b"f", b"v", b"g", b"w"])),
    ((int(Opcode.LIST_PUSH), b"k", 1, 0, b"x", b"y"), [b"x", b"y"]),
    ((int(Opcode.SADD), b"k", b"m"), Members([b"m"])),
    ((int(Opcode.ZADD), b"k", 0, b"1.5", b"m"), Couples([b"m", 1.5])),
]


@pytest.mark.parametrize(("command", "value"), ADDED)
def test_a_value_of_every_type_is_shown_in_whole(command: Command, value: object) -> None:
    store = KvStore()
    apply(store, [command, (DEL, b"k"), command])
    for answer in (
        store.execute((int(Opcode.KV_GET), b"k")),
        store.execute((int(Opcode.KV_GET_AT), b"k", 1)),
    ):
        assert isinstance(answer, Pairs)
        assert answer[1] == value
        assert type(answer[1]) is type(value)


def test_a_deadline_does_not_change_the_past() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.SET_WITH), b"a", b"1", 0, 10, None, b"set")], at_ms=5)
    apply(store, [], at_ms=100)
    assert store.execute((int(Opcode.KV_GET), b"a")) == NoList()
    assert get_at(store, b"a", 1) == [b"1", 1, 1, 1, b"string"]
    assert get_at(store, b"a", 2) == NoList()


def test_a_long_history_is_looked_through_in_slices() -> None:
    store = KvStore()
    apply(store, [(SET, b"old", b"1")])
    for _ in range(5):
        apply(store, [(SET, b"other", b"v")] * 4000)
    apply(store, [(DEL, b"old")])
    steps = store.sliced((int(Opcode.KV_GET_AT), b"old", 1))
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            assert stop.value[1] == b"1"
            break
        count += 1
        apply(store, [(SET, b"old", b"2")])
    assert count >= 20_000 // SLICE_CHANGES
    gone = store.sliced((int(Opcode.KV_GET_AT), b"old", 1))
    apply(store, [(int(Opcode.FLUSH),)])
    with pytest.raises(StopIteration) as stopped:
        next(gone)
    assert "compacted; the oldest available is" in stopped.value.value.message


def test_a_read_on_a_store_that_was_replaced_is_to_be_tried_again() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1")])
    for command in ((int(Opcode.KV_GET_AT), b"a", 1), (int(Opcode.KV_RANGE), b"", b"", 9, None, 0)):
        steps = store.sliced(command)
        store.retire()
        results: list[object] = []
        while not results:
            try:
                next(steps)
            except StopIteration as stop:
                results.append(stop.value)
        assert isinstance(results[0], ErrorReply)
        assert results[0].message.startswith("TRYAGAIN ")


def test_history_says_what_is_held() -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"12345"), (SET, b"a", b"1"), (DEL, b"a")])
    assert apply(store, [(int(Opcode.COMPACT), 1, 7, 9000)]) == [OK]
    assert store.execute((int(Opcode.HISTORY),)) == [
        *(b"newest", 3, b"oldest", 1, b"events", 2, b"bytes", 2 * 161 + 5 + 1),
        *(b"revisions_kept", 7, b"bytes_kept", 9000),
    ]


@pytest.mark.parametrize(
    "arguments", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (None, 1, 1), (b"", 1, 1)]
)
def test_a_compaction_that_no_leader_asks_for_changes_nothing(
    arguments: tuple[object, ...],
) -> None:
    store = KvStore()
    apply(store, [(SET, b"a", b"1")])
    assert apply(store, [(int(Opcode.COMPACT), *arguments)]) == [ErrorReply("ERR internal error")]
    assert (store.history.compacted, store.history.change_count) == (0, 1)

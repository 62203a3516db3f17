"""What keys count for, and the limit of it: the same however a store came about."""

from __future__ import annotations

from typing import Any

import pytest

from raftkv.kv.commands import (
    GROWING_OPCODES,
    INTERNAL_ERROR,
    OK,
    OUT_OF_MEMORY,
    WRITE_OPCODES,
    Command,
    ErrorReply,
    Opcode,
)
from raftkv.kv.dataset import UNLIMITED, bytes_of
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from raftkv.server.command_table import CommandSpec
from tests.unit.kv.driver import apply, check_invariants, reload
from tests.unit.server.test_command_table import PARSED, request_for

SET, DEL = int(Opcode.SET), int(Opcode.DEL)
FULL = ErrorReply(OUT_OF_MEMORY)
ABORTED = ErrorReply(f"EXECABORT Transaction discarded because of: {OUT_OF_MEMORY}")


def limit(store: KvStore, bytes_max: int) -> None:
    assert apply(store, [(int(Opcode.LIMIT_DATASET), bytes_max)]) == [OK]


def full_store(bytes_over: int = 1) -> KvStore:
    """A store with one string and one list whose limit is exceeded."""
    store = KvStore()
    push = (int(Opcode.LIST_PUSH), b"list", 1, 0, b"element")
    apply(store, [(SET, b"key", b"value"), push])
    limit(store, store.dataset_bytes - bytes_over)
    return store


def execute(*commands: Command) -> Command:
    flat = [part for command in commands for part in (len(command), *command)]
    return (int(Opcode.EXEC), 0, len(commands), *flat)


# ---------------------------------------------------------------- the formula


@pytest.mark.parametrize(
    ("commands", "size"),
    [
        ([], 0),
        ([(SET, b"key", b"value")], 3 + 5 + 290),
        ([(SET, b"key", b"value"), (SET, b"key", b"")], 3 + 290),
        ([(SET, b"key", b"value"), (DEL, b"key")], 0),
        ([(SET, b"key", b"value"), (int(Opcode.FLUSH),)], 0),
        ([(int(Opcode.SET_WITH), b"k", b"v", 0, 60_000, None, b"set")], 1 + 1 + 290 + 112),
        ([(int(Opcode.HSET), b"k", 0, b"field", b"value")], 1 + 10 + 170 + 290),
        ([(int(Opcode.LIST_PUSH), b"k", 0, 0, b"ab", b"c")], 1 + 3 + 2 * 42 + 290),
        ([(int(Opcode.ZADD), b"k", 0, b"1", b"ab")], 1 + 2 + 220 + 290),
    ],
)
def test_what_a_key_counts_for(commands: list[Command], size: int) -> None:
    one_by_one, together = KvStore(), KvStore()
    for command in commands:
        apply(one_by_one, [command])
    apply(together, commands)
    for store in (one_by_one, together, reload(together)):
        assert store.dataset_bytes == size
        check_invariants(store)


def test_memory_usage_says_what_a_key_counts_for() -> None:
    store = full_store()
    sizes = [store.execute((int(Opcode.MEMORY_USAGE), key)) for key in (b"key", b"list")]
    assert sizes == [bytes_of(b"key", b"value", 0), 4 + 7 + 42 + 290]
    assert sum(sizes) == store.dataset_bytes  # type: ignore[arg-type]


def test_expiry_and_what_is_undone_are_counted() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.SET_WITH), b"mortal", b"v", 0, 50, None, b"set")], at_ms=100)
    apply(store, [(SET, b"other", b"v")], at_ms=100)
    # Fails in the middle, behind changes of its own and a flush.
    broken = execute((SET, b"new", b"v"), (int(Opcode.FLUSH),), (SET, b"x", 5), (DEL, b"other"))
    assert apply(store, [broken], at_ms=100) == [INTERNAL_ERROR]
    check_invariants(store)
    assert store.dataset_bytes == 2 * 290 + 112 + 7 + 6
    apply(store, [], at_ms=150)
    assert store.dataset_bytes == 290 + 6
    check_invariants(store)


# ------------------------------------------------------------------ the limit


def test_what_may_grow_is_refused_and_changes_nothing() -> None:
    store = full_store()
    revision, before = store.revision, store.dataset_bytes
    commands: list[Command] = [
        (SET, b"key", b"v"),
        (SET, b"new", b"v"),
        (SET, b"newer", b"v"),
        (int(Opcode.INCRBY), b"n", 1),
        (int(Opcode.LMOVE), b"list", b"other", 0, 0),
    ]
    assert apply(store, commands) == [FULL] * 5
    assert (store.revision, store.dataset_bytes) == (revision, before)
    check_invariants(store)


def test_the_limit_itself_is_not_too_much() -> None:
    store = full_store(bytes_over=0)
    assert not store.dataset_is_full
    # The first one exceeds it; what comes behind is refused, in a run of SETs too.
    commands = [(SET, b"key", b"longer value"), (SET, b"key", b"v"), (SET, b"key", b"v")]
    assert apply(store, commands) == [OK, FULL, FULL]
    assert store.dataset_is_full


def test_what_does_not_grow_makes_room() -> None:
    store = full_store()
    assert apply(store, [(SET, b"a", b""), (DEL, b"list"), (SET, b"a", b"")]) == [FULL, 1, OK]
    limit(store, 0)
    assert apply(store, [(SET, b"big", b"x" * 10_000)]) == [OK]
    assert store._keyspace.dataset_bound == UNLIMITED


def test_reads_and_pops_and_deadlines_are_never_refused() -> None:
    store = full_store()
    commands: list[Command] = [
        (int(Opcode.GET), b"key"),
        (int(Opcode.EXPIRE), b"key", 60_000, None, 0, b"expire"),
        (int(Opcode.LIST_POP), b"list", 0, None),
        (int(Opcode.RENAME), b"key", b"other"),
    ]
    assert apply(store, commands) == [b"value", 1, b"element", OK]


def test_a_transaction_is_refused_as_a_whole() -> None:
    store = full_store()
    revision = store.revision
    grows = execute((DEL, b"list"), (SET, b"a", b"1"))
    assert apply(store, [grows, execute((DEL, b"none"), (int(Opcode.GET), b"key"))]) == [
        ABORTED,
        [0, b"value"],
    ]
    assert store.revision == revision
    branches: list[Any] = [1, 3, SET, b"a", b"1", 1, 2, DEL, b"list"]
    compare = (b"key", 1, 0, 0)  # EXISTS = 0, which does not hold
    txn = (int(Opcode.TXN), 1, *compare, *branches)
    assert apply(store, [txn]) == [[0, [1], revision + 1]]
    limit(store, 1)
    assert apply(store, [(int(Opcode.TXN), 0, *branches)]) == [ABORTED]


def test_a_transaction_that_watches_in_vain_says_so() -> None:
    store = full_store()
    (result,) = apply(store, [(int(Opcode.EXEC), 1, b"key", 99, 1, 3, SET, b"a", b"1")])
    assert result == []


@pytest.mark.parametrize("bytes_max", [-1, None, b"5"])
def test_a_limit_that_is_none_is_undone(bytes_max: object) -> None:
    store = KvStore()
    assert apply(store, [(int(Opcode.LIMIT_DATASET), bytes_max)]) == [INTERNAL_ERROR]
    assert store.dataset_bytes_max == 0


def test_the_limit_is_in_the_image_and_in_force_behind_it() -> None:
    store = full_store()
    restored = reload(store)
    assert restored.dataset_bytes_max == store.dataset_bytes_max
    for each in (store, restored):
        assert apply(each, [(SET, b"a", b"1")]) == [FULL]
    assert restored.state_hash == store.state_hash


def test_no_limit_is_inside_a_transaction() -> None:
    store = KvStore()
    assert apply(store, [execute((int(Opcode.LIMIT_DATASET), 5))]) == [INTERNAL_ERROR]


def test_an_image_that_counts_otherwise_is_refused() -> None:
    store = full_store()
    pieces = list(store.start_image().slices())
    store._keyspace.dataset_bytes += 1
    loader = ImageLoader()
    for piece in [next(store.start_image().slices()), *pieces[1:]]:
        loader.feed(piece)
    with pytest.raises(Exception, match="count for more or less"):
        loader.finish()


@pytest.mark.parametrize("spec", PARSED, ids=lambda spec: spec.name)
def test_the_commands_that_are_refused_are_those_of_redis(spec: CommandSpec) -> None:
    from raftkv.config import Limits

    for request in request_for(spec):
        opcode = spec.parse(request, Limits())[0]
        if "blocking" not in spec.flags or spec.name in ("blmove", "brpoplpush"):
            stores = opcode == Opcode.SORT_STORE
            assert (opcode in GROWING_OPCODES) == (spec.grows or stores), spec.name
    assert GROWING_OPCODES <= WRITE_OPCODES

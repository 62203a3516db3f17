"""The store as the replica sees it: order, time, failures, proof."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from raftkv.errors import CommandError, ProtocolError
from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import INTERNAL_ERROR, OK, Command, ErrorReply, Opcode, SetFlag
from raftkv.kv.keyspace import Keyspace
from raftkv.kv.store import ALARMS_MAX, EXPIRE_SLICE_KEYS, KvStore
from raftkv.kv.strings import TOO_MUCH_COPIED
from tests.unit.kv.driver import apply, check_invariants, reload

SET, GET, DEL = int(Opcode.SET), int(Opcode.GET), int(Opcode.DEL)


def set_until(key: bytes, value: bytes, deadline_ms: int) -> Command:
    return (int(Opcode.SET_WITH), key, value, 0, None, deadline_ms, b"set")


def test_an_empty_store() -> None:
    store = KvStore()
    assert (store.applied_index, store.revision, store.key_count) == (0, 0, 0)
    assert (store.log_time_ms, store.lease_time_ms) == (0, 0)
    assert store.next_deadline_ms is None
    assert store.state_hash == bytes(16)
    assert store.execute((GET, b"k")) is None


# -------------------------------------------------------------- log and time


def test_results_come_in_the_order_of_the_commands() -> None:
    store = KvStore()
    commands = [(SET, b"a", b"1"), (GET, b"a"), (DEL, b"a", b"b"), (GET, b"a")]
    assert apply(store, commands) == [OK, b"1", 1, None]
    assert store.applied_index == 1


@pytest.mark.parametrize("index", [0, 2, 3])
def test_an_index_out_of_order_is_refused(index: int) -> None:
    store = KvStore()
    with pytest.raises(AssertionError, match="does not follow 0"):
        store.apply(index, encode_batch(0, 0, 0, []))
    with pytest.raises(AssertionError, match="does not follow 0"):
        store.skip(index)
    assert store.applied_index == 0


def test_an_entry_is_not_applied_twice() -> None:
    store = KvStore()
    store.apply(1, encode_batch(0, 0, 0, [(int(Opcode.INCRBY), b"n", 1)]))
    with pytest.raises(AssertionError):
        store.apply(1, encode_batch(0, 0, 0, [(int(Opcode.INCRBY), b"n", 1)]))
    assert store.execute((GET, b"n")) == b"1"


def test_both_times_never_go_back() -> None:
    store = KvStore()
    store.apply(1, encode_batch(1000, 50, 0, []))
    store.apply(2, encode_batch(400, 60, 0, []))
    assert (store.log_time_ms, store.lease_time_ms) == (1000, 60)
    store.apply(3, encode_batch(1001, 10, 0, []))
    assert (store.log_time_ms, store.lease_time_ms) == (1001, 60)


def test_a_batch_is_read_from_a_part_of_a_buffer() -> None:
    buffer = bytearray(b"\x00" + encode_batch(1, 1, 1, [(SET, b"k", b"v")]) + b"\x00")
    store = KvStore()
    store.apply(1, memoryview(bytes(buffer))[1:-1])
    other = KvStore()
    other.apply(1, bytes(buffer[1:-1]))
    assert store.state_hash == other.state_hash


# ------------------------------------------------------------------- expiry


def test_a_key_dies_exactly_at_its_deadline() -> None:
    store = KvStore()
    apply(store, [set_until(b"k", b"v", 1000)], at_ms=500)
    assert store.next_deadline_ms == 1000
    assert not store.is_expiring
    apply(store, [], at_ms=999)
    assert store.execute((GET, b"k")) == b"v"
    apply(store, [], at_ms=1000)
    assert store.execute((GET, b"k")) is None
    assert store.key_count == 0
    assert store.next_deadline_ms is None
    check_invariants(store)


def test_due_keys_are_removed_in_slices_in_the_order_of_their_deadlines() -> None:
    store = KvStore()
    total = EXPIRE_SLICE_KEYS + 100
    apply(store, [set_until(b"%06d" % n, b"v", 10_000 - n) for n in range(total)])
    revision = store.revision
    apply(store, [], at_ms=10_000)
    assert store._keyspace.entry_count() == 100
    assert store.key_count == 0
    assert store.revision == revision + 1
    held = {key for bucket in store._keyspace.buckets for key in bucket}
    # The later a key was made, the earlier is its deadline: the first ones are left.
    assert held == {b"%06d" % n for n in range(100)}
    assert store.next_deadline_ms is not None
    assert store.next_deadline_ms <= store.log_time_ms
    assert store.is_expiring
    apply(store, [], at_ms=10_000)
    assert store._keyspace.entry_count() == 0
    assert store.revision == revision + 2
    apply(store, [], at_ms=10_000)
    assert store.revision == revision + 2


def test_every_command_of_a_batch_widens_its_expiry_slice() -> None:
    store = KvStore()
    total = EXPIRE_SLICE_KEYS + 100
    apply(store, [set_until(b"%06d" % n, b"v", 1000) for n in range(total)])
    apply(store, [(GET, b"x")] * 99, at_ms=1000)
    assert store._keyspace.entry_count() == 1


def store_with_dead_keys() -> KvStore:
    """A store in which `z` is dead and still held, behind a full slice."""
    store = KvStore()
    filler = [set_until(b"%06d" % n, b"v", 500) for n in range(EXPIRE_SLICE_KEYS + 50)]
    apply(store, [*filler, set_until(b"z", b"7", 1000), (SET, b"live", b"1")])
    apply(store, [], at_ms=2000)
    assert b"z" in {key for bucket in store._keyspace.buckets for key in bucket}
    return store


READS_OF_A_DEAD_KEY: list[tuple[Command, object]] = [
    ((GET, b"z"), None),
    ((int(Opcode.MGET), b"z", b"live"), [None, b"1"]),
    ((int(Opcode.EXISTS), b"z", b"live"), 1),
    ((int(Opcode.STRLEN), b"z"), 0),
    ((int(Opcode.TYPE), b"z"), "none"),
    ((int(Opcode.TTL), b"z"), -2),
    ((int(Opcode.PTTL), b"z"), -2),
    ((int(Opcode.EXPIRETIME), b"z"), -2),
    ((int(Opcode.PEXPIRETIME), b"z"), -2),
    ((int(Opcode.GETRANGE), b"z", 0, -1), b""),
    ((int(Opcode.OBJECT_ENCODING), b"z"), None),
    ((int(Opcode.MEMORY_USAGE), b"z"), None),
    ((int(Opcode.KEYS), b"*"), [b"live"]),
    ((int(Opcode.DBSIZE),), 1),
    ((int(Opcode.RANDOMKEY), 7), b"live"),
]


@pytest.mark.parametrize(("command", "expected"), READS_OF_A_DEAD_KEY)
def test_a_dead_key_is_dead_for_every_read(command: Command, expected: object) -> None:
    store = store_with_dead_keys()
    revision = store.revision
    assert store.execute(command) == expected
    assert store.revision == revision
    assert store.execute((int(Opcode.SCAN), 0, None, 1000, None)) == [b"0", [b"live"]]


WRITES_OF_A_DEAD_KEY: list[tuple[Command, object]] = [
    ((SET, b"z", b"new"), OK),
    ((int(Opcode.SET_WITH), b"z", b"new", int(SetFlag.XX), None, None, b"set"), None),
    ((int(Opcode.SET_WITH), b"z", b"new", int(SetFlag.NX), None, None, b"set"), OK),
    ((int(Opcode.SET_WITH), b"z", b"n", int(SetFlag.KEEPTTL), None, None, b"set"), OK),
    ((int(Opcode.GETSET), b"z", b"new"), None),
    ((int(Opcode.GETDEL), b"z"), None),
    ((int(Opcode.GETEX), b"z", 1, None, None, None), None),
    ((int(Opcode.APPEND), b"z", b"x", 100), 1),
    ((int(Opcode.SETRANGE), b"z", 1, b"x", 100), 2),
    ((int(Opcode.INCRBY), b"z", 1), 1),
    ((int(Opcode.INCRBYFLOAT), b"z", b"1"), b"1"),
    ((int(Opcode.MSET), b"z", b"new"), OK),
    ((int(Opcode.MSETNX), b"z", b"new"), 1),
    ((DEL, b"z"), 0),
    ((int(Opcode.RENAME), b"z", b"y"), ErrorReply("ERR no such key")),
    ((int(Opcode.RENAMENX), b"live", b"z"), 1),
    ((int(Opcode.COPY), b"live", b"z", 0), 1),
    ((int(Opcode.COPY), b"z", b"y", 0), 0),
    ((int(Opcode.EXPIRE), b"z", 10, None, 0, b"expire"), 0),
    ((int(Opcode.PERSIST), b"z"), 0),
]


@pytest.mark.parametrize(("command", "expected"), WRITES_OF_A_DEAD_KEY)
def test_a_write_removes_the_dead_key_it_touches_first(command: Command, expected: object) -> None:
    store = store_with_dead_keys()
    # Batches at the same time remove what is due; this one must not get to `z`.
    keyspace = store._keyspace
    revision = store.revision
    results = store._run(1, [command])
    assert results == [expected]
    assert b"z" in keyspace.expired
    entry = keyspace.find(b"z")
    if entry is None:
        assert (1000, b"z") not in keyspace.deadlines
    else:
        # A new life: its own revisions, version 1, no deadline.
        assert entry[1:] == (0, revision + 2, revision + 2, 1)
    keyspace.expired.clear()
    check_invariants(store)


# ----------------------------------------------------------------- revisions


@pytest.mark.parametrize(
    ("command", "grows"),
    [
        ((SET, b"k", b"v"), 1),
        ((GET, b"k"), 0),
        ((DEL, b"k", b"m", b"n"), 1),
        ((DEL, b"missing"), 0),
        ((int(Opcode.MSET), b"a", b"1", b"b", b"2"), 1),
        ((int(Opcode.MSETNX), b"k", b"1", b"b", b"2"), 0),
        ((int(Opcode.SET_WITH), b"k", b"v", int(SetFlag.NX), None, None, b"set"), 0),
        ((int(Opcode.PERSIST), b"k"), 0),
        ((int(Opcode.EXPIRE), b"k", 100, None, 0, b"expire"), 1),
        ((int(Opcode.EXPIRE), b"missing", 100, None, 0, b"expire"), 0),
        ((int(Opcode.APPEND), b"k", b"", 100), 0),
        ((int(Opcode.APPEND), b"k", b"x", 100), 1),
        ((int(Opcode.SETRANGE), b"k", 0, b"", 100), 0),
        ((int(Opcode.RENAME), b"k", b"k"), 0),
        ((int(Opcode.RENAME), b"k", b"other"), 1),
        ((int(Opcode.COPY), b"k", b"m", 0), 0),
        ((int(Opcode.COPY), b"k", b"m", 1), 1),
        ((int(Opcode.INCRBY), b"k", 1), 0),
        ((int(Opcode.GETEX), b"k", 0, 100, None, None), 1),
        ((int(Opcode.GETEX), b"k", 1, None, None, None), 0),
        ((int(Opcode.GETDEL), b"k"), 1),
        ((int(Opcode.FLUSH),), 1),
    ],
)
def test_a_command_that_changes_something_takes_one_revision(command: Command, grows: int) -> None:
    store = KvStore()
    apply(store, [(SET, b"k", b"text"), (SET, b"m", b"v")])
    assert store.revision == 2
    apply(store, [command])
    assert store.revision == 2 + grows
    check_invariants(store)


def test_revisions_and_versions_of_a_key() -> None:
    store = KvStore()
    apply(store, [(SET, b"k", b"1"), (SET, b"k", b"2"), (SET, b"other", b"x")])
    apply(store, [(int(Opcode.INCRBY), b"k", 5)])
    assert store._keyspace.find(b"k") == (b"7", 0, 1, 4, 3)
    apply(store, [(DEL, b"k"), (SET, b"k", b"again")])
    assert store._keyspace.find(b"k") == (b"again", 0, 6, 6, 1)


# ------------------------------------------------------------------ failures


def failing(error: Callable[[], BaseException]) -> Any:
    """A handler that changes a lot and then fails."""

    def handler(keyspace: Keyspace, _command: Command) -> NoReturn:
        revision = keyspace.revision + 1
        keyspace.put(b"new", b"v", 0, revision)
        keyspace.put(b"new deadline", b"v", 99_000, revision)
        keyspace.put(b"plain", b"changed", 77_000, revision)
        keyspace.put(b"mortal", b"changed", 0, revision)
        keyspace.remove(b"new")
        keyspace.remove(b"doomed")
        keyspace.put(b"doomed", b"again", 55_000, revision)
        keyspace.revision = revision
        keyspace.flush()
        keyspace.put(b"behind the flush", b"v", 44_000, revision + 1)
        keyspace.revision = revision + 1
        raise error()

    return handler


def filled_store() -> KvStore:
    store = KvStore()
    apply(store, [(SET, b"plain", b"1"), set_until(b"mortal", b"2", 60_000)])
    apply(store, [set_until(b"doomed", b"3", 50_000)], at_ms=10_000)
    return store


def content(store: KvStore) -> dict[bytes, Any]:
    return {key: entry for bucket in store._keyspace.buckets for key, entry in bucket.items()}


def test_a_command_that_fails_unexpectedly_is_undone() -> None:
    store, untouched = filled_store(), filled_store()
    store._handlers[int(Opcode.PERSIST)] = failing(lambda: KeyError("surprise"))
    results = apply(
        store, [(SET, b"x", b"1"), (int(Opcode.PERSIST), b"k"), (SET, b"y", b"2")], at_ms=10_000
    )
    assert results == [OK, INTERNAL_ERROR, OK]
    assert INTERNAL_ERROR.message == "ERR internal error"
    apply(untouched, [(SET, b"x", b"1"), (SET, b"y", b"2")], at_ms=10_000)
    assert content(store) == content(untouched)
    assert store.revision == untouched.revision
    assert not store.free_slice()
    check_invariants(store)
    (alarm,) = store.alarms
    assert (alarm.log_index, alarm.opcode) == (3, Opcode.PERSIST)
    assert alarm.detail.startswith("KeyError in failing.<locals>.handler, line ")
    assert "surprise" not in alarm.detail


def test_a_failing_command_gives_back_the_dead_key_it_removed() -> None:
    store = store_with_dead_keys()

    def handler(keyspace: Keyspace, _command: Command) -> NoReturn:
        assert keyspace.find_for_write(b"z") is None
        keyspace.put(b"z", b"new", 0, keyspace.revision + 1)
        raise ValueError

    store._handlers[int(Opcode.PERSIST)] = handler
    before, revision = content(store), store.revision
    assert store._run(1, [(int(Opcode.PERSIST), b"z")]) == [INTERNAL_ERROR]
    assert content(store) == before
    assert store.revision == revision
    check_invariants(store)


def test_a_view_does_not_see_what_was_undone() -> None:
    store = filled_store()
    before = list(store.start_image().slices())
    image = store.start_image()
    store._handlers[int(Opcode.PERSIST)] = failing(lambda: KeyError("surprise"))
    store._run(1, [(int(Opcode.PERSIST), b"k")])
    assert list(image.slices()) == before


def test_a_declared_error_is_a_result_like_any_other() -> None:
    store = filled_store()
    results = apply(store, [(int(Opcode.INCRBY), b"plain", 1), (int(Opcode.RENAME), b"q", b"r")])
    assert results == [2, ErrorReply("ERR no such key")]
    assert store.alarms == []


@pytest.mark.parametrize("error", [MemoryError, OSError, RecursionError, KeyboardInterrupt])
def test_a_failure_of_the_machine_stops_the_store(error: type[BaseException]) -> None:
    store = filled_store()
    store._handlers[int(Opcode.PERSIST)] = failing(error)
    with pytest.raises(error):
        apply(store, [(int(Opcode.PERSIST), b"k")])
    assert store.applied_index == 2
    with pytest.raises(AssertionError, match="failed within a batch"):
        apply(store, [])
    with pytest.raises(AssertionError, match="failed within a batch"):
        store.skip(3)


@pytest.mark.parametrize("opcode", [0, -1, 49, 299, 10**6, None, b"SET"])
def test_an_unknown_opcode_stops_the_store(opcode: object) -> None:
    store = filled_store()
    with pytest.raises(ProtocolError, match="is not known to this version"):
        apply(store, [(SET, b"a", b"b"), (opcode, b"k")])
    assert store.applied_index == 2


def test_a_command_without_fields_stops_the_store() -> None:
    with pytest.raises(ProtocolError):
        apply(KvStore(), [()])


def test_bytes_that_are_no_batch_change_nothing() -> None:
    store = filled_store()
    state = store.state_hash
    with pytest.raises(ProtocolError):
        store.apply(3, b"\x01\x00\x00\x00 nonsense")
    assert (store.applied_index, store.state_hash) == (2, state)
    apply(store, [])


def test_a_command_with_missing_fields_is_an_internal_error() -> None:
    store = filled_store()
    before = content(store)
    assert apply(store, [(int(Opcode.EXPIRE), b"plain")]) == [INTERNAL_ERROR]
    assert content(store) == before


def test_alarms_are_bounded() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.EXPIRE),)] * (ALARMS_MAX + 50))
    assert len(store.alarms) == ALARMS_MAX


# --------------------------------------------------------------------- reads


def test_reads_come_back_in_order() -> None:
    store = filled_store()
    commands = [(GET, b"plain"), (GET, b"no"), (int(Opcode.SCAN), 0, b"x" * 2000, 10, None)]
    assert store.execute_all(commands) == [
        b"1",
        None,
        ErrorReply("ERR pattern exceeds 1024 bytes"),
    ]


@pytest.mark.parametrize("command", [(SET, b"k", b"v"), (int(Opcode.FLUSH),), (299,)])
def test_only_reads_are_executed_outside_the_log(command: Command) -> None:
    store = filled_store()
    before = content(store)
    with pytest.raises(AssertionError):
        store.execute(command)
    assert content(store) == before


def test_a_read_that_fails_unexpectedly_raises_an_alarm() -> None:
    store = filled_store()
    assert store.execute((int(Opcode.STRLEN),)) == INTERNAL_ERROR
    (alarm,) = store.alarms
    assert (alarm.log_index, alarm.opcode) == (0, Opcode.STRLEN)


def test_a_value_of_another_type_is_refused() -> None:
    store = KvStore()
    apply(store, [(int(Opcode.LIST_PUSH), b"list", 0, 0, b"not a string")])
    wrong = ErrorReply("WRONGTYPE Operation against a key holding the wrong kind of value")
    for command in [
        (GET, b"list"),
        (int(Opcode.STRLEN), b"list"),
        (int(Opcode.GETRANGE), b"list", 0, 1),
    ]:
        assert store.execute(command) == wrong
    assert store.execute((int(Opcode.MGET), b"list")) == [None]
    for command in [
        (int(Opcode.APPEND), b"list", b"x", 100),
        (int(Opcode.INCRBY), b"list", 1),
        (int(Opcode.INCRBYFLOAT), b"list", b"1"),
        (int(Opcode.GETSET), b"list", b"x"),
        (int(Opcode.GETDEL), b"list"),
        (int(Opcode.GETEX), b"list", 1, None, None, None),
        (int(Opcode.SETRANGE), b"list", 0, b"x", 100),
        (int(Opcode.SET_WITH), b"list", b"x", int(SetFlag.GET), None, None, b"set"),
    ]:
        assert apply(store, [command]) == [wrong]


# --------------------------------------------------------------------- proof


def run_log(store: KvStore) -> None:
    """Apply a log that touches everything."""
    apply(store, [(SET, b"k%d" % n, b"v") for n in range(200)], at_ms=1000)
    store.skip(store.applied_index + 1)
    apply(store, [set_until(b"k%d" % n, b"w", 2000 + n) for n in range(50)], at_ms=1500)
    apply(store, [(int(Opcode.RANDOMKEY), n) for n in range(20)], at_ms=2020)
    apply(store, [(int(Opcode.SCAN), 0, None, 1000, None), (int(Opcode.KEYS), b"k1*")])
    apply(store, [(int(Opcode.INCRBY), b"k1", 1), (int(Opcode.RENAME), b"k7", b"k8")], at_ms=2500)


def test_equal_logs_give_equal_hashes() -> None:
    first, second = KvStore(), KvStore()
    run_log(first)
    run_log(second)
    assert first.state_hash == second.state_hash
    run_log(first)
    run_log(second)
    assert first.state_hash == second.state_hash


# Pinned, of batches of version 2: another value means that nodes of two versions would accuse
# each other.
HASH_OF_THE_LOG = "865b799a19cc11160fb3125dd62b8841"


def test_the_hash_does_not_depend_on_the_version_of_anything() -> None:
    store = KvStore()
    run_log(store)
    assert store.state_hash.hex() == HASH_OF_THE_LOG


@pytest.mark.parametrize(
    "change",
    [
        lambda store: apply(store, [(SET, b"k", b"w")]),
        lambda store: apply(store, [(SET, b"l", b"v")]),
        lambda store: apply(store, [(SET, b"k", b"v")], at_ms=1),
        lambda store: apply(store, []),
        lambda store: store.skip(2),
    ],
)
def test_another_log_gives_another_hash(change: Callable[[KvStore], object]) -> None:
    usual, other = KvStore(), KvStore()
    for store in (usual, other):
        apply(store, [(SET, b"k", b"old")])
    apply(usual, [(SET, b"k", b"v")])
    change(other)
    assert usual.state_hash != other.state_hash


def test_another_result_gives_another_hash() -> None:
    usual, other = filled_store(), filled_store()
    other._handlers[GET] = lambda _keyspace, _command: b"wrong"
    for store in (usual, other):
        apply(store, [(GET, b"plain")])
    assert usual.state_hash != other.state_hash


def test_another_set_of_expired_keys_gives_another_hash() -> None:
    usual, other = filled_store(), filled_store()
    other._keyspace.deadlines.remove((50_000, b"doomed"))
    for store in (usual, other):
        apply(store, [], at_ms=55_000)
    assert usual.state_hash != other.state_hash


def test_a_restored_store_goes_on_with_the_same_hashes() -> None:
    store = KvStore()
    run_log(store)
    for _ in range(2):
        restored = reload(store)
        check_invariants(restored)
        for each in (store, restored):
            run_log(each)
        assert store.state_hash == restored.state_hash
        assert content(store) == content(restored)


# -------------------------------------------------------------------- memory


def test_a_flush_frees_its_memory_in_slices() -> None:
    store = KvStore()
    count = 20_000
    apply(store, [set_until(b"%d" % n, b"v", 10**6) for n in range(count)])
    apply(store, [(int(Opcode.FLUSH),), (SET, b"new", b"v")])
    assert store.key_count == 1
    assert store.next_deadline_ms is None
    steps = 1
    while store.free_slice():
        steps += 1
    assert 10 <= steps <= 100
    assert not store.free_slice()
    assert store.execute((GET, b"new")) == b"v"


def test_a_flush_does_not_disturb_an_open_image() -> None:
    store = filled_store()
    before = list(store.start_image().slices())
    image = store.start_image()
    apply(store, [(int(Opcode.FLUSH),), (SET, b"plain", b"new")], at_ms=10_000)
    while store.free_slice():
        pass
    assert list(image.slices()) == before


def test_a_retired_store_frees_all_and_takes_nothing_more() -> None:
    store = filled_store()
    store.retire()
    while store.free_slice():
        pass
    assert store.key_count == 0
    with pytest.raises(AssertionError):
        apply(store, [])


def test_sliced_refuses_other_commands() -> None:
    with pytest.raises(AssertionError, match="no sliced form"):
        KvStore().sliced((GET, b"k"))


def test_a_command_error_ends_a_sliced_read() -> None:
    steps = KvStore().sliced((int(Opcode.KEYS), b"x" * 2000))
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == ErrorReply("ERR pattern exceeds 1024 bytes")


def test_the_error_of_a_handler_is_not_lost_in_the_run() -> None:
    store = KvStore()

    def handler(_keyspace: Keyspace, _command: Command) -> NoReturn:
        raise CommandError("OOM no room")

    store._handlers[GET] = handler
    assert apply(store, [(GET, b"k")]) == [ErrorReply("OOM no room")]


def test_results_that_repeat_a_large_value_cost_the_hash_next_to_nothing() -> None:
    """A few kilobytes of the log must not make every node encode gigabytes."""
    store = KvStore()
    apply(store, [(SET, b"k", bytes(1 << 20))])
    tracemalloc.start()
    try:
        results = apply(store, [(int(Opcode.MGET), *[b"k"] * 500), *[(GET, b"k")] * 500])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert [len(value) for value in results[0]] == [1 << 20] * 500


@pytest.mark.parametrize("position", [0, -1])
def test_another_large_result_gives_another_hash(position: int) -> None:
    usual, other = filled_store(), filled_store()
    value = bytearray(1 << 20)
    usual._handlers[GET] = lambda _keyspace, _command: bytes(value)
    value[position] = 1
    wrong = bytes(value)
    other._handlers[GET] = lambda _keyspace, _command: wrong
    value[position] = 0
    for store in (usual, other):
        apply(store, [(GET, b"plain")])
    assert usual.state_hash != other.state_hash


def test_pieces_of_a_large_value_are_copied_up_to_a_limit() -> None:
    store = KvStore()
    apply(store, [(SET, b"k", bytes(1 << 20))])
    piece = (int(Opcode.GETRANGE), b"k", 0, -2)
    whole = (int(Opcode.GETRANGE), b"k", 0, -1)
    for results in (apply(store, [piece] * 100), store.execute_all([piece] * 100)):
        pieces = [result for result in results if isinstance(result, bytes)]
        assert len(pieces) == 64
        assert results[64:] == [ErrorReply(TOO_MUCH_COPIED)] * 36
    assert store.execute_all([whole] * 100) == [bytes(1 << 20)] * 100
    assert store.execute_all([piece]) == [bytes((1 << 20) - 1)]

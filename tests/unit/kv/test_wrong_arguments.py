"""What a faulty leader puts into the log is refused on every node alike, and never stored."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from raftkv.errors import ProtocolError
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import INTERNAL_ERROR, Opcode
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply, check_invariants, reload

KEY, OTHER = b"key", b"other"
LIMIT = 1 << 20
WRONG = [5, None, "text", 1.5, True, [b"bytes"], {b"a": b"b"}, [], msgspec.msgpack.Ext(7, b"x")]

# The place of the argument that is wrong is marked.
X: Any = object()
STORED = [
    (Opcode.SET, KEY, X),
    (Opcode.SET, b"new", X),
    (Opcode.SET, b"mortal", X),
    (Opcode.SET_WITH, KEY, X, 0, None, None, b"set"),
    (Opcode.MSET, b"new", b"1", KEY, X),
    (Opcode.MSETNX, b"new", b"1", b"newer", X),
    (Opcode.GETSET, KEY, X),
    (Opcode.APPEND, KEY, X, LIMIT),
    (Opcode.APPEND, b"new", X, LIMIT),
    (Opcode.SETRANGE, KEY, 1, X, LIMIT),
    (Opcode.HSET, b"hash", 0, b"new", b"1", b"field", X),
    (Opcode.HSET, b"hash", 0, b"field", b"1", X, b"2"),
    (Opcode.SADD, b"set", b"new", X),
]
KEYS = [
    (Opcode.SET, X, b"value"),
    (Opcode.SET_WITH, X, b"value", 0, None, None, b"set"),
    (Opcode.MSET, b"new", b"1", X, b"2"),
    (Opcode.INCRBY, X, 1),
    (Opcode.DEL, KEY, X),
    (Opcode.RENAME, KEY, X),
    (Opcode.COPY, KEY, X, 0),
    (Opcode.HSET, X, 0, b"field", b"1"),
    (Opcode.SADD, X, b"member"),
    (Opcode.LEASE_ATTACH, 7, 9, KEY, X),
    (Opcode.LEASE_DETACH, KEY, X),
    (Opcode.LEASE_SET, 7, 9, 0, None, X, b"value", 0, None, None, b"set"),
]
TIMES = [
    (Opcode.SET_WITH, KEY, b"value", 0, None, X, b"set"),
    (Opcode.EXPIRE, KEY, None, X, 0, b"expire"),
    (Opcode.GETEX, KEY, 0, None, X, None),
    (Opcode.LEASE_GRANT, X, None, 9),
    (Opcode.EXPIRE_IF, KEY, b"value", X, 0),
]


def filled() -> KvStore:
    store = KvStore()
    apply(store, [(int(Opcode.SET), KEY, b"value"), (int(Opcode.SET), OTHER, b"1")], at_ms=1000)
    apply(store, [(int(Opcode.SET_WITH), b"mortal", b"1", 0, 60_000, None, b"set")], at_ms=1000)
    apply(store, [(int(Opcode.LEASE_GRANT), 60_000, 7, 9)], at_ms=1000)
    apply(store, [(int(Opcode.LEASE_ATTACH), 7, 9, KEY)], at_ms=1000)
    return store


def image_of(store: KvStore) -> bytes:
    return b"".join(store.start_image().slices())


def commands(templates: list[tuple[Any, ...]], wrong: list[Any]) -> list[Any]:
    return [
        pytest.param(
            tuple(value if one is X else one for one in (int(template[0]), *template[1:])),
            id=f"{template[0].name} {number} {value!r}",
        )
        for number, template in enumerate(templates)
        for value in wrong
        # Nothing appended to what is there changes nothing.
        if value is not None or template[:2] not in ((Opcode.APPEND, KEY), (Opcode.SETRANGE, KEY))
    ]


@pytest.mark.parametrize(
    "command",
    commands(STORED, WRONG)
    + commands(KEYS, WRONG)
    + commands(
        TIMES, [value for value in WRONG if (value is not None and value != 5) or value is True]
    ),
)
def test_a_wrong_argument_is_an_internal_error_and_nothing_changes(
    command: tuple[Any, ...],
) -> None:
    store, twin = filled(), filled()
    revision = store.revision
    before = {key: store.execute((int(Opcode.GET), key)) for key in (KEY, OTHER)}
    (result,) = apply(store, [command], at_ms=1000)
    assert result == INTERNAL_ERROR
    assert [alarm.log_index for alarm in store.alarms] == [store.applied_index]
    assert store.revision == revision
    assert {key: store.execute((int(Opcode.GET), key)) for key in (KEY, OTHER)} == before
    check_invariants(store)
    assert image_of(reload(store)) == image_of(store)
    apply(twin, [command], at_ms=1000)
    assert twin.state_hash == store.state_hash
    assert image_of(twin) == image_of(store)


def test_the_other_commands_of_the_batch_are_carried_out() -> None:
    store = filled()
    wrong = (int(Opcode.SET), KEY, {b"a": 1.5})
    right = (int(Opcode.SET), OTHER, b"2")
    assert apply(store, [wrong, right, wrong, right]) == [INTERNAL_ERROR, "OK"] * 2
    assert store.execute((int(Opcode.GET), OTHER)) == b"2"


def test_a_wrong_argument_does_not_hide_an_opcode_of_another_version() -> None:
    for opcode in (9999, -1, "SET", None, 1.5):
        with pytest.raises(ProtocolError):
            apply(filled(), [(opcode, 1.5)])
    with pytest.raises(ProtocolError):
        apply(filled(), [()])


def test_a_batch_with_wrong_arguments_comes_back_as_it_was_understood() -> None:
    batch = decode_batch(encode_batch(1, 2, 3, [(1, b"a", 1.5), (1, b"a", b"b")]))
    assert decode_batch(encode_batch(*batch[:4])) == batch
    assert batch.commands[1] == (1, b"a", b"b")

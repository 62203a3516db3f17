"""What every type of collection owes the store, whatever it holds."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from raftkv.errors import ProtocolError
from raftkv.kv import families
from raftkv.kv.commands import Command, Opcode
from raftkv.kv.image import CONTINUED, TYPE_STRING
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from raftkv.kv.values import PART_BYTES, PART_ELEMENTS, WRONG_TYPE, parts_of
from tests.unit.kv.driver import apply, check_invariants, reload

ROOT = Path(__file__).parents[3]
FORMATS = (ROOT / "docs" / "reference" / "store-formats.md").read_text()

# How to add elements to a key of each type, to change and remove some, and to read all.
Adder = Callable[[bytes, list[bytes]], Command]
ADD: dict[str, Adder] = {
    "hash": lambda key, names: (
        int(Opcode.HSET), key, 0, *[word for name in names for word in (name, b"v" + name)]
    ),
    "set": lambda key, names: (int(Opcode.SADD), key, *names),
    "list": lambda key, names: (int(Opcode.LIST_PUSH), key, 1, 0, *names),
    "zset": lambda key, names: (
        int(Opcode.ZADD), key, 0,
        *[word for name in names for word in (b"%d" % (crc32(name) % 999), name)]
    ),
}  # fmt: skip
REMOVE: dict[str, Adder] = {
    "hash": lambda key, names: (int(Opcode.HDEL), key, *names),
    "set": lambda key, names: (int(Opcode.SREM), key, *names),
    # By number: the tests remove from front to back.
    "zset": lambda key, names: (int(Opcode.ZREM), key, *names),
    "list": lambda key, names: (int(Opcode.LTRIM), key, len(names), -1),
}
READ: dict[str, Callable[[bytes], Command]] = {
    "hash": lambda key: (int(Opcode.HGETALL), key),
    "set": lambda key: (int(Opcode.SMEMBERS), key),
    "list": lambda key: (int(Opcode.LRANGE), key, 0, -1),
    "zset": lambda key: (int(Opcode.ZRANGE), key, 0, 2, 0, -1, 0, -1),
}
TYPES = sorted(ADD)

every_type = pytest.mark.parametrize("kind", TYPES)


def names(count: int, first: int = 0) -> list[bytes]:
    return [b"name:%d" % number for number in range(first, first + count)]


def filled(kind: str, size: int, key: bytes = b"k") -> KvStore:
    store = KvStore()
    for first in range(0, size, 1000):
        apply(store, [ADD[kind](key, names(min(1000, size - first), first))])
    return store


def value_of(store: KvStore, key: bytes = b"k") -> Any:
    entry = store._keyspace.find(key)
    assert entry is not None
    return entry[0]


def image_of(store: KvStore) -> list[bytes]:
    return list(store.start_image().slices())


def test_every_type_is_here_in_the_image_and_on_the_page_of_formats() -> None:
    held = {family.type_name: family.type_code for family in families.COLLECTIONS.values()}
    assert sorted(held) == TYPES == sorted(REMOVE) == sorted(READ)
    assert len(set(held.values()) | {TYPE_STRING}) == len(held) + 1
    assert all(TYPE_STRING < code < CONTINUED for code in held.values())
    for name, code in held.items():
        assert f"| {code} | {name} |" in FORMATS


def test_every_opcode_is_on_the_page_of_formats() -> None:
    table = FORMATS.split("### Opcodes")[1].split("\n## ")[0]
    for opcode in Opcode:
        assert opcode.name.split("_", 1)[-1] in table, opcode.name


@every_type
@pytest.mark.parametrize("size", [1, 255, 256, 257, 3000])
def test_an_image_brings_back_the_same(kind: str, size: int) -> None:
    store = filled(kind, size)
    apply(store, [REMOVE[kind](b"k", names(size // 3, size // 4)), (1, b"text", b"v")])
    apply(store, [(int(Opcode.EXPIRE), b"k", 5000, None, 0, b"pexpire")])
    again = reload(store)
    assert image_of(again) == image_of(store)
    assert again.execute(READ[kind](b"k")) == store.execute(READ[kind](b"k"))
    first, second = value_of(store), value_of(again)
    assert (first.size, first.content_bytes) == (second.size, second.content_bytes)
    check_invariants(again)
    for one in (store, again):
        apply(one, [ADD[kind](b"k", names(300, 7)), READ[kind](b"k")], at_ms=1)
    assert again.state_hash == store.state_hash


@every_type
def test_parts_are_bounded_and_of_the_content_only(kind: str) -> None:
    store = filled(kind, 15_000)
    parts = list(parts_of(value_of(store)))
    assert len(parts) > 5
    assert max(len(part) for part, _ in parts) <= PART_ELEMENTS + 2
    large = filled(kind, 1, key=b"large")
    apply(large, [ADD[kind](b"large", [b"x" * 30_000 + name for name in names(40)])])
    assert max(size for _, size in parts_of(value_of(large, b"large"))) <= PART_BYTES + 70_000
    assert image_of(reload(large)) == image_of(large)


@every_type
def test_the_bytes_are_counted(kind: str) -> None:
    store = filled(kind, 1000)
    apply(store, [ADD[kind](b"k", names(300, 900)), REMOVE[kind](b"k", names(100, 300))])
    value = value_of(store)
    held = [item for items in value.elements() for item in items]
    assert value.content_bytes == sum(len(item) for item in held if isinstance(item, bytes))
    assert len(held) == value.size * value.width
    usage = store.execute((int(Opcode.MEMORY_USAGE), b"k"))
    assert isinstance(usage, int)
    assert usage > value.content_bytes


@every_type
def test_a_collection_without_elements_is_no_key(kind: str) -> None:
    store = filled(kind, 700)
    apply(store, [REMOVE[kind](b"k", names(700))])
    assert store.key_count == 0
    assert store.execute((int(Opcode.TYPE), b"k")) == "none"


@every_type
def test_an_open_image_shows_its_moment(kind: str) -> None:
    chooser = random.Random(1)
    store = filled(kind, 5000)
    moment = image_of(store)
    slices = store.start_image().slices()
    pieces = [next(slices)]
    for step in range(60):
        apply(store, [ADD[kind](b"k", names(3, 10_000 + 3 * step))])
        apply(store, [REMOVE[kind](b"k", names(1, chooser.randrange(4000)))])
        if step % 10 == 5:
            pieces += [piece for piece in [next(slices, None)] if piece]
    apply(store, [(int(Opcode.DEL), b"k")])
    while store.free_slice():
        pass
    assert pieces + list(slices) == moment
    while store.free_slice():
        pass
    assert not store._keyspace.garbage.husks


@every_type
def test_a_copy_and_a_new_name_share_and_do_not_disturb(kind: str) -> None:
    store = filled(kind, 3000)
    before = store.execute(READ[kind](b"k"))
    apply(store, [(int(Opcode.COPY), b"k", b"copy", 0), REMOVE[kind](b"k", names(2000))])
    assert store.execute(READ[kind](b"copy")) == before
    apply(store, [(int(Opcode.RENAME), b"copy", b"k"), (int(Opcode.FLUSH),)])
    while store.free_slice():
        pass
    assert store.key_count == 0


@every_type
def test_what_is_gone_is_freed_in_slices(kind: str) -> None:
    gone: list[Command] = [
        (int(Opcode.DEL), b"k"),
        (1, b"k", b"text"),
        (int(Opcode.FLUSH),),
        (int(Opcode.EXPIRE), b"k", -1, None, 0, b"pexpire"),
        (int(Opcode.RENAME), b"other", b"k"),
    ]
    for command in gone:
        store = filled(kind, 9_000)
        apply(store, [(1, b"other", b"v")])
        apply(store, [command])
        store.history.compact(store.revision)
        steps = 1
        while store.free_slice():
            steps += 1
        assert steps >= 2, command
        assert not store._keyspace.garbage.husks


@every_type
def test_a_command_of_another_type_is_refused_without_a_change(kind: str) -> None:
    store = KvStore()
    apply(store, [(1, b"k", b"text"), ADD[kind](b"c", names(2))])
    revision = store.revision
    commands = [ADD[kind](b"k", names(1)), REMOVE[kind](b"k", names(1)), READ[kind](b"k")]
    commands += [(int(Opcode.GET), b"c"), (int(Opcode.APPEND), b"c", b"x", 100)]
    for result in apply(store, commands):
        assert result.message == WRONG_TYPE
    assert store.revision == revision


@every_type
def test_an_unexpected_failure_leaves_nothing_behind(kind: str) -> None:
    store = filled(kind, 400)
    before, revision = image_of(store)[1:], store.revision

    for command in (ADD[kind](b"k", names(500, 300)), REMOVE[kind](b"k", names(400))):
        handler = families.HANDLERS[Opcode(command[0])]

        def failing(keyspace: Any, command: Command, handler: Any = handler) -> object:
            handler(keyspace, command)
            raise ZeroDivisionError

        store._handlers[command[0]] = failing
        (result,) = apply(store, [command])
        assert result.message == "ERR internal error"
        assert image_of(store)[1:] == before
        assert store.revision == revision


@every_type
@pytest.mark.parametrize("damage", ["cut", "twice", "order"])
def test_a_damaged_collection_is_refused(kind: str, damage: str) -> None:
    pieces = image_of(filled(kind, 9_000))
    assert len(pieces) > 5
    if damage == "cut":
        del pieces[2]
    elif damage == "twice":
        pieces.insert(2, pieces[2])
    else:
        pieces[1], pieces[2] = pieces[2], pieces[1]
    loader = ImageLoader()
    with pytest.raises(ProtocolError):
        loader.feed(b"".join(pieces))


@every_type
def test_items_of_a_wrong_type_are_refused(kind: str) -> None:
    family = next(one for one in families.COLLECTIONS.values() if one.type_name == kind)
    for part in ([None] * family.width, [1] * family.width, [b"a"] * (family.width * 2 - 1)):
        if len(part) % family.width or type(part[0]) is not bytes:
            with pytest.raises((TypeError, ValueError)):
                family.empty().extended(part)


GOLDEN = ROOT / "tests" / "golden" / "kv"


def golden_store() -> KvStore:
    """The store whose image is kept in the golden files; must not change."""
    store = KvStore()
    apply(store, [(1, b"text", b"value")], at_ms=1_700_000_000_000)
    for kind in ("hash", "list", "set", "zset"):
        apply(store, [ADD[kind](b"small " + kind.encode(), names(3))])
        apply(store, [ADD[kind](b"large " + kind.encode(), names(1100))])
    apply(store, [(int(Opcode.EXPIRE), b"small set", 60_000, None, 0, b"pexpire")])
    return store


def with_history(store: KvStore) -> KvStore:
    """Add what the golden file of the version with a history has besides; must not change."""
    for kind in ("hash", "list", "set", "zset"):
        apply(store, [ADD[kind](b"gone " + kind.encode(), names(1100))])
        apply(store, [(int(Opcode.DEL), b"gone " + kind.encode())])
    return store


def test_the_bytes_are_those_of_the_golden_file() -> None:
    golden = (GOLDEN / "image-2-collections.bin").read_bytes()
    assert b"".join(image_of(with_history(golden_store()))) == golden
    loader = ImageLoader()
    loader.feed(golden)
    store = loader.finish()
    check_invariants(store)
    assert image_of(store) == image_of(with_history(golden_store()))
    for event in store.history.events(store.revision - 1, 1):
        assert event.previous is not None
        assert event.previous[0].size == 1100


def test_collections_in_an_image_without_history_are_read() -> None:
    loader = ImageLoader()
    loader.feed((GOLDEN / "image-1-collections.bin").read_bytes())
    store = loader.finish()
    assert store.state_hash.hex() == "5269278db0896dcf9bb38d2eaed7b670"
    for kind in ("hash", "list", "set", "zset"):
        key = b"large " + kind.encode()
        assert value_of(store, key).size == 1100
        assert store.execute(READ[kind](key)) == golden_store().execute(READ[kind](key))


PROGRAM = """
from tests.unit.kv.test_collections import *
store = KvStore()
for kind in TYPES:
    apply(store, [ADD[kind](kind.encode(), names(900)), READ[kind](kind.encode())])
    apply(store, [REMOVE[kind](kind.encode(), names(300)), READ[kind](kind.encode())])
for command in RANDOM_WRITES:
    apply(store, [command, command])
print(store.state_hash.hex())
"""
# Writes that choose at random, on keys which the program above has filled.
RANDOM_WRITES: list[Command] = [(int(Opcode.SPOP), b"set", count) for count in (None, 3, 200)]


@pytest.mark.slow
def test_nothing_depends_on_how_python_hashes() -> None:
    hashes = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, check=True, capture_output=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}, timeout=60,
        ).stdout
        for seed in ("1", "2", "77")
    }  # fmt: skip
    assert len(hashes) == 1

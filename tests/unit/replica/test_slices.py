"""Long work in slices: nobody waits for another one's, and everybody is answered."""

from __future__ import annotations

from collections.abc import Generator

from raftkv.kv.codec import encode_batch
from raftkv.kv.commands import Opcode
from raftkv.kv.store import KvStore
from raftkv.replica.slices import Slices
from raftkv.seams import SHUTTING_DOWN
from tests.unit.replica.fakes import TestSlot


def counting(slices: int, result: object) -> Generator[None, None, object]:
    for _ in range(slices):
        yield
    return result


def test_reads_take_turns() -> None:
    slices = Slices()
    long, short = TestSlot(), TestSlot()
    slices.add(counting(3, "long"), long)
    slices.add(counting(1, "short"), short)
    turns = 0
    while not short.answers:
        slices.run_one()
        turns += 1
    assert not long.answers, "the short one does not wait for the long one"
    assert turns <= 4
    while slices.pending:
        slices.run_one()
    assert (long.answer, short.answer) == (["long"], ["short"])


def test_a_store_is_freed_beside_reads() -> None:
    slices = Slices()
    store = KvStore()
    commands = [(Opcode.SET, b"key%d" % number, b"value") for number in range(5000)]
    store.apply(1, encode_batch(1, 1, 1, commands))
    slot = TestSlot()
    slices.retire(store)
    slices.add(counting(1, "read"), slot)
    turns = 0
    while slices.pending:
        slices.run_one()
        turns += 1
    assert slot.answer == ["read"]
    assert turns > 1


def test_a_store_is_kept_until_nothing_of_it_is_read() -> None:
    slices = Slices()
    store = KvStore()
    fields = [word for number in range(5000) for word in (b"%d" % number, b"v")]
    store.apply(1, encode_batch(1, 1, 1, [(int(Opcode.HSET), b"h", 0, *fields)]))
    image = store.start_image()
    slices.retire(store)
    for _ in range(20):
        slices.run_one()
    assert slices.pending
    image.close()
    turns = 0
    while slices.pending:
        slices.run_one()
        turns += 1
    assert turns > 1


def test_whoever_waits_at_the_end_is_told() -> None:
    slices = Slices()
    slot = TestSlot()
    closed: list[str] = []

    def read() -> Generator[None, None, object]:
        try:
            yield
        finally:
            closed.append("closed")
        return None

    slices.add(read(), slot)
    slices.run_one()
    slices.close(SHUTTING_DOWN)
    assert slot.answer == SHUTTING_DOWN
    assert closed == ["closed"]
    assert not slices.pending

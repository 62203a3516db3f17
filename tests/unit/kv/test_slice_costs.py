"""No piece of work on a million keys may stop the loop for long.

Compares the longest piece with the whole work in the same run: the machine's
speed does not matter. `python -m tests.bench.kv_slices` prints the figures.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterable, Iterator

import pytest

from raftkv.kv.commands import Opcode
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply

KEYS = 1_000_000
# The longest of about a thousand pieces; a pause of the processor may hit two of them.
OUTLIERS = 2
SHARE_MAX = 1 / 100


@pytest.fixture(scope="module")
def store() -> Iterator[KvStore]:
    """A million keys, a tenth of them mortal."""
    gc.collect()
    gc.disable()
    try:
        store = KvStore()
        for first in range(0, KEYS, 1000):
            commands = [(1, b"key:%012d" % n, b"x" * 50) for n in range(first, first + 900)]
            commands += [
                (2, b"key:%012d" % n, b"x" * 50, 0, None, 10**6 + n, b"set")
                for n in range(first + 900, first + 1000)
            ]
            apply(store, commands)
        yield store
        store.retire()
        while store.free_slice():
            pass
    finally:
        gc.enable()


def measure(steps: Iterable[object]) -> tuple[float, float]:
    """Return the longest step but outliers, and all steps, in processor seconds."""
    durations = []
    iterator = iter(steps)
    while True:
        started = time.process_time()
        try:
            next(iterator)
        except StopIteration:
            break
        durations.append(time.process_time() - started)
    durations.sort()
    return durations[-1 - OUTLIERS], sum(durations)


def scan_pages(store: KvStore, count: int) -> Iterator[None]:
    cursor = 0
    while True:
        page = store.execute((int(Opcode.SCAN), cursor, b"*7*", count, None))
        assert isinstance(page, list)
        cursor = int(page[0])
        yield
        if not cursor:
            return


def batches_of_sets(store: KvStore, batches: int) -> Iterator[None]:
    chooser = random.Random(1)
    for _ in range(batches):
        apply(store, [(1, b"key:%012d" % chooser.randrange(KEYS), b"y" * 50) for _ in range(100)])
        yield


def frees(store: KvStore) -> Iterator[None]:
    while store.free_slice():
        yield


@pytest.mark.slow
def test_pieces_of_an_image_and_of_its_loading(store: KvStore) -> None:
    pieces: list[bytes] = []
    longest, total = measure(pieces.append(piece) for piece in store.start_image().slices())
    assert longest < total * SHARE_MAX
    loader = ImageLoader()
    longest, total = measure(loader.feed(piece) for piece in pieces)
    assert longest < total * SHARE_MAX
    restored = loader.finish()
    assert restored.key_count == KEYS
    restored.retire()
    _, whole = measure(frees(restored))
    assert whole > 0


@pytest.mark.slow
def test_steps_of_sliced_reads_and_pages_of_scans(store: KvStore) -> None:
    for steps in (
        store.sliced((int(Opcode.KEYS), b"*7*")),
        store.sliced((int(Opcode.COUNTKEYSINSLOT), 77)),
        scan_pages(store, 1000),
        scan_pages(store, 10**9),
    ):
        longest, total = measure(steps)
        assert longest < total * SHARE_MAX


@pytest.mark.slow
def test_writes_under_an_open_image_cost_no_copies(store: KvStore) -> None:
    _, usual = measure(batches_of_sets(store, 200))
    image = store.start_image()
    slices = image.slices()
    next(slices)
    _, under_image = measure(batches_of_sets(store, 200))
    image.close()
    # Copying one bucket for each key would cost some fifty times as much.
    assert under_image < 4 * usual


@pytest.mark.slow
def test_expiry_and_flush_are_sliced(store: KvStore) -> None:
    def expiries() -> Iterator[None]:
        while store.next_deadline_ms is not None:
            apply(store, [], at_ms=10**9)
            yield

    mortal_keys = len(store._keyspace.deadlines)
    assert mortal_keys > KEYS // 20
    longest, total = measure(expiries())
    assert store.key_count == KEYS - mortal_keys
    # More than a hundred slices.
    assert longest < total / 20
    started = time.process_time()
    apply(store, [(int(Opcode.FLUSH),)])
    flush = time.process_time() - started
    longest, total = measure(frees(store))
    assert store.key_count == 0
    assert longest < total / 20
    assert flush < total / 20

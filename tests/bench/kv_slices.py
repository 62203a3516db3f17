"""Prints what the store costs: a SET at apply, and the longest slices at a million keys.

Run as `python -m tests.bench.kv_slices [keys]`. Processor time, garbage
collection off. Nothing is asserted: `tests/unit/kv/test_slice_costs.py` guards
the ratios.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable, Iterable

from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import Opcode
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from tests.unit.kv.driver import apply
from tests.unit.kv.test_slice_costs import batches_of_sets, frees, scan_pages

BATCHES = 2000
BATCH_SETS = 100


def report(name: str, steps: Iterable[object]) -> None:
    """Print the longest step, the 99th percentile and the sum."""
    durations = []
    iterator = iter(steps)
    while True:
        started = time.process_time()
        try:
            next(iterator)
        except StopIteration:
            break
        durations.append((time.process_time() - started) * 1000)
    durations.sort()
    line = (
        f"{name:32} {len(durations):6} steps  longest {durations[-1]:7.2f} ms"
        f"  p99 {durations[len(durations) * 99 // 100]:6.2f} ms  all {sum(durations):8.0f} ms"
    )
    sys.stdout.write(line + "\n")


def microseconds_per_set(work: Callable[[], object]) -> float:
    """Return the best of three runs."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best / (BATCHES * BATCH_SETS) * 1_000_000


def report_sets(keys: int) -> None:
    """Print the cost of plain SETs of random keys beside that of a bare dict."""
    chooser = random.Random(1)
    names = [b"key:%012d" % n for n in range(keys)]
    batches = [
        [(1, chooser.choice(names), b"x" * 100) for _ in range(BATCH_SETS)] for _ in range(BATCHES)
    ]
    payloads = [encode_batch(1, 1, 1, batch) for batch in batches]
    decoded = [decode_batch(payload).commands for payload in payloads]
    store, plain = KvStore(), {}

    def apply_all() -> None:
        for payload in payloads:
            store.apply(store.applied_index + 1, payload)

    def assign_all() -> None:
        for batch in decoded:
            for _, key, value in batch:
                plain[key] = (value, 0, 1, 1, 1)

    for name, work in (
        ("encode", lambda: [encode_batch(1, 1, 1, batch) for batch in batches]),
        ("decode", lambda: [decode_batch(payload) for payload in payloads]),
        ("apply, decode included", apply_all),
        ("bare dict", assign_all),
    ):
        cost = microseconds_per_set(work)
        sys.stdout.write(f"{keys:8} keys, SET: {name:24} {cost:6.2f} us\n")


def main() -> None:
    """Measure and print."""
    keys = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    gc.disable()
    report_sets(1000)
    report_sets(100_000)
    store = KvStore()
    for first in range(0, keys, 1000):
        apply(store, [(1, b"key:%012d" % n, b"x" * 50) for n in range(first, first + 1000)])
    pieces: list[bytes] = []
    loader = ImageLoader()
    report("image", (pieces.append(piece) for piece in store.start_image().slices()))
    report("load", (loader.feed(piece) for piece in pieces))
    report("KEYS", store.sliced((int(Opcode.KEYS), b"*7*")))
    report("COUNTKEYSINSLOT", store.sliced((int(Opcode.COUNTKEYSINSLOT), 77)))
    report("SCAN COUNT 10", scan_pages(store, 10))
    report("SCAN COUNT 1000", scan_pages(store, 1000))
    report("SCAN COUNT 1000000", scan_pages(store, 1_000_000))
    report("100 SETs", batches_of_sets(store, 300))
    image = store.start_image()
    report("100 SETs under an image", batches_of_sets(store, 300))
    image.close()
    report("flush", (apply(store, [(int(Opcode.FLUSH),)]) for _ in range(1)))
    report("free", frees(store))


if __name__ == "__main__":
    main()

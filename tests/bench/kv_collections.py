"""Prints what collections cost: one change, and the longest slices at a million elements.

Run as `python -m tests.bench.kv_collections [elements]`. Processor time, garbage
collection off. Nothing is asserted.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Iterator

from raftkv.kv.commands import Command, Opcode
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from tests.bench.kv_slices import report
from tests.unit.kv.driver import apply
from tests.unit.kv.test_collections import ADD, TYPES

CHANGES = 2000


def changes(kind: str, key: bytes, elements: int) -> list[Command]:
    """Return commands of one element each."""
    chooser = random.Random(1)
    return [ADD[kind](key, [b"name:%d" % chooser.randrange(elements)]) for _ in range(CHANGES)]


def microseconds_per_change(store: KvStore, commands: list[Command]) -> float:
    """Return the best of three runs."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        apply(store, commands)
        best = min(best, time.process_time() - started)
    return best / len(commands) * 1_000_000


def frees(store: KvStore) -> Iterator[None]:
    """Free what is left of a value that is gone."""
    while store.free_slice():
        yield


def measure(kind: str, elements: int) -> None:
    """Print the costs of one type."""
    store = KvStore()
    apply(store, [ADD[kind](b"small", [b"name:%d" % number for number in range(50)])])
    for first in range(0, elements, 1000):
        words = [b"name:%d" % number for number in range(first, min(first + 1000, elements))]
        apply(store, [ADD[kind](b"large", words)])
    for key, size in ((b"small", 50), (b"large", elements)):
        cost = microseconds_per_change(store, changes(kind, key, size))
        sys.stdout.write(f"{kind:5} {key.decode()} one change  {cost:6.2f} us\n")
    pieces: list[bytes] = []
    report(f"{kind} image", (pieces.append(piece) for piece in store.start_image().slices()))
    loader = ImageLoader()
    report(f"{kind} load", (loader.feed(piece) for piece in pieces))
    loader.finish()
    report(f"{kind} DEL", (apply(store, [(int(Opcode.DEL), b"large")]) for _ in range(1)))
    report(f"{kind} free", frees(store))


def main() -> None:
    """Measure and print."""
    elements = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    gc.disable()
    for kind in TYPES:
        measure(kind, elements)


if __name__ == "__main__":
    main()

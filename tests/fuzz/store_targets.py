"""Fuzz targets for what the store reads: batches of the log and images."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from raftkv.errors import ProtocolError
from raftkv.kv.codec import decode_batch, encode_batch
from raftkv.kv.commands import Opcode
from raftkv.kv.image_loader import ImageLoader
from raftkv.kv.store import KvStore
from tests.fuzz.target import Script, Target, chunks

GOLDEN = Path(__file__).parents[1] / "golden" / "kv"
# A leader puts the limit of a value into the command; no limit, no bounded memory.
_BYTES_MAX = 4096


def _is_bounded(command: tuple[Any, ...]) -> bool:
    """Whether a command has the limit that a leader's parser puts into it."""
    limited = (Opcode.SETRANGE, Opcode.APPEND)
    return not command or command[0] not in limited or command[-1] == _BYTES_MAX


def _image(store: KvStore) -> tuple[bytes, bytes]:
    image = store.start_image()
    data = b"".join(image.slices())
    assert image.image_hash is not None
    return data, image.image_hash


def run_batch(data: bytes) -> None:
    """Any payload is refused, or a batch that comes back and has one effect everywhere."""
    try:
        batch = decode_batch(data)
        payload = encode_batch(*batch[:4])
    except ProtocolError:
        return
    assert decode_batch(payload)[:4] == batch[:4]
    if not all(map(_is_bounded, batch.commands)):
        return
    one, other = KvStore(), KvStore()
    for store in (one, other):
        store.apply(
            1, encode_batch(5, 5, 5, [(Opcode.SET, b"key", b"17"), (Opcode.SET, b"k", b"")])
        )
    try:
        results = one.apply(2, data)
    except ProtocolError:
        return
    assert len(results) == len(batch.commands)
    assert other.apply(2, data) == results
    assert one.state_hash == other.state_hash
    content, image_hash = _image(one)
    assert (content, image_hash) == _image(other)
    loader = ImageLoader()
    loader.feed(content)
    assert _image(loader.finish()) == (content, image_hash)


def batch_seeds() -> list[bytes]:
    return [
        (GOLDEN / "batch-1.bin").read_bytes(),
        (GOLDEN / "batch-2.bin").read_bytes(),
        (GOLDEN / "batch-1-transactions.bin").read_bytes(),
        (GOLDEN / "batch-2-sessions.bin").read_bytes(),
        encode_batch(1, 2, 3, []),
        encode_batch(
            6,
            7,
            8,
            [
                (Opcode.INCRBY, b"key", 4),
                (Opcode.APPEND, b"k", b"tail", _BYTES_MAX),
                (Opcode.SETRANGE, b"k", 9, b"piece", _BYTES_MAX),
                (Opcode.EXPIRE, b"k", 50, None, 0),
                (Opcode.MSET, b"a", b"1", b"b", b"2"),
                (Opcode.DEL, b"a", b"none"),
                (Opcode.SCAN, 0, b"*", 10, None),
                (Opcode.KEYS, b"k*"),
                (Opcode.RENAME, b"b", b"c"),
                (Opcode.INCRBYFLOAT, b"key", b"1.5"),
                (Opcode.RANDOMKEY, 3),
                (Opcode.FLUSH,),
            ],
        ),
    ]


def run_image(data: bytes) -> None:
    """Any bytes of an image are refused, or a store whose own image loads again."""
    script = Script(data)
    size, content = script.number(), script.rest()
    loader = ImageLoader()
    with contextlib.suppress(ProtocolError):
        for chunk in chunks(content, size):
            loader.feed(chunk)
        store = loader.finish()
        written, image_hash = _image(store)
        again = ImageLoader()
        again.feed(written)
        assert _image(again.finish()) == (written, image_hash)
        # The log goes on behind it.
        store.apply(store.applied_index + 1, encode_batch(0, 0, 0, [(Opcode.SET, b"k", b"v")]))


def image_seeds() -> list[bytes]:
    names = ("image-1.bin", "image-2.bin", "image-2-leases.bin", "image-2-sessions.bin")
    golden = [(GOLDEN / name).read_bytes() for name in names]
    store = KvStore()
    store.apply(1, encode_batch(9, 9, 9, [(Opcode.SET, b"key", b"17"), (Opcode.SET, b"k", b"")]))
    return [bytes((size,)) + content for size in (0, 5) for content in (*golden, _image(store)[0])]


TARGETS = {
    "batch": Target(run_batch, batch_seeds),
    "image": Target(run_image, image_seeds),
}

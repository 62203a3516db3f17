"""Whatever compresses on one node is read on another, and checksums are the same."""

from __future__ import annotations

import importlib
import random
import sys
import zlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from raftkv import deflate

DATA = b"".join(b"key:%d value:%d " % (n, n % 7) for n in range(5000))


@pytest.fixture(params=["isal", "zlib"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The functions as they are with the package, and without."""
    if request.param == "isal":
        isal_zlib = pytest.importorskip("isal.isal_zlib")
        module = importlib.reload(deflate)
        assert (module.compress, module.crc32) == (isal_zlib.compress, isal_zlib.crc32)
        yield module
        return
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    yield importlib.reload(deflate)
    monkeypatch.undo()
    importlib.reload(deflate)


def test_zlib_reads_what_was_compressed_and_the_other_way_round(module: ModuleType) -> None:
    for data in (b"", b"x", DATA, random.Random(1).randbytes(300_000)):
        assert zlib.decompress(module.compress(data, 1)) == data
        unpacker = module.decompressobj()
        assert unpacker.decompress(zlib.compress(data, 1), len(data) + 1) == data
        assert unpacker.eof


def test_checksums_are_those_of_zlib(module: ModuleType) -> None:
    assert module.crc32(DATA) == zlib.crc32(DATA)
    assert module.crc32(memoryview(DATA)[7:99], 5) == zlib.crc32(DATA[7:99], 5)


def test_damage_is_an_error_and_a_cut_is_no_end(module: ModuleType) -> None:
    packed = module.compress(DATA, 1)
    with pytest.raises(module.error):
        module.decompressobj().decompress(packed[:-1] + bytes([packed[-1] ^ 1]), len(DATA) + 1)
    unpacker = module.decompressobj()
    unpacker.decompress(packed[:-3], len(DATA) + 1)
    assert not unpacker.eof


@pytest.mark.parametrize("size", [1, 7, 8, 100])
def test_what_follows_the_end_is_told(module: ModuleType, size: int) -> None:
    unpacker = module.decompressobj()
    unpacker.decompress(module.compress(DATA, 1) + bytes(size), len(DATA) + 1)
    assert unpacker.eof
    assert unpacker.unused_data == bytes(size)


def test_no_more_is_unpacked_than_asked_for(module: ModuleType) -> None:
    packed = module.compress(bytes(1_000_000), 1)
    assert len(module.decompressobj().decompress(packed, 100)) == 100

"""Free memory goes back to the system where the C library can do that."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from raftkv.replica.allocator import give_back

_STATUS = Path("/proc/self/status")
BLOCK = 4096
BLOCKS = 10_000


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return int(found.group(1)) << 10


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim") or not _STATUS.exists(),
    reason="the C library or the system says nothing of it",
)
def test_pieces_between_what_stays_go_back_to_the_system() -> None:
    blocks = [bytes([1]) * BLOCK for _ in range(BLOCKS)]
    kept = [blocks[position] for position in range(0, BLOCKS, 8)]
    blocks.clear()
    held = resident_bytes()
    give_back()
    assert held - resident_bytes() > BLOCKS * BLOCK / 2
    assert len(kept) == BLOCKS / 8


def test_nothing_happens_where_the_library_has_no_such_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    give_back()

"""Slots as cluster clients compute them."""

from __future__ import annotations

import pytest

from raftkv.kv.slots import key_slot


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"", 0),
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"bar", 5061),
        (b"{foo}bar", 12182),
        (b"bar{foo}", 12182),
        (b"{foo}{bar}", 12182),
        (b"a{{foo}}", key_slot(b"{foo")),
        (b"foo{foo", key_slot(b"xfoo{foo"[1:])),
    ],
)
def test_known_slots(key: bytes, slot: int) -> None:
    assert key_slot(key) == slot


def test_an_empty_tag_does_not_count() -> None:
    assert key_slot(b"foo{}{bar}") not in (key_slot(b""), key_slot(b"bar"))
    assert key_slot(b"{}") != key_slot(b"")

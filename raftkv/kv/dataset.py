"""What keys and values count for: the memory that a store accounts for.

Fixed numbers instead of measured ones, because a limit on them is enforced when an
entry of the log is applied, and must be enforced alike on every node, whatever the
Python and the machine. They are close to what CPython 3.11 takes on 64 bits.

A key counts for its bytes and those of its value, 290 for its entry (the headers of
key and value, 33 each; the entry, 96; a revision, 32; its share of a bucket, 96), and
112 more for a deadline. The value of a collection counts for the bytes of all its
elements, and for each of them what `Collection.overhead_bytes` says.

Pure. Users: `keyspace`, `strings`, `generic`, `image_loader`.
"""

from __future__ import annotations

from typing import Any, Final

# The same in the hot path of `strings`.
ENTRY_BYTES: Final = 290
DEADLINE_BYTES: Final = 112
# More than any store can count: the limit that is none.
UNLIMITED: Final = 1 << 62


def bytes_of(key: bytes, value: Any, deadline_ms: int) -> int:
    """Return what a key with its value counts for.

    Args:
        key: Its name.
        value: Bytes, or a `values.Collection`.
        deadline_ms: 0 for none.
    """
    if value.__class__ is bytes:
        size = len(key) + len(value) + ENTRY_BYTES
    else:
        size = len(key) + value.content_bytes + value.size * value.overhead_bytes + ENTRY_BYTES
    return size + DEADLINE_BYTES if deadline_ms else size

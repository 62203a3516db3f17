"""Memory that is free, given back to the system.

What a snapshot or a burst of writes took for a moment is freed, but in pieces between what
stays, and the C library keeps those for later: 3 of 60 MB in a node of 100,000 keys, 5 of
400 at a million. Its own call gives them back in about a millisecond.

Who calls: node, for its worker. Tests: tests/unit/replica/test_allocator.py.
"""

from __future__ import annotations


def give_back() -> None:
    """Give back what is free; nothing where the C library has no such call (glibc has)."""
    # Late: most commands of this package never come here.
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

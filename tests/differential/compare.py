"""Whether two replies to one request are the same, as far as Redis promises them.

Redis leaves open the order of what is not ordered; two servers read the clock at
two moments; random choices are checked by membership, in `side_by_side`.
"""

from __future__ import annotations

from typing import Any

from tests.differential.replies import Double, Failed, Map

# Both sides read the clock, one after the other.
TOLERANCE_MS = 1000

_SECONDS = frozenset(("ttl", "expiretime"))
_MILLISECONDS = frozenset(("pttl", "pexpiretime"))
_UNORDERED = frozenset(
    ("keys", "smembers", "sinter", "sunion", "sdiff", "hkeys", "hvals", "sscan", "command")
)
# What is answered in pairs, in an open order.
_UNORDERED_PAIRS = frozenset(("hgetall",))

# Where this store differs from Redis, each with its reason. At most fifteen.
EXCEPTIONS = {
    "encoding": "OBJECT ENCODING follows from the present content; in Redis a collection "
    "that has grown never goes back, and an integer that APPEND made is raw",
    "freq and idletime": "no access times are kept, which Redis would keep on each node alone",
    "memory": "MEMORY USAGE estimates the memory of this store, not that of Redis",
    "value limits": "error texts of sizes name the setting that limits them",
    "dbsize": "dead keys are never counted, while Redis counts them until it removes them",
    "random": "other choices are made; they are checked by membership and number",
    "names": "ranges of names are compared among equal scores only, as Redis defines them",
    "negative zero": "a score of -0 becomes 0; Redis does so in small sorted sets only",
    "nul in order": "SORT ALPHA compares whole elements, Redis up to a NUL unless it stores them",
    "keys in transactions": "KEYS and SCAN are refused inside MULTI: they would hold up every node",
    "watch of nothing": "a watched key that was absent and is absent again has not changed: EXEC "
    "is decided by the revisions of what is there",
    "cursors": "cursors are other numbers; whole scans are compared",
}
assert len(EXCEPTIONS) <= 15


def pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    """Return a flat list as couples."""
    return list(zip(flat[::2], flat[1::2], strict=True))


def with_plain_zeros(reply: Any) -> Any:
    """Return the reply to a command on sorted sets without negative zeros."""
    if reply in (b"-0", Double(b"-0")):
        return Double(b"0") if isinstance(reply, Double) else b"0"
    if isinstance(reply, list | tuple):
        return type(reply)(map(with_plain_zeros, reply))
    return reply


def up_to_nul(element: bytes | None) -> bytes | None:
    """Return what Redis looks at when it sorts by text."""
    return None if element is None else element.split(b"\0", 1)[0]


def same(name: str, expected: Any, actual: Any) -> bool:
    """Whether our reply to a request is that of Redis."""
    if type(expected) is not type(actual):
        return False
    if name in _SECONDS | _MILLISECONDS and isinstance(actual, int) and actual > 0:
        tolerance = TOLERANCE_MS if name in _MILLISECONDS else TOLERANCE_MS // 1000
        return abs(expected - actual) <= tolerance
    if name in ("sort", "sort_ro") and isinstance(actual, list):
        return [up_to_nul(one) for one in expected] == [up_to_nul(one) for one in actual]
    if name in _UNORDERED and isinstance(actual, list):
        return sorted(expected) == sorted(actual)
    if name in _UNORDERED_PAIRS and isinstance(actual, list):
        return sorted(pairs(expected)) == sorted(pairs(actual))
    if isinstance(actual, Map):
        return dict(pairs(expected)) == dict(pairs(actual))
    if isinstance(actual, Failed) and "limits." in actual.text:
        return actual.text.split(" (")[0] == expected.text.split(" (")[0]
    return bool(expected == actual)

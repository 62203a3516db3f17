"""A Redis server and a store of ours, which get the same random requests.

Compares every reply, in RESP2 and RESP3, alone and in pipelines, and the whole
content when asked. A random choice of a write is made here; Redis is told to
take the same elements, and makes one of its own on a copy of the key, for the
shape of the reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.differential.compare import same, with_plain_zeros
from tests.differential.draw import Words
from tests.differential.redis_process import RedisConnection
from tests.differential.replies import Failed
from tests.differential.store_under_test import StoreUnderTest

_COPY = b"copy of the chosen key"
_SCANS = frozenset(("scan", "hscan", "sscan", "zscan"))
_CHOICES = {"srandmember": b"SMEMBERS", "hrandfield": b"HGETALL", "zrandmember": b"ZRANGE"}
DUMPS = {
    "string": (b"GET",),
    "hash": (b"HGETALL",),
    "list": (b"LRANGE", b"0", b"-1"),
    "set": (b"SMEMBERS",),
    "zset": (b"ZRANGE", b"0", b"-1", b"WITHSCORES"),
}
# Commands on ranges of names, which Redis defines among equal scores only.
_NAMED = frozenset(
    ("zlexcount", "zrangebylex", "zrevrangebylex", "zremrangebylex", "zrange", "zrangestore")
)
# Redis refuses numbers in SORT behind any number that was out of range, because it looks at
# what errno was before; reading this number sets it back.
SORTS = frozenset(("sort", "sort_ro"))
RESET_OF_SORTS = (b"CONFIG", b"SET", b"maxmemory", b"0")
# Refused inside MULTI.
NEVER_INSIDE = frozenset(("keys",))
# Compared in `check_alone` only.
ALONE = (
    _SCANS | set(_CHOICES) | {"spop", "randomkey", "dbsize", "object", "memory"} | _NAMED | SORTS
)


class Difference(AssertionError):
    """The two sides do not agree."""


class SideBySide:
    """Both sides, in the same protocol.

    Attributes:
        redis: Connections by RESP version.
        ours: The store.
        compared: Replies that were compared.
    """

    def __init__(self, redis: dict[int, RedisConnection]) -> None:
        self.redis = redis
        self.ours = StoreUnderTest()
        self.compared = 0
        self.protocol = 2

    def use(self, protocol: int) -> None:
        """Go on in RESP2 or RESP3."""
        self.protocol = self.ours.protocol = protocol

    def type_of(self, key: bytes) -> str:
        """Return the type that a key has here."""
        text: str = self.ours.call(b"TYPE", key).text
        return text

    def their(self, *arguments: bytes) -> Any:
        """Ask Redis only."""
        return self.redis[self.protocol].call(*arguments)

    def check(self, requests: Sequence[Words]) -> None:
        """Send requests to both in one piece and compare the replies."""
        if len(requests) == 1 and requests[0][0].decode().lower() in ALONE:
            self.check_alone(requests[0])
            return
        expected = self.redis[self.protocol].call_all(requests)
        actual = self.ours.call_all(requests)
        for request, theirs, our in zip(requests, expected, actual, strict=True):
            self._expect(request, theirs, our)

    def check_multi(self, requests: Sequence[Words]) -> None:
        """Send requests to both between MULTI and EXEC and compare the replies."""
        expected = self.redis[self.protocol].call_all([[b"MULTI"], *requests, [b"EXEC"]])[1:]
        actual = self.ours.call_multi(requests)
        for request, theirs, our in zip([*requests, [b"EXEC"]], expected, actual, strict=True):
            if not isinstance(theirs, list) or not isinstance(our, list):
                self._expect(request, theirs, our, equal=theirs == our)
                continue
            for inside, one, other in zip(requests, theirs, our, strict=True):
                self._expect([*inside, b"(inside MULTI)"], one, other, equal=None)

    def _expect(self, request: Words, theirs: Any, our: Any, *, equal: bool | None = None) -> None:
        self.compared += 1
        if request[0].lower().startswith((b"z", b"bz")):
            theirs, our = with_plain_zeros(theirs), with_plain_zeros(our)
        if equal is None:
            equal = same(request[0].decode().lower(), theirs, our)
        if not equal:
            raise Difference(
                f"{request!r} in RESP{self.protocol}\nredis: {theirs!r:.2000}\nours:  {our!r:.2000}"
            )

    def check_alone(self, request: Words) -> None:
        """Compare what needs more than one request to be compared."""
        name = request[0].decode().lower()
        if name in _SCANS:
            self._check_scan(request)
        elif name == "spop":
            self._check_spop(request)
        elif name in _CHOICES:
            self._check_choice(request, name)
        elif name in _NAMED:
            if "lex" in name or b"BYLEX" in [word.upper() for word in request]:
                self._make_scores_equal(request[-1 if len(request) < 3 else 1 + ("store" in name)])
            self._expect(request, self.their(*request), self.ours.call(*request))
        elif name in SORTS:
            self.their(*RESET_OF_SORTS)
            words = [word.upper() for word in request]
            # A set may not be sorted at all, unless that is stored.
            is_open = b"BY" in words and b"STORE" not in words and self._is_set(request)
            theirs, our = self.their(*request), self.ours.call(*request)
            self._expect(request, theirs, our, equal=type(theirs) is type(our) if is_open else None)
        elif name == "dbsize":
            self._expect(request, len(self.their(b"KEYS", b"*")), self.ours.call(*request))
        else:
            theirs, our = self.their(*request), self.ours.call(*request)
            fixed = isinstance(theirs, Failed) and isinstance(our, Failed) and theirs == our
            self._expect(request, theirs, our, equal=fixed or type(theirs) is type(our))

    def _is_set(self, request: Words) -> bool:
        return len(request) > 1 and self.type_of(request[1]) == "set"

    def _make_scores_equal(self, key: bytes) -> None:
        if self.type_of(key) == "zset":
            words = (b"ZUNIONSTORE", key, b"1", key, b"WEIGHTS", b"0")
            self._expect(list(words), self.their(*words), self.ours.call(*words))

    def _check_scan(self, request: Words) -> None:
        place = 1 if request[0].lower() == b"scan" else 2
        first_replies, pages = [], []
        for call in (self.their, self.ours.call):
            reply = call(*request)
            first_replies.append(reply)
            found: list[Any] = []
            while isinstance(reply, list):
                found += reply[1]
                if reply[0] == b"0":
                    break
                reply = call(*request[:place], reply[0], *request[place + 1 :])
            pages.append(found)
        theirs, our = first_replies
        if isinstance(theirs, Failed) or isinstance(our, Failed):
            self._expect(request, theirs, our)
            return
        width = 2 if request[0].lower() in (b"hscan", b"zscan") else 1
        unique: list[Any] = [
            sorted(
                {tuple(with_plain_zeros(found[n : n + width])) for n in range(0, len(found), width)}
            )
            for found in pages
        ]
        self._expect(request, *unique)

    def _check_spop(self, request: Words) -> None:
        before = self.their(b"SMEMBERS", request[1]) if len(request) > 1 else []
        our = self.ours.call(*request)
        if isinstance(before, Failed) or isinstance(our, Failed) or not before:
            self._expect(request, self.their(*request), our)
            return
        self.their(b"DEL", _COPY)
        self.their(b"COPY", request[1], _COPY)
        theirs = self.their(request[0], _COPY, *request[2:])
        self.their(b"DEL", _COPY)
        gone = our if isinstance(our, list) else [our]
        fits = set(gone) <= set(before) and len(set(gone)) == len(gone)
        alike = type(our) is type(theirs) and len(gone) == (
            len(theirs) if isinstance(theirs, list) else 1
        )
        self._expect(request, theirs, our, equal=fits and alike)
        if gone:
            self.their(b"SREM", request[1], *gone)

    def _check_choice(self, request: Words, name: str) -> None:
        theirs, our = self.their(*request), self.ours.call(*request)
        if not isinstance(our, list | bytes) or not isinstance(theirs, list | bytes):
            self._expect(request, theirs, our)
            return
        dump = (_CHOICES[name], request[1], *((b"0", b"-1") if name == "zrandmember" else ()))
        held = self.their(*dump)
        allowed = set(held[::2] if name == "hrandfield" else held)
        fits = type(our) is type(theirs)
        if isinstance(our, list):
            fits = fits and len(our) == len(theirs)
            names = [one[0] if isinstance(one, list) else one for one in our]
            if len(request) > 3 and self.protocol == 2:
                names = our[::2]
            if int(request[2]) >= 0:
                fits = fits and len(set(names)) == len(names)
        else:
            names = [our]
        self._expect(request, theirs, our, equal=fits and set(names) <= allowed)

    def check_content(self) -> None:
        """Compare all keys, their types, values and deadlines."""
        found = self.their(b"KEYS", b"*")
        self._expect([b"KEYS", b"*"], found, self.ours.call(b"KEYS", b"*"))
        for key in found:
            kind = self.their(b"TYPE", key)
            self._expect([b"TYPE", key], kind, self.ours.call(b"TYPE", key))
            name, *rest = DUMPS[kind.text]
            for request in ([name, key, *rest], [b"PEXPIRETIME", key], [b"TTL", key]):
                self._expect(request, self.their(*request), self.ours.call(*request))

    def clear(self) -> None:
        """Empty both sides."""
        self.their(b"FLUSHALL")
        self.ours.call(b"FLUSHALL")

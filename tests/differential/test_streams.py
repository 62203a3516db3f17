"""Long random streams of requests, compared with Redis reply by reply.

A stream is made from its seed alone; a failure names the seed and the request.
Relative and absolute times are far apart from each other and from the present,
so that the instants at which the two sides read the clock do not matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.differential.pair import Pair

STREAM_REQUESTS = 2500
SEEDS = range(6)

KEYS = [b"a", b"b", b"c", b"d", b"{t}x", b"{t}y", b"", b"\x00\xff\r\n", b"key:%06d" % 7]
VALUES = [
    b"", b"0", b"1", b"-1", b"10", b"007", b"9223372036854775807", b"-9223372036854775808",
    b"9223372036854775808", b"3.25", b"-0.1", b"1e3", b"inf", b"text", b"\x00\x01\xfe", b"x" * 300,
]  # fmt: skip
INTEGERS = [b"0", b"1", b"-1", b"5", b"-7", b"100", b"x", b"9223372036854775807", b"", b"2.5"]
FLOATS = [b"0", b"1", b"-2.5", b"0.1", b"1e2", b"-1e-3", b"3.0e3", b"nan", b"x", b"0.3333333333"]
PATTERNS = [b"*", b"a", b"?", b"[a-c]", b"{t}*", b"*x", b"[^a]", b"k*:*7", b"\\a", b"**", b""]
FLAGS = [b"NX", b"XX", b"GT", b"LT"]


class Stream:
    """Draws requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random.choice
        self.makers: list[tuple[int, Callable[[], list[bytes]]]] = [
            (20, lambda: [b"SET", self.key(), self.value(), *self.set_options()]),
            (12, lambda: [b"GET", self.key()]),
            (6, lambda: [pick([b"DEL", b"UNLINK", b"EXISTS", b"TOUCH", b"MGET"]), *self.keys()]),
            (4, lambda: [pick([b"MSET", b"MSETNX"]), *self.pairs()]),
            (3, lambda: [b"SETNX", self.key(), self.value()]),
            (3, lambda: [pick([b"SETEX", b"PSETEX"]), self.key(), self.ttl(), self.value()]),
            (3, lambda: [pick([b"GETSET", b"APPEND"]), self.key(), self.value()]),
            (8, lambda: [pick([b"GETDEL", b"STRLEN", b"TYPE", b"PERSIST"]), self.key()]),
            (4, lambda: [b"GETEX", self.key(), *self.getex_options()]),
            (4, lambda: [b"GETRANGE", self.key(), pick(INTEGERS), pick(INTEGERS)]),
            (4, lambda: [b"SETRANGE", self.key(), pick(INTEGERS[:7]), self.value()]),
            (6, lambda: [pick([b"INCR", b"DECR"]), self.key()]),
            (6, lambda: [pick([b"INCRBY", b"DECRBY"]), self.key(), pick(INTEGERS)]),
            (6, lambda: [b"INCRBYFLOAT", self.key(), pick(FLOATS)]),
            (6, lambda: [pick([b"EXPIRE", b"PEXPIRE"]), self.key(), self.ttl(), *self.flags()]),
            (3, lambda: [b"EXPIREAT", self.key(), self.deadline(1), *self.flags()]),
            (3, lambda: [b"PEXPIREAT", self.key(), self.deadline(1000), *self.flags()]),
            (6, lambda: [pick([b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]), self.key()]),
            (3, lambda: [pick([b"RENAME", b"RENAMENX"]), self.key(), self.key()]),
            (3, lambda: [b"COPY", self.key(), self.key(), *pick([[], [b"REPLACE"], [b"DB"]])]),
            (2, lambda: [b"KEYS", pick(PATTERNS)]),
            (1, lambda: [b"DBSIZE"]),
            (1, lambda: [pick([b"FLUSHALL", b"FLUSHDB"])] if pick(range(20)) == 0 else [b"DBSIZE"]),
        ]
        self.weights = [weight for weight, _ in self.makers]

    def request(self) -> list[bytes]:
        """Return one request."""
        (_, make) = self.random.choices(self.makers, self.weights)[0]
        return make()

    def key(self) -> bytes:
        return self.random.choice(KEYS)

    def keys(self) -> list[bytes]:
        return self.random.choices(KEYS, k=self.random.randint(1, 4))

    def value(self) -> bytes:
        return self.random.choice(VALUES)

    def pairs(self) -> list[bytes]:
        return [part for key in self.keys() for part in (key, self.value())]

    def ttl(self) -> bytes:
        number = self.random.randint(1_000_000, 100_000_000)
        return self.random.choice([b"%d" % number] * 6 + [b"-1", b"0", b"abc"])

    def deadline(self, unit: int) -> bytes:
        number = self.random.randint(9_000_000_000, 90_000_000_000) * unit
        return self.random.choice([b"%d" % number] * 6 + [b"1", b"-3", b""])

    def flags(self) -> list[bytes]:
        return self.random.choices(FLAGS, k=self.random.choice([0, 0, 1, 1, 2]))

    def getex_options(self) -> list[bytes]:
        return self.random.choice(
            [[], [b"PERSIST"], [b"EX", self.ttl()], [b"PXAT", self.deadline(1000)], [b"NX"]]
        )

    def set_options(self) -> list[bytes]:
        time = self.random.choice(
            [[], [], [b"EX", self.ttl()], [b"PX", self.ttl()], [b"EXAT", self.deadline(1)],
             [b"PXAT", self.deadline(1000)], [b"KEEPTTL"]]
        )  # fmt: skip
        others = [name for name in (b"NX", b"XX", b"GET") if self.random.random() < 0.15]
        options = [*time, *others]
        return options if self.random.random() < 0.5 else [*others, *time]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_stream_gets_the_same_replies(pair: Pair, seed: int) -> None:
    stream = Stream(seed)
    for _ in range(STREAM_REQUESTS):
        pair.check(*stream.request())
    pair.check_content()


PATTERN_ALPHABET = [b"a", b"b", b"-", b"*", b"?", b"[", b"]", b"^", b"\\", b"c"]


@pytest.mark.slow
def test_random_patterns_match_the_same_keys(pair: Pair) -> None:
    chooser = random.Random(7)
    # Not the empty key: Redis treats it apart, and differently for `*` and `**`.
    letters = [b"a", b"b", b"c", b"-", b"]", b"^", b"\\", b"*"]
    for _ in range(150):
        pair.check(b"SET", b"".join(chooser.choices(letters, k=chooser.randint(1, 5))), b"v")
    for _ in range(3000):
        pattern = b"".join(chooser.choices(PATTERN_ALPHABET, k=chooser.randint(1, 7)))
        pair.check(b"KEYS", pattern)


@pytest.mark.slow
def test_random_floats_add_up_to_the_same_digits(pair: Pair) -> None:
    chooser = random.Random(11)

    def number() -> bytes:
        digits = "".join(chooser.choices("0123456789", k=chooser.randint(1, 25)))
        point = chooser.randint(0, len(digits))
        text = digits[:point] + "." + digits[point:]
        sign = chooser.choice(["", "-", "+"])
        exponent = chooser.choice(["", "", f"e{chooser.randint(-30, 30)}"])
        return (sign + text + exponent).encode()

    for _ in range(2000):
        pair.check(b"SET", b"f", number())
        for _ in range(3):
            pair.check(b"INCRBYFLOAT", b"f", number())


@pytest.mark.slow
def test_a_scan_returns_what_redis_returns(pair: Pair) -> None:
    for number in range(2000):
        pair.check(b"SET", b"key:%d" % number, b"v")
    for options in ((), (b"COUNT", b"1000"), (b"MATCH", b"*7*"), (b"TYPE", b"string")):
        seen = []
        for side in (pair.redis, pair.ours):
            cursor, keys = b"0", []
            while True:
                cursor, page = side.call(b"SCAN", cursor, *options)
                keys += page
                if cursor == b"0":
                    break
            seen.append(sorted(set(keys)))
        assert seen[0] == seen[1]

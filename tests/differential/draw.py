"""Draws the words of random requests: keys of the right type, elements, options.

Everything follows from the seed and from the types of the keys, so that a seed
replays. Counts how often each option of each command was drawn, and how often a
key held the type that its command is for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

KEYS = [b"a", b"b", b"c", b"d", b"{t}x", b"{t}y", b"", b"\x00\xff\r\n"]
ELEMENTS = [b"m%d" % number for number in range(12)] + [
    b"", b"0", b"-1", b"7", b"12", b"3.5", b"\x00\x01\xfe", b"x" * 70, b"9223372036854775807",
]  # fmt: skip
INTEGERS = [b"0", b"1", b"-1", b"2", b"3", b"5", b"-2", b"-7", b"100"]
BAD_INTEGERS = [b"x", b"", b"1.5", b"9223372036854775808", b"9223372036854775807", b" 1"]
FLOATS = [b"0", b"1", b"-2.5", b"0.1", b"1e2", b"-1e-3", b"3.0e3", b"0.3333333333", b"7", b"-3"]
BAD_FLOATS = [b"nan", b"x", b"", b"inf", b"-inf", b"1e400", b"0x1p3"]
PATTERNS = [b"*", b"m*", b"?", b"[0-9]*", b"m1?", b"*x", b"[^m]*", b"\\m*", b""]

HIT_SHARE = 0.9
BAD_SHARE = 0.03
# A whole word of a request that may be replaced or dropped, to draw errors.
SPOILED_SHARE = 0.02

Words = list[bytes]


class Draw:
    """Source of chance for one stream of requests.

    Attributes:
        random: The generator.
        options: (command, option) -> how often it was drawn.
        hits, misses: Keys of the right type, and others, that commands got.
    """

    def __init__(self, seed: int, type_of: Callable[[bytes], str]) -> None:
        self.random = Random(seed)
        self.options: Counter[tuple[str, str]] = Counter()
        self.hits = self.misses = 0
        self._type_of = type_of
        self._name = ""

    def begin(self, name: str) -> None:
        """The next options are of this command."""
        self._name = name

    def pick(self, values: Sequence[bytes]) -> bytes:
        """Return one of the values."""
        return self.random.choice(values)

    def chance(self, share: float) -> bool:
        """Return True with a probability."""
        return self.random.random() < share

    def key(self, wanted: str) -> bytes:
        """Return a key, mostly one of a type; `any` for every type."""
        held = {key: self._type_of(key) for key in KEYS}
        fitting = [
            key for key in KEYS if held[key] == wanted or (wanted == "any" and held[key] != "none")
        ]
        if fitting and self.chance(HIT_SHARE):
            chosen = self.pick(fitting)
        else:
            free = [key for key in KEYS if held[key] in ("none", wanted)]
            chosen = self.pick(free if free and self.chance(HIT_SHARE) else KEYS)
        self.hits += chosen in fitting
        self.misses += chosen not in fitting
        return chosen

    def target(self) -> bytes:
        """Return any key, to store to."""
        return self.pick(KEYS)

    def keys(self, wanted: str, most: int = 3) -> Words:
        """Return one or several keys, mostly of a type."""
        return [self.key(wanted) for _ in range(self.random.randint(1, most))]

    def counted_keys(self, wanted: str, most: int = 3) -> Words:
        """Return keys behind their number, which is seldom wrong."""
        keys = self.keys(wanted, most)
        number = b"%d" % len(keys)
        return [self.pick([b"0", b"-1", b"9", b"x"]) if self.chance(BAD_SHARE) else number, *keys]

    def element(self) -> bytes:
        """Return a field, member, element or value."""
        if self.chance(0.02):
            return b"r%d" % self.random.randrange(2000)
        return self.pick(ELEMENTS)

    def elements(self, most: int = 4) -> Words:
        """Return one or several elements; once in a while many."""
        if self.chance(0.01):
            return [b"r%d" % number for number in range(self.random.choice([140, 400]))]
        return [self.element() for _ in range(self.random.randint(1, most))]

    def integer(self) -> bytes:
        """Return a small integer, seldom something else."""
        return self.pick(BAD_INTEGERS if self.chance(BAD_SHARE) else INTEGERS)

    def decimal(self) -> bytes:
        """Return a decimal number, seldom something else."""
        return self.pick(BAD_FLOATS if self.chance(BAD_SHARE) else FLOATS)

    def timeout(self) -> bytes:
        """Return a timeout so short that nobody has to wait for it, seldom something else."""
        if self.chance(BAD_SHARE):
            return self.pick([b"-1", b"x", b"", b"nan", b"inf", b"1e300", b"99999999999999999999"])
        return self.pick([b"0.001", b"0.0011", b"1e-3", b"0x1p-10"])

    def count(self) -> bytes:
        """Return how many, seldom something that is no number of things."""
        return self.pick([*BAD_INTEGERS, b"0", b"-3"] if self.chance(0.1) else [b"1", b"2", b"7"])

    def option(self, *words: bytes, share: float = 0.3) -> Words:
        """Return an option with its values, or nothing."""
        if not self.chance(share):
            return []
        self.options[self._name, words[0].decode()] += 1
        first = words[0].lower() if self.chance(0.1) else words[0]
        return [first, *words[1:]]

    def one_of(self, *choices: Words, share: float = 0.5) -> Words:
        """Return one of several options, each with its values, or nothing."""
        return self.option(*self.random.choice(choices), share=share)

    def always_one_of(self, *choices: bytes) -> bytes:
        """Return one of the words which the command must have."""
        return self.one_of(*([choice] for choice in choices), share=1)[0]

    def shuffled(self, *options: Words) -> Words:
        """Return options in any order."""
        chosen = [option for option in options if option]
        self.random.shuffle(chosen)
        return [word for option in chosen for word in option]

    def spoiled(self, request: Words) -> Words:
        """Return a request, seldom with a word too few or too many."""
        if not self.chance(SPOILED_SHARE) or len(request) < 2:
            return request
        position = self.random.randrange(1, len(request) + 1)
        if self.chance(0.5):
            return [*request[:position], self.element(), *request[position:]]
        return request[: len(request) - 1]

"""Long random comparison with Redis, as one command.

    python -m tests.differential.run --commands 200000 [--seed 1]

Draws requests over eight keys from `catalog`, in RESP2 and RESP3, alone, in
pipelines and inside MULTI, compares every reply and, every thousand requests, the whole content.
Ends with 1 at a difference, and prints the seed and how far it came; ends with 2
when too few requests met a key of their type or an option was drawn too seldom.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.differential.catalog import CATALOG, WEIGHTS
from tests.differential.compare import EXCEPTIONS
from tests.differential.draw import Draw, Words
from tests.differential.redis_process import RedisConnection, running_redis
from tests.differential.side_by_side import ALONE, NEVER_INSIDE, Difference, SideBySide

CONTENT_EVERY = 1000
PROTOCOL_EVERY = 500
CLEAR_EVERY = 20_000
PIPELINE_SHARE = 0.15
PIPELINE_MAX = 12
MULTI_SHARE = 0.4  # of the pipelines
HIT_SHARE_MIN = 0.6
OPTION_COUNT_MIN = 100


@dataclass
class Outcome:
    """What a run did."""

    commands: int = 0
    pipelines: int = 0
    transactions: int = 0
    hit_share: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)
    options: Counter[tuple[str, str]] = field(default_factory=Counter)


class Stream:
    """Draws requests from the catalog."""

    def __init__(self, seed: int, sides: SideBySide) -> None:
        self.draw = Draw(seed, sides.type_of)
        self.calls: Counter[str] = Counter()
        self._names = list(CATALOG)
        self._weights = [WEIGHTS.get(name, 1.0) for name in self._names]

    def request(self) -> Words:
        """Return one request."""
        (name,) = self.draw.random.choices(self._names, self._weights)
        self.calls[name] += 1
        self.draw.begin(name)
        return self.draw.spoiled([name.upper().encode(), *CATALOG[name](self.draw)])

    def requests(self) -> list[Words]:
        """Return one request, or several for a pipeline."""
        first = self.request()
        if not self.draw.chance(PIPELINE_SHARE):
            return [first]
        drawn = [first, *(self.request() for _ in range(self.draw.random.randint(1, PIPELINE_MAX)))]
        chosen = [one for one in drawn if one[0].decode().lower() not in ALONE]
        return chosen or [first]


def compare(sides: SideBySide, commands: int, seed: int) -> Outcome:
    """Compare so many requests.

    Raises:
        Difference: The two sides do not agree.
    """
    stream = Stream(seed, sides)
    outcome = Outcome(calls=stream.calls, options=stream.draw.options)
    sides.clear()
    try:
        while outcome.commands < commands:
            before = outcome.commands
            sides.use(2 + before // PROTOCOL_EVERY % 2)
            requests = stream.requests()
            if len(requests) > 1 and stream.draw.chance(MULTI_SHARE):
                outcome.transactions += 1
                sides.check_multi(
                    [one for one in requests if one[0].decode().lower() not in NEVER_INSIDE]
                )
            else:
                sides.check(requests)
            outcome.commands += len(requests)
            outcome.pipelines += len(requests) > 1
            if before // CONTENT_EVERY != outcome.commands // CONTENT_EVERY:
                sides.check_content()
            if before // CLEAR_EVERY != outcome.commands // CLEAR_EVERY:
                sides.clear()
        sides.check_content()
    except Difference as difference:
        raise Difference(f"seed {seed}, command {outcome.commands}: {difference}") from None
    draw = stream.draw
    outcome.hit_share = draw.hits / max(draw.hits + draw.misses, 1)
    return outcome


@contextlib.contextmanager
def both_protocols(program: str) -> Iterator[SideBySide]:
    """Run a redis-server with a connection in each protocol."""
    with running_redis(program) as first, running_connection(first) as second:
        yield SideBySide({2: first, 3: second})


@contextlib.contextmanager
def running_connection(first: RedisConnection) -> Iterator[RedisConnection]:
    """Open a second connection to the same server, in RESP3."""
    second = RedisConnection(first.path)
    try:
        second.call(b"HELLO", b"3")
        yield second
    finally:
        second.close()


def main() -> int:
    """Run by the command line, and report."""
    parser = argparse.ArgumentParser(description="Compare random requests with redis-server.")
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--redis-server", default=shutil.which("redis-server"))
    arguments = parser.parse_args()
    if arguments.redis_server is None:
        parser.error("there is no redis-server on this machine")
    started = time.monotonic()
    with both_protocols(arguments.redis_server) as sides:
        try:
            outcome = compare(sides, arguments.commands, arguments.seed)
        except Difference as difference:
            print(f"DIFFERENT: {difference}")
            return 1
    rarest = sorted(outcome.options.items(), key=lambda item: item[1])[:5]
    print(f"{outcome.commands} commands in {time.monotonic() - started:.0f} s, all alike")
    print(f"{len(outcome.calls)} names, the rarest {outcome.calls.most_common()[-1]}")
    print(f"{outcome.pipelines} pipelines, {outcome.transactions} of them inside MULTI")
    print(f"{sides.compared} replies compared")
    print(f"{outcome.hit_share:.1%} of the keys held the right type")
    print(f"{len(outcome.options)} options, the rarest {rarest}")
    print(f"{len(EXCEPTIONS)} exceptions: {', '.join(EXCEPTIONS)}")
    enough = outcome.hit_share >= HIT_SHARE_MIN and rarest[0][1] >= OPTION_COUNT_MIN
    return 0 if enough else 2


if __name__ == "__main__":
    sys.exit(main())

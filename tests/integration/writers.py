"""Clients that write while a cluster is being hurt, and know what must be left afterwards.

Every key has one writer, which numbers its writes. A writer sends pipelines of
random length to the node it takes for the leader: half of its writes go again and
again to a few hot keys, half to new ones, some count with INCR, and now and then it
reads one of its keys alone. Nothing is ever sent again.

What must hold, during the run and at the end on every node:

* a key holds its last acknowledged write, or a later one of unknown outcome;
* a write that was refused definitely (MOVED, CLUSTERDOWN, NOTAPPLIED) is nowhere;
* a counter is at least the number of acknowledged INCRs and at most that plus the
  unknown ones, and its replies only grow;
* a read that was begun after an acknowledgement sees it.

The writers never wait less for a reply than the server may take. So a write whose
connection ended can only take effect before the next one that is acknowledged.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.integration.wire import ReplyError, Wire, encode

HOT_KEYS = 12
PIPELINE_MAX = 12
DEFINITE = ("MOVED", "CLUSTERDOWN", "NOTAPPLIED")
# The first number is given to no write, so that 0 says: never written.
_NEVER = 0


class BrokenPromiseError(AssertionError):
    """A reply or a final value that no order of the writes explains."""


@dataclass(slots=True)
class KeyHistory:
    """What is known of the writes to one key, by their numbers."""

    acknowledged: int = _NEVER
    unknown: list[int] = field(default_factory=list)

    def acknowledge(self, number: int) -> None:
        self.acknowledged = number
        self.unknown = [one for one in self.unknown if one > number]

    @property
    def allowed(self) -> list[int]:
        return [self.acknowledged, *self.unknown]


@dataclass(slots=True)
class Totals:
    """What the writers of one run met."""

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    reads: int = 0
    keys: int = 0
    longest_gap_s: float = 0.0
    refusals: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.refusals.most_common())
        return (
            f"{self.acknowledged} writes acknowledged, {self.unknown} unknown, "
            f"{self.refused} refused ({kinds or 'none'}), {self.reads} reads, {self.keys} keys, "
            f"longest gap {self.longest_gap_s:.2f} s"
        )


class Writer:
    """One client; runs in a thread of its own.

    Attributes:
        histories: By key.
        in_flight: Whether requests are sent and not answered.
    """

    def __init__(
        self,
        name: str,
        addresses: list[str],
        random_source: random.Random,
        *,
        think_s: float = 0.0,
    ) -> None:
        self.name = name
        self._think_s = think_s
        self.histories: dict[str, KeyHistory] = {}
        self.counted = Totals()
        self.counter_acknowledged = 0
        self.counter_unknown = 0
        self.in_flight = False
        self.failure: BaseException | None = None
        self.last_success_s = time.monotonic()
        self._addresses = addresses
        self._random = random_source
        self._target = random_source.choice(addresses)
        self._wire: Wire | None = None
        self._number = 0
        self._counter_seen = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def counter_key(self) -> str:
        return f"{self.name}:counter"

    def start(self) -> None:
        self.last_success_s = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True

    def join(self) -> None:
        self._thread.join(60)
        if self._thread.is_alive():
            raise BrokenPromiseError(f"{self.name} waits for a reply longer than any deadline")
        if self.failure is not None:
            raise self.failure

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._stopping:
                if self._wire is None and not self._connect():
                    time.sleep(0.02)
                elif self._random.random() < 0.1:
                    self._read_one()
                else:
                    self._write_some()
                if self._think_s:
                    time.sleep(self._think_s)
        except BaseException as error:  # told by join, in the thread of the test
            self.failure = error
        finally:
            self._disconnect()

    def _connect(self) -> bool:
        try:
            self._wire = Wire(self._target, connect_timeout_s=2.0)
        except OSError:
            self._target = self._random.choice(self._addresses)
            return False
        return True

    def _disconnect(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = None

    def _write_some(self) -> None:
        commands: list[tuple[str | bytes | int, ...]] = []
        writes: list[tuple[str, int]] = []
        for _ in range(self._random.randint(1, PIPELINE_MAX)):
            self._number += 1
            key = self._choose_key()
            writes.append((key, self._number))
            if key == self.counter_key:
                commands.append(("INCR", key))
            else:
                padding = "x" * self._random.randint(0, 200)
                commands.append(("SET", key, f"{self._number}:{padding}"))
        replies = self._exchange(commands)
        for position, (key, number) in enumerate(writes):
            self._note(key, number, replies[position] if position < len(replies) else None)
        if any(isinstance(reply, ReplyError) for reply in replies) or len(replies) < len(writes):
            self._change_target(replies)

    def _choose_key(self) -> str:
        chance = self._random.random()
        if chance < 0.05:
            return self.counter_key
        if chance < 0.5:
            return f"{self.name}:hot:{self._random.randrange(HOT_KEYS)}"
        return f"{self.name}:new:{self._number}"

    def _exchange(self, commands: list[tuple[str | bytes | int, ...]]) -> list[Any]:
        """Return the replies up to the end of the connection."""
        assert self._wire is not None
        replies: list[Any] = []
        self.in_flight = True
        try:
            for reply in self._replies(commands):
                replies.append(reply)
        except TimeoutError:
            raise BrokenPromiseError(f"{self._target} left {commands[0]!r} without reply") from None
        except OSError:
            pass
        finally:
            self.in_flight = False
        return replies

    def _replies(self, commands: list[tuple[str | bytes | int, ...]]) -> Any:
        assert self._wire is not None
        self._wire.send(b"".join(encode(*command) for command in commands))
        for _ in commands:
            yield self._wire.read()

    def _note(self, key: str, number: int, reply: Any) -> None:
        """Write down the outcome of one write; None stands for no reply."""
        history = self.histories.setdefault(key, KeyHistory())
        if reply is None or (isinstance(reply, ReplyError) and str(reply).startswith("UNKNOWN")):
            self.counted.unknown += 1
            if key == self.counter_key:
                self.counter_unknown += 1
            else:
                history.unknown.append(number)
        elif isinstance(reply, ReplyError):
            word = str(reply).split(" ", 1)[0]
            if word not in DEFINITE:
                raise BrokenPromiseError(f"{self._target} answered a plain write with {reply}")
            self.counted.refused += 1
            self.counted.refusals[word] += 1
        else:
            self._note_success(key, number, reply, history)

    def _note_success(self, key: str, number: int, reply: Any, history: KeyHistory) -> None:
        self.counted.acknowledged += 1
        now_s = time.monotonic()
        self.counted.longest_gap_s = max(self.counted.longest_gap_s, now_s - self.last_success_s)
        self.last_success_s = now_s
        if key != self.counter_key:
            if reply != b"OK":
                raise BrokenPromiseError(f"SET {key} answered {reply!r}")
            history.acknowledge(number)
            return
        self.counter_acknowledged += 1
        self._check_counter(reply)
        if reply <= self._counter_seen:
            raise BrokenPromiseError(f"INCR {key} answered {reply} after {self._counter_seen}")
        self._counter_seen = reply

    def _change_target(self, replies: list[Any]) -> None:
        """Follow a redirect, else try anybody."""
        self._disconnect()
        self._target = self._random.choice(self._addresses)
        for reply in replies:
            if isinstance(reply, ReplyError) and str(reply).startswith("MOVED"):
                self._target = str(reply).split()[2]

    def _read_one(self) -> None:
        """Read one key that was written before, alone, so that nothing else is in flight."""
        hot = [key for key in self.histories if ":hot:" in key]
        if not hot:
            self._write_some()
            return
        key = self._random.choice(hot)
        replies = self._exchange([("GET", key)])
        if not replies or isinstance(replies[0], ReplyError):
            self._change_target(replies)
            return
        number = self.check_value(key, replies[0], self._target)
        if number:
            self.histories[key].acknowledge(number)
        self.counted.reads += 1

    # ---------------------------------------------------------------- judgement

    def check_value(self, key: str, value: bytes | None, where: str) -> int:
        """Return the number of the write that a value shows.

        Raises:
            BrokenPromiseError: It is not among those which the key may hold.
        """
        number = _NEVER if value is None else int(value.split(b":", 1)[0])
        allowed = self.histories[key].allowed
        if number not in allowed:
            raise BrokenPromiseError(
                f"{key} on {where} shows write {number}; allowed: {allowed} (0: none)"
            )
        return number

    def _check_counter(self, value: int) -> None:
        most = self.counter_acknowledged + self.counter_unknown
        if not self.counter_acknowledged <= value <= most:
            raise BrokenPromiseError(
                f"{self.counter_key} is {value}; allowed: {self.counter_acknowledged}..{most}"
            )

    def check_node(self, address: str) -> None:
        """Compare every key with what one node has applied."""
        keys = list(self.histories)
        with Wire(address) as wire:
            assert wire.call("RAFT", "READS", "stale") == b"OK"
            assert wire.call("READONLY") == b"OK"
            for first in range(0, len(keys), 500):
                part = keys[first : first + 500]
                for key, value in zip(part, wire.call("MGET", *part), strict=True):
                    if key == self.counter_key:
                        self._check_counter(int(value or 0))
                    else:
                        self.check_value(key, value, address)


class Load:
    """Several writers at once.

    Args:
        addresses: Client addresses of all nodes.
        writers: How many.
        random_source: Decides what is written; not when.
        prefix: Of every key, so that several loads share a cluster.
        think_s: Pause of a writer between two pipelines, in seconds.
    """

    def __init__(
        self,
        addresses: list[str],
        *,
        writers: int,
        random_source: random.Random,
        prefix: str = "w",
        think_s: float = 0.0,
    ) -> None:
        self.writers = [
            Writer(
                f"{prefix}{number}",
                addresses,
                random.Random(random_source.getrandbits(64)),
                think_s=think_s,
            )
            for number in range(writers)
        ]

    def __enter__(self) -> Load:
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(quietly=kind is not None)

    def stop(self, *, quietly: bool = False) -> None:
        """End the writing.

        Raises:
            BrokenPromiseError: A writer met what must not be, unless `quietly`.
        """
        for writer in self.writers:
            writer.stop()
        for writer in self.writers:
            try:
                writer.join()
            except BaseException:
                if not quietly:
                    raise

    def check_alive(self) -> None:
        """Raise at once what a writer met."""
        for writer in self.writers:
            if writer.failure is not None:
                raise writer.failure

    @property
    def acknowledged(self) -> int:
        return sum(writer.counted.acknowledged for writer in self.writers)

    @property
    def in_flight(self) -> int:
        """How many writers wait for replies just now."""
        return sum(writer.in_flight for writer in self.writers)

    def check(self, addresses: list[str]) -> None:
        """Compare every key of every writer on every node."""
        for writer in self.writers:
            for address in addresses:
                writer.check_node(address)

    def totals(self) -> Totals:
        total = Totals()
        for writer in self.writers:
            counted = writer.counted
            total.acknowledged += counted.acknowledged
            total.refused += counted.refused
            total.unknown += counted.unknown
            total.reads += counted.reads
            total.keys += len(writer.histories)
            total.longest_gap_s = max(total.longest_gap_s, counted.longest_gap_s)
            total.refusals += counted.refusals
        return total


def fill(address: str, *, prefix: str, count: int, value_bytes: int) -> dict[str, bytes]:
    """Write `count` keys through one node that leads, and return them."""
    written = {
        f"{prefix}:{number}": b"%d:" % number + b"v" * value_bytes for number in range(count)
    }
    items = list(written.items())
    with Wire(address) as wire:
        for first in range(0, count, 100):
            part = items[first : first + 100]
            replies = wire.pipeline([("SET", key, value) for key, value in part])
            assert replies == [b"OK"] * len(part), replies
    return written


def read_all(address: str, keys: list[str]) -> dict[str, bytes | None]:
    """Return what one node has applied, without asking another."""
    found: dict[str, bytes | None] = {}
    with Wire(address) as wire:
        assert wire.call("RAFT", "READS", "stale") == b"OK"
        for first in range(0, len(keys), 500):
            part = keys[first : first + 500]
            found.update(zip(part, wire.call("MGET", *part), strict=True))
    return found

"""What the makers of commands share: a step, its parts, and its reply as a value.

A `Step` is one command with its operation in the words of
`tests.linearizability.models`. Each family of commands has a module of its own
beside this one; `tests.sim.commands` puts them together.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from raftkv.kv.commands import Command, ErrorReply, Opcode, is_write
from raftkv.types import NoList
from tests.linearizability.history import Value

VALUE_BYTES_MAX = 512 << 20
_LETTERS = "abc"


class Step(NamedTuple):
    """One command, and the operation that it is.

    Attributes:
        convert: From the reply to the result that the model knows.
    """

    kind: str
    keys: tuple[str, ...]
    arguments: tuple[Value, ...]
    command: Command
    convert: Callable[[Any], Value]

    @property
    def is_write(self) -> bool:
        return is_write(self.command)


Maker = Callable[[str], Step]
Mix = list[tuple[Maker, int]]


class Steps(ABC):
    """Makes up commands on the families of keys that it knows."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._made = 0

    @abstractmethod
    def families(self) -> dict[str, Mix]:
        """Return by family what may be asked, and how often."""

    @abstractmethod
    def last_reads(self, family: str, key: str) -> list[Step]:
        """Return the reads that show all that a key, or a group, holds."""

    def _value(self) -> str:
        """Return a value that nobody else writes."""
        self._made += 1
        return f"{self._made}."

    def _ttl_ms(self) -> int:
        return self._dice.choice((30, 200, 800, 3000, 20_000))

    def _seed(self) -> int:
        return self._dice.getrandbits(64)

    # ---------------------------------------------------- commands on keys of any type

    def _del(self, key: str) -> Step:
        return on_key("del", key, (), (Opcode.DEL, key.encode()))

    def _expire(self, key: str) -> Step:
        ttl_ms = self._ttl_ms()
        command = (Opcode.EXPIRE, key.encode(), ttl_ms, None, 0, b"pexpire")
        return on_key("pexpire", key, (ttl_ms,), command)

    def _persist(self, key: str) -> Step:
        return on_key("persist", key, (), (Opcode.PERSIST, key.encode()))

    def _exists(self, key: str) -> Step:
        """Ask for what tells only whether there is the key."""
        name = key.encode()
        command, told_if_none = self._dice.choice(
            (
                ((Opcode.EXISTS, name), 0),
                ((Opcode.TYPE, name), "none"),
                ((Opcode.OBJECT_ENCODING, name), None),
                ((Opcode.OBJECT_FREQ, name), None),
                ((Opcode.OBJECT_IDLETIME, name), None),
                ((Opcode.OBJECT_REFCOUNT, name), None),
                ((Opcode.MEMORY_USAGE, name), None),
            )
        )
        return on_key("exists", key, (), command, lambda reply: int(reply != told_if_none))


def on_key(
    kind: str,
    key: str,
    arguments: Iterable[Value],
    command: Command,
    convert: Callable[[Any], Value] | None = None,
) -> Step:
    """Return a step on one key."""
    return Step(kind, (key,), tuple(arguments), command, convert or plain)


def across(
    kind: str,
    key: str,
    arguments: Iterable[Value],
    command: Command,
    keys: Iterable[str],
    convert: Callable[[Any], Value] | None = None,
) -> Step:
    """Return a step on several keys: a transaction of one."""
    told = convert or plain
    names = tuple(dict.fromkeys((key, *keys)))
    steps = ((kind, key, *arguments),)
    return Step("transaction", names, steps, command, lambda reply: (told(reply),))


def members_of(group: str) -> tuple[str, ...]:
    """Return the keys of a group."""
    return tuple(f"{group}:{letter}" for letter in _LETTERS)


def encoded(texts: Iterable[str]) -> list[bytes]:
    """Return texts as arguments of a command."""
    return [text.encode() for text in texts]


# --------------------------------------------------------------- replies as values


def plain(reply: Any) -> Value:
    """Return a reply as a value of a history; an error as its text."""
    if isinstance(reply, bytes):
        return reply.decode("latin-1")
    if isinstance(reply, ErrorReply):
        return reply.message
    if isinstance(reply, NoList):
        return None
    if isinstance(reply, list):
        return tuple(plain(one) for one in reply)
    if isinstance(reply, float):
        return int(reply) if reply.is_integer() else repr(reply)
    assert reply is None or isinstance(reply, int | str), reply
    return reply


def ordered(reply: Any) -> Value:
    """Return a reply whose order says nothing."""
    return tuple(sorted(map(_text, reply)))


def couples(reply: Any) -> Value:
    """Return a flat reply as pairs."""
    return tuple(
        (plain(first), plain(second)) for first, second in zip(reply[::2], reply[1::2], strict=True)
    )


def ordered_couples(reply: Any) -> Value:
    """Return pairs whose order says nothing."""
    return tuple(
        sorted((_text(one), _text(two)) for one, two in zip(reply[::2], reply[1::2], strict=True))
    )


def picked(convert: Callable[[Any], Any]) -> Callable[[Any], Value]:
    """Return how to convert a random choice: that of a single one, too, becomes a list."""

    def convert_choice(reply: Any) -> Value:
        if reply is None:
            return ()
        told: Value = convert(reply) if isinstance(reply, list) else (plain(reply),)
        return told

    return convert_choice


def page(convert: Callable[[Any], Any]) -> Callable[[Any], Value]:
    """Return how to convert a page of a scan that holds all: else it fits nothing."""

    def convert_page(reply: Any) -> Value:
        cursor, items = reply
        told: Value = convert(items)
        return told if plain(cursor) == "0" else ("cursor", plain(cursor))

    return convert_page


def _text(item: bytes) -> str:
    return item.decode("latin-1")

"""One table of all commands: what each is called, takes, touches and does.

`CommandTable` joins the facts of command_data with the parsers of the data
families and the handlers of the server's own families. The front-end looks a
command up here once a request; COMMAND, COMMAND DOCS, INFO commandstats, MOVED
and docs/reference/commands.md are made from the same rows.

Owns no state except the call counts of its rows, and does no I/O. Callers:
server.pipeline (lookup), handlers_command and handlers_info (listings).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any

from raftkv.config import Limits
from raftkv.errors import CommandError
from raftkv.server.command_collections import COLLECTION_COMMANDS
from raftkv.server.command_data import DATA_COMMANDS, OWN_COMMANDS
from raftkv.server.ports import Command

Parser = Callable[[list[bytes], Limits], Command]
# Requests, positions of the first and behind the last to look at -> the commands of as
# many as are like the first and in order; what ends them is for the `Parser`.
RunParser = Callable[[list[list[bytes]], int, int, Limits], list[Command]]
# Takes the client's connection and the words of the request.
Handler = Callable[[Any, list[bytes]], object]

_ARGUMENTS_MAX = 1 << 62
# Limit: Redis shows this much of an unknown command and of its arguments.
_SHOWN_BYTES_MAX = 128


class Kind(enum.IntEnum):
    """How the front-end carries a command out."""

    LOCAL = 0  # answered by the server itself
    READ = 1
    WRITE = 2
    SLICED = 3  # a read of the whole store, in slices
    ALONE = 4  # a read that takes milliseconds: one at a time on each connection
    WATCH = 5  # reads revisions, for the connection instead of the client
    BLOCKING = 6  # a write that is tried again and again while it finds nothing


# Reads which look at every key: they wait for what is before them and hold up
# what is behind them on their connection. Equal to kv.commands' own list.
SLICED_COMMANDS = frozenset(("keys", "kv|range"))

# Commands which look at the past when they have more words than they need, and then are
# sliced reads.
_SLICED_WHEN_LONG = frozenset(("kv|get",))

# Reads of which a run would hold up everybody. Never in the log, where a run of them
# would hold up every node.
ALONE_COMMANDS = frozenset(("scan",))

# Reads whose results the connection keeps.
WATCH_COMMANDS = frozenset(("watch",))

# The server's own commands that a transaction takes too: their replies depend on nothing.
ANSWERED_INSIDE = frozenset(("ping", "echo", "select", "unwatch"))
# Never inside a transaction: others, and what is about sessions.
_NEVER_INSIDE = frozenset(("kv|exec", "kv|txn", "kv|once", "kv|outcome", "kv|session"))

# What wraps commands grows only if one inside does, SORT only if it stores: that is
# decided when they are applied.
_GROWING_PERHAPS = _NEVER_INSIDE | {"sort"}
# Their further keys have names that come of elements, and are not among the words.
_NAMED_BY_ELEMENTS = frozenset(("sort", "sort_ro"))

# Scripts that are known, each as one command of the store; where their keys are counted.
_SCRIPTS = {"eval": 2, "evalsha": 2}

# Commands of the server's own which wait until those before them on their connection are
# answered: they say something about these, or others act on them at once.
ORDERED_COMMANDS = frozenset(
    (
        "raft|token",
        "publish",
        "spublish",
        "subscribe",
        "unsubscribe",
        "psubscribe",
        "punsubscribe",
        "ssubscribe",
        "sunsubscribe",
        "kv|watch",
        "kv|unwatch",
        "kv|progress",
    )
)

# Help texts that the store's own families answer, as reads.
_HELP_OF_DATA = ("object|help", "memory|help")


class CommandSpec:
    """One command or subcommand.

    Attributes:
        name: Lower case; a subcommand is `container|subcommand`.
        arity: As in Redis: exact, or at least when negative; includes the name.
        low: Smallest number of words.
        high: Greatest number of words; 0 in a container, so that the range
            check of the hot path fails and `CommandTable.resolve` decides.
        kind: How it is carried out; plain int for speed.
        grows: It is refused while the dataset exceeds its limit.
        ordered: A local one that waits for the answers to those before it.
        first_key: Position of the first key, 0 without keys.
        last_key: Position of the last key; -1 is the last word.
        key_step: Distance between keys.
        key_count_at: Position of the word that says how many keys follow it, or 0.
        parse: For the store's commands: words -> command.
        parse_run: For the most frequent ones, in their shortest form: the same for many
            requests in a row.
        handle: For local ones: does it and returns the reply.
        long_form: The same command with more words than it needs, where that is carried
            out in another way.
        calls, rejected: Counters for INFO commandstats: carried out, and refused
            because of their words.
    """

    __slots__ = (
        "arity",
        "calls",
        "complexity",
        "first_key",
        "flags",
        "group",
        "grows",
        "handle",
        "high",
        "key_count_at",
        "key_flags",
        "key_step",
        "kind",
        "last_key",
        "long_form",
        "low",
        "name",
        "ordered",
        "parse",
        "parse_run",
        "rejected",
        "since",
        "subcommands",
        "summary",
    )

    parse: Parser
    handle: Handler

    def __init__(self, facts: str, summary: str) -> None:
        """Read one row of command_data."""
        name, arity, flags, keys, group, since, complexity, key_flags = facts.split("|")
        self.name = name.replace("/", "|")
        self.arity = int(arity)
        self.low = abs(self.arity)
        self.high = self.low if self.arity > 0 else _ARGUMENTS_MAX
        self.flags = tuple(flags.split())
        self.first_key, self.last_key, self.key_step = map(int, keys.split())
        self.key_count_at = 0
        if self.name in _SCRIPTS:
            self.key_count_at = _SCRIPTS[self.name]
        elif "movablekeys" in self.flags and self.name not in _NAMED_BY_ELEMENTS:
            # Behind the timeout, where there is one.
            self.key_count_at = self.first_key + 1 + ("blocking" in self.flags)
        self.group = group
        self.since = since
        self.complexity = complexity
        self.key_flags = tuple(key_flags.split())
        self.summary = summary
        self.kind = int(_kind_of(self.name, self.flags))
        self.ordered = self.name in ORDERED_COMMANDS
        self.grows = "denyoom" in self.flags and self.name not in _GROWING_PERHAPS
        self.subcommands: dict[bytes, CommandSpec] = {}
        self.calls = self.rejected = 0
        self.parse_run: RunParser | None = None
        self.long_form: CommandSpec | None = None

    def keys(self, arguments: list[bytes]) -> list[bytes]:
        """Return the keys among the words of a request, in order.

        Raises:
            CommandError: The request does not say how many keys it has.
        """
        if self.key_count_at:
            return self._counted_keys(arguments)
        if not self.first_key:
            return []
        last = self.last_key if self.last_key >= 0 else len(arguments) + self.last_key
        return arguments[self.first_key : last + 1 : self.key_step]

    def _counted_keys(self, arguments: list[bytes]) -> list[bytes]:
        position = self.key_count_at + 1
        fixed = arguments[self.first_key : self.first_key + 1] if self.first_key else []
        words = arguments[position - 1 : position]
        count = int(words[0]) if words and words[0].isdigit() and len(words[0]) < 10 else 0
        if not 0 < count <= len(arguments) - position:
            raise CommandError("ERR Invalid arguments specified for command")
        return fixed + arguments[position : position + count]

    @property
    def total_calls(self) -> int:
        """How often it was carried out, in any form."""
        return self.calls + (0 if self.long_form is None else self.long_form.calls)

    def make_long_form(self) -> None:
        """Let it be a sliced read where it has more words than it needs."""
        self.long_form = copy(self)
        self.long_form.kind = int(Kind.SLICED)

    def refuse_arity(self) -> CommandError:
        """Return Redis' error for a wrong number of words."""
        text = f"wrong number of arguments for '{self.name}' command"
        if self.name == "exec":
            return CommandError(f"EXECABORT Transaction discarded because of: {text}")
        return CommandError(f"ERR {text}")


def _kind_of(name: str, flags: tuple[str, ...]) -> Kind:
    if name in SLICED_COMMANDS:
        return Kind.SLICED
    if name in ALONE_COMMANDS:
        return Kind.ALONE
    if name in WATCH_COMMANDS:
        return Kind.WATCH
    if "blocking" in flags:
        return Kind.BLOCKING
    if "write" in flags or name in _SCRIPTS:
        return Kind.WRITE
    return Kind.READ if "readonly" in flags or name in _HELP_OF_DATA else Kind.LOCAL


def check_inside(spec: CommandSpec) -> None:
    """Refuse a command that no transaction takes.

    Those of the server's own have nothing to do with the log, and those that look at
    many keys would hold up every node.

    Raises:
        CommandError: Redis' text for such a command.
    """
    if spec.kind in (Kind.READ, Kind.WRITE, Kind.BLOCKING):
        if spec.name not in _NEVER_INSIDE:
            return
    elif spec.name in ANSWERED_INSIDE:
        return
    raise CommandError("ERR Command not allowed inside a transaction")


# Stands for a request that cannot be carried out, where an error would be in the way.
WRONG = CommandSpec("wrong|-1||0 0 0||||", "Never in the table")


def _rows(text: str) -> Iterator[CommandSpec]:
    lines = text.strip().split("\n")
    for position in range(0, len(lines), 2):
        yield CommandSpec(lines[position], lines[position + 1].strip())


def _containers_first(text: str) -> list[CommandSpec]:
    return sorted(_rows(text), key=lambda spec: "|" in spec.name)


class CommandTable:
    """All commands of one server, with their parsers and handlers.

    Attributes:
        by_word: First word of a request, in upper and in lower case -> row. Other
            spellings go through `resolve`.
        top: Commands that are not subcommands, in the order of the table.
    """

    def __init__(
        self,
        parsers: Mapping[bytes, Parser],
        handlers: Mapping[str, Handler],
        run_parsers: Mapping[bytes, RunParser],
    ) -> None:
        """Join the rows with what carries them out.

        Args:
            parsers: By upper-case name; a container's parser takes all of its
                subcommands. Rows without a parser are left out.
            handlers: By row name (`client|id`).
            run_parsers: By upper-case name, for some of `parsers`.

        Raises:
            KeyError: An own command has no handler.
        """
        self.by_word: dict[bytes, CommandSpec] = {}
        self.top: list[CommandSpec] = []
        for spec in _containers_first(DATA_COMMANDS.rstrip() + COLLECTION_COMMANDS):
            parser = parsers.get(spec.name.split("|")[0].upper().encode())
            if parser is not None:
                spec.parse = parser
                if spec.name in _SLICED_WHEN_LONG:
                    spec.make_long_form()
                self._add(spec)
        for word, run_parser in run_parsers.items():
            self.by_word[word].parse_run = run_parser
        for spec in _containers_first(OWN_COMMANDS):
            if "|" in spec.name or spec.name in handlers:
                spec.handle = handlers[spec.name]
            self._add(spec)

    def _add(self, spec: CommandSpec) -> None:
        container, _, subcommand = spec.name.partition("|")
        if subcommand:
            parent = self.by_word[container.encode()]
            parent.subcommands[subcommand.encode()] = spec
            parent.high = 0
        else:
            self.top.append(spec)
            self.by_word[container.encode()] = spec
            self.by_word[container.upper().encode()] = spec

    def find(self, words: list[bytes]) -> CommandSpec | None:
        """Return the row for the first word, or first two, whatever their number."""
        spec = self.by_word.get(words[0].lower())
        if spec is not None and spec.subcommands and len(words) > 1:
            return spec.subcommands.get(words[1].lower())
        return spec

    def resolve(self, arguments: list[bytes]) -> CommandSpec:
        """Return the row of a request that the plain lookup did not settle.

        Raises:
            CommandError: Redis' text for an unknown command or subcommand, or
                for a wrong number of words.
        """
        word = arguments[0].lower()
        spec = self.by_word.get(word)
        if spec is None:
            raise CommandError(_unknown_command(arguments))
        if spec.subcommands:
            if len(arguments) == 1 and spec.arity == -1:
                return spec
            if len(arguments) == 1:
                raise spec.refuse_arity()
            subcommand = spec.subcommands.get(arguments[1].lower())
            if subcommand is None:
                shown = _shown(arguments[1], _SHOWN_BYTES_MAX)
                name = spec.name.upper()
                raise CommandError(f"ERR unknown subcommand '{shown}'. Try {name} HELP.")
            spec = subcommand
        if not spec.low <= len(arguments) <= spec.high:
            raise spec.refuse_arity()
        if spec.long_form is not None and len(arguments) > spec.low:
            return spec.long_form
        return spec

    def all(self) -> Iterator[CommandSpec]:
        """Every row: each command followed by its subcommands."""
        for spec in self.top:
            yield spec
            yield from spec.subcommands.values()

    def reset_counters(self) -> None:
        """Set all counters to zero (CONFIG RESETSTAT)."""
        for spec in self.all():
            spec.calls = spec.rejected = 0
            if spec.long_form is not None:
                spec.long_form.calls = 0


def _shown(word: bytes, size_max: int) -> str:
    """Show a word in an error as Redis does: cut, up to a NUL, on one line."""
    return word.split(b"\0", 1)[0][:size_max].decode("utf-8", "surrogateescape")


def _unknown_command(arguments: list[bytes]) -> str:
    shown = ""
    for argument in arguments[1:]:
        if len(shown) >= _SHOWN_BYTES_MAX:
            break
        shown += f"'{_shown(argument, _SHOWN_BYTES_MAX - len(shown))}' "
    name = _shown(arguments[0], _SHOWN_BYTES_MAX)
    return f"ERR unknown command '{name}', with args beginning with: {shown}"
